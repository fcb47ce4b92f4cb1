//! Queues between any number of processes.
//!
//! A queue is a ring of messages in shared memory. `put` returns when the message is in it: there is no
//! feeder thread, nothing to flush and nothing to join before a process may end.

mod batch;
mod bell;
mod builder;
mod channel;
mod consumer;
mod crowd;
mod cursor;
mod joinable;
mod ledger;
mod limit;
mod many;
#[cfg(test)]
mod model;
mod parcel;
mod patience;
mod producer;
#[expect(clippy::module_inception, reason = "a primitive's word is its file")]
mod queue;
mod ring;
mod room;
#[cfg(test)]
mod scribbled;
mod side;
mod simple;
mod state;
mod store;
mod turn;

pub use builder::Builder;
pub use channel::{Receiver, Sender, bounded_channel, channel};
pub use joinable::JoinableQueue;
pub(crate) use limit::default_max_bytes;
pub use queue::{Iter, Queue};
pub(crate) use ring::{Options, Ring};
pub use simple::SimpleQueue;
