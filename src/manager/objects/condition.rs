//! Conditions.

use super::lock::{ProxyGuard, Release};
use super::mutex::{Mutex, Owner, Then};
use super::thread_number;
use crate::manager::{Call, Manager, Ticket, Waiting, Waits};
use crate::sys::time::Deadline;
use crate::{Error, Result};
use std::collections::VecDeque;
use std::time::Duration;

/// A condition as it is in a manager's server; a [`ConditionProxy`] stands for it elsewhere.
#[derive(Debug)]
pub struct Condition {
    lock: Mutex,
    /// Who waits to be notified, and how often they held the lock.
    waiting: VecDeque<(Ticket, Owner, u32)>,
}

impl Condition {
    fn new() -> Condition {
        Condition { lock: Mutex::default(), waiting: VecDeque::new() }
    }

    fn acquire_within(
        &mut self,
        call: &mut Call<'_>,
        thread: u64,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let owner = Owner { session: call.session(), thread };
        self.lock.acquire_again_or(call, owner, timeout)
    }

    fn release_now(&mut self, call: &mut Call<'_>, thread: u64) -> Result<()> {
        self.lock.release(Owner { session: call.session(), thread }, call.waits)
    }

    fn locked(&self) -> bool {
        self.lock.is_locked()
    }

    fn wait_within(
        &mut self,
        call: &mut Call<'_>,
        thread: u64,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let owner = Owner { session: call.session(), thread };
        let count = self.check_held(owner)?;
        let ticket = call.park(timeout)?;
        self.waiting.push_back((ticket, owner, count));
        self.lock.pass_on(call.waits);
        Ok(())
    }

    fn notify_some(&mut self, call: &mut Call<'_>, thread: u64, count: usize) -> Result<()> {
        self.check_held(Owner { session: call.session(), thread })?;
        for _ in 0..count.min(self.waiting.len()) {
            if let Some((ticket, owner, count)) = self.waiting.pop_front() {
                self.lock.queue(ticket, owner, count, Then::Waited(true), call.waits);
            }
        }
        Ok(())
    }

    fn check_held(&self, owner: Owner) -> Result<u32> {
        let held = self.lock.held_by(owner);
        held.ok_or_else(|| Error::invalid("the condition's lock is not held by this thread"))
    }
}

impl Waiting for Condition {
    fn call_ended(&mut self, ticket: Ticket, timed_out: bool, waits: &mut Waits) {
        match self.waiting.iter().position(|(waiting, ..)| *waiting == ticket) {
            None => self.lock.withdraw(ticket, timed_out, waits),
            Some(place) => {
                let gone = self.waiting.remove(place);
                if let (Some((ticket, owner, count)), true) = (gone, timed_out) {
                    self.lock.queue(ticket, owner, count, Then::Waited(false), waits);
                }
            }
        }
    }

    fn holder_ended(&mut self, session: u64, waits: &mut Waits) {
        self.waiting.retain(|(_, owner, _)| owner.session != session);
        self.lock.session_ended(session, waits);
    }
}

crate::managed! {
    /// A condition in a manager, with its own lock, as other processes use it.
    ///
    /// # If a process dies
    /// One that waits is as if it had never waited; one that holds the lock as for
    /// [`LockProxy`](super::LockProxy).
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let condition = manager.condition()?;
    /// let _guard = condition.acquire()?;
    /// assert!(!condition.wait_timeout(std::time::Duration::from_millis(1))?, "nobody notifies");
    /// condition.notify_all()?;
    /// # Ok(())
    /// # }
    /// ```
    pub impl Condition as ConditionProxy = "Condition" [waits] {
        #[doc(hidden)]
        fn acquire_within(&mut self, thread: u64, timeout: Option<Duration>) waits -> Option<bool>;
        #[doc(hidden)]
        fn release_now(&mut self, thread: u64) waits;
        #[doc(hidden)]
        fn wait_within(&mut self, thread: u64, timeout: Option<Duration>) waits -> bool;
        #[doc(hidden)]
        fn notify_some(&mut self, thread: u64, count: usize) waits;
        /// Whether somebody holds the lock.
        fn locked(&self) -> bool;
    }
}

impl Release for ConditionProxy {
    fn release_soon(&self) {
        let _ = self.post(|condition| condition.release_now(thread_number()));
    }
}

super::lock::lock_methods! { ConditionProxy, thread_number() }

impl ConditionProxy {
    /// Lets go of the lock, blocks until notified, and acquires the lock again.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: this thread does not hold the lock.
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn wait(&self) -> Result<bool> {
        self.wait_within(thread_number(), None)
    }

    /// As [`wait`](Self::wait), but gives false when it was not notified within `timeout`. It waits for the
    /// lock in any case.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        self.wait_within(thread_number(), Some(timeout))
    }

    /// Waits until `predicate`, which is asked here and now and after each notification, is true.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_for(&self, predicate: impl FnMut() -> bool) -> Result<bool> {
        self.wait_for_within(predicate, Deadline::NEVER)
    }

    /// As [`wait_for`](Self::wait_for), and gives what `predicate` says when the time is up.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_for_timeout(
        &self,
        predicate: impl FnMut() -> bool,
        timeout: Duration,
    ) -> Result<bool> {
        self.wait_for_within(predicate, Deadline::after(timeout))
    }

    fn wait_for_within(
        &self,
        mut predicate: impl FnMut() -> bool,
        deadline: Deadline,
    ) -> Result<bool> {
        loop {
            if predicate() {
                return Ok(true);
            }
            if deadline.has_passed() {
                return Ok(false);
            }
            self.wait_within(thread_number(), deadline.remaining())?;
        }
    }

    /// Wakes up to `count` of those who wait.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn notify(&self, count: usize) -> Result<()> {
        self.notify_some(thread_number(), count)
    }

    /// Wakes all who wait.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn notify_all(&self) -> Result<()> {
        self.notify_some(thread_number(), usize::MAX)
    }
}

impl Manager {
    /// Makes a condition with a lock of its own.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn condition(&self) -> Result<ConditionProxy> {
        self.create(Condition::new, ())
    }
}
