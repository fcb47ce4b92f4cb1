//! Pools: what they compute, and what they do when workers, tasks or the pool itself come to an end.
//!
//! What depends on how workers are started runs by every method: Fork in a forked child, since a test
//! binary has threads.

mod accounts;
mod death;
mod ends;
mod forms;
mod lazy;
mod limits;
mod scarce;
#[path = "../support/mod.rs"]
mod support;

use multiproc::{Pool, PoolBuilder, Queue, StartMethod};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use support::{Watchdog, in_child_within, watchdog};

multiproc::init_before_main!();

const PATIENCE: Duration = Duration::from_secs(90);

/// Longer than any test; workers in such a task are killed.
const FOR_EVER: Duration = Duration::from_secs(100_000);

/// One test at a time: a child forked for one must not find a lock of the library held by another's
/// thread.
fn turn() -> (MutexGuard<'static, ()>, Watchdog) {
    static TURN: Mutex<()> = Mutex::new(());
    (TURN.lock().unwrap_or_else(PoisonError::into_inner), watchdog(PATIENCE))
}

/// Runs `test` by every start method.
#[track_caller]
fn everywhere(test: fn(StartMethod)) {
    let _turn = turn();
    test(StartMethod::Spawn);
    test(StartMethod::ForkServer);
    in_child_within(PATIENCE, || test(StartMethod::Fork));
}

fn builder(method: StartMethod, processes: usize) -> PoolBuilder {
    Pool::builder().start_method(method).processes(processes)
}

fn pool(method: StartMethod, processes: usize) -> Pool {
    builder(method, processes).build().unwrap()
}

fn square(n: u64) -> u64 {
    n * n
}

/// Says where it runs and waits for a number.
fn wait_for(at: Queue<u32>, gate: Queue<u32>) -> u32 {
    at.put(&std::process::id()).unwrap();
    gate.get().unwrap()
}

/// Says where it runs and stays there.
fn stay(at: Queue<u32>) {
    at.put(&std::process::id()).unwrap();
    std::thread::sleep(FOR_EVER);
}

/// The sum of everything a pool says of its tasks, each of which ends in one way.
fn accounted(pool: &Pool) -> (u64, u64) {
    let c = pool.snapshot().counters;
    let came_back = c.done + c.failed;
    let ended = c.died + c.timed_out + c.cancelled;
    (c.submitted, came_back + ended + c.abandoned + c.never_started)
}

fn put_all(queue: &Queue<u32>, numbers: &[u32]) {
    numbers.iter().for_each(|number| queue.put(number).unwrap());
}

/// The start method of that name: the names are what can be handed to another process.
fn method_of(name: &str) -> StartMethod {
    let all = multiproc::all_start_methods();
    *all.iter().find(|method| method.to_string() == name).unwrap()
}

/// A generator of numbers that repeats itself from the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

fn kill_any(pool: &Pool, chance: &mut Chance) -> bool {
    let workers = pool.snapshot().workers;
    !workers.is_empty() && pool.kill_worker(workers[chance.below(workers.len())].pid)
}

/// Says so when it goes, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn busy(n: u64) -> u64 {
    let end = Instant::now() + Duration::from_micros(n % 300);
    while Instant::now() < end {}
    n
}
