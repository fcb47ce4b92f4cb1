//! A lock that one thread of one process holds at a time.

use super::owner_text;
use crate::region::{RawLock, RawLockGuard, Shared};
use crate::{Decode, Decoder, Encode, Encoder, Result};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A lock that one thread of one process holds at a time, and that a killed holder gives back.
///
/// A clone is the same lock, and so is what another process receives: as an argument, in a message, or
/// by being forked. Holding it is a matter of a [`LockGuard`]; the lock is free when that is dropped.
///
/// # If a process dies
/// If the holder is killed, the next acquirer, in any process, gets the lock, and its guard's
/// [`owner_died`](LockGuard::owner_died) is true. Sleepers are woken by the kernel; nothing has to look
/// after it. A thread that ends while it holds the lock (its guard was forgotten) counts as killed.
///
/// The kernel does this for the first 2,048 locks of a dying thread.
///
/// # If its memory is scribbled over
/// A lock whose memory a stray pointer has written to answers [`Error::Corrupt`](crate::Error::Corrupt):
/// at once where its kind was hit, within two seconds where it now names a holder that never was.
/// Two things are beyond telling: a word that happens to name a living thread makes others wait for
/// as long as that thread lives, and a lock scribbled over while it is held may take its holder along.
///
/// # Differences from Python
/// Python's `Lock` may be released by anybody and stays locked for ever when its holder is killed.
/// This one belongs to the thread that acquired it: acquiring it again there is
/// [`Error::Deadlock`](crate::Error::Deadlock) instead of a wait without end. What one process acquires
/// and another releases is a [`Semaphore`](crate::Semaphore) of one permit.
///
/// # Examples
/// ```
/// let lock = multiproc::Lock::new()?;
/// let guard = lock.acquire()?;
/// assert!(lock.locked());
/// drop(guard); // free again, for every process that shares it
/// assert!(!lock.locked());
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct Lock {
    shared: Shared<RawLock>,
}

impl Lock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    /// * [`Error::Os`](crate::Error::Os): the system refused memory (ENOMEM) or a descriptor (EMFILE).
    ///   For thousands of locks, put [`RawLock`]s into one [`Shared`]: one mapping, one descriptor.
    pub fn new() -> Result<Lock> {
        Ok(Lock { shared: Shared::new(RawLock::new())? })
    }

    /// Blocks until the calling thread holds the lock, and returns the guard that releases it.
    ///
    /// # Blocking
    /// Waits without limit; signals do not end the wait. [`acquire_timeout`](Self::acquire_timeout)
    /// bounds it, [`try_acquire`](Self::try_acquire) does not wait.
    ///
    /// # If a process dies
    /// If the holder is killed, one of those who wait gets the lock; see
    /// [`owner_died`](LockGuard::owner_died).
    ///
    /// # Errors
    /// * [`Error::Deadlock`](crate::Error::Deadlock): the calling thread holds the lock already.
    /// * [`Error::Corrupt`](crate::Error::Corrupt): the lock's memory was scribbled over.
    #[inline]
    pub fn acquire(&self) -> Result<LockGuard<'_>> {
        Ok(LockGuard { raw: self.shared.acquire()? })
    }

    /// Acquires the lock if nobody holds it; `None` if somebody does, the calling thread included.
    ///
    /// # Errors
    /// * [`Error::Corrupt`](crate::Error::Corrupt): the lock's memory was scribbled over.
    #[inline]
    pub fn try_acquire(&self) -> Result<Option<LockGuard<'_>>> {
        Ok(self.shared.try_acquire()?.map(|raw| LockGuard { raw }))
    }

    /// Blocks until the calling thread holds the lock; `None` if `timeout` passes first.
    ///
    /// # Blocking
    /// Waits for `timeout` at most, on the monotonic clock: setting the time of day changes nothing.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<LockGuard<'_>>> {
        Ok(self.shared.acquire_timeout(timeout)?.map(|raw| LockGuard { raw }))
    }

    /// Whether somebody holds the lock at this moment.
    pub fn locked(&self) -> bool {
        self.shared.locked()
    }

    /// The lock's place in shared memory.
    pub(crate) fn shared(&self) -> &Shared<RawLock> {
        &self.shared
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Lock(owner={})>", owner_text(&self.shared))
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

impl Encode for Lock {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.shared.encode(encoder);
    }
}

impl Decode for Lock {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Lock> {
        Ok(Lock { shared: Shared::decode(decoder)? })
    }
}

/// Holds a [`Lock`] until it is dropped.
///
/// It stays on the thread that acquired the lock. A copy made by `fork` releases nothing. Forgotten, it
/// keeps the lock held until its thread ends, which counts as a killed holder.
///
/// # Differences from Python
/// That somebody else releases the lock does not compile:
/// ```compile_fail,E0277
/// let lock = multiproc::Lock::new().unwrap();
/// let guard = lock.acquire().unwrap();
/// std::thread::scope(|scope| scope.spawn(move || drop(guard)).join().unwrap());
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a> {
    raw: RawLockGuard<'a>,
}

impl LockGuard<'_> {
    /// Whether the last holder was killed while it held the lock: check what the lock protects.
    ///
    /// # Examples
    /// ```
    /// let lock = multiproc::Lock::new()?;
    /// let clone = lock.clone();
    /// std::thread::spawn(move || std::mem::forget(clone.acquire())).join().unwrap();
    /// assert!(lock.acquire()?.owner_died());
    /// assert!(!lock.acquire()?.owner_died(), "told once");
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn owner_died(&self) -> bool {
        self.raw.owner_died()
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("owner_died", &self.owner_died()).finish()
    }
}
