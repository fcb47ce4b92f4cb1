//! Starting and joining a process, by each method, against the same system calls made by hand: a bare
//! fork, an exec of this very program that leaves at once, a server that forks on request.
//!
//! Ours hand over a function, its argument and its result, and can be waited for with a deadline; the
//! processes made by hand do nothing at all. The rows of "256 MiB" are of a parent that has touched as
//! much memory: a fork copies its page tables, the other methods do not.
//!
//! What keeps a small parent's fork above its target are page faults. A bare fork, exit and wait has 10 of them,
//! ours 28 (perf stat), and makes 23 system calls instead of 3. Measured on the same machine, each alone: a page
//! that is copied 1.6 us, code that runs for the first time in a child 3.6 us (64 KiB are mapped, and unmapped at
//! the end), a system call 0.4 us, an open and close of /dev/null 3.7 us. So the 60 us above a bare fork of 100
//! are: code of the program in four to five places and of libc in three (25 us), three or four pages in the child
//! (stack, heap, static data; 6 us), eight in the parent, which frees and writes while the child still shares
//! them (14 us), and the system calls (16 us): the socket, the pidfd, /dev/null as standard input, the look for
//! other threads, the signal mask, the result and the wait. A child allocates nothing and frees nothing before its
//! function is called, and its first steps are inlined into one place; before that it had 37 faults and took 90 us
//! more than a bare fork. Mapping the program's code at once (MADV_POPULATE_READ) makes it slower by a fifth, and
//! copying stack or static data at once changes nothing.
//!
//! A burst at the forkserver waits for each child's own word before the next start returns, which the server
//! made by hand does not: a pid that is told is one of a process that begins, and who was told nothing may ask
//! again without having the work done twice. It is the first thing that the child does; its part of the 40 faults
//! of such a start comes later. The server's own work for a request does not grow with the number of its children.
//!
//! The last rows are the memory of each of eight children that wait, the pages that they share counted in part
//! (PSS). A forked child has to itself some 60 KiB, and 3 to 5 more for each sibling that is older and whose
//! handle is held: it lets go of that sibling's descriptors, where they are written down. The rest is the
//! program's code and what its parent has touched, which with a single child counts half: 345 KiB.
#![allow(unsafe_code)]

mod support;

use multiproc::StartMethod::{Fork, ForkServer, Spawn};
use multiproc::{Process, StartMethod};
use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use support::{compare, fork, per_operation, print_head, quick, repeats, wait_for};

/// What a start and join may cost, measured by the same made by hand.
const FORK: f64 = 1.3;
const EXEC: f64 = 1.2;
const FORKSERVER: f64 = 2.0;

/// How this program is called when it is to leave at once.
const EMPTY: &std::ffi::CStr = c"--leave-at-once";

fn main() {
    if std::env::args().nth(1).is_some_and(|word| word.as_bytes() == EMPTY.to_bytes()) {
        return;
    }
    multiproc::init();
    let server = ServerByHand::start();
    print_head();
    rows("", &server);
    let touched = vec![1u8; if quick() { 32 << 20 } else { 256 << 20 }];
    rows(", 256 MiB", &server);
    assert_eq!(touched.iter().step_by(4096).map(|&byte| u64::from(byte)).max(), Some(1));
    server.stop();
    drop(touched);
    for (method, target) in [(Spawn, 400), (Fork, 150), (ForkServer, 150)] {
        // Of a small parent: what a parent has touched counts in part as its forked children's.
        let parent = Process::new(idle_memory, (method.name().to_string(),)).start_method(Spawn);
        let memory = parent.start().and_then(|parent| parent.join()).expect("it returns");
        println!("idle child, {method}: {memory} KiB of memory, target {target}");
    }
}

/// How many children wait at the same time.
const IDLE: usize = 8;

/// The PSS, in KiB, of a child that has reached its function, among others.
fn idle_memory(method: String) -> u64 {
    let method: StartMethod = method.parse().expect("a method");
    let wait = |parent: multiproc::Connection| {
        parent.send(&()).expect("the parent lives");
        drop(parent.recv::<()>());
    };
    let children = [(); IDLE].map(|()| {
        let (here, there) = multiproc::pipe().expect("a pipe");
        let child = Process::new(wait, (there,)).start_method(method).start().expect("a process");
        here.recv::<()>().expect("the child lives");
        (here, child)
    });
    let all: u64 = children.iter().map(|(_, child)| memory_of(child.pid())).sum();
    for (here, child) in children {
        here.send(&()).expect("the child lives");
        child.join().expect("it returns");
    }
    all / IDLE as u64
}

fn memory_of(pid: u32) -> u64 {
    let report = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let report = report.expect("the system tells");
    let pss = report.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a number");
    pss.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn rows(of_what: &str, server: &ServerByHand) {
    compare(&format!("start+join, fork{of_what}"), FORK, || one(Fork), fork_by_hand, repeats());
    compare(&format!("start+join, spawn{of_what}"), EXEC, || one(Spawn), exec_by_hand, repeats());
    let name = format!("start+join, forkserver{of_what}");
    compare(&name, FORKSERVER, || one(ForkServer), || server.one(), repeats());
    let name = format!("burst of 100, spawn{of_what}");
    compare(&name, EXEC, || burst(Spawn), exec_burst_by_hand, repeats() / 2);
    let name = format!("burst of 100, forkserver{of_what}");
    compare(&name, FORKSERVER, || burst(ForkServer), || server.burst(), repeats() / 2);
}

/// How many starts make one measurement.
fn rounds() -> usize {
    if quick() { 3 } else { 20 }
}

const BURST: usize = 100;

fn start(method: StartMethod, n: u32) -> multiproc::Child<u32> {
    Process::new(|n: u32| n + 1, (n,)).start_method(method).start().expect("a process can be made")
}

fn one(method: StartMethod) -> Duration {
    per_operation(rounds(), || {
        for n in 0..rounds() as u32 {
            assert_eq!(start(method, n).join().expect("it returns"), n + 1);
        }
    })
}

fn burst(method: StartMethod) -> Duration {
    per_operation(BURST, || {
        let children: Vec<_> = (0..BURST as u32).map(|n| start(method, n)).collect();
        for (n, child) in (1..).zip(children) {
            assert_eq!(child.join().expect("it returns"), n);
        }
    })
}

fn fork_by_hand() -> Duration {
    per_operation(rounds(), || (0..rounds()).for_each(|_| wait_for(fork(|| ()))))
}

fn exec_by_hand() -> Duration {
    per_operation(rounds(), || (0..rounds()).for_each(|_| wait_for(exec())))
}

fn exec_burst_by_hand() -> Duration {
    per_operation(BURST, || {
        let pids: Vec<_> = (0..BURST).map(|_| exec()).collect();
        pids.into_iter().for_each(wait_for);
    })
}

/// Starts this program, which leaves at once: libc's way, without page tables too.
fn exec() -> libc::pid_t {
    let path = c"/proc/self/exe".as_ptr();
    let argv = [path.cast_mut(), EMPTY.as_ptr().cast_mut(), std::ptr::null_mut()];
    let mut pid = 0;
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    // SAFETY: strings and arrays end as they must and outlive the call; nobody changes the environment.
    let code = unsafe {
        libc::posix_spawn(
            &mut pid,
            path,
            std::ptr::null(),
            std::ptr::null(),
            argv.as_ptr(),
            environ,
        )
    };
    assert_eq!(code, 0);
    pid
}

/// A process that forks for who sends it a socket; the child writes a byte to that.
struct ServerByHand {
    pid: libc::pid_t,
    requests: UnixStream,
}

impl ServerByHand {
    fn start() -> ServerByHand {
        let (requests, theirs) = UnixStream::pair().expect("a socket");
        let ours = requests.as_raw_fd();
        let pid = fork(|| {
            // SAFETY: the parent's end, which would keep this process from seeing the parent leave.
            unsafe { libc::close(ours) };
            while let Some(socket) = receive(theirs.as_raw_fd()) {
                fork(|| {
                    // SAFETY: one byte of a constant.
                    unsafe { libc::write(socket.as_raw_fd(), b"x".as_ptr().cast(), 1) };
                });
                // SAFETY: no status is asked for.
                while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
            }
            // SAFETY: as above.
            while unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0 {}
        });
        ServerByHand { pid, requests }
    }

    fn request(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        send(self.requests.as_raw_fd(), theirs.as_raw_fd());
        ours
    }

    fn one(&self) -> Duration {
        per_operation(rounds(), || (0..rounds()).for_each(|_| join(self.request())))
    }

    fn burst(&self) -> Duration {
        per_operation(BURST, || {
            let sockets: Vec<_> = (0..BURST).map(|_| self.request()).collect();
            sockets.into_iter().for_each(join);
        })
    }

    fn stop(self) {
        drop(self.requests);
        wait_for(self.pid);
    }
}

/// Reads the child's byte, and the end that comes when it has left.
fn join(mut socket: UnixStream) {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("the server lives");
    assert_eq!(bytes, b"x");
}

#[repr(C, align(8))]
struct Control([u8; 24]);

fn message(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: every bit pattern of the record is valid, zeros meaning none.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    message
}

/// Where the descriptor of a control message lies, behind its header.
fn place(message: &libc::msghdr) -> *mut RawFd {
    // SAFETY: the message names a control buffer with room for one header and one descriptor.
    let record = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: as above.
    unsafe { libc::CMSG_DATA(record) }.cast()
}

fn send(socket: RawFd, fd: RawFd) {
    let byte = IoSlice::new(b"f");
    let mut part = libc::iovec { iov_base: byte.as_ptr().cast_mut().cast(), iov_len: 1 };
    let mut control = Control([0; 24]);
    let message = message(&mut part, &mut control);
    // SAFETY: arithmetic.
    let len = unsafe { libc::CMSG_LEN(4) } as _;
    let header =
        libc::cmsghdr { cmsg_len: len, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
    // SAFETY: the control buffer is aligned for a header and has room for it.
    unsafe { message.msg_control.cast::<libc::cmsghdr>().write(header) };
    // SAFETY: there is room for a descriptor.
    unsafe { place(&message).write_unaligned(fd) };
    // SAFETY: `message` names a byte and a control buffer that outlive the call.
    assert_eq!(unsafe { libc::sendmsg(socket, &message, 0) }, 1);
}

fn receive(socket: RawFd) -> Option<OwnedFd> {
    let mut byte = 0u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = Control([0; 24]);
    let mut message = message(&mut part, &mut control);
    // SAFETY: `message` names a byte and a control buffer that are writable.
    if unsafe { libc::recvmsg(socket, &mut message, 0) } != 1 {
        return None;
    }
    // SAFETY: the kernel has stored one header and one descriptor.
    let fd = unsafe { place(&message).read_unaligned() };
    // SAFETY: the descriptor is new here, and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
