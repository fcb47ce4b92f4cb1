//! Semaphores: permits taken, waited for, given back, owned and inherited.

mod support;

use multiproc::{BoundedSemaphore, Error, Process, RawSemaphore, Semaphore, Shared};
use std::fs::File;
use std::mem::forget;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};
use support::{in_child, os, watchdog};

multiproc::init_before_main!();

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

/// A forked child that owns a permit and sleeps until it is killed.
fn owner_of_a_permit(semaphore: &Semaphore) -> os::Pid {
    let (ready, tell) = multiproc::pipe_one_way().unwrap();
    let pid = os::fork(|| {
        let _permit = semaphore.permit().unwrap();
        tell.send_bytes(b"owned").unwrap();
        loop {
            thread::park();
        }
    });
    assert_eq!(ready.recv_bytes().unwrap(), b"owned");
    pid
}

#[test]
fn the_value_counts_down_and_up_and_beyond_where_it_began() {
    let semaphore = Semaphore::new(2).unwrap();
    for left in [1, 0] {
        semaphore.acquire().unwrap();
        assert_eq!(semaphore.value(), left);
    }
    assert!(semaphore.locked() && !semaphore.try_acquire().unwrap());
    for value in 1..=4 {
        semaphore.release().unwrap();
        assert_eq!(semaphore.value(), value);
    }
    assert!(!semaphore.locked() && semaphore.try_acquire().unwrap());
}

#[test]
fn a_bounded_semaphore_notices_one_release_too_many() {
    for bound in [0, 1, 2] {
        let semaphore = BoundedSemaphore::new(bound).unwrap();
        assert!(matches!(semaphore.release(), Err(Error::Overflow { .. })));
        (0..bound).for_each(|_| semaphore.acquire().unwrap());
        assert!(!semaphore.try_acquire().unwrap());
        (0..bound).for_each(|_| semaphore.release().unwrap());
        assert!(matches!(semaphore.release(), Err(Error::Overflow { .. })));
        assert_eq!(semaphore.value(), bound);
    }
}

#[test]
fn an_overflow_is_an_error_and_changes_nothing() {
    let semaphore = Semaphore::new(Semaphore::MAX).unwrap();
    assert!(matches!(semaphore.release(), Err(Error::Overflow { .. })));
    assert_eq!(semaphore.value(), Semaphore::MAX);
    for value in [Semaphore::MAX + 1, u32::MAX] {
        assert!(matches!(Semaphore::new(value), Err(Error::InvalidArgument { .. })));
        assert!(BoundedSemaphore::new(value).is_err());
    }
}

#[test]
fn a_timeout_gives_false_and_not_before_its_time() {
    let _watchdog = watchdog(LONG);
    let semaphore = Semaphore::new(0).unwrap();
    let start = Instant::now();
    assert!(!semaphore.try_acquire().unwrap());
    assert!(!semaphore.acquire_timeout(Duration::ZERO).unwrap());
    assert!(!semaphore.acquire_timeout(SHORT).unwrap());
    assert!(semaphore.permit_timeout(SHORT).unwrap().is_none());
    assert!(start.elapsed() >= 2 * SHORT);
    semaphore.release().unwrap();
    assert!(semaphore.acquire_timeout(Duration::MAX).unwrap());
}

#[test]
fn one_release_wakes_one_sleeper_of_any_process() {
    let _watchdog = watchdog(LONG);
    let semaphore = Semaphore::new(0).unwrap();
    let (ready, tell) = multiproc::pipe_one_way().unwrap();
    let sleepers: Vec<_> = (0..3)
        .map(|_| {
            let sleeper = os::fork(|| {
                semaphore.acquire().unwrap();
                tell.send_bytes(b"x").unwrap();
            });
            os::wait_until_asleep(sleeper);
            sleeper
        })
        .collect();
    for _ in 0..3 {
        semaphore.release().unwrap();
        ready.recv_bytes().unwrap();
        assert!(!ready.poll(Duration::from_millis(5)).unwrap(), "two for one permit");
    }
    for sleeper in sleepers {
        assert_eq!(os::wait(sleeper), os::Status::Exited(0));
    }
    assert_eq!(semaphore.value(), 0);
}

#[test]
fn permits_are_neither_lost_nor_made_up_under_contention() {
    let _watchdog = watchdog(LONG);
    let semaphore = BoundedSemaphore::new(2).unwrap();
    let work = |owned: bool| {
        let semaphore = &semaphore;
        move || {
            for _ in 0..2_000 {
                if owned {
                    drop(semaphore.permit().unwrap());
                } else {
                    semaphore.acquire().unwrap();
                    semaphore.release().unwrap();
                }
            }
        }
    };
    let children = [os::fork(work(true)), os::fork(work(false)), os::fork(work(true))];
    thread::scope(|scope| {
        scope.spawn(work(true));
        scope.spawn(work(false));
    });
    for child in children {
        assert_eq!(os::wait(child), os::Status::Exited(0));
    }
    assert_eq!(semaphore.value(), 2);
}

#[test]
fn a_killed_sleeper_leaves_no_trace() {
    let _watchdog = watchdog(LONG);
    let semaphore = Semaphore::new(0).unwrap();
    let head = os::fork(|| semaphore.acquire().unwrap());
    os::wait_until_asleep(head);
    let next = os::fork(|| semaphore.acquire().unwrap());
    os::wait_until_asleep(next);
    os::kill_and_reap(head);
    semaphore.release().unwrap();
    assert_eq!(os::wait(next), os::Status::Exited(0));
    assert_eq!(semaphore.value(), 0);
}

#[test]
fn an_owned_permit_comes_back_when_it_is_dropped() {
    let semaphore = Semaphore::new(1).unwrap();
    let permit = semaphore.permit().unwrap();
    assert_eq!(semaphore.value(), 0);
    assert!(semaphore.try_permit().unwrap().is_none());
    drop(permit);
    assert_eq!(semaphore.value(), 1);
    let (first, second) = (semaphore.try_permit().unwrap(), semaphore.try_permit().unwrap());
    assert!(first.is_some() && second.is_none());
}

#[test]
fn an_owned_permit_comes_back_when_its_owner_is_killed() {
    let _watchdog = watchdog(LONG);
    let semaphore = BoundedSemaphore::new(1).unwrap();
    let inner: Semaphore = passed(&semaphore);
    for look in 0..4 {
        let owner = owner_of_a_permit(&inner);
        assert!(inner.locked());
        os::kill_and_reap(owner);
        match look {
            0 => assert_eq!(inner.value(), 1),
            1 => {
                assert!(inner.try_acquire().unwrap());
                inner.release().unwrap();
            }
            2 => drop(inner.try_permit().unwrap().unwrap()),
            _ => drop(inner.permit().unwrap()),
        }
    }
    assert_eq!(semaphore.value(), 1);
}

/// Sends a value to this very process, which maps it a second time.
fn passed<T: multiproc::Encode, U: multiproc::Decode>(value: &T) -> U {
    let (here, there) = multiproc::pipe().unwrap();
    here.send(value).unwrap();
    there.recv().unwrap()
}

#[test]
fn sleepers_of_both_kinds_inherit_the_permit_of_a_killed_owner() {
    let _watchdog = watchdog(LONG);
    for bare in [true, false] {
        let semaphore = Semaphore::new(1).unwrap();
        let owner = owner_of_a_permit(&semaphore);
        let heir = os::fork(|| {
            if bare {
                semaphore.acquire().unwrap();
                semaphore.release().unwrap();
            } else {
                drop(semaphore.permit().unwrap());
            }
        });
        os::wait_until_asleep(heir);
        os::kill_and_reap(owner);
        assert_eq!(os::wait(heir), os::Status::Exited(0));
        assert_eq!(semaphore.value(), 1);
    }
}

#[test]
fn sleepers_look_after_owners_where_the_system_cannot_watch_them() {
    let _watchdog = watchdog(LONG);
    const SYS_FUTEX_WAITV: libc::c_long = 449;
    let semaphore = Semaphore::new(1).unwrap();
    let owner = owner_of_a_permit(&semaphore);
    let heirs: [fn(&Semaphore); 2] =
        [|semaphore| semaphore.acquire().unwrap(), |semaphore| drop(semaphore.permit().unwrap())];
    let heirs = heirs.map(|heir| {
        os::fork(|| {
            os::refuse_call(SYS_FUTEX_WAITV);
            heir(&semaphore);
            // Who took it without owning it gives it back too.
            if semaphore.value() == 0 {
                semaphore.release().unwrap();
            }
        })
    });
    heirs.into_iter().for_each(os::wait_until_asleep);
    os::kill_and_reap(owner);
    for heir in heirs {
        assert_eq!(os::wait(heir), os::Status::Exited(0));
    }
}

#[test]
fn a_sleeper_is_told_of_an_owner_that_came_after_it_went_to_sleep() {
    let _watchdog = watchdog(LONG);
    let semaphore = Semaphore::new(0).unwrap();
    let sleepers: Vec<_> = (0..2)
        .map(|_| {
            let sleeper = os::fork(|| {
                semaphore.acquire().unwrap();
            });
            os::wait_until_asleep(sleeper);
            sleeper
        })
        .collect();
    let owner = os::fork(|| {
        semaphore.release().unwrap();
        let permit = semaphore.try_permit().unwrap();
        loop {
            thread::park();
            assert!(permit.is_none() || permit.is_some());
        }
    });
    os::wait_until_asleep(owner);
    os::kill_and_reap(owner);
    semaphore.release().unwrap();
    for sleeper in sleepers {
        assert_eq!(os::wait(sleeper), os::Status::Exited(0));
    }
}

#[test]
fn a_permit_copied_by_fork_gives_nothing_back() {
    let _watchdog = watchdog(LONG);
    let semaphore = Semaphore::new(1).unwrap();
    let mut permit = Some(semaphore.permit().unwrap());
    in_child(|| {
        drop(permit.take());
        assert_eq!(semaphore.value(), 0);
    });
    assert_eq!(semaphore.value(), 0);
    drop(permit);
    assert_eq!(semaphore.value(), 1);
}

#[test]
fn more_owned_permits_than_there_are_slots_is_an_error() {
    let semaphore = Semaphore::new(200).unwrap();
    let owned: Vec<_> = (0..).map_while(|_| semaphore.permit().ok()).collect();
    assert_eq!(owned.len(), 124);
    assert!(matches!(semaphore.permit(), Err(Error::Overflow { .. })));
    semaphore.acquire().unwrap();
    drop(owned);
    assert_eq!(semaphore.value(), 199);
}

#[test]
fn it_crosses_spawn() {
    let _watchdog = watchdog(LONG);
    fn work(go: Semaphore, done: BoundedSemaphore) {
        go.acquire().unwrap();
        forget(done.permit().unwrap());
    }
    let (go, done) = (Semaphore::new(0).unwrap(), BoundedSemaphore::new(1).unwrap());
    let child = Process::new(work, (go.clone(), done.clone())).start().unwrap();
    go.release().unwrap();
    child.join().unwrap();
    assert_eq!(done.value(), 1, "the child ended while it owned it");
}

#[test]
fn debug_tells_the_value() {
    assert_eq!(format!("{:?}", Semaphore::new(3).unwrap()), "<Semaphore(value=3)>");
    let bounded = BoundedSemaphore::new(3).unwrap();
    bounded.acquire().unwrap();
    assert_eq!(format!("{bounded:?}"), "<BoundedSemaphore(value=2, maxvalue=3)>");
}

#[test]
fn a_thousand_raw_ones_share_one_mapping() {
    let all = Shared::new([const { RawSemaphore::new(1) }; 1_000]).unwrap();
    let same: Shared<[RawSemaphore; 1_000]> = passed(&all);
    all[500].acquire().unwrap();
    assert!(!same[500].try_acquire() && same[501].try_acquire());
    same[500].release().unwrap();
    assert!(all[500].acquire_timeout(SHORT).unwrap());
    assert_eq!(RawSemaphore::new(u32::MAX).value(), RawSemaphore::MAX);
}

#[test]
fn no_scribble_makes_a_bounded_wait_hang() {
    let _watchdog = watchdog(LONG);
    in_child(|| {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..500 {
            let semaphore = Semaphore::new(0).unwrap();
            let file = File::from(semaphore.as_fd().try_clone_to_owned().unwrap());
            for _ in 0..4 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let place = 64 + (random >> 32) % 4 * 4; // count, tag, bound, owned
                file.write_all_at(&(random as u32).to_ne_bytes(), place).unwrap();
            }
            let _ = semaphore.acquire_timeout(Duration::from_micros(50));
            let _ = semaphore.permit_timeout(Duration::from_micros(50));
            let _ = semaphore.release();
            let _ = format!("{semaphore:?}");
        }
    });
}
