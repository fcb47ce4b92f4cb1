//! Named memory: `shm_open(3)`, `shm_unlink(3)`, and `flock(2)`, by which a block's owner is known.

use super::{errno_result, retry};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `shm_open` for reading and writing; `mode` makes a new block, which must not be there yet.
pub(crate) fn open(name: &CStr, mode: Option<u32>) -> io::Result<OwnedFd> {
    let new = if mode.is_some() { libc::O_CREAT | libc::O_EXCL } else { 0 };
    let flags = libc::O_RDWR | libc::O_CLOEXEC | new;
    let mode = mode.unwrap_or(0) as libc::mode_t;
    // SAFETY: `name` ends in NUL and outlives the call.
    let fd = retry(|| errno_result(unsafe { libc::shm_open(name.as_ptr(), flags, mode) }))?;
    // SAFETY: the call succeeded, so `fd` is open, and nothing else has seen its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `shm_unlink`.
pub(crate) fn unlink(name: &CStr) -> io::Result<()> {
    // SAFETY: `name` ends in NUL and outlives the call.
    errno_result(unsafe { libc::shm_unlink(name.as_ptr()) }).map(drop)
}

/// `flock(LOCK_EX | LOCK_NB)`: false if somebody else has the file locked. The lock belongs to the
/// open file, so copies of the descriptor share it; the kernel drops it when the last is closed.
pub(crate) fn try_lock(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: `fd` is open for the borrow's life; the call takes numbers.
    match errno_result(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn errno<T>(answer: io::Result<T>) -> Option<i32> {
        answer.err().and_then(|error| error.raw_os_error())
    }

    #[test]
    fn a_name_is_made_once_locked_once_and_removed_once() {
        let name = std::ffi::CString::new(format!("/psm_test-{}", std::process::id())).unwrap();
        assert_eq!(errno(open(&name, None)), Some(libc::ENOENT));
        let owner = open(&name, Some(0o600)).unwrap();
        assert_eq!(errno(open(&name, Some(0o600))), Some(libc::EEXIST));
        let other = open(&name, None).unwrap();
        assert!(try_lock(owner.as_fd()).unwrap());
        assert!(!try_lock(other.as_fd()).unwrap());
        drop(owner);
        assert!(try_lock(other.as_fd()).unwrap());
        unlink(&name).unwrap();
        assert_eq!(errno(unlink(&name)), Some(libc::ENOENT));
        let path = super::super::fd::open_path(c"/").unwrap();
        assert_eq!(errno(try_lock(path.as_fd())), Some(libc::EBADF));
    }
}
