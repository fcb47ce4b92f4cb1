//! Looks at a pool from outside.

use super::core::Core;
use super::ledger::Counters;
use crate::sys::time::monotonic;
use std::time::Duration;

/// A look at a pool.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The workers that are alive.
    pub workers: Vec<WorkerState>,
    /// What was done so far.
    pub counters: Counters,
}

/// A look at a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerState {
    /// Its pid.
    pub pid: u32,
    /// What it does.
    pub activity: Activity,
    /// The number of the task it has, counted from the pool's first.
    pub task: Option<u64>,
    /// How long it has had that task.
    pub running: Option<Duration>,
    /// How many tasks it has finished.
    pub finished: u64,
    /// How many workers had its place before it, one after the other.
    pub restarts: u64,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// It was started and has not come as far as waiting for a task: it may be in its initializer.
    Starting,
    /// It waits for a task.
    Idle,
    /// It runs one.
    Running,
    /// It runs one for which the pool has signalled it to end, and will take no other.
    Ending,
}

impl Snapshot {
    pub(super) fn of(core: &Core) -> Snapshot {
        let now = monotonic();
        let workers = core.each_worker(|worker| {
            let slot = worker.slot();
            let task = slot.claim();
            let activity = match task {
                Some(_) if slot.is_doomed() => Activity::Ending,
                Some(_) => Activity::Running,
                None if slot.is_ready() => Activity::Idle,
                None => Activity::Starting,
            };
            WorkerState {
                pid: worker.pid(),
                activity,
                task,
                running: task.map(|_| now.saturating_sub(slot.since())),
                finished: slot.finished(),
                restarts: worker.restarts(),
            }
        });
        Snapshot { workers, counters: core.counters() }
    }
}
