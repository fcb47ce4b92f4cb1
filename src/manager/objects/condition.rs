//! Conditions.

use super::lock::{Lock, LockProxy, ProxyGuard, RLock, RLockProxy, lock_methods};
use super::mutex::{Mutex, Owner, SharedMutex, Then, lock_calls};
use super::thread_number;
use crate::manager::{Call, Handle, Manager, Proxy, Ticket, Waiting, Waits};
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::collections::VecDeque;
use std::time::Duration;

/// A condition as it is in a manager's server; a [`ConditionProxy`] stands for it elsewhere.
#[derive(Debug)]
pub struct Condition {
    lock: SharedMutex,
    /// Keeps the object that the lock is of.
    _given: Option<Handle>,
    /// Who waits to be notified, and how often they held the lock.
    waiting: VecDeque<(Ticket, Owner, u32)>,
}

impl Default for Condition {
    fn default() -> Condition {
        Condition::new()
    }
}

lock_calls! { Condition }

impl Condition {
    /// A condition with a lock of its own.
    pub fn new() -> Condition {
        Condition { lock: Mutex::recursive(), _given: None, waiting: VecDeque::new() }
    }

    fn with_given(given: Given) -> Condition {
        let Given { handle, lock } = given;
        // `None` is what is about to be sent; what arrived has the lock.
        let lock = lock.unwrap_or_else(Mutex::plain);
        Condition { lock, _given: Some(handle), waiting: VecDeque::new() }
    }

    fn wait_within(
        &mut self,
        call: &mut Call<'_>,
        thread: u64,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let (owner, count) = self.check_held(call, thread)?;
        let ticket = call.park(timeout)?;
        // However it was acquired, it comes back by this condition.
        call.hold();
        self.waiting.push_back((ticket, owner, count));
        self.lock.borrow_mut().pass_on(call.waits);
        Ok(())
    }

    fn notify_some(&mut self, call: &mut Call<'_>, thread: u64, count: usize) -> Result<()> {
        self.check_held(call, thread)?;
        for _ in 0..count.min(self.waiting.len()) {
            if let Some((ticket, owner, count)) = self.waiting.pop_front() {
                let mut lock = self.lock.borrow_mut();
                lock.queue(ticket, owner, count, Then::Waited(true), call.waits);
            }
        }
        Ok(())
    }

    fn check_held(&self, call: &Call<'_>, thread: u64) -> Result<(Owner, u32)> {
        let lock = self.lock.borrow();
        let owner = lock.caller(call, thread);
        let held = lock.held_by(owner).map(|count| (owner, count));
        held.ok_or_else(|| Error::invalid("the condition's lock is not held by this thread"))
    }
}

impl Waiting for Condition {
    fn call_ended(&mut self, ticket: Ticket, timed_out: bool, waits: &mut Waits) {
        let mut lock = self.lock.borrow_mut();
        match self.waiting.iter().position(|(waiting, ..)| *waiting == ticket) {
            None => lock.withdraw(ticket, timed_out, waits),
            Some(place) => {
                let gone = self.waiting.remove(place);
                if let (Some((ticket, owner, count)), true) = (gone, timed_out) {
                    lock.queue(ticket, owner, count, Then::Waited(false), waits);
                }
            }
        }
    }

    fn holder_ended(&mut self, session: u64, waits: &mut Waits) {
        self.waiting.retain(|(_, owner, _)| owner.session != session);
        self.lock.borrow_mut().session_ended(session, waits);
    }
}

/// A lock of the same server on its way to a condition.
struct Given {
    handle: Handle,
    lock: Option<SharedMutex>,
}

impl Encode for Given {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.handle.encode(encoder);
    }
}

impl Decode for Given {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Given> {
        let handle = Handle::decode(decoder)?;
        let lock = handle.visit(|object| match object.downcast_ref::<Lock>() {
            Some(lock) => Some(lock.mutex()),
            None => object.downcast_ref::<RLock>().map(RLock::mutex),
        })?;
        let lock = lock.ok_or_else(|| Error::invalid("the condition's lock is none"))?;
        Ok(Given { handle, lock: Some(lock) })
    }
}

crate::managed! {
    /// A condition in a manager, with a lock, as other processes use it.
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

lock_methods! { ConditionProxy }

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

    /// Makes a condition with a lock of this manager, which may be used by itself too.
    ///
    /// A [`LockProxy`] belongs to a process as a whole: any of its threads may wait and notify.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: the lock is of another manager.
    /// * As [`create`](Self::create).
    pub fn condition_with_lock(&self, lock: &LockProxy) -> Result<ConditionProxy> {
        self.condition_with(lock.handle())
    }

    /// Makes a condition with a lock of this manager that its holder may acquire again.
    ///
    /// # Errors
    /// As [`condition_with_lock`](Self::condition_with_lock).
    pub fn condition_with_rlock(&self, lock: &RLockProxy) -> Result<ConditionProxy> {
        self.condition_with(lock.handle())
    }

    fn condition_with(&self, lock: &Handle) -> Result<ConditionProxy> {
        self.create(Condition::with_given, (Given { handle: lock.clone(), lock: None },))
    }
}
