//! A lock that its holder may acquire again.

use super::owner_text;
use crate::region::{RawLock, RawLockGuard, Shared};
use crate::sys::process;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::marker::PhantomData;
use std::mem::forget;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

crate::shared! {
    /// The words belong to whoever holds the lock; a dead holder's are written anew by the next.
    struct State {
        lock: RawLock,
        /// How many guards its holder has.
        depth: AtomicU32,
        /// 1 if the holder before was killed.
        owner_died: AtomicU32,
    }
}

/// A lock that its holder may acquire again, and that a killed holder gives back.
///
/// It is free when the holder has dropped as many guards as it got. A clone is the same lock, and so is
/// what another process receives.
///
/// # If a process dies
/// If the holder is killed, however often it had acquired the lock, the next acquirer, in any process,
/// gets it, and its guards' [`owner_died`](RLockGuard::owner_died) is true.
///
/// # Differences from Python
/// Python's `RLock` stays locked for ever when its holder is killed, and releasing it without holding
/// it is an error at run time; here that does not compile. A forked child does not hold what its
/// parent holds, as there.
///
/// # Examples
/// ```
/// let lock = multiproc::RLock::new()?;
/// let outer = lock.acquire()?;
/// let inner = lock.acquire()?;
/// drop(outer);
/// assert!(lock.locked());
/// drop(inner);
/// assert!(!lock.locked());
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct RLock {
    state: Shared<State>,
}

impl RLock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM) or a descriptor (EMFILE).
    pub fn new() -> Result<RLock> {
        let (depth, owner_died) = (AtomicU32::new(0), AtomicU32::new(0));
        Ok(RLock { state: Shared::new(State { lock: RawLock::new(), depth, owner_died })? })
    }

    /// Blocks until the calling thread holds the lock, and returns the guard that releases it.
    ///
    /// # Blocking
    /// Waits without limit; signals do not end the wait. [`acquire_timeout`](Self::acquire_timeout)
    /// bounds it, [`try_acquire`](Self::try_acquire) does not wait. The holder never waits.
    ///
    /// # If a process dies
    /// If the holder is killed, one of those who wait gets the lock; see
    /// [`owner_died`](RLockGuard::owner_died).
    ///
    /// # Errors
    /// * [`Error::Overflow`]: the holder acquired it more often than the lock counts.
    /// * [`Error::Corrupt`]: the lock's memory was scribbled over.
    #[inline]
    pub fn acquire(&self) -> Result<RLockGuard<'_>> {
        if self.is_held_here() {
            return self.again();
        }
        Ok(self.first(self.state.lock.acquire()?))
    }

    /// Acquires the lock if nobody else holds it; `None` if somebody does.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<Option<RLockGuard<'_>>> {
        if self.is_held_here() {
            return self.again().map(Some);
        }
        Ok(self.state.lock.try_acquire()?.map(|raw| self.first(raw)))
    }

    /// Blocks until the calling thread holds the lock; `None` if `timeout` passes first.
    ///
    /// # Blocking
    /// Waits for `timeout` at most, on the monotonic clock: setting the time of day changes nothing.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<RLockGuard<'_>>> {
        self.acquire_until(Deadline::after(timeout))
    }

    #[inline]
    pub(super) fn acquire_until(&self, deadline: Deadline) -> Result<Option<RLockGuard<'_>>> {
        if self.is_held_here() {
            return self.again().map(Some);
        }
        Ok(self.state.lock.acquire_until(deadline)?.map(|raw| self.first(raw)))
    }

    /// Whether the calling thread holds the lock; a free one, the common case, is told from one word.
    #[inline]
    fn is_held_here(&self) -> bool {
        self.state.lock.locked() && self.state.lock.is_mine()
    }

    #[inline]
    fn first(&self, raw: RawLockGuard<'_>) -> RLockGuard<'_> {
        let pid = raw.pid();
        self.state.begin(1, raw.owner_died());
        forget(raw);
        self.guard(pid)
    }

    /// One more guard for the holder.
    #[inline(never)]
    fn again(&self) -> Result<RLockGuard<'_>> {
        // Relaxed, here and below: the mutex orders what concerns anybody else.
        let depth = self.state.depth.load(Ordering::Relaxed);
        let deeper = depth.checked_add(1).ok_or_else(|| Error::overflow("acquisitions"))?;
        self.state.depth.store(deeper, Ordering::Relaxed);
        Ok(self.guard(process::id()))
    }

    #[inline]
    fn guard(&self, pid: u32) -> RLockGuard<'_> {
        RLockGuard { state: &self.state, pid, not_send: PhantomData }
    }

    /// Releases the lock, which the calling thread holds, however often; gives how often.
    pub(super) fn release_all(&self) -> u32 {
        let depth = self.state.depth.load(Ordering::Relaxed);
        self.state.depth.store(0, Ordering::Relaxed);
        self.state.lock.release(process::id());
        depth
    }

    /// Acquires the lock as often as it was released; gives whether its holder died meanwhile.
    pub(super) fn restore(&self, depth: u32) -> Result<bool> {
        let raw = self.state.lock.acquire()?;
        let owner_died = raw.owner_died();
        self.state.begin(depth, owner_died);
        forget(raw);
        Ok(owner_died)
    }

    /// Takes back one acquisition of the calling thread's.
    pub(super) fn release(&self) {
        self.state.release(process::id());
    }

    /// Whether somebody holds the lock at this moment.
    pub fn locked(&self) -> bool {
        self.state.lock.locked()
    }
}

impl State {
    #[inline]
    fn begin(&self, depth: u32, owner_died: bool) {
        self.depth.store(depth, Ordering::Relaxed);
        self.owner_died.store(owner_died.into(), Ordering::Relaxed);
    }

    #[inline]
    fn release(&self, pid: u32) {
        let depth = self.depth.load(Ordering::Relaxed);
        self.depth.store(depth.saturating_sub(1), Ordering::Relaxed);
        if depth <= 1 {
            self.lock.release(pid);
        }
    }
}

impl fmt::Debug for RLock {
    /// The owner and how often it acquired the lock, as far as the asking thread can know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = owner_text(&self.state.lock);
        if self.state.lock.is_mine() {
            return write!(f, "<RLock({owner}, {})>", self.state.depth.load(Ordering::Relaxed));
        }
        let count = if owner == "None" { "0" } else { "nonzero" };
        write!(f, "<RLock({owner}, {count})>")
    }
}

impl AsFd for RLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.as_fd()
    }
}

impl Encode for RLock {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.state.encode(encoder);
    }
}

impl Decode for RLock {
    fn decode(decoder: &mut Decoder<'_>) -> Result<RLock> {
        Ok(RLock { state: Shared::decode(decoder)? })
    }
}

/// One of the times that a thread holds an [`RLock`]; the last that is dropped releases it.
///
/// It stays on the thread that acquired the lock. A copy made by `fork` releases nothing. Forgotten, it
/// keeps the lock held until its thread ends, which counts as a killed holder.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RLockGuard<'a> {
    state: &'a State,
    /// The process that acquired the lock: in a forked child, the guard is a copy of another's.
    pid: u32,
    not_send: PhantomData<*const ()>,
}

impl RLockGuard<'_> {
    /// Whether the last holder was killed while it held the lock: check what the lock protects.
    ///
    /// It stays true until the lock is free again.
    pub fn owner_died(&self) -> bool {
        self.state.owner_died.load(Ordering::Relaxed) != 0
    }
}

impl fmt::Debug for RLockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLockGuard").field("owner_died", &self.owner_died()).finish()
    }
}

impl Drop for RLockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.pid == process::id() {
            self.state.release(self.pid);
        }
    }
}
