//! Raw values and arrays under a recursive lock.

use crate::{Decode, Decoder, Encode, Encoder, RLock, RLockGuard, Result};
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

/// A [`RawValue`](crate::RawValue) or [`RawArray`](crate::RawArray) and the [`RLock`] that all who use it
/// agree to hold.
///
/// [`Value`](crate::Value) and [`Array`](crate::Array) lend what they hold, so their lock cannot be
/// acquired twice. Here the holder of the lock may acquire it again, as deep as it likes: what its
/// guards give is the raw object, which is read and written by copies. It is the same object, not
/// another one: who has it without the lock goes on as before.
///
/// A clone is the same object under the same lock, and so is what another process receives.
///
/// # If a process dies
/// If the holder is killed, the next acquirer, in any process, gets the lock, and its guard's
/// [`owner_died`](SynchronizedGuard::owner_died) is true: the object may be half changed.
///
/// # Differences from Python
/// The object's own methods are behind the guard, so that nobody forgets to hold the lock around
/// `x.set(x.get() + 1)`. Wrapping what is wrapped already does not compile.
///
/// # Examples
/// ```
/// use multiproc::{RLock, RawArray, RawValue, Synchronized};
///
/// let lock = RLock::new()?;
/// let sum = Synchronized::with_lock(RawValue::new(0_i64)?, &lock);
/// let parts = Synchronized::with_lock(RawArray::from_slice(&[1_i64, 2, 3])?, &lock);
/// let parts = parts.acquire()?;
/// for part in parts.iter() {
///     let sum = sum.acquire()?; // the lock is held already, and that is well
///     sum.set(sum.get() + part);
/// }
/// assert_eq!(sum.get_obj().get(), 6);
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct Synchronized<O> {
    object: O,
    lock: RLock,
}

impl<O> Synchronized<O> {
    /// Puts `object` under a new lock of its own.
    ///
    /// # Errors
    /// As [`RLock::new`].
    #[doc(alias = "synchronized")]
    pub fn new(object: O) -> Result<Synchronized<O>> {
        Ok(Synchronized { object, lock: RLock::new()? })
    }

    /// Puts `object` under `lock`, which may be that of other objects too.
    pub fn with_lock(object: O, lock: &RLock) -> Synchronized<O> {
        Synchronized { object, lock: lock.clone() }
    }

    /// The object, without the lock.
    pub fn get_obj(&self) -> &O {
        &self.object
    }

    /// The lock.
    pub fn get_lock(&self) -> &RLock {
        &self.lock
    }

    /// Blocks until the calling thread holds the lock, perhaps once more, and gives the object.
    ///
    /// # Blocking
    /// Waits without limit; [`acquire_timeout`](Self::acquire_timeout) bounds it,
    /// [`try_acquire`](Self::try_acquire) does not wait.
    ///
    /// # Errors
    /// As [`RLock::acquire`].
    pub fn acquire(&self) -> Result<SynchronizedGuard<'_, O>> {
        Ok(self.guard(self.lock.acquire()?))
    }

    /// Acquires the lock if nobody else holds it, and gives the object; `None` if somebody does.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<Option<SynchronizedGuard<'_, O>>> {
        Ok(self.lock.try_acquire()?.map(|lock| self.guard(lock)))
    }

    /// Blocks until the calling thread holds the lock, and gives the object; `None` if `timeout` passes
    /// first.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<SynchronizedGuard<'_, O>>> {
        Ok(self.lock.acquire_timeout(timeout)?.map(|lock| self.guard(lock)))
    }

    fn guard<'a>(&'a self, lock: RLockGuard<'a>) -> SynchronizedGuard<'a, O> {
        SynchronizedGuard { object: &self.object, lock }
    }
}

impl<O: fmt::Debug> fmt::Debug for Synchronized<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Synchronized({:?}, {:?})>", self.object, self.lock)
    }
}

impl<O: Encode> Encode for Synchronized<O> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.object.encode(encoder);
        self.lock.encode(encoder);
    }
}

impl<O: Decode> Decode for Synchronized<O> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Synchronized<O>> {
        Ok(Synchronized { object: O::decode(decoder)?, lock: RLock::decode(decoder)? })
    }
}

/// Gives the object of a [`Synchronized`] and holds its lock until it is dropped.
///
/// It stays on the thread that acquired the lock. A copy made by `fork` releases nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct SynchronizedGuard<'a, O> {
    object: &'a O,
    lock: RLockGuard<'a>,
}

impl<O> SynchronizedGuard<'_, O> {
    /// Whether the last holder was killed: the object may be half changed.
    pub fn owner_died(&self) -> bool {
        self.lock.owner_died()
    }
}

impl<O> Deref for SynchronizedGuard<'_, O> {
    type Target = O;

    fn deref(&self) -> &O {
        self.object
    }
}

impl<O: fmt::Debug> fmt::Debug for SynchronizedGuard<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.fmt(f)
    }
}
