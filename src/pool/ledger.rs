//! What is owed: the tasks that were handed out, and what became of those before.

use super::job::{Job, Portion};
use crate::codec::Payload;
use std::collections::VecDeque;
use std::sync::Arc;

/// A task that was handed out.
pub(crate) struct Pending {
    pub(crate) job: Arc<dyn Job>,
    pub(crate) portion: Portion,
    /// To hand it out again if its worker dies.
    pub(crate) again: Option<Payload>,
    /// How many workers have died of it.
    pub(crate) deaths: u32,
    /// Why the pool itself has signalled its worker, if it has.
    pub(crate) verdict: Option<Verdict>,
}

/// Why the pool ends a worker in the middle of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    TimedOut,
    Cancelled,
}

/// What a pool has done so far.
///
/// Every task that was handed in ends as exactly one of `done`, `failed`, `died`, `timed_out`,
/// `cancelled`, `abandoned` and `never_started`; a chunk counts as one task.
///
/// # Examples
/// ```
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// let pool = multiproc::Pool::new(1)?;
/// pool.apply(|| (), ())?;
/// let counters = pool.snapshot().counters;
/// assert_eq!((counters.submitted, counters.done, counters.died), (1, 1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Tasks handed to the workers.
    pub submitted: u64,
    /// Tasks that came back with their results.
    pub done: u64,
    /// Tasks that came back with an error of their own: a panic, a result that cannot be encoded or
    /// decoded. Of a chunk, one such task is enough.
    pub failed: u64,
    /// Tasks lost with their worker, and not tried again.
    pub died: u64,
    /// Tasks that took longer than they were allowed to.
    pub timed_out: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
    /// Tasks that a worker had begun with when the pool ended, and of which nothing had been heard.
    pub abandoned: u64,
    /// Tasks that no worker had begun with when the pool ended.
    pub never_started: u64,
    /// Times that a task was tried again after its worker had died.
    pub retried: u64,
    /// Workers that were started in the place of others.
    pub replaced: u64,
}

/// The tasks of which nothing was heard, by their numbers on the ring.
#[derive(Default)]
pub(crate) struct Ledger {
    /// From number `first` on.
    pending: VecDeque<Option<Pending>>,
    first: u64,
}

impl Ledger {
    /// Notes the task that was put under `number`. Numbers come in order; some may be left out.
    pub(crate) fn note(&mut self, number: u64, pending: Pending) {
        if self.pending.is_empty() {
            self.first = number;
        }
        let at = number.saturating_sub(self.first) as usize;
        while self.pending.len() < at {
            self.pending.push_back(None);
        }
        self.pending.push_back(Some(pending));
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Pending> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.pending.get_mut(at)?.as_mut()
    }

    /// Takes out the task under `number`, if nothing was heard of it before.
    pub(crate) fn settle(&mut self, number: u64) -> Option<Pending> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let pending = self.pending.get_mut(at)?.take()?;
        while let Some(None) = self.pending.front() {
            self.pending.pop_front();
            self.first += 1;
        }
        Some(pending)
    }

    /// The numbers of `job`'s tasks, or of all tasks.
    pub(crate) fn numbers(&self, job: Option<&Arc<dyn Job>>) -> Vec<u64> {
        let is_meant = |pending: &Pending| job.is_none_or(|job| Arc::ptr_eq(&pending.job, job));
        let all = (self.first..).zip(&self.pending);
        all.filter(|(_, pending)| pending.as_ref().is_some_and(is_meant))
            .map(|(number, _)| number)
            .collect()
    }

    /// Takes out everything, with the numbers.
    pub(crate) fn drain(&mut self) -> Vec<(u64, Pending)> {
        let numbered = (self.first..).zip(self.pending.drain(..));
        numbered.filter_map(|(number, pending)| Some((number, pending?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::Single;
    use super::*;

    fn pending() -> Pending {
        let job: Arc<dyn Job> = Arc::new(Single::<u32>::new());
        let portion = Portion { part: 0, items: 1, bytes: 0 };
        Pending { job, portion, again: None, deaths: 0, verdict: None }
    }

    #[test]
    fn a_task_is_settled_once() {
        let mut ledger = Ledger::default();
        ledger.note(7, pending());
        ledger.note(9, pending());
        for unknown in [0, 6, 8, 10, u64::MAX] {
            assert!(ledger.settle(unknown).is_none());
        }
        assert!(ledger.settle(9).is_some() && ledger.settle(9).is_none());
        assert!(ledger.settle(7).is_some() && ledger.settle(7).is_none());
        assert!(ledger.drain().is_empty());
    }

    #[test]
    fn the_tasks_of_a_job_are_found_by_it() {
        let mut ledger = Ledger::default();
        let (one, other) = (pending(), pending());
        let job = one.job.clone();
        ledger.note(3, other);
        ledger.note(4, one);
        assert_eq!(ledger.numbers(Some(&job)), [4]);
        ledger.settle(3);
        assert_eq!(ledger.numbers(Some(&job)), [4]);
    }
}
