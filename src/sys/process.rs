//! Processes and threads: who we are, making them, ending them, waiting for them.

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
