//! Every handle for taking turns and sharing values travels: as an argument, and through a queue.

mod support;

use multiproc::{
    Array, Barrier, BoundedSemaphore, Condition, Event, Lock, Process, Queue, RLock, RawArray,
    RawValue, Semaphore, StartMethod, Value,
};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use support::{in_child, os, watchdog};

multiproc::init_before_main!();

/// The one that forks and the one that uses the library on another thread take turns.
static TURN: Mutex<()> = Mutex::new(());

type Turns = (Lock, RLock, Semaphore, BoundedSemaphore, Condition, Event, Barrier);
type Values = (Value<i32>, Array<i32>, RawValue<i32>, RawArray<i32>);

fn use_all(queue: Queue<(Turns, Values)>) {
    let (turns, values) = queue.get().unwrap();
    let (lock, rlock, semaphore, bounded, condition, event, barrier) = turns;
    let _guards = (lock.acquire().unwrap(), rlock.acquire().unwrap());
    semaphore.release().unwrap();
    bounded.acquire().unwrap();
    let mut guard = condition.acquire().unwrap();
    event.set().unwrap();
    guard.wait().unwrap();
    let (value, array, raw_value, raw_array) = values;
    value.set(1).unwrap();
    array.set(0, 2).unwrap();
    raw_value.set(3);
    raw_array.set(0, 4).unwrap();
    barrier.wait().unwrap();
}

#[test]
fn a_spawned_child_shares_what_came_through_a_queue() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _watchdog = watchdog(Duration::from_secs(60));
    let turns: Turns = (
        Lock::new().unwrap(),
        RLock::new().unwrap(),
        Semaphore::new(0).unwrap(),
        BoundedSemaphore::new(1).unwrap(),
        Condition::new().unwrap(),
        Event::new().unwrap(),
        Barrier::new(2).unwrap(),
    );
    let values: Values = (
        Value::new(0).unwrap(),
        Array::zeroed(1).unwrap(),
        RawValue::new(0).unwrap(),
        RawArray::zeroed(1).unwrap(),
    );
    let queue = Queue::new().unwrap();
    let child =
        Process::new(use_all, (queue.clone(),)).start_method(StartMethod::Spawn).start().unwrap();
    queue.put(&(turns.clone(), values.clone())).unwrap();
    turns.5.wait().unwrap();
    turns.4.acquire().unwrap().notify_all().unwrap();
    turns.6.wait().unwrap();
    child.join().unwrap();
    assert!(!turns.0.locked() && !turns.1.locked());
    assert_eq!((turns.2.value(), turns.3.value()), (1, 0));
    assert_eq!((values.0.get().unwrap(), values.1.to_vec().unwrap()), (1, vec![2]));
    assert_eq!((values.2.get(), values.3.to_vec()), (3, vec![4]));
}

#[test]
fn signals_end_no_wait() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _watchdog = watchdog(Duration::from_secs(60));
    const SHORT: Duration = Duration::from_millis(20);
    in_child(|| {
        let (lock, semaphore) = (Lock::new().unwrap(), BoundedSemaphore::new(1).unwrap());
        let holder = os::fork(|| {
            std::mem::forget((lock.acquire(), semaphore.permit()));
            semaphore.value();
            loop {
                std::thread::park();
            }
        });
        while semaphore.value() > 0 {
            std::thread::yield_now();
        }
        let (condition, event) = (Condition::new().unwrap(), Event::new().unwrap());
        let barrier = Barrier::new(2).unwrap();
        let _ticks = os::Ticks::every(Duration::from_millis(1));
        let waits: [&dyn Fn(); 6] = [
            &|| assert!(lock.acquire_timeout(SHORT).unwrap().is_none()),
            &|| assert!(!semaphore.acquire_timeout(SHORT).unwrap()),
            &|| assert!(semaphore.permit_timeout(SHORT).unwrap().is_none()),
            &|| assert!(!condition.acquire().unwrap().wait_timeout(SHORT).unwrap()),
            &|| assert!(!event.wait_timeout(SHORT).unwrap()),
            &|| assert!(barrier.wait_timeout(SHORT).is_err()),
        ];
        for wait in waits {
            let start = Instant::now();
            wait();
            assert!(start.elapsed() >= SHORT);
        }
        os::kill_and_reap(holder);
    });
}
