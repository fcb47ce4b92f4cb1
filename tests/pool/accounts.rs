//! What a pool says of itself: what became of every task, and who does what.

use super::{
    Chance, FOR_EVER, Over, accounted, busy, everywhere, kill_any, pool, put_all, square, stay,
    turn, wait_for,
};
use multiproc::{
    Activity, AsyncResult, Counters, Decode, Decoder, Encode, Encoder, Error, Pool, Queue, Result,
};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// How the results of a pool's tasks look to who takes them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fates {
    done: u64,
    failed: u64,
    died: u64,
    timed_out: u64,
    cancelled: u64,
    closed: u64,
}

impl Fates {
    fn count<R>(&mut self, outcome: &Result<R>) {
        *match outcome {
            Ok(_) => &mut self.done,
            Err(Error::Encode { .. }) => &mut self.failed,
            Err(Error::WorkerDied { .. }) => &mut self.died,
            Err(Error::TaskTimeout) => &mut self.timed_out,
            Err(Error::Cancelled) => &mut self.cancelled,
            Err(Error::PoolClosed) => &mut self.closed,
            Err(error) => panic!("{error:?}"),
        } += 1;
    }
}

impl From<Counters> for Fates {
    fn from(c: Counters) -> Fates {
        let Counters { done, failed, died, timed_out, cancelled, .. } = c;
        Fates { done, failed, died, timed_out, cancelled, closed: c.abandoned + c.never_started }
    }
}

/// Encodes unless it is a multiple of 50.
#[derive(Debug)]
struct Fussy(u64);

impl Encode for Fussy {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        if self.0 % 50 == 0 {
            encoder.fail(Error::Encode { reason: "a multiple of 50".into() });
        }
        self.0.encode(encoder);
    }
}

impl Decode for Fussy {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Fussy> {
        u64::decode(decoder).map(Fussy)
    }
}

fn eventful(n: u64) -> Fussy {
    if n % 100 == 99 {
        std::thread::sleep(FOR_EVER);
    }
    Fussy(busy(n))
}

#[test]
fn under_a_storm_every_task_ends_in_one_way_and_the_counters_say_which() {
    let _turn = turn();
    const TASKS: u64 = 3000;
    let pool = Pool::builder()
        .processes(3)
        .max_tasks_per_child(50)
        .task_timeout(Duration::from_millis(5))
        .build()
        .unwrap();
    let over = AtomicBool::new(false);
    let mut fates = Fates::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut chance = Chance(1);
            while !over.load(SeqCst) {
                kill_any(&pool, &mut chance);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let _over = Over(&over);
        let results: Vec<AsyncResult<Fussy>> =
            (0..TASKS).map(|n| pool.apply_async(eventful, (n,)).unwrap()).collect();
        for result in results.iter().skip(1000).step_by(11) {
            result.cancel().unwrap();
        }
        // The last quarter is in line, or runs, when the pool ends.
        for result in &results[..TASKS as usize * 3 / 4] {
            result.wait().unwrap();
        }
        pool.terminate();
        results.iter().for_each(|result| fates.count(&result.get()));
    });
    let counters = pool.snapshot().counters;
    println!("{counters:?}");
    assert_eq!(fates, counters.into());
    assert_eq!(accounted(&pool), (TASKS, TASKS));
    assert!(fates.failed > 0 && fates.timed_out > 0 && fates.cancelled > 0 && fates.closed > 0);
}

#[test]
fn a_chunk_with_a_failure_counts_as_failed() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    let fail_at_five = |n: u64| assert_ne!(n, 5);
    assert!(pool.map_chunks(fail_at_five, 0..30, 10).is_err());
    let counters = pool.snapshot().counters;
    assert_eq!((counters.submitted, counters.done, counters.failed), (3, 2, 1));
}

#[test]
fn tasks_that_no_worker_began_with_are_told_from_those_that_one_had() {
    everywhere(|method| {
        let pool = pool(method, 2);
        let at = Queue::new().unwrap();
        let tasks: Vec<_> =
            (0..10).map(|_| pool.apply_async(stay, (at.clone(),)).unwrap()).collect();
        at.get().unwrap();
        at.get().unwrap();
        pool.terminate();
        assert!(tasks.iter().all(|task| matches!(task.get(), Err(Error::PoolClosed))));
        let counters = pool.snapshot().counters;
        assert_eq!((counters.abandoned, counters.never_started), (2, 8));
    });
}

#[test]
fn a_snapshot_tells_who_does_what_since_when() {
    everywhere(|method| {
        let pool = pool(method, 2);
        let (at, gate) = (Queue::new().unwrap(), Queue::new().unwrap());
        let running = pool.apply_async(wait_for, (at.clone(), gate.clone())).unwrap();
        let pid = at.get().unwrap();
        let nap = Duration::from_millis(20);
        pool.apply(std::thread::sleep, (nap,)).unwrap();
        // A result is there a moment before its worker has come to rest.
        let busy = |activity| {
            pool.snapshot().workers.iter().filter(|worker| worker.activity == activity).count()
        };
        while busy(Activity::Running) > 1 {
            std::thread::yield_now();
        }
        let workers = pool.snapshot().workers;
        let (mut one, mut other) = (&workers[0], &workers[1]);
        if one.pid != pid {
            (one, other) = (other, one);
        }
        assert_eq!((one.activity, one.task, one.finished), (Activity::Running, Some(0), 0));
        assert!(one.running.unwrap() >= nap);
        assert_ne!(other.activity, Activity::Running);
        assert_eq!((one.restarts, other.restarts), (0, 0));
        assert!(pool.kill_worker(other.pid));
        let gone = other.pid;
        while pool.snapshot().workers.iter().any(|worker| worker.pid == gone) {
            pool.apply_async(square, (1,)).unwrap().wait_timeout(nap).unwrap();
        }
        put_all(&gate, &[7]);
        assert_eq!(running.get().unwrap(), 7);
        pool.map(square, 0..10).unwrap();
        let mut restarts: Vec<u64> = pool.snapshot().workers.iter().map(|w| w.restarts).collect();
        restarts.sort();
        assert_eq!(restarts, [0, 1]);
    });
}
