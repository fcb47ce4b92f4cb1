//! The only room that calls libc: one file a kernel facility, each wrapper a few lines, no policy.
//!
//! Two conventions, two converters. Calls that answer -1 and leave the reason in `errno` go through
//! [`errno_result`]; calls whose value *is* the error (`pthread_*`, `posix_spawn*`) through
//! [`code_result`]. Descriptors are [`OwnedFd`](std::os::fd::OwnedFd) and close-on-exec from birth.
//! `EINTR` is retried here, with the remaining time recomputed, unless a name says otherwise.
#![allow(unsafe_code)]

pub(crate) mod alarm;
pub(crate) mod fd;
pub(crate) mod futex;
pub(crate) mod limits;
pub(crate) mod listen;
pub(crate) mod memory;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod pthread;
pub(crate) mod random;
pub(crate) mod shm;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod thread;
pub(crate) mod time;

use std::io;

/// Sorts the answer of a call that gives -1 and leaves its reason in `errno`.
pub(crate) fn errno_result<T: Copy + PartialEq + From<i8>>(answer: T) -> io::Result<T> {
    if answer == T::from(-1) { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Sorts the answer of a call whose value is the error itself, zero being success.
#[inline]
pub(crate) fn code_result(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Repeats `call` for as long as a signal interrupts it.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            answer => return answer,
        }
    }
}

/// The `errno` names that the other rooms sort errors by.
pub(crate) use libc::{
    EADDRINUSE, EAGAIN, ECHILD, ECONNREFUSED, ECONNRESET, EDEADLK, EEXIST, EFBIG, EHOSTUNREACH,
    EINVAL, EMFILE, ENETDOWN, ENETUNREACH, ENFILE, ENOENT, ENOMEM, ENOTRECOVERABLE, EPIPE, ESRCH,
    ETIMEDOUT,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_result_reads_errno_and_code_result_reads_the_value() {
        // SAFETY: -1 is never an open descriptor, so the call changes nothing and fails with EBADF.
        let closed = errno_result(unsafe { libc::close(-1) });
        assert_eq!(closed.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(code_result(libc::EDEADLK).unwrap_err().raw_os_error(), Some(libc::EDEADLK));
        assert!(code_result(0).is_ok());
    }
}
