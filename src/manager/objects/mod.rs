//! What a manager holds by default: Python's containers and synchronisation, and their proxies.

mod condition;
mod dict;
mod iter;
mod list;
mod lock;
mod mutex;
mod ordered;
mod pool;
mod pool_results;
mod queue;
mod rounds;
mod semaphore;
mod set;
mod text;
mod values;

pub use condition::{Condition, ConditionProxy};
pub use dict::{Dict, DictProxy};
pub use iter::{Iter, IterProxy};
pub(in crate::manager) use list::repeat_items;
pub use list::{List, ListProxy};
pub use lock::{Lock, LockProxy, ProxyGuard, RLock, RLockProxy};
pub use pool::{Errand, Parcel, Pool, PoolProxy};
pub use pool_results::{AsyncResult, AsyncResultProxy, Results, ResultsProxy};
pub use queue::{Queue, QueueProxy};
pub use rounds::{Barrier, BarrierProxy, Event, EventProxy};
pub use semaphore::{Semaphore, SemaphoreProxy};
pub use set::{Set, SetProxy};
pub use values::{Array, ArrayProxy, Namespace, NamespaceProxy, Value, ValueProxy};

use crate::{Object, Result};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number for the calling thread that no other thread of this process has.
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static MINE: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    MINE.with(|mine| *mine)
}

/// Prints what a proxy stands for, or why it cannot be had.
fn show(object: Result<Object>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    show_text(object.map(|object| object.to_string()), f)
}

fn show_text(text: Result<String>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match text {
        Ok(text) => f.write_str(&text),
        Err(error) => write!(f, "<{error}>"),
    }
}
