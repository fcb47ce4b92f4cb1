//! Python's `multiprocessing` for Rust on Linux, on libc alone.
//!
//! Processes as easily as threads: [`Process`] starts one, [`Pool`] keeps some at work. They talk
//! through [`Queue`]s and [`Connection`]s, share [`Value`]s, [`Array`]s and whatever [`Shared`] holds,
//! and take turns by [`Lock`]s. All of these are handles: given to another process, as an argument or in
//! a message, they are the same thing there.
//!
//! A process that is killed at any instant hurts nobody else, and nothing that was handed over is lost.
//!
//! # A program
//!
//! ```
//! use multiproc::{Pool, Process, Queue, Result};
//!
//! fn greet(queue: Queue<String>, name: String) -> Result<()> {
//!     queue.put(&format!("hello {name}"))
//! }
//!
//! fn main() -> Result<()> {
//!     multiproc::init(); // the first line: a started process goes on from here
//!     let queue = Queue::new()?;
//!     let child = Process::new(greet, (queue.clone(), "bob".to_string())).start()?;
//!     assert_eq!(queue.get()?, "hello bob");
//!     child.join()??;
//!
//!     let pool = Pool::new(2)?;
//!     assert_eq!(pool.map(|n: u64| n * n, 0..4)?, [0, 1, 4, 9]);
//!     Ok(())
//! }
//! ```
//!
//! # What there is
//!
//! | for | there is |
//! |---|---|
//! | processes | [`Process`], [`Child`], [`StartMethod`], [`current_process`], [`parent_process`], [`at_exit`] |
//! | objects behind a socket | [`Manager`], [`manager`], [`managed!`] |
//! | workers | [`Pool`], [`AsyncResult`], [`Imap`] |
//! | messages | [`Queue`], [`Connection`], [`pipe`], [`wait`] |
//! | strangers and other programs | [`Listener`], [`Client`], [`Address`], Python among them |
//! | turns | [`Lock`], [`RLock`], [`Semaphore`], [`BoundedSemaphore`], [`Condition`], [`Event`], [`Barrier`] |
//! | shared memory | [`Value`], [`Array`], [`RawValue`], [`RawArray`], [`Shared`], [`Region`], [`SharedBytes`] |
//! | memory with a name | [`SharedMemory`], [`ShareableList`] |
//! | values as bytes | [`Encode`], [`Decode`], [`message!`], [`Object`] |
//!
//! Everything that blocks comes in three forms, such as `get`, `try_get` and `get_timeout`. Timeouts
//! follow the monotonic clock; one too long to represent means none. Signals never cut a wait short.
//!
//! # Processes that share a handle
//!
//! They are started by one another: handles travel as arguments of [`Process::new`], through queues,
//! connections and pools, and by `fork`. Memory behind them has no name, needs no mounted file system,
//! and is gone when its last user is.

#[cfg(not(target_os = "linux"))]
compile_error!("multiproc runs on Linux alone: it is made of memfd, pidfd, futex and SCM_RIGHTS");

mod codec;
mod connection;
mod context;
mod error;
mod log;
pub mod manager;
pub mod pool;
pub mod process;
mod queue;
mod region;
pub mod shared_memory;
pub mod sharedctypes;
pub mod sync;
mod sys;

pub use codec::object::{self, Object};
pub use codec::{Decode, Decoder, Encode, Encoder, from_bytes, to_bytes};
pub use connection::{
    Address, Client, ClientBuilder, Connection, Credentials, Listener, ListenerBuilder,
    MessageReader, MessageWriter, Peer, Peers, Refusal, Waitable, Watch, answer_challenge,
    deliver_challenge, pipe, pipe_one_way, wait,
};
pub use context::Context;
pub use error::{Error, Result};
pub use log::{Level, Record, log_to_stderr, set_logger};
pub use manager::{Manager, ManagerBuilder, PythonManager};
pub use pool::{Activity, AsyncResult, Counters, Imap, Pool, PoolBuilder, Snapshot, WorkerState};
pub use process::{
    ActiveChild, AuthKey, Child, CurrentProcess, ExitStatus, Never, ParentProcess, Process,
    StartMethod, Stdio, Target, active_children, all_start_methods, at_exit, at_fork_child,
    available_cpus, cpu_count, current_process, exit, init, parent_process, set_forkserver_preload,
    set_start_method, start_method,
};
pub use queue::{
    Builder as QueueBuilder, Iter as QueueIter, JoinableQueue, Queue, Receiver, Sender,
    SimpleQueue, bounded_channel, channel,
};
pub use region::{Plain, PlainCell, RawLock, RawLockGuard, Region, Share, Shared, SharedBytes};
pub use shared_memory::{ShareableIter, ShareableList, SharedMemory, SharedMemoryManager};
pub use sharedctypes::{
    Array, ArrayGuard, RawArray, RawValue, Synchronized, SynchronizedGuard, Value, ValueGuard,
};
pub use sync::{
    Barrier, BarrierBreak, BarrierBuilder, BoundedSemaphore, Condition, ConditionGuard, Event,
    Lock, LockGuard, Permit, RLock, RLockGuard, RawSemaphore, Semaphore,
};

/// What the macros of this crate expand to, and nobody else should name.
#[doc(hidden)]
pub mod __private {
    pub use crate::region::plain::{assert_plain_message, size_of_plain};
}

/// The programs of the README, as they are printed there.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
