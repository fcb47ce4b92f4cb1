//! Raw values and arrays under a recursive lock.

mod support;

use multiproc::{Process, RLock, RawArray, RawValue, Synchronized};
use std::thread;
use std::time::Duration;
use support::{in_child, os, watchdog};

multiproc::init_before_main!();

const LONG: Duration = Duration::from_secs(60);

fn count(number: &Synchronized<RawValue<u64>>) {
    let outer = number.acquire().unwrap();
    let inner = number.acquire().unwrap();
    inner.set(outer.get() + 1);
}

#[test]
fn the_holder_goes_in_again_and_the_others_wait() {
    let _watchdog = watchdog(LONG);
    let number = Synchronized::new(RawValue::new(0_u64).unwrap()).unwrap();
    let work = || (0..2_000).for_each(|_| count(&number));
    let children = [os::fork(work), os::fork(work)];
    work();
    for child in children {
        assert_eq!(os::wait(child), os::Status::Exited(0));
    }
    assert_eq!(number.get_obj().get(), 6_000);

    let held = number.acquire().unwrap();
    in_child(|| {
        assert!(number.try_acquire().unwrap().is_none());
        assert!(number.acquire_timeout(Duration::from_millis(1)).unwrap().is_none());
    });
    assert!(number.try_acquire().unwrap().is_some() && number.get_lock().locked());
    drop(held);
    assert!(!number.get_lock().locked());
}

#[test]
fn it_is_the_object_that_was_given_and_crosses_spawn_with_its_lock() {
    let _watchdog = watchdog(LONG);
    fn double(sum: Synchronized<RawValue<f64>>, items: Synchronized<RawArray<f64>>) {
        let items = items.acquire().unwrap();
        for index in 0..items.len() {
            items.set(index, items.get(index).unwrap() * 2.0).unwrap();
        }
        let sum = sum.try_acquire().unwrap().expect("one lock for both");
        sum.set(items.iter().sum());
    }
    let (lock, raw) = (RLock::new().unwrap(), RawArray::from_slice(&[1.0, 2.5]).unwrap());
    let sum = Synchronized::with_lock(RawValue::new(0.0).unwrap(), &lock);
    let items = Synchronized::with_lock(raw.clone(), &lock);
    Process::new(double, (sum.clone(), items.clone())).start().unwrap().join().unwrap();
    assert_eq!((raw.to_vec(), sum.get_obj().get()), (vec![2.0, 5.0], 7.0));
    assert_eq!(format!("{sum:?}"), "<Synchronized(<RawValue(7.0)>, <RLock(None, 0)>)>");
}

#[test]
fn a_guard_tells_that_the_last_holder_was_killed() {
    let _watchdog = watchdog(LONG);
    let number = Synchronized::new(RawValue::new(1_i32).unwrap()).unwrap();
    let (ready, tell) = multiproc::pipe_one_way().unwrap();
    let victim = os::fork(|| {
        let (_outer, inner) = (number.acquire().unwrap(), number.acquire().unwrap());
        inner.set(2);
        tell.send_bytes(b"held").unwrap();
        loop {
            thread::park();
        }
    });
    ready.recv_bytes().unwrap();
    os::kill_and_reap(victim);
    let guard = number.acquire().unwrap();
    assert!(guard.owner_died() && guard.get() == 2);
    drop(guard);
    assert!(!number.acquire().unwrap().owner_died());
}
