//! Descriptors: making, copying, reading and writing them.

use super::{errno_result, retry};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes ownership of the descriptor a call has just made.
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: every caller passes the successful answer of a call that makes a descriptor, so it is
    // open, and nothing else has seen its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// `pipe2(O_CLOEXEC)`: the read end, then the write end.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is writable for the two `c_int`s the call fills in.
    errno_result(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((own(fds[0]), own(fds[1])))
}

/// `eventfd(EFD_CLOEXEC)`, a counter that is readable while it is not zero.
pub(crate) fn eventfd(nonblocking: bool) -> io::Result<OwnedFd> {
    let flags = libc::EFD_CLOEXEC | if nonblocking { libc::EFD_NONBLOCK } else { 0 };
    // SAFETY: the call takes numbers alone.
    errno_result(unsafe { libc::eventfd(0, flags) }).map(own)
}

/// `open(path, flags | O_CLOEXEC, 0600)`.
pub(crate) fn open(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    retry(|| {
        // SAFETY: `path` ends in NUL and outlives the call.
        errno_result(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o600) })
    })
    .map(own)
}

/// `fcntl(F_DUPFD_CLOEXEC)`: a copy numbered `least` or higher.
pub(crate) fn dup_from(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `fd` is open for the borrow's life; the command takes a number.
    errno_result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }).map(own)
}

/// A copy of `fd`, close-on-exec.
pub(crate) fn dup(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    dup_from(fd, 3)
}

/// The descriptor itself, or where its number is 0, 1 or 2, a copy above those.
pub(crate) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { dup(std::os::fd::AsFd::as_fd(&fd)) }
}

/// Closes all of them, neighbours by one call: a forked child has many of its siblings'.
pub(crate) fn close_all(mut fds: Vec<OwnedFd>) {
    fds.sort_unstable_by_key(AsRawFd::as_raw_fd);
    while let Some(first) = fds.first().map(AsRawFd::as_raw_fd) {
        let is_next = |(fd, number): &(&OwnedFd, RawFd)| fd.as_raw_fd() == *number;
        let count = fds.iter().zip(first..).take_while(is_next).count();
        let run: Vec<_> = fds.drain(..count).collect();
        match close_range(first, first + count as RawFd - 1) {
            Ok(()) => run.into_iter().for_each(std::mem::forget),
            // Linux before 5.9: one by one.
            Err(_) => drop(run),
        }
    }
}

/// `close_range`: closes the numbers from `first` to `last`, which are the caller's.
fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: every number between is a descriptor that the caller owns and forgets if this succeeds.
    errno_result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Whether `number` is an open descriptor of this process that `exec` leaves open.
pub(crate) fn survives_exec(number: RawFd) -> bool {
    // SAFETY: the command reads a flag of whatever the number names.
    let flags = errno_result(unsafe { libc::fcntl(number, libc::F_GETFD) });
    flags.is_ok_and(|flags| flags & libc::FD_CLOEXEC == 0)
}

/// `open(O_PATH)`: a descriptor that names a file without opening it.
pub(crate) fn open_path(path: &CStr) -> io::Result<OwnedFd> {
    open(path, libc::O_PATH)
}

/// /dev/null, to read.
pub(crate) fn open_null() -> io::Result<OwnedFd> {
    open(c"/dev/null", libc::O_RDONLY)
}

/// /dev/null, to write.
pub(crate) fn open_sink() -> io::Result<OwnedFd> {
    open(c"/dev/null", libc::O_WRONLY)
}

/// `dup2`: makes descriptor 0, 1 or 2 a copy of `with`.
#[inline]
pub(crate) fn replace_stdio(number: RawFd, with: BorrowedFd<'_>) -> io::Result<()> {
    assert!((0..=2).contains(&number), "no standard stream");
    // SAFETY: the call takes numbers; these belong to std, which expects them to be replaced.
    errno_result(unsafe { libc::dup2(with.as_raw_fd(), number) }).map(drop)
}

/// Switches `O_NONBLOCK` of the open file that `fd` names.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: `fd` is open for the borrow's life; `F_GETFL` reads flags.
    let flags = errno_result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let wanted = if on { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    if wanted != flags {
        // SAFETY: as above; `F_SETFL` takes flags.
        errno_result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, wanted) })?;
    }
    Ok(())
}

/// `read`, once; zero bytes means the end of the stream.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: `buffer` is writable for its length.
        errno_result(unsafe {
            libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len())
        })
    })
    .map(|n| n as usize)
}

/// `read`, once: up to `most` bytes onto the end of `bytes`, within its capacity.
pub(crate) fn read_onto(fd: BorrowedFd<'_>, bytes: &mut Vec<u8>, most: usize) -> io::Result<usize> {
    let spare = bytes.spare_capacity_mut();
    let len = spare.len().min(most);
    let taken = retry(|| {
        // SAFETY: the spare capacity is writable for `len` bytes.
        errno_result(unsafe { libc::read(fd.as_raw_fd(), spare.as_mut_ptr().cast(), len) })
    })? as usize;
    let filled = bytes.len() + taken;
    // SAFETY: the kernel has stored `taken` bytes at the start of the spare capacity.
    unsafe { bytes.set_len(filled) };
    Ok(taken)
}

/// `write`, once; a pipe or socket may take less than all.
///
/// `SIGPIPE` is ignored in every Rust program, so a peer that is gone is EPIPE.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: `bytes` is readable for its length.
        errno_result(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
    })
    .map(|n| n as usize)
}

/// `writev`, once.
pub(crate) fn write_vectored(fd: BorrowedFd<'_>, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
    let count = parts.len().min(libc::UIO_MAXIOV as usize);
    retry(|| {
        // SAFETY: `IoSlice` has the layout of `iovec` by its documentation, `parts` holds `count` of
        // them, and each borrows bytes that are readable for its length.
        errno_result(unsafe { libc::writev(fd.as_raw_fd(), parts.as_ptr().cast(), count as i32) })
    })
    .map(|n| n as usize)
}

/// Adds one to an eventfd, which wakes who reads or polls it.
pub(crate) fn ring(eventfd: BorrowedFd<'_>) -> io::Result<()> {
    match write(eventfd, &1u64.to_ne_bytes()) {
        Ok(_) => Ok(()),
        // The counter is full, so it is readable, which is all a ring is for.
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes an eventfd's count, which makes it unreadable; waits for one if the eventfd blocks.
pub(crate) fn drain(eventfd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut count = [0; 8];
    match read(eventfd, &mut count) {
        Ok(_) => Ok(u64::from_ne_bytes(count)),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::time::Deadline;
    use std::os::fd::AsFd;

    fn raw(error: io::Error) -> Option<i32> {
        error.raw_os_error()
    }

    #[test]
    fn every_descriptor_is_close_on_exec_from_birth() {
        let (read, write) = pipe().unwrap();
        let event = eventfd(true).unwrap();
        let null = open(c"/dev/null", libc::O_RDONLY).unwrap();
        let copy = dup(null.as_fd()).unwrap();
        for fd in [&read, &write, &event, &null, &copy] {
            // SAFETY: `F_GETFD` reads a flag of a descriptor that the loop borrows.
            let flags = errno_result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) });
            assert_eq!(flags.unwrap() & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
    }

    #[test]
    fn a_write_without_a_reader_is_epipe_and_a_read_without_a_writer_is_zero() {
        let (read_end, write_end) = pipe().unwrap();
        drop(read_end);
        assert_eq!(raw(write(write_end.as_fd(), b"x").unwrap_err()), Some(libc::EPIPE));
        let parts = [io::IoSlice::new(b"x")];
        let error = write_vectored(write_end.as_fd(), &parts).unwrap_err();
        assert_eq!(raw(error), Some(libc::EPIPE));

        let (read_end, write_end) = pipe().unwrap();
        drop(write_end);
        assert_eq!(read(read_end.as_fd(), &mut [0; 4]).unwrap(), 0);
    }

    #[test]
    fn the_wrong_end_of_a_pipe_is_ebadf_and_a_missing_file_enoent() {
        let (read_end, write_end) = pipe().unwrap();
        assert_eq!(raw(write(read_end.as_fd(), b"x").unwrap_err()), Some(libc::EBADF));
        assert_eq!(raw(read(write_end.as_fd(), &mut [0]).unwrap_err()), Some(libc::EBADF));
        let onto = read_onto(write_end.as_fd(), &mut Vec::with_capacity(1), 1);
        assert_eq!(raw(onto.unwrap_err()), Some(libc::EBADF));
        assert_eq!(raw(open(c"/no/such", libc::O_RDONLY).unwrap_err()), Some(libc::ENOENT));
        assert_eq!(raw(dup_from(read_end.as_fd(), -1).unwrap_err()), Some(libc::EINVAL));
    }

    #[test]
    fn a_bell_that_was_rung_twice_is_drained_once() {
        let bell = eventfd(true).unwrap();
        assert_eq!(drain(bell.as_fd()).unwrap(), 0);
        ring(bell.as_fd()).unwrap();
        ring(bell.as_fd()).unwrap();
        assert_eq!(drain(bell.as_fd()).unwrap(), 2);
        assert_eq!(drain(bell.as_fd()).unwrap(), 0);
    }

    #[test]
    fn nonblocking_can_be_switched_on_and_off() {
        let (read_end, _write_end) = pipe().unwrap();
        set_nonblocking(read_end.as_fd(), true).unwrap();
        assert_eq!(raw(read(read_end.as_fd(), &mut [0]).unwrap_err()), Some(libc::EAGAIN));
        set_nonblocking(read_end.as_fd(), false).unwrap();
    }

    #[test]
    fn many_are_closed_and_those_between_are_not() {
        let mut fds: Vec<_> = (0..20).map(|_| eventfd(true).unwrap()).collect();
        fds.sort_by_key(AsRawFd::as_raw_fd);
        let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let (kept, mut closed): (Vec<_>, Vec<_>) =
            fds.into_iter().enumerate().partition(|(n, _)| n % 5 == 3);
        closed.reverse();
        // A pipe's two ends know of each other, whatever the numbers are used for meanwhile.
        let (reader, writer) = pipe().unwrap();
        let mut all: Vec<_> = closed.into_iter().map(|(_, fd)| fd).collect();
        all.insert(4, writer);
        close_all(all);
        close_all(Vec::new());
        assert!(crate::sys::poll::wait_hang_up(reader.as_fd(), Deadline::now()).unwrap());
        for (n, fd) in kept {
            assert_eq!(fd.as_raw_fd(), numbers[n]);
            ring(fd.as_fd()).unwrap();
        }
        assert_eq!(close_range(9, 8).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
