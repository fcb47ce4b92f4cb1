//! Conditions: waited for under a lock, notified, forgotten by the dead.

mod support;

use multiproc::{Condition, Error, Event, Lock, Process, RLock, Value};
use std::thread;
use std::time::{Duration, Instant};
use support::{in_child, os, watchdog};

multiproc::init_before_main!();

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

/// Forked children, each waiting in `condition` when this returns; they count themselves in `woken`.
fn waiters(condition: &Condition, woken: &Value<u32>, count: usize) -> Vec<os::Pid> {
    let before = waiting(condition);
    let waiter = || {
        let mut guard = condition.acquire().unwrap();
        assert!(guard.wait().unwrap());
        woken.update(|n| *n += 1).unwrap();
    };
    let pids: Vec<_> = (0..count).map(|_| os::fork(waiter)).collect();
    while waiting(condition) < before + count {
        thread::yield_now();
    }
    pids.iter().for_each(|&pid| os::wait_until_asleep(pid));
    pids
}

/// How many wait, by the last number of the condition's text.
fn waiting(condition: &Condition) -> usize {
    let text = format!("{condition:?}");
    let number = text.trim_end_matches(")>").rsplit(' ').next().unwrap();
    number.parse().unwrap_or_else(|_| panic!("{text}"))
}

fn wait_until_woken(woken: &Value<u32>, count: u32) {
    while woken.get().unwrap() < count {
        thread::yield_now();
    }
}

fn reap(pids: impl IntoIterator<Item = os::Pid>) {
    for pid in pids {
        assert_eq!(os::wait(pid), os::Status::Exited(0));
    }
}

/// One of each kind.
fn conditions() -> [Condition; 3] {
    let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
    [
        Condition::new().unwrap(),
        Condition::with_lock(&lock).unwrap(),
        Condition::with_rlock(&rlock).unwrap(),
    ]
}

#[test]
fn each_notification_wakes_one_and_a_surplus_none() {
    let _watchdog = watchdog(LONG);
    for condition in conditions() {
        let woken = Value::new(0).unwrap();
        let pids = waiters(&condition, &woken, 6);
        condition.acquire().unwrap().notify(0).unwrap();
        condition.acquire().unwrap().notify(2).unwrap();
        wait_until_woken(&woken, 2);
        assert_eq!(waiting(&condition), 4);
        condition.acquire().unwrap().notify(1).unwrap();
        wait_until_woken(&woken, 3);
        condition.acquire().unwrap().notify(10).unwrap();
        reap(pids);
        assert_eq!(woken.get().unwrap(), 6);
        condition.acquire().unwrap().notify(3).unwrap();
        assert!(!condition.acquire().unwrap().wait_timeout(SHORT).unwrap());
    }
}

#[test]
fn six_time_out_and_six_more_are_all_woken() {
    let _watchdog = watchdog(LONG);
    let condition = Condition::new().unwrap();
    let late = || {
        let start = Instant::now();
        assert!(!condition.acquire().unwrap().wait_timeout(SHORT).unwrap());
        assert!(start.elapsed() >= SHORT);
    };
    reap((0..6).map(|_| os::fork(late)).collect::<Vec<_>>());
    assert_eq!(waiting(&condition), 0);
    let woken = Value::new(0).unwrap();
    let pids = waiters(&condition, &woken, 6);
    condition.acquire().unwrap().notify_all().unwrap();
    reap(pids);
    assert_eq!(woken.get().unwrap(), 6);
}

#[test]
fn threads_and_processes_wait_side_by_side() {
    let _watchdog = watchdog(LONG);
    let condition = Condition::new().unwrap();
    let woken = Value::new(0).unwrap();
    let pids = waiters(&condition, &woken, 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            condition.acquire().unwrap().wait().unwrap();
            woken.update(|n| *n += 1).unwrap();
        });
        while waiting(&condition) < 2 {
            thread::yield_now();
        }
        for count in 1..=2 {
            condition.acquire().unwrap().notify(1).unwrap();
            wait_until_woken(&woken, count);
        }
    });
    reap(pids);
}

#[test]
fn waiting_releases_a_recursive_lock_altogether_and_restores_it() {
    let _watchdog = watchdog(LONG);
    let lock = RLock::new().unwrap();
    let condition = Condition::with_rlock(&lock).unwrap();
    let waiter = os::fork(|| {
        let outer = lock.acquire().unwrap();
        let mut guard = condition.acquire().unwrap();
        let inner = lock.acquire().unwrap();
        guard.wait().unwrap();
        assert!(format!("{lock:?}").ends_with(", 3)>"), "{lock:?}");
        drop((outer, inner));
        assert!(lock.locked());
        drop(guard);
        assert!(!lock.locked());
    });
    while waiting(&condition) == 0 {
        thread::yield_now();
    }
    condition.acquire().unwrap().notify(1).unwrap();
    reap([waiter]);
}

#[test]
fn the_guards_of_a_plain_lock_exclude_each_other() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let (condition, other) =
        (Condition::with_lock(&lock).unwrap(), Condition::with_lock(&lock).unwrap());
    let guard = condition.acquire().unwrap();
    assert!(matches!(other.acquire(), Err(Error::Deadlock)));
    assert!(other.try_acquire().unwrap().is_none() && lock.try_acquire().unwrap().is_none());
    thread::scope(|scope| {
        scope.spawn(|| assert!(other.acquire_timeout(SHORT).unwrap().is_none()));
    });
    drop(guard);
    assert!(lock.try_acquire().unwrap().is_some());
}

#[test]
fn wait_for_looks_each_time_it_is_notified() {
    let _watchdog = watchdog(LONG);
    let condition = Condition::new().unwrap();
    let number = Value::new(0).unwrap();
    let child = os::fork(|| {
        let mut guard = condition.acquire().unwrap();
        assert!(guard.wait_for(|| number.get().unwrap() == 4).unwrap());
    });
    for _ in 0..4 {
        let guard = condition.acquire().unwrap();
        number.update(|n| *n += 1).unwrap();
        guard.notify(1).unwrap();
    }
    reap([child]);
    let mut guard = condition.acquire().unwrap();
    let start = Instant::now();
    assert!(!guard.wait_for_timeout(|| false, SHORT).unwrap());
    assert!(start.elapsed() >= SHORT);
    assert!(guard.wait_for_timeout(|| true, Duration::ZERO).unwrap());
    assert!(!guard.wait_timeout(Duration::ZERO).unwrap());
}

#[test]
fn a_killed_waiter_takes_no_notification_and_leaves_none() {
    let _watchdog = watchdog(LONG);
    for victim in 0..3 {
        let condition = Condition::new().unwrap();
        let woken = Value::new(0).unwrap();
        let mut pids = waiters(&condition, &woken, 3);
        os::kill_and_reap(pids.remove(victim));
        assert_eq!(waiting(&condition), 2);
        condition.acquire().unwrap().notify(1).unwrap();
        wait_until_woken(&woken, 1);
        condition.acquire().unwrap().notify_all().unwrap();
        reap(pids);
        assert!(!condition.acquire().unwrap().wait_timeout(SHORT).unwrap());
    }
}

#[test]
fn one_that_comes_after_a_notification_takes_none_meant_for_others() {
    let _watchdog = watchdog(LONG);
    let condition = Condition::new().unwrap();
    let woken = Value::new(0).unwrap();
    let pids = waiters(&condition, &woken, 4);
    let mut guard = condition.acquire().unwrap();
    guard.notify_all().unwrap();
    // The notifier waits before any of them has come to run.
    assert!(!guard.wait_timeout(SHORT).unwrap());
    drop(guard);
    reap(pids);
}

#[test]
fn it_crosses_spawn() {
    let _watchdog = watchdog(LONG);
    fn work(condition: Condition, ready: Event) {
        let mut guard = condition.acquire().unwrap();
        ready.set().unwrap();
        guard.wait().unwrap();
    }
    for condition in conditions() {
        let ready = Event::new().unwrap();
        let child = Process::new(work, (condition.clone(), ready.clone())).start().unwrap();
        ready.wait().unwrap();
        condition.acquire().unwrap().notify_all().unwrap();
        child.join().unwrap();
    }
}

#[test]
fn a_guard_copied_by_fork_can_do_nothing() {
    let _watchdog = watchdog(LONG);
    let condition = Condition::new().unwrap();
    let mut guard = Some(condition.acquire().unwrap());
    in_child(|| {
        let mut copy = guard.take().unwrap();
        assert!(matches!(copy.wait(), Err(Error::ForeignProcess)));
        assert!(matches!(copy.notify_all(), Err(Error::ForeignProcess)));
        drop(copy);
        assert!(condition.try_acquire().unwrap().is_none());
    });
    drop(guard);
    assert!(condition.try_acquire().unwrap().is_some());
}

#[test]
fn a_killed_holder_of_the_lock_is_told_of_after_the_wait() {
    let _watchdog = watchdog(LONG);
    let condition = Condition::new().unwrap();
    let told = Value::new(0).unwrap();
    let waiter = os::fork(|| {
        let mut guard = condition.acquire().unwrap();
        assert!(!guard.owner_died());
        guard.wait().unwrap();
        told.set(guard.owner_died().into()).unwrap();
    });
    while waiting(&condition) == 0 {
        thread::yield_now();
    }
    let killed = os::fork(|| {
        let guard = condition.acquire().unwrap();
        guard.notify_all().unwrap();
        std::mem::forget(guard);
    });
    reap([killed, waiter]);
    assert_eq!(told.get().unwrap(), 1);
}

#[test]
fn debug_tells_of_the_lock_and_of_the_waiters() {
    let [own, lock, _] = conditions();
    assert_eq!(format!("{own:?}"), "<Condition(<RLock(None, 0)>, 0)>");
    assert_eq!(format!("{lock:?}"), "<Condition(<Lock(owner=None)>, 0)>");
}

#[test]
fn a_full_table_of_waiters_is_an_error() {
    let _watchdog = watchdog(LONG);
    let condition = Condition::new().unwrap();
    let waiter = || condition.acquire().unwrap().wait();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..240).map(|_| scope.spawn(waiter)).collect();
        while waiting(&condition) < 240 {
            thread::yield_now();
        }
        assert!(matches!(waiter(), Err(Error::Overflow { .. })));
        condition.acquire().unwrap().notify_all().unwrap();
        threads.into_iter().for_each(|thread| assert!(thread.join().unwrap().unwrap()));
    });
}
