//! Locks: held, waited for, given back, inherited from the dead.

mod support;

use multiproc::{Error, Lock, PlainCell, RawLock, Region, Shared, Value};
use std::fs::File;
use std::mem::forget;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};
use support::{in_child, os, watchdog};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

/// A forked child that holds `lock` and sleeps until it is killed.
fn holder_of(lock: &Lock) -> os::Pid {
    let (ready, tell) = multiproc::pipe_one_way().unwrap();
    let pid = os::fork(|| {
        let _guard = lock.acquire().unwrap();
        tell.send_bytes(b"held").unwrap();
        loop {
            thread::park();
        }
    });
    assert_eq!(ready.recv_bytes().unwrap(), b"held");
    pid
}

/// Sends a value to this very process, which maps it a second time.
fn passed<T: multiproc::Encode + multiproc::Decode>(value: &T) -> T {
    let (here, there) = multiproc::pipe().unwrap();
    here.send(value).unwrap();
    there.recv().unwrap()
}

/// Writes over the lock's memory as a stray pointer would, `at` bytes behind its beginning.
fn scribble(lock: &Lock, at: u64, bytes: &[u8]) {
    const BEGIN: u64 = 64;
    let file = File::from(lock.as_fd().try_clone_to_owned().unwrap());
    file.write_all_at(bytes, BEGIN + at).unwrap();
}

/// Where the futex word of the C library's mutex is.
const FUTEX: u64 = if cfg!(target_env = "gnu") { 0 } else { 4 };

#[test]
fn a_lock_is_held_from_acquire_to_the_guards_end() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    assert!(!lock.locked());
    let guard = lock.acquire().unwrap();
    assert!(lock.locked() && !guard.owner_died());
    drop(guard);
    assert!(!lock.locked());
    let guard = lock.acquire_timeout(SHORT).unwrap().unwrap();
    assert!(lock.clone().locked());
    drop(guard);
    assert!(lock.try_acquire().unwrap().is_some());
    assert!(!lock.locked());
}

#[test]
fn the_holder_is_told_of_its_deadlock() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let _guard = lock.acquire().unwrap();
    assert!(matches!(lock.acquire(), Err(Error::Deadlock)));
    assert!(matches!(lock.acquire_timeout(LONG), Err(Error::Deadlock)));
    assert!(lock.try_acquire().unwrap().is_none());
    assert!(lock.locked());
}

#[test]
fn acquire_blocks_until_another_process_releases() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let guard = lock.acquire().unwrap();
    let child = os::fork(|| assert!(!lock.acquire().unwrap().owner_died()));
    os::wait_until_asleep(child);
    drop(guard);
    assert_eq!(os::wait(child), os::Status::Exited(0));
}

#[test]
fn acquire_timeout_gives_none_and_not_before_its_time() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let guard = lock.acquire().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            assert!(lock.acquire_timeout(SHORT).unwrap().is_none());
            assert!(start.elapsed() >= SHORT);
            assert!(lock.acquire_timeout(Duration::ZERO).unwrap().is_none());
            assert!(lock.try_acquire().unwrap().is_none());
        });
    });
    drop(guard);
    assert!(lock.acquire_timeout(Duration::MAX).unwrap().is_some());
}

#[test]
fn a_long_hold_outlasts_the_looks_of_those_who_wait() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let guard = lock.acquire().unwrap();
    let child = os::fork(|| {
        let twice_a_look = Duration::from_millis(2_200);
        assert!(lock.acquire_timeout(twice_a_look).unwrap().is_none());
    });
    assert_eq!(os::wait(child), os::Status::Exited(0));
    drop(guard);
}

#[test]
fn threads_and_processes_exclude_each_other() {
    let _watchdog = watchdog(LONG);
    const ROUNDS: u64 = 5_000;
    let lock = Lock::new().unwrap();
    let count = Shared::new(PlainCell::new(0u64)).unwrap();
    let work = || {
        for _ in 0..ROUNDS {
            let _guard = lock.acquire().unwrap();
            count.set(count.get() + 1);
        }
    };
    let children = [os::fork(work), os::fork(work)];
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    for child in children {
        assert_eq!(os::wait(child), os::Status::Exited(0));
    }
    assert_eq!(count.get(), 4 * ROUNDS);
}

#[test]
fn locked_is_seen_in_both_processes() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let child = holder_of(&lock);
    assert!(lock.locked());
    assert!(lock.try_acquire().unwrap().is_none());
    os::kill_and_reap(child);
    assert!(!lock.locked());
}

#[test]
fn a_killed_holder_hands_over_and_the_news_is_told_once() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    os::kill_and_reap(holder_of(&lock));
    assert!(!lock.locked(), "a look");
    assert!(lock.acquire().unwrap().owner_died());
    assert!(!lock.acquire().unwrap().owner_died());
}

#[test]
fn a_sleeper_inherits_the_lock_of_a_killed_holder() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let holder = holder_of(&lock);
    let heir = os::fork(|| assert!(lock.acquire().unwrap().owner_died()));
    os::wait_until_asleep(heir);
    os::kill_and_reap(holder);
    assert_eq!(os::wait(heir), os::Status::Exited(0));
    assert!(!lock.locked());
}

#[test]
fn a_killed_sleeper_leaves_no_trace() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let guard = lock.acquire().unwrap();
    let sleeper = os::fork(|| drop(lock.acquire()));
    os::wait_until_asleep(sleeper);
    os::kill_and_reap(sleeper);
    drop(guard);
    assert!(!lock.acquire().unwrap().owner_died());
}

#[test]
fn a_forgotten_guard_outlives_its_handle_and_counts_as_killed() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let value = Value::new(1u8).unwrap();
    let given = Value::with_lock(1u8, &lock).unwrap();
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&(lock.clone(), value.clone())).unwrap();
    here.send(&given).unwrap();
    in_child(|| {
        // Mappings of this process alone: the last handles go while their locks are held.
        let (own_lock, own_value): (Lock, Value<u8>) = there.recv().unwrap();
        forget(own_value.lock().unwrap());
        drop(own_value);
        forget(own_lock.acquire().unwrap());
        drop(own_lock);
        assert!(lock.locked());
        // The list of held locks runs through both; another lock walks it.
        for _ in 0..10 {
            let another = Lock::new().unwrap();
            forget(another.acquire().unwrap());
        }
        drop(Lock::new().unwrap().acquire().unwrap());
    });
    assert!(lock.acquire().unwrap().owner_died());
    assert!(value.lock().unwrap().owner_died());

    in_child(|| {
        let own: Value<u8> = there.recv().unwrap();
        forget(own.lock().unwrap());
        drop(own);
        drop(Lock::new().unwrap().acquire().unwrap());
    });
    assert!(given.lock().unwrap().owner_died());
}

#[test]
fn handles_that_are_dropped_while_another_one_holds_the_lock_keep_no_memory() {
    let _watchdog = watchdog(LONG);
    let (lock, mappings) = (Lock::new().unwrap(), || {
        std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
    });
    let (here, there) = multiproc::pipe().unwrap();
    let one_more = || {
        here.send(&lock).unwrap();
        let handle: Lock = there.recv().unwrap();
        assert!(handle.locked() && matches!(handle.acquire(), Err(Error::Deadlock)));
    };
    let guard = lock.acquire().unwrap();
    in_child(|| {
        // Nor those of a process that has no part in it.
        let before = mappings();
        (0..50).for_each(|_| {
            here.send(&lock).unwrap();
            drop(there.recv::<Lock>().unwrap());
        });
        assert!(mappings() < before + 25, "{before} mappings, then {}", mappings());
    });
    one_more();
    let before = mappings();
    (0..50).for_each(|_| one_more());
    assert!(mappings() < before + 25, "{before} mappings, then {}", mappings());
    drop(guard);
    assert!(!lock.acquire().unwrap().owner_died());
}

#[test]
fn a_guard_copied_by_fork_releases_nothing() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let mut guard = Some(lock.acquire().unwrap());
    in_child(|| {
        drop(guard.take());
        assert!(lock.locked());
        assert!(lock.try_acquire().unwrap().is_none());
        assert_eq!(format!("{lock:?}"), "<Lock(owner=SomeOtherProcess)>");
    });
    assert!(lock.locked());
    assert!(guard.is_some());
    drop(guard);
    assert!(!lock.acquire().unwrap().owner_died());
}

#[test]
fn a_lock_that_was_sent_is_the_same_lock() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let same = passed(&lock);
    let guard = same.acquire().unwrap();
    assert!(matches!(lock.acquire(), Err(Error::Deadlock)), "by way of the other mapping");
    drop(guard);
    assert!(!lock.locked());
}

#[test]
fn debug_tells_who_holds_the_lock() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let text = || format!("{lock:?}");
    assert_eq!(text(), "<Lock(owner=None)>");
    thread::scope(|scope| {
        let holder = thread::Builder::new().name("holder".into());
        let holder = holder.spawn_scoped(scope, || {
            let _guard = lock.acquire().unwrap();
            assert!(text().ends_with("|holder)>"), "{}", text());
            scope.spawn(|| assert_eq!(text(), "<Lock(owner=SomeOtherThread)>")).join().unwrap();
        });
        holder.unwrap().join().unwrap();
    });
    let child = holder_of(&lock);
    assert_eq!(text(), "<Lock(owner=SomeOtherProcess)>");
    os::kill_and_reap(child);
    assert_eq!(text(), "<Lock(owner=None)>");
}

#[test]
fn another_descriptor_is_no_lock() {
    let _watchdog = watchdog(LONG);
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&Value::new(1u64).unwrap()).unwrap();
    assert!(there.recv::<Lock>().is_err());
    here.send(&Region::new(4096).unwrap()).unwrap();
    assert!(there.recv::<Lock>().is_err());
    here.send(&Shared::new(PlainCell::new([0u8; 56])).unwrap()).unwrap();
    assert!(matches!(there.recv::<Lock>(), Err(Error::Corrupt { .. })));
    here.send(&Shared::new([const { RawLock::new() }; 2]).unwrap()).unwrap();
    assert!(matches!(there.recv::<Lock>(), Err(Error::Corrupt { .. })));
}

#[test]
fn a_raw_lock_outside_shared_memory_is_refused() {
    let lock = RawLock::new();
    assert!(matches!(lock.acquire(), Err(Error::InvalidArgument { .. })));
    assert!(matches!(lock.try_acquire(), Err(Error::InvalidArgument { .. })));
    assert!(!lock.locked());
}

#[test]
fn a_lock_scribbled_all_over_is_corrupt() {
    let _watchdog = watchdog(LONG);
    in_child(|| {
        for byte in [0xff, 0x55, 0x01] {
            let lock = Lock::new().unwrap();
            scribble(&lock, 0, &[byte; 56]);
            assert!(matches!(lock.acquire(), Err(Error::Corrupt { .. })));
            assert!(matches!(lock.try_acquire(), Err(Error::Corrupt { .. })));
            assert!(matches!(lock.acquire_timeout(SHORT), Err(Error::Corrupt { .. })));
        }
    });
}

#[test]
fn a_lock_held_by_a_thread_that_never_was_is_corrupt_and_no_hang() {
    let _watchdog = watchdog(LONG);
    // The last names nobody and says that somebody sleeps: to musl, that is free.
    let words = [0x3fff_fffe_u32, 0xbfff_fffe, 0x8000_0000];
    for word in &words[..if cfg!(target_env = "gnu") { 3 } else { 2 }] {
        let lock = Lock::new().unwrap();
        scribble(&lock, FUTEX, &word.to_ne_bytes());
        let tried = lock.try_acquire();
        assert!(!matches!(tried, Ok(Some(_))), "{word:x}: {tried:?}");
        assert!(matches!(lock.acquire(), Err(Error::Corrupt { .. })), "{word:x}");
        assert!(matches!(lock.acquire_timeout(LONG), Err(Error::Corrupt { .. })), "{word:x}");
    }
}

#[test]
fn sleepers_of_a_lock_scribbled_over_while_they_sleep_are_told() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let holder = holder_of(&lock);
    let sleeper = os::fork(|| assert!(matches!(lock.acquire(), Err(Error::Corrupt { .. }))));
    os::wait_until_asleep(sleeper);
    scribble(&lock, FUTEX, &0xbfff_fffe_u32.to_ne_bytes());
    assert_eq!(os::wait(sleeper), os::Status::Exited(0));
    os::kill_and_reap(holder);
}

#[test]
fn no_scribble_on_a_free_lock_makes_a_bounded_wait_hang() {
    let _watchdog = watchdog(LONG);
    in_child(|| {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..2_000 {
            let lock = Lock::new().unwrap();
            for _ in 0..4 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                scribble(&lock, (random >> 32) % 14 * 4, &(random as u32).to_ne_bytes());
            }
            let _ = lock.acquire_timeout(Duration::from_micros(50));
            let _ = format!("{lock:?}");
        }
    });
}

#[test]
fn ten_thousand_locks_share_one_mapping() {
    let _watchdog = watchdog(LONG);
    let locks = Shared::new([const { RawLock::new() }; 10_000]).unwrap();
    let same = passed(&locks);
    let held: Vec<_> = locks.iter().step_by(100).map(|lock| lock.acquire().unwrap()).collect();
    for (i, lock) in same.iter().enumerate() {
        assert_eq!(lock.locked(), i % 100 == 0);
    }
    drop(held);
    assert!(locks.iter().all(|lock| lock.acquire().is_ok_and(|guard| !guard.owner_died())));
}

#[test]
fn a_thread_holds_no_more_locks_than_the_kernel_hands_on() {
    let _watchdog = watchdog(LONG);
    let locks = Shared::new([const { RawLock::new() }; 3_000]).unwrap();
    in_child(|| {
        let held = locks.iter().map_while(|lock| lock.acquire().ok()).map(forget).count();
        assert_eq!(held, 2_000);
        assert_eq!(locks[held].acquire().unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        assert!(locks[held].try_acquire().is_err());
        assert_eq!(thread::spawn(held_elsewhere(locks.clone())).join().unwrap(), 1_000);
        in_child(|| drop(locks[2_999].acquire().unwrap()));
        assert!(locks[2_999].acquire().is_err(), "a forked child holds none, this thread too many");
    });
    assert!(locks[..2_999].iter().all(|lock| lock.acquire().unwrap().owner_died()));
}

fn held_elsewhere(locks: Shared<[RawLock; 3_000]>) -> impl FnOnce() -> usize {
    move || locks[2_000..].iter().map_while(|lock| lock.acquire().ok()).map(forget).count()
}

#[test]
fn a_full_descriptor_table_is_an_error() {
    let _watchdog = watchdog(LONG);
    in_child(|| {
        os::limit_descriptors(3);
        assert_eq!(Lock::new().unwrap_err().raw_os_error(), Some(libc::EMFILE));
    });
}
