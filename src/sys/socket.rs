//! Unix sockets and the descriptors that ride on their messages.

use super::{errno_result, retry};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// The most descriptors the kernel takes in one message (`SCM_MAX_FD`).
pub(crate) const MAX_FDS: usize = 253;

/// What keeps a message's boundaries and what does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A stream of bytes.
    Stream = libc::SOCK_STREAM as isize,
    /// Messages, in order, with an end of file.
    SeqPacket = libc::SOCK_SEQPACKET as isize,
}

/// `socketpair(AF_UNIX, kind | SOCK_CLOEXEC)`.
pub(crate) fn pair(kind: Kind) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is writable for the two `c_int`s the call fills in.
    errno_result(unsafe {
        libc::socketpair(libc::AF_UNIX, kind as i32 | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr())
    })?;
    // SAFETY: the call succeeded, so both are open, and nothing else has seen their numbers.
    let first = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: as above.
    let second = unsafe { OwnedFd::from_raw_fd(fds[1]) };
    Ok((first, second))
}

/// A datagram socket connected to itself: what is sent on it is received from it, by whoever holds a
/// copy, in order and with its boundaries; nobody else can send to it.
pub(crate) fn loopback() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes numbers alone.
    let raw = errno_result(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: the call succeeded, so `raw` is open, and nothing else has seen its number.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut name = MaybeUninit::<libc::sockaddr_un>::zeroed();
    let family = std::mem::size_of::<libc::sa_family_t>() as libc::socklen_t;
    // SAFETY: every bit pattern of the record is valid; this sets its first field.
    unsafe { (*name.as_mut_ptr()).sun_family = libc::AF_UNIX as libc::sa_family_t };
    // An address of the family alone asks the kernel for a free abstract name.
    // SAFETY: `name` is readable for `family` bytes.
    errno_result(unsafe { libc::bind(raw, name.as_ptr().cast(), family) })?;
    let mut len = std::mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: `name` is writable for `len` bytes, and `len` for one number.
    errno_result(unsafe { libc::getsockname(raw, name.as_mut_ptr().cast(), &mut len) })?;
    // SAFETY: `name` holds the `len` bytes that the call above filled in.
    errno_result(unsafe { libc::connect(raw, name.as_ptr().cast(), len) })?;
    Ok(socket)
}

/// Room for the control message of [`MAX_FDS`] descriptors, aligned for its header.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; Control::LEN]);

impl Control {
    const PAYLOAD: usize = MAX_FDS * std::mem::size_of::<RawFd>();
    /// `CMSG_SPACE(PAYLOAD)`.
    const LEN: usize = {
        // SAFETY: arithmetic on a number; the macro is only marked unsafe.
        unsafe { libc::CMSG_SPACE(Self::PAYLOAD as u32) as usize }
    };

    fn new() -> Control {
        Control([MaybeUninit::uninit(); Control::LEN])
    }
}

fn header(parts: *mut libc::iovec, count: usize) -> libc::msghdr {
    // SAFETY: every bit pattern of this record of numbers and pointers is valid, zeros meaning none.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = parts;
    header.msg_iovlen = count as _;
    header
}

/// `sendmsg`, once, with up to [`MAX_FDS`] descriptors; says how many bytes went.
///
/// A peer that is gone is EPIPE, without a signal. `wait` false never waits (EAGAIN).
#[inline]
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    parts: &[io::IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    wait: bool,
) -> io::Result<usize> {
    let message = header(parts.as_ptr().cast_mut().cast(), parts.len());
    let flags = libc::MSG_NOSIGNAL | if wait { 0 } else { libc::MSG_DONTWAIT };
    if !fds.is_empty() {
        // SAFETY: `message` names `parts`, which outlive the call, and nothing else.
        return unsafe { send_message(socket, message, fds, flags) };
    }
    retry(|| {
        // SAFETY: `message` names `parts`, which outlive the call and are only read.
        errno_result(unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) })
    })
    .map(|n| n as usize)
}

/// `sendmsg`, once, with descriptors. A function of its own for the room they need on the stack, which is
/// a page more for a new process to touch.
///
/// # Safety
/// * What `message` names is readable until this returns, and it names no control buffer.
#[inline(never)]
unsafe fn send_message(
    socket: BorrowedFd<'_>,
    mut message: libc::msghdr,
    fds: &[BorrowedFd<'_>],
    flags: libc::c_int,
) -> io::Result<usize> {
    assert!(fds.len() <= MAX_FDS, "more descriptors than one message can carry");
    let mut control = Control::new();
    let payload = std::mem::size_of_val(fds) as u32;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: arithmetic on a number.
    let room = unsafe { libc::CMSG_SPACE(payload) };
    message.msg_controllen = room as _;
    // The kernel is given what lies between and behind the numbers too.
    control.0[..room as usize].fill(MaybeUninit::zeroed());
    // SAFETY: `message` names a control buffer with room for one header, so this points at its
    // start, aligned for it.
    let first = unsafe { libc::CMSG_FIRSTHDR(&message) };
    // SAFETY: arithmetic on a number.
    let len = unsafe { libc::CMSG_LEN(payload) };
    // SAFETY: every bit pattern of this record of numbers is valid.
    let mut record: libc::cmsghdr = unsafe { std::mem::zeroed() };
    record.cmsg_level = libc::SOL_SOCKET;
    record.cmsg_type = libc::SCM_RIGHTS;
    record.cmsg_len = len as _;
    // SAFETY: `first` points at `CMSG_SPACE(payload)` writable bytes of `control`.
    unsafe { first.write(record) };
    // SAFETY: as above; the data begins behind the header.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: `BorrowedFd` is a transparent `RawFd`, so `fds` is `payload` bytes of numbers; there
    // is room for as many behind the header, and the two do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(fds.as_ptr().cast(), data, payload as usize) };
    retry(|| {
        // SAFETY: `message` names what the caller answers for, which is only read, and `control`.
        errno_result(unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) })
    })
    .map(|n| n as usize)
}

/// `send`, once: what [`send`] does with bytes alone, a little quicker.
pub(crate) fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8], wait: bool) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | if wait { 0 } else { libc::MSG_DONTWAIT };
    retry(|| {
        // SAFETY: `bytes` is readable for its length.
        errno_result(unsafe {
            libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags)
        })
    })
    .map(|n| n as usize)
}

/// What a receive brought.
#[derive(Debug)]
pub(crate) struct Received {
    /// Bytes stored in the buffers; zero is the end of a stream.
    pub(crate) len: usize,
    /// Whether the message had more bytes than the buffers (message sockets only).
    pub(crate) truncated: bool,
    /// Whether descriptors were lost on the way in: this process has no free number for them.
    pub(crate) fds_lost: bool,
}

/// How to receive.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Receive {
    /// Never wait: EAGAIN if there is nothing.
    pub(crate) dont_wait: bool,
    /// Leave the message where it is; its descriptors come as copies.
    pub(crate) peek: bool,
    /// Take no descriptors: those of the message are closed by the kernel.
    pub(crate) without_fds: bool,
}

/// `recvmsg`, once: bytes into `parts`, descriptors, close-on-exec, onto the end of `fds`.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    parts: &mut [io::IoSliceMut<'_>],
    fds: &mut Vec<OwnedFd>,
    how: Receive,
) -> io::Result<Received> {
    let message = header(parts.as_mut_ptr().cast(), parts.len());
    // SAFETY: `message` names `parts`, which outlive the call and are writable.
    unsafe { receive_message(socket, message, fds, how) }
}

/// `recvmsg`, once: up to `most` bytes onto the end of `bytes`, within its capacity, and descriptors
/// as in [`receive`].
pub(crate) fn receive_onto(
    socket: BorrowedFd<'_>,
    bytes: &mut Vec<u8>,
    most: usize,
    fds: &mut Vec<OwnedFd>,
    how: Receive,
) -> io::Result<Received> {
    let spare = bytes.spare_capacity_mut();
    let mut part =
        libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: spare.len().min(most) };
    let message = header(&mut part, 1);
    // SAFETY: `message` names `part`, which names spare capacity of `bytes`; both outlive the call.
    let received = unsafe { receive_message(socket, message, fds, how) }?;
    let filled = bytes.len() + received.len;
    // SAFETY: the kernel has stored `received.len` bytes at the start of the spare capacity.
    unsafe { bytes.set_len(filled) };
    Ok(received)
}

/// # Safety
/// * `message` names buffers that are writable, and no control buffer.
unsafe fn receive_message(
    socket: BorrowedFd<'_>,
    mut message: libc::msghdr,
    fds: &mut Vec<OwnedFd>,
    how: Receive,
) -> io::Result<Received> {
    let mut control = Control::new();
    if !how.without_fds {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = Control::LEN as _;
    }
    let flags = libc::MSG_CMSG_CLOEXEC
        | if how.dont_wait { libc::MSG_DONTWAIT } else { 0 }
        | if how.peek { libc::MSG_PEEK } else { 0 };
    let len = retry(|| {
        // SAFETY: `message` names writable buffers by this function's contract, and `control`.
        errno_result(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags) })
    })? as usize;
    take_fds(&message, fds);
    Ok(Received {
        len,
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        fds_lost: message.msg_flags & libc::MSG_CTRUNC != 0 && !how.without_fds,
    })
}

/// Takes ownership of every descriptor in a message the kernel has filled in.
fn take_fds(message: &libc::msghdr, fds: &mut Vec<OwnedFd>) {
    // SAFETY: `message` names a control buffer that lives in the caller, of the length that the
    // kernel has set to what it stored.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: the walk's pointers are null or point at a whole header inside the control buffer.
    while let Some(record) = unsafe { next.as_ref() } {
        if record.cmsg_level == libc::SOL_SOCKET && record.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: arithmetic on a number.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            // The length has another type with musl.
            #[allow(clippy::unnecessary_cast)]
            let count = (record.cmsg_len as usize - empty) / std::mem::size_of::<RawFd>();
            // SAFETY: the data begins behind the header, which the walk has checked to be inside.
            let data = unsafe { libc::CMSG_DATA(record) }.cast::<RawFd>();
            for i in 0..count {
                let number = data.wrapping_add(i);
                // SAFETY: the kernel stored `count` numbers here; they need not be aligned.
                let raw = unsafe { number.read_unaligned() };
                // SAFETY: the kernel has just made this descriptor for us.
                fds.push(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
        // SAFETY: `message` and `record` are of the same buffer.
        next = unsafe { libc::CMSG_NXTHDR(message, record) };
    }
}

/// Whether an error of a stream socket means that the other side is gone, or its network: of a silent peer
/// the kernel tells ETIMEDOUT, or what the network has answered meanwhile.
pub(crate) fn is_lost(number: i32) -> bool {
    use super::{ECONNRESET, EHOSTUNREACH, ENETDOWN, ENETUNREACH, EPIPE, ETIMEDOUT};
    [EPIPE, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ENETDOWN].contains(&number)
}

/// `shutdown(SHUT_WR)`: the peer reads the end of the stream after what was sent.
pub(crate) fn shutdown_write(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `socket` is open for the borrow's life; the call takes a number.
    errno_result(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) }).map(drop)
}

/// `shutdown(SHUT_RD)`: a Unix peer that sends from now on is refused with EPIPE.
pub(crate) fn shutdown_read(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `socket` is open for the borrow's life; the call takes a number.
    errno_result(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RD) }).map(drop)
}

/// `getsockopt(SOL_SOCKET, SO_TYPE)`; ENOTSOCK for what is no socket.
pub(crate) fn kind(socket: BorrowedFd<'_>) -> io::Result<i32> {
    number(socket, libc::SO_TYPE)
}

/// Whether the family of the socket is `AF_UNIX`, so that it can carry descriptors; ENOTSOCK for what
/// is no socket.
pub(crate) fn is_unix(socket: BorrowedFd<'_>) -> io::Result<bool> {
    number(socket, libc::SO_DOMAIN).map(|domain| domain == libc::AF_UNIX)
}

/// What of the socket's buffer for sending is free: its size without what is on the way, both of which
/// the kernel counts with its own records included.
pub(crate) fn send_room(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let size = number(socket, libc::SO_SNDBUF)?;
    Ok(usize::try_from(size.saturating_sub(on_the_way(socket)?)).unwrap_or(0))
}

/// Whether the peer, whose stream is at its end, has taken all that was sent to it. A Unix socket that is
/// closed with something unread is ECONNRESET for its peer, as is a TCP socket; what arrives after the
/// close is never taken.
pub(crate) fn was_all_taken(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(number(socket, libc::SO_ERROR)? == 0 && on_the_way(socket)? == 0)
}

/// What was sent and is not in the peer's hands, with the kernel's own records.
fn on_the_way(socket: BorrowedFd<'_>) -> io::Result<i32> {
    let mut on_the_way = 0i32;
    // SAFETY: the request stores one number, for which `on_the_way` is writable.
    errno_result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut on_the_way) })?;
    Ok(on_the_way)
}

/// `getsockopt(SOL_SOCKET, option)` for an option that is one number.
pub(crate) fn number(socket: BorrowedFd<'_>, option: i32) -> io::Result<i32> {
    get(socket, libc::SOL_SOCKET, option)
}

fn get(socket: BorrowedFd<'_>, level: i32, option: i32) -> io::Result<i32> {
    let mut number = 0i32;
    let mut len = std::mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: `number` is writable for `len` bytes.
    errno_result(unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut number).cast(), &mut len)
    })?;
    Ok(number)
}

/// `setsockopt`: has the kernel ask a TCP peer that is silent for half of `patience`, and then three times in
/// the other half, whether it is still there; if not, the socket is at its end (ETIMEDOUT). The same if
/// what was sent is not acknowledged for so long. Counted in seconds, two at least.
pub(crate) fn keep_alive(socket: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    const MOST: u64 = 1 << 15; // of seconds that the kernel takes
    let seconds = patience.as_secs().clamp(2, MOST) as i32;
    let options = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds / 2),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, (seconds / 6).max(1)),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, seconds * 1000),
    ];
    options.iter().try_for_each(|&(level, option, value)| set(socket, level, option, value))
}

/// What [`keep_alive`] has set: whether it has, the silence, the pauses, how many of them, and the time for
/// what was sent.
#[cfg(test)]
pub(crate) fn kept_alive(socket: BorrowedFd<'_>) -> io::Result<[i32; 5]> {
    use libc::{IPPROTO_TCP, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_USER_TIMEOUT};
    let tcp = |option| get(socket, IPPROTO_TCP, option);
    Ok([
        number(socket, libc::SO_KEEPALIVE)?,
        tcp(TCP_KEEPIDLE)?,
        tcp(TCP_KEEPINTVL)?,
        tcp(TCP_KEEPCNT)?,
        tcp(TCP_USER_TIMEOUT)?,
    ])
}

/// `setsockopt(TCP_QUICKACK)`: what has arrived is acknowledged at once, not with the next answer.
pub(crate) fn acknowledge_now(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 1)
}

fn set(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: `value` is readable for its length, which is passed.
    errno_result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            std::mem::size_of::<i32>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// `setsockopt(SO_PEEK_OFF)`: where the next peek looks, in bytes of the messages that wait.
pub(crate) fn set_peek_offset(socket: BorrowedFd<'_>, offset: i32) -> io::Result<()> {
    // SAFETY: `offset` is readable for its length, which is passed.
    errno_result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const offset).cast(),
            std::mem::size_of::<i32>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Takes ownership of descriptor `number`, which this process was given by its parent, if it is a
/// socket that keeps message boundaries (`SO_TYPE`).
pub(crate) fn inherited_seqpacket(number: RawFd) -> Option<OwnedFd> {
    let mut kind = 0i32;
    let mut len = std::mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: `kind` is writable for `len` bytes; a number that is no open socket is an error.
    errno_result(unsafe {
        libc::getsockopt(number, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &mut len)
    })
    .ok()?;
    if kind != libc::SOCK_SEQPACKET {
        return None;
    }
    // SAFETY: `F_SETFD` changes a flag of a descriptor that was just seen to be open.
    errno_result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
    // SAFETY: it is open, and asked for by `init` alone, once, in a process whose parent has put it
    // there and which has opened nothing by itself yet.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::super::fd;
    use super::*;
    use std::os::fd::AsFd;

    fn errno<T>(answer: io::Result<T>) -> Option<i32> {
        answer.err().and_then(|error| error.raw_os_error())
    }

    fn take(socket: &OwnedFd, fds: &mut Vec<OwnedFd>, how: Receive) -> io::Result<(Received, u8)> {
        let mut byte = [0; 1];
        let received = receive(socket.as_fd(), &mut [io::IoSliceMut::new(&mut byte)], fds, how)?;
        Ok((received, byte[0]))
    }

    #[test]
    fn descriptors_arrive_in_order_with_their_message() {
        let (a, b) = pair(Kind::SeqPacket).unwrap();
        let (read, write) = fd::pipe().unwrap();
        let many = vec![write.as_fd(); MAX_FDS];
        send(a.as_fd(), &[io::IoSlice::new(b"x")], &many, true).unwrap();
        let mut fds = Vec::new();
        let (received, byte) = take(&b, &mut fds, Receive::default()).unwrap();
        assert_eq!((received.len, byte, received.fds_lost), (1, b'x', false));
        assert_eq!(fds.len(), MAX_FDS);
        fd::write(fds[MAX_FDS - 1].as_fd(), b"through").unwrap();
        let mut text = [0; 7];
        fd::read(read.as_fd(), &mut text).unwrap();
        assert_eq!(&text, b"through");
    }

    #[test]
    fn a_peeked_message_keeps_its_descriptors_and_a_discarded_one_loses_them() {
        let socket = loopback().unwrap();
        let (read, write) = fd::pipe().unwrap();
        send(socket.as_fd(), &[io::IoSlice::new(b"m")], &[write.as_fd()], false).unwrap();
        drop(write);
        let mut fds = Vec::new();
        take(&socket, &mut fds, Receive { peek: true, ..Receive::default() }).unwrap();
        take(&socket, &mut fds, Receive { peek: true, ..Receive::default() }).unwrap();
        assert_eq!(fds.len(), 2);
        let discard = Receive { without_fds: true, ..Receive::default() };
        let (received, byte) = take(&socket, &mut fds, discard).unwrap();
        assert_eq!((byte, received.fds_lost, fds.len()), (b'm', false, 2));
        fds.clear();
        assert_eq!(fd::read(read.as_fd(), &mut [0]).unwrap(), 0, "a write end is still open");
        let dont_wait = Receive { dont_wait: true, ..Receive::default() };
        assert_eq!(errno(take(&socket, &mut fds, dont_wait)), Some(libc::EAGAIN));
    }

    #[test]
    fn a_peek_looks_at_the_message_at_its_offset() {
        let socket = loopback().unwrap();
        for text in [b"a", b"b", b"c"] {
            send(socket.as_fd(), &[io::IoSlice::new(text)], &[], false).unwrap();
        }
        let peek = Receive { peek: true, dont_wait: true, ..Receive::default() };
        for (offset, wanted) in [(2, b'c'), (0, b'a'), (1, b'b'), (0, b'a')] {
            set_peek_offset(socket.as_fd(), offset).unwrap();
            assert_eq!(take(&socket, &mut Vec::new(), peek).unwrap().1, wanted);
        }
        set_peek_offset(socket.as_fd(), 3).unwrap();
        assert_eq!(errno(take(&socket, &mut Vec::new(), peek)), Some(libc::EAGAIN));
        let (pipe, _write) = fd::pipe().unwrap();
        assert_eq!(errno(set_peek_offset(pipe.as_fd(), 0)), Some(libc::ENOTSOCK));
    }

    #[test]
    fn a_peer_that_is_gone_is_epipe_or_the_end_of_the_stream() {
        let (a, b) = pair(Kind::Stream).unwrap();
        shutdown_write(b.as_fd()).unwrap();
        assert_eq!(take(&a, &mut Vec::new(), Receive::default()).unwrap().0.len, 0);
        drop(b);
        let sent = send(a.as_fd(), &[io::IoSlice::new(b"x")], &[], true);
        assert_eq!(errno(sent), Some(libc::EPIPE));
    }

    #[test]
    fn what_a_peer_has_left_unread_when_it_closed_is_told() {
        for read in [true, false] {
            let (a, b) = pair(Kind::Stream).unwrap();
            send_bytes(a.as_fd(), b"x", true).unwrap();
            if read {
                take(&b, &mut Vec::new(), Receive::default()).unwrap();
            }
            drop(b);
            assert_eq!(was_all_taken(a.as_fd()).unwrap(), read);
        }
    }

    #[test]
    fn a_pipe_is_no_socket() {
        let (read, _write) = fd::pipe().unwrap();
        assert_eq!(errno(shutdown_write(read.as_fd())), Some(libc::ENOTSOCK));
        assert_eq!(errno(shutdown_read(read.as_fd())), Some(libc::ENOTSOCK));
        assert_eq!(errno(is_unix(read.as_fd())), Some(libc::ENOTSOCK));
        assert_eq!(errno(send_room(read.as_fd())), Some(libc::ENOTSOCK));
        assert_eq!(errno(was_all_taken(read.as_fd())), Some(libc::ENOTSOCK));
        assert_eq!(errno(keep_alive(read.as_fd(), Duration::ZERO)), Some(libc::ENOTSOCK));
        assert_eq!(errno(acknowledge_now(read.as_fd())), Some(libc::ENOTSOCK));
        assert_eq!(errno(send_bytes(read.as_fd(), b"x", true)), Some(libc::ENOTSOCK));
        let onto =
            receive_onto(read.as_fd(), &mut Vec::new(), 0, &mut Vec::new(), Receive::default());
        assert_eq!(errno(onto), Some(libc::ENOTSOCK));
        let (a, _b) = pair(Kind::SeqPacket).unwrap();
        assert_eq!(kind(a.as_fd()).unwrap(), libc::SOCK_SEQPACKET);
        assert!(inherited_seqpacket(read.as_raw_fd()).is_none());
        assert!(inherited_seqpacket(-1).is_none());
    }

    #[test]
    fn bytes_received_onto_a_vector_stay_within_its_capacity_and_the_limit() {
        let (a, b) = pair(Kind::Stream).unwrap();
        assert!(is_unix(a.as_fd()).unwrap());
        send(a.as_fd(), &[io::IoSlice::new(b"abcdef")], &[], true).unwrap();
        let mut bytes = Vec::with_capacity(8);
        bytes.push(b'>');
        let how = Receive::default();
        receive_onto(b.as_fd(), &mut bytes, 2, &mut Vec::new(), how).unwrap();
        assert_eq!(bytes, b">ab");
        receive_onto(b.as_fd(), &mut bytes, 100, &mut Vec::new(), how).unwrap();
        assert_eq!(bytes, b">abcdef");
        shutdown_read(b.as_fd()).unwrap();
        let sent = send(a.as_fd(), &[io::IoSlice::new(b"x")], &[], true);
        assert_eq!(errno(sent), Some(libc::EPIPE));
    }

    #[test]
    fn a_silent_peer_is_asked_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for (patience, wanted) in [
            (Duration::from_secs(30), [1, 15, 5, 3, 30_000]),
            (Duration::ZERO, [1, 1, 1, 3, 2000]),
            (Duration::MAX, [1, 1 << 14, (1 << 15) / 6, 3, 1000 << 15]),
        ] {
            keep_alive(listener.as_fd(), patience).unwrap();
            assert_eq!(kept_alive(listener.as_fd()).unwrap(), wanted);
        }
    }

    #[test]
    fn a_message_longer_than_the_buffer_is_marked() {
        let (a, b) = pair(Kind::SeqPacket).unwrap();
        send(a.as_fd(), &[io::IoSlice::new(b"long")], &[], true).unwrap();
        assert!(take(&b, &mut Vec::new(), Receive::default()).unwrap().0.truncated);
    }
}
