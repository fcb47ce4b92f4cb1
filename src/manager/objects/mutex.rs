//! The state of a lock in a server: who holds it, and who waits for it in which order; and the calls about
//! it, which are the same for all objects that have one.

use crate::manager::{Call, Ticket, Waits};
use crate::{Error, Result};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
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

/// A lock's state: the lock's, and that of the conditions made with it.
pub(super) type SharedMutex = Rc<RefCell<Mutex>>;

#[derive(Debug)]
pub(super) struct Mutex {
    /// Whether it belongs to one thread, which may acquire it again; else to a client as a whole, and
    /// anybody may release it.
    is_recursive: bool,
    /// Who holds it, and how often.
    holder: Option<(Owner, u32)>,
    /// Whether the last holder died, and nobody was told yet.
    died: bool,
    waiters: VecDeque<Waiter>,
}

impl Mutex {
    pub(super) fn plain() -> SharedMutex {
        Mutex::shared(false)
    }

    pub(super) fn recursive() -> SharedMutex {
        Mutex::shared(true)
    }

    fn shared(is_recursive: bool) -> SharedMutex {
        let mutex = Mutex { is_recursive, holder: None, died: false, waiters: VecDeque::new() };
        Rc::new(RefCell::new(mutex))
    }

    /// Who it is that calls.
    pub(super) fn caller(&self, call: &Call<'_>, thread: u64) -> Owner {
        Owner { session: call.session(), thread: if self.is_recursive { thread } else { 0 } }
    }

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
        thread: u64,
        timeout: Option<Duration>,
    ) -> Result<()> {
        call.hold();
        let owner = self.caller(call, thread);
        if let Some((_, count)) = self.holder.as_mut().filter(|(holder, _)| *holder == owner) {
            if self.is_recursive {
                *count =
                    count.checked_add(1).ok_or_else(|| Error::invalid("acquired too often"))?;
                return call.answer(&Some(false));
            }
        }
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

    /// Releases it once.
    pub(super) fn release(&mut self, call: &mut Call<'_>, thread: u64) -> Result<()> {
        let owner = self.caller(call, thread);
        match &mut self.holder {
            None => Err(Error::invalid("release of an unlocked lock")),
            Some((holder, _)) if self.is_recursive && *holder != owner => {
                Err(Error::invalid("release of a lock that this thread does not hold"))
            }
            Some((_, count)) => {
                *count -= 1;
                if *count == 0 {
                    self.pass_on(call.waits);
                }
                Ok(())
            }
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

/// The calls about the lock of an object that has one.
macro_rules! lock_calls {
    ($object:ident) => {
        impl $object {
            fn acquire_within(
                &mut self,
                call: &mut Call<'_>,
                thread: u64,
                timeout: Option<Duration>,
            ) -> Result<()> {
                self.lock.borrow_mut().acquire(call, thread, timeout)
            }

            fn release_now(&mut self, call: &mut Call<'_>, thread: u64) -> Result<()> {
                self.lock.borrow_mut().release(call, thread)
            }

            fn locked(&self) -> bool {
                self.lock.borrow().is_locked()
            }
        }
    };
}

pub(super) use lock_calls;
