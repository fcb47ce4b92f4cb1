//! The lock under every other: a robust mutex in shared memory.

use super::Share;
use crate::sys::futex::Expected;
use crate::sys::pthread::{Acquired, Mutex};
use crate::sys::time::Deadline;
use crate::sys::{process, thread};
use crate::{Error, Result, sys};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
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
    /// Who holds the lock: the pid above, the thread id below; 0 while nobody does. Only the holder
    /// writes it, and a dead holder's stays until the next acquirer replaces it: the mutex knows who
    /// really holds it, this tells the eyes of people and a scribbled mutex from a held one.
    holder: AtomicU64,
    /// 1 if somebody who only looked was told of a holder's death in the next acquirer's place.
    /// Written under the lock.
    untold: AtomicU32,
    /// Through which of its process's mappings the holder acquired the lock, as [`RawLock::place`] says:
    /// the kernel knows the lock by its address there. Written by the holder alone; 0 in a lock that was
    /// never in shared memory.
    place: AtomicU32,
}

// SAFETY: `repr(C)`; the words beside the mutex are atomics; the mutex is used by calls of the pthread
// library alone, which look at its bytes as at those of any process-shared mutex.
unsafe impl Share for RawLock {
    fn settle(&self) -> Result<()> {
        self.place.store(self.place(), Ordering::Relaxed);
        // SAFETY: `settle` runs before any other thread or process can see the lock.
        unsafe { self.mutex.init() }.map_err(Error::os("pthread_mutex_init"))
    }

    fn is_held(&self) -> bool {
        self.place.load(Ordering::Relaxed) == self.place()
            && self.mutex.state().holder().is_some_and(thread::is_own)
    }
}

/// How many locks a thread may hold at a time: the kernel hands on no more than 2,048 of a thread
/// that dies, and some may be mutexes of somebody else's.
const MOST: u32 = 2_000;

thread_local! {
    /// The process, and how many locks this thread of it holds; a forked child's begins at none.
    static HELD: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// How many locks this thread holds.
#[inline]
fn held(pid: u32) -> u32 {
    let (of, count) = HELD.get();
    if of == pid { count } else { 0 }
}

/// How long a contended wait lasts before it looks whether the holder it waits for exists.
const SLICE: Duration = Duration::from_secs(1);

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
            holder: AtomicU64::new(0),
            untold: AtomicU32::new(0),
            place: AtomicU32::new(0),
        }
    }

    /// Blocks until the calling thread holds the lock, and returns the guard that releases it.
    ///
    /// # Errors
    /// * [`Error::Deadlock`]: the calling thread holds it already.
    /// * [`Error::Corrupt`]: its memory was scribbled over.
    /// * [`Error::InvalidArgument`]: it is not in a [`Shared`](crate::Shared) yet.
    #[inline]
    pub fn acquire(&self) -> Result<RawLockGuard<'_>> {
        match self.try_mutex() {
            Ok(Acquired::Clean) => Ok(self.guard(false)),
            answer => self.acquire_at_last(answer),
        }
    }

    /// Acquires the lock if nobody holds it; `None` if somebody does, the calling thread included.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), without the first.
    #[inline]
    pub fn try_acquire(&self) -> Result<Option<RawLockGuard<'_>>> {
        match self.try_mutex() {
            Ok(Acquired::Clean) => Ok(Some(self.guard(false))),
            Ok(Acquired::No) => Ok(None),
            answer => match self.sort(answer) {
                Err(Error::Deadlock) => Ok(None),
                answer => answer,
            },
        }
    }

    /// Blocks until the calling thread holds the lock or the time is over, which gives `None`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<RawLockGuard<'_>>> {
        match self.try_mutex() {
            // Free is the common case, and it needs no look at the clock.
            Ok(Acquired::Clean) => Ok(Some(self.guard(false))),
            answer => self.acquire_slowly(answer, Deadline::after(timeout)),
        }
    }

    #[inline]
    pub(crate) fn acquire_until(&self, deadline: Deadline) -> Result<Option<RawLockGuard<'_>>> {
        match self.try_mutex() {
            Ok(Acquired::Clean) => Ok(Some(self.guard(false))),
            answer => self.acquire_slowly(answer, deadline),
        }
    }

    /// EINVAL stands for a mutex that must not be touched.
    #[inline]
    fn try_mutex(&self) -> io::Result<Acquired> {
        if !self.mutex.is_intact() {
            return Err(io::Error::from_raw_os_error(sys::EINVAL));
        }
        if held(process::id()) >= MOST {
            return Err(io::Error::from_raw_os_error(sys::EAGAIN));
        }
        self.mutex.try_lock()
    }

    #[cold]
    fn acquire_at_last(&self, answer: io::Result<Acquired>) -> Result<RawLockGuard<'_>> {
        self.acquire_slowly(answer, Deadline::NEVER)?.ok_or(Error::TimeoutError)
    }

    /// Goes on after a first try that was not answered by the lock.
    #[cold]
    fn acquire_slowly(
        &self,
        mut answer: io::Result<Acquired>,
        deadline: Deadline,
    ) -> Result<Option<RawLockGuard<'_>>> {
        while matches!(answer, Ok(Acquired::No)) && !deadline.has_passed() {
            answer = self.mutex.lock(deadline.min(Deadline::after(SLICE)));
            if matches!(answer, Ok(Acquired::No)) {
                self.check_holder()?;
            }
        }
        self.sort(answer)
    }

    /// Tells a lock that is held for long from one whose word was scribbled over.
    fn check_holder(&self) -> Result<()> {
        if !self.mutex.is_intact() {
            return Err(self.not_intact());
        }
        let state = self.mutex.state();
        // A word that is not free and names nobody is none that the libc or the kernel writes.
        let tid = state.holder().unwrap_or(0);
        // Who acquired the lock through this code left its name: it holds the lock indeed, perhaps
        // from a pid namespace that this process cannot see into.
        let named = self.holder.load(Ordering::Relaxed) as u32;
        if state.is_free() || (tid != 0 && tid == named) {
            return Ok(());
        }
        // The kernel takes the id of a thread that ends out of the word before the id can be found
        // missing, so a word that still has it was never that thread's.
        if thread::exists(tid) || self.mutex.state() != state {
            return Ok(());
        }
        Err(Error::corrupt("a lock held by a thread that never was"))
    }

    fn not_intact(&self) -> Error {
        if self.mutex.is_uninit() && self.place.load(Ordering::Relaxed) == 0 {
            Error::invalid("a raw lock that is not in shared memory yet")
        } else {
            Error::corrupt("a lock")
        }
    }

    /// Sorts every answer of an acquiring call, for the plain, try and timed form alike.
    #[cold]
    fn sort(&self, answer: io::Result<Acquired>) -> Result<Option<RawLockGuard<'_>>> {
        match answer {
            Ok(Acquired::No) => Ok(None),
            Ok(acquired) => Ok(Some(self.guard(acquired == Acquired::OwnerDied))),
            Err(error) => Err(match error.raw_os_error() {
                Some(sys::EDEADLK) => Error::Deadlock,
                Some(sys::EINVAL) => self.not_intact(),
                Some(sys::ENOTRECOVERABLE) => Error::corrupt("a lock"),
                _ => Error::os("pthread_mutex_lock")(error),
            }),
        }
    }

    /// Tells this mapping of the lock from the others of its process.
    #[inline]
    fn place(&self) -> u32 {
        const PAGE: usize = 4096;
        (ptr::from_ref(self).addr() / PAGE) as u32
    }

    /// The guard of a lock that this thread has just acquired.
    #[inline]
    fn guard(&self, mut owner_died: bool) -> RawLockGuard<'_> {
        let pid = process::id();
        HELD.set((pid, held(pid) + 1));
        // Relaxed, here and below: the mutex orders what concerns anybody else.
        let tid = self.mutex.state().holder().unwrap_or(0);
        self.holder.store(u64::from(pid) << 32 | u64::from(tid), Ordering::Relaxed);
        self.place.store(self.place(), Ordering::Relaxed);
        if self.untold.load(Ordering::Relaxed) != 0 {
            self.untold.store(0, Ordering::Relaxed);
            owner_died = true;
        }
        RawLockGuard { lock: self, pid, owner_died, not_send: PhantomData }
    }

    /// Whether the calling thread holds the lock.
    #[inline]
    pub(crate) fn is_mine(&self) -> bool {
        self.mutex.state().holder() == Some(process::thread_id())
    }

    /// The guard once more that was forgotten: for those who keep the lock while no guard exists. The
    /// calling thread, of process `pid`, holds the lock.
    #[inline]
    pub(crate) fn resume(&self, pid: u32) -> RawLockGuard<'_> {
        RawLockGuard { lock: self, pid, owner_died: false, not_send: PhantomData }
    }

    /// Releases the lock, which the calling thread, of process `pid`, holds without a guard.
    #[inline]
    pub(crate) fn release(&self, pid: u32) {
        HELD.set((pid, held(pid).saturating_sub(1)));
        self.holder.store(0, Ordering::Relaxed);
        // Killed before the mutex is free: the kernel frees it, and the next acquirer is told.
        // The only refusal is EPERM, of a mutex whose word was scribbled over meanwhile.
        let _ = self.mutex.unlock();
    }

    /// The process that acquired the lock last and has not released it: a killed holder too.
    pub(crate) fn last_holder(&self) -> u32 {
        (self.holder.load(Ordering::Relaxed) >> 32) as u32
    }

    /// Whether somebody holds the lock at this moment; a holder that was killed holds it no more.
    #[inline]
    pub fn locked(&self) -> bool {
        self.mutex.state().holder().is_some()
    }

    /// What to sleep on for the holder's release or death; `None` if nobody holds the lock.
    pub(crate) fn watch(&self) -> Option<Expected<'_>> {
        self.mutex.watch()
    }

    /// The process and the thread that hold the lock, as last seen.
    pub(crate) fn holder(&self) -> Option<(u32, u32)> {
        let tid = self.mutex.state().holder()?;
        Some(((self.holder.load(Ordering::Relaxed) >> 32) as u32, tid))
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
    /// The process that acquired the lock: in a forked child, the guard is a copy of another's.
    pid: u32,
    owner_died: bool,
    /// A robust mutex belongs to the thread that locked it.
    not_send: PhantomData<*const ()>,
}

impl RawLockGuard<'_> {
    /// Whether the last holder was killed while it held the lock: check what the lock protects.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// The process that acquired the lock.
    #[inline]
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether this process holds the lock by this guard: false in a child forked meanwhile.
    #[inline]
    pub(crate) fn is_own(&self) -> bool {
        self.pid == process::id()
    }

    /// Leaves the news of the last holder's death to the next who acquires the lock.
    pub(crate) fn pass_the_news_on(&self) {
        if self.owner_died && self.is_own() {
            self.lock.untold.store(1, Ordering::Relaxed);
        }
    }
}

impl Drop for RawLockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // A copy made by fork must leave everything as it is.
        if self.is_own() {
            self.lock.release(self.pid);
        }
    }
}
