//! A place where processes wait for one another.

use super::slot::Slot;
use crate::codec::Payload;
use crate::process::target::{CallOnce, EntryPoint, Location};
use crate::region::{RawLock, RawLockGuard, Shared};
use crate::sys::futex::{self, Expected, Op};
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result, Target};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

/// Why a barrier broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarrierBreak {
    /// [`Barrier::abort`] was called.
    Aborted,
    /// [`Barrier::reset`] was called while some waited.
    Reset,
    /// One that waited ran out of time.
    TimedOut,
    /// The action panicked.
    ActionPanicked,
    /// One that waited, or ran the action, was killed.
    PartyDied {
        /// Its process.
        pid: u32,
    },
}

impl fmt::Display for BarrierBreak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BarrierBreak::Aborted => f.write_str("aborted"),
            BarrierBreak::Reset => f.write_str("reset"),
            BarrierBreak::TimedOut => f.write_str("a party timed out"),
            BarrierBreak::ActionPanicked => f.write_str("the action panicked"),
            BarrierBreak::PartyDied { pid } => write!(f, "process {pid} died"),
        }
    }
}

/// The most parties; those who leave slowly have their slots beside those who come again.
const MOST: usize = 120;
const SLOTS: usize = 2 * MOST;

/// How long a party sleeps on the round alone. Most rounds are over by then, and watching the other parties
/// makes each of them leave by a system call more. After that it watches them, where the system can.
///
/// It is longer than a tick of the kernel's clock (10 ms at most): a timer that is due before the next tick has
/// the processor's clock set for it and set back, which costs each sleeper more than a microsecond.
const FIRST_SLICE: Duration = Duration::from_millis(12);
/// Where it cannot, a party looks after the others from time to time: after twice as long each time, up
/// to this. So does who has no slot.
const LAST_SLICE: Duration = Duration::from_millis(200);

/// How a round ended, in the slots of those who wait, and why the barrier is broken.
const NOT_YET: u32 = 0;
const PASSED: u32 = 1;
const ABORTED: u32 = 2;
const RESET: u32 = 3;
const TIMED_OUT: u32 = 4;
const ACTION_PANICKED: u32 = 5;
const PARTY_DIED: u32 = 6;

crate::shared! {
    /// Everything changes under the lock. A round ends by one system call, which moves `round` on and
    /// wakes all; what comes before it (the notes in the slots) can be written again by whoever
    /// comes after a killed one.
    struct State {
        lock: RawLock,
        parties: AtomicU32,
        /// The number of the round, which those who wait in it sleep on.
        round: AtomicU32,
        /// The round whose action is being run, without the lock; 0 if none is.
        acting: AtomicU32,
        /// The round that is passed, by one who will say so as soon as it has let go of the lock.
        closing: AtomicU32,
        /// Why the barrier is broken; 0 if it is not.
        broken: AtomicU32,
        /// Who died, if that is why.
        dead: AtomicU32,
        /// The round in which somebody watches the others; who comes then says so by `arrivals`.
        watched: AtomicU32,
        /// Moves on, and wakes all who watch, before one arrives whom they do not watch yet.
        arrivals: AtomicU32,
        /// The slots from here on were never used.
        used: AtomicU32,
        /// The slot of the one that ends the round that is closing.
        closer: AtomicU32,
        /// In nanoseconds; all ones means none.
        timeout: AtomicU64,
        /// A party holds one from its arrival until it leaves. `mark` is its round, `note` how that ended.
        slots: [Slot; SLOTS],
    }
}

impl State {
    fn new(parties: u32, timeout: Option<Duration>) -> State {
        let nanos = timeout
            .map_or(u64::MAX, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        State {
            lock: RawLock::new(),
            parties: AtomicU32::new(parties),
            round: AtomicU32::new(1),
            acting: AtomicU32::new(0),
            closing: AtomicU32::new(0),
            broken: AtomicU32::new(0),
            dead: AtomicU32::new(0),
            watched: AtomicU32::new(0),
            arrivals: AtomicU32::new(0),
            used: AtomicU32::new(0),
            closer: AtomicU32::new(0),
            timeout: AtomicU64::new(nanos),
            slots: [const { Slot::new() }; SLOTS],
        }
    }

    /// Those who wait in the present round, the dead among them.
    fn waiting(&self) -> impl Iterator<Item = &Slot> {
        let round = self.round.load(Relaxed);
        let used = SLOTS.min(self.used.load(Relaxed) as usize);
        self.slots[..used].iter().filter(move |slot| slot.mark.load(Relaxed) == round)
    }

    /// Takes the lock, and breaks the barrier if one of its parties is dead.
    fn enter(&self) -> Result<RawLockGuard<'_>> {
        let guard = self.lock.acquire()?;
        self.look_for_the_dead(&guard)?;
        Ok(guard)
    }

    /// Puts a party into a slot. Whoever is woken to watch it comes for the lock first, and gets that when
    /// the slot is marked, or its party is dead.
    fn arrive(&self, slot: &Slot, round: u32) -> Result<()> {
        if self.watched.load(Relaxed) == round {
            futex::wake_op(&self.arrivals, Op::Add, 1, i32::MAX).map_err(Error::os("futex"))?;
        }
        slot.note.store(NOT_YET, Relaxed);
        slot.mark.store(round, Relaxed);
        Ok(())
    }

    /// What a party sleeps on when it watches: the end of the round, arrivals, and every other party,
    /// whose death wakes one of those who watch it. If that one dies before it acts, its own death wakes
    /// the next; so the news comes to somebody for as long as anybody is left. That is why all who live
    /// are watched also while the round closes, when only the closer's death breaks it. The caller holds
    /// the lock.
    fn watch(&self, round: u32, own: &Slot) -> Vec<Expected<'_>> {
        self.watched.store(round, Relaxed);
        let mut words = vec![(&self.round, round), (&self.arrivals, self.arrivals.load(Relaxed))];
        let closer = self.living_closer();
        for slot in self.waiting().filter(|slot| !ptr::eq(*slot, own)) {
            match slot.lock.watch() {
                Some(word) => words.push(word),
                // While the round closes, its end is one party's matter: another's death changes nothing.
                None if closer.is_some_and(|closer| !ptr::eq(slot, closer)) => {}
                // It died since the caller looked: no sleep, but another look.
                None => words[0].1 = round.wrapping_sub(1),
            }
        }
        words.truncate(futex::MOST_WORDS);
        words
    }

    /// [`enter`](Self::enter), and not between the last party's arrival and the end of the round.
    fn enter_unless_closing(&self) -> Result<RawLockGuard<'_>> {
        loop {
            let guard = self.enter()?;
            if !self.is_closing() {
                return Ok(guard);
            }
            let round = self.round.load(Relaxed);
            drop(guard);
            self.sleep(round, Deadline::NEVER, None)?;
        }
    }

    /// Whether the round is passed, and one who lives is about to say so.
    fn is_closing(&self) -> bool {
        self.living_closer().is_some()
    }

    /// The one who is about to say that the round is passed.
    fn living_closer(&self) -> Option<&Slot> {
        let is_closing = self.closing.load(Relaxed) == self.round.load(Relaxed);
        let closer = self.slots.get(self.closer.load(Relaxed) as usize);
        closer.filter(|slot| is_closing && slot.is_alive())
    }

    fn look_for_the_dead(&self, guard: &RawLockGuard<'_>) -> Result<()> {
        if self.is_closing() {
            return Ok(());
        }
        if let Some(dead) = self.waiting().find(|slot| !slot.is_alive()) {
            self.dead.store(dead.lock.last_holder(), Relaxed);
            return self.break_round(PARTY_DIED);
        }
        // One that died while it broke the barrier may have woken nobody.
        let broken = self.broken.load(Relaxed);
        if guard.owner_died() && broken != 0 {
            return self.break_round(broken);
        }
        Ok(())
    }

    /// Ends the round as broken; [`RESET`] leaves the barrier usable.
    fn break_round(&self, why: u32) -> Result<()> {
        self.broken.store(if why == RESET { 0 } else { why }, Relaxed);
        self.waiting().for_each(|slot| slot.note.store(why, Relaxed));
        self.acting.store(0, Relaxed);
        self.next_round()
    }

    /// All have arrived, and the action, if there is one, is done. Those who are woken come back for the
    /// lock at once, so it is let go before. Until the round is over, nobody else ends it unless this
    /// party, which has the slot `closer`, dies.
    fn pass(&self, round: u32, closer: usize, guard: RawLockGuard<'_>) -> Result<()> {
        self.waiting().for_each(|slot| slot.note.store(PASSED, Relaxed));
        self.acting.store(round, Relaxed);
        self.closer.store(closer as u32, Relaxed);
        self.closing.store(round, Relaxed);
        drop(guard);
        self.next_round()
    }

    fn next_round(&self) -> Result<()> {
        futex::wake_op(&self.round, Op::Add, 1, i32::MAX).map_err(Error::os("futex"))?;
        Ok(())
    }

    fn free_slot(&self) -> Result<(usize, RawLockGuard<'_>)> {
        let round = self.round.load(Relaxed);
        for (place, slot) in self.slots.iter().enumerate() {
            if slot.mark.load(Relaxed) == round {
                continue;
            }
            if let Some(guard) = slot.lock.try_acquire()? {
                self.used.fetch_max(place as u32 + 1, Relaxed);
                return Ok((place, guard));
            }
        }
        Err(Error::overflow("parties at a barrier"))
    }

    fn broken(&self) -> Option<BarrierBreak> {
        self.cause(self.broken.load(Relaxed))
    }

    fn cause(&self, code: u32) -> Option<BarrierBreak> {
        match code {
            ABORTED => Some(BarrierBreak::Aborted),
            RESET => Some(BarrierBreak::Reset),
            TIMED_OUT => Some(BarrierBreak::TimedOut),
            ACTION_PANICKED => Some(BarrierBreak::ActionPanicked),
            PARTY_DIED => Some(BarrierBreak::PartyDied { pid: self.dead.load(Relaxed) }),
            _ => None,
        }
    }

    /// Sleeps until the round is over; `own` is the sleeper's slot, if it has one.
    fn sleep(&self, round: u32, mut deadline: Deadline, own: Option<&Slot>) -> Result<()> {
        let (mut slice, mut watches, mut words) = (FIRST_SLICE, own.is_some(), Vec::new());
        // Acquire: pairs with the end of the round, before which its notes were written.
        while self.round.load(Acquire) == round {
            let answer = if words.is_empty() {
                let soon = deadline.min(Deadline::after(slice));
                futex::wait(&self.round, round, soon).map(Some)
            } else {
                futex::wait_any(&words, deadline)
            };
            match answer.map_err(Error::os("futex"))? {
                Some(true) if words.is_empty() => continue,
                Some(_) => slice = LAST_SLICE.min(slice * 2),
                None => watches = false,
            }
            let guard = self.enter()?;
            let is_over = self.round.load(Relaxed) != round;
            if deadline.has_passed() {
                // Whoever runs the action has every party there, and will let them go.
                if !is_over && self.acting.load(Relaxed) != round {
                    self.break_round(TIMED_OUT)?;
                }
                deadline = Deadline::NEVER;
            }
            words = own.filter(|_| watches).map_or_else(Vec::new, |own| self.watch(round, own));
            drop(guard);
        }
        Ok(())
    }
}

/// A place where a number of parties wait until all of them are there.
///
/// When the last arrives, the action runs, if there is one, and all go on; the barrier can then be used
/// again. A clone is the same barrier, and so is what another process receives.
///
/// # If a process dies
/// A party that is killed while it waits, or while it runs the action, breaks the barrier for the
/// others: their `wait` fails with [`BarrierBreak::PartyDied`], at once where they have waited for some
/// milliseconds, else when they have. (On a kernel before 5.16, or in a sandbox without `futex_waitv`,
/// within a quarter of a second. One that is killed before it arrives is not known to the barrier: give a
/// timeout.)
///
/// # Differences from Python
/// In Python the other parties of a killed one wait for ever. The number of parties is checked, and is
/// at most 120. The action is a function that captures nothing, so that the barrier can be sent.
///
/// # Examples
/// ```
/// let barrier = multiproc::Barrier::new(2)?;
/// let clone = barrier.clone();
/// let thread = std::thread::spawn(move || clone.wait());
/// let mut places = [barrier.wait()?, thread.join().unwrap()?];
/// places.sort();
/// assert_eq!(places, [0, 1]);
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct Barrier {
    state: Shared<State>,
    action: Option<&'static EntryPoint>,
}

impl Barrier {
    /// Makes a barrier for `parties`, from 1 to 120, without action or timeout.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: no party, or too many.
    /// * [`Error::Os`]: the system refused memory (ENOMEM) or a descriptor (EMFILE).
    pub fn new(parties: usize) -> Result<Barrier> {
        Barrier::builder(parties).build()
    }

    /// Begins a barrier for `parties` with an action or a timeout.
    pub fn builder(parties: usize) -> BarrierBuilder {
        BarrierBuilder { parties, timeout: None, action: None }
    }

    /// Blocks until all parties wait; gives each another number, from 0 for the first that arrived.
    ///
    /// The last to arrive runs the action, before anybody goes on.
    ///
    /// # Blocking
    /// Waits for the timeout the barrier was made with, or without limit; signals do not end the wait.
    /// [`wait_timeout`](Self::wait_timeout) has its own.
    ///
    /// # If a process dies
    /// If a party that waits is killed, the barrier breaks.
    ///
    /// # Errors
    /// * [`Error::BrokenBarrierError`]: the barrier broke, or was broken before. If time ran out, it
    ///   broke for all.
    /// * [`Error::Corrupt`]: the barrier's memory was scribbled over.
    ///
    /// # Panics
    /// If the action does, in the party that runs it; for the others the barrier breaks.
    pub fn wait(&self) -> Result<usize> {
        match self.state.timeout.load(Relaxed) {
            u64::MAX => self.wait_until(Deadline::NEVER),
            nanos => self.wait_timeout(Duration::from_nanos(nanos)),
        }
    }

    /// Blocks until all parties wait; breaks the barrier if `timeout` passes first.
    ///
    /// # Blocking
    /// Waits for `timeout` at most, on the monotonic clock: setting the time of day changes nothing.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<usize> {
        self.wait_until(Deadline::after(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<usize> {
        let state = &*self.state;
        let guard = loop {
            let guard = state.enter()?;
            if let Some(cause) = state.broken() {
                return Err(Error::BrokenBarrierError { cause });
            }
            let round = state.round.load(Relaxed);
            if state.acting.load(Relaxed) != round {
                break guard;
            }
            // All are there without this one, and the action runs: the next round is its own.
            drop(guard);
            state.sleep(round, Deadline::NEVER, None)?;
        };
        let round = state.round.load(Relaxed);
        let place = state.waiting().count();
        let (at, alive) = state.free_slot()?;
        let slot = &state.slots[at];
        state.arrive(slot, round)?;
        let party = Party { slot, alive };
        if place + 1 < state.parties.load(Relaxed) as usize {
            drop(guard);
            state.sleep(round, deadline, Some(slot))?;
        } else {
            self.end_round(round, at, guard)?;
        }
        match state.cause(party.slot.note.load(Relaxed)) {
            None => Ok(place),
            Some(cause) => Err(Error::BrokenBarrierError { cause }),
        }
    }

    /// By the last to arrive, which has the slot at `at`.
    fn end_round(&self, round: u32, at: usize, guard: RawLockGuard<'_>) -> Result<()> {
        let state = &*self.state;
        let Some(action) = self.action else { return state.pass(round, at, guard) };
        state.acting.store(round, Relaxed);
        drop(guard);
        let acting = Acting { state, round };
        action.run(&mut Decoder::new(&[], &mut Vec::new()), &mut Payload::default())?;
        let guard = state.enter()?;
        std::mem::forget(acting);
        // Else it broke meanwhile, and the notes say why.
        if state.round.load(Relaxed) == round { state.pass(round, at, guard) } else { Ok(()) }
    }

    /// Breaks the barrier for those who wait, if any do, and mends it: it is as new.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the barrier's memory was scribbled over.
    pub fn reset(&self) -> Result<()> {
        let _guard = self.state.enter_unless_closing()?;
        self.state.break_round(RESET)
    }

    /// Breaks the barrier for those who wait and for all who come, until it is [`reset`](Self::reset).
    ///
    /// # Errors
    /// As [`reset`](Self::reset).
    pub fn abort(&self) -> Result<()> {
        let _guard = self.state.enter_unless_closing()?;
        self.state.break_round(ABORTED)
    }

    /// How many have to wait.
    pub fn parties(&self) -> usize {
        self.state.parties.load(Relaxed) as usize
    }

    /// How many wait at this moment.
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> usize {
        self.state.waiting().filter(|slot| slot.is_alive()).count()
    }

    /// Whether the barrier is broken.
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> bool {
        self.state.broken().is_some()
    }
}

/// A party from its arrival until it leaves.
struct Party<'a> {
    slot: &'a Slot,
    alive: RawLockGuard<'a>,
}

impl Drop for Party<'_> {
    fn drop(&mut self) {
        if self.alive.is_own() {
            self.slot.mark.store(0, Relaxed);
        }
    }
}

/// Breaks the barrier if the action panics.
struct Acting<'a> {
    state: &'a State,
    round: u32,
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        let Ok(_guard) = self.state.enter() else { return };
        if self.state.round.load(Relaxed) == self.round {
            // What fails here fails for those who look as well.
            let _ = self.state.break_round(ACTION_PANICKED);
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state.broken() {
            Some(_) => f.write_str("<Barrier(broken)>"),
            None => write!(f, "<Barrier(waiters={}/{})>", self.waiting(), self.parties()),
        }
    }
}

impl AsFd for Barrier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.as_fd()
    }
}

impl Encode for Barrier {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.state.encode(encoder);
        match self.action.map(EntryPoint::locate).transpose() {
            Ok(location) => location.encode(encoder),
            Err(error) => encoder.fail(error),
        }
    }
}

impl Decode for Barrier {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Barrier> {
        let state = Shared::decode(decoder)?;
        let action = Option::<Location>::decode(decoder)?.map(Location::resolve).transpose()?;
        Ok(Barrier { state, action })
    }
}

/// What a [`Barrier`] is to be.
///
/// # Examples
/// ```
/// use multiproc::{Barrier, BarrierBreak, Error};
/// use std::time::Duration;
///
/// fn everybody_is_there() {}
///
/// let barrier = Barrier::builder(2)
///     .action(everybody_is_there)
///     .timeout(Duration::from_millis(5))
///     .build()?;
/// let late = barrier.wait(); // alone
/// assert!(matches!(late, Err(Error::BrokenBarrierError { cause: BarrierBreak::TimedOut })));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder makes nothing until `build`"]
pub struct BarrierBuilder {
    parties: usize,
    timeout: Option<Duration>,
    action: Option<&'static EntryPoint>,
}

impl BarrierBuilder {
    /// How long [`Barrier::wait`] waits.
    pub fn timeout(mut self, timeout: Duration) -> BarrierBuilder {
        self.timeout = Some(timeout);
        self
    }

    /// What the last party to arrive runs before anybody goes on: a function, or a closure that captures
    /// nothing.
    pub fn action<F: Target<(), ()>>(mut self, action: F) -> BarrierBuilder {
        let _ = action;
        self.action = Some(EntryPoint::of::<CallOnce<F, (), ()>>());
        self
    }

    /// Makes the barrier.
    ///
    /// # Errors
    /// As [`Barrier::new`].
    pub fn build(self) -> Result<Barrier> {
        if !(1..=MOST).contains(&self.parties) {
            return Err(Error::invalid(format!("a barrier for {} parties", self.parties)));
        }
        let state = Shared::new(State::new(self.parties as u32, self.timeout))?;
        Ok(Barrier { state, action: self.action })
    }
}

impl fmt::Debug for BarrierBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("BarrierBuilder");
        text.field("parties", &self.parties).field("timeout", &self.timeout);
        text.field("action", &self.action.map(EntryPoint::name)).finish()
    }
}
