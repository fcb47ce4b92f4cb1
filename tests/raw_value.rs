//! Values and arrays without a lock.

mod support;

use multiproc::{Array, Error, Lock, Process, RawArray, RawValue, Value};
use std::thread;
use std::time::Duration;
use support::{os, watchdog};

multiproc::init_before_main!();

const LONG: Duration = Duration::from_secs(60);

multiproc::plain! {
    #[derive(Debug, PartialEq)]
    struct Point {
        x: f64,
        y: f64,
        weight: i32,
        unused: i32,
    }
}

#[test]
fn a_child_changes_what_its_parent_sees() {
    let _watchdog = watchdog(LONG);
    fn double(number: RawValue<i32>, point: RawValue<Point>, numbers: RawArray<f64>) {
        number.set(number.get() * 2);
        let Point { x, y, weight, unused } = point.get();
        point.set(Point { x: x * 2.0, y: y * 2.0, weight: weight * 2, unused });
        for index in 0..numbers.len() {
            numbers.set(index, numbers.get(index).unwrap() * 2.0).unwrap();
        }
    }
    let number = RawValue::new(7).unwrap();
    let point = RawValue::new(Point { x: 1.0, y: -1.5, weight: 3, unused: 0 }).unwrap();
    let numbers = RawArray::from_slice(&[0.5, 1.0]).unwrap();
    let arguments = (number.clone(), point.clone(), numbers.clone());
    Process::new(double, arguments).start().unwrap().join().unwrap();
    assert_eq!(number.get(), 14);
    assert_eq!(point.get(), Point { x: 2.0, y: -3.0, weight: 6, unused: 0 });
    assert_eq!(numbers.to_vec(), [1.0, 2.0]);
}

#[test]
fn changes_in_one_step_lose_none() {
    let _watchdog = watchdog(LONG);
    let (count, counts) = (RawValue::new(0_u64).unwrap(), RawArray::<i32>::zeroed(2).unwrap());
    let work = || {
        for _ in 0..10_000 {
            count.fetch_add(1);
            counts.fetch_add(1, -1).unwrap();
            while !counts.compare_exchange(0, 0, 0).unwrap() {}
        }
    };
    let child = os::fork(work);
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    assert_eq!(os::wait(child), os::Status::Exited(0));
    assert_eq!(count.get(), 30_000);
    assert_eq!(counts.to_vec(), [0, -30_000]);
}

#[test]
fn every_change_gives_the_value_before_and_leaves_the_one_it_should() {
    fn check<T: multiproc::sharedctypes::Integer + std::fmt::Debug>(one: T, two: T, three: T) {
        let value = RawValue::new(one).unwrap();
        assert_eq!((value.fetch_add(two), value.get()), (one, three));
        assert_eq!((value.fetch_sub(one), value.get()), (three, two));
        assert_eq!((value.fetch_or(one), value.get()), (two, three));
        assert_eq!((value.fetch_and(one), value.get()), (three, one));
        assert_eq!((value.fetch_xor(three), value.get()), (one, two));
        assert_eq!((value.fetch_max(three), value.get()), (two, three));
        assert_eq!((value.fetch_min(one), value.get()), (three, one));
        assert_eq!((value.swap(two), value.get()), (one, two));
        assert_eq!(value.compare_exchange(one, three), Err(two));
        assert_eq!((value.compare_exchange(two, three), value.get()), (Ok(two), three));
    }
    check(1_u8, 2, 3);
    check(1_i16, 2, 3);
    check(1_u32, 2, 3);
    check(1_i32, 2, 3);
    check(1_usize, 2, 3);
    #[cfg(target_pointer_width = "64")]
    check(1_i64, 2, 3);
    let wraps = RawValue::new(u8::MAX).unwrap();
    wraps.fetch_add(1);
    assert_eq!(wraps.get(), 0);
}

#[test]
fn arrays_keep_to_their_bounds() {
    let array = RawArray::from_slice(&[1_u16, 2, 3]).unwrap();
    assert_eq!((array.len(), array.is_empty()), (3, false));
    for index in [3, usize::MAX] {
        assert!(matches!(array.get(index), Err(Error::InvalidArgument { .. })));
        assert!(matches!(array.set(index, 0), Err(Error::InvalidArgument { .. })));
        assert!(matches!(array.fetch_add(index, 0), Err(Error::InvalidArgument { .. })));
        assert!(array.compare_exchange(index, 0, 0).is_err());
        assert!(array.load(..=index).is_err() && array.load(index..).is_err() == (index > 3));
        assert!(array.store(index, &[1]).is_err());
    }
    array.store(1, &[20, 30]).unwrap();
    assert_eq!(array.load(1..).unwrap(), [20, 30]);
    assert_eq!(array.iter().rev().collect::<Vec<_>>(), [30, 20, 1]);
    assert!(RawArray::<u16>::zeroed(0).unwrap().is_empty());
    assert!(RawArray::<u64>::zeroed(usize::MAX).is_err());
    assert!(RawArray::<u64>::zeroed(100).unwrap().iter().all(|item| item == 0));
}

#[test]
fn copies_are_independent_with_a_lock_or_without() {
    let (value, array) = (RawValue::new(1).unwrap(), RawArray::from_slice(&[1, 2]).unwrap());
    let copies = (value.copy().unwrap(), array.copy().unwrap());
    let lock = Lock::new().unwrap();
    let locked: (Value<i32>, Array<i32>) =
        (value.synchronized(None).unwrap(), array.synchronized(Some(&lock)).unwrap());
    value.set(5);
    array.set(0, 5).unwrap();
    assert_eq!((copies.0.get(), copies.1.to_vec()), (1, vec![1, 2]));
    assert_eq!((locked.0.get().unwrap(), locked.1.to_vec().unwrap()), (1, vec![1, 2]));
    let guard = locked.1.lock().unwrap();
    assert!(lock.locked());
    drop(guard);
    assert!(!value.synchronized(Some(&lock)).unwrap().try_lock().unwrap().unwrap().owner_died());
}

#[test]
fn another_descriptor_is_none_of_these() {
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&Value::new(1_u64).unwrap()).unwrap();
    assert!(there.recv::<RawValue<u64>>().is_err());
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&RawArray::from_slice(&[1_u64, 2]).unwrap()).unwrap();
    assert!(matches!(there.recv::<RawValue<u64>>(), Err(Error::Corrupt { .. })));
}

#[test]
fn debug_shows_the_values() {
    assert_eq!(format!("{:?}", RawValue::new(3).unwrap()), "<RawValue(3)>");
    assert_eq!(format!("{:?}", RawArray::from_slice(&[3]).unwrap()), "<RawArray([3])>");
}
