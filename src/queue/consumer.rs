//! Getting: look, copy out, then the head.

use super::batch::Batch;
use super::bell::Woken;
use super::cursor::{How, Mark};
use super::patience::Patience;
use super::ring::Inner;
use super::state::Frame;
use super::store::{SMALL, Stretch};
use super::turn::take_turn;
use crate::codec::Payload;
use crate::region::RawLockGuard;
use crate::sys;
use crate::sys::time::{Deadline, monotonic};
use crate::{Error, Result};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a ring must have been empty before the consumer that waits gives its memory back.
const IDLE: Duration = Duration::from_millis(20);

/// How often at most a ring that runs empty gives its memory back, so that a busy one keeps it.
const SELDOM: Duration = Duration::from_millis(100);

/// The message at the head.
struct Found<'a> {
    frame: Frame,
    stretch: Stretch<'a>,
    /// Where its frame is in the class.
    at: u64,
    /// The head behind it.
    next: Mark,
    /// A tail, not necessarily the newest.
    tail: Mark,
}

impl Inner {
    pub(super) fn get(
        &self,
        message: &mut Payload,
        deadline: Deadline,
        claim: impl FnOnce(u64),
    ) -> Result<u64> {
        message.bytes.clear();
        message.fds.clear();
        let taken = if self.crowd {
            self.get_in_crowd(message, deadline, claim)
        } else {
            self.get_in_turn(message, deadline, claim)
        };
        if taken.is_err() {
            message.bytes.clear();
            message.fds.clear();
        }
        taken
    }

    fn get_in_turn(
        &self,
        message: &mut Payload,
        deadline: Deadline,
        claim: impl FnOnce(u64),
    ) -> Result<u64> {
        let turn = self.consumers_turn(deadline)?;
        self.settle_consumer(&turn);
        let tail = self.await_item(self.state().head.read(), deadline)?;
        // Read again: while it waited it may have moved to another segment.
        self.take(self.state().head.read(), tail, message, claim)
    }

    /// Takes the first message, waiting for it, and as many of those behind it as are there and fit `batch`.
    pub(super) fn get_many(
        &self,
        batch: &mut Batch,
        deadline: Deadline,
        claim: impl FnOnce(u64, u64),
    ) -> Result<()> {
        debug_assert!(!self.crowd, "a crowd takes one at a time");
        batch.clear();
        let turn = self.consumers_turn(deadline)?;
        self.settle_consumer(&turn);
        self.await_item(self.state().head.read(), deadline)?;
        // The tail that was enough for one may be an old one.
        let tail = self.look_at_tail()?;
        let first = self.step_over(self.state().head.read(), tail)?;
        let mut head = first;
        let items = tail.items.wrapping_sub(head.items);
        while batch.has_room() && (batch.count() as u64) < items {
            match self.add_to(batch, head, tail) {
                Ok(Some(next)) => head = next,
                Ok(None) => break,
                // What is before it can be had.
                Err(_) if batch.count() > 0 => break,
                Err(error) => return Err(error),
            }
        }
        claim(first.items, batch.count() as u64);
        self.publish_head(head)?;
        let _ = self.side.forget_many(batch);
        let _ = self.tidy(head, tail);
        Ok(())
    }

    /// Copies the message at `head` out behind those that are in `batch`; `None` at a segment's end.
    fn add_to(&self, batch: &mut Batch, head: Mark, tail: Mark) -> Result<Option<Mark>> {
        let at_end = head.segment != tail.segment
            && self.segment(head.segment.wrapping_add(1)).0 == head.position;
        if at_end {
            return Ok(None);
        }
        let found = self.find(head, tail)?;
        if found.frame.fds > 0 && batch.count() > 0 {
            // Its descriptors are behind those of a message that is not taken yet.
            return Ok(None);
        }
        self.copy_out(&found, batch.payload())?;
        batch.end_message();
        Ok(Some(found.next))
    }

    #[inline]
    pub(super) fn consumers_turn(&self, deadline: Deadline) -> Result<RawLockGuard<'_>> {
        let turn = take_turn(&self.state().consumer.turn, deadline, || Ok(self.len()? == 0))?;
        turn.ok_or_else(|| self.nothing())
    }

    /// Empty, or closed besides.
    pub(super) fn nothing(&self) -> Error {
        if self.state().is_closed() { Error::Closed } else { Error::Empty }
    }

    /// Clears up behind a consumer that was killed in its turn.
    #[inline]
    pub(super) fn settle_consumer(&self, turn: &RawLockGuard<'_>) {
        if turn.owner_died() {
            self.clear_up_behind_consumer();
        }
    }

    #[cold]
    fn clear_up_behind_consumer(&self) {
        self.state().consumer.seen.store(Mark::default());
        // It may have been about to leave a segment. What is wrong here is found again by whoever takes a
        // message.
        let tail = self.look_at_tail();
        let _ = tail.and_then(|tail| self.step_over(self.state().head.read(), tail));
    }

    /// A tail behind `head`, if there is an item.
    #[inline]
    pub(super) fn look_for_item(&self, head: Mark) -> Result<Option<Mark>> {
        let seen = &self.state().consumer.seen;
        let mut tail = seen.load();
        if tail.items <= head.items {
            tail = self.look_at_tail()?;
            seen.store(tail);
        }
        Ok((tail.items > head.items).then_some(tail))
    }

    /// Waits for an item, for who has the turn; says where the tail is.
    #[inline]
    fn await_item(&self, head: Mark, deadline: Deadline) -> Result<Mark> {
        match self.look_for_item(head)? {
            Some(tail) => Ok(tail),
            None => self.await_next(head, deadline),
        }
    }

    #[cold]
    fn await_next(&self, head: Mark, deadline: Deadline) -> Result<Mark> {
        if !deadline.has_passed() && self.patience.is_due() {
            let moment = Deadline::after(Patience::MOMENT);
            std::thread::yield_now();
            let come = self.look_for_item(head)?;
            self.patience.note(come.is_some() && !moment.has_passed());
            if let Some(tail) = come {
                return Ok(tail);
            }
        }
        self.sleep_for_item(head, deadline)
    }

    fn sleep_for_item(&self, head: Mark, deadline: Deadline) -> Result<Mark> {
        let (mut idle, mut rings) = (false, 0);
        loop {
            self.sweep_if_empty()?;
            let passed = deadline.has_passed();
            let armed = if passed && !self.is_watched() { None } else { self.arm_bells(head)? };
            // Looked at after the arming, which finds whoever publishes meanwhile or is found by him, and
            // before the item: nothing is put after either.
            let closed = self.state().is_closed();
            let left = self.is_left(&self.writers)?;
            if let Some(tail) = self.look_for_item(head)? {
                return Ok(tail);
            }
            match (closed, left, passed) {
                (true, _, _) => return Err(Error::Closed),
                (_, true, _) => return Err(Error::Disconnected),
                (_, _, true) => return Err(Error::Empty),
                _ => {}
            }
            let Some(bell) = armed else { continue };
            let large = !idle && self.is_large(self.state().head.read());
            let until = if large { deadline.min(Deadline::after(IDLE)) } else { deadline };
            let woken = self.sleep(self.items_bells[bell].as_fd(), &self.writers, until)?;
            if woken == Woken::ByBell {
                // The bell rings before the tail is published. Only under the turn is it made silent.
                self.state().tail.help(bell);
            }
            if woken != Woken::TooLate {
                // Whoever was not helped is about to publish.
                self.linger(&mut rings, || Ok(self.look_at_tail()?.items > head.items))?;
            } else if large {
                idle = true;
                self.shrink()?;
            }
            if let Some(tail) = self.look_for_item(head)? {
                return Ok(tail);
            }
        }
    }

    /// Has the next who puts ring one of the bells, makes the other silent and says which is which; `None`
    /// if there is an item, or the ring is closed. The caller has the consumers' turn.
    ///
    /// A bell that was rung is left alone until the other one is armed. So at any time one is armed, or one
    /// can be heard, or the ring is empty and nobody cares: whoever polls both misses nothing, wherever
    /// somebody is killed.
    pub(super) fn arm_bells(&self, head: Mark) -> Result<Option<usize>> {
        let Some(word) = self.state().tail.arm(false, |tail| tail.items <= head.items)? else {
            return Ok(None);
        };
        let other = self.items_bells[1 - word.bell()].as_fd();
        sys::fd::drain(other).map_err(Error::os("read"))?;
        Ok(Some(word.bell()))
    }

    /// Copies the first message out and takes it.
    pub(super) fn take(
        &self,
        head: Mark,
        tail: Mark,
        message: &mut Payload,
        claim: impl FnOnce(u64),
    ) -> Result<u64> {
        let head = self.step_over(head, tail)?;
        let found = self.find(head, tail)?;
        let with_fds = self.copy_out(&found, message)?;
        claim(head.items);
        self.publish_head(found.next)?;
        // The message is this caller's now: what is wrong with the rest is for the next call to say.
        if with_fds {
            let _ = self.side.forget(message.fds.len());
        }
        let _ = self.tidy(found.next, found.tail);
        Ok(head.items)
    }

    /// Moves `head` out of segments that end where it is, and gives their memory back.
    ///
    /// The memory goes first: once the head is published, a producer may enter the class again.
    #[inline]
    pub(super) fn step_over(&self, mut head: Mark, tail: Mark) -> Result<Mark> {
        if tail.segment.wrapping_sub(head.segment) >= self.store.count() {
            return Err(Error::corrupt("a queue's segments"));
        }
        while head.segment != tail.segment {
            let next = head.segment.wrapping_add(1);
            if self.segment(next).0 != head.position {
                break;
            }
            self.store.give_back(self.segment(head.segment).1)?;
            head.segment = next;
            self.publish_head(head)?;
        }
        Ok(head)
    }

    /// The message at `head`, after a look at everything that is believed of it.
    #[inline]
    fn find(&self, head: Mark, tail: Mark) -> Result<Found<'_>> {
        let (start, class) = self.segment(head.segment);
        let end = match head.segment == tail.segment {
            true => tail.position,
            false => self.segment(head.segment.wrapping_add(1)).0,
        };
        let len = self.store.len(class)?;
        let corrupt = || Error::corrupt("a queue's head");
        let held =
            end.checked_sub(head.position).filter(|held| *held <= len).ok_or_else(corrupt)?;
        let at = head.position.checked_sub(start).ok_or_else(corrupt)?;
        if at % Frame::LEN as u64 != 0 || held < Frame::LEN as u64 {
            return Err(corrupt());
        }
        let at = self.store.place(class, at)?;
        let stretch = self.store.stretch(class)?;
        let mut bytes = [0; Frame::LEN];
        stretch.read(at, &mut bytes)?;
        let frame = Frame::from_bytes(bytes, head.position)?;
        let stride = frame.stride().filter(|stride| *stride <= held);
        let stride = stride.ok_or_else(|| Error::corrupt("a queue's message"))?;
        let next =
            Mark { position: head.position + stride, items: head.items.wrapping_add(1), ..head };
        Ok(Found { frame, stretch, at, next, tail })
    }

    /// Copies a message's bytes and descriptors out; says whether it has any of the latter.
    #[inline]
    fn copy_out(&self, found: &Found<'_>, message: &mut Payload) -> Result<bool> {
        let body = found.at.wrapping_add(Frame::LEN as u64);
        // Not longer than its class, which is mapped: no more than there is address space for.
        let len = found.frame.len as usize;
        if found.frame.fds == 0 {
            found.stretch.append_to(body, len, &mut message.bytes)?;
            return Ok(false);
        }
        let mut ticket = [0; Frame::TICKET as usize];
        found.stretch.read(body, &mut ticket)?;
        let body = body.wrapping_add(Frame::TICKET);
        found.stretch.append_to(body, len, &mut message.bytes)?;
        let ticket = u64::from_le_bytes(ticket);
        self.side.copy(ticket, found.frame.fds as usize, &mut message.fds)?;
        Ok(true)
    }

    /// Publishes the head, which is what takes a message.
    #[inline]
    fn publish_head(&self, next: Mark) -> Result<()> {
        let state = self.state();
        state.head.publish(next, How::Always, |_| {
            // The sleeper may change its mind meanwhile, but then it arms the head again.
            let reached = next.reaches(state.space.wanted.load());
            if reached {
                self.ring_for_space()?;
            }
            Ok(!reached)
        })
    }

    /// After a message was taken: leaves its segment if that ended with it, and clears up in a ring that
    /// has run empty.
    #[inline]
    fn tidy(&self, head: Mark, mut tail: Mark) -> Result<()> {
        if head.items == tail.items {
            // The tail at hand was an old one, perhaps.
            tail = self.look_at_tail()?;
            self.state().consumer.seen.store(tail);
        }
        if head.position == tail.position && head.segment == tail.segment {
            self.sweep_if_empty()?;
            if self.is_large(head) {
                self.shrink_seldom()?;
            }
        } else if head.segment != tail.segment {
            self.step_over(head, tail)?;
        }
        Ok(())
    }

    /// Whether the head is in a class that is not for keeps.
    fn is_large(&self, head: Mark) -> bool {
        self.store.len(self.segment(head.segment).1).is_ok_and(|len| len > SMALL)
    }

    fn shrink_seldom(&self) -> Result<()> {
        let last = Duration::from_nanos(self.state().consumer.shrunk.load(Ordering::Relaxed));
        let now = monotonic();
        // A time in the future is nonsense, and as good as long ago.
        if now.checked_sub(last).is_none_or(|since| since >= SELDOM) {
            self.shrink()
        } else {
            Ok(())
        }
    }

    /// Sends the stream of an empty ring on in the smallest class and gives the large one back, unless a
    /// producer is at work. The caller has the consumers' turn.
    fn shrink(&self) -> Result<()> {
        let state = self.state();
        let Some(turn) = state.producer.turn.try_acquire()? else { return Ok(()) };
        self.settle_producer(&turn)?;
        let (head, tail) = (state.head.read(), state.tail.read());
        if head != tail || state.is_closed() || self.store.reserve(0).is_err() {
            return Ok(());
        }
        let next = self.lay_out(tail, 0)?;
        // There is nothing in it that anybody would want to wake for.
        state.tail.publish(next, How::Always, |_| Ok(true))?;
        let now = monotonic().as_nanos() as u64;
        state.consumer.shrunk.store(now, Ordering::Relaxed);
        self.step_over(head, next).map(drop)
    }

    /// Takes the descriptors of killed producers away, which are all that an empty ring can have, but
    /// for those of a put under way. The caller has the consumers' turn.
    pub(super) fn sweep_if_empty(&self) -> Result<()> {
        let state = self.state();
        // Acquire: pairs with the Release that counted up to this ticket, so the tail below shows every
        // message of an older one.
        let ticket = state.producer.ticket.load(Ordering::Acquire);
        if ticket == state.consumer.settled.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.look_at_tail()?.items == state.head.read().items {
            // What is left is of a put under way, or of a producer that was killed in it: then the
            // next one counts the tickets up, and the orphans are swept.
            let left = self.side.sweep(ticket)?;
            let settled = if left { ticket.wrapping_sub(1) } else { ticket };
            state.consumer.settled.store(settled, Ordering::Relaxed);
        }
        Ok(())
    }
}
