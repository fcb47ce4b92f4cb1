//! The pool itself: tasks out, results in.
//!
//! There is no thread behind a pool. Whoever waits for a result looks after the pool while it waits:
//! takes results off the ring and delivers them, whosever they are, and replaces workers that died.
//! One thread does so at a time; the others sleep until it has delivered something or leaves. Workers
//! take their tasks from the ring themselves and need nobody for that.

use super::care::Bereaved;
use super::crew::{Crew, Plan, Worker};
use super::job::{Job, Loss, Portion};
use super::ledger::{Counters, Ledger, Pending};
use super::worker::{RESULT_HEADER, Tag};
use crate::codec::Payload;
use crate::process::panics;
use crate::sys::poll::Epoll;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Error, Result, sys};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// What epoll calls the bell of the results; workers have higher numbers.
const RESULTS: u64 = 0;

/// A buffer that has grown beyond this is not kept.
const KEPT: usize = 4 << 20;

/// What a pool was built to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) processes: usize,
    pub(crate) retries: u32,
    /// How long a task may take before its worker gets SIGTERM.
    pub(crate) soft_timeout: Option<Duration>,
    /// And before it gets SIGKILL.
    pub(crate) task_timeout: Option<Duration>,
}

pub(crate) struct Core {
    pub(super) plan: Plan,
    pub(super) terms: Terms,
    pub(super) epoll: Epoll,
    /// The process whose pool it is: a fork of that one has a copy that it cannot use.
    creator: u32,
    /// A deadline long past, which spares a look at the clock.
    past: Deadline,
    /// How many tasks were put or wait to be, whose jobs were told nothing.
    outstanding: AtomicUsize,
    /// How many threads sleep until something changes. Counted up under the state's lock before the last
    /// look at what is waited for.
    sleepers: AtomicUsize,
    state: Mutex<State>,
    /// Something was delivered, or nobody looks after the pool.
    changed: Condvar,
}

pub(super) struct State {
    pub(super) phase: Phase,
    /// Why the pool has ended, if it could not go on.
    pub(super) failure: Option<String>,
    pub(super) crew: Crew,
    /// The thread that looks after the pool.
    attended: Option<ThreadId>,
    /// The buffer for results that the last who attended left behind.
    buffer: Payload,
    /// The buffer of a task that was put: large ones are not to be asked of the system again each time.
    outgoing: Payload,
    pub(super) ledger: Ledger,
    /// Tasks to be put again, for which the ring had no room when their worker died.
    pub(super) backlog: Vec<Pending>,
    /// Tasks of dead workers, of which it is yet to be seen whether their results are there.
    pub(super) bereaved: Vec<Bereaved>,
    /// Cancelled tasks that were signalled to end, and when they are made to.
    pub(super) warned: Vec<(u64, Deadline)>,
    /// Deaths in a row of workers that were never ready for a task.
    pub(super) fruitless: usize,
    /// When to try again to start the workers that are missing, and how often that has failed.
    pub(super) refill_at: Deadline,
    pub(super) refills_failed: u32,
    pub(super) counters: Counters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// No further tasks; those that are in are done.
    Closed,
    Over,
}

impl Core {
    pub(crate) fn new(plan: Plan, terms: Terms) -> Result<Core> {
        let epoll = Epoll::new().map_err(Error::os("epoll_create1"))?;
        // Every ring is told once, so nobody has to make the bell silent.
        plan.results.report_bells(&epoll, RESULTS)?;
        let state = State {
            phase: Phase::Running,
            failure: None,
            crew: Crew::new(),
            attended: None,
            buffer: Payload::default(),
            outgoing: Payload::default(),
            ledger: Ledger::default(),
            backlog: Vec::new(),
            bereaved: Vec::new(),
            warned: Vec::new(),
            fruitless: 0,
            refill_at: Deadline::now(),
            refills_failed: 0,
            counters: Counters::default(),
        };
        let core = Core {
            plan,
            terms,
            epoll,
            creator: sys::process::id(),
            past: Deadline::now(),
            outstanding: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        core.start_workers()?;
        Ok(core)
    }

    fn start_workers(&self) -> Result<()> {
        let mut state = self.state();
        let started = state.crew.start(self.terms.processes, &self.plan, &self.epoll);
        if started.is_err() {
            state.crew.terminate();
        }
        started
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn processes(&self) -> usize {
        self.terms.processes
    }

    /// Python's name of the pool's state.
    pub(crate) fn phase_name(&self) -> &'static str {
        match self.state().phase {
            Phase::Running => "RUN",
            Phase::Closed => "CLOSE",
            Phase::Over => "TERMINATE",
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.state().counters
    }

    /// Runs `look` on every worker that is alive.
    pub(crate) fn each_worker<T>(&self, look: impl Fn(&Worker) -> T) -> Vec<T> {
        self.state().crew.workers().iter().map(look).collect()
    }

    pub(crate) fn kill_worker(&self, pid: u32) -> bool {
        let state = self.state();
        let worker = state.crew.workers().iter().find(|worker| worker.pid() == pid);
        worker.is_some_and(|worker| worker.kill().is_ok())
    }

    pub(crate) fn check_creator(&self) -> Result<()> {
        if self.creator == sys::process::id() { Ok(()) } else { Err(Error::ForeignProcess) }
    }

    /// Whether there are tasks whose jobs were told nothing.
    pub(super) fn is_busy(&self) -> bool {
        self.outstanding.load(Ordering::SeqCst) > 0
    }

    /// An empty buffer for a task.
    pub(crate) fn lend_buffer(&self) -> Payload {
        std::mem::take(&mut self.state().outgoing)
    }

    /// Takes a buffer back whose task was put.
    pub(crate) fn take_back(&self, mut task: Payload) {
        task.bytes.clear();
        task.fds.clear();
        if task.bytes.capacity() <= KEPT {
            self.state().outgoing = task;
        }
    }

    /// Puts a task, which may be taken away, and says its number; where the ring is full, looks after the pool until it is not.
    ///
    /// # Errors
    /// * [`Error::PoolClosed`], [`Error::ForeignProcess`].
    /// * [`Error::Remote`]: the pool could not go on, and why.
    /// * [`Error::MessageTooLong`], [`Error::Os`]: the ring cannot take it.
    pub(crate) fn submit(
        &self,
        job: &Arc<dyn Job>,
        portion: Portion,
        task: &mut Payload,
    ) -> Result<u64> {
        /// How long to wait for a result before looking at the ring again.
        const PATIENCE: Duration = Duration::from_millis(10);
        self.check_creator()?;
        loop {
            let mut state = self.state();
            if state.phase != Phase::Running {
                return Err(state.why_over().error());
            }
            match self.plan.tasks.put(task, self.past) {
                Ok(number) => {
                    let again = (self.terms.retries > 0).then(|| std::mem::take(task));
                    let job = job.clone();
                    let pending = Pending { job, portion, again, deaths: 0, verdict: None };
                    state.ledger.note(number, pending);
                    state.counters.submitted += 1;
                    self.outstanding.fetch_add(1, Ordering::SeqCst);
                    return Ok(number);
                }
                Err(Error::Full) => {}
                Err(error) => return Err(error),
            }
            drop(state);
            // A worker that hands a result over takes a task next.
            let before = self.outstanding.load(Ordering::SeqCst);
            let heard = || self.outstanding.load(Ordering::SeqCst) != before;
            self.attend(Deadline::after(PATIENCE), heard)?;
        }
    }

    /// Looks after the pool, or sleeps while another thread does, until `done` says so (true) or the
    /// deadline passes (false).
    pub(crate) fn attend(
        &self,
        deadline: Deadline,
        mut done: impl FnMut() -> bool,
    ) -> Result<bool> {
        self.check_creator()?;
        let me = std::thread::current().id();
        let mut state = self.state();
        loop {
            if state.attended.is_none() {
                state.attended = Some(me);
                let buffer = std::mem::take(&mut state.buffer);
                drop(state);
                let mut attendance = Attendance { core: self, buffer };
                return self.look_after(&mut attendance.buffer, deadline, &mut done);
            }
            if state.attended == Some(me) {
                // A callback or a decoder, called by this very thread while it attends.
                drop(state);
                return self.look_after(&mut Payload::default(), deadline, &mut done);
            }
            // Counted first: who delivers looks for sleepers after it has delivered, so it sees this one
            // or this one sees what was delivered.
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            let is_done = done();
            if is_done || deadline.has_passed() {
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
                return Ok(is_done);
            }
            state = self.sleep(state, deadline);
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Takes in what has arrived, if no other thread does so anyway.
    pub(crate) fn collect(&self) -> Result<()> {
        // It has time for one look even where another attends.
        self.attend(Deadline::now(), || false).map(drop)
    }

    /// Sleeps until something has changed.
    fn sleep<'a>(&self, state: MutexGuard<'a, State>, deadline: Deadline) -> MutexGuard<'a, State> {
        match deadline.remaining() {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(left) => {
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Wakes the threads that sleep: one of them may have what it waits for.
    pub(super) fn tell(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // Under the lock nobody is between its last look and its sleep.
            let state = self.state();
            self.changed.notify_all();
            drop(state);
        }
    }

    /// What the one thread that attends does; `buffer` is for results.
    fn look_after(
        &self,
        buffer: &mut Payload,
        deadline: Deadline,
        done: &mut impl FnMut() -> bool,
    ) -> Result<bool> {
        let mut ready = Vec::new();
        let mut awaited = None;
        if done() {
            return Ok(true);
        }
        loop {
            while self.receive_soon(buffer)? {
                if done() {
                    self.receive_more(buffer);
                    return Ok(true);
                }
            }
            let next_look = match self.tend() {
                Ok(next_look) => next_look,
                Err(reason) => {
                    self.fail(reason);
                    Deadline::now()
                }
            };
            if done() {
                return Ok(true);
            }
            if deadline.has_passed() {
                return Ok(false);
            }
            if !self.plan.results.prepare_sleep()? {
                if self.plan.results.is_closed() {
                    return Ok(done());
                }
                continue;
            }
            let until = deadline.min(next_look).min(self.wake_another(&mut awaited)?);
            self.epoll.wait(until, &mut ready).map_err(Error::os("epoll_wait"))?;
            for &worker in ready.iter().filter(|&&key| key != RESULTS) {
                self.mourn(worker)?;
            }
        }
    }

    /// [`receive`](Self::receive), and while many results are due it rather lets the workers have the
    /// processor for a moment than have one of them wake it for each result.
    fn receive_soon(&self, message: &mut Payload) -> Result<bool> {
        const PAUSES: usize = 3;
        let many = 2 * self.terms.processes;
        for _ in 0..PAUSES {
            if self.receive(message)? {
                return Ok(true);
            }
            if self.outstanding.load(Ordering::Relaxed) <= many {
                return Ok(false);
            }
            std::thread::yield_now();
        }
        self.receive(message)
    }

    /// Sees to it that tasks do not wait for a worker that was woken for them and does not come: it may have
    /// been stopped. Says when to look again; `awaited` is what was seen before.
    fn wake_another(&self, awaited: &mut Option<(u64, Deadline)>) -> Result<Deadline> {
        const PATIENCE: Duration = Duration::from_millis(20);
        if !self.plan.tasks.is_awaiting_somebody()? {
            *awaited = None;
            return Ok(Deadline::NEVER);
        }
        let taken = self.plan.tasks.taken()?;
        match *awaited {
            Some((before, until)) if before == taken && !until.has_passed() => return Ok(until),
            Some((before, _)) if before == taken => self.plan.tasks.nudge()?,
            _ => {}
        }
        let until = Deadline::after(PATIENCE);
        *awaited = Some((taken, until));
        Ok(until)
    }

    /// Takes in what else is here, so that each result does not cost an attendance of its own.
    fn receive_more(&self, buffer: &mut Payload) {
        const SOME: usize = 64;
        // What goes wrong here is for the next one who attends to find.
        (0..SOME).take_while(|_| matches!(self.receive(buffer), Ok(true))).for_each(drop);
    }

    /// Takes a result off the ring and delivers it; false if there is none.
    pub(super) fn receive(&self, message: &mut Payload) -> Result<bool> {
        match self.plan.results.get(message, self.past, |_| ()) {
            Ok(_) => {}
            Err(Error::Empty | Error::Closed) => return Ok(false),
            Err(error) => return Err(error),
        }
        let Some((header, body)) = message.bytes.split_at_checked(RESULT_HEADER) else {
            return Err(Error::corrupt("a result without a header"));
        };
        let number = header[..8].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
        let tag = header[8];
        let mut decoder = Decoder::new(body, &mut message.fds);
        if tag == Tag::Uninitialized as u8 {
            let error = <Error as Decode>::decode(&mut decoder).unwrap_or_else(|error| error);
            self.fail(format!("initializer: {error}"));
            return Ok(true);
        }
        let mut state = self.state();
        // A task that was cancelled may still have run.
        let Some(pending) = state.ledger.settle(number) else { return Ok(true) };
        state.counters.done += 1;
        state.fruitless = 0;
        drop(state);
        self.deliver(pending, tag == Tag::Done as u8, &mut decoder);
        Ok(true)
    }

    /// Hands a result to the job that waits for it.
    fn deliver(&self, pending: Pending, is_value: bool, decoder: &mut Decoder<'_>) {
        if pending.job.is_unwanted() {
            return self.account(move || drop(pending), 1);
        }
        let Pending { job, portion, .. } = pending;
        let outcome = if is_value {
            // Decoding is the user's code.
            panics::catch(|| job.deliver(portion, decoder))
        } else {
            Err(<Error as Decode>::decode(decoder).unwrap_or_else(|error| error))
        };
        if !is_value || !matches!(outcome, Ok(true)) {
            let mut state = self.state();
            state.counters.done -= 1;
            state.counters.failed += 1;
        }
        match outcome {
            // The last to know of a job drops the results, which is the user's code too.
            Ok(_) => self.account(move || drop(job), 1),
            Err(error) => {
                let loss = Loss::Remote(error.to_string());
                self.account(move || job.lose(portion, error, &loss), 1);
            }
        }
    }

    /// Tells a job that its task will give no result.
    pub(super) fn give_up(&self, pending: Pending, loss: &Loss) {
        let Pending { job, portion, .. } = pending;
        self.account(move || job.lose(portion, loss.error(), loss), 1);
    }

    /// Calls `tell_job`, after which so many tasks fewer are outstanding.
    fn account(&self, tell_job: impl FnOnce(), tasks: usize) {
        let _ = panics::catch(tell_job);
        self.outstanding.fetch_sub(tasks, Ordering::SeqCst);
        self.tell();
    }
}

/// Ends the attendance of the thread that has it, also when that panics.
struct Attendance<'a> {
    core: &'a Core,
    buffer: Payload,
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        let mut state = self.core.state();
        state.attended = None;
        if self.buffer.bytes.capacity() <= KEPT {
            state.buffer = std::mem::take(&mut self.buffer);
        }
        drop(state);
        self.core.tell();
    }
}

impl State {
    /// What tasks get that the pool does not take any more.
    pub(super) fn why_over(&self) -> Loss {
        match &self.failure {
            Some(reason) => Loss::PoolFailed(reason.clone()),
            None => Loss::PoolClosed,
        }
    }
}
