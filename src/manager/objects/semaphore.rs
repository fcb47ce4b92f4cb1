//! Semaphores.

use super::lock::{ProxyGuard, Release};
use crate::manager::{Call, Manager, Ticket, Waiting, Waits};
use crate::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// A semaphore as it is in a manager's server; a [`SemaphoreProxy`] stands for it elsewhere.
#[derive(Debug)]
pub struct Semaphore {
    value: u32,
    /// What the value may not exceed.
    bound: u32,
    /// Who waits, and whether for a permit that is its own.
    waiters: VecDeque<(Ticket, u64, bool)>,
    /// The permits that clients own, by session.
    permits: HashMap<u64, u32>,
}

impl Semaphore {
    /// A semaphore with so many permits, and never more than `bound`.
    pub fn new(value: u32, bound: u32) -> Semaphore {
        Semaphore { value, bound, waiters: VecDeque::new(), permits: HashMap::new() }
    }

    fn acquire_within(
        &mut self,
        call: &mut Call<'_>,
        owned: bool,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let session = call.session();
        if owned {
            call.hold();
        }
        if self.value > 0 {
            self.value -= 1;
            self.note(session, owned);
            return call.answer(&true);
        }
        if timeout == Some(Duration::ZERO) {
            return call.answer(&false);
        }
        let ticket = call.park(timeout)?;
        self.waiters.push_back((ticket, session, owned));
        Ok(())
    }

    fn note(&mut self, session: u64, owned: bool) {
        if owned {
            *self.permits.entry(session).or_default() += 1;
        }
    }

    fn release_now(&mut self, call: &mut Call<'_>, owned: bool) -> Result<()> {
        if owned {
            let session = call.session();
            let count = self.permits.get_mut(&session).filter(|count| **count > 0);
            *count.ok_or_else(|| Error::invalid("no permit is held"))? -= 1;
        }
        self.give(call.waits)
    }

    /// One permit more: for who waits, or for the next.
    fn give(&mut self, waits: &mut Waits) -> Result<()> {
        if let Some((ticket, session, owned)) = self.waiters.pop_front() {
            self.note(session, owned);
            waits.answer(ticket, &true);
        } else if self.value < self.bound {
            self.value += 1;
        } else {
            return Err(Error::invalid("semaphore released too many times"));
        }
        Ok(())
    }

    fn value(&self) -> u32 {
        self.value
    }

    fn locked(&self) -> bool {
        self.value == 0
    }
}

impl Waiting for Semaphore {
    fn call_ended(&mut self, ticket: Ticket, timed_out: bool, waits: &mut Waits) {
        self.waiters.retain(|(waiting, ..)| *waiting != ticket);
        if timed_out {
            waits.answer(ticket, &false);
        }
    }

    fn holder_ended(&mut self, session: u64, waits: &mut Waits) {
        for _ in 0..self.permits.remove(&session).unwrap_or(0) {
            let _ = self.give(waits);
        }
    }
}

crate::managed! {
    /// A semaphore in a manager, as other processes use it; bounded or not.
    ///
    /// [`acquire`](Self::acquire) and [`release`](Self::release) belong to nobody: one process may
    /// acquire and another release. A [`permit`](Self::permit) is its holder's.
    ///
    /// # If a process dies
    /// The permits that it owns come back; what it had acquired without does not.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let semaphore = manager.bounded_semaphore(2)?;
    /// let permit = semaphore.permit()?;
    /// semaphore.acquire()?;
    /// assert!(!semaphore.try_acquire()?);
    /// drop(permit);
    /// semaphore.release()?;
    /// assert!(semaphore.release().is_err(), "it is bounded");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "BoundedSemaphoreProxy")]
    pub impl Semaphore as SemaphoreProxy = "Semaphore" [waits] {
        #[doc(hidden)]
        fn acquire_within(&mut self, owned: bool, timeout: Option<Duration>) waits -> bool;
        #[doc(hidden)]
        fn release_now(&mut self, owned: bool) waits;
        /// How many permits are left.
        fn value(&self) -> u32;
        /// Whether none is left.
        fn locked(&self) -> bool;
    }
}

impl Release for SemaphoreProxy {
    fn release_soon(&self) {
        let _ = self.post(|semaphore| semaphore.release_now(true));
    }
}

impl SemaphoreProxy {
    /// Blocks until a permit is left, and takes it.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn acquire(&self) -> Result<()> {
        self.acquire_within(false, None).map(drop)
    }

    /// Takes a permit if one is left.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<bool> {
        self.acquire_within(false, Some(Duration::ZERO))
    }

    /// Takes a permit, and waits no longer than `timeout` for one: then it gives false.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<bool> {
        self.acquire_within(false, Some(timeout))
    }

    /// Gives a permit back, or makes one.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: there would be more than a bounded semaphore has.
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn release(&self) -> Result<()> {
        self.release_now(false)
    }

    /// Blocks until a permit is left, and takes it until the guard is dropped or this process dies.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn permit(&self) -> Result<ProxyGuard<'_>> {
        self.acquire_within(true, None)?;
        Ok(ProxyGuard::new(self, false))
    }

    /// As [`permit`](Self::permit), if one is left.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn try_permit(&self) -> Result<Option<ProxyGuard<'_>>> {
        self.permit_timeout(Duration::ZERO)
    }

    /// As [`permit`](Self::permit), and waits no longer than `timeout`: then it gives `None`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn permit_timeout(&self, timeout: Duration) -> Result<Option<ProxyGuard<'_>>> {
        let taken = self.acquire_within(true, Some(timeout))?;
        Ok(taken.then(|| ProxyGuard::new(self, false)))
    }
}

impl Manager {
    /// Makes a semaphore with so many permits.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn semaphore(&self, permits: u32) -> Result<SemaphoreProxy> {
        self.create(Semaphore::new, (permits, u32::MAX))
    }

    /// Makes a semaphore with so many permits and never more.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn bounded_semaphore(&self, permits: u32) -> Result<SemaphoreProxy> {
        self.create(Semaphore::new, (permits, permits))
    }
}
