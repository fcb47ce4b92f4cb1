//! Locks and values under them, beside a bare robust pthread mutex in shared memory.
//!
//! The rows are of a thousand operations each. Where several processes contend, most of the time goes into
//! moving the mutex from core to core and into sleeping, for both sides alike; on a busy machine those
//! rows say little. `value += 1` is 20 ns where the bare robust mutex alone is 16: the kernel's list of held
//! mutexes, which hands them on at a death, is kept by every acquire and release.
#![allow(unsafe_code)]

mod support;

use multiproc::{Lock, Region, Value};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Duration;
use support::{compare, fork, per_operation, pin, print_head, repeats, scaled, wait_for};

/// A robust process-shared mutex and a number behind it, made and used by hand.
struct Bare {
    region: Region,
}

impl Bare {
    fn new() -> Bare {
        let bare = Bare { region: Region::new(4096).unwrap() };
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: `attributes` is writable for one attribute object.
        unsafe { libc::pthread_mutexattr_init(attributes) };
        // SAFETY: initialised above, here and below.
        unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
        // SAFETY: as above.
        unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) };
        // SAFETY: the region's first bytes are nobody else's yet.
        assert_eq!(unsafe { libc::pthread_mutex_init(bare.mutex(), attributes) }, 0);
        bare
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        // SAFETY: the region lives as long as `self`; mutex and number are used by this type alone.
        unsafe { self.region.as_ptr() }.cast()
    }

    fn number(&self) -> *mut u64 {
        self.mutex().cast::<u8>().wrapping_add(64).cast()
    }

    fn lock(&self) {
        // SAFETY: `new` made the mutex.
        assert_eq!(unsafe { libc::pthread_mutex_lock(self.mutex()) }, 0);
    }

    fn unlock(&self) {
        // SAFETY: as for `lock`.
        unsafe { libc::pthread_mutex_unlock(self.mutex()) };
    }

    fn add_one(&self) {
        self.lock();
        // SAFETY: inside the region, and the lock is held.
        unsafe { *black_box(self.number()) += 1 };
        self.unlock();
    }
}

/// The time of a thousand `operation`s.
fn of_a_thousand(operations: usize, mut operation: impl FnMut()) -> Duration {
    per_operation(operations.div_ceil(1000), || (0..operations).for_each(|_| operation()))
}

/// The time of a thousand `operation`s by several processes at once, each of which does as many.
fn contended(operations: usize, processes: usize, pinned: bool, operation: impl Fn()) -> Duration {
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    let work = |index: usize| {
        pin(pinned.then_some(index % cores));
        (0..operations).for_each(|_| operation());
    };
    per_operation((processes * operations).div_ceil(1000), || {
        let children: Vec<_> = (0..processes).map(|index| fork(|| work(index))).collect();
        children.into_iter().for_each(wait_for);
    })
}

fn main() {
    let (lock, value, bare) = (Lock::new().unwrap(), Value::new(0_u64).unwrap(), Bare::new());
    let by_lock = || drop(black_box(&lock).acquire().unwrap());
    let by_try = || drop(black_box(&lock).try_acquire().unwrap().unwrap());
    let by_hand = || {
        bare.lock();
        bare.unlock();
    };
    let add = || *black_box(&value).lock().unwrap() += 1;
    let add_by_try = || *black_box(&value).try_lock().unwrap().unwrap() += 1;
    let add_by_hand = || bare.add_one();

    print_head();
    // Many short turns: a disturbance then spoils a few of them, and the median stays.
    let (n, turns) = (10_000, scaled(500));
    let row = |name, target, ours: &dyn Fn(), hand: &dyn Fn()| {
        compare(name, target, || of_a_thousand(n, ours), || of_a_thousand(n, hand), turns);
    };
    row("1000 x acquire, free", 1.35, &by_lock, &by_hand);
    row("1000 x try_acquire, free", 1.35, &by_try, &by_hand);
    row("1000 x value += 1", 1.35, &add, &add_by_hand);
    row("1000 x value += 1, try_lock", 1.35, &add_by_try, &add_by_hand);
    let counted = value.get().unwrap();
    assert_eq!(counted as usize, 2 * n * (turns + 1));

    let (n, mut wanted) = (scaled(100_000), counted);
    for (processes, pinned) in [(2, false), (4, false), (2, true), (4, true)] {
        let where_they_are = if pinned { " pinned" } else { "" };
        let row = |what: &str, ours: &dyn Fn(), hand: &dyn Fn()| {
            let ours = || contended(n, processes, pinned, ours);
            let hand = || contended(n, processes, pinned, hand);
            let name = format!("1000 x {what}, {processes} processes{where_they_are}");
            compare(&name, 1.5, ours, hand, repeats());
        };
        row("acquire", &by_lock, &by_hand);
        row("+= 1", &add, &add_by_hand);
        wanted += (processes * n * (repeats() + 1)) as u64;
    }
    assert_eq!(value.get().unwrap(), wanted, "no update is lost");
}
