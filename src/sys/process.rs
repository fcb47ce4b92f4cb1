//! Processes and threads: who we are, making them, ending them, waiting for them.

use super::errno_result;
use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// This process's pid, or 0 where it is not known yet: at first, and again in a forked child.
static PID: AtomicU32 = AtomicU32::new(0);

extern "C" fn forget_pid_after_fork() {
    // Relaxed: the child has one thread.
    PID.store(0, Ordering::Relaxed);
}

/// `getpid()`, without a system call: libc keeps no copy of its own.
pub(crate) fn id() -> u32 {
    // Relaxed: whatever is read is either this process's pid or 0.
    match PID.load(Ordering::Relaxed) {
        0 => learn_pid(),
        pid => pid,
    }
}

#[cold]
fn learn_pid() -> u32 {
    static AT_FORK: Once = Once::new();
    AT_FORK.call_once(|| {
        // SAFETY: the handler stores one number, which is allowed in a forked child. If the call is
        // refused for lack of memory, so is everything else soon, and the first fork that matters.
        unsafe { libc::pthread_atfork(None, None, Some(forget_pid_after_fork)) };
    });
    let pid = std::process::id();
    PID.store(pid, Ordering::Relaxed);
    pid
}

/// `gettid()`, without a system call after the first of each thread.
pub(crate) fn thread_id() -> u32 {
    thread_local!(static TID: Cell<(u32, u32)> = const { Cell::new((0, 0)) });
    let pid = id();
    TID.with(|known| match known.get() {
        (of, tid) if of == pid => tid,
        _ => {
            // SAFETY: the call takes nothing and cannot fail.
            let tid = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
            known.set((pid, tid));
            tid
        }
    })
}

/// Whether some thread, of any process that this one can see, has the id `tid`.
pub(crate) fn thread_exists(tid: u32) -> bool {
    // SAFETY: the call takes numbers alone, and signal 0 is none: only the existence is looked at.
    let answer = errno_result(unsafe { libc::syscall(libc::SYS_tkill, tid as i32, 0) });
    // ESRCH, or EINVAL for what is no id at all. EPERM tells of a thread that is not ours to signal.
    !answer.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)))
}

/// Whether a thread of this process has the id `tid`.
pub(crate) fn is_own_thread(tid: u32) -> bool {
    // SAFETY: as in `thread_exists`.
    let answer =
        errno_result(unsafe { libc::syscall(libc::SYS_tgkill, id() as i32, tid as i32, 0) });
    !answer.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_exists_while_it_runs_and_zero_and_huge_ids_never() {
        assert!(thread_exists(thread_id()) && is_own_thread(thread_id()));
        let ended = std::thread::spawn(thread_id).join().unwrap();
        assert!(!is_own_thread(ended) || ended == thread_id());
        assert!(!thread_exists(0) && !is_own_thread(0));
        assert!(!thread_exists(0x3fff_fffe) && !is_own_thread(0x3fff_fffe));
        assert!(!is_own_thread(1));
    }
}
