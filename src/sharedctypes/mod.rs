//! Values and arrays in shared memory, under a lock or raw.

mod array;
mod range;
mod raw;
mod synchronized;
mod value;

pub use crate::region::Integer;
pub use array::{Array, ArrayGuard, ArrayIter};
pub use raw::{RawArray, RawValue};
pub use synchronized::{Synchronized, SynchronizedGuard};
pub use value::{Value, ValueGuard};
