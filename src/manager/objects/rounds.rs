//! Events and barriers.

use crate::manager::{Call, Manager, Ticket, Waiting, Waits};
use crate::process::panics;
use crate::process::target::{Target, instance};
use crate::{BarrierBreak, Error, Result};
use std::fmt;
use std::time::Duration;

/// An event as it is in a manager's server; an [`EventProxy`] stands for it elsewhere.
#[derive(Debug, Default)]
pub struct Event {
    set: bool,
    waiting: Vec<Ticket>,
}

impl Event {
    /// An event that is not set.
    pub fn new() -> Event {
        Event { set: false, waiting: Vec::new() }
    }

    fn set(&mut self, call: &mut Call<'_>) -> Result<()> {
        self.set = true;
        self.waiting.drain(..).for_each(|ticket| call.waits.answer(ticket, &true));
        Ok(())
    }

    fn clear(&mut self) {
        self.set = false;
    }

    fn is_set(&self) -> bool {
        self.set
    }

    fn wait_within(&mut self, call: &mut Call<'_>, timeout: Option<Duration>) -> Result<()> {
        if self.set || timeout == Some(Duration::ZERO) {
            return call.answer(&self.set);
        }
        self.waiting.push(call.park(timeout)?);
        Ok(())
    }
}

impl Waiting for Event {
    fn call_ended(&mut self, ticket: Ticket, timed_out: bool, waits: &mut Waits) {
        self.waiting.retain(|waiting| *waiting != ticket);
        if timed_out {
            waits.answer(ticket, &false);
        }
    }
}

crate::managed! {
    /// An event in a manager, as other processes use it: set or not, and to be waited for.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let event = manager.event()?;
    /// assert!(!event.wait_timeout(std::time::Duration::from_millis(1))?);
    /// event.set()?;
    /// assert!(event.wait()? && event.is_set()?);
    /// # Ok(())
    /// # }
    /// ```
    pub impl Event as EventProxy = "Event" [waits] {
        /// Sets the event: all who wait go on.
        fn set(&mut self) waits;
        /// Makes it not set.
        fn clear(&mut self);
        /// Whether it is set.
        fn is_set(&self) -> bool;
        #[doc(hidden)]
        fn wait_within(&mut self, timeout: Option<Duration>) waits -> bool;
    }
}

impl EventProxy {
    /// Blocks until the event is set, and gives true.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn wait(&self) -> Result<bool> {
        self.wait_within(None)
    }

    /// Blocks until the event is set (true) or the time is up (false).
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        self.wait_within(Some(timeout))
    }
}

/// A barrier as it is in a manager's server; a [`BarrierProxy`] stands for it elsewhere.
#[derive(Debug)]
pub struct Barrier {
    parties: usize,
    /// How long a wait that does not say so itself takes at most.
    timeout: Option<Duration>,
    action: Option<Action>,
    waiting: Vec<Ticket>,
    broken: Option<BarrierBreak>,
}

/// What is done in each round, in the server.
struct Action(fn());

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Action")
    }
}

impl Barrier {
    /// A barrier for so many parties, and how long a wait that does not say so itself takes at most.
    pub fn new(parties: usize, timeout: Option<Duration>) -> Barrier {
        Barrier { parties, timeout, action: None, waiting: Vec::new(), broken: None }
    }

    fn with_action<F: Target<(), ()>>(parties: usize, timeout: Option<Duration>) -> Barrier {
        let action = Action(|| instance::<F>().call(()));
        Barrier { action: Some(action), ..Barrier::new(parties, timeout) }
    }

    fn wait_within(&mut self, call: &mut Call<'_>, timeout: Option<Duration>) -> Result<()> {
        if let Some(cause) = self.broken {
            return Err(Error::BrokenBarrierError { cause });
        }
        let timeout = timeout.or(self.timeout);
        if self.waiting.len() + 1 >= self.parties {
            self.act(call.waits)?;
            let last = self.waiting.len();
            for (index, ticket) in self.waiting.drain(..).enumerate() {
                call.waits.answer(ticket, &index);
            }
            return call.answer(&last);
        }
        if timeout == Some(Duration::ZERO) {
            self.end_round(BarrierBreak::TimedOut, call.waits);
            self.broken = Some(BarrierBreak::TimedOut);
            return Err(Error::BrokenBarrierError { cause: BarrierBreak::TimedOut });
        }
        self.waiting.push(call.park(timeout)?);
        Ok(())
    }

    /// Does what is to be done before anybody leaves. If that panics, the barrier breaks.
    fn act(&mut self, waits: &mut Waits) -> Result<()> {
        let Some(action) = self.action.as_ref().map(|action| action.0) else { return Ok(()) };
        panics::catch(action).inspect_err(|_| {
            self.end_round(BarrierBreak::ActionPanicked, waits);
            self.broken = Some(BarrierBreak::ActionPanicked);
        })
    }

    /// All who wait are told that there is nothing to wait for.
    fn end_round(&mut self, cause: BarrierBreak, waits: &mut Waits) {
        for ticket in self.waiting.drain(..) {
            waits.fail(ticket, &Error::BrokenBarrierError { cause });
        }
    }

    fn reset(&mut self, call: &mut Call<'_>) -> Result<()> {
        self.end_round(BarrierBreak::Reset, call.waits);
        self.broken = None;
        Ok(())
    }

    fn abort(&mut self, call: &mut Call<'_>) -> Result<()> {
        self.end_round(BarrierBreak::Aborted, call.waits);
        self.broken = Some(BarrierBreak::Aborted);
        Ok(())
    }

    fn parties(&self) -> usize {
        self.parties
    }

    fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn is_broken(&self) -> bool {
        self.broken.is_some()
    }
}

impl Waiting for Barrier {
    fn call_ended(&mut self, ticket: Ticket, timed_out: bool, waits: &mut Waits) {
        let cause = if timed_out {
            BarrierBreak::TimedOut
        } else {
            self.waiting.retain(|waiting| *waiting != ticket);
            BarrierBreak::PartyDied { pid: 0 }
        };
        self.end_round(cause, waits);
        self.broken = Some(cause);
    }
}

crate::managed! {
    /// A barrier in a manager, as other processes use it.
    ///
    /// # If a process dies
    /// If it waited, the barrier breaks, as by a timeout: the others would wait for ever.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let barrier = manager.barrier(2)?;
    /// let other = barrier.clone();
    /// let thread = std::thread::spawn(move || other.wait());
    /// let mine = barrier.wait()?;
    /// let theirs = thread.join().unwrap()?;
    /// assert_eq!(mine + theirs, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub impl Barrier as BarrierProxy = "Barrier" [waits] {
        #[doc(hidden)]
        fn wait_within(&mut self, timeout: Option<Duration>) waits -> usize;
        /// Sends away all who wait, with an error, and makes the barrier whole again.
        fn reset(&mut self) waits;
        /// Breaks the barrier: all who wait, and all who come, get an error.
        fn abort(&mut self) waits;
        /// How many must come.
        fn parties(&self) -> usize;
        /// How many wait.
        fn waiting(&self) -> usize;
        /// Whether it is broken.
        fn is_broken(&self) -> bool;
    }
}

impl BarrierProxy {
    /// Blocks until all parties wait, and gives each another number, in the order of arrival from zero.
    ///
    /// # Errors
    /// * [`Error::BrokenBarrierError`]: the barrier is broken, or was reset.
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn wait(&self) -> Result<usize> {
        self.wait_within(None)
    }

    /// As [`wait`](Self::wait); when the time is up the barrier breaks.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<usize> {
        self.wait_within(Some(timeout))
    }
}

impl Manager {
    /// Makes an event that is not set.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn event(&self) -> Result<EventProxy> {
        self.create(Event::new, ())
    }

    /// Makes a barrier for so many parties.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: no parties.
    /// * As [`create`](Self::create).
    pub fn barrier(&self, parties: usize) -> Result<BarrierProxy> {
        check(parties)?;
        self.create(Barrier::new, (parties, None))
    }

    /// Makes a barrier as [`barrier`](Self::barrier) does, for which a wait without a timeout takes
    /// `timeout` at most, and which breaks then.
    ///
    /// # Errors
    /// As [`barrier`](Self::barrier).
    pub fn barrier_timeout(&self, parties: usize, timeout: Duration) -> Result<BarrierProxy> {
        check(parties)?;
        self.create(Barrier::new, (parties, Some(timeout)))
    }

    /// Makes a barrier that calls `action`, in the server, when all parties have come and before any of
    /// them leaves. If it panics, the barrier breaks, and the last party gets the panic.
    ///
    /// # Errors
    /// As [`barrier`](Self::barrier).
    pub fn barrier_with<F>(
        &self,
        parties: usize,
        timeout: Option<Duration>,
        action: F,
    ) -> Result<BarrierProxy>
    where
        F: Target<(), ()>,
    {
        let _ = action;
        check(parties)?;
        self.create(Barrier::with_action::<F>, (parties, timeout))
    }
}

fn check(parties: usize) -> Result<()> {
    if parties == 0 {
        return Err(Error::invalid("a barrier for no parties"));
    }
    Ok(())
}
