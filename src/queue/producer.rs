//! Putting: bytes into the room there is, then the tail.

use super::cursor::{How, Mark};
use super::parcel::Parcel;
use super::ring::Inner;
use super::room::{Need, Room};
use super::side::Side;
use super::state::Frame;
use super::turn::take_turn;
use crate::region::RawLockGuard;
use crate::sys::time::Deadline;
use crate::{Error, Result};
use std::cell::Cell;
use std::sync::atomic::Ordering;

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
