//! One value under a lock.

use crate::region::{Guarded, SliceGuard};
use crate::sync::owner_text;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Lock, Plain, Result};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::slice;
use std::time::Duration;

/// One value in shared memory, under a lock of its own or one that was given.
///
/// A clone is the same value, and so is what another process receives. [`lock`](Self::lock) borrows it
/// for as long as several steps must be one; [`get`](Self::get), [`set`](Self::set) and
/// [`update`](Self::update) do so for a single one.
///
/// # If a process dies
/// If a process is killed while it has the value borrowed, the value stays half changed, perhaps; the
/// next [`lock`](Self::lock), in any process, gets it, and its guard's
/// [`owner_died`](ValueGuard::owner_died) is true.
///
/// # Differences from Python
/// `v.value += 1` is two operations there and loses updates unless `get_lock()` is held around it; here
/// it is `*v.lock()? += 1`, which cannot. [`lock`](Self::lock) is `acquire`, the guard is `get_obj()`, and
/// dropping it is `release`. The lock of its own is not recursive: two guards at once would be two
/// exclusive borrows of one value, so the second is [`Error::Deadlock`].
/// [`Synchronized`](crate::Synchronized) has a recursive lock, and a `get_lock`.
///
/// # Examples
/// ```
/// use multiproc::Value;
///
/// let number = Value::new(20.0f64)?;
/// *number.lock()? += 1.5;
/// number.update(|n| *n *= 2.0)?;
/// assert_eq!(number.get()?, 43.0);
/// # Ok::<(), multiproc::Error>(())
/// ```
pub struct Value<T: Plain> {
    /// One item.
    items: Guarded<T>,
}

impl<T: Plain> Value<T> {
    /// Puts `value` into new shared memory, with a lock of its own.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or a descriptor (EMFILE).
    pub fn new(value: T) -> Result<Value<T>> {
        Ok(Value { items: Guarded::new(slice::from_ref(&value), None)? })
    }

    /// Puts `value` into new shared memory, to be borrowed under `lock`: several values under one lock
    /// change one at a time.
    ///
    /// While the calling thread holds `lock`, itself or by another value's guard, borrowing this one is
    /// [`Error::Deadlock`]. That is what a plain [`Lock`] is asked for: under one that its holder may
    /// acquire again, a second guard would borrow the same value exclusively a second time.
    /// [`Synchronized`](crate::Synchronized) takes such a one.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_lock(value: T, lock: &Lock) -> Result<Value<T>> {
        Ok(Value { items: Guarded::new(slice::from_ref(&value), Some(lock.shared()))? })
    }

    /// Blocks until the calling thread holds the value's lock, and borrows the value.
    ///
    /// # Blocking
    /// Waits without limit; [`lock_timeout`](Self::lock_timeout) bounds it,
    /// [`try_lock`](Self::try_lock) does not wait.
    ///
    /// # Errors
    /// * [`Error::Deadlock`]: the calling thread holds the lock already.
    /// * [`Error::Corrupt`]: the lock's memory was scribbled over.
    #[inline]
    pub fn lock(&self) -> Result<ValueGuard<'_, T>> {
        self.lock_until(Deadline::NEVER)?.ok_or(Error::TimeoutError)
    }

    /// Borrows the value if nobody holds its lock; `None` if somebody does.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the lock's memory was scribbled over.
    #[inline]
    pub fn try_lock(&self) -> Result<Option<ValueGuard<'_, T>>> {
        Ok(self.items.try_acquire()?.map(|items| ValueGuard { items }))
    }

    /// Borrows the value; `None` if `timeout` passes first.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<ValueGuard<'_, T>>> {
        self.lock_until(Deadline::after(timeout))
    }

    #[inline]
    fn lock_until(&self, deadline: Deadline) -> Result<Option<ValueGuard<'_, T>>> {
        Ok(self.items.acquire_until(deadline)?.map(|items| ValueGuard { items }))
    }

    /// Copies the value out, under its lock.
    ///
    /// If the last borrower was killed, this does not tell; the next [`lock`](Self::lock) still does.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn get(&self) -> Result<T> {
        let guard = self.lock()?;
        guard.items.pass_the_news_on();
        Ok(*guard)
    }

    /// Replaces the value, under its lock. If the last borrower was killed, that is mended by it.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn set(&self, value: T) -> Result<()> {
        *self.lock()? = value;
        Ok(())
    }

    /// Changes the value by `change`, under its lock, and returns what that returns.
    ///
    /// If the last borrower was killed, this does not tell; the next [`lock`](Self::lock) still does.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        let mut guard = self.lock()?;
        guard.items.pass_the_news_on();
        Ok(change(&mut guard))
    }
}

impl<T: Plain> Clone for Value<T> {
    fn clone(&self) -> Value<T> {
        Value { items: self.items.clone() }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Ok(Some(guard)) => {
                guard.items.pass_the_news_on();
                write!(f, "<Value({:?})>", *guard)
            }
            Ok(None) => write!(f, "<Value(owner={})>", owner_text(self.items.lock())),
            Err(error) => write!(f, "<Value({error})>"),
        }
    }
}

impl<T: Plain> AsFd for Value<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.items.as_fd()
    }
}

impl<T: Plain> Encode for Value<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.items.encode(encoder);
    }
}

impl<T: Plain> Decode for Value<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Value<T>> {
        let items = Guarded::decode(decoder)?;
        match items.len() {
            1 => Ok(Value { items }),
            len => Err(Error::corrupt(format!("a value of {len} items"))),
        }
    }
}

/// Borrows a [`Value`] and holds its lock until it is dropped.
///
/// It stays on the thread that acquired the lock.
///
/// # Panics
/// Used in a child that was forked meanwhile, it panics: only the parent holds the lock.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ValueGuard<'a, T: Plain> {
    items: SliceGuard<'a, T>,
}

impl<T: Plain> ValueGuard<'_, T> {
    /// Whether the last borrower was killed: the value may be half changed.
    pub fn owner_died(&self) -> bool {
        self.items.owner_died()
    }
}

impl<T: Plain> Deref for ValueGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.items[0]
    }
}

impl<T: Plain> DerefMut for ValueGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.items[0]
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for ValueGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
