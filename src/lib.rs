//! Python's `multiprocessing` for Rust on Linux, on libc alone.

mod codec;
mod error;
pub mod process;
mod region;
mod sys;

pub use codec::object::{self, Object};
pub use codec::{Decode, Decoder, Encode, Encoder, from_bytes, to_bytes};
pub use error::{Error, Result};
pub use process::{
    ActiveChild, Child, CurrentProcess, ExitStatus, Never, ParentProcess, Process, StartMethod,
    Target, active_children, all_start_methods, at_exit, at_fork_child, available_cpus, cpu_count,
    current_process, exit, init, parent_process, set_forkserver_preload, set_start_method,
    start_method,
};
pub use region::{Plain, RawLock, RawLockGuard, Share, Shared};

/// What the macros of this crate expand to, and nobody else should name.
#[doc(hidden)]
pub mod __private {
    pub use crate::region::plain::{assert_plain_message, size_of_plain};
}
