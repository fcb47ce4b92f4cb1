//! A plain value in shared memory, without a lock.

use super::{Plain, Share, words};
use std::cell::UnsafeCell;
use std::fmt;

/// A number or other [`Plain`] value for a place in a [`Shared`](crate::Shared), read and written
/// without a lock.
///
/// A value no larger than its alignment (every number but 128-bit ones) is read as it was written;
/// larger ones may be read half old, half new while somebody writes. Nothing is ordered around it: a
/// lock beside the cell, held by all who use it, takes care of both.
///
/// # Examples
/// ```
/// use multiproc::{PlainCell, Shared};
///
/// let temperature = Shared::new(PlainCell::new(21.5f64))?;
/// let same = temperature.clone();
/// same.set(22.0);
/// assert_eq!(temperature.get(), 22.0);
/// # Ok::<(), multiproc::Error>(())
/// ```
#[repr(transparent)]
pub struct PlainCell<T: Plain>(UnsafeCell<T>);

// SAFETY: a plain value is its bytes, bound to no thread; there is no pointer in it.
unsafe impl<T: Plain> Send for PlainCell<T> {}
// SAFETY: `&PlainCell` reads and writes by relaxed atomic units alone.
unsafe impl<T: Plain> Sync for PlainCell<T> {}

// SAFETY: transparent; every bit pattern is a value of a `Plain` type; `&self` gives atomic access
// alone, and there is no part to settle or to hold.
unsafe impl<T: Plain> Share for PlainCell<T> {}

impl<T: Plain> PlainCell<T> {
    /// A cell that holds `value`.
    pub const fn new(value: T) -> PlainCell<T> {
        PlainCell(UnsafeCell::new(value))
    }

    /// The value as it is now.
    pub fn get(&self) -> T {
        // SAFETY: (cell-1)
        unsafe { words::load_plain(self.0.get()) }
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        // SAFETY: (cell-1)
        unsafe { words::store_plain(self.0.get(), value) };
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for PlainCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlainCell").field(&self.get()).finish()
    }
}
