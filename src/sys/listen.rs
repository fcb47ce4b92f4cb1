//! Sockets that listen and sockets that connect, and who is at the other end.

use super::time::Deadline;
use super::{errno_result, retry};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// The kind that a bound socket is asked for without being connected to.
pub(crate) const DATAGRAM: i32 = libc::SOCK_DGRAM;
pub(crate) const STREAM: i32 = libc::SOCK_STREAM;

/// The name of a Unix socket, as the kernel takes it.
#[derive(Clone, Copy)]
pub(crate) struct UnixName {
    address: libc::sockaddr_un,
    len: libc::socklen_t,
}

impl UnixName {
    /// The most bytes a path may have; an abstract name may have the same number.
    pub(crate) const MAX: usize = 107;
    const PATH: usize = offset_of!(libc::sockaddr_un, sun_path);

    /// A path; `None` if it is empty, too long, or has a zero byte in it.
    pub(crate) fn path(path: &[u8]) -> Option<UnixName> {
        let fits = (1..=Self::MAX).contains(&path.len()) && !path.contains(&0);
        fits.then(|| UnixName::with(path, 0))
    }

    /// A name outside of any file system; `None` if it is empty or too long.
    pub(crate) fn outside(name: &[u8]) -> Option<UnixName> {
        (1..=Self::MAX).contains(&name.len()).then(|| UnixName::with(name, 1))
    }

    fn with(name: &[u8], start: usize) -> UnixName {
        // SAFETY: every bit pattern of this record of numbers is valid.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (place, byte) in address.sun_path[start..].iter_mut().zip(name) {
            *place = *byte as libc::c_char;
        }
        // A path takes the zero byte behind it along, an abstract name the one before it.
        UnixName { address, len: (Self::PATH + name.len() + 1) as libc::socklen_t }
    }
}

/// `socket(AF_UNIX, kind | SOCK_CLOEXEC)`.
pub(crate) fn unix_socket(kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers alone.
    let fd = errno_result(unsafe { libc::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the call succeeded, so `fd` is open, and nothing else has seen its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `bind`.
pub(crate) fn bind(socket: BorrowedFd<'_>, name: &UnixName) -> io::Result<()> {
    let address = (&raw const name.address).cast();
    // SAFETY: `name` holds an address, readable for `name.len` bytes.
    errno_result(unsafe { libc::bind(socket.as_raw_fd(), address, name.len) }).map(drop)
}

/// `connect`, which waits while the listener's queue is full: EAGAIN once the deadline has passed.
pub(crate) fn connect(
    socket: BorrowedFd<'_>,
    name: &UnixName,
    deadline: Deadline,
) -> io::Result<()> {
    let address = (&raw const name.address).cast();
    retry(|| {
        if let Some(left) = deadline.remaining() {
            set_send_timeout(socket, left.max(Duration::from_micros(1)))?;
        }
        // SAFETY: `name` holds an address, readable for `name.len` bytes.
        errno_result(unsafe { libc::connect(socket.as_raw_fd(), address, name.len) })
    })?;
    if deadline != Deadline::NEVER {
        set_send_timeout(socket, Duration::ZERO)?;
    }
    Ok(())
}

/// `setsockopt(SO_SNDTIMEO)`; zero means none.
// libc warns that the type's width will change with musl's: whatever it is, its maximum is meant.
#[allow(deprecated)]
fn set_send_timeout(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let time = libc::timeval {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_usec: timeout.subsec_micros() as _,
    };
    // SAFETY: `time` is readable for its length, which is passed.
    errno_result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            (&raw const time).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// `listen`; on a socket that listens already it changes the backlog.
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: `socket` is open for the borrow's life; the call takes a number.
    errno_result(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

/// `accept4(SOCK_CLOEXEC)`.
pub(crate) fn accept(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let (no_address, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
    let fd = retry(|| {
        // SAFETY: no address is asked for, so the call writes nothing.
        errno_result(unsafe {
            libc::accept4(socket.as_raw_fd(), no_address, no_length, libc::SOCK_CLOEXEC)
        })
    })?;
    // SAFETY: the call succeeded, so `fd` is open, and nothing else has seen its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `getsockopt(SO_ACCEPTCONN)`: whether the socket listens.
pub(crate) fn is_listening(socket: BorrowedFd<'_>) -> io::Result<bool> {
    super::socket::number(socket, libc::SO_ACCEPTCONN).map(|listens| listens != 0)
}

/// Process, user and group of who made the other end of a Unix socket, at that time (`SO_PEERCRED`).
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<(u32, u32, u32)> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` is writable for `len` bytes.
    errno_result(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &mut len,
        )
    })?;
    Ok((peer.pid as u32, peer.uid, peer.gid))
}

/// `geteuid`.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// `flock(LOCK_EX | LOCK_NB)`: EWOULDBLOCK if another has the lock, which ends with the descriptor.
pub(crate) fn try_lock_file(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `file` is open for the borrow's life; the call takes a number.
    errno_result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// What `accept` answers for a client that went wrong on its way here, rather than for the listener.
pub(crate) fn is_clients_fault(errno: Option<i32>) -> bool {
    const FAULTS: [i32; 9] = [
        libc::ECONNABORTED,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::ENONET,
        libc::EPERM, // A firewall rule.
    ];
    errno.is_some_and(|errno| FAULTS.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::super::fd;
    use super::*;
    use std::os::fd::AsFd;

    fn errno<T>(answer: io::Result<T>) -> Option<i32> {
        answer.err().and_then(|error| error.raw_os_error())
    }

    fn name() -> UnixName {
        let name = format!(
            "multiproc-sys-{}-{:?}",
            super::super::process::id(),
            super::super::random::u64()
        );
        UnixName::outside(name.as_bytes()).unwrap()
    }

    #[test]
    fn a_client_reaches_a_listener_and_each_knows_who_the_other_is() {
        let (name, listener, client) =
            (name(), unix_socket(STREAM).unwrap(), unix_socket(STREAM).unwrap());
        assert_eq!(
            errno(connect(client.as_fd(), &name, Deadline::NEVER)),
            Some(libc::ECONNREFUSED)
        );
        bind(listener.as_fd(), &name).unwrap();
        assert!(!is_listening(listener.as_fd()).unwrap());
        listen(listener.as_fd(), 1).unwrap();
        assert!(is_listening(listener.as_fd()).unwrap());
        connect(client.as_fd(), &name, Deadline::after(Duration::from_secs(9))).unwrap();
        let accepted = accept(listener.as_fd()).unwrap();
        let me = super::super::process::id();
        for end in [accepted, client] {
            let (pid, uid, _) = peer_credentials(end.as_fd()).unwrap();
            assert_eq!((pid, uid), (me, effective_user()));
        }
    }

    #[test]
    fn each_call_refuses_with_its_own_errno() {
        let (read, _write) = fd::pipe().unwrap();
        let (name, first) = (name(), unix_socket(STREAM).unwrap());
        bind(first.as_fd(), &name).unwrap();
        let second = unix_socket(STREAM).unwrap();
        assert_eq!(errno(bind(second.as_fd(), &name)), Some(libc::EADDRINUSE));
        assert_eq!(errno(listen(second.as_fd(), 1)), Some(libc::EINVAL));
        assert_eq!(errno(accept(second.as_fd())), Some(libc::EINVAL));
        assert_eq!(errno(unix_socket(77)), Some(libc::EINVAL));
        assert_eq!(errno(peer_credentials(read.as_fd())), Some(libc::ENOTSOCK));
        assert_eq!(errno(is_listening(read.as_fd())), Some(libc::ENOTSOCK));
        assert_eq!(errno(set_send_timeout(read.as_fd(), Duration::ZERO)), Some(libc::ENOTSOCK));
    }

    #[test]
    fn a_bound_path_that_is_asked_in_the_wrong_kind_answers_without_a_connection() {
        let path =
            std::env::temp_dir().join(format!("multiproc-sys-{}", super::super::process::id()));
        let name = UnixName::path(path.as_os_str().as_encoded_bytes()).unwrap();
        let (living, asks) = (unix_socket(STREAM).unwrap(), unix_socket(DATAGRAM).unwrap());
        bind(living.as_fd(), &name).unwrap();
        let answer = connect(asks.as_fd(), &name, Deadline::NEVER);
        drop(living);
        let afterwards = connect(asks.as_fd(), &name, Deadline::NEVER);
        std::fs::remove_file(path).unwrap();
        assert_eq!(errno(answer), Some(libc::EPROTOTYPE));
        assert_eq!(errno(afterwards), Some(libc::ECONNREFUSED));
    }

    #[test]
    fn a_full_queue_ends_the_wait_at_the_deadline() {
        let (name, listener) = (name(), unix_socket(STREAM).unwrap());
        bind(listener.as_fd(), &name).unwrap();
        listen(listener.as_fd(), 0).unwrap();
        let mut clients = Vec::new();
        let refused = (0..4).find_map(|_| {
            clients.push(unix_socket(STREAM).unwrap());
            let deadline = Deadline::after(Duration::from_millis(5));
            connect(clients.last()?.as_fd(), &name, deadline).err()
        });
        assert_eq!(refused.unwrap().raw_os_error(), Some(libc::EAGAIN));
    }

    #[test]
    fn a_locked_file_is_refused_to_others_until_it_is_closed() {
        let open = || fd::open(c"/", libc::O_RDONLY | libc::O_DIRECTORY).unwrap();
        let (first, second) = (open(), open());
        // Another program could hold it, in which case there is nothing to see.
        if try_lock_file(first.as_fd()).is_ok() {
            assert_eq!(errno(try_lock_file(second.as_fd())), Some(libc::EWOULDBLOCK));
            drop(first);
            try_lock_file(second.as_fd()).unwrap();
        }
    }

    #[test]
    fn names_have_a_length_that_the_kernel_takes() {
        assert!(UnixName::path(&[b'a'; 107]).is_some() && UnixName::path(&[b'a'; 108]).is_none());
        assert!(UnixName::path(b"").is_none() && UnixName::path(b"a\0b").is_none());
        assert!(UnixName::outside(b"a\0b").is_some() && UnixName::outside(&[1; 108]).is_none());
    }
}
