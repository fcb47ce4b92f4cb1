//! Locks, semaphores, conditions, events and barriers that processes share.

mod barrier;
mod condition;
mod event;
mod lock;
mod raw_semaphore;
mod rlock;
mod semaphore;
mod slot;

pub use barrier::{Barrier, BarrierBreak, BarrierBuilder};
pub use condition::{Condition, ConditionGuard};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use raw_semaphore::RawSemaphore;
pub use rlock::{RLock, RLockGuard};
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};

use crate::region::RawLock;
use crate::sys::process;

/// Who holds `lock`, in Python's words: `None`, the process (and its thread, if it is not the main
/// one) if the asking thread does, else `SomeOtherThread` or `SomeOtherProcess`.
pub(crate) fn owner_text(lock: &RawLock) -> String {
    match lock.holder() {
        None => "None".to_string(),
        Some((_, tid)) if tid == process::thread_id() => own_name(),
        Some((pid, _)) if pid == process::id() => "SomeOtherThread".to_string(),
        Some(_) => "SomeOtherProcess".to_string(),
    }
}

fn own_name() -> String {
    let process = crate::current_process();
    let process = process.name();
    match std::thread::current().name() {
        None | Some("main") => process.to_string(),
        Some(thread) => format!("{process}|{thread}"),
    }
}
