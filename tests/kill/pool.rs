//! A pool's worker, killed at each instruction of a task's life, and workers killed at random.

use super::report::Config;
use super::support::in_child_within;
use super::support::os::{self, Pid, Sight, Status};
use super::trace;
use multiproc::{Error, Pool, StartMethod};
use std::time::{Duration, Instant};

/// How long a sweep or a storm may take, however thorough.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// How long one result may take to come.
const SOON: Duration = Duration::from_secs(20);

fn square(n: u64) -> u64 {
    n * n
}

fn pool(processes: usize, retries: u32) -> Pool {
    let builder = Pool::builder().start_method(StartMethod::Fork);
    builder.processes(processes).retries(retries).build().unwrap()
}

/// What became of the tasks of a sweep.
#[derive(Debug, Default)]
struct Fates {
    kills: u64,
    steps: u64,
    length: u64,
    done: u64,
    died: u64,
}

/// Workers stopped where they slept.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn all(pool: &Pool) -> Stopped {
        let pids: Vec<Pid> = pool.snapshot().workers.iter().map(|w| w.pid as Pid).collect();
        for &pid in &pids {
            wait_until_asleep(pid);
            trace::seize(pid);
            while !matches!(os::wait_or_tick(pid), Some(Status::Stopped(_))) {}
        }
        Stopped(pids)
    }

    /// Steps the first; false if it fell asleep or ended before it had made so many steps.
    fn step(&self, steps: u64, fates: &mut Fates) -> bool {
        let victim = self.0[0];
        for stepped in 0..steps {
            trace::step(victim, 0);
            fates.steps += 1;
            loop {
                match os::wait_or_tick(victim) {
                    Some(Status::Stopped(_)) => break,
                    None if !is_asleep(victim) => {}
                    _ => {
                        fates.length = stepped;
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Kills the first and lets the others go on.
    fn kill(self, pool: &Pool) {
        assert!(pool.kill_worker(self.0[0] as u32));
        self.0[1..].iter().for_each(|&pid| trace::let_go(pid));
    }
}

fn is_asleep(pid: Pid) -> bool {
    let first = os::look(pid);
    matches!(first, Sight::Asleep { .. }) && os::look(pid) == first
}

fn wait_until_asleep(pid: Pid) {
    while !is_asleep(pid) {
        std::thread::yield_now();
    }
}

/// One round: everybody asleep, a task, the victim killed in it after `steps` instructions. False if it
/// was through before.
fn round(pool: &Pool, steps: u64, retries: u32, fates: &mut Fates) -> bool {
    let stopped = Stopped::all(pool);
    let result = pool.apply_async(square, (steps,)).unwrap();
    // It has slept for the result: the worker will ring.
    assert!(matches!(result.get_timeout(Duration::from_millis(1)), Err(Error::TimeoutError)));
    let midway = stopped.step(steps, fates);
    let victim = stopped.0[0] as u32;
    stopped.kill(pool);
    fates.kills += 1;
    match result.get_timeout(SOON) {
        Ok(value) => {
            assert_eq!(value, steps * steps);
            fates.done += 1;
        }
        Err(Error::WorkerDied { .. }) if retries == 0 => fates.died += 1,
        Err(error) => panic!("killed after {steps} steps: {error:?}"),
    }
    // Whoever is left, and whoever was started in the victim's place, works.
    let more = pool.map_async(square, 0..4).unwrap();
    let values = more.wait_timeout(SOON).unwrap().then(|| more.get().unwrap());
    assert_eq!(values, Some(vec![0, 1, 4, 9]), "killed after {steps} steps");
    let is_whole = || {
        let workers = pool.snapshot().workers;
        workers.len() == pool.processes() && workers.iter().all(|worker| worker.pid != victim)
    };
    while !is_whole() {
        pool.apply(|| std::thread::sleep(Duration::from_millis(1)), ()).unwrap();
    }
    midway
}

fn sweep(name: &str, processes: usize, retries: u32) {
    let name = name.to_owned();
    in_child_within(PATIENCE, move || {
        let _ticks = os::Ticks::every(Duration::from_millis(2));
        let config = Config::from_env();
        let pool = pool(processes, retries);
        let mut fates = Fates::default();
        pool.map(square, 0..20).unwrap();
        // The whole length first.
        round(&pool, u64::MAX >> 32, retries, &mut fates);
        let stride = config.stride_for(fates.length as usize * 2) as u64;
        // Where the sweep begins differs from run to run, so that in time every instruction has its turn.
        let mut steps = os::own_pid() as u64 % stride;
        while round(&pool, steps, retries, &mut fates) {
            steps += stride;
        }
        let counters = pool.snapshot().counters;
        os::complain(&format!("  {name}: stride {stride}, {fates:?}, {counters:?}\n"));
        assert_eq!(counters.submitted, counters.done + counters.died);
        assert_eq!(counters.died, fates.died);
        assert_eq!(fates.kills, fates.done + fates.died);
        assert!(fates.done > 0 && (fates.died > 0) == (retries == 0));
    });
}

pub(crate) fn the_only_worker_is_killed_at_each_instruction_of_a_task() {
    sweep("pool, one worker", 1, 0);
}

pub(crate) fn a_worker_beside_another_is_killed_at_each_instruction_of_a_task() {
    sweep("pool, two workers", 2, 0);
}

pub(crate) fn a_task_is_tried_again_from_each_instruction_of_it() {
    sweep("pool, retried", 2, 1);
}

pub(crate) fn a_storm_loses_and_repeats_no_task() {
    in_child_within(PATIENCE, || {
        let asked = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
        let wanted: u64 = asked("MULTIPROC_KILLS").unwrap_or(1000);
        let tasks: u64 = asked("MULTIPROC_TASKS").unwrap_or(0);
        let pool = pool(4, u32::MAX);
        let mut chance = os::own_pid() as u64;
        let mut below = move |limit: u64| {
            chance = chance.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (chance >> 33) % limit
        };
        let (mut kills, mut next) = (0, Instant::now());
        let mut seen: Vec<u8> = Vec::new();
        let mut results = pool.imap_unordered(square, 0..);
        while kills < wanted || (seen.len() as u64) < tasks {
            let root = (results.next().unwrap().unwrap() as f64).sqrt() as usize;
            seen.resize(seen.len().max(root + 1), 0);
            seen[root] += 1;
            if kills < wanted && Instant::now() > next {
                let look = pool.snapshot();
                let victim = below(look.workers.len().max(1) as u64) as usize;
                look.workers.get(victim).map(|worker| pool.kill_worker(worker.pid));
                // Some were dead already: those that had to be replaced count.
                kills = look.counters.replaced;
                next = Instant::now() + Duration::from_micros(below(4000));
            }
        }
        // What was drawn is bounded by what was given: give the rest, but draw no more.
        drop(results);
        pool.close();
        pool.join().unwrap();
        let counters = pool.snapshot().counters;
        let given = seen.iter().map(|&times| u64::from(times)).sum::<u64>();
        os::complain(&format!("  pool storm: {kills} kills, {given} results, {counters:?}\n"));
        assert!(seen.iter().all(|&times| times <= 1), "a result came twice");
        assert_eq!(counters.submitted, counters.done + counters.cancelled);
        assert_eq!(counters.died, 0);
    });
}
