//! Many values of one type under a lock.

use super::range::{check_index, check_range};
use crate::region::{Guarded, SliceGuard};
use crate::sync::owner_text;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Lock, Plain, Result};
use std::fmt;
use std::ops::{Deref, DerefMut, Range, RangeBounds};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Many values of one type in shared memory, under a lock of their own or one that was given.
///
/// A clone is the same array, and so is what another process receives. [`lock`](Self::lock) borrows the
/// items as a slice, for as long as several steps must be one; the other methods do so for a single one.
///
/// # If a process dies
/// If a process is killed while it has the items borrowed, they stay half changed, perhaps; the next
/// [`lock`](Self::lock), in any process, gets them, and its guard's
/// [`owner_died`](ArrayGuard::owner_died) is true.
///
/// # Differences from Python
/// The lock of its own is not recursive: two guards at once would be two exclusive borrows, so the
/// second is [`Error::Deadlock`]. [`Synchronized`](crate::Synchronized) has a recursive lock. An array of
/// bytes has no `value` that ends at the first NUL beside the `raw` whole: bytes are bytes.
///
/// # Examples
/// ```
/// use multiproc::Array;
///
/// let numbers = Array::from_slice(&[5, 3, 8, 1])?;
/// numbers.lock()?.sort();
/// numbers.set(0, -1)?;
/// assert_eq!(numbers.slice(..3)?, [-1, 3, 5]);
/// assert!(numbers.get(4).is_err());
/// # Ok::<(), multiproc::Error>(())
/// ```
pub struct Array<T: Plain> {
    items: Guarded<T>,
}

impl<T: Plain> Array<T> {
    /// Makes `len` items of zero bytes, with a lock of their own.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC, EFBIG) or a descriptor (EMFILE).
    pub fn zeroed(len: usize) -> Result<Array<T>> {
        Ok(Array { items: Guarded::zeroed(len, None)? })
    }

    /// Copies `items` into new shared memory, with a lock of their own.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub fn from_slice(items: &[T]) -> Result<Array<T>> {
        Ok(Array { items: Guarded::new(items, None)? })
    }

    /// Copies `items` into new shared memory, to be borrowed under `lock`.
    ///
    /// While the calling thread holds `lock`, borrowing the items is [`Error::Deadlock`].
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub fn with_lock(items: &[T], lock: &Lock) -> Result<Array<T>> {
        Ok(Array { items: Guarded::new(items, Some(lock.shared()))? })
    }

    /// How many items there are; it never changes.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Blocks until the calling thread holds the array's lock, and borrows the items.
    ///
    /// # Blocking
    /// Waits without limit; [`lock_timeout`](Self::lock_timeout) bounds it,
    /// [`try_lock`](Self::try_lock) does not wait.
    ///
    /// # Errors
    /// * [`Error::Deadlock`]: the calling thread holds the lock already.
    /// * [`Error::Corrupt`]: the lock's memory was scribbled over.
    #[inline]
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>> {
        self.lock_until(Deadline::NEVER)?.ok_or(Error::TimeoutError)
    }

    /// Borrows the items if nobody holds their lock; `None` if somebody does.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the lock's memory was scribbled over.
    #[inline]
    pub fn try_lock(&self) -> Result<Option<ArrayGuard<'_, T>>> {
        Ok(self.items.try_acquire()?.map(|items| ArrayGuard { items }))
    }

    /// Borrows the items; `None` if `timeout` passes first.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<ArrayGuard<'_, T>>> {
        self.lock_until(Deadline::after(timeout))
    }

    #[inline]
    fn lock_until(&self, deadline: Deadline) -> Result<Option<ArrayGuard<'_, T>>> {
        Ok(self.items.acquire_until(deadline)?.map(|items| ArrayGuard { items }))
    }

    /// Borrows the items for a method that cannot tell of a killed borrower: the next guard still does.
    fn quietly(&self) -> Result<ArrayGuard<'_, T>> {
        let guard = self.lock()?;
        guard.items.pass_the_news_on();
        Ok(guard)
    }

    /// Copies the item at `index` out, under the lock.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: there is no such item.
    /// * Those of [`lock`](Self::lock).
    pub fn get(&self, index: usize) -> Result<T> {
        check_index(index, self.len())?;
        Ok(self.quietly()?[index])
    }

    /// Replaces the item at `index`, under the lock.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn set(&self, index: usize, item: T) -> Result<()> {
        check_index(index, self.len())?;
        self.quietly()?[index] = item;
        Ok(())
    }

    /// Copies a range of items out, under the lock.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: they are not all inside.
    /// * Those of [`lock`](Self::lock).
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<Vec<T>> {
        let range = check_range(range, self.len())?;
        Ok(self.quietly()?[range].to_vec())
    }

    /// Copies `items` in from `start` on, under the lock.
    ///
    /// # Errors
    /// As [`slice`](Self::slice).
    pub fn set_slice(&self, start: usize, items: &[T]) -> Result<()> {
        let end = start.checked_add(items.len());
        let range = check_range(start..end.unwrap_or(usize::MAX), self.len())?;
        self.quietly()?[range].copy_from_slice(items);
        Ok(())
    }

    /// Replaces all items, under the lock. If the last borrower was killed, that is mended by it.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: there are not as many in `items`.
    /// * Those of [`lock`](Self::lock).
    pub fn copy_from_slice(&self, items: &[T]) -> Result<()> {
        if items.len() != self.len() {
            let (given, len) = (items.len(), self.len());
            return Err(Error::invalid(format!("{given} items for an array of {len}")));
        }
        self.lock()?.copy_from_slice(items);
        Ok(())
    }

    /// Copies all items out, as they are at one moment.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn to_vec(&self) -> Result<Vec<T>> {
        self.slice(..)
    }

    /// Goes through the items, taking the lock anew for each; [`to_vec`](Self::to_vec) and
    /// [`lock`](Self::lock) show them as they are at one moment.
    pub fn iter(&self) -> ArrayIter<'_, T> {
        ArrayIter { array: self, left: 0..self.len() }
    }
}

impl<T: Plain> Clone for Array<T> {
    fn clone(&self) -> Array<T> {
        Array { items: self.items.clone() }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Ok(Some(guard)) => {
                guard.items.pass_the_news_on();
                write!(f, "<Array({:?})>", &*guard)
            }
            Ok(None) => {
                let owner = owner_text(self.items.lock());
                write!(f, "<Array(len={}, owner={owner})>", self.len())
            }
            Err(error) => write!(f, "<Array({error})>"),
        }
    }
}

impl<T: Plain> AsFd for Array<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.items.as_fd()
    }
}

impl<T: Plain> Encode for Array<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.items.encode(encoder);
    }
}

impl<T: Plain> Decode for Array<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Array<T>> {
        Ok(Array { items: Guarded::decode(decoder)? })
    }
}

impl<'a, T: Plain> IntoIterator for &'a Array<T> {
    type Item = Result<T>;
    type IntoIter = ArrayIter<'a, T>;

    fn into_iter(self) -> ArrayIter<'a, T> {
        self.iter()
    }
}

/// Goes through the items of an [`Array`].
#[derive(Debug)]
pub struct ArrayIter<'a, T: Plain> {
    array: &'a Array<T>,
    left: Range<usize>,
}

impl<T: Plain> Iterator for ArrayIter<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        self.left.next().map(|index| self.array.get(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<T: Plain> DoubleEndedIterator for ArrayIter<'_, T> {
    fn next_back(&mut self) -> Option<Result<T>> {
        self.left.next_back().map(|index| self.array.get(index))
    }
}

impl<T: Plain> ExactSizeIterator for ArrayIter<'_, T> {}

/// Borrows the items of an [`Array`] and holds its lock until it is dropped.
///
/// It stays on the thread that acquired the lock.
///
/// # Panics
/// Used in a child that was forked meanwhile, it panics: only the parent holds the lock.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ArrayGuard<'a, T: Plain> {
    items: SliceGuard<'a, T>,
}

impl<T: Plain> ArrayGuard<'_, T> {
    /// Whether the last borrower was killed: the items may be half changed.
    pub fn owner_died(&self) -> bool {
        self.items.owner_died()
    }
}

impl<T: Plain> Deref for ArrayGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T: Plain> DerefMut for ArrayGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
