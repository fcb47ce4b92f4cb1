//! Recursive locks: acquired more than once, given back as often, inherited from the dead.

mod support;

use multiproc::{Error, Process, RLock};
use std::mem::forget;
use std::thread;
use std::time::{Duration, Instant};
use support::{in_child, os, watchdog};

multiproc::init_before_main!();

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

/// A forked child that holds `lock` three times over and sleeps until it is killed.
fn holder_of(lock: &RLock) -> os::Pid {
    let (ready, tell) = multiproc::pipe_one_way().unwrap();
    let pid = os::fork(|| {
        let _guards = [lock.acquire(), lock.acquire(), lock.acquire()].map(Result::unwrap);
        tell.send_bytes(b"held").unwrap();
        loop {
            thread::park();
        }
    });
    assert_eq!(ready.recv_bytes().unwrap(), b"held");
    pid
}

#[test]
fn three_acquires_need_three_releases_in_any_order() {
    let _watchdog = watchdog(LONG);
    let lock = RLock::new().unwrap();
    let first = lock.acquire().unwrap();
    let second = lock.try_acquire().unwrap().unwrap();
    let third = lock.acquire_timeout(SHORT).unwrap().unwrap();
    drop(first);
    assert!(lock.locked());
    drop(third);
    assert!(lock.locked());
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(lock.try_acquire().unwrap().is_none());
            let start = Instant::now();
            assert!(lock.acquire_timeout(SHORT).unwrap().is_none());
            assert!(start.elapsed() >= SHORT);
        });
    });
    drop(second);
    assert!(!lock.locked());
    assert!(!lock.acquire().unwrap().owner_died());
}

#[test]
fn threads_and_processes_exclude_each_other() {
    let _watchdog = watchdog(LONG);
    let lock = RLock::new().unwrap();
    let counts = multiproc::Shared::new(multiproc::PlainCell::new(0_u64)).unwrap();
    let work = || {
        for _ in 0..3_000 {
            let _outer = lock.acquire().unwrap();
            let _inner = lock.acquire().unwrap();
            counts.set(counts.get() + 1);
        }
    };
    let child = os::fork(work);
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    assert_eq!(os::wait(child), os::Status::Exited(0));
    assert_eq!(counts.get(), 9_000);
}

#[test]
fn a_killed_holder_hands_over_all_of_it_and_the_news_lasts_until_release() {
    let _watchdog = watchdog(LONG);
    let lock = RLock::new().unwrap();
    let holder = holder_of(&lock);
    assert!(lock.locked());
    let heir = os::fork(|| assert!(lock.acquire().unwrap().owner_died()));
    os::wait_until_asleep(heir);
    os::kill_and_reap(holder);
    assert_eq!(os::wait(heir), os::Status::Exited(0));
    assert!(!lock.locked());

    os::kill_and_reap(holder_of(&lock));
    let outer = lock.acquire().unwrap();
    let inner = lock.acquire().unwrap();
    assert!(outer.owner_died() && inner.owner_died());
    drop(inner);
    assert!(lock.acquire().unwrap().owner_died(), "it is not free yet");
    drop(outer);
    assert!(!lock.acquire().unwrap().owner_died());
}

#[test]
fn a_forked_child_does_not_hold_what_its_parent_holds() {
    let _watchdog = watchdog(LONG);
    let lock = RLock::new().unwrap();
    let mut guard = Some(lock.acquire().unwrap());
    in_child(|| {
        assert!(lock.try_acquire().unwrap().is_none());
        drop(guard.take());
        assert!(lock.locked());
    });
    assert!(lock.try_acquire().unwrap().is_some(), "the parent still holds it");
    drop(guard);
    assert!(!lock.locked());
}

#[test]
fn a_forgotten_guard_counts_as_killed() {
    let _watchdog = watchdog(LONG);
    let lock = RLock::new().unwrap();
    let clone = lock.clone();
    thread::spawn(move || forget((clone.acquire(), clone.acquire()))).join().unwrap();
    assert!(lock.acquire().unwrap().owner_died());
}

#[test]
fn it_crosses_spawn() {
    let _watchdog = watchdog(LONG);
    fn work(lock: RLock) -> bool {
        let outer = lock.acquire().unwrap();
        let inner = lock.acquire().unwrap();
        let told = outer.owner_died() || inner.owner_died();
        forget((outer, inner));
        told
    }
    let lock = RLock::new().unwrap();
    let child = Process::new(work, (lock.clone(),)).start().unwrap();
    assert!(!child.join().unwrap());
    assert!(lock.acquire().unwrap().owner_died(), "the child ended while it held it");
}

#[test]
fn debug_tells_who_holds_it_and_how_often() {
    let _watchdog = watchdog(LONG);
    let lock = RLock::new().unwrap();
    let text = || format!("{lock:?}");
    assert_eq!(text(), "<RLock(None, 0)>");
    let holder = thread::Builder::new().name("holder".into());
    thread::scope(|scope| {
        let own = || {
            let _guards = [lock.acquire(), lock.acquire()].map(Result::unwrap);
            assert!(text().ends_with("|holder, 2)>"), "{}", text());
            scope.spawn(|| assert_eq!(text(), "<RLock(SomeOtherThread, nonzero)>")).join().unwrap();
        };
        holder.spawn_scoped(scope, own).unwrap().join().unwrap();
    });
    let child = holder_of(&lock);
    assert_eq!(text(), "<RLock(SomeOtherProcess, nonzero)>");
    os::kill_and_reap(child);
    assert_eq!(text(), "<RLock(None, 0)>");
}

#[test]
fn another_descriptor_is_no_recursive_lock() {
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&multiproc::Lock::new().unwrap()).unwrap();
    assert!(matches!(there.recv::<RLock>(), Err(Error::Corrupt { .. })));
}
