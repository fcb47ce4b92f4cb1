//! Putting: room, bytes, then the tail.

use super::cursor::{How, Mark};
use super::parcel::Parcel;
use super::ring::{Inner, Woken};
use super::side::Side;
use super::state::{Frame, SEGMENTS};
use super::store::EAGER;
use super::turn::{GRACE, take_turn};
use crate::region::RawLockGuard;
use crate::sys;
use crate::sys::time::Deadline;
use crate::{Error, Result};
use std::cell::Cell;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a producer waits for more than the room that it needs, so that it is not woken for each
/// message taken.
const COMFORT: Duration = Duration::from_micros(200);

/// How long a producer waits for room before it takes a mebibyte more: about as long as that would cost it in
/// fresh pages.
const PATIENCE: Duration = Duration::from_micros(500);

/// The longest such wait, however much is to be taken.
const MOST_PATIENCE: Duration = Duration::from_millis(20);

/// What a message needs of the ring.
#[derive(Clone, Copy)]
struct Need {
    frame: Frame,
    /// In bytes of the stream.
    stride: u64,
}

/// What there is for it.
enum Room {
    /// Room where the tail is.
    Here,
    /// A class to go on in, small enough to take it without thinking or not.
    Beyond { class: u64, small: bool, comfort_at: Mark },
    /// None until the head comes to `exact`; `comfort_at` is further on and spares wake-ups.
    None { exact: Mark, comfort_at: Mark },
}

/// The first part of a wait, in which a producer waits for more than it needs.
struct Comfort {
    until: Option<Deadline>,
    deadline: Deadline,
    /// How often the bell rang in the whole of the wait.
    rings: u32,
}

impl Comfort {
    /// When this part ends, `limit` after it began or with the wait; `None` once that has passed.
    fn until(&mut self, limit: Duration) -> Option<Deadline> {
        let until = *self.until.get_or_insert_with(|| Deadline::after(limit).min(self.deadline));
        (!until.has_passed()).then_some(until)
    }
}

/// The segment that the tail is in.
#[derive(Clone, Copy)]
struct Last {
    start: u64,
    class: u64,
    len: u64,
}

impl Inner {
    /// Puts a parcel and says its number.
    pub(super) fn put(&self, parcel: &Parcel<'_>, deadline: Deadline) -> Result<u64> {
        let need = self.need(parcel)?;
        let turn = self.producers_turn(deadline)?;
        self.settle_producer(&turn)?;
        let tail = self.state().tail.read();
        let next = self.put_behind(tail, tail, need, parcel, deadline)?;
        self.publish_tail(tail, next)?;
        Ok(tail.items)
    }

    /// Puts parcels one behind the other and says how many; all of them, unless the time is over or
    /// something fails when some are in already.
    pub(super) fn put_many<'a>(
        &self,
        parcels: impl Iterator<Item = Parcel<'a>> + Clone,
        deadline: Deadline,
    ) -> Result<usize> {
        // What can never be put fails before anything is.
        parcels.clone().try_for_each(|parcel| self.need(&parcel).map(drop))?;
        let turn = self.producers_turn(deadline)?;
        self.settle_producer(&turn)?;
        let first = self.state().tail.read();
        let mut put = 0;
        match self.put_each(first, parcels, deadline, &mut put) {
            Err(error) if put == 0 => Err(error),
            _ => Ok(put),
        }
    }

    /// Puts parcels, and publishes them together as long as there is room without waiting.
    fn put_each<'a>(
        &self,
        mut tail: Mark,
        parcels: impl Iterator<Item = Parcel<'a>>,
        deadline: Deadline,
        put: &mut usize,
    ) -> Result<()> {
        let mut next = tail;
        for parcel in parcels {
            let need = self.need(&parcel)?;
            let seen = self.state().producer.seen.load();
            let fits = matches!(self.room(next, self.last(next)?, seen, need), Ok(Room::Here));
            if next != tail && !(fits && parcel.fds.is_empty()) {
                self.publish_tail(tail, next)?;
                *put += (next.items - tail.items) as usize;
                tail = next;
            }
            next = self.put_behind(tail, next, need, &parcel, deadline)?;
        }
        if next != tail {
            self.publish_tail(tail, next)?;
            *put += (next.items - tail.items) as usize;
        }
        Ok(())
    }

    fn producers_turn(&self, deadline: Deadline) -> Result<RawLockGuard<'_>> {
        let turn = take_turn(&self.state().producer.turn, deadline, || self.nobody_can_put())?;
        let full = || if self.state().is_closed() { Error::Closed } else { Error::Full };
        turn.ok_or_else(full)
    }

    /// Makes room behind `next`, which is `tail` or parcels beyond it, fills it and says where the tail
    /// will be with the parcel.
    #[inline]
    fn put_behind(
        &self,
        tail: Mark,
        next: Mark,
        need: Need,
        parcel: &Parcel<'_>,
        deadline: Deadline,
    ) -> Result<Mark> {
        let place = self.make_room(next, need, deadline)?;
        let outcome = self.fill(place, need, parcel, deadline);
        if outcome.is_err() && place.segment != tail.segment {
            self.store.give_back(self.segment(place.segment).1)?;
        }
        outcome
    }

    #[inline]
    fn need(&self, parcel: &Parcel<'_>) -> Result<Need> {
        if parcel.fds.len() > Side::MOST {
            let most = Side::MOST;
            return Err(Error::encode(format!("more than {most} descriptors in one message")));
        }
        let frame = Frame { len: parcel.len() as u64, fds: parcel.fds.len() as u32 };
        let max = self.store.longest();
        match frame.stride() {
            Some(stride) if stride <= max => Ok(Need { frame, stride }),
            _ => Err(Error::MessageTooLong { len: frame.len, max: max - Frame::LEN as u64 }),
        }
    }

    /// Whether the producer that has the turn waits for room, or the ring is closed.
    fn nobody_can_put(&self) -> Result<bool> {
        let asleep = self.state().head.word().is_armed();
        let full = self.maxsize != 0 && self.len()? >= self.maxsize;
        Ok(asleep || full || self.state().is_closed())
    }

    /// Clears up behind a producer that was killed in its turn: what it had in hand, and the pages of a
    /// class that it was about to enter.
    #[inline]
    pub(super) fn settle_producer(&self, turn: &RawLockGuard<'_>) -> Result<()> {
        if turn.owner_died() { self.clear_up_behind_producer() } else { Ok(()) }
    }

    #[cold]
    fn clear_up_behind_producer(&self) -> Result<()> {
        let state = self.state();
        // First: from here on nobody publishes what the dead one had ready.
        state.tail.withdraw();
        state.producer.seen.store(Mark::default());
        // A number of nobody, newer than those of the dead: a sweep now takes theirs.
        state.producer.ticket.fetch_add(1, Ordering::Release);
        state.head.disarm();
        // With the turn in hand no class can be entered; one that is being left is in the chain still or
        // has been given back already.
        let taken = self.taken(self.look_at_head()?, self.state().tail.read())?;
        let free = (0..self.store.count()).filter(|class| taken & 1 << class == 0);
        free.into_iter().try_for_each(|class| self.store.give_back(class))
    }

    /// The classes of the chain from `head` to `tail`, a bit for each.
    fn taken(&self, head: Mark, tail: Mark) -> Result<u64> {
        let count = tail.segment.wrapping_sub(head.segment).wrapping_add(1);
        if count > self.store.count() || count == 0 {
            return Err(Error::corrupt("a queue's segments"));
        }
        (0..count).try_fold(0, |taken, i| {
            let (_, class) = self.segment(head.segment.wrapping_add(i));
            self.store.len(class)?;
            Ok(taken | 1 << class)
        })
    }

    #[inline]
    fn last(&self, tail: Mark) -> Result<Last> {
        let (start, class) = self.segment(tail.segment);
        let len = self.store.len(class)?;
        if start > tail.position || tail.position % Frame::LEN as u64 != 0 {
            return Err(Error::corrupt("a queue's tail"));
        }
        Ok(Last { start, class, len })
    }

    /// Waits for room and says where the message goes: at the tail, or at the beginning of the next
    /// segment, which is then prepared.
    #[inline]
    fn make_room(&self, tail: Mark, need: Need, deadline: Deadline) -> Result<Mark> {
        let last = self.last(tail)?;
        if self.state().is_closed() {
            return Err(Error::Closed);
        }
        // The head as it was seen last is the worst case: most of the time that is enough.
        let seen = self.state().producer.seen.load();
        if let Ok(Room::Here) = self.room(tail, last, seen, need) {
            return Ok(tail);
        }
        self.await_room(tail, last, need, deadline)
    }

    fn await_room(&self, tail: Mark, last: Last, need: Need, deadline: Deadline) -> Result<Mark> {
        let mut comfort = Comfort { until: None, deadline, rings: 0 };
        loop {
            if self.state().is_closed() {
                return Err(Error::Closed);
            }
            let head = self.look_at_head()?;
            self.state().producer.seen.store(head);
            match self.room(tail, last, head, need)? {
                Room::Here => return Ok(tail),
                Room::Beyond { class, small, comfort_at } => {
                    match comfort.until(self.patience(class)?) {
                        Some(until) if !small => {
                            self.sleep_for_space(comfort_at, until, &mut comfort)?
                        }
                        _ => return self.enter_one(tail, head, need, class),
                    }
                }
                Room::None { .. } if self.is_at_end(head, tail) => {
                    self.step_over_for_consumer(tail, deadline)?;
                }
                Room::None { .. } if deadline.has_passed() => return Err(Error::Full),
                Room::None { exact, comfort_at } => match comfort.until(COMFORT) {
                    Some(until) if comfort_at != exact => {
                        self.sleep_for_space(comfort_at, until, &mut comfort)?
                    }
                    _ => self.sleep_for_space(exact, deadline, &mut comfort)?,
                },
            }
        }
    }

    /// How long to wait for room before `class` is entered.
    fn patience(&self, class: u64) -> Result<Duration> {
        let mebibytes = (self.store.len(class)? >> 20).min(1000) as u32;
        Ok((PATIENCE * mebibytes).min(MOST_PATIENCE))
    }

    /// Whether the head is at the end of a segment that is not the last, and has yet to leave it.
    fn is_at_end(&self, head: Mark, tail: Mark) -> bool {
        let (next, _) = self.segment(head.segment.wrapping_add(1));
        head.segment != tail.segment && head.position == next
    }

    /// Sees to it that the head leaves a segment at the end of which it was; the caller looks again then.
    ///
    /// A consumer does that after it has taken the last message, but may be killed in between. One that lives
    /// may have left the segment since the caller looked, have taken all that is behind it, and sleep in its
    /// turn until more is put: so the turn is waited for only while the head stays where it is.
    fn step_over_for_consumer(&self, tail: Mark, deadline: Deadline) -> Result<()> {
        const LONGEST: Duration = Duration::from_millis(10);
        let mut slice = Duration::from_micros(100);
        let (turn, grace) = (&self.state().consumer.turn, Deadline::after(GRACE));
        let mut until = Deadline::now();
        loop {
            if let Some(turn) = turn.acquire_until(until)? {
                self.settle_consumer(&turn);
                return self.step_over(self.state().head.read(), tail).map(drop);
            }
            if self.state().is_closed() || !self.is_at_end(self.look_at_head()?, tail) {
                return Ok(());
            }
            if deadline.has_passed() && grace.has_passed() {
                return Err(Error::Full);
            }
            until = Deadline::after(slice);
            // A holder that was stopped is not asked for thousands of times a second.
            slice = LONGEST.min(slice * 2);
        }
    }

    #[inline]
    fn room(&self, tail: Mark, last: Last, head: Mark, need: Need) -> Result<Room> {
        let items = tail.items.checked_sub(head.items);
        let from = head.position.max(last.start);
        let used = tail.position.checked_sub(from).filter(|used| *used <= last.len);
        let (Some(items), Some(used)) = (items, used) else {
            return Err(Error::corrupt("a queue's head"));
        };
        let full = self.maxsize != 0 && items >= self.maxsize;
        if !full && last.len - used >= need.stride {
            return Ok(Room::Here);
        }
        self.no_room(tail, last, head, need, full)
    }

    /// What there is instead of room at the tail.
    #[cold]
    fn no_room(&self, tail: Mark, last: Last, head: Mark, need: Need, full: bool) -> Result<Room> {
        if full {
            let exact = Mark { items: tail.items - self.maxsize + 1, ..Mark::default() };
            let comfort = head.items.saturating_add(self.maxsize / 2);
            let comfort_at = Mark { items: exact.items.max(comfort).min(tail.items), ..exact };
            return Ok(Room::None { exact, comfort_at });
        }
        let taken = self.taken(head, tail)?;
        if let Some(class) = self.store.next_class(last.class, taken, need.stride) {
            let small = class > last.class && self.store.len(class)? <= EAGER;
            let small = small || need.stride > last.len;
            return Ok(Room::Beyond {
                class,
                small,
                comfort_at: comfort_at(tail, last, head, need),
            });
        }
        if head.segment != tail.segment || need.stride > last.len {
            // The class that the head leaves next may do, or make room for another look.
            let (position, _) = self.segment(head.segment.wrapping_add(1));
            let exact = Mark { position, ..Mark::default() };
            return Ok(Room::None { exact, comfort_at: exact });
        }
        let position = tail.position.saturating_add(need.stride) - last.len;
        let exact = Mark { position, ..Mark::default() };
        Ok(Room::None { exact, comfort_at: comfort_at(tail, last, head, need) })
    }

    /// Prepares the next segment in `class`, or in a smaller one if the system has not the memory for that.
    fn enter_one(&self, tail: Mark, head: Mark, need: Need, class: u64) -> Result<Mark> {
        let refused = match self.enter(tail, class) {
            Err(error @ Error::Os { .. }) => error,
            outcome => return outcome,
        };
        let taken = self.taken(head, tail)?;
        let may_do = |class: &u64| {
            let fits = self.store.len(*class).is_ok_and(|len| len >= need.stride);
            taken & 1 << *class == 0 && fits
        };
        let entered =
            (0..class).rev().filter(may_do).find_map(|class| self.enter(tail, class).ok());
        entered.ok_or(refused)
    }

    /// Prepares the next segment in `class`. It becomes real with the next tail that is published.
    fn enter(&self, tail: Mark, class: u64) -> Result<Mark> {
        if let Err(refused) = self.store.reserve(class) {
            // What it has got of it already is of no use.
            self.store.give_back(class)?;
            return Err(refused);
        }
        self.lay_out(tail, class)
    }

    /// Notes in the table that the segment behind the tail's is in `class`.
    pub(super) fn lay_out(&self, tail: Mark, class: u64) -> Result<Mark> {
        const { assert!(SEGMENTS.is_power_of_two(), "numbers go round the table") };
        let place = Mark { segment: tail.segment.wrapping_add(1), ..tail };
        let segment = self.state().segment(place.segment);
        // Relaxed: publishing the tail orders both.
        segment.start.store(place.position, Ordering::Relaxed);
        segment.class.store(class, Ordering::Relaxed);
        Ok(place)
    }

    /// Sends the descriptors and writes the bytes, all of which nobody sees yet; says where the tail goes.
    #[inline]
    fn fill(
        &self,
        place: Mark,
        need: Need,
        parcel: &Parcel<'_>,
        deadline: Deadline,
    ) -> Result<Mark> {
        let (start, class) = self.segment(place.segment);
        let at = self.store.place(class, place.position.wrapping_sub(start))?;
        let stretch = self.store.stretch(class)?;
        let mut front = Front::new(need.frame.to_bytes(place.position));
        if need.frame.fds > 0 {
            front.push(self.send(parcel, place, deadline)?.to_le_bytes());
        }
        if let Some(len) = parcel.len {
            front.push(len.to_le_bytes());
        }
        stretch.write(at, front.bytes())?;
        stretch.write(at.wrapping_add(front.len as u64), parcel.bytes)?;
        let position = place.position.wrapping_add(need.stride);
        Ok(Mark { position, items: place.items.wrapping_add(1), ..place })
    }

    /// Sends a message's descriptors under a new ticket.
    fn send(&self, parcel: &Parcel<'_>, place: Mark, deadline: Deadline) -> Result<u64> {
        // Release: pairs with the Acquire of who sweeps. Every ticket before this one is either published
        // or will never be, since its producer's turn is over.
        let ticket = self.state().producer.ticket.fetch_add(1, Ordering::Release).wrapping_add(1);
        let sent = self.side.send(ticket, parcel.fds, deadline, || self.drop_orphans(place));
        if sent.is_err() {
            // What went before it failed is an orphan like those of the dead.
            self.state().producer.ticket.fetch_add(1, Ordering::Release);
            self.drop_orphans(place)?;
        }
        sent.map(|()| ticket)
    }

    /// Has the orphans taken away that may fill the side socket, by whoever has the consumers' turn.
    fn drop_orphans(&self, place: Mark) -> Result<()> {
        match self.state().consumer.turn.try_acquire()? {
            Some(turn) => {
                self.settle_consumer(&turn);
                self.sweep_if_empty()
            }
            None if !self.crowd && self.look_at_head()?.items == place.items => {
                self.ring_for_items(self.state().tail.word())
            }
            None => Ok(()),
        }
    }

    /// Publishes the tail behind one more message, or several.
    #[inline]
    fn publish_tail(&self, tail: Mark, next: Mark) -> Result<()> {
        let outcome = if self.crowd || self.tended {
            self.publish_and_ring(next)
        } else {
            let ring = |word| self.ring_for_items(word).map(|()| false);
            self.state().tail.publish(next, How::WithHelp, ring)
        };
        if outcome.is_err() && next.segment != tail.segment {
            self.store.give_back(self.segment(next.segment).1)?;
        }
        outcome
    }

    /// Publishes the tail first and rings then: somebody looks after whoever is killed in between.
    #[inline]
    fn publish_and_ring(&self, next: Mark) -> Result<()> {
        let armed = Cell::new(None);
        self.state().tail.publish(next, How::Open, |word| {
            armed.set(Some(word));
            Ok(false)
        })?;
        if self.crowd {
            self.wake_in_crowd();
        } else if let Some(word) = armed.get() {
            // The message is in, whatever becomes of the ringing; a bell that is open refuses nothing.
            let _ = self.ring_for_items(word);
        }
        Ok(())
    }

    /// Sleeps until the head reaches `wanted`, the ring is closed, or the deadline passes; the caller,
    /// who has the producers' turn, looks for itself which.
    fn sleep_for_space(
        &self,
        wanted: Mark,
        deadline: Deadline,
        comfort: &mut Comfort,
    ) -> Result<()> {
        let state = self.state();
        state.space.wanted.store(wanted);
        if state.head.arm(true, |head| !head.reaches(wanted))?.is_none() {
            // Somebody is closing the ring, or was killed when he did.
            return if state.head.word().is_closed() { self.close_tail() } else { Ok(()) };
        }
        let bell = self.space_bell.as_fd();
        let alone = deadline == Deadline::NEVER && self.readers.is_none();
        if alone || self.sleep(bell, &self.readers, deadline)? != Woken::TooLate {
            if self.is_left(&self.readers)? {
                return Err(Error::Disconnected);
            }
            // Nobody else takes the ring that was seen: that needs the turn.
            sys::fd::drain(bell).map_err(Error::os("read"))?;
            // The bell rings before the head is published, but hardly so.
            self.linger(&mut comfort.rings, || Ok(self.look_at_head()?.reaches(wanted)))
        } else {
            state.head.disarm();
            Ok(())
        }
    }
}

/// What stands before a message's bytes: its frame, the ticket of its descriptors, the number of its bytes.
struct Front {
    bytes: [u8; Frame::LEN + 16],
    len: usize,
}

impl Front {
    #[inline]
    fn new(frame: [u8; Frame::LEN]) -> Front {
        let mut bytes = [0; Frame::LEN + 16];
        bytes[..Frame::LEN].copy_from_slice(&frame);
        Front { bytes, len: Frame::LEN }
    }

    #[inline]
    fn push(&mut self, word: [u8; 8]) {
        self.bytes[self.len..self.len + 8].copy_from_slice(&word);
        self.len += 8;
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Where the head has to come for the message to fit and half of the class to be free.
fn comfort_at(tail: Mark, last: Last, head: Mark, need: Need) -> Mark {
    let exact = tail.position.saturating_add(need.stride).saturating_sub(last.len);
    let comfort = head.position.max(last.start).saturating_add(last.len / 2);
    Mark { position: exact.max(comfort).min(tail.position), ..Mark::default() }
}
