//! The state of a lock in a server: who holds it, and who waits for it in which order.

use crate::manager::{Call, Ticket, Waits};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::time::Duration;

/// A thread of a client, as clients number theirs; of a plain lock the client as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) session: u64,
    pub(super) thread: u64,
}

/// What a call is answered that gets the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Whether the last holder died: the call was to acquire.
    Acquired,
    /// This: the call was to wait on a condition, and was notified or not.
    Waited(bool),
}

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    owner: Owner,
    /// How often the lock is then held.
    count: u32,
    then: Then,
}

#[derive(Debug, Default)]
pub(super) struct Mutex {
    /// Who holds it, and how often.
    holder: Option<(Owner, u32)>,
    /// Whether the last holder died, and nobody was told yet.
    died: bool,
    waiters: VecDeque<Waiter>,
}

impl Mutex {
    pub(super) fn is_locked(&self) -> bool {
        self.holder.is_some()
    }

    /// How often `owner` holds it.
    pub(super) fn held_by(&self, owner: Owner) -> Option<u32> {
        self.holder.filter(|(holder, _)| *holder == owner).map(|(_, count)| count)
    }

    /// Answers `Some(owner_died)` when `owner` holds the lock, `None` when the time is up.
    pub(super) fn acquire(
        &mut self,
        call: &mut Call<'_>,
        owner: Owner,
        timeout: Option<Duration>,
    ) -> Result<()> {
        call.hold();
        if self.holder.is_none() {
            self.holder = Some((owner, 1));
            return call.answer(&Some(std::mem::take(&mut self.died)));
        }
        if timeout == Some(Duration::ZERO) {
            return call.answer(&None::<bool>);
        }
        let ticket = call.park(timeout)?;
        self.waiters.push_back(Waiter { ticket, owner, count: 1, then: Then::Acquired });
        Ok(())
    }

    /// As [`acquire`](Self::acquire), but the holder may acquire it again.
    pub(super) fn acquire_again_or(
        &mut self,
        call: &mut Call<'_>,
        owner: Owner,
        timeout: Option<Duration>,
    ) -> Result<()> {
        match &mut self.holder {
            Some((holder, count)) if *holder == owner => {
                *count =
                    count.checked_add(1).ok_or_else(|| Error::invalid("acquired too often"))?;
                call.answer(&Some(false))
            }
            _ => self.acquire(call, owner, timeout),
        }
    }

    /// Releases it once, whoever holds it.
    pub(super) fn release_by_anybody(&mut self, waits: &mut Waits) -> Result<()> {
        match self.holder {
            Some((holder, _)) => self.release(holder, waits),
            None => Err(Error::invalid("release of an unlocked lock")),
        }
    }

    /// Releases it once.
    pub(super) fn release(&mut self, owner: Owner, waits: &mut Waits) -> Result<()> {
        match &mut self.holder {
            Some((holder, count)) if *holder == owner => {
                *count -= 1;
                if *count == 0 {
                    self.pass_on(waits);
                }
                Ok(())
            }
            _ => Err(Error::invalid("release of a lock that this thread does not hold")),
        }
    }

    /// The holder lets go of it, however often it held it.
    pub(super) fn pass_on(&mut self, waits: &mut Waits) {
        self.holder = None;
        if let Some(next) = self.waiters.pop_front() {
            self.holder = Some((next.owner, next.count));
            match next.then {
                Then::Acquired => {
                    waits.answer(next.ticket, &Some(std::mem::take(&mut self.died)));
                }
                Then::Waited(notified) => waits.answer(next.ticket, &notified),
            }
        }
    }

    /// Lets a call wait for the lock that waited for something else before.
    pub(super) fn queue(
        &mut self,
        ticket: Ticket,
        owner: Owner,
        count: u32,
        then: Then,
        waits: &mut Waits,
    ) {
        self.waiters.push_back(Waiter { ticket, owner, count, then });
        if self.holder.is_none() {
            self.pass_on(waits);
        }
    }

    /// A call that waits here is over.
    pub(super) fn withdraw(&mut self, ticket: Ticket, timed_out: bool, waits: &mut Waits) {
        let before = self.waiters.len();
        self.waiters.retain(|waiter| waiter.ticket != ticket);
        if timed_out && self.waiters.len() < before {
            waits.answer(ticket, &None::<bool>);
        }
    }

    /// A client is gone: what it held, the next one gets.
    pub(super) fn session_ended(&mut self, session: u64, waits: &mut Waits) {
        self.waiters.retain(|waiter| waiter.owner.session != session);
        if self.holder.is_some_and(|(owner, _)| owner.session == session) {
            self.died = true;
            self.pass_on(waits);
        }
    }
}
