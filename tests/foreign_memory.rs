//! What is in shared memory and should not be: handles of another kind, and bytes that nobody of this
//! library wrote. Every answer is one, and none is waited for without end.

mod support;

use multiproc::{
    Array, Barrier, BoundedSemaphore, Condition, Connection, Decode, Encode, Error, Event, Lock,
    RLock, RawArray, RawLock, RawSemaphore, RawValue, Region, Result, Semaphore, Shared, Value,
};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use support::{Watchdog, in_child, os, watchdog};

multiproc::init_before_main!();

const LONG: Duration = Duration::from_secs(100);
/// Those who fork and those who use the library on other threads take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> (MutexGuard<'static, ()>, Watchdog) {
    (TURN.lock().unwrap_or_else(PoisonError::into_inner), watchdog(LONG))
}
const MOMENT: Duration = Duration::from_micros(50);

/// Decoders of every kind of handle that has memory of its own, and a sample of each.
struct Kind {
    name: &'static str,
    send: fn(&Connection),
    receive: fn(&Connection) -> Result<()>,
}

fn kind<T: Encode + Decode>(name: &'static str, send: fn(&Connection)) -> Kind {
    Kind { name, send, receive: |from| from.recv::<T>().map(drop) }
}

fn send<T: Encode>(to: &Connection, value: Result<T>) {
    to.send(&value.unwrap()).unwrap();
}

/// Those of one descriptor each.
fn kinds() -> Vec<Kind> {
    vec![
        kind::<Lock>("Lock", |to| send(to, Lock::new())),
        kind::<RLock>("RLock", |to| send(to, RLock::new())),
        kind::<Semaphore>("Semaphore", |to| send(to, Semaphore::new(1))),
        kind::<Event>("Event", |to| send(to, Event::new())),
        kind::<Value<u32>>("Value<u32>", |to| send(to, Value::new(1_u32))),
        kind::<RawValue<u32>>("RawValue<u32>", |to| send(to, RawValue::new(1_u32))),
        kind::<RawArray<u64>>("RawArray<u64>", |to| send(to, RawArray::from_slice(&[1_u64; 9]))),
        kind::<Shared<[RawLock; 7]>>("[RawLock; 7]", |to| {
            send(to, Shared::new([const { RawLock::new() }; 7]));
        }),
        kind::<Shared<RawSemaphore>>("RawSemaphore", |to| {
            send(to, Shared::new(RawSemaphore::new(1)));
        }),
    ]
}

#[test]
fn a_handle_of_another_kind_is_refused() {
    let _turn = turn();
    for sent in kinds() {
        for wanted in kinds() {
            // Anew for each, since a refused message may leave some of itself behind.
            let (here, there) = multiproc::pipe().unwrap();
            (sent.send)(&here);
            let answer = (wanted.receive)(&there);
            let (sent, wanted) = (sent.name, wanted.name);
            assert_eq!(answer.is_ok(), sent == wanted, "{sent} as {wanted}: {answer:?}");
        }
    }
}

#[test]
fn memory_of_another_size_or_without_seals_is_refused() {
    let _turn = turn();
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let region = |len| Region::new(len).unwrap().as_fd().try_clone_to_owned().unwrap();
    for wanted in kinds() {
        let foreign: Vec<OwnedFd> = [0, 1, 64, 4096, 1 << 20]
            .into_iter()
            .map(os::unsealed_memory)
            .chain([1, 64, 4096, 1 << 20].into_iter().map(region))
            .chain([null()])
            .collect();
        for fd in foreign {
            let (here, there) = multiproc::pipe().unwrap();
            here.send(&fd).unwrap();
            let answer = (wanted.receive)(&there);
            assert!(answer.is_err(), "{}", wanted.name);
        }
    }
}

fn descriptors() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Pseudo-random numbers (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Makes something, scribbles over the memory it has, uses it, and does so `times` times.
fn scribble<T>(times: usize, make: impl Fn() -> T, mut each: impl FnMut(&T)) {
    in_child(|| {
        let mut dice = Dice(0x2545_f491_4f6c_dd1d);
        for _ in 0..times {
            let before = descriptors();
            let made = make();
            for new in descriptors().difference(&before) {
                let path = format!("/proc/self/fd/{new}");
                // The descriptor that listed them is gone.
                let Ok(file) = OpenOptions::new().write(true).open(path) else { continue };
                let words = file.metadata().unwrap().len() / 4;
                for _ in 0..4 {
                    // Most of what matters is at the start; small numbers mean more than large ones.
                    let near = dice.roll() % 2 == 0;
                    let place = dice.roll() % if near { words.min(48) } else { words };
                    let value = dice.roll() as u32 >> (dice.roll() % 32);
                    file.write_all_at(&value.to_ne_bytes(), place * 4).unwrap();
                }
            }
            each(&made);
        }
    });
}

#[test]
fn no_scribble_makes_a_bounded_wait_at_a_barrier_hang() {
    let _turn = turn();
    scribble(
        300,
        || Barrier::new(2).unwrap(),
        |barrier| {
            let _ = barrier.wait_timeout(MOMENT);
            let _ = (barrier.waiting(), barrier.parties(), barrier.is_broken());
            let _ = barrier.abort();
            let _ = barrier.wait();
            let _ = barrier.reset();
            let _ = format!("{barrier:?}");
        },
    );
}

#[test]
fn no_scribble_makes_a_bounded_wait_in_a_condition_hang() {
    let _turn = turn();
    scribble(
        300,
        || Condition::new().unwrap(),
        |condition| {
            if let Ok(Some(mut guard)) = condition.acquire_timeout(MOMENT) {
                let _ = guard.notify(3);
                let _ = guard.wait_timeout(MOMENT);
                let _ = guard.notify_all();
            }
            let _ = format!("{condition:?}");
        },
    );
}

#[test]
fn no_scribble_makes_a_bounded_wait_for_an_event_hang() {
    let _turn = turn();
    scribble(
        500,
        || Event::new().unwrap(),
        |event| {
            let _ = event.wait_timeout(MOMENT);
            event.set().unwrap();
            assert!(event.wait().unwrap());
            event.clear();
            assert!(!event.is_set());
        },
    );
}

#[test]
fn no_scribble_makes_a_bounded_wait_for_a_recursive_lock_hang() {
    let _turn = turn();
    scribble(
        500,
        || RLock::new().unwrap(),
        |lock| {
            if let Ok(Some(outer)) = lock.acquire_timeout(MOMENT) {
                drop((lock.try_acquire(), outer));
            }
            let _ = format!("{lock:?}");
        },
    );
}

#[test]
fn no_scribble_makes_a_bounded_wait_for_a_semaphore_hang() {
    let _turn = turn();
    scribble(
        500,
        || BoundedSemaphore::new(3).unwrap(),
        |semaphore| {
            let permits: Vec<_> = (0..3).map(|_| semaphore.permit_timeout(MOMENT)).collect();
            let _ = semaphore.acquire_timeout(MOMENT);
            let _ = (semaphore.value(), semaphore.release());
            drop(permits);
            let _ = format!("{semaphore:?}");
        },
    );
}

#[test]
fn no_scribble_makes_a_bounded_wait_for_items_hang_or_reads_past_them() {
    let _turn = turn();
    scribble(
        500,
        || Array::from_slice(&[7_u16; 5]).unwrap(),
        |array| {
            if let Ok(Some(guard)) = array.lock_timeout(MOMENT) {
                assert_eq!(guard.len(), 5);
            }
            assert!(matches!(array.get(5), Err(Error::InvalidArgument { .. })));
            let _ = format!("{array:?}");
        },
    );
}
