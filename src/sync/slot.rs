//! A place in a table of those who take part in something, held for as long as they do.

use crate::region::RawLock;
use std::sync::atomic::AtomicU32;

crate::shared! {
    /// Whose lock is held is taken, and alive; the kernel lets go of a dead one's.
    ///
    /// What the words mean is its table's affair. They are written under the lock of the table.
    pub(super) struct Slot {
        pub(super) lock: RawLock,
        pub(super) mark: AtomicU32,
        pub(super) note: AtomicU32,
    }
}

impl Slot {
    pub(super) const fn new() -> Slot {
        Slot { lock: RawLock::new(), mark: AtomicU32::new(0), note: AtomicU32::new(0) }
    }

    /// Whether the one who took it still lives.
    pub(super) fn is_alive(&self) -> bool {
        self.lock.locked()
    }
}
