//! The pool itself: tasks out, results in, deaths dealt with.
//!
//! There is no thread behind a pool. Whoever waits for a result looks after the pool while it waits:
//! takes results off the ring and delivers them, whosever they are, and replaces workers that died.
//! One thread does so at a time; the others sleep until it has delivered something or leaves. Workers
//! take their tasks from the ring themselves and need nobody for that.

use super::crew::{Crew, Plan, Worker};
use super::job::{Job, Loss};
use super::worker::{RESULT_HEADER, Tag};
use crate::codec::Payload;
use crate::process::{ExitStatus, panics};
use crate::sys::poll::Epoll;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Error, Result, sys};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What epoll calls the bell of the results; workers have higher numbers.
const RESULTS: u64 = 0;

pub(crate) struct Core {
    plan: Plan,
    processes: usize,
    retries: u32,
    epoll: Epoll,
    /// The process whose pool it is: a fork of that one has a copy that it cannot use.
    creator: u32,
    /// How many tasks were put or wait to be, of which nothing was heard.
    outstanding: AtomicUsize,
    state: Mutex<State>,
    /// Something was delivered, or nobody looks after the pool.
    changed: Condvar,
}

struct State {
    phase: Phase,
    crew: Crew,
    /// Whether a thread looks after the pool.
    attended: bool,
    /// How many threads sleep until something changes.
    sleepers: usize,
    /// The tasks that were put and of which nothing was heard, by their numbers on the ring, from
    /// `first` on.
    pending: VecDeque<Option<Pending>>,
    first: u64,
    /// Tasks to be put again, for which the ring had no room when their worker died.
    backlog: Vec<Pending>,
    /// Deaths in a row of workers that had not finished a single task.
    fruitless: usize,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// No further tasks; those that are in are done.
    Closed,
    Over,
}

/// A task that was put.
struct Pending {
    job: Arc<dyn Job>,
    part: u64,
    items: usize,
    /// To put it again if its worker dies.
    again: Option<Payload>,
    /// How many workers may still die of it.
    retries: u32,
}

/// What a pool has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Tasks handed to the workers; a chunk counts as one.
    pub submitted: u64,
    /// Tasks that came back, with a result or with an error of their own.
    pub done: u64,
    /// Tasks lost with their worker and not tried again.
    pub lost: u64,
    /// Times that a task was tried again after its worker had died.
    pub retried: u64,
    /// Workers that ended and were replaced.
    pub replaced: u64,
}

impl Core {
    pub(crate) fn new(plan: Plan, processes: usize, retries: u32) -> Result<Core> {
        let epoll = Epoll::new().map_err(Error::os("epoll_create1"))?;
        epoll.add(plan.results.bell(), RESULTS).map_err(Error::os("epoll_ctl"))?;
        let state = State {
            phase: Phase::Running,
            crew: Crew::new(),
            attended: false,
            sleepers: 0,
            pending: VecDeque::new(),
            first: 0,
            backlog: Vec::new(),
            fruitless: 0,
            counters: Counters::default(),
        };
        let core = Core {
            plan,
            processes,
            retries,
            epoll,
            creator: sys::process::id(),
            outstanding: AtomicUsize::new(0),
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        core.start_workers()?;
        Ok(core)
    }

    fn start_workers(&self) -> Result<()> {
        let mut state = self.state();
        for _ in 0..self.processes {
            if let Err(error) = state.crew.start(&self.plan, &self.epoll) {
                state.crew.terminate();
                return Err(error);
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn processes(&self) -> usize {
        self.processes
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

    /// Puts a task; where the ring is full, looks after the pool until it is not.
    ///
    /// # Errors
    /// * [`Error::PoolClosed`], [`Error::ForeignProcess`].
    /// * [`Error::MessageTooLong`], [`Error::Os`]: the ring cannot take it.
    pub(crate) fn submit(
        &self,
        job: &Arc<dyn Job>,
        part: u64,
        items: usize,
        task: Payload,
    ) -> Result<()> {
        /// How long to wait for a result before looking at the ring again.
        const PATIENCE: Duration = Duration::from_millis(10);
        self.check_creator()?;
        loop {
            let mut state = self.state();
            if state.phase != Phase::Running {
                return Err(Error::PoolClosed);
            }
            match self.plan.tasks.put(&task, Deadline::now()) {
                Ok(number) => {
                    let again = (self.retries > 0).then_some(task);
                    let job = job.clone();
                    let retries = self.retries;
                    state.note(number, Pending { job, part, items, again, retries });
                    self.outstanding.fetch_add(1, Ordering::Relaxed);
                    state.counters.submitted += 1;
                    return Ok(());
                }
                Err(Error::Full) => {}
                Err(error) => return Err(error),
            }
            drop(state);
            self.attend(Deadline::after(PATIENCE), || false)?;
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
        loop {
            let mut state = self.state();
            // Under the lock: who delivers wakes the sleepers under it, after it has delivered.
            if done() {
                return Ok(true);
            }
            if state.attended {
                if deadline.has_passed() {
                    return Ok(false);
                }
                state.sleepers += 1;
                drop(self.sleep(state, deadline));
                continue;
            }
            state.attended = true;
            drop(state);
            let _attendance = Attendance(self);
            return self.look_after(deadline, &mut done);
        }
    }

    /// Takes in what has arrived, if no other thread does so anyway.
    pub(crate) fn collect(&self) -> Result<()> {
        self.check_creator()?;
        let mut state = self.state();
        if state.attended {
            return Ok(());
        }
        state.attended = true;
        drop(state);
        let _attendance = Attendance(self);
        self.look_after(Deadline::now(), &mut || false).map(drop)
    }

    /// Sleeps until something has changed.
    fn sleep<'a>(&self, state: MutexGuard<'a, State>, deadline: Deadline) -> MutexGuard<'a, State> {
        let mut state = match deadline.remaining() {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(left) => {
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.sleepers -= 1;
        state
    }

    /// What the one thread that attends does.
    fn look_after(&self, deadline: Deadline, done: &mut impl FnMut() -> bool) -> Result<bool> {
        let mut message = Payload::default();
        let mut ready = Vec::new();
        loop {
            while self.receive(&mut message)? {
                if done() {
                    return Ok(true);
                }
            }
            if done() {
                return Ok(true);
            }
            if deadline.has_passed() {
                return Ok(false);
            }
            self.put_backlog()?;
            if !self.plan.results.prepare_sleep()? {
                if self.plan.results.is_closed() {
                    return Ok(done());
                }
                continue;
            }
            self.epoll.wait(deadline, &mut ready).map_err(Error::os("epoll_wait"))?;
            for &key in &ready {
                match key {
                    RESULTS => self.plan.results.after_sleep()?,
                    key => self.mourn(key)?,
                }
            }
        }
    }

    /// Takes a result off the ring and delivers it; false if there is none.
    fn receive(&self, message: &mut Payload) -> Result<bool> {
        match self.plan.results.get(message, Deadline::now(), |_| ()) {
            Ok(_) => {}
            Err(Error::Empty | Error::Closed) => return Ok(false),
            Err(error) => return Err(error),
        }
        let Some((header, body)) = message.bytes.split_at_checked(RESULT_HEADER) else {
            return Err(Error::corrupt("a result without a header"));
        };
        let number = header[..8].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
        let mut decoder = Decoder::new(body, &mut message.fds);
        if header[8] == Tag::Uninitialized as u8 {
            let error = <Error as Decode>::decode(&mut decoder)?;
            self.fail(&format!("initializer: {error}"));
            return Ok(true);
        }
        let mut state = self.state();
        // A worker that was killed after it handed over a result may have been taken for one that had
        // not; its task has then run twice, and counts once.
        let Some(pending) = state.settle(number) else { return Ok(true) };
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
        state.counters.done += 1;
        state.fruitless = 0;
        drop(state);
        let Pending { job, part, items, .. } = pending;
        if header[8] == Tag::Done as u8 {
            // Decoding is the user's code.
            if let Err(error) = panics::catch(|| job.deliver(part, items, &mut decoder)) {
                let loss = Loss::Remote(error.to_string());
                job.lose(part, items, error, &loss);
            }
        } else {
            let error = <Error as Decode>::decode(&mut decoder).unwrap_or_else(|error| error);
            let loss = Loss::Remote(error.to_string());
            job.lose(part, items, error, &loss);
        }
        self.tell();
        Ok(true)
    }

    /// Wakes the threads that sleep: one of them may have what it waits for.
    fn tell(&self) {
        if self.state().sleepers > 0 {
            self.changed.notify_all();
        }
    }

    /// Deals with the death of the worker that epoll calls `key`.
    fn mourn(&self, key: u64) -> Result<()> {
        let mut state = self.state();
        let Some((worker, status)) = state.crew.bury(key, &self.epoll)? else { return Ok(()) };
        if worker.slot().finished() == 0 {
            state.fruitless += 1;
        }
        // In this order: a task that another worker has was claimed by it before it was taken, and its
        // result was put before that claim went.
        let taken = self.plan.tasks.taken()?;
        let had = worker.slot().claim().filter(|&task| {
            let others = state.crew.workers();
            task < taken && !others.iter().any(|other| other.slot().claim() == Some(task))
        });
        drop(state);
        // The last it handed over comes first.
        let mut message = Payload::default();
        while self.receive(&mut message)? {}
        if let Some(task) = had {
            self.bereave(task, worker.pid(), status)?;
        }
        // It may have been the one that was to wake up for the next task.
        self.plan.tasks.nudge(1)?;
        self.replace(status)
    }

    /// The task was lost with its worker: tries it again, or says so.
    fn bereave(&self, task: u64, pid: u32, status: ExitStatus) -> Result<()> {
        let mut state = self.state();
        let Some(mut pending) = state.settle(task) else { return Ok(()) };
        if pending.again.is_some() && pending.retries > 0 {
            pending.retries -= 1;
            state.counters.retried += 1;
            state.backlog.push(pending);
            drop(state);
            return self.put_backlog();
        }
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
        state.counters.lost += 1;
        drop(state);
        let loss = Loss::WorkerDied { pid, status };
        pending.job.lose(pending.part, pending.items, loss.error(), &loss);
        self.tell();
        Ok(())
    }

    /// Puts again what lost its worker, as far as there is room.
    fn put_backlog(&self) -> Result<()> {
        let mut state = self.state();
        while let Some(pending) = state.backlog.pop() {
            let Some(task) = &pending.again else { continue };
            match self.plan.tasks.put(task, Deadline::now()) {
                Ok(number) => state.note(number, pending),
                Err(Error::Full) => {
                    state.backlog.push(pending);
                    return Ok(());
                }
                Err(error) => {
                    state.backlog.push(pending);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Starts a worker in a dead one's place, as long as there can be something to do.
    fn replace(&self, status: ExitStatus) -> Result<()> {
        let mut state = self.state();
        let idle = state.phase != Phase::Running && !self.is_busy();
        if state.phase == Phase::Over || idle {
            return Ok(());
        }
        if state.fruitless > 3 * self.processes + 10 {
            drop(state);
            self.fail(&format!(
                "workers end before they have done anything: the last one {status}"
            ));
            return Ok(());
        }
        state.counters.replaced += 1;
        let mut outcome = Ok(());
        while state.crew.workers().len() < self.processes && outcome.is_ok() {
            outcome = state.crew.start(&self.plan, &self.epoll);
        }
        match outcome {
            // Fewer workers for now; the next death or the last of them decides.
            Err(error) if state.crew.workers().is_empty() => {
                drop(state);
                self.fail(&format!("no worker can be started: {error}"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The pool cannot go on: everything that is pending fails for this reason.
    fn fail(&self, reason: &str) {
        self.end(&Loss::PoolFailed(reason.to_owned()));
    }

    /// No further tasks.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        if state.phase == Phase::Running {
            state.phase = Phase::Closed;
        }
    }

    /// Ends the workers; what is pending is told why.
    pub(crate) fn end(&self, loss: &Loss) {
        if self.check_creator().is_err() {
            return;
        }
        let mut state = self.state();
        state.phase = Phase::Over;
        state.crew.terminate();
        let mut pending: Vec<Pending> = state.pending.drain(..).flatten().collect();
        pending.append(&mut state.backlog);
        drop(state);
        for pending in pending {
            pending.job.lose(pending.part, pending.items, loss.error(), loss);
        }
        self.outstanding.store(0, Ordering::Relaxed);
        // Wakes the thread that attends, which finds everything lost.
        let _ = self.plan.results.close();
        self.tell();
    }

    /// Whether there are tasks of which nothing was heard.
    fn is_busy(&self) -> bool {
        self.outstanding.load(Ordering::Relaxed) > 0
    }

    /// Waits until everything that was put is done and the workers have left.
    pub(crate) fn join(&self) -> Result<()> {
        if self.state().phase == Phase::Running {
            return Err(Error::invalid("join of a pool that was neither closed nor terminated"));
        }
        self.attend(Deadline::NEVER, || !self.is_busy())?;
        self.plan.tasks.close()?;
        self.state().crew.dismiss()
    }
}

/// Ends the attendance of the thread that has it, also when that panics.
struct Attendance<'a>(&'a Core);

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.attended = false;
        if state.sleepers > 0 {
            self.0.changed.notify_all();
        }
    }
}

impl State {
    /// Notes the task that was put under `number`.
    fn note(&mut self, number: u64, pending: Pending) {
        if self.pending.is_empty() {
            self.first = number;
        }
        debug_assert_eq!(number, self.first + self.pending.len() as u64, "one producer puts tasks");
        self.pending.push_back(Some(pending));
    }

    /// Takes out the task under `number`, if nothing was heard of it before.
    fn settle(&mut self, number: u64) -> Option<Pending> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let pending = self.pending.get_mut(at)?.take()?;
        while let Some(None) = self.pending.front() {
            self.pending.pop_front();
            self.first += 1;
        }
        Some(pending)
    }
}
