//! Descriptors from one process to the other and back, beside `sendmsg` and `recvmsg` by hand; and clients
//! accepted each second: without a key beside std's sockets, and with the whole handshake.
//!
//! The handshake is eight messages, four times HMAC-SHA256 on either side and two of the kernel's random
//! numbers; there is nothing by hand to hold it against, so its column is the bare connection.
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "the by-hand side is what C would write")]

mod support;

use multiproc::{Client, Connection, Listener, pipe};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;
use support::{compare, fork, per_operation, print_head, repeats, scaled, wait_for};

/// What a descriptor may cost, measured by the hand-made messages.
const TARGET: f64 = 1.15;
/// What accepting may cost: a few more system calls to find out who it is.
const ACCEPT_TARGET: f64 = 1.5;
/// What a handshake may cost, measured by a connection without one.
const HANDSHAKE_TARGET: f64 = 10.0;

/// An end that carries descriptors.
trait Carrier: Sized {
    fn both() -> (Self, Self);
    fn give(&self, fd: &OwnedFd);
    fn take(&self) -> Option<OwnedFd>;
}

impl Carrier for Connection {
    fn both() -> (Connection, Connection) {
        pipe().expect("a pair of connections")
    }

    fn give(&self, fd: &OwnedFd) {
        self.send_fd(fd.as_fd()).expect("the peer is there");
    }

    fn take(&self) -> Option<OwnedFd> {
        self.recv_fd().ok()
    }
}

/// One byte and one descriptor, by the bare calls.
struct ByHand(UnixStream);

/// Room for the control message of one descriptor.
#[repr(C, align(8))]
struct Control([u8; 24]);

#[allow(unsafe_code)]
impl ByHand {
    fn message(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
        // SAFETY: every bit pattern of this record is valid.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (part, 1);
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: arithmetic on a number.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
        message
    }
}

#[allow(unsafe_code)]
impl Carrier for ByHand {
    fn both() -> (ByHand, ByHand) {
        let (a, b) = UnixStream::pair().expect("a pair of sockets");
        (ByHand(a), ByHand(b))
    }

    fn give(&self, fd: &OwnedFd) {
        let (mut byte, mut control) = (1u8, Control([0; 24]));
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let message = ByHand::message(&mut part, &mut control);
        // SAFETY: the control buffer has room for one header and one number, and is aligned.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd.as_raw_fd());
        }
        // SAFETY: `message` names buffers that outlive the call.
        let sent = unsafe { libc::sendmsg(self.0.as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
        assert_eq!(sent, 1);
    }

    fn take(&self) -> Option<OwnedFd> {
        let (mut byte, mut control) = (0u8, Control([0; 24]));
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut message = ByHand::message(&mut part, &mut control);
        let flags = libc::MSG_CMSG_CLOEXEC;
        // SAFETY: `message` names buffers that outlive the call.
        if unsafe { libc::recvmsg(self.0.as_raw_fd(), &mut message, flags) } != 1 {
            return None;
        }
        // SAFETY: the kernel has stored one header and one number.
        let number = unsafe { libc::CMSG_DATA(libc::CMSG_FIRSTHDR(&message)).cast::<i32>() };
        // SAFETY: as above; the descriptor is new in this process.
        Some(unsafe { OwnedFd::from_raw_fd(number.read_unaligned()) })
    }
}

/// A child that gives back every descriptor it takes.
struct Mirror<C> {
    end: C,
    child: libc::pid_t,
}

impl<C: Carrier> Mirror<C> {
    fn new() -> Mirror<C> {
        let (end, theirs) = C::both();
        let mut end = Some(end);
        let child = fork(|| {
            drop(end.take());
            while let Some(fd) = theirs.take() {
                theirs.give(&fd);
            }
        });
        drop(theirs);
        Mirror { end: end.expect("only the child takes it"), child }
    }

    fn rounds(&self, fd: &OwnedFd, count: usize) -> Duration {
        per_operation(count, || {
            (0..count).for_each(|_| {
                self.end.give(fd);
                drop(self.end.take().expect("it comes back"));
            });
        })
    }

    fn finish(self) {
        drop(self.end);
        wait_for(self.child);
    }
}

/// A child that connects `count` times, each time after a byte from the parent came back on the last.
fn connects(name: &[u8], count: usize, key: Option<&[u8]>) -> libc::pid_t {
    fork(|| {
        let address = multiproc::Address::Abstract(name.to_vec());
        let client = match key {
            Some(key) => Client::builder().authkey(key),
            None => Client::builder(),
        };
        for _ in 0..count {
            let connection = client.connect(&address).expect("somebody listens");
            assert_eq!(connection.recv_bytes().expect("a word"), b"x");
        }
    })
}

fn ours(count: usize, key: Option<&[u8]>) -> Duration {
    let builder = Listener::builder();
    let builder = if let Some(key) = key { builder.authkey(key) } else { builder };
    let listener = builder.bind("abstract:").expect("a listener");
    let multiproc::Address::Abstract(name) = listener.address() else { unreachable!() };
    let child = connects(name, count, key);
    let time = per_operation(count, || {
        for connection in listener.incoming().take(count) {
            connection.expect("a client").send_bytes(b"x").expect("the peer is there");
        }
    });
    wait_for(child);
    time
}

fn by_hand(count: usize) -> Duration {
    let name = format!("multiproc-bench-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("a listener");
    let child = fork(|| {
        for _ in 0..count {
            let mut socket = UnixStream::connect_addr(&address).expect("somebody listens");
            let mut frame = [0; 5];
            socket.read_exact(&mut frame).expect("a word");
            assert_eq!(&frame, b"\0\0\0\x01x");
        }
    });
    let time = per_operation(count, || {
        for _ in 0..count {
            let (mut socket, _) = listener.accept().expect("a client");
            socket.write_all(b"\0\0\0\x01x").expect("the peer is there");
        }
    });
    wait_for(child);
    time
}

fn main() {
    print_head();
    let fd = OwnedFd::from(std::fs::File::open("/dev/null").expect("/dev/null"));
    let (our_mirror, hand_mirror) = (Mirror::<Connection>::new(), Mirror::<ByHand>::new());
    let count = scaled(5_000).max(1_000);
    compare(
        "a descriptor there and back",
        TARGET,
        || our_mirror.rounds(&fd, count),
        || hand_mirror.rounds(&fd, count),
        repeats(),
    );
    // The second child holds a copy of the first one's end.
    hand_mirror.finish();
    our_mirror.finish();
    let count = scaled(1_000);
    compare("accept", ACCEPT_TARGET, || ours(count, None), || by_hand(count), repeats());
    let key = Some(&b"a key"[..]);
    let row = compare(
        "accept and handshake",
        HANDSHAKE_TARGET,
        || ours(count, key),
        || by_hand(count),
        repeats(),
    );
    println!("{:.0} handshakes a second", 1.0 / row.ours.median.as_secs_f64());
}
