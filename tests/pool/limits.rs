//! Workers and tasks that are ended on purpose: task limits, time limits, cancelling.

use super::support::os;
use super::{
    FOR_EVER, accounted, builder, everywhere, pool, put_all, square, stay, turn, wait_for,
};
use multiproc::{Error, ExitStatus, Pool, Queue};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn a_worker_is_replaced_when_it_has_done_its_tasks() {
    everywhere(|method| {
        let pool = builder(method, 3).max_tasks_per_child(10).build().unwrap();
        let first: BTreeSet<u32> = pool.snapshot().workers.iter().map(|w| w.pid).collect();
        let results = pool.imap(|n: u64| (std::process::id(), n * n), 0..100);
        let mut by_worker = std::collections::BTreeMap::new();
        for (n, result) in results.enumerate() {
            let (pid, value) = result.unwrap();
            assert_eq!(value, (n * n) as u64);
            *by_worker.entry(pid).or_insert(0) += 1;
        }
        assert!(by_worker.values().all(|&tasks| tasks <= 10), "{by_worker:?}");
        assert!(by_worker.len() >= 10 && by_worker.keys().any(|pid| !first.contains(pid)));
        assert_eq!(accounted(&pool), (100, 100));
        assert_eq!(pool.snapshot().counters.died, 0);
    });
    let none = Pool::builder().max_tasks_per_child(0).build();
    assert!(matches!(none, Err(Error::InvalidArgument { .. })));
}

#[test]
fn a_pool_closed_early_still_replaces_its_workers() {
    everywhere(|method| {
        let pool = builder(method, 2).max_tasks_per_child(1).build().unwrap();
        let results: Vec<_> = (0..12).map(|n| pool.apply_async(square, (n,)).unwrap()).collect();
        pool.close();
        pool.join().unwrap();
        for (n, result) in results.into_iter().enumerate() {
            assert_eq!(result.get().unwrap(), (n * n) as u64);
        }
    });
}

#[test]
fn a_task_that_takes_too_long_is_ended_and_no_other() {
    everywhere(|method| {
        let limit = Duration::from_millis(100);
        let pool = builder(method, 2).task_timeout(limit).retries(5).build().unwrap();
        let task = |n: u64| {
            if n == 3 {
                std::thread::sleep(FOR_EVER);
            }
            n
        };
        let results: Vec<_> = pool.imap(task, 0..40).collect();
        for (n, result) in results.iter().enumerate() {
            match result {
                Ok(value) => assert_eq!(*value, n as u64),
                Err(error) => assert!(n == 3 && matches!(error, Error::TaskTimeout), "{error:?}"),
            }
        }
        assert!(results[3].is_err());
        let counters = pool.snapshot().counters;
        assert_eq!((counters.timed_out, counters.retried), (1, 0));
    });
}

#[test]
fn a_task_may_end_well_after_the_soft_signal() {
    let _turn = turn();
    fn finish_on_sigterm() -> u32 {
        let signals = os::SignalFlag::catch(libc::SIGTERM);
        while !signals.is_set() {
            std::thread::yield_now();
        }
        std::process::id()
    }
    let soft = Duration::from_millis(50);
    let pool = Pool::builder().processes(1).soft_timeout(soft).build().unwrap();
    let before = pool.snapshot().workers[0].pid;
    assert_eq!(pool.apply(finish_on_sigterm, ()).unwrap(), before);
    let deaf = pool.apply(|| std::thread::sleep(FOR_EVER), ());
    assert!(matches!(deaf, Err(Error::TaskTimeout)), "{deaf:?}");
    assert_ne!(pool.apply(std::process::id, ()).unwrap(), before);
    let counters = pool.snapshot().counters;
    assert_eq!((counters.done, counters.timed_out, counters.died), (2, 1, 0));
}

#[test]
fn the_hard_limit_follows_the_soft_one() {
    let _turn = turn();
    fn deaf(at: Queue<u32>) {
        os::ignore(libc::SIGTERM);
        stay(at);
    }
    let pool = Pool::builder()
        .processes(1)
        .soft_timeout(Duration::from_millis(30))
        .task_timeout(Duration::from_millis(150))
        .build()
        .unwrap();
    let outcome = pool.apply(deaf, (Queue::new().unwrap(),));
    assert!(matches!(outcome, Err(Error::TaskTimeout)), "{outcome:?}");
    assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
}

#[test]
fn a_worker_cannot_have_more_memory_than_its_limit() {
    everywhere(|method| {
        const LIMIT: u64 = 4 << 30;
        let pool = builder(method, 1).memory_limit(LIMIT).build().unwrap();
        let fits = |bytes: u64| Vec::<u8>::new().try_reserve_exact(bytes as usize).is_ok();
        assert!(pool.apply(fits, (1 << 20,)).unwrap());
        assert!(!pool.apply(fits, (LIMIT,)).unwrap());
        let greedy = pool.apply(|| Vec::<u8>::with_capacity(LIMIT as usize), ());
        let Err(Error::WorkerDied { status, .. }) = greedy else { panic!("{greedy:?}") };
        assert_eq!(status, ExitStatus::Killed(libc::SIGABRT));
        // The next one has the same limit.
        assert!(!pool.apply(fits, (LIMIT,)).unwrap());
    });
}

#[test]
fn a_task_in_line_can_be_cancelled_and_a_running_one_killed() {
    everywhere(|method| {
        let pool = pool(method, 1);
        let (at, gate) = (Queue::new().unwrap(), Queue::new().unwrap());
        let running = pool.apply_async(wait_for, (at.clone(), gate.clone())).unwrap();
        at.get().unwrap();
        let ran = Queue::new().unwrap();
        let note = |n: u32, ran: Queue<u32>| ran.put(&n).unwrap();
        let queued: Vec<_> =
            (0..10).map(|n| pool.apply_async(note, (n, ran.clone())).unwrap()).collect();
        assert!(!running.cancel().unwrap(), "it runs");
        for result in queued.iter().step_by(2) {
            assert!(result.cancel().unwrap());
            assert!(!result.cancel().unwrap(), "once");
            assert!(matches!(result.get(), Err(Error::Cancelled)));
        }
        gate.put(&1).unwrap();
        assert_eq!(running.get().unwrap(), 1);
        for result in queued.iter().skip(1).step_by(2) {
            result.get().unwrap();
        }
        assert_eq!(ran.iter().take(5).map(Result::unwrap).collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
        assert!(!running.cancel().unwrap(), "it is done");
        let endless = pool.apply_async(stay, (at.clone(),)).unwrap();
        at.get().unwrap();
        assert!(endless.kill().unwrap());
        assert!(matches!(endless.get(), Err(Error::Cancelled)));
        assert_eq!(pool.apply(square, (4,)).unwrap(), 16);
        let counters = pool.snapshot().counters;
        assert_eq!((counters.cancelled, counters.died), (6, 0));
        assert_eq!(accounted(&pool).0, accounted(&pool).1);
    });
}

#[test]
fn a_running_task_that_is_cancelled_may_end_well_or_is_made_to() {
    let _turn = turn();
    fn finish_on_sigterm(at: Queue<u32>) -> u32 {
        let signals = os::SignalFlag::catch(libc::SIGTERM);
        at.put(&std::process::id()).unwrap();
        while !signals.is_set() {
            std::thread::yield_now();
        }
        7
    }
    fn deaf(at: Queue<u32>) -> u32 {
        os::ignore(libc::SIGTERM);
        stay(at);
        0
    }
    // Nobody replaces those that end while the test waits for the next to begin.
    let pool = Pool::new(3).unwrap();
    let at = Queue::new().unwrap();
    let polite = pool.apply_async(finish_on_sigterm, (at.clone(),)).unwrap();
    at.get().unwrap();
    assert!(polite.terminate(FOR_EVER).unwrap());
    assert_eq!(polite.get().unwrap(), 7);
    let deaf = pool.apply_async(deaf, (at.clone(),)).unwrap();
    at.get().unwrap();
    assert!(deaf.terminate(Duration::from_millis(50)).unwrap());
    assert!(matches!(deaf.get(), Err(Error::Cancelled)));
    let plain = pool.apply_async(stay, (at.clone(),)).unwrap();
    at.get().unwrap();
    assert!(plain.terminate(FOR_EVER).unwrap());
    assert!(matches!(plain.get(), Err(Error::Cancelled)));
    assert!(!plain.terminate(FOR_EVER).unwrap(), "it is over");
    let counters = pool.snapshot().counters;
    assert_eq!((counters.done, counters.cancelled, counters.died), (1, 2, 0));
}

#[test]
fn all_that_is_in_line_can_be_cancelled_and_what_runs_is_done() {
    everywhere(|method| {
        let pool = pool(method, 1);
        let (at, gate) = (Queue::new().unwrap(), Queue::new().unwrap());
        let running = pool.apply_async(wait_for, (at.clone(), gate.clone())).unwrap();
        at.get().unwrap();
        let queued: Vec<_> = (0..10).map(|n| pool.apply_async(square, (n,)).unwrap()).collect();
        let all = pool.map_async_chunks(square, 0..10, 1).unwrap();
        assert_eq!(pool.cancel_queued().unwrap(), 20);
        assert_eq!(pool.cancel_queued().unwrap(), 0);
        put_all(&gate, &[3]);
        pool.close();
        pool.join().unwrap();
        assert_eq!(running.get().unwrap(), 3);
        assert!(queued.iter().all(|task| matches!(task.get(), Err(Error::Cancelled))));
        assert!(matches!(all.get(), Err(Error::Cancelled)));
        assert_eq!(accounted(&pool), (21, 21));
    });
}

#[test]
fn a_map_is_cancelled_as_a_whole() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    let (at, gate) = (Queue::new().unwrap(), Queue::new().unwrap());
    let arguments = (0..300).map(|_| (at.clone(), gate.clone()));
    let all = pool.starmap_async(wait_for, arguments).unwrap();
    at.get().unwrap();
    at.get().unwrap();
    assert!(all.cancel().unwrap());
    put_all(&gate, &[0; 300]);
    assert!(matches!(all.get(), Err(Error::Cancelled)));
    assert_eq!(pool.map(square, 0..10).unwrap().len(), 10);
    let (submitted, ended) = accounted(&pool);
    assert_eq!(submitted, ended);
}

#[test]
fn cancelling_at_random_runs_each_task_or_cancels_it() {
    let _turn = turn();
    let pool = Pool::new(3).unwrap();
    let ran = Queue::new().unwrap();
    let note = |n: u32, ran: Queue<u32>| ran.put(&n).unwrap();
    let mut cancelled = BTreeSet::new();
    for round in 0..20u32 {
        let tasks = round * 100..(round + 1) * 100;
        let results: Vec<_> =
            tasks.map(|n| (n, pool.apply_async(note, (n, ran.clone())).unwrap())).collect();
        for (n, result) in results.iter().rev() {
            if result.cancel().unwrap() {
                cancelled.insert(*n);
            }
        }
        for (n, result) in results {
            assert_eq!(result.get().is_err(), cancelled.contains(&n), "{n}");
        }
    }
    let mut ran_ones = BTreeSet::new();
    while let Ok(n) = ran.try_get() {
        assert!(ran_ones.insert(n), "{n} ran twice");
    }
    assert!(ran_ones.is_disjoint(&cancelled));
    assert_eq!(ran_ones.len() + cancelled.len(), 2000);
    println!("{} cancelled", cancelled.len());
    assert_eq!(accounted(&pool), (2000, 2000));
}
