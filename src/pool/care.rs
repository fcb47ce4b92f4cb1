//! What else the one who attends does: deaths, time limits, and the pool's own end.

use super::core::{Core, Phase, State};
use super::crew::Worker;
use super::job::{Job, Loss};
use super::ledger::{Pending, Verdict};
use crate::process::ExitStatus;
use crate::sys::signal::{SIGKILL, SIGTERM};
use crate::sys::time::{Deadline, monotonic};
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// A task that a dead worker had, unless its result is among those not yet received.
pub(super) struct Bereaved {
    task: u64,
    pid: u32,
    status: ExitStatus,
}

/// Tasks that are given up, and why.
type Losses = Vec<(Pending, Loss)>;

impl Core {
    /// Deals with the death of the worker that epoll calls `key`.
    pub(super) fn mourn(&self, key: u64) -> Result<()> {
        let mut state = self.state();
        let Some((worker, status)) = state.crew.bury(key, &self.epoll)? else { return Ok(()) };
        state.count_fruitless(&worker, status);
        // In this order: a task that another worker has was claimed by it before it was taken, and its
        // result was put before that claim went.
        let taken = self.plan.tasks.taken()?;
        let claim = worker.slot().claim();
        let had = claim.filter(|&task| {
            let others = state.crew.workers();
            task < taken && !others.iter().any(|other| other.slot().claim() == Some(task))
        });
        if let Some(task) = had {
            // It may have died before it saw that the task was cancelled.
            self.plan.revoked.is_revoked(task);
            // The last it handed over comes first: `tend` follows when no result is left.
            state.bereaved.push(Bereaved { task, pid: worker.pid(), status });
        }
        drop(state);
        // It may have been the one that was to wake up for the next task.
        self.plan.tasks.nudge()
    }

    /// Does what is to be done when every result was received, and says when to look again.
    ///
    /// # Errors
    /// Why the pool cannot go on.
    pub(super) fn tend(&self) -> std::result::Result<Deadline, String> {
        let mut losses = Losses::new();
        let mut state = self.state();
        while let Some(bereaved) = state.bereaved.pop() {
            losses.extend(state.bereave(bereaved, self.terms.retries));
        }
        if !state.backlog.is_empty() {
            losses.extend(self.put_backlog(&mut state));
        }
        if !losses.is_empty() {
            // Who waits for them need not wait for new workers.
            drop(state);
            for (pending, loss) in losses {
                self.give_up(pending, &loss);
            }
            state = self.state();
        }
        let refilled = self.refill(&mut state);
        let limits = self.terms.soft_timeout.into_iter().chain(self.terms.task_timeout);
        let clock =
            limits.min().map_or(Deadline::NEVER, |first| self.watch_the_clock(&mut state, first));
        let clock = clock.min(state.end_the_warned());
        drop(state);
        Ok(clock.min(refilled?))
    }

    /// Puts again what lost its worker, as far as there is room.
    fn put_backlog(&self, state: &mut State) -> Losses {
        let mut losses = Losses::new();
        while let Some(mut pending) = state.backlog.pop() {
            let Some(task) = pending.again.take() else { continue };
            match self.plan.tasks.put(&task, Deadline::now()) {
                Ok(number) => {
                    pending.again = Some(task);
                    state.ledger.note(number, pending);
                }
                // A task that is taken makes room, and its result is heard of.
                Err(Error::Full) => {
                    pending.again = Some(task);
                    state.backlog.push(pending);
                    break;
                }
                Err(error) => {
                    state.counters.died += 1;
                    losses.push((pending, Loss::PoolFailed(format!("to try again: {error}"))));
                }
            }
        }
        losses
    }

    /// Starts workers in the place of dead ones, as long as there can be something to do.
    fn refill(&self, state: &mut State) -> std::result::Result<Deadline, String> {
        /// How long to wait before a worker that could not be started is tried again.
        const PAUSE: Duration = Duration::from_millis(100);
        /// How often that is done while no worker is left.
        const TRIES: u32 = 20;
        let idle = state.phase != Phase::Running && !self.is_busy();
        if state.crew.workers().len() >= self.terms.processes || state.phase == Phase::Over || idle
        {
            return Ok(Deadline::NEVER);
        }
        if state.fruitless > 3 * self.terms.processes + 10 {
            return Err("workers end before they have taken a task".into());
        }
        if !state.refill_at.has_passed() {
            return Ok(state.refill_at);
        }
        while state.crew.workers().len() < self.terms.processes {
            if let Err(error) = state.crew.start(1, &self.plan, &self.epoll) {
                state.refills_failed += 1;
                let hopeless = state.refills_failed > TRIES || !matches!(error, Error::Os { .. });
                if hopeless && state.crew.workers().is_empty() {
                    return Err(format!("no worker can be started: {error}"));
                }
                state.refill_at = Deadline::after(PAUSE);
                return Ok(state.refill_at);
            }
            state.counters.replaced += 1;
            state.refills_failed = 0;
        }
        Ok(Deadline::NEVER)
    }

    /// Ends the workers whose tasks take too long; says when the next could be due.
    fn watch_the_clock(&self, state: &mut State, first: Duration) -> Deadline {
        let now = monotonic();
        // A task taken right after this look.
        let mut next = first;
        for index in 0..state.crew.workers().len() {
            let slot = state.crew.workers()[index].slot();
            let Some(task) = slot.claim() else { continue };
            let ran = now.saturating_sub(slot.since());
            let is_over = |limit: Option<Duration>| limit.is_some_and(|limit| ran >= limit);
            let (soft, hard) = (self.terms.soft_timeout, self.terms.task_timeout);
            if is_over(hard) {
                state.strike(index, task, SIGKILL, Verdict::TimedOut);
            } else if is_over(soft) && !slot.is_doomed() {
                state.strike(index, task, SIGTERM, Verdict::TimedOut);
            }
            let left =
                [soft, hard].into_iter().flatten().filter_map(|limit| limit.checked_sub(ran));
            next = left.filter(|left| !left.is_zero()).fold(next, Duration::min);
        }
        Deadline::after(next)
    }

    /// The pool cannot go on: everything that is pending fails for this reason.
    pub(super) fn fail(&self, reason: String) {
        let loss = Loss::PoolFailed(reason.clone());
        self.state().failure = Some(reason);
        self.end(&loss);
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
        let pending = state.ledger.drain();
        let again = std::mem::take(&mut state.backlog);
        state.bereaved.clear();
        // What nobody took by now, nobody will. Where that cannot be told, all may have been begun with.
        let taken = self.plan.tasks.taken().unwrap_or(u64::MAX);
        let never_started = pending.iter().filter(|(number, _)| *number >= taken).count();
        state.counters.never_started += never_started as u64;
        state.counters.abandoned += (pending.len() - never_started + again.len()) as u64;
        drop(state);
        for pending in pending.into_iter().map(|(_, pending)| pending).chain(again) {
            self.give_up(pending, loss);
        }
        // Wakes the thread that attends, which finds everything lost.
        let _ = self.plan.results.close();
        self.tell();
    }

    /// Waits until everything that was put is done and the workers have left.
    pub(crate) fn join(&self) -> Result<()> {
        self.check_creator()?;
        if self.state().phase == Phase::Running {
            return Err(Error::invalid("join of a pool that was neither closed nor terminated"));
        }
        self.attend(Deadline::NEVER, || !self.is_busy())?;
        self.plan.tasks.close()?;
        self.state().crew.dismiss()
    }

    /// Cancels `job`'s tasks, or all, that no worker has taken, and deals as `begun` says with those that one
    /// has: that worker is ended and replaced. Says how many there were.
    pub(crate) fn cancel(&self, job: Option<&Arc<dyn Job>>, begun: Begun) -> Result<usize> {
        self.check_creator()?;
        let mut state = self.state();
        let mut cancelled = Vec::new();
        let mut struck = 0;
        for task in state.ledger.numbers(job) {
            if self.plan.revoked.revoke(task, || self.plan.tasks.taken())? {
                cancelled.extend(state.ledger.settle(task));
            } else {
                struck += usize::from(state.cancel_begun(task, begun));
            }
        }
        let is_meant = |other: &Pending| job.is_none_or(|job| Arc::ptr_eq(&other.job, job));
        while let Some(at) = state.backlog.iter().position(is_meant) {
            cancelled.push(state.backlog.swap_remove(at));
        }
        state.counters.cancelled += cancelled.len() as u64;
        drop(state);
        let count = struck + cancelled.len();
        for pending in cancelled {
            self.give_up(pending, &Loss::Cancelled);
        }
        Ok(count)
    }
}

/// What becomes of a cancelled task that a worker has begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    Finish,
    /// SIGTERM now, and SIGKILL after so long.
    Terminate(Duration),
    Kill,
}

impl State {
    /// Notes whether the worker that has ended had come as far as waiting for a task, or another has.
    ///
    /// One that was ready and then ends by itself is no proof either that a new one is of any use.
    fn count_fruitless(&mut self, worker: &Worker, status: ExitStatus) {
        let slot = worker.slot();
        let killed = matches!(status, ExitStatus::Killed(_));
        let fruitful = |slot: &super::worker::Slot| slot.finished() > 0 || slot.claim().is_some();
        if fruitful(slot) || killed && slot.is_ready() {
            self.fruitless = 0;
        } else {
            self.fruitless += 1;
        }
    }

    /// The task was lost with its worker: it is tried again, or given up.
    fn bereave(&mut self, bereaved: Bereaved, retries: u32) -> Option<(Pending, Loss)> {
        let Bereaved { task, pid, status } = bereaved;
        let mut pending = self.ledger.settle(task)?;
        match pending.verdict {
            Some(Verdict::TimedOut) => {
                self.counters.timed_out += 1;
                return Some((pending, Loss::TimedOut));
            }
            Some(Verdict::Cancelled) => {
                self.counters.cancelled += 1;
                return Some((pending, Loss::Cancelled));
            }
            None => {}
        }
        pending.deaths += 1;
        if pending.again.is_none() {
            self.counters.died += 1;
            return Some((pending, Loss::WorkerDied { pid, status }));
        }
        if pending.deaths > retries {
            self.counters.died += 1;
            let deaths = pending.deaths;
            return Some((pending, Loss::Poison { deaths, pid, status }));
        }
        self.counters.retried += 1;
        self.backlog.push(pending);
        None
    }

    /// Signals the worker at `index` for what it does to `task`; false if it has that no more.
    fn strike(&mut self, index: usize, task: u64, signal: i32, verdict: Verdict) -> bool {
        let worker = &self.crew.workers()[index];
        // Once doomed it takes no other task, so the signal cannot meet an innocent one.
        let has_it = worker.slot().doom(task);
        if has_it {
            worker.signal(signal);
            if let Some(pending) = self.ledger.get_mut(task) {
                pending.verdict = Some(verdict);
            }
        }
        has_it
    }

    /// Ends the worker that has begun with a cancelled task, or warns it.
    fn cancel_begun(&mut self, task: u64, begun: Begun) -> bool {
        match begun {
            Begun::Finish => false,
            Begun::Kill => self.strike_who_has(task, SIGKILL, Verdict::Cancelled),
            Begun::Terminate(grace) => {
                let struck = self.strike_who_has(task, SIGTERM, Verdict::Cancelled);
                if struck {
                    self.warned.push((task, Deadline::after(grace)));
                }
                struck
            }
        }
    }

    /// Kills the workers that were warned long enough ago; says when the next is due.
    fn end_the_warned(&mut self) -> Deadline {
        let mut next = Deadline::NEVER;
        for (task, until) in std::mem::take(&mut self.warned) {
            if until.has_passed() {
                // It may have ended, or come to its end, by itself.
                self.strike_who_has(task, SIGKILL, Verdict::Cancelled);
            } else {
                next = next.min(until);
                self.warned.push((task, until));
            }
        }
        next
    }

    fn strike_who_has(&mut self, task: u64, signal: i32, verdict: Verdict) -> bool {
        let has = |worker: &Worker| worker.slot().claim() == Some(task);
        let index = self.crew.workers().iter().position(has);
        index.is_some_and(|index| self.strike(index, task, signal, verdict))
    }
}
