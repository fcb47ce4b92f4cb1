//! The lock under every other: a robust mutex in shared memory.

use super::Share;
use crate::sys::process;
use crate::sys::pthread::{Acquired, Mutex};
use crate::sys::time::Deadline;
use crate::{Error, Result, sys};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A lock for a place in a [`Shared`](crate::Shared) value; [`Lock`](crate::Lock) is one with a place
/// of its own.
///
/// # If a process dies
/// If the holder is killed, the next acquirer, in any process, gets the lock, and its guard's
/// [`owner_died`](RawLockGuard::owner_died) is true.
///
/// # Examples
/// ```
/// use multiproc::{RawLock, Shared};
///
/// // Ten thousand locks cost one mapping and one descriptor.
/// let locks = Shared::new([const { RawLock::new() }; 10_000])?;
/// let guard = locks[42].acquire()?;
/// assert!(locks[42].locked() && !locks[43].locked());
/// # drop(guard);
/// # Ok::<(), multiproc::Error>(())
/// ```
#[repr(C)]
pub struct RawLock {
    mutex: Mutex,
    /// The pid of the holder, 0 while nobody holds the lock. Only the holder writes it; a dead
    /// holder's stays until the next acquirer replaces it.
    pid: AtomicU32,
    /// The thread of the holder, likewise.
    tid: AtomicU32,
    /// 1 if somebody who only looked was told of a holder's death in the next acquirer's place.
    /// Written under the lock.
    abandoned: AtomicU32,
}

// SAFETY: `repr(C)`; the words beside the mutex are atomics; the mutex is used by calls of the pthread
// library alone, which look at its bytes as at those of any process-shared mutex.
unsafe impl Share for RawLock {
    fn settle(&self) -> Result<()> {
        // SAFETY: `settle` runs before any other thread or process can see the lock.
        unsafe { self.mutex.init() }.map_err(Error::os("pthread_mutex_init"))
    }

    fn is_held(&self) -> bool {
        // Relaxed: asked when no guard can be alive but a forgotten one, by the last owner.
        self.pid.load(Ordering::Relaxed) == process::id()
    }
}

impl Default for RawLock {
    fn default() -> RawLock {
        RawLock::new()
    }
}

impl RawLock {
    /// A lock that nobody holds. It can be used once it is in a [`Shared`](crate::Shared).
    pub const fn new() -> RawLock {
        RawLock {
            mutex: Mutex::uninit(),
            pid: AtomicU32::new(0),
            tid: AtomicU32::new(0),
            abandoned: AtomicU32::new(0),
        }
    }

    /// Blocks until the calling thread holds the lock, and returns the guard that releases it.
    ///
    /// # Errors
    /// * [`Error::Deadlock`]: the calling thread holds it already.
    /// * [`Error::Corrupt`]: its memory was scribbled over.
    pub fn acquire(&self) -> Result<RawLockGuard<'_>> {
        self.acquire_until(Deadline::NEVER)?.ok_or(Error::TimeoutError)
    }

    /// Acquires the lock if nobody holds it; `None` if somebody does, the calling thread included.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: its memory was scribbled over.
    pub fn try_acquire(&self) -> Result<Option<RawLockGuard<'_>>> {
        match self.mutex.try_lock() {
            Err(error) if error.raw_os_error() == Some(sys::EDEADLK) => Ok(None),
            answer => self.sort(answer),
        }
    }

    /// Blocks until the calling thread holds the lock or the time is over, which gives `None`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<RawLockGuard<'_>>> {
        self.acquire_until(Deadline::after(timeout))
    }

    pub(crate) fn acquire_until(&self, deadline: Deadline) -> Result<Option<RawLockGuard<'_>>> {
        // Free is the common case, and it needs no look at the clock.
        match self.mutex.try_lock() {
            Ok(Acquired::No) => {}
            Err(error) if error.raw_os_error() == Some(sys::EDEADLK) => {}
            answer => return self.sort(answer),
        }
        self.sort(self.mutex.lock(deadline))
    }

    /// Sorts every answer of an acquiring call, for the plain, try and timed form alike.
    fn sort(&self, answer: io::Result<Acquired>) -> Result<Option<RawLockGuard<'_>>> {
        let mut owner_died = match answer {
            Ok(Acquired::No) => return Ok(None),
            Ok(acquired) => acquired == Acquired::OwnerDied,
            Err(error) => {
                return Err(match error.raw_os_error() {
                    Some(sys::EDEADLK) => Error::Deadlock,
                    Some(sys::EINVAL | sys::ENOTRECOVERABLE) => Error::corrupt("a lock"),
                    _ => Error::os("pthread_mutex_lock")(error),
                });
            }
        };
        // Relaxed: for the eyes of Debug and `is_held`; the mutex orders everything else.
        self.pid.store(process::id(), Ordering::Relaxed);
        self.tid.store(process::thread_id(), Ordering::Relaxed);
        if self.abandoned.load(Ordering::Relaxed) != 0 {
            self.abandoned.store(0, Ordering::Relaxed);
            owner_died = true;
        }
        Ok(Some(RawLockGuard { lock: self, owner_died, not_send: PhantomData }))
    }

    /// Whether somebody holds the lock at this moment; a holder that was killed holds it no more.
    pub fn locked(&self) -> bool {
        match self.try_acquire() {
            Ok(Some(guard)) => {
                // The death that this look was told of is the next acquirer's to know.
                self.abandoned.store(guard.owner_died.into(), Ordering::Relaxed);
                false
            }
            answer => matches!(answer, Ok(None)),
        }
    }

    /// The pid of who holds the lock, as last seen.
    pub(crate) fn holder(&self) -> Option<(u32, u32)> {
        match self.pid.load(Ordering::Relaxed) {
            0 => None,
            pid => Some((pid, self.tid.load(Ordering::Relaxed))),
        }
    }

    fn release(&self) {
        // A guard that was copied by fork is not the holder's: it must leave everything as it is.
        if self.pid.load(Ordering::Relaxed) == process::id() {
            self.pid.store(0, Ordering::Relaxed);
            // The answer would be EPERM from a stranger, which the line above excludes.
            let _ = self.mutex.unlock();
        }
    }
}

impl fmt::Debug for RawLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holder = self.holder().map(|(pid, _)| pid);
        f.debug_struct("RawLock").field("holder", &holder).finish()
    }
}

/// Holds a [`RawLock`] until it is dropped.
///
/// It stays on the thread that acquired the lock; a copy made by `fork` releases nothing.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct RawLockGuard<'a> {
    lock: &'a RawLock,
    owner_died: bool,
    /// A robust mutex belongs to the thread that locked it.
    not_send: PhantomData<*const ()>,
}

impl RawLockGuard<'_> {
    /// Whether the last holder was killed while it held the lock: check what the lock protects.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }
}

impl Drop for RawLockGuard<'_> {
    fn drop(&mut self) {
        self.lock.release();
    }
}
