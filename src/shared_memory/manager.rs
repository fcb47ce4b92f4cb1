//! Blocks that are removed together.

use super::{ShareableList, SharedMemory};
use crate::{Error, Object, Result};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Makes named blocks and removes the names of all when it is shut down or dropped.
///
/// # If a process dies
/// If this one is killed, its blocks are removed like all that lose their owner:
/// see [the module](crate::shared_memory).
///
/// # Differences from Python
/// There is no server process, nor anything to start: the blocks belong to the process that has the
/// manager.
///
/// # Examples
/// ```
/// use multiproc::{SharedMemory, SharedMemoryManager};
///
/// let manager = SharedMemoryManager::new();
/// let block = manager.shared_memory(100)?;
/// let list = manager.shareable_list(&[1.into(), 2.into()])?;
/// manager.shutdown();
/// assert!(SharedMemory::attach(block.name()).is_err());
/// assert_eq!(list.get(0)?, 1.into(), "who is attached keeps the memory");
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Default)]
pub struct SharedMemoryManager {
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    all: Vec<SharedMemory>,
    closed: bool,
}

impl SharedMemoryManager {
    /// Makes a manager of no blocks.
    pub fn new() -> SharedMemoryManager {
        SharedMemoryManager::default()
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, block: &SharedMemory) -> Result<()> {
        let mut blocks = self.blocks();
        if blocks.closed {
            return Err(Error::Closed);
        }
        blocks.all.push(block.clone());
        Ok(())
    }

    /// Makes a block of `len` zero bytes.
    ///
    /// # Errors
    /// * [`Error::Closed`]: the manager is shut down.
    /// * Those of [`SharedMemory::create`].
    pub fn shared_memory(&self, len: usize) -> Result<SharedMemory> {
        let block = SharedMemory::create(None, len)?;
        self.add(&block)?;
        Ok(block)
    }

    /// Puts a list into a new block.
    ///
    /// # Errors
    /// * [`Error::Closed`]: the manager is shut down.
    /// * Those of [`ShareableList::new`].
    pub fn shareable_list(&self, items: &[Object]) -> Result<ShareableList> {
        let list = ShareableList::new(items)?;
        self.add(list.block())?;
        Ok(list)
    }

    /// Removes the names of all blocks. Once is enough; more often does no harm.
    pub fn shutdown(&self) {
        let mut blocks = self.blocks();
        blocks.closed = true;
        for block in blocks.all.drain(..) {
            // Who unlinked one before did what is to be done here.
            let _ = block.unlink();
        }
    }
}

impl Drop for SharedMemoryManager {
    fn drop(&mut self) {
        // A copy made by `fork` removes nothing: that is for the process that made the blocks.
        let own = self.blocks().all.first().is_none_or(SharedMemory::is_own);
        if own {
            self.shutdown();
        }
    }
}

impl fmt::Debug for SharedMemoryManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedMemoryManager({} blocks)", self.blocks().all.len())
    }
}
