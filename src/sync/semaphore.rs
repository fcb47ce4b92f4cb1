//! A count of permits, taken and given back by anybody, or owned.

use super::RawSemaphore;
use super::raw_semaphore::BITS;
use super::slot::Slot;
use crate::region::{RawLockGuard, Shared};
use crate::sys::futex::{Expected, MOST_WORDS};
use crate::sys::process;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::marker::PhantomData;
use std::mem::forget;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How many permits of a semaphore may be owned at a time.
const SLOTS: usize = 124;
const _: () = assert!(SLOTS < MOST_WORDS, "a sleeper watches them all, and the count");

crate::shared! {
    struct State {
        raw: RawSemaphore,
        /// Whoever owns a permit holds the lock of one. The first [`BITS`] have a bit in the semaphore's
        /// word, the others `mark`, which is [`OWNS`] where a permit is owned and written under the gate.
        slots: [Slot; SLOTS],
    }
}

/// The slot's holder owns a permit; if nobody holds the slot, the permit is to go back.
const OWNS: u32 = 1;

/// The tag of a permit on its way into a slot; below it the slot's place.
const TAKES: u32 = 1 << 8;
/// The tag of a permit on its way back.
const GIVES: u32 = 2 << 8;

impl State {
    /// Brings to its end what a killed process has begun. The caller holds the gate.
    fn finish(&self) {
        let tag = self.raw.tag();
        if tag == 0 {
            return;
        }
        if let Some(slot) = self.slots.get((tag & 0xff) as usize) {
            slot.mark.store(if tag & TAKES != 0 { OWNS } else { 0 }, Relaxed);
        }
        self.raw.clear_tag();
    }

    fn owns(&self, place: usize) -> bool {
        match place < BITS {
            true => self.raw.bit(place),
            false => self.slots[place].mark.load(Relaxed) == OWNS,
        }
    }

    /// Gives back what the dead own, and gives the slots of the living owners. The caller holds the gate.
    fn reclaim_under_gate(&self) -> Result<Vec<&Slot>> {
        self.finish();
        let used = if self.raw.owned() == 0 { BITS } else { SLOTS };
        let (mut living, mut counted) = (Vec::new(), 0);
        for (place, slot) in self.slots[..used].iter().enumerate() {
            if !self.owns(place) {
                continue;
            }
            match slot.lock.try_acquire()? {
                // It may have been given back since it was looked at.
                Some(_) if place < BITS && !self.raw.bit(place) => {}
                Some(_dead) if place < BITS => self.raw.give_bit_under_gate(place)?,
                Some(_dead) => self.give_back(place)?,
                None => {
                    living.push(slot);
                    counted += u32::from(place >= BITS);
                }
            }
        }
        self.raw.set_owned(counted);
        Ok(living)
    }

    fn reclaim(&self) -> Result<()> {
        let _gate = self.raw.gate()?;
        self.reclaim_under_gate().map(drop)
    }

    /// Gives back what the dead own, and gives what to sleep on for the deaths of the living.
    fn watch(&self) -> Result<Vec<Expected<'_>>> {
        let _gate = self.raw.gate()?;
        let mut tries = 0;
        loop {
            let living = self.reclaim_under_gate()?;
            let count = living.len();
            let words: Vec<_> = living.into_iter().filter_map(|slot| slot.lock.watch()).collect();
            // Else one of them has gone since, or its lock was scribbled over, which does not pass.
            if words.len() == count || tries == BITS {
                return Ok(words);
            }
            tries += 1;
        }
    }

    /// Takes a permit for one of the first slots, by one step and without the gate, if that is possible.
    #[inline]
    fn take_quickly(&self) -> Option<Permit<'_>> {
        for place in self.raw.clear_bits() {
            // A lock that is scribbled over is told of by `take_owned`.
            let Ok(Some(slot)) = self.slots[place].lock.try_acquire() else { continue };
            return self.raw.take_bit(place).then(|| self.owned_at(place, slot));
        }
        None
    }

    /// Takes a permit and gives it an owner, if there is one.
    #[cold]
    fn take_owned(&self) -> Result<Option<Permit<'_>>> {
        let _gate = self.raw.gate()?;
        if self.raw.count() == 0 {
            self.reclaim_under_gate()?;
        }
        if let Some(permit) = self.take_quickly() {
            return Ok(Some(permit));
        }
        self.finish();
        if self.raw.count() == 0 {
            return Ok(None);
        }
        let (place, slot) = self.free_slot()?;
        self.raw.set_owned(self.raw.owned() + 1);
        if !self.raw.take_tagged(TAKES | place as u32) {
            self.raw.set_owned(self.raw.owned() - 1);
            return Ok(None);
        }
        self.slots[place].mark.store(OWNS, Relaxed);
        self.raw.clear_tag();
        Ok(Some(self.owned_at(place, slot)))
    }

    /// The permit in the slot at `place`, which `held` holds; its drop takes up the guard again.
    #[inline]
    fn owned_at(&self, place: usize, held: RawLockGuard<'_>) -> Permit<'_> {
        let pid = held.pid();
        forget(held);
        Permit { state: self, place: place as u32, pid, not_send: PhantomData }
    }

    /// One of the slots that have no bit.
    fn free_slot(&self) -> Result<(usize, RawLockGuard<'_>)> {
        for place in BITS..SLOTS {
            if self.owns(place) {
                continue;
            }
            if let Some(guard) = self.slots[place].lock.try_acquire()? {
                return Ok((place, guard));
            }
        }
        Err(Error::overflow("owned permits of a semaphore"))
    }

    /// Gives a permit back that has no bit. The caller holds the gate, and nobody else the slot.
    fn give_back(&self, place: usize) -> Result<()> {
        self.raw.give_tagged(GIVES | place as u32)?;
        self.slots[place].mark.store(0, Relaxed);
        self.raw.clear_tag();
        Ok(())
    }

    fn give_back_and_count(&self, place: usize) -> Result<()> {
        let _gate = self.raw.gate()?;
        self.finish();
        self.give_back(place)?;
        self.raw.set_owned(self.raw.owned().saturating_sub(1));
        Ok(())
    }
}

/// A count of permits: acquiring takes one and waits while there is none, releasing adds one.
///
/// There are two ways to take one. [`acquire`](Self::acquire) and [`release`](Self::release) have no
/// owner: one process may acquire and another release, as with Python's. [`permit`](Self::permit) gives
/// a [`Permit`] that belongs to its holder, and comes back when it is dropped or its holder is killed.
///
/// A clone is the same semaphore, and so is what another process receives.
///
/// # If a process dies
/// What it had acquired stays acquired; what it owned by [`permit`](Self::permit) comes back. One that is
/// killed while it waits leaves no trace.
///
/// # Differences from Python
/// Owned permits. Releasing above the highest value is [`Error::Overflow`].
///
/// # Examples
/// ```
/// let semaphore = multiproc::Semaphore::new(2)?;
/// semaphore.acquire()?;
/// let permit = semaphore.permit()?;
/// assert!(semaphore.locked() && !semaphore.try_acquire()?);
/// drop(permit);
/// semaphore.release()?;
/// assert_eq!(semaphore.value(), 2);
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct Semaphore {
    state: Shared<State>,
}

impl Semaphore {
    /// The highest value.
    pub const MAX: u32 = RawSemaphore::MAX;

    /// Makes a semaphore of `value` permits; zero is a value like any other.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: more than [`MAX`](Self::MAX).
    /// * [`Error::Os`]: the system refused memory (ENOMEM) or a descriptor (EMFILE). For thousands of
    ///   semaphores, put [`RawSemaphore`]s into one [`Shared`]: one mapping, one descriptor.
    pub fn new(value: u32) -> Result<Semaphore> {
        Semaphore::with_max(value, Self::MAX)
    }

    fn with_max(value: u32, max: u32) -> Result<Semaphore> {
        if value > Self::MAX {
            return Err(Error::invalid(format!("a semaphore of {value} permits")));
        }
        let raw = RawSemaphore::with_max(value, max);
        Ok(Semaphore { state: Shared::new(State { raw, slots: [const { Slot::new() }; SLOTS] })? })
    }

    /// Blocks until there is a permit, and takes it.
    ///
    /// # Blocking
    /// Waits without limit; signals do not end the wait. [`acquire_timeout`](Self::acquire_timeout)
    /// bounds it, [`try_acquire`](Self::try_acquire) does not wait.
    ///
    /// # If a process dies
    /// The permit has no owner: it stays taken.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the semaphore's memory was scribbled over.
    #[inline]
    pub fn acquire(&self) -> Result<()> {
        if self.state.raw.take() {
            return Ok(());
        }
        self.acquire_slowly(Deadline::NEVER).map(drop)
    }

    /// Takes a permit if there is one, and says whether there was.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<bool> {
        if self.state.raw.take() {
            return Ok(true);
        }
        if !self.state.raw.has_owners() {
            return Ok(false);
        }
        self.state.reclaim()?;
        Ok(self.state.raw.take())
    }

    /// Blocks until there is a permit and takes it; false if `timeout` passes first.
    ///
    /// # Blocking
    /// Waits for `timeout` at most, on the monotonic clock: setting the time of day changes nothing.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<bool> {
        Ok(self.state.raw.take() || self.acquire_slowly(Deadline::after(timeout))?)
    }

    #[cold]
    fn acquire_slowly(&self, deadline: Deadline) -> Result<bool> {
        let raw = &self.state.raw;
        let take = || Ok(raw.take_in_turn().then_some(()));
        Ok(raw.wait_in_turn(deadline, take, || self.state.watch())?.is_some())
    }

    /// Adds a permit that nobody owns, and wakes one of those who wait.
    ///
    /// # Errors
    /// * [`Error::Overflow`]: the value is as high as it may be; it stays so.
    /// * [`Error::Corrupt`]: the semaphore's memory was scribbled over.
    #[inline]
    pub fn release(&self) -> Result<()> {
        self.state.raw.release()
    }

    /// Blocks until there is a permit, and owns it until it is dropped.
    ///
    /// # Blocking
    /// Waits without limit; [`permit_timeout`](Self::permit_timeout) bounds it,
    /// [`try_permit`](Self::try_permit) does not wait.
    ///
    /// # If a process dies
    /// If the owner is killed, the permit comes back: at once for whoever asks, and for those who have slept
    /// for some milliseconds; the others look when they have. (On a kernel before 5.16, or in a sandbox
    /// without `futex_waitv`, sleepers look every tenth of a second.)
    ///
    /// # Errors
    /// * [`Error::Overflow`]: 124 permits are owned, which is all that a semaphore keeps account of.
    /// * [`Error::Corrupt`]: the semaphore's memory was scribbled over.
    ///
    /// # Examples
    /// ```
    /// let connections = multiproc::Semaphore::new(1)?;
    /// let clone = connections.clone();
    /// std::thread::spawn(move || std::mem::forget(clone.permit())).join().unwrap();
    /// let permit = connections.permit()?; // the thread ended while it owned it
    /// # drop(permit);
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    #[inline]
    pub fn permit(&self) -> Result<Permit<'_>> {
        match self.state.take_quickly() {
            Some(permit) => Ok(permit),
            None => self.permit_slowly(Deadline::NEVER)?.ok_or(Error::TimeoutError),
        }
    }

    /// Takes a permit and owns it, if there is one.
    ///
    /// # Errors
    /// As [`permit`](Self::permit).
    pub fn try_permit(&self) -> Result<Option<Permit<'_>>> {
        match self.state.take_quickly() {
            Some(permit) => Ok(Some(permit)),
            None => self.state.take_owned(),
        }
    }

    /// Blocks until there is a permit and owns it; `None` if `timeout` passes first.
    ///
    /// # Errors
    /// As [`permit`](Self::permit).
    pub fn permit_timeout(&self, timeout: Duration) -> Result<Option<Permit<'_>>> {
        match self.state.take_quickly() {
            Some(permit) => Ok(Some(permit)),
            None => self.permit_slowly(Deadline::after(timeout)),
        }
    }

    #[cold]
    fn permit_slowly(&self, deadline: Deadline) -> Result<Option<Permit<'_>>> {
        let state = &*self.state;
        match state.take_owned()? {
            Some(permit) => Ok(Some(permit)),
            None => state.raw.wait_in_turn(deadline, || state.take_owned(), || state.watch()),
        }
    }

    /// How many permits there are at this moment.
    #[doc(alias = "get_value")]
    pub fn value(&self) -> u32 {
        if self.state.raw.has_owners() {
            // A semaphore that was scribbled over says so where it can.
            let _ = self.state.reclaim();
        }
        self.state.raw.count()
    }

    /// Whether acquiring would wait at this moment.
    pub fn locked(&self) -> bool {
        self.value() == 0
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Semaphore(value={})>", self.value())
    }
}

impl AsFd for Semaphore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.as_fd()
    }
}

impl Encode for Semaphore {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.state.encode(encoder);
    }
}

impl Decode for Semaphore {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Semaphore> {
        Ok(Semaphore { state: Shared::decode(decoder)? })
    }
}

/// A permit of a [`Semaphore`] that has an owner: it goes back when it is dropped, or when the owner
/// is killed.
///
/// It stays on the thread that took it. A copy made by `fork` gives nothing back.
#[must_use = "the permit goes back when it is dropped"]
pub struct Permit<'a> {
    state: &'a State,
    place: u32,
    /// The process that took the permit: in a forked child, this is a copy of another's.
    pid: u32,
    /// The lock of the slot belongs to the thread.
    not_send: PhantomData<*const ()>,
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.pid != process::id() {
            return;
        }
        let place = self.place as usize;
        let slot = self.state.slots[place].lock.resume(self.pid);
        // What fails here leaves a permit in a slot that nobody holds, as a dead owner does.
        let _ = match place < BITS {
            true => self.state.raw.give_bit(place),
            false => self.state.give_back_and_count(place),
        };
        drop(slot);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// A [`Semaphore`] whose value never exceeds the one it was made with.
///
/// Releasing what was never acquired is a mistake that this one notices.
///
/// # If a process dies
/// As with a [`Semaphore`].
///
/// # Differences from Python
/// One release too many is [`Error::Overflow`] where Python raises `ValueError`.
///
/// # Examples
/// ```
/// use multiproc::{BoundedSemaphore, Error};
///
/// let semaphore = BoundedSemaphore::new(1)?;
/// semaphore.acquire()?;
/// semaphore.release()?;
/// assert!(matches!(semaphore.release(), Err(Error::Overflow { .. })));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct BoundedSemaphore {
    inner: Semaphore,
}

impl BoundedSemaphore {
    /// Makes a semaphore of `value` permits, and of never more.
    ///
    /// # Errors
    /// As [`Semaphore::new`].
    pub fn new(value: u32) -> Result<BoundedSemaphore> {
        Ok(BoundedSemaphore { inner: Semaphore::with_max(value, value)? })
    }

    /// Blocks until there is a permit, and takes it: [`Semaphore::acquire`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn acquire(&self) -> Result<()> {
        self.inner.acquire()
    }

    /// Takes a permit if there is one, and says whether there was.
    ///
    /// # Errors
    /// As [`Semaphore::try_acquire`].
    #[inline]
    pub fn try_acquire(&self) -> Result<bool> {
        self.inner.try_acquire()
    }

    /// Blocks until there is a permit and takes it; false if `timeout` passes first.
    ///
    /// # Errors
    /// As [`Semaphore::acquire_timeout`].
    #[inline]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<bool> {
        self.inner.acquire_timeout(timeout)
    }

    /// Adds a permit, and wakes one of those who wait.
    ///
    /// # Errors
    /// * [`Error::Overflow`]: all permits are there already.
    /// * [`Error::Corrupt`]: the semaphore's memory was scribbled over.
    #[inline]
    pub fn release(&self) -> Result<()> {
        self.inner.release()
    }

    /// Blocks until there is a permit, and owns it until it is dropped: [`Semaphore::permit`].
    ///
    /// # Errors
    /// As there.
    pub fn permit(&self) -> Result<Permit<'_>> {
        self.inner.permit()
    }

    /// Takes a permit and owns it, if there is one.
    ///
    /// # Errors
    /// As [`Semaphore::permit`].
    pub fn try_permit(&self) -> Result<Option<Permit<'_>>> {
        self.inner.try_permit()
    }

    /// Blocks until there is a permit and owns it; `None` if `timeout` passes first.
    ///
    /// # Errors
    /// As [`Semaphore::permit`].
    pub fn permit_timeout(&self, timeout: Duration) -> Result<Option<Permit<'_>>> {
        self.inner.permit_timeout(timeout)
    }

    /// How many permits there are at this moment.
    #[doc(alias = "get_value")]
    pub fn value(&self) -> u32 {
        self.inner.value()
    }

    /// Whether acquiring would wait at this moment.
    pub fn locked(&self) -> bool {
        self.inner.locked()
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, max) = (self.value(), self.inner.state.raw.max());
        write!(f, "<BoundedSemaphore(value={value}, maxvalue={max})>")
    }
}

impl AsFd for BoundedSemaphore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Encode for BoundedSemaphore {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.inner.encode(encoder);
    }
}

impl Decode for BoundedSemaphore {
    fn decode(decoder: &mut Decoder<'_>) -> Result<BoundedSemaphore> {
        Ok(BoundedSemaphore { inner: Semaphore::decode(decoder)? })
    }
}
