//! Threads, by the ids that robust mutexes store as their owners.

use super::{errno_result, process};
use std::io;

/// Whether some thread, of any process that this one can see, has the id `tid`.
pub(crate) fn exists(tid: u32) -> bool {
    // SAFETY: the call takes numbers alone, and signal 0 is none: only the existence is looked at.
    found(errno_result(unsafe { libc::syscall(libc::SYS_tkill, tid as i32, 0) }))
}

/// Whether a thread of this process has the id `tid`.
pub(crate) fn is_own(tid: u32) -> bool {
    let pid = process::id() as i32;
    // SAFETY: as in `exists`.
    found(errno_result(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid as i32, 0) }))
}

/// ESRCH says no, and so does EINVAL for what is no id at all; EPERM tells of a thread that is not
/// ours to signal.
fn found(answer: io::Result<libc::c_long>) -> bool {
    !answer.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_exists_and_ids_that_cannot_be_do_not() {
        let tid = process::thread_id();
        assert!(exists(tid) && is_own(tid));
        assert!(!exists(0) && !is_own(0));
        assert!(!exists(0x3fff_fffe) && !is_own(0x3fff_fffe));
        assert!(!is_own(1), "the first process's");
    }
}
