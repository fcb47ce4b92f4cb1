//! A crowd: consumers that do not keep the turn while they sleep. See [`Options::crowd`](super::ring::Options).
//!
//! Who puts publishes first and wakes then, by a token that one sleeper takes.

use super::ring::Inner;
use crate::codec::Payload;
use crate::sys;
use crate::sys::time::Deadline;
use crate::{Error, Result};
use std::sync::atomic::{Ordering, fence};

impl Inner {
    /// A crowd's consumers have the turn only while they look and take.
    pub(super) fn get_in_crowd(
        &self,
        message: &mut Payload,
        deadline: Deadline,
        claim: impl FnOnce(u64),
    ) -> Result<u64> {
        let mut woken = false;
        loop {
            let turn = self.consumers_turn(deadline)?;
            self.settle_consumer(&turn);
            let head = self.state().head.read();
            if let Some(tail) = self.look_for_item(head)? {
                let number = self.take(head, tail, message, claim)?;
                drop(turn);
                // Nobody else was woken while this one was on its way.
                if woken && self.len().is_ok_and(|len| len > 0) {
                    self.wake_in_crowd();
                }
                return Ok(number);
            }
            drop(turn);
            self.sleep_in_crowd(deadline)?;
            woken = true;
        }
    }

    /// Sleeps, without the turn, until something was put or the deadline passes (an error, if there is
    /// still nothing).
    fn sleep_in_crowd(&self, deadline: Deadline) -> Result<()> {
        let state = self.state();
        let head = self.look_at_head()?;
        let nothing = || self.look_at_tail().map(|tail| tail.items <= head.items);
        if deadline.has_passed() && nothing()? {
            return Err(self.nothing());
        }
        state.items.sleepers.fetch_add(1, Ordering::SeqCst);
        // Pairs with the one in `wake_in_crowd`: whoever does not count this sleeper has published what it
        // sees, or closed the ring, which is looked at first: nothing is put after that.
        fence(Ordering::SeqCst);
        let closed = state.is_closed();
        if closed || !nothing()? {
            self.leave_crowd();
            return if closed && nothing()? { Err(Error::Closed) } else { Ok(()) };
        }
        while !self.take_token() {
            let woken = sys::futex::wait(&state.items.tokens, 0, deadline);
            if !woken.map_err(Error::os("futex"))? {
                self.leave_crowd();
                break;
            }
        }
        // Likewise: who saw the token wakes nobody else for what he had published by then.
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Leaves without having been woken. Counted out first: a token that is there may be another sleeper's,
    /// who would sleep on beside a message. Only where nobody is counted was it this one's.
    fn leave_crowd(&self) {
        if self.count_out() == 0 {
            self.take_token();
        }
    }

    /// One sleeper less: says how many there were.
    fn count_out(&self) -> u32 {
        let sleepers = &self.state().items.sleepers;
        let less = |n: u32| n.checked_sub(1);
        sleepers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).unwrap_or(0)
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

    /// Wakes one of a crowd, if any sleeps, after something was published.
    ///
    /// Not while another is on its way who was woken before: he finds all that was published until he
    /// took his token, and wakes the next if it is more than he takes. So no more are woken than there is
    /// work for, and none is as long as those that are awake do it all.
    #[inline]
    pub(super) fn wake_in_crowd(&self) {
        let items = &self.state().items;
        // Pairs with the fences in `sleep_in_crowd`: who counted himself in, or took a token, before the
        // looks here sees what was published; of the others these looks tell.
        fence(Ordering::SeqCst);
        if items.tokens.load(Ordering::Relaxed) == 0 && items.sleepers.load(Ordering::Relaxed) > 0 {
            self.wake_one_in_crowd();
        }
    }

    #[cold]
    fn wake_one_in_crowd(&self) {
        // The token first: killed between the two, the sleeper is counted once too often. A futex that
        // is mapped and aligned refuses nothing.
        let _ = self.add_tokens(1, 1);
        self.count_out();
    }

    /// Adds wake-ups, and wakes so many sleepers for them.
    pub(super) fn add_tokens(&self, tokens: u32, sleepers: i32) -> Result<()> {
        let (word, op) = (&self.state().items.tokens, sys::futex::Op::Add);
        sys::futex::wake_op(word, op, tokens as i32, sleepers).map_err(Error::os("futex"))?;
        Ok(())
    }
}
