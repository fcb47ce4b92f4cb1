//! Memory with a name, in CPython's format: [`SharedMemory`], [`ShareableList`].
//!
//! What processes of one program share needs no name ([`Region`](crate::Region), [`Array`](crate::Array)
//! and [`Shared`](crate::Shared) travel as handles and are gone when their last user is). Names are for
//! programs that do not start one another, Python programs among them.
//!
//! # Who removes a name
//! Its owner: the process that made it. The name goes when the handle that made it and its clones are
//! dropped, or by `unlink`. If the owner is killed, the name is left behind, but with a mark that no
//! process answers for it: the owner keeps its block locked (`flock`) for as long as it lives. The next
//! program of this kind that makes a block, or calls [`SharedMemory::reclaim`], removes what it finds
//! so. No further process looks after names, and programs that only attach never remove any.

mod block;
mod list;
mod manager;

pub use block::SharedMemory;
pub use list::{ShareableIter, ShareableList};
pub use manager::SharedMemoryManager;
