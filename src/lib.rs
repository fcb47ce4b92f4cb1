//! Python's `multiprocessing` for Rust on Linux, on libc alone.

mod codec;
mod connection;
mod error;
pub mod process;
mod region;
mod sys;

pub use codec::{Decode, Decoder, Encode, Encoder, from_bytes, to_bytes};
pub use connection::{Connection, pipe, pipe_one_way};
pub use error::{Error, Result};
pub use process::ExitStatus;
pub use region::{RawLock, RawLockGuard, Share, Shared};
