//! The semaphore under every other: a count in shared memory.

use crate::region::{RawLock, RawLockGuard};
use crate::sys::futex::{self, Expected, Op};
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
        /// From below: the count, 31 bits; whether somebody sleeps; 16 bits, one for each of the first
        /// slots, set while it owns a permit; the tag, which says which permit is on its way between
        /// the count and one of the other slots.
        word: AtomicU64,
        /// The count never exceeds this.
        max: AtomicU32,
        /// At least as many as there are permits in those other slots; changed under `gate`.
        owned: AtomicU32,
        /// Held by whoever wakes the sleeper, looks after the dead, or uses the tag.
        gate: RawLock,
        /// Held by the one who sleeps on the word; the others wait for this.
        turn: RawLock,
    }
}

const COUNT: u64 = 0x7fff_ffff;
/// The holder of the turn sleeps, or is about to, or did.
const SLEEPS: u64 = 0x8000_0000;
const LOW: u64 = 0xffff_ffff;
/// Where the bits of the first slots begin.
const SLOT_BITS: u32 = 32;
/// How many slots have a bit in the word.
pub(super) const BITS: usize = 16;
const ALL_BITS: u64 = ((1 << BITS) - 1) << SLOT_BITS;
/// Where the tag begins, which is at most as long as the bits before it.
const TAG: u32 = 48;

/// How long the sleeper sleeps on the word alone. Most permits are back by then, and watching their owners
/// makes each of them give back by a system call more. After that it watches them, where the system can.
///
/// It is longer than a tick of the kernel's clock (10 ms at most), so that its timer need not be set on the
/// processor.
const FIRST_SLICE: Duration = Duration::from_millis(12);
/// Where it cannot, it looks after them from time to time: after twice as long each time, up to this.
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
        Ok(self.wait_in_turn(deadline, take, || Ok(Vec::new()))?.is_some())
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
        self.count()
    }

    #[inline]
    pub(super) fn count(&self) -> u32 {
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

    /// Waits for the turn, then until `take` gives something. `look` gives back what the dead own, and
    /// gives what to sleep on so as to be woken when one of the living owners dies.
    pub(super) fn wait_in_turn<'a, T>(
        &self,
        deadline: Deadline,
        mut take: impl FnMut() -> Result<Option<T>>,
        mut look: impl FnMut() -> Result<Vec<Expected<'a>>>,
    ) -> Result<Option<T>> {
        // Whoever inherits a dead one's turn looks again, as everybody does here.
        let Some(_turn) = self.turn.acquire_until(deadline)? else { return Ok(None) };
        let (mut slice, mut watches) = (FIRST_SLICE, true);
        let mut is_first = true;
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
            // Who becomes an owner after this takes the mark of the sleeper away, which ends its sleep or
            // keeps it from it: so these are all of them.
            if !self.has_owners() {
                self.sleep(deadline)?;
            } else if is_first {
                self.sleep(deadline.min(Deadline::after(slice)))?;
            } else {
                let mut words = look()?;
                words.insert(0, (futex::low_half(&self.word), SLEEPS as u32));
                if watches {
                    let answer = futex::wait_any(&words, deadline).map_err(Error::os("futex"))?;
                    watches = answer.is_some();
                } else {
                    self.sleep(deadline.min(Deadline::after(slice)))?;
                    slice = LAST_SLICE.min(slice * 2);
                }
            }
            is_first = false;
        }
    }

    fn sleep(&self, deadline: Deadline) -> Result<()> {
        let half = futex::low_half(&self.word);
        futex::wait(half, SLEEPS as u32, deadline).map(drop).map_err(Error::os("futex"))
    }
}

/// What owned permits need. The first slots have a bit in the word, so a permit goes there and back in one
/// step. To and from the others it goes in steps that can be told from the tag wherever they are
/// interrupted, and all of that happens under the gate.
impl RawSemaphore {
    pub(super) fn gate(&self) -> Result<RawLockGuard<'_>> {
        self.gate.acquire()
    }

    /// Whether any permit is owned.
    pub(super) fn has_owners(&self) -> bool {
        // Acquire: whoever put a permit into one of the other slots counted it before it took it.
        self.word.load(Acquire) & ALL_BITS != 0 || self.owned() != 0
    }

    /// Whether the slot at `place`, one of the first, owns a permit.
    #[inline]
    pub(super) fn bit(&self, place: usize) -> bool {
        self.word.load(Relaxed) & bit_of(place) != 0
    }

    /// The first slots that own no permit; none if there is no permit to own.
    #[inline]
    pub(super) fn clear_bits(&self) -> impl Iterator<Item = usize> {
        let word = self.word.load(Relaxed);
        let some = if word & COUNT == 0 { 0 } else { BITS };
        (0..some).filter(move |&place| word & bit_of(place) == 0)
    }

    /// Takes one off the value for the slot at `place`, one of the first, whose lock the caller holds.
    #[inline]
    pub(super) fn take_bit(&self, place: usize) -> bool {
        self.change(|word| match (word & bit_of(place), word & COUNT) {
            (0, 0) => None,
            (0, _) => Some((word - 1) & !SLEEPS | bit_of(place)),
            // A dead one's, which need not go back first.
            _ => Some(word),
        })
    }

    /// Adds to the value what the slot at `place`, one of the first, owns; the caller holds its lock.
    #[inline]
    pub(super) fn give_bit(&self, place: usize) -> Result<()> {
        let mut word = self.word.load(Relaxed);
        while word & LOW != SLEEPS {
            match self.give(word, word & !bit_of(place)) {
                Ok(()) => return Ok(()),
                Err(now) => word = now,
            }
        }
        self.give_bit_to_a_sleeper(place)
    }

    #[cold]
    fn give_bit_to_a_sleeper(&self, place: usize) -> Result<()> {
        let _gate = self.gate()?;
        self.give_bit_under_gate(place)
    }

    /// [`give_bit`](Self::give_bit) where the caller holds the gate too.
    pub(super) fn give_bit_under_gate(&self, place: usize) -> Result<()> {
        self.give_and_wake(|word| word & !bit_of(place))
    }

    pub(super) fn owned(&self) -> u32 {
        self.owned.load(Relaxed)
    }

    /// Relaxed: whoever has to know learns it with the change of the word that follows.
    pub(super) fn set_owned(&self, count: u32) {
        self.owned.store(count, Relaxed);
    }

    /// The tag that a killed process has left.
    pub(super) fn tag(&self) -> u32 {
        (self.word.load(Relaxed) >> TAG) as u32
    }

    pub(super) fn clear_tag(&self) {
        self.word.fetch_and(!(u64::MAX << TAG), SeqCst);
    }

    /// Takes one off the value and leaves the tag, in one step.
    pub(super) fn take_tagged(&self, tag: u32) -> bool {
        let tag = u64::from(tag) << TAG;
        self.change(|word| (word & COUNT != 0).then(|| (word - 1) & !SLEEPS | tag))
    }

    /// Adds one to the value and leaves the tag, in one step.
    pub(super) fn give_tagged(&self, tag: u32) -> Result<()> {
        self.give_and_wake(|word| word | u64::from(tag) << TAG)
    }

    /// Adds one to the value and makes `mark`, in one step. The caller holds the gate.
    ///
    /// A sleeper is woken before: it sees nothing yet, says again that it sleeps, sees that a permit
    /// is owned, and comes to the gate to look.
    fn give_and_wake(&self, mark: impl Fn(u64) -> u64) -> Result<()> {
        let mut word = self.word.load(Relaxed);
        loop {
            if word & LOW == SLEEPS {
                let half = futex::low_half(&self.word);
                futex::wake_op(half, Op::Set, 0, 1).map_err(Error::os("futex"))?;
                word = self.word.load(Relaxed);
                continue;
            }
            match self.give(word, mark(word)) {
                Ok(()) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// Replaces `word` by `marked` and one more; at its bound the value stays.
    #[inline]
    fn give(&self, word: u64, marked: u64) -> Result<(), u64> {
        let room = self.check_room(word).is_ok();
        let given = marked + u64::from(room);
        self.word.compare_exchange_weak(word, given, SeqCst, Relaxed).map(drop)
    }
}

#[inline]
fn bit_of(place: usize) -> u64 {
    1 << (SLOT_BITS as usize + place)
}

impl fmt::Debug for RawSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSemaphore").field("value", &self.value()).finish()
    }
}
