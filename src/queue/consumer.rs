//! Getting: look, copy out, then the head.

use super::ring::Inner;
use super::state::{Frame, Mark};
use super::store::SMALL;
use crate::codec::Payload;
use crate::region::RawLockGuard;
use crate::sys::time::{Deadline, monotonic};
use crate::{Error, Result, sys};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a ring must have been empty before the consumer that waits gives its memory back.
const IDLE: Duration = Duration::from_millis(20);

/// How often at most a ring that runs empty gives its memory back, so that a busy one keeps it.
const SELDOM: Duration = Duration::from_millis(100);

/// The message at the head.
struct Found {
    frame: Frame,
    class: u64,
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
        let turn = self.turn(&self.state().consumer.turn, deadline, || Ok(self.len()? == 0))?;
        let Some(turn) = turn else { return Err(self.nothing()) };
        self.settle_consumer(&turn);
        let tail = self.await_item(self.state().head.read(), deadline)?;
        // Read again: while it waited it may have moved to another segment.
        self.take(self.state().head.read(), tail, message, claim)
    }

    /// A crowd's consumers have the turn only while they look and take.
    fn get_in_crowd(
        &self,
        message: &mut Payload,
        deadline: Deadline,
        claim: impl FnOnce(u64),
    ) -> Result<u64> {
        loop {
            if self.len()? > 0 {
                let turn =
                    self.turn(&self.state().consumer.turn, deadline, || Ok(self.len()? == 0))?;
                let Some(turn) = turn else { return Err(self.nothing()) };
                self.settle_consumer(&turn);
                let head = self.state().head.read();
                if let Some(tail) = self.look_for_item(head)? {
                    return self.take(head, tail, message, claim);
                }
            }
            self.sleep_in_crowd(deadline)?;
        }
    }

    /// Empty, or closed besides.
    fn nothing(&self) -> Error {
        if self.state().is_closed() { Error::Closed } else { Error::Empty }
    }

    /// Clears up behind a consumer that was killed in its turn.
    pub(super) fn settle_consumer(&self, turn: &RawLockGuard<'_>) {
        if turn.owner_died() {
            self.state().consumer.seen.store(Mark::default());
            // It may have been about to leave a segment. What is wrong here is found again by whoever
            // takes a message.
            let tail = self.look_at_tail();
            let _ = tail.and_then(|tail| self.step_over(self.state().head.read(), tail));
        }
    }

    /// A tail behind `head`, if there is an item.
    fn look_for_item(&self, head: Mark) -> Result<Option<Mark>> {
        let seen = &self.state().consumer.seen;
        let mut tail = seen.load();
        if tail.items <= head.items {
            tail = self.look_at_tail()?;
            seen.store(tail);
        }
        Ok((tail.items > head.items).then_some(tail))
    }

    /// Waits for an item, for who has the turn; says where the tail is.
    fn await_item(&self, head: Mark, deadline: Deadline) -> Result<Mark> {
        let items = &self.state().items;
        let mut idle = false;
        loop {
            if let Some(tail) = self.look_for_item(head)? {
                return Ok(tail);
            }
            self.sweep_if_empty()?;
            if deadline.has_passed() && !self.state().is_closed() {
                return Err(Error::Empty);
            }
            // Whoever was to publish when this one woke is finished once the gate is open, or known to be
            // dead.
            let gate = self.items_gate()?;
            if self.state().tail.read().items > head.items {
                continue;
            }
            if self.state().is_closed() {
                return Err(Error::Closed);
            }
            items.sleepers.store(1, Ordering::Relaxed);
            drop(gate);
            let large = !idle && self.is_large(self.state().head.read());
            let until = if large { deadline.min(Deadline::after(IDLE)) } else { deadline };
            if self.sleep(self.items_bell.as_fd(), until)? {
                // The bell rings before the tail is published, but hardly so.
                self.spin(|| Ok(self.look_at_tail()?.items > head.items))?;
            } else {
                let gate = self.items_gate()?;
                items.sleepers.store(0, Ordering::Relaxed);
                drop(gate);
                if large {
                    idle = true;
                    self.shrink()?;
                }
            }
        }
    }

    /// Sleeps, without the turn, until something was put or the deadline passes (an error, if there is
    /// still nothing).
    fn sleep_in_crowd(&self, deadline: Deadline) -> Result<()> {
        let state = self.state();
        let head = self.look_at_head()?;
        let gate = self.items_gate()?;
        if state.tail.read().items > head.items {
            return Ok(());
        }
        if state.is_closed() {
            return Err(Error::Closed);
        }
        if deadline.has_passed() {
            return Err(Error::Empty);
        }
        // Only who is counted may take a token: sleepers and tokens together are never fewer than those
        // who wait.
        let sleepers = &state.items.sleepers;
        sleepers.store(sleepers.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        drop(gate);
        while !self.take_token() {
            let woken = sys::futex::wait(&state.items.tokens, 0, deadline);
            if woken.map_err(Error::os("futex"))? {
                continue;
            }
            // Either nobody has counted this sleeper out yet, or the token that did so is there, and whoever
            // takes it must look once more.
            let gate = self.items_gate()?;
            if !self.take_token() {
                let left = sleepers.load(Ordering::Relaxed).saturating_sub(1);
                sleepers.store(left, Ordering::Relaxed);
            }
            drop(gate);
            break;
        }
        Ok(())
    }

    fn take_token(&self) -> bool {
        // More than there can be sleepers is a word that was scribbled over.
        const NONSENSE: u32 = 1 << 20;
        let one_less =
            |tokens: u32| if tokens > NONSENSE { Some(0) } else { tokens.checked_sub(1) };
        // Acquire: pairs with the system call that added the token.
        let tokens = &self.state().items.tokens;
        tokens.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_less).is_ok()
    }

    /// Copies the first message out and takes it.
    fn take(
        &self,
        head: Mark,
        tail: Mark,
        message: &mut Payload,
        claim: impl FnOnce(u64),
    ) -> Result<u64> {
        let head = self.step_over(head, tail)?;
        let found = self.find(head, tail)?;
        let ticket = self.copy_out(&found, message)?;
        claim(head.items);
        self.publish_head(found.next)?;
        // The message is this caller's now: what is wrong with the rest is for the next call to say.
        if ticket.is_some() {
            let _ = self.side.forget(message.fds.len());
        }
        let _ = self.tidy(found.next, found.tail);
        Ok(head.items)
    }

    /// Moves `head` out of segments that end where it is, and gives their memory back.
    ///
    /// The memory goes first: once the head is published, a producer may enter the class again.
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
    fn find(&self, head: Mark, tail: Mark) -> Result<Found> {
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
        let mut bytes = [0; Frame::LEN];
        self.store.read(class, at, &mut bytes)?;
        let frame = Frame::from_bytes(bytes, head.position)?;
        let stride = frame.stride().filter(|stride| *stride <= held);
        let stride = stride.ok_or_else(|| Error::corrupt("a queue's message"))?;
        let next =
            Mark { position: head.position + stride, items: head.items.wrapping_add(1), ..head };
        Ok(Found { frame, class, at, next, tail })
    }

    /// Copies a message's bytes and descriptors; says its ticket, if it has any of the latter.
    fn copy_out(&self, found: &Found, message: &mut Payload) -> Result<Option<u64>> {
        let mut body = found.at.wrapping_add(Frame::LEN as u64);
        let mut ticket = None;
        if found.frame.fds > 0 {
            let mut bytes = [0; Frame::TICKET as usize];
            self.store.read(found.class, body, &mut bytes)?;
            body = body.wrapping_add(Frame::TICKET);
            ticket = Some(u64::from_le_bytes(bytes));
        }
        // Not longer than its class, which is mapped: no more than there is address space for.
        let len = found.frame.len as usize;
        self.store.append_to(found.class, body, len, &mut message.bytes)?;
        if let Some(ticket) = ticket {
            self.side.copy(ticket, found.frame.fds as usize, &mut message.fds)?;
        }
        Ok(ticket)
    }

    /// Publishes the head, which is what takes a message.
    fn publish_head(&self, next: Mark) -> Result<()> {
        let state = self.state();
        let gate = self.space_gate()?;
        let asleep = state.space.asleep.load(Ordering::Relaxed) != 0;
        if asleep && next.reaches(state.space.wanted.load()) {
            self.wake_producer()?;
        }
        state.head.publish(next);
        drop(gate);
        Ok(())
    }

    /// After a message was taken: leaves its segment if that ended with it, and clears up in a ring that
    /// has run empty.
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
        if head != tail || self.store.reserve(0).is_err() {
            return Ok(());
        }
        let next = self.lay_out(tail, 0)?;
        let gate = self.items_gate()?;
        state.tail.publish(next);
        drop(gate);
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
