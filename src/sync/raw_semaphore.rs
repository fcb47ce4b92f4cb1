//! The semaphore under every other: a count in shared memory.

use crate::region::{RawLock, RawLockGuard};
use crate::sys::futex::{self, Op};
use crate::sys::time::Deadline;
use crate::{Error, Result};
use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

crate::shared! {
    /// A semaphore for a place in a [`Shared`](crate::Shared) value; [`Semaphore`](crate::Semaphore)
    /// is one with a place of its own, whose permits may also be owned.
    ///
    /// # If a process dies
    /// What it had acquired stays acquired, since nobody owns it. Where several wait for one
    /// permit and the one that was woken is killed before it takes it, the next gets it.
    ///
    /// # Examples
    /// ```
    /// use multiproc::{RawSemaphore, Shared};
    ///
    /// let slots = Shared::new([const { RawSemaphore::new(2) }; 1_000])?;
    /// slots[7].acquire()?;
    /// assert_eq!(slots[7].value(), 1);
    /// slots[7].release()?;
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub struct RawSemaphore {
        /// The count; above it whether somebody sleeps; in the upper half the tag, which says which
        /// owned permit is on its way between the count and its slot.
        word: AtomicU64,
        /// The count never exceeds this.
        max: AtomicU32,
        /// At least as many as there are owned permits; changed under `gate`.
        owned: AtomicU32,
        /// Held by whoever wakes the sleeper, and for all that concerns owned permits.
        gate: RawLock,
        /// Held by the one who sleeps on the word; the others wait for this.
        turn: RawLock,
    }
}

const COUNT: u64 = 0x7fff_ffff;
/// The holder of the turn sleeps, or is about to, or did.
const SLEEPS: u64 = 0x8000_0000;
const LOW: u64 = 0xffff_ffff;

/// How long the sleeper waits for the first time before it looks whether an owner died; twice as long
/// each time after that, up to [`LAST_SLICE`].
const FIRST_SLICE: Duration = Duration::from_millis(2);
const LAST_SLICE: Duration = Duration::from_millis(100);

impl RawSemaphore {
    /// The highest value.
    pub const MAX: u32 = i32::MAX as u32;

    /// A semaphore of this value, or of [`MAX`](Self::MAX) if that is less. It can be used once it is
    /// in a [`Shared`](crate::Shared).
    pub const fn new(value: u32) -> RawSemaphore {
        RawSemaphore::with_max(value, Self::MAX)
    }

    pub(super) const fn with_max(value: u32, max: u32) -> RawSemaphore {
        let value = if value > Self::MAX { Self::MAX } else { value };
        RawSemaphore {
            word: AtomicU64::new(value as u64),
            max: AtomicU32::new(max),
            owned: AtomicU32::new(0),
            gate: RawLock::new(),
            turn: RawLock::new(),
        }
    }

    /// Blocks until the value is above zero, and takes one off it.
    ///
    /// # Blocking
    /// Waits without limit; [`acquire_timeout`](Self::acquire_timeout) bounds it,
    /// [`try_acquire`](Self::try_acquire) does not wait.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: its memory was scribbled over.
    #[inline]
    pub fn acquire(&self) -> Result<()> {
        self.acquire_until(Deadline::NEVER).map(drop)
    }

    /// Takes one off the value if it is above zero, and says whether it was.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        self.take()
    }

    /// Blocks until the value is above zero and takes one off it; false if `timeout` passes first.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<bool> {
        Ok(self.take() || self.acquire_until(Deadline::after(timeout))?)
    }

    #[inline]
    fn acquire_until(&self, deadline: Deadline) -> Result<bool> {
        if self.take() {
            return Ok(true);
        }
        let take = || Ok(self.take_in_turn().then_some(()));
        Ok(self.wait_in_turn(deadline, take, || Ok(()))?.is_some())
    }

    /// Adds one to the value, and wakes one of those who wait.
    ///
    /// # Errors
    /// * [`Error::Overflow`]: the value is as high as it may be; it stays so.
    /// * [`Error::Corrupt`]: its memory was scribbled over.
    #[inline]
    pub fn release(&self) -> Result<()> {
        let mut word = self.word.load(Relaxed);
        loop {
            self.check_room(word)?;
            if word & LOW == SLEEPS {
                return self.release_to_a_sleeper();
            }
            // Release: what came before is seen by whoever takes this permit.
            match self.word.compare_exchange_weak(word, word + 1, Release, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// Adds the permit and wakes the sleeper by one system call, which no death can split.
    ///
    /// A word that says that somebody sleeps beside a count of zero is changed under the gate alone, so
    /// the permit that is added is exactly the first. The ones after it need wake nobody: the holder
    /// of the turn is awake already, or its heir looks.
    #[cold]
    fn release_to_a_sleeper(&self) -> Result<()> {
        let _gate = self.gate()?;
        loop {
            let word = self.word.load(Relaxed);
            self.check_room(word)?;
            if word & LOW == SLEEPS {
                let half = futex::low_half(&self.word);
                futex::wake_op(half, Op::Add, 1, 1).map_err(Error::os("futex"))?;
                return Ok(());
            }
            if self.word.compare_exchange_weak(word, word + 1, Release, Relaxed).is_ok() {
                return Ok(());
            }
        }
    }

    #[inline]
    fn check_room(&self, word: u64) -> Result<()> {
        #[cold]
        fn full() -> Error {
            Error::overflow("releases of a semaphore")
        }
        let max = self.max.load(Relaxed).min(Self::MAX);
        if word & COUNT < u64::from(max) { Ok(()) } else { Err(full()) }
    }

    /// The value at this moment.
    pub fn value(&self) -> u32 {
        (self.word.load(Relaxed) & COUNT) as u32
    }

    /// The value that is never exceeded.
    pub(super) fn max(&self) -> u32 {
        self.max.load(Relaxed)
    }

    #[inline]
    pub(super) fn take(&self) -> bool {
        self.change(|word| (word & COUNT != 0).then(|| word - 1))
    }

    /// [`take`](Self::take) by the holder of the turn, which then sleeps no more.
    pub(super) fn take_in_turn(&self) -> bool {
        self.change(|word| (word & COUNT != 0).then(|| (word - 1) & !SLEEPS))
    }

    #[inline]
    fn change(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        // Acquire: pairs with the release of the permit that is taken. The rest of the order matters
        // between the mark of the sleeper and the count of owned permits, see `wait_in_turn`.
        self.word.fetch_update(SeqCst, Acquire, change).is_ok()
    }

    /// Waits for the turn, then until `take` gives something. `look` is called now and then for
    /// as long as permits are owned: it gives back what the dead own.
    pub(super) fn wait_in_turn<T>(
        &self,
        deadline: Deadline,
        mut take: impl FnMut() -> Result<Option<T>>,
        mut look: impl FnMut() -> Result<()>,
    ) -> Result<Option<T>> {
        // Whoever inherits a dead one's turn looks again, as everybody does here.
        let Some(_turn) = self.turn.acquire_until(deadline)? else { return Ok(None) };
        let mut slice = FIRST_SLICE;
        loop {
            if let Some(taken) = take()? {
                return Ok(Some(taken));
            }
            if deadline.has_passed() {
                return Ok(None);
            }
            if !self.change(|word| (word & COUNT == 0).then_some(word | SLEEPS)) {
                continue;
            }
            // The permits that are owned after this look were taken after a release, and that wakes.
            if self.owned.load(SeqCst) == 0 {
                self.sleep(deadline)?;
                continue;
            }
            look()?;
            self.sleep(deadline.min(Deadline::after(slice)))?;
            slice = LAST_SLICE.min(slice * 2);
        }
    }

    fn sleep(&self, deadline: Deadline) -> Result<()> {
        let half = futex::low_half(&self.word);
        futex::wait(half, SLEEPS as u32, deadline).map(drop).map_err(Error::os("futex"))
    }
}

/// What owned permits need: each goes from the count to its slot, or back, in steps that can be told
/// from the tag wherever they are interrupted. All of it happens under the gate.
impl RawSemaphore {
    pub(super) fn gate(&self) -> Result<RawLockGuard<'_>> {
        self.gate.acquire()
    }

    pub(super) fn owned(&self) -> u32 {
        self.owned.load(SeqCst)
    }

    pub(super) fn set_owned(&self, count: u32) {
        self.owned.store(count, SeqCst);
    }

    /// The tag that a killed process has left.
    pub(super) fn tag(&self) -> u32 {
        (self.word.load(Relaxed) >> 32) as u32
    }

    pub(super) fn clear_tag(&self) {
        self.word.fetch_and(LOW, SeqCst);
    }

    /// Takes one off the value and leaves the tag, in one step.
    pub(super) fn take_tagged(&self, tag: u32) -> bool {
        let tag = u64::from(tag) << 32;
        self.change(|word| (word & COUNT != 0).then(|| ((word & LOW) - 1) | tag))
    }

    /// Adds one to the value and leaves the tag, in one step.
    ///
    /// A sleeper is woken before: it sees nothing yet, says again that it sleeps, sees that a permit
    /// is owned, and comes to the gate to look.
    pub(super) fn give_tagged(&self, tag: u32) -> Result<()> {
        let tag = u64::from(tag) << 32;
        let mut word = self.word.load(Relaxed);
        loop {
            if word & LOW == SLEEPS {
                let half = futex::low_half(&self.word);
                futex::wake_op(half, Op::Set, 0, 1).map_err(Error::os("futex"))?;
                word = self.word.load(Relaxed);
                continue;
            }
            let room = self.check_room(word).is_ok();
            let given = ((word & LOW) + u64::from(room)) | tag;
            match self.word.compare_exchange_weak(word, given, SeqCst, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }
}

impl fmt::Debug for RawSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSemaphore").field("value", &self.value()).finish()
    }
}
