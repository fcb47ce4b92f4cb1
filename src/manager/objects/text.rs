//! What proxies of objects print that hold no values: in what state the object is.

use super::show_text;
use super::{
    BarrierProxy, ConditionProxy, EventProxy, LockProxy, PoolProxy, QueueProxy, RLockProxy,
    SemaphoreProxy,
};
use crate::{Decode, Encode, Result};
use std::fmt;

fn lock(kind: &str, locked: Result<bool>) -> Result<String> {
    locked.map(|locked| format!("<{kind}: {}>", if locked { "locked" } else { "unlocked" }))
}

/// How each proxy prints its object.
macro_rules! print_state {
    ($($proxy:ident: $this:ident => $text:expr;)*) => { $(
        impl fmt::Display for $proxy {
            /// The kind of the object and its state.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = |$this: &$proxy| -> Result<String> { $text };
                show_text(text(self), f)
            }
        }
    )* };
}

print_state! {
    LockProxy: this => lock("Lock", this.locked());
    RLockProxy: this => lock("RLock", this.locked());
    ConditionProxy: this => lock("Condition", this.locked());
    SemaphoreProxy: this => Ok(format!("<Semaphore: value={}>", this.value()?));
    EventProxy: this => Ok(format!("<Event: {}>", if this.is_set()? { "set" } else { "unset" }));
    BarrierProxy: this => {
        let broken = if this.is_broken()? { ", broken" } else { "" };
        Ok(format!("<Barrier: waiters={}/{}{broken}>", this.waiting()?, this.parties()?))
    };
    PoolProxy: this => Ok(format!("<Pool: processes={}>", this.processes()?));
}

impl<T: Encode + Decode + 'static> fmt::Display for QueueProxy<T> {
    /// The kind of the object and its state.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_text(self.len().map(|len| format!("<Queue: {len} items>")), f)
    }
}
