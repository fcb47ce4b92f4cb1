//! Memory that several processes map.
//!
//! All of it is `memfd_create` memory: it has no name, needs no mounted file system, and lives for as
//! long as some process holds its descriptor or a mapping of it, so there is nothing to track and
//! nothing to leak. It is sealed against shrinking before anyone else sees it, and whoever receives it
//! checks the seals and the size before it maps, so that no access can become a SIGBUS.
#![allow(unsafe_code)]

mod area;
mod bare;
mod cell;
mod guarded;
mod memory;
mod named;
pub(crate) mod plain;
mod raw_lock;
#[allow(clippy::module_inception)]
mod region;
mod share;
mod shared;
mod shared_bytes;
mod shared_slice;
mod words;

pub(crate) use area::Area;
pub use bare::Integer;
pub(crate) use bare::{Bare, Change};
pub use cell::PlainCell;
pub(crate) use guarded::{Guarded, SliceGuard};
pub(crate) use memory::Memory;
pub use plain::Plain;
pub use raw_lock::{RawLock, RawLockGuard};
pub use region::Region;
pub use share::Share;
pub use shared::Shared;
pub use shared_bytes::SharedBytes;
pub(crate) use shared_slice::SharedSlice;
