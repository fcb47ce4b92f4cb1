//! Python's `multiprocessing` for Rust on Linux, on libc alone.

mod codec;
mod connection;
mod error;
pub mod pool;
pub mod process;
mod queue;
mod region;
pub mod sharedctypes;
pub mod sync;
mod sys;

pub use codec::object::{self, Object};
pub use codec::{Decode, Decoder, Encode, Encoder, from_bytes, to_bytes};
pub use connection::{Connection, MessageReader, MessageWriter, pipe, pipe_one_way};
pub use error::{Error, Result};
pub use pool::{AsyncResult, Imap, Pool, PoolBuilder};
pub use process::{
    ActiveChild, Child, CurrentProcess, ExitStatus, Never, ParentProcess, Process, StartMethod,
    Target, active_children, all_start_methods, at_exit, at_fork_child, current_process, exit,
    init, parent_process, set_forkserver_preload, set_start_method, start_method,
};
pub use queue::{Builder as QueueBuilder, Iter as QueueIter, Queue};
pub use region::{Plain, PlainCell, RawLock, RawLockGuard, Region, Share, Shared, SharedBytes};
pub use sharedctypes::{Array, ArrayGuard, Value, ValueGuard};
pub use sync::{Lock, LockGuard};

/// What the macros of this crate expand to, and nobody else should name.
#[doc(hidden)]
pub mod __private {
    pub use crate::region::plain::{assert_plain_message, size_of_plain};
}
