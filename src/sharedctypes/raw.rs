//! Values and arrays without a lock.

use super::range::{check_index, check_range};
use crate::region::{Bare, Change, Integer};
use crate::{Array, Decode, Decoder, Encode, Encoder, Error, Lock, Plain, Result, Value};
use std::fmt;
use std::ops::RangeBounds;
use std::os::fd::{AsFd, BorrowedFd};
use std::slice;

/// One value in shared memory, without a lock.
///
/// Numbers (but those of 128 bits) are read as they were written; larger values may be read half old,
/// half new while somebody writes. Integers can be changed in one step, by
/// [`fetch_add`](Self::fetch_add) and its like. A clone is the same value, and so is what another process
/// receives.
///
/// # If a process dies
/// Nobody owns anything. A number that a killed process was writing is the old or the new one.
///
/// # Differences from Python
/// The changes in one step.
///
/// # Examples
/// ```
/// use multiproc::RawValue;
///
/// let count = RawValue::new(40_u32)?;
/// let same = count.clone();
/// assert_eq!(same.fetch_add(2), 40);
/// assert_eq!(count.get(), 42);
/// assert_eq!(count.compare_exchange(41, 0), Err(42));
/// # Ok::<(), multiproc::Error>(())
/// ```
pub struct RawValue<T: Plain> {
    /// One item.
    items: Bare<T>,
}

impl<T: Plain> RawValue<T> {
    /// Puts `value` into new shared memory.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or a descriptor (EMFILE).
    pub fn new(value: T) -> Result<RawValue<T>> {
        Ok(RawValue { items: Bare::new(slice::from_ref(&value))? })
    }

    /// The value as it is now. Nothing is ordered around it.
    #[inline]
    pub fn get(&self) -> T {
        self.items.get(0)
    }

    /// Replaces the value. Nothing is ordered around it.
    #[inline]
    pub fn set(&self, value: T) {
        self.items.set(0, value);
    }

    /// Where the value is mapped.
    pub fn as_ptr(&self) -> *mut T {
        self.items.as_ptr()
    }

    /// A copy in shared memory of its own.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn copy(&self) -> Result<RawValue<T>> {
        RawValue::new(self.get())
    }

    /// A copy under a lock: its own, or one that is given.
    ///
    /// It is a copy because the lock's holder borrows the value, and handles without a lock go on
    /// writing this one. [`Synchronized`](crate::Synchronized) puts this very one under a lock.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn synchronized(&self, lock: Option<&Lock>) -> Result<Value<T>> {
        match lock {
            None => Value::new(self.get()),
            Some(lock) => Value::with_lock(self.get(), lock),
        }
    }
}

/// Each is one step, before or after every other one's, in every process.
impl<T: Integer> RawValue<T> {
    /// Adds `n`, wrapping around at the type's bounds, and gives the value before.
    #[inline]
    pub fn fetch_add(&self, n: T) -> T {
        self.items.change(0, Change::Add(n))
    }

    /// Subtracts `n`, wrapping around at the type's bounds, and gives the value before.
    #[inline]
    pub fn fetch_sub(&self, n: T) -> T {
        self.items.change(0, Change::Sub(n))
    }

    /// Keeps the bits that are in `mask`, and gives the value before.
    #[inline]
    pub fn fetch_and(&self, mask: T) -> T {
        self.items.change(0, Change::And(mask))
    }

    /// Sets the bits that are in `mask`, and gives the value before.
    #[inline]
    pub fn fetch_or(&self, mask: T) -> T {
        self.items.change(0, Change::Or(mask))
    }

    /// Turns over the bits that are in `mask`, and gives the value before.
    #[inline]
    pub fn fetch_xor(&self, mask: T) -> T {
        self.items.change(0, Change::Xor(mask))
    }

    /// Replaces the value if `n` is greater, and gives the value before.
    #[inline]
    pub fn fetch_max(&self, n: T) -> T {
        self.items.change(0, Change::Max(n))
    }

    /// Replaces the value if `n` is less, and gives the value before.
    #[inline]
    pub fn fetch_min(&self, n: T) -> T {
        self.items.change(0, Change::Min(n))
    }

    /// Replaces the value, and gives the one before.
    #[inline]
    pub fn swap(&self, value: T) -> T {
        self.items.change(0, Change::Swap(value))
    }

    /// Replaces the value if it is `current`, which is then given back.
    ///
    /// # Errors
    /// The value, where it is another.
    #[inline]
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        let was = self.items.change(0, Change::Exchange(current, new));
        if was == current { Ok(was) } else { Err(was) }
    }
}

impl<T: Plain> Clone for RawValue<T> {
    fn clone(&self) -> RawValue<T> {
        RawValue { items: self.items.clone() }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for RawValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<RawValue({:?})>", self.get())
    }
}

impl<T: Plain> AsFd for RawValue<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.items.as_fd()
    }
}

impl<T: Plain> Encode for RawValue<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.items.encode(encoder);
    }
}

impl<T: Plain> Decode for RawValue<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<RawValue<T>> {
        let items = Bare::decode(decoder)?;
        match items.len() {
            1 => Ok(RawValue { items }),
            len => Err(Error::corrupt(format!("a value of {len} items"))),
        }
    }
}

/// Many values of one type in shared memory, without a lock.
///
/// Items are read and written one by one, each as a [`RawValue`] is. A clone is the same array, and so is
/// what another process receives.
///
/// # If a process dies
/// Nobody owns anything. What a killed process was writing is partly old, partly new, by whole numbers.
///
/// # Examples
/// ```
/// use multiproc::RawArray;
///
/// let numbers = RawArray::from_slice(&[1.0, 2.5, 4.0])?;
/// numbers.set(1, 3.0)?;
/// assert_eq!(numbers.load(1..)?, [3.0, 4.0]);
/// assert!(numbers.get(3).is_err());
/// # Ok::<(), multiproc::Error>(())
/// ```
pub struct RawArray<T: Plain> {
    items: Bare<T>,
}

impl<T: Plain> RawArray<T> {
    /// Makes `len` items of zero bytes.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC, EFBIG) or a descriptor (EMFILE).
    pub fn zeroed(len: usize) -> Result<RawArray<T>> {
        Ok(RawArray { items: Bare::zeroed(len)? })
    }

    /// Copies `items` into new shared memory.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub fn from_slice(items: &[T]) -> Result<RawArray<T>> {
        Ok(RawArray { items: Bare::new(items)? })
    }

    pub(crate) fn items(&self) -> &Bare<T> {
        &self.items
    }

    /// How many items there are; it never changes.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at `index`, as it is now.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: there is no such item.
    #[inline]
    pub fn get(&self, index: usize) -> Result<T> {
        check_index(index, self.len())?;
        Ok(self.items.get(index))
    }

    /// Replaces the item at `index`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn set(&self, index: usize, item: T) -> Result<()> {
        check_index(index, self.len())?;
        self.items.set(index, item);
        Ok(())
    }

    /// Copies a range of items out, one after the other.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: they are not all inside.
    pub fn load(&self, range: impl RangeBounds<usize>) -> Result<Vec<T>> {
        Ok(self.items.to_vec(check_range(range, self.len())?))
    }

    /// Copies `items` in from `start` on, one after the other.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn store(&self, start: usize, items: &[T]) -> Result<()> {
        let end = start.saturating_add(items.len());
        check_range(start..end, self.len())?;
        self.items.set_all(start, items);
        Ok(())
    }

    /// Copies all items out.
    pub fn to_vec(&self) -> Vec<T> {
        self.items.to_vec(0..self.len())
    }

    /// Goes through the items, each as it is when its turn comes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + DoubleEndedIterator {
        (0..self.len()).map(|index| self.items.get(index))
    }

    /// Where the first item is mapped.
    pub fn as_ptr(&self) -> *mut T {
        self.items.as_ptr()
    }

    /// A copy in shared memory of its own.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub fn copy(&self) -> Result<RawArray<T>> {
        RawArray::from_slice(&self.to_vec())
    }

    /// A copy under a lock: its own, or one that is given.
    ///
    /// It is a copy because the lock's holder borrows the items, and handles without a lock go on
    /// writing these. [`Synchronized`](crate::Synchronized) puts these very ones under a lock.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub fn synchronized(&self, lock: Option<&Lock>) -> Result<Array<T>> {
        match lock {
            None => Array::from_slice(&self.to_vec()),
            Some(lock) => Array::with_lock(&self.to_vec(), lock),
        }
    }
}

impl<T: Integer> RawArray<T> {
    /// Adds `n` to the item at `index` in one step, wrapping around, and gives the item before.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn fetch_add(&self, index: usize, n: T) -> Result<T> {
        check_index(index, self.len())?;
        Ok(self.items.change(index, Change::Add(n)))
    }

    /// Replaces the item at `index` in one step if it is `current`; says whether it was.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn compare_exchange(&self, index: usize, current: T, new: T) -> Result<bool> {
        check_index(index, self.len())?;
        Ok(self.items.change(index, Change::Exchange(current, new)) == current)
    }
}

impl<T: Plain> Clone for RawArray<T> {
    fn clone(&self) -> RawArray<T> {
        RawArray { items: self.items.clone() }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for RawArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<RawArray({:?})>", self.to_vec())
    }
}

impl<T: Plain> AsFd for RawArray<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.items.as_fd()
    }
}

impl<T: Plain> Encode for RawArray<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.items.encode(encoder);
    }
}

impl<T: Plain> Decode for RawArray<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<RawArray<T>> {
        Ok(RawArray { items: Bare::decode(decoder)? })
    }
}
