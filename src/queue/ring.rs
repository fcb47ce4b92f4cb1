//! The ring under every queue and pool: messages of bytes and descriptors, first in, first out.
//!
//! Two turns. A producer holds the producers' turn for the whole of a put, asleep or not, and a consumer the
//! other for the whole of a get, so that of each kind at most one sleeps on a bell; the others sleep on the
//! turn, which the kernel hands on when its holder is killed. With the turn, the one may publish the tail, the
//! other the head; each of these cursors says in the same word who wants to hear of its next change.
//!
//! Ring, then publish: who publishes finds the cursor armed, rings, and then publishes and disarms in one
//! step. Killed before the step, it has done nothing: the sleeper, awake, finds nothing, arms the cursor
//! again and sleeps on. Killed after it, everything is done. In the other order a death between the two leaves a
//! sleeper beside a message. If the sleeper is back asleep before the step, the word is another, the step
//! fails, and the publisher rings again.
//!
//! On one processor the sleeper that is rung for runs at once, as a rule, and the publisher only when it sleeps
//! again. So a producer says before it rings that the new tail is ready, and the consumer takes the step in
//! its place: one switch of processes for a message, where there would be three. And a consumer that finds the
//! ring empty gives the processor away once before it sleeps, [where that pays](super::patience): then there
//! is nobody to ring for, and one switch for many messages.

use super::batch::Batch;
use super::cursor::Mark;
use super::parcel::Parcel;
use super::patience::Patience;
use super::side::Side;
use super::state::State;
use super::store::Store;
use crate::codec::Payload;
use crate::sys;
use crate::sys::poll::Epoll;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

/// How a ring is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// The most items; 0 means no limit.
    pub(crate) maxsize: u64,
    /// The most bytes, frames included.
    pub(crate) max_bytes: u64,
    /// Consumers do not keep the turn while they sleep, which spares handing it over at every wake-up.
    /// Then a consumer that is killed when it was just woken takes its wake-up with it: somebody has
    /// to watch the consumers and call [`Ring::nudge`] when one dies. And who puts wakes them after it has
    /// published: all who put are one process, without which there is nothing to do for the consumers.
    pub(crate) crowd: bool,
}

/// A handle of a ring; a clone is the same ring.
#[derive(Clone)]
pub(crate) struct Ring {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Store,
    /// Rung for the consumer that sleeps, and for who watches. Made silent under the consumers' turn only,
    /// by who has armed the other one.
    pub(super) items_bells: [OwnedFd; 2],
    /// Readable while one of the two is.
    watch: OnceLock<Epoll>,
    /// Rung for the producer that sleeps, in a ring with ends, where it has to hear of a hang-up besides. It
    /// is a word of the state elsewhere: nobody polls for room.
    pub(super) space_bell: Option<OwnedFd>,
    /// For a ring of which one end is a sender's or a receiver's: hangs up when the last sender is gone.
    pub(super) writers: Option<OwnedFd>,
    /// Likewise for the last receiver.
    pub(super) readers: Option<OwnedFd>,
    pub(super) side: Side,
    /// Of who gets, in this process.
    pub(super) patience: Patience,
    pub(super) maxsize: u64,
    pub(super) crowd: bool,
    /// Who takes hears of the death of anybody who puts, and looks again then: so who puts publishes first
    /// and rings then, which spares the sleeper a look that is too early.
    pub(super) tended: bool,
}

impl Ring {
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or descriptors (EMFILE).
    pub(crate) fn new(options: Options) -> Result<Ring> {
        Ring::make(options, false)
    }

    /// A ring for a consumer that watches all who put, and looks for messages whenever one of them dies.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn tended(max_bytes: u64) -> Result<Ring> {
        Ring::make(Options { maxsize: 0, max_bytes, crowd: false }, true)
    }

    fn make(options: Options, tended: bool) -> Result<Ring> {
        let Options { maxsize, max_bytes, crowd } = options;
        let bell = || sys::fd::eventfd(true).map_err(Error::os("eventfd"));
        let inner = Inner {
            store: Store::new(State::new(maxsize, crowd), max_bytes)?,
            items_bells: [bell()?, bell()?],
            watch: OnceLock::new(),
            space_bell: None,
            writers: None,
            readers: None,
            side: Side::new()?,
            patience: Patience::new(),
            maxsize,
            crowd,
            tended,
        };
        inner.state().fixed.tended.store(u32::from(tended), Ordering::Relaxed);
        Ok(Ring { inner: Arc::new(inner) })
    }

    /// The ring, of which `self` is the only handle, for making ends of.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn for_ends(mut self) -> Result<Ring> {
        let inner = Arc::get_mut(&mut self.inner)
            .ok_or_else(|| Error::invalid("ends of a ring that has other handles"))?;
        inner.space_bell = Some(sys::fd::eventfd(true).map_err(Error::os("eventfd"))?);
        inner.state().fixed.ends.store(1, Ordering::Relaxed);
        Ok(self)
    }

    /// The handle of an end: of the ring that `self` is the only handle of, with what hangs up when the last
    /// sender, or the last receiver, is gone. Put and get fail with [`Error::Disconnected`] then, the latter
    /// once there is nothing more to get.
    pub(crate) fn with_end(
        self,
        writers: Option<OwnedFd>,
        readers: Option<OwnedFd>,
    ) -> Result<Ring> {
        let mut inner = Arc::try_unwrap(self.inner)
            .map_err(|_| Error::invalid("an end of a ring that has other handles"))?;
        (inner.writers, inner.readers) = (writers, readers);
        Ok(Ring { inner: Arc::new(inner) })
    }

    /// A handle with descriptors of its own.
    pub(crate) fn duplicate(&self) -> Result<Ring> {
        let payload = Payload::of(self)?;
        let (bytes, mut fds) = (payload.bytes, payload.fds);
        Ring::decode(&mut Decoder::new(&bytes, &mut fds))
    }

    /// Fails if no receiver is left.
    pub(crate) fn check_readers(&self) -> Result<()> {
        if self.inner.is_left(&self.inner.readers)? { Err(Error::Disconnected) } else { Ok(()) }
    }

    /// Whether this is a receiver's ring and no sender is left.
    pub(crate) fn has_lost_its_senders(&self) -> Result<bool> {
        self.inner.is_left(&self.inner.writers)
    }

    /// What hangs up when no receiver is left, of a sender's ring.
    pub(crate) fn readers(&self) -> Option<BorrowedFd<'_>> {
        self.inner.readers.as_ref().map(AsFd::as_fd)
    }

    /// Encodes an end: the ring, then `life`, then what hangs up when the other end is gone.
    pub(crate) fn encode_with_end(&self, encoder: &mut Encoder<'_>, life: BorrowedFd<'_>) {
        self.encode(encoder);
        encoder.fd(life);
        let ends = [&self.inner.writers, &self.inner.readers];
        ends.into_iter().flatten().for_each(|end| encoder.fd(end.as_fd()));
    }

    /// Puts a message behind the others and says its number, counted from 0.
    ///
    /// # Errors
    /// * [`Error::Full`]: no room within the time allowed.
    /// * [`Error::Closed`], [`Error::MessageTooLong`], [`Error::Corrupt`].
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or more descriptors in flight.
    ///
    /// The ring is as before then.
    #[inline]
    pub(crate) fn put(&self, message: &Payload, deadline: Deadline) -> Result<u64> {
        self.inner.put(&message.into(), deadline)
    }

    /// Puts a message whose bytes lie elsewhere, likewise.
    #[inline]
    pub(crate) fn put_parcel(&self, parcel: &Parcel<'_>, deadline: Deadline) -> Result<u64> {
        self.inner.put(parcel, deadline)
    }

    /// Puts messages one behind the other, with none of anybody else's between them, and says how many: all
    /// of them, unless the time is over or something fails when some are in already.
    ///
    /// # Errors
    /// Those of [`put`](Self::put), when none is in.
    pub(crate) fn put_many<'a>(
        &self,
        messages: impl Iterator<Item = Parcel<'a>> + Clone,
        deadline: Deadline,
    ) -> Result<usize> {
        self.inner.put_many(messages, deadline)
    }

    /// Takes the first message, and those behind it that are there and fit the batch. Not for a crowd.
    /// `claim` is called as in [`get`](Self::get), with the number of the first and how many they are.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub(crate) fn get_many(
        &self,
        batch: &mut Batch,
        deadline: Deadline,
        claim: impl FnOnce(u64, u64),
    ) -> Result<()> {
        self.inner.get_many(batch, deadline, claim)
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

    /// How many messages were put so far.
    pub(crate) fn put_so_far(&self) -> Result<u64> {
        Ok(self.inner.look_at_tail()?.items)
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
    ///
    /// A caller that is killed has closed the ring, or not, or it is closed when somebody next has to wait for
    /// room.
    pub(crate) fn close(&self) -> Result<()> {
        let inner = &self.inner;
        inner.state().head.close(|_| inner.ring_for_space())?;
        inner.close_tail()
    }

    /// What is readable when there may be something to get, or the ring is closed: for any number of
    /// watchers, as long as it stays so. Who finds nothing all the same makes it silent by a get that does not
    /// want to wait, or by [`prepare_sleep`](Self::prepare_sleep). Not for a crowd.
    ///
    /// # Errors
    /// * [`Error::Os`] (EMFILE, ENOMEM): the descriptor is made when it is first asked for.
    pub(crate) fn bell(&self) -> Result<BorrowedFd<'_>> {
        let inner = &self.inner;
        if let Some(watch) = inner.watch.get() {
            return Ok(watch.as_fd());
        }
        let watch = Epoll::new().map_err(Error::os("epoll_create1"))?;
        for bell in &inner.items_bells {
            watch.add(bell.as_fd(), 0).map_err(Error::os("epoll_ctl"))?;
        }
        if let Some(writers) = &inner.writers {
            watch.add_hang_up(writers.as_fd(), 0).map_err(Error::os("epoll_ctl"))?;
        }
        inner.state().fixed.watched.store(1, Ordering::SeqCst);
        // Another thread may have been faster; its set is as good.
        Ok(inner.watch.get_or_init(|| watch).as_fd())
    }

    /// True: there is nothing to get, and the bell will ring when there is, or when the ring is closed. False:
    /// look now. Not for a crowd.
    pub(crate) fn prepare_sleep(&self) -> Result<bool> {
        let state = self.inner.state();
        state.fixed.watched.store(1, Ordering::SeqCst);
        let head = self.inner.look_at_head()?;
        if self.inner.look_at_tail()?.items > head.items || state.is_closed() {
            return Ok(false);
        }
        if let Some(turn) = state.consumer.turn.try_acquire()? {
            self.inner.settle_consumer(&turn);
            return Ok(self.inner.arm_bells(state.head.read())?.is_some());
        }
        // Who has the turn takes something, or sleeps and has made the bells silent that were not needed.
        let armed = state.tail.word().is_armed();
        Ok(armed || state.tail.arm(true, |tail| tail.items <= head.items)?.is_some())
    }

    /// Wakes one of a crowd for a look, in place of one that was killed.
    pub(crate) fn nudge(&self) -> Result<()> {
        self.inner.add_tokens(1, 1)
    }

    /// Whether there is something to take, and one of a crowd was woken for it who has not come yet.
    pub(crate) fn is_awaiting_somebody(&self) -> Result<bool> {
        let tokens = &self.inner.state().items.tokens;
        Ok(tokens.load(Ordering::Relaxed) > 0 && self.inner.len()? > 0)
    }
}

impl Inner {
    pub(super) fn state(&self) -> &State {
        self.store.state()
    }

    /// Whether somebody polls the bells.
    pub(super) fn is_watched(&self) -> bool {
        // SeqCst, with the store: at worst a watcher looks once for nothing.
        self.state().fixed.watched.load(Ordering::SeqCst) != 0
    }

    /// The tail, for who has not the producers' turn.
    pub(super) fn look_at_tail(&self) -> Result<Mark> {
        self.state().tail.look()
    }

    /// The head, for who has not the consumers' turn.
    pub(super) fn look_at_head(&self) -> Result<Mark> {
        self.state().head.look()
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
        self.inner.items_bells.iter().for_each(|bell| encoder.fd(bell.as_fd()));
        self.inner.space_bell.iter().for_each(|bell| encoder.fd(bell.as_fd()));
        encoder.fd(self.inner.side.as_fd());
    }
}

impl Decode for Ring {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Ring> {
        let store = Store::over(Decode::decode(decoder)?)?;
        let maxsize = store.state().fixed.maxsize.load(Ordering::Relaxed);
        let crowd = store.state().fixed.crowd.load(Ordering::Relaxed) != 0;
        let tended = store.state().fixed.tended.load(Ordering::Relaxed) != 0;
        let has_ends = store.state().fixed.ends.load(Ordering::Relaxed) != 0;
        let items_bells = [decoder.fd()?, decoder.fd()?];
        let space_bell = has_ends.then(|| decoder.fd()).transpose()?;
        let watch = OnceLock::new();
        let side = Side::adopt(decoder.fd()?)?;
        let (writers, readers) = (None, None);
        let inner = Inner {
            store,
            items_bells,
            watch,
            space_bell,
            writers,
            readers,
            side,
            patience: Patience::new(),
            maxsize,
            crowd,
            tended,
        };
        Ok(Ring { inner: Arc::new(inner) })
    }
}
