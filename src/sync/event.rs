//! A flag that many wait for.

use crate::region::Shared;
use crate::sys::futex::{self, Op};
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

/// The event is set.
const SET: u32 = 1;
/// Somebody sleeps, or is about to, or did.
const SLEEPERS: u32 = 2;
/// How often the event was cleared, counted in steps of this.
const ROUND: u32 = 4;

/// A flag that processes set, clear and wait for.
///
/// A clone is the same event, and so is what another process receives.
///
/// # If a process dies
/// Nobody owns an event: one that is killed while it waits leaves no trace, one that is killed while it
/// sets has set the event and woken all, or has done nothing.
///
/// # Differences from Python
/// Who waits when the event is set is woken for good, also if it is cleared again before it comes to
/// run; Python's `wait` then says `False`.
///
/// # Examples
/// ```
/// use multiproc::Event;
/// use std::time::Duration;
///
/// let ready = Event::new()?;
/// assert!(!ready.wait_timeout(Duration::from_millis(1))?);
/// let clone = ready.clone();
/// let thread = std::thread::spawn(move || clone.wait());
/// ready.set()?;
/// assert!(thread.join().unwrap()?);
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct Event {
    word: Shared<AtomicU32>,
}

impl Event {
    /// Makes an event that is not set.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM) or a descriptor (EMFILE).
    pub fn new() -> Result<Event> {
        Ok(Event { word: Shared::new(AtomicU32::new(0))? })
    }

    /// Sets the event and wakes all who wait for it.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused `futex`, which it has no reason to.
    pub fn set(&self) -> Result<()> {
        let mut word = self.word.load(Relaxed);
        while word & SET == 0 {
            if word & SLEEPERS != 0 {
                // One system call, which no death can split, sets the event and wakes everybody.
                futex::wake_op(&self.word, Op::Or, SET as i32, i32::MAX)
                    .map_err(Error::os("futex"))?;
                return Ok(());
            }
            // Release: what came before is seen by all who see the event set.
            match self.word.compare_exchange_weak(word, word | SET, Release, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
        Ok(())
    }

    /// Clears the event: who asks from now on waits for it to be set again.
    pub fn clear(&self) {
        let next = |word: u32| (word & SET != 0).then(|| next_round(word));
        // Nothing to clear is as well.
        let _ = self.word.fetch_update(Release, Relaxed, next);
    }

    /// Whether the event is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.word.load(Acquire) & SET != 0
    }

    /// Blocks until the event is set; always true.
    ///
    /// # Blocking
    /// Waits without limit; signals do not end the wait. [`wait_timeout`](Self::wait_timeout) bounds
    /// it, [`is_set`](Self::is_set) does not wait.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused `futex`, which it has no reason to.
    #[inline]
    pub fn wait(&self) -> Result<bool> {
        self.wait_until(Deadline::NEVER)
    }

    /// Blocks until the event is set; false if `timeout` passes first.
    ///
    /// # Blocking
    /// Waits for `timeout` at most, on the monotonic clock: setting the time of day changes nothing.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        Ok(self.is_set() || self.wait_until(Deadline::after(timeout))?)
    }

    fn wait_until(&self, deadline: Deadline) -> Result<bool> {
        let mut word = self.word.load(Acquire);
        let round = word & !(SET | SLEEPERS);
        // Another round: it was set, and cleared again.
        while word & SET == 0 && word & !(SET | SLEEPERS) == round {
            if word & SLEEPERS == 0 {
                let marked = word | SLEEPERS;
                if let Err(now) = self.word.compare_exchange(word, marked, Relaxed, Acquire) {
                    word = now;
                    continue;
                }
            }
            let on_time = futex::wait(&self.word, round | SLEEPERS, deadline);
            word = self.word.load(Acquire);
            if !on_time.map_err(Error::os("futex"))? {
                return Ok(word & SET != 0 || word & !(SET | SLEEPERS) != round);
            }
        }
        Ok(true)
    }
}

/// The word of the next round: not set, and nobody sleeps.
fn next_round(word: u32) -> u32 {
    (word & !(SET | SLEEPERS)).wrapping_add(ROUND)
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Event {}>", if self.is_set() { "set" } else { "unset" })
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.word.as_fd()
    }
}

impl Encode for Event {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.word.encode(encoder);
    }
}

impl Decode for Event {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Event> {
        Ok(Event { word: Shared::decode(decoder)? })
    }
}
