//! Locks.

use super::mutex::{Mutex, SharedMutex, lock_calls};
use crate::manager::{Call, Manager, Ticket, Waiting, Waits};
use crate::{Error, Result};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

/// A lock as it is in a manager's server; a [`LockProxy`] stands for it elsewhere.
#[derive(Debug)]
pub struct Lock {
    lock: SharedMutex,
}

impl Lock {
    /// A lock that nobody holds.
    pub fn new() -> Lock {
        Lock { lock: Mutex::plain() }
    }

    pub(super) fn mutex(&self) -> SharedMutex {
        Rc::clone(&self.lock)
    }
}

impl Default for Lock {
    fn default() -> Lock {
        Lock::new()
    }
}

lock_calls! { Lock }

impl Waiting for Lock {
    fn call_ended(&mut self, ticket: Ticket, timed_out: bool, waits: &mut Waits) {
        self.lock.borrow_mut().withdraw(ticket, timed_out, waits);
    }

    fn holder_ended(&mut self, session: u64, waits: &mut Waits) {
        self.lock.borrow_mut().session_ended(session, waits);
    }
}

crate::managed! {
    /// A lock in a manager, as other processes use it.
    ///
    /// # If a process dies
    /// If the holder dies, the next one acquires the lock, and its guard's
    /// [`owner_died`](ProxyGuard::owner_died) is true.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let lock = manager.lock()?;
    /// let guard = lock.acquire()?;
    /// assert!(lock.try_acquire()?.is_none());
    /// drop(guard);
    /// assert!(!lock.locked()?);
    /// # Ok(())
    /// # }
    /// ```
    pub impl Lock as LockProxy = "Lock" [waits] {
        #[doc(hidden)]
        fn acquire_within(&mut self, thread: u64, timeout: Option<Duration>) waits -> Option<bool>;
        #[doc(hidden)]
        fn release_now(&mut self, thread: u64) waits;
        /// Whether somebody holds the lock.
        fn locked(&self) -> bool;
    }
}

/// A lock that its holder may acquire again, as it is in a manager's server; an [`RLockProxy`] stands for
/// it elsewhere.
#[derive(Debug)]
pub struct RLock {
    lock: SharedMutex,
}

impl RLock {
    /// A lock that nobody holds.
    pub fn new() -> RLock {
        RLock { lock: Mutex::recursive() }
    }

    pub(super) fn mutex(&self) -> SharedMutex {
        Rc::clone(&self.lock)
    }
}

impl Default for RLock {
    fn default() -> RLock {
        RLock::new()
    }
}

lock_calls! { RLock }

impl Waiting for RLock {
    fn call_ended(&mut self, ticket: Ticket, timed_out: bool, waits: &mut Waits) {
        self.lock.borrow_mut().withdraw(ticket, timed_out, waits);
    }

    fn holder_ended(&mut self, session: u64, waits: &mut Waits) {
        self.lock.borrow_mut().session_ended(session, waits);
    }
}

crate::managed! {
    /// A lock in a manager that its holder, one thread of one process, may acquire again.
    ///
    /// # If a process dies
    /// As for [`LockProxy`].
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let lock = manager.rlock()?;
    /// let (outer, inner) = (lock.acquire()?, lock.acquire()?);
    /// drop(inner);
    /// assert!(lock.locked()?);
    /// drop(outer);
    /// assert!(!lock.locked()?);
    /// # Ok(())
    /// # }
    /// ```
    pub impl RLock as RLockProxy = "RLock" [waits] {
        #[doc(hidden)]
        fn acquire_within(&mut self, thread: u64, timeout: Option<Duration>) waits -> Option<bool>;
        #[doc(hidden)]
        fn release_now(&mut self, thread: u64) waits;
        /// Whether somebody holds the lock.
        fn locked(&self) -> bool;
    }
}

/// Holds a manager's lock until it is dropped; the release is sent then, and not waited for.
///
/// [`std::mem::forget`] keeps the lock held, for another thread or process to release.
#[must_use = "the lock is released at once"]
pub struct ProxyGuard<'a> {
    release: &'a dyn Release,
    owner_died: bool,
    /// Where the holder is a thread, the guard is that thread's.
    thread: PhantomData<*const ()>,
}

/// A lock that a guard releases.
pub(super) trait Release {
    fn release_soon(&self);
}

impl<'a> ProxyGuard<'a> {
    pub(super) fn new(release: &'a dyn Release, owner_died: bool) -> ProxyGuard<'a> {
        ProxyGuard { release, owner_died, thread: PhantomData }
    }

    /// Whether the last holder died while it held the lock: what it protects may be half done.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }
}

impl Drop for ProxyGuard<'_> {
    fn drop(&mut self) {
        self.release.release_soon();
    }
}

impl fmt::Debug for ProxyGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyGuard").field("owner_died", &self.owner_died).finish_non_exhaustive()
    }
}

/// The public methods of a lock's proxy, over those that it exports.
macro_rules! lock_methods {
    ($proxy:ident) => {
        impl super::lock::Release for $proxy {
            fn release_soon(&self) {
                let _ = self.post(|lock| lock.release_now(super::thread_number()));
            }
        }

        impl $proxy {
            /// Blocks until this thread holds the lock, and returns the guard that releases it.
            ///
            /// # Blocking
            /// Waits without limit, in the server: its other clients are not concerned.
            ///
            /// # Errors
            /// * [`Error::Disconnected`]: the server is gone.
            pub fn acquire(&self) -> Result<ProxyGuard<'_>> {
                let acquired = self.acquire_within(super::thread_number(), None)?;
                acquired.map(|died| ProxyGuard::new(self, died)).ok_or(Error::TimeoutError)
            }

            /// Acquires the lock if that needs no waiting.
            ///
            /// # Errors
            /// As [`acquire`](Self::acquire).
            pub fn try_acquire(&self) -> Result<Option<ProxyGuard<'_>>> {
                self.acquire_timeout(Duration::ZERO)
            }

            /// Acquires the lock, and waits no longer than `timeout`: then it gives `None`.
            ///
            /// # Errors
            /// As [`acquire`](Self::acquire).
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<ProxyGuard<'_>>> {
                let acquired = self.acquire_within(super::thread_number(), Some(timeout))?;
                Ok(acquired.map(|died| ProxyGuard::new(self, died)))
            }

            /// Releases the lock whose guard was forgotten.
            ///
            /// # Errors
            /// * [`Error::InvalidArgument`]: nobody holds it (or, of an `RLock`, somebody else).
            /// * [`Error::Disconnected`]: the server is gone.
            pub fn release(&self) -> Result<()> {
                self.release_now(super::thread_number())
            }
        }
    };
}

pub(super) use lock_methods;

lock_methods! { LockProxy }
lock_methods! { RLockProxy }

impl Manager {
    /// Makes a lock.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn lock(&self) -> Result<LockProxy> {
        self.create(Lock::new, ())
    }

    /// Makes a lock that its holder may acquire again.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn rlock(&self) -> Result<RLockProxy> {
        self.create(RLock::new, ())
    }
}
