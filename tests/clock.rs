//! The time of day is set a day forward, and a day back, while processes wait: every wait ends at its time.
//!
//! That would disturb whatever else runs on the machine, so it is done only when it is asked for by
//! `--set-the-clock`, as the first user of a virtual machine; the README has the command. Without it this
//! test says that it was skipped.

mod support;

use multiproc::{
    Barrier, BoundedSemaphore, Condition, Event, Lock, Queue, RLock, Semaphore, Value,
};
use std::thread;
use std::time::{Duration, Instant};
use support::os;

const TIME: Duration = Duration::from_millis(400);
const DAY: i64 = 24 * 60 * 60;

/// Runs `wait`, sets the clock in the midst of it, and sees that it lasted as long as it should.
fn across_a_step(name: &str, wait: impl FnOnce()) {
    // Forward and back, so that the day stays what it is.
    static STEPS: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(DAY);
    let step = STEPS.load(std::sync::atomic::Ordering::Relaxed);
    STEPS.store(-step, std::sync::atomic::Ordering::Relaxed);
    let setter = thread::spawn(move || {
        thread::sleep(TIME / 4);
        os::step_wall_clock(step);
    });
    let start = Instant::now();
    wait();
    let waited = start.elapsed();
    setter.join().unwrap();
    println!("{name}, a step of {step} s: {waited:?}");
    assert!(waited >= TIME, "{name} gave up too early");
    assert!(waited < TIME + Duration::from_secs(60), "{name} waited for the clock to come round");
}

fn main() {
    // libtest's own questions, from those who run all tests of a package.
    if !std::env::args().any(|argument| argument == "--set-the-clock") {
        println!("skipped: sets the time of day (--set-the-clock, in a virtual machine)");
        return;
    }
    multiproc::init();
    let _watchdog = support::watchdog(Duration::from_secs(280));
    let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
    let (semaphore, bounded) = (Semaphore::new(0).unwrap(), BoundedSemaphore::new(1).unwrap());
    let condition = Condition::with_lock(&Lock::new().unwrap()).unwrap();
    let (event, barrier) = (Event::new().unwrap(), Barrier::new(2).unwrap());
    let (value, queue) = (Value::new(0).unwrap(), Queue::<u8>::new().unwrap());
    let child = os::fork(|| {
        std::mem::forget((lock.acquire(), rlock.acquire(), bounded.permit(), value.lock()));
        loop {
            thread::park();
        }
    });
    while value.try_lock().unwrap().is_some() {
        thread::yield_now();
    }
    // Nine waits: in the second round each sees the other step.
    for _ in 0..2 {
        across_a_step("Lock", || assert!(lock.acquire_timeout(TIME).unwrap().is_none()));
        across_a_step("RLock", || assert!(rlock.acquire_timeout(TIME).unwrap().is_none()));
        across_a_step("Semaphore", || assert!(!semaphore.acquire_timeout(TIME).unwrap()));
        across_a_step("permit", || assert!(bounded.permit_timeout(TIME).unwrap().is_none()));
        across_a_step("Condition", || {
            assert!(!condition.acquire().unwrap().wait_timeout(TIME).unwrap());
        });
        across_a_step("Event", || assert!(!event.wait_timeout(TIME).unwrap()));
        across_a_step("Barrier", || assert!(barrier.wait_timeout(TIME).is_err()));
        barrier.reset().unwrap();
        across_a_step("Value", || assert!(value.lock_timeout(TIME).unwrap().is_none()));
        across_a_step("Queue", || assert!(queue.get_timeout(TIME).is_err()));
    }
    os::kill_and_reap(child);
    assert!(lock.acquire().unwrap().owner_died());
    println!("every wait ended at its time");
}
