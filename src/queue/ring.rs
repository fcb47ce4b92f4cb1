//! The ring under every queue and pool: messages of bytes and descriptors, first in, first out.
//!
//! Two turns, two gates. A producer holds the producers' turn for the whole of a put, asleep or not, and
//! a consumer the other for the whole of a get, so that of each kind at most one sleeps on a bell; the
//! others sleep on the turn, which the kernel hands on when its holder is killed. The gates are short:
//! under one the tail is published, under the other the head, each together with the word that says
//! who sleeps for it. A turn may be held while a gate is taken, never the other way round, and only
//! closing the ring takes both gates.
//!
//! Ring, then publish: who publishes takes the sleeper's word, rings, and publishes last. Killed before
//! the publishing store, it has done nothing, and the sleeper, awake, finds nothing, waits at the gate until
//! the death is known there and goes back to sleep. Killed after it, everything is done. In the other order a
//! death between the two leaves a sleeper beside a message.

use super::side::Side;
use super::state::{Mark, State};
use super::store::Store;
use crate::codec::Payload;
use crate::region::{RawLock, RawLockGuard};
use crate::sys::time::Deadline;
use crate::sys::{self, poll};
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How a ring is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// The most items; 0 means no limit.
    pub(crate) maxsize: u64,
    /// The most bytes, frames included.
    pub(crate) max_bytes: u64,
    /// Consumers do not keep the turn while they sleep, which spares handing it over at every wake-up.
    /// Then a consumer that is killed when it was just woken takes its wake-up with it: somebody has
    /// to watch the consumers and call [`Ring::nudge`] when one dies.
    pub(crate) crowd: bool,
}

/// A handle of a ring; a clone is the same ring.
#[derive(Clone)]
pub(crate) struct Ring {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Store,
    /// Rung for the consumer that sleeps. Drained under the consumers' turn only.
    pub(super) items_bell: OwnedFd,
    /// Rung for the producer that sleeps. Drained under the producers' turn only.
    pub(super) space_bell: OwnedFd,
    pub(super) side: Side,
    pub(super) maxsize: u64,
    pub(super) crowd: bool,
}

/// How long somebody who does not want to wait still waits for another to finish what it does.
const GRACE: Duration = Duration::from_secs(1);

impl Ring {
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or descriptors (EMFILE).
    pub(crate) fn new(options: Options) -> Result<Ring> {
        let Options { maxsize, max_bytes, crowd } = options;
        let bell = || sys::fd::eventfd(false).map_err(Error::os("eventfd"));
        let inner = Inner {
            store: Store::new(State::new(maxsize, crowd), max_bytes)?,
            items_bell: bell()?,
            space_bell: bell()?,
            side: Side::new()?,
            maxsize,
            crowd,
        };
        Ok(Ring { inner: Arc::new(inner) })
    }

    /// Puts a message behind the others and says its number, counted from 0.
    ///
    /// # Errors
    /// * [`Error::Full`]: no room within the time allowed.
    /// * [`Error::Closed`], [`Error::MessageTooLong`], [`Error::Corrupt`].
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or more descriptors in flight.
    ///
    /// The ring is as before then.
    pub(crate) fn put(&self, message: &Payload, deadline: Deadline) -> Result<u64> {
        self.inner.put(message, deadline)
    }

    /// Takes the first message into `message`, in place of what was there, and says its number.
    ///
    /// `claim` is called with the number when nothing can fail any more, just before the message is taken:
    /// whoever is killed before `claim` has not taken it.
    ///
    /// # Errors
    /// * [`Error::Empty`]: nothing within the time allowed.
    /// * [`Error::Closed`]: nothing, and nothing will come.
    /// * [`Error::Os`]: the message stays first: EMFILE (no numbers for its descriptors), ENOMEM.
    /// * [`Error::Corrupt`].
    pub(crate) fn get(
        &self,
        message: &mut Payload,
        deadline: Deadline,
        claim: impl FnOnce(u64),
    ) -> Result<u64> {
        self.inner.get(message, deadline, claim)
    }

    /// How many messages are in.
    pub(crate) fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    /// How many messages were taken so far: the number of the first that is in, or will be.
    pub(crate) fn taken(&self) -> Result<u64> {
        Ok(self.inner.look_at_head()?.items)
    }

    pub(crate) fn is_full(&self) -> Result<bool> {
        let maxsize = self.inner.maxsize;
        Ok(maxsize != 0 && self.inner.len()? >= maxsize)
    }

    /// The most items; 0 means no limit.
    pub(crate) fn maxsize(&self) -> u64 {
        self.inner.maxsize
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.state().is_closed()
    }

    /// No further message goes in; those that are in can be taken. All sleepers wake.
    pub(crate) fn close(&self) -> Result<()> {
        let state = self.inner.state();
        let items = self.inner.items_gate()?;
        let space = self.inner.space_gate()?;
        // More than a word that was scribbled over may ask for.
        const CROWD: u32 = 4096;
        for _ in 0..state.items.sleepers.load(Ordering::Relaxed).min(CROWD) {
            self.inner.wake_consumer()?;
        }
        if state.space.asleep.load(Ordering::Relaxed) != 0 {
            self.inner.wake_producer()?;
        }
        // Release: pairs with the Acquire in `is_closed`. One sleeper of each kind wakes; the others wait
        // for its turn.
        state.fixed.closed.store(1, Ordering::Release);
        drop((items, space));
        Ok(())
    }

    /// What becomes readable after [`prepare_sleep`](Self::prepare_sleep) when there is something to get.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.inner.items_bell.as_fd()
    }

    /// True: there is nothing to get, and the bell will ring when there is, or when the ring is closed. False:
    /// look now. Not for rings with a crowd, which have no bell.
    pub(crate) fn prepare_sleep(&self) -> Result<bool> {
        let state = self.inner.state();
        let head = self.inner.look_at_head()?;
        let gate = self.inner.items_gate()?;
        let nothing = state.tail.read().items <= head.items && !state.is_closed();
        if nothing {
            state.items.sleepers.store(1, Ordering::Relaxed);
        }
        drop(gate);
        Ok(nothing)
    }

    /// Makes the bell silent after a sleep, if nobody else looks after it.
    pub(crate) fn after_sleep(&self) -> Result<()> {
        if let Some(turn) = self.inner.state().consumer.turn.try_acquire()? {
            self.inner.settle_consumer(&turn);
            self.inner.sleep(self.bell(), Deadline::now())?;
        }
        Ok(())
    }

    /// Wakes up to `count` of a crowd for a look, in place of one that was killed.
    pub(crate) fn nudge(&self, count: u32) -> Result<()> {
        let tokens = &self.inner.state().items.tokens;
        (0..count).try_for_each(|_| {
            sys::futex::wake_op(tokens, sys::futex::Op::Add, 1, 1).map_err(Error::os("futex"))?;
            Ok(())
        })
    }
}

impl Inner {
    pub(super) fn state(&self) -> &State {
        self.store.state()
    }

    /// The gate of the tail; whoever finds that its last holder was killed says that somebody may sleep.
    pub(super) fn items_gate(&self) -> Result<RawLockGuard<'_>> {
        let items = &self.state().items;
        let guard = items.gate.acquire()?;
        if guard.owner_died() {
            let more = if self.crowd { items.sleepers.load(Ordering::Relaxed) } else { 0 };
            items.sleepers.store(more.saturating_add(1), Ordering::Relaxed);
        }
        Ok(guard)
    }

    /// The gate of the head, likewise.
    pub(super) fn space_gate(&self) -> Result<RawLockGuard<'_>> {
        let space = &self.state().space;
        let guard = space.gate.acquire()?;
        if guard.owner_died() {
            space.wanted.store(Mark::default());
            space.asleep.store(1, Ordering::Relaxed);
        }
        Ok(guard)
    }

    /// Rings for one consumer and takes its word back, in this order: killed between the two, the
    /// word still stands. The caller holds the gate of the tail.
    pub(super) fn wake_consumer(&self) -> Result<()> {
        let items = &self.state().items;
        let left = if self.crowd {
            sys::futex::wake_op(&items.tokens, sys::futex::Op::Add, 1, 1)
                .map_err(Error::os("futex"))?;
            items.sleepers.load(Ordering::Relaxed).saturating_sub(1)
        } else {
            sys::fd::ring(self.items_bell.as_fd()).map_err(Error::os("write"))?;
            0
        };
        items.sleepers.store(left, Ordering::Relaxed);
        Ok(())
    }

    /// Likewise for the producer that sleeps. The caller holds the gate of the head.
    pub(super) fn wake_producer(&self) -> Result<()> {
        sys::fd::ring(self.space_bell.as_fd()).map_err(Error::os("write"))?;
        self.state().space.asleep.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Sleeps until `bell` rings and makes it silent; false once the deadline has passed. The caller
    /// holds the turn that the bell belongs to, so nobody else takes the ring that was seen.
    pub(super) fn sleep(&self, bell: BorrowedFd<'_>, deadline: Deadline) -> Result<bool> {
        let rung = deadline == Deadline::NEVER
            || poll::wait_readable(bell, deadline).map_err(Error::os("ppoll"))?;
        if rung {
            sys::fd::drain(bell).map_err(Error::os("read"))?;
        }
        Ok(rung)
    }

    /// Looks for what the bell has announced, for a moment: whoever rang is about to publish it. After
    /// that, the gate tells.
    pub(super) fn spin(&self, found: impl Fn() -> Result<bool>) -> Result<()> {
        const LOOKS: usize = 100;
        for _ in 0..LOOKS {
            if found()? {
                break;
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Takes a turn within the time allowed; `None` once that is over and `hopeless` says that who has the
    /// turn cannot go on, either.
    ///
    /// A holder that can go on is about to: a caller who does not want to wait still waits for it, since
    /// what it asked for is there.
    pub(super) fn turn<'a>(
        &self,
        turn: &'a RawLock,
        deadline: Deadline,
        hopeless: impl Fn() -> Result<bool>,
    ) -> Result<Option<RawLockGuard<'a>>> {
        const SLICE: Duration = Duration::from_millis(1);
        if let Some(guard) = turn.acquire_until(deadline)? {
            return Ok(Some(guard));
        }
        let grace = Deadline::after(GRACE);
        while !hopeless()? && !grace.has_passed() {
            if let Some(guard) = turn.acquire_until(Deadline::after(SLICE))? {
                return Ok(Some(guard));
            }
        }
        Ok(None)
    }

    /// The tail, for who has not the producers' turn.
    pub(super) fn look_at_tail(&self) -> Result<Mark> {
        self.state().tail.look(|| self.items_gate())
    }

    /// The head, for who has not the consumers' turn.
    pub(super) fn look_at_head(&self) -> Result<Mark> {
        self.state().head.look(|| self.space_gate())
    }

    pub(super) fn len(&self) -> Result<u64> {
        const TRIES: usize = 8;
        let mut head = self.look_at_head()?;
        let mut len = 0;
        for _ in 0..TRIES {
            len = self.look_at_tail()?.items.saturating_sub(head.items);
            let again = self.look_at_head()?;
            // With the same head before and after, the difference was true in between.
            if again.items == head.items {
                break;
            }
            head = again;
        }
        Ok(if self.maxsize == 0 { len } else { len.min(self.maxsize) })
    }

    /// Where `segment` begins and its class, as somebody may have scribbled them.
    pub(super) fn segment(&self, segment: u64) -> (u64, u64) {
        let place = self.state().segment(segment);
        // Relaxed: written before the tail that made the segment exist was published.
        (place.start.load(Ordering::Relaxed), place.class.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Ring");
        if let Ok(len) = self.len() {
            text.field("len", &len);
        }
        text.field("maxsize", &self.maxsize()).field("closed", &self.is_closed()).finish()
    }
}

impl Encode for Ring {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.inner.store.state().encode(encoder);
        encoder.fd(self.inner.items_bell.as_fd());
        encoder.fd(self.inner.space_bell.as_fd());
        encoder.fd(self.inner.side.as_fd());
    }
}

impl Decode for Ring {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Ring> {
        let store = Store::over(Decode::decode(decoder)?)?;
        let maxsize = store.state().fixed.maxsize.load(Ordering::Relaxed);
        let crowd = store.state().fixed.crowd.load(Ordering::Relaxed) != 0;
        let (items_bell, space_bell) = (decoder.fd()?, decoder.fd()?);
        let side = Side::adopt(decoder.fd()?)?;
        let inner = Inner { store, items_bell, space_bell, side, maxsize, crowd };
        Ok(Ring { inner: Arc::new(inner) })
    }
}
