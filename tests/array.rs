//! Arrays: items, slices and bounds, under a lock.

mod support;

use multiproc::{Array, Error, Lock, Value};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;
use support::{in_child, os, watchdog};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);
const SEQUENCE: [i32; 10] = [680, 626, 934, 821, 150, 233, 548, 982, 714, 831];

fn is_outside<T>(answer: multiproc::Result<T>) -> bool {
    matches!(answer, Err(Error::InvalidArgument { .. }))
}

#[test]
fn items_and_slices_are_read_and_written() {
    let _watchdog = watchdog(LONG);
    let array = Array::from_slice(&SEQUENCE).unwrap();
    assert_eq!((array.len(), array.is_empty()), (10, false));
    assert_eq!(array.to_vec().unwrap(), SEQUENCE);
    assert_eq!(array.slice(2..7).unwrap(), SEQUENCE[2..7]);
    assert_eq!(array.slice(..=3).unwrap(), SEQUENCE[..4]);
    assert_eq!(array.slice(10..).unwrap(), []);
    array.set_slice(4, &[1, 2, 3, 4]).unwrap();
    array.set(0, -1).unwrap();
    assert_eq!(array.get(0).unwrap(), -1);
    assert_eq!(array.to_vec().unwrap(), [-1, 626, 934, 821, 1, 2, 3, 4, 714, 831]);
    array.copy_from_slice(&SEQUENCE).unwrap();
    let items: Vec<i32> = array.iter().map(Result::unwrap).collect();
    assert_eq!(items, SEQUENCE);
    assert_eq!(array.iter().len(), 10);
    assert_eq!(array.iter().next_back().unwrap().unwrap(), 831);
    assert_eq!((&array).into_iter().count(), 10);
}

#[test]
fn a_running_sum_by_a_child_is_seen_by_the_parent() {
    let _watchdog = watchdog(LONG);
    let array = Array::from_slice(&SEQUENCE).unwrap();
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&array).unwrap();
    let sent: Array<i32> = there.recv().unwrap();
    in_child(|| {
        let mut items = sent.lock().unwrap();
        for i in 1..items.len() {
            items[i] += items[i - 1];
        }
    });
    let sums = SEQUENCE.iter().scan(0, |sum, item| {
        *sum += item;
        Some(*sum)
    });
    assert_eq!(array.to_vec().unwrap(), sums.collect::<Vec<_>>());
}

#[test]
fn fresh_arrays_are_zero_even_after_others_were_used() {
    let _watchdog = watchdog(LONG);
    for len in [0, 1, 13, 4096, 100_000] {
        let used = Array::<u8>::zeroed(len).unwrap();
        used.lock().unwrap().fill(0xff);
        drop(used);
        let fresh = Array::<u8>::zeroed(len).unwrap();
        assert!(fresh.lock().unwrap().iter().all(|&byte| byte == 0));
        assert_eq!(fresh.len(), len);
    }
}

#[test]
fn items_of_every_alignment_keep_to_their_places() {
    let _watchdog = watchdog(LONG);
    let (here, there) = multiproc::pipe().unwrap();
    let wide = Array::from_slice(&[u128::MAX, 1, 2]).unwrap();
    here.send(&wide).unwrap();
    assert_eq!(there.recv::<Array<u128>>().unwrap().to_vec().unwrap(), [u128::MAX, 1, 2]);
    let odd = Array::from_slice(&[[1_u8, 2, 3], [4, 5, 6]]).unwrap();
    here.send(&odd).unwrap();
    let same = there.recv::<Array<[u8; 3]>>().unwrap();
    same.set(1, [7, 8, 9]).unwrap();
    assert_eq!(odd.to_vec().unwrap(), [[1, 2, 3], [7, 8, 9]]);
}

#[test]
fn what_is_outside_is_refused_and_nothing_is_written() {
    let _watchdog = watchdog(LONG);
    let array = Array::from_slice(&SEQUENCE).unwrap();
    assert!(is_outside(array.get(10)));
    assert!(is_outside(array.set(10, 1)));
    assert!(is_outside(array.set(usize::MAX, 1)));
    assert!(is_outside(array.slice(5..11)));
    assert!(is_outside(array.slice(..=usize::MAX)));
    let (start, end) = (7, 3);
    assert!(is_outside(array.slice(start..end)));
    assert!(is_outside(array.set_slice(9, &[1, 2])));
    assert!(is_outside(array.set_slice(usize::MAX, &[1, 2])));
    assert!(is_outside(array.copy_from_slice(&[1])));
    assert_eq!(array.to_vec().unwrap(), SEQUENCE);
    assert!(!array.lock().unwrap().owner_died());
}

#[test]
fn an_array_without_items_is_an_array() {
    let _watchdog = watchdog(LONG);
    let array = Array::<u64>::from_slice(&[]).unwrap();
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&array).unwrap();
    for array in [array, there.recv().unwrap()] {
        assert!(array.is_empty() && array.lock().unwrap().is_empty());
        assert!(is_outside(array.get(0)));
        assert_eq!(array.iter().count(), 0);
        assert_eq!(format!("{array:?}"), "<Array([])>");
    }
}

#[test]
fn lengths_that_no_machine_has_are_errors() {
    let _watchdog = watchdog(LONG);
    let errno = |answer: multiproc::Result<Array<u64>>| answer.err().unwrap().raw_os_error();
    assert_eq!(errno(Array::zeroed(usize::MAX)), Some(libc::ENOMEM));
    assert_eq!(errno(Array::zeroed(usize::MAX / 8)), Some(libc::ENOMEM));
    assert_eq!(errno(Array::zeroed(1 << 45)), Some(libc::ENOMEM));
    in_child(|| {
        os::limit_descriptors(3);
        assert_eq!(errno(Array::zeroed(1)), Some(libc::EMFILE));
    });
}

#[test]
fn borrowed_items_are_waited_for() {
    let _watchdog = watchdog(LONG);
    let array = Array::from_slice(&[1, 2]).unwrap();
    let mut guard = array.lock().unwrap();
    assert!(matches!(array.get(0), Err(Error::Deadlock)));
    assert!(matches!(array.iter().next(), Some(Err(Error::Deadlock))));
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(array.try_lock().unwrap().is_none());
            assert!(array.lock_timeout(SHORT).unwrap().is_none());
            assert_eq!(format!("{array:?}"), "<Array(len=2, owner=SomeOtherThread)>");
        });
    });
    let child = os::fork(|| assert_eq!(array.to_vec().unwrap(), [3, 4]));
    os::wait_until_asleep(child);
    guard.copy_from_slice(&[3, 4]);
    assert_eq!(format!("{guard:?}"), "[3, 4]");
    drop(guard);
    assert_eq!(os::wait(child), os::Status::Exited(0));
    assert_eq!(format!("{array:?}"), "<Array([3, 4])>");
}

#[test]
fn a_guard_tells_that_the_last_borrower_was_killed_halfway() {
    let _watchdog = watchdog(LONG);
    let array = Array::from_slice(&[0; 100]).unwrap();
    let (ready, tell) = multiproc::pipe_one_way().unwrap();
    let child = os::fork(|| {
        let mut items = array.lock().unwrap();
        items[..50].fill(1);
        tell.send_bytes(b"half").unwrap();
        loop {
            thread::park();
        }
    });
    ready.recv_bytes().unwrap();
    os::kill_and_reap(child);
    assert_eq!(array.get(49).unwrap(), 1, "which does not tell");
    array.set(99, 1).unwrap();
    let items = array.lock().unwrap();
    assert!(items.owner_died());
    assert_eq!(items.iter().sum::<i32>(), 51);
}

#[test]
fn arrays_and_values_can_share_a_lock() {
    let _watchdog = watchdog(LONG);
    let lock = Lock::new().unwrap();
    let array = Array::with_lock(&[1.0, 2.0], &lock).unwrap();
    let sum = Value::with_lock(0.0, &lock).unwrap();
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&(array.clone(), sum.clone())).unwrap();
    let (sent_array, sent_sum): (Array<f64>, Value<f64>) = there.recv().unwrap();
    in_child(|| {
        let total = sent_array.lock().unwrap().iter().sum();
        sent_sum.set(total).unwrap();
    });
    assert_eq!(sum.get().unwrap(), 3.0);
    let _guard = lock.acquire().unwrap();
    assert!(array.try_lock().unwrap().is_none());
    assert!(sum.try_lock().unwrap().is_none());
}

#[test]
fn a_scribbled_lock_or_length_is_an_error() {
    let _watchdog = watchdog(LONG);
    in_child(|| {
        let array = Array::from_slice(&[7_u64; 4]).unwrap();
        let file = File::from(array.as_fd().try_clone_to_owned().unwrap());
        // The length stands in the header; the handle that has it already does not ask again.
        let mut header = [0; 64];
        file.read_exact_at(&mut header, 0).unwrap();
        file.write_all_at(&[0xff; 8], 24).unwrap();
        assert_eq!((array.len(), array.get(3).unwrap()), (4, 7));
        let (here, there) = multiproc::pipe().unwrap();
        here.send(&array).unwrap();
        assert!(matches!(there.recv::<Array<u64>>(), Err(Error::Corrupt { .. })));
        file.write_all_at(&header, 0).unwrap();
        here.send(&array).unwrap();
        assert_eq!(there.recv::<Array<u64>>().unwrap().len(), 4);

        file.write_all_at(&[0xff; 56], 64).unwrap();
        assert!(matches!(array.lock(), Err(Error::Corrupt { .. })));
        assert!(matches!(array.get(0), Err(Error::Corrupt { .. })));
        assert_eq!(format!("{array:?}"), "<Array(corrupt shared memory: a lock)>");
    });
}
