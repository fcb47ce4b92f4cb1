//! Values and arrays in shared memory, each under a lock.

mod array;
mod value;

pub use array::{Array, ArrayGuard, ArrayIter};
pub use value::{Value, ValueGuard};
