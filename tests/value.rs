//! Values: changed by one process at a time, under their own lock or a given one.

mod support;

use multiproc::{Decode, Encode, Error, Lock, Plain, Value, plain};
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};
use support::{in_child, os, watchdog};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

plain! {
    #[derive(Debug, PartialEq)]
    struct Point {
        x: f64,
        y: f64,
        tag: u32,
        unused: u32,
    }
}

fn passed<T: Encode + Decode>(value: &T) -> multiproc::Result<T> {
    let (here, there) = multiproc::pipe().unwrap();
    here.send(value).unwrap();
    there.recv()
}

fn a_child_changes<T: Plain + PartialEq + std::fmt::Debug>(before: T, after: T) {
    let value = Value::new(before).unwrap();
    assert_eq!(value.get().unwrap(), before);
    let sent = passed(&value).unwrap();
    in_child(|| sent.set(after).unwrap());
    assert_eq!(value.get().unwrap(), after);
}

#[test]
fn values_changed_by_a_child_are_seen_by_the_parent() {
    let _watchdog = watchdog(LONG);
    a_child_changes(-7, 239_847_892_i32);
    a_child_changes(-1.5, std::f64::consts::PI);
    a_child_changes(1_i16, i16::MIN);
    a_child_changes(1_u64 << 33, u64::MAX);
    a_child_changes(b'a', b'z');
    a_child_changes(u128::MAX, 1);
    a_child_changes([1_u8; 3], [2; 3]);
    let point = Point { x: 1.0, y: 2.0, tag: 3, unused: 0 };
    a_child_changes(point, Point { x: -1.0, ..point });
}

#[test]
fn guards_of_threads_and_processes_lose_no_update() {
    let _watchdog = watchdog(LONG);
    const ROUNDS: u64 = 5_000;
    let value = Value::new(0_u64).unwrap();
    let work = || (0..ROUNDS).for_each(|_| *value.lock().unwrap() += 1);
    let child = os::fork(work);
    let other = os::fork(|| (0..ROUNDS).for_each(|_| value.update(|n| *n += 1).unwrap()));
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    assert_eq!([child, other].map(os::wait), [os::Status::Exited(0); 2]);
    assert_eq!(value.get().unwrap(), 4 * ROUNDS);
}

#[test]
fn a_borrowed_value_is_waited_for_until_it_is_given_back() {
    let _watchdog = watchdog(LONG);
    let value = Value::new(1).unwrap();
    let mut guard = value.lock().unwrap();
    let child = os::fork(|| assert_eq!(value.get().unwrap(), 2));
    os::wait_until_asleep(child);
    *guard = 2;
    drop(guard);
    assert_eq!(os::wait(child), os::Status::Exited(0));
}

#[test]
fn a_borrowed_value_is_not_there_for_try_and_timeout() {
    let _watchdog = watchdog(LONG);
    let value = Value::new(1).unwrap();
    let guard = value.lock().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            assert!(value.lock_timeout(SHORT).unwrap().is_none());
            assert!(start.elapsed() >= SHORT);
            assert!(value.try_lock().unwrap().is_none());
            assert_eq!(format!("{value:?}"), "<Value(owner=SomeOtherThread)>");
        });
    });
    assert_eq!(format!("{guard:?}"), "1");
    drop(guard);
    assert_eq!(format!("{value:?}"), "<Value(1)>");
    assert_eq!(*value.lock_timeout(SHORT).unwrap().unwrap(), 1);
    assert_eq!(*value.try_lock().unwrap().unwrap(), 1);
}

#[test]
fn there_are_never_two_guards_of_one_value() {
    let _watchdog = watchdog(LONG);
    let value = Value::new(1).unwrap();
    let same = passed(&value).unwrap();
    let _guard = value.lock().unwrap();
    for handle in [&value, &same] {
        assert!(matches!(handle.lock(), Err(Error::Deadlock)));
        assert!(matches!(handle.get(), Err(Error::Deadlock)));
        assert!(matches!(handle.set(2), Err(Error::Deadlock)));
        assert!(handle.try_lock().unwrap().is_none());
    }
}

#[test]
fn values_under_one_lock_change_one_at_a_time() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let (a, b) = (Value::with_lock(1, &lock).unwrap(), Value::with_lock(2.0, &lock).unwrap());
    let (sent_a, sent_b) = passed(&(a.clone(), b.clone())).unwrap();
    let guard = a.lock().unwrap();
    assert!(lock.locked());
    assert!(matches!(b.lock(), Err(Error::Deadlock)));
    in_child(|| {
        assert!(sent_a.try_lock().unwrap().is_none());
        assert!(sent_b.try_lock().unwrap().is_none());
    });
    drop(guard);
    let held = lock.acquire().unwrap();
    assert!(b.try_lock().unwrap().is_none());
    drop(held);
    in_child(|| {
        sent_a.update(|n| *n += 1).unwrap();
        sent_b.set(4.0).unwrap();
    });
    assert_eq!((a.get().unwrap(), b.get().unwrap()), (2, 4.0));
    drop(lock);
    assert_eq!(a.get().unwrap(), 2, "the value keeps its lock");
}

/// A child that is killed with `value` borrowed and half changed.
fn killed_halfway(value: &Value<[u32; 2]>) {
    let (ready, tell) = multiproc::pipe_one_way().unwrap();
    let child = os::fork(|| {
        let mut guard = value.lock().unwrap();
        guard[0] += 1;
        tell.send_bytes(b"half").unwrap();
        loop {
            thread::park();
        }
    });
    ready.recv_bytes().unwrap();
    os::kill_and_reap(child);
}

#[test]
fn a_guard_tells_that_the_last_borrower_was_killed_halfway() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    for value in [Value::new([0, 0]).unwrap(), Value::with_lock([0, 0], &lock).unwrap()] {
        killed_halfway(&value);
        let mut guard = value.lock().unwrap();
        assert!(guard.owner_died());
        assert_eq!(*guard, [1, 0]);
        guard[1] = guard[0];
        drop(guard);
        assert!(!value.lock().unwrap().owner_died());
    }
}

#[test]
fn the_news_of_a_death_waits_for_a_guard_and_ends_with_a_new_value() {
    let _watchdog = watchdog(LONG);
    let value = Value::new([0, 0]).unwrap();
    killed_halfway(&value);
    assert_eq!(value.get().unwrap(), [1, 0]);
    value.update(|both| both[0] = 7).unwrap();
    assert_eq!(format!("{value:?}"), "<Value([7, 0])>");
    assert!(value.lock().unwrap().owner_died());

    killed_halfway(&value);
    value.set([0, 0]).unwrap();
    assert!(!value.lock().unwrap().owner_died());
}

#[test]
fn a_guard_forgotten_by_a_thread_counts_as_killed() {
    let _watchdog = watchdog(LONG);
    in_child(|| {
        let value = Value::new(5).unwrap();
        let clone = value.clone();
        thread::spawn(move || forget(clone.lock().unwrap())).join().unwrap();
        assert!(value.lock().unwrap().owner_died());
    });
}

#[test]
fn a_guard_copied_by_fork_gives_nothing_away() {
    let _watchdog = watchdog(LONG);
    let value = Value::new(5).unwrap();
    let mut guard = Some(value.lock().unwrap());
    in_child(|| {
        std::panic::set_hook(Box::new(|_| {}));
        let copy = guard.take().unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| *copy)).is_err());
        drop(copy);
        assert!(value.try_lock().unwrap().is_none());
    });
    assert_eq!(guard.as_deref(), Some(&5));
    drop(guard);
    assert!(!value.lock().unwrap().owner_died());
}

#[test]
fn a_panic_in_an_update_gives_the_value_back() {
    let _watchdog = watchdog(LONG);
    let value = Value::new(1).unwrap();
    // In a child: a panicking thread holds locks of std's, which other tests' children would inherit.
    in_child(|| {
        std::panic::set_hook(Box::new(|_| {}));
        let halfway = |n: &mut i32| {
            *n = 2;
            panic!("on purpose")
        };
        let update = || value.update(|n| -> () { halfway(n) });
        assert!(catch_unwind(AssertUnwindSafe(update)).is_err());
    });
    let guard = value.try_lock().unwrap().unwrap();
    assert_eq!((*guard, guard.owner_died()), (2, false));
}

#[test]
fn a_value_under_another_lock_than_its_own_is_refused() {
    let _watchdog = watchdog(LONG);
    use std::os::fd::AsFd;
    let (lock, other) = (Lock::new().unwrap(), Lock::new().unwrap());
    let value = Value::with_lock(1_u32, &lock).unwrap();
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&value).unwrap();
    // What a value is made of, taken from a message and put together in another way.
    let parts: (std::os::fd::OwnedFd, u8, std::os::fd::OwnedFd) = there.recv().unwrap();
    let items = || parts.0.try_clone().unwrap();
    let other = other.as_fd().try_clone_to_owned().unwrap();
    here.send(&(items(), 1_u8, parts.2.try_clone().unwrap())).unwrap();
    assert_eq!(there.recv::<Value<u32>>().unwrap().get().unwrap(), 1);
    here.send(&(items(), 1_u8, other)).unwrap();
    assert!(matches!(there.recv::<Value<u32>>(), Err(Error::Corrupt { .. })));
    here.send(&(items(), 0_u8)).unwrap();
    assert!(matches!(there.recv::<Value<u32>>(), Err(Error::Corrupt { .. })));
    here.send(&(items(), 2_u8)).unwrap();
    assert!(matches!(there.recv::<Value<u32>>(), Err(Error::Decode { .. })));
}

#[test]
fn a_value_of_another_type_is_refused() {
    let _watchdog = watchdog(LONG);
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&Value::new(1_u32).unwrap()).unwrap();
    assert!(matches!(there.recv::<Value<i32>>(), Err(Error::Corrupt { .. })));
    here.send(&multiproc::Array::from_slice(&[1_u32, 2]).unwrap()).unwrap();
    assert!(matches!(there.recv::<Value<u32>>(), Err(Error::Corrupt { .. })));
}
