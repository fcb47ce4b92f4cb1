//! Barriers: passed together, broken together.

mod support;

use multiproc::{Barrier, BarrierBreak, Error, Process, Result, Shared};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use support::{in_child, os, watchdog};

multiproc::init_before_main!();

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);
const PARTIES: usize = 5;

/// Runs `party` in five processes, this one among them.
fn in_parties(party: impl Fn(usize)) {
    let children: Vec<_> = (1..PARTIES).map(|index| os::fork(|| party(index))).collect();
    party(0);
    for child in children {
        assert_eq!(os::wait(child), os::Status::Exited(0));
    }
}

fn is_broken_by(answer: &Result<usize>, cause: BarrierBreak) -> bool {
    matches!(answer, Err(Error::BrokenBarrierError { cause: found }) if *found == cause)
}

fn wait_until_waiting(barrier: &Barrier, count: usize) {
    while barrier.waiting() < count {
        thread::yield_now();
    }
}

#[test]
fn parties_pass_in_lockstep_and_each_gets_a_place() {
    let _watchdog = watchdog(LONG);
    let barrier = Barrier::new(PARTIES).unwrap();
    let places = Shared::new([const { AtomicU32::new(0) }; PARTIES]).unwrap();
    let rounds = Shared::new([const { AtomicU32::new(0) }; 10]).unwrap();
    in_parties(|_| {
        for round in rounds.iter() {
            round.fetch_add(1, SeqCst);
            places[barrier.wait().unwrap()].fetch_add(1, SeqCst);
            assert_eq!(round.load(SeqCst), PARTIES as u32);
        }
    });
    assert!(places.iter().all(|place| place.load(SeqCst) == 10));
    assert_eq!((barrier.parties(), barrier.waiting(), barrier.is_broken()), (PARTIES, 0, false));
}

#[test]
fn a_thousand_rounds_keep_together() {
    let _watchdog = watchdog(LONG);
    let barrier = Barrier::new(PARTIES).unwrap();
    let count = Shared::new(AtomicU32::new(0)).unwrap();
    in_parties(|_| {
        for round in 0..1_000 {
            count.fetch_add(1, SeqCst);
            barrier.wait().unwrap();
            let seen = count.load(SeqCst);
            assert!((PARTIES as u32 * (round + 1)..=PARTIES as u32 * (round + 2)).contains(&seen));
        }
    });
    assert_eq!(count.load(SeqCst), 5_000);
}

static ACTIONS: AtomicU32 = AtomicU32::new(0);

fn count_action() {
    ACTIONS.fetch_add(1, SeqCst);
}

#[test]
fn the_action_runs_once_before_anybody_goes_on() {
    let _watchdog = watchdog(LONG);
    let barrier = Barrier::builder(3).action(count_action).build().unwrap();
    for round in 1..=10 {
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    barrier.wait().unwrap();
                    assert_eq!(ACTIONS.load(SeqCst), round);
                });
            }
        });
    }
}

#[test]
fn an_action_that_panics_breaks_the_barrier() {
    let _watchdog = watchdog(LONG);
    fn fails() {
        panic!("on purpose");
    }
    let barrier = Barrier::builder(2).action(fails).build().unwrap();
    let other = os::fork(|| {
        assert!(is_broken_by(&barrier.wait(), BarrierBreak::ActionPanicked));
    });
    wait_until_waiting(&barrier, 1);
    in_child(|| {
        std::panic::set_hook(Box::new(|_| {}));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| barrier.wait())).is_err());
    });
    assert_eq!(os::wait(other), os::Status::Exited(0));
    assert!(barrier.is_broken());
    barrier.reset().unwrap();
    assert!(!barrier.is_broken());
}

#[test]
fn abort_breaks_it_for_all_until_reset() {
    let _watchdog = watchdog(LONG);
    let barrier = Barrier::new(PARTIES).unwrap();
    in_parties(|index| {
        if index == 0 {
            wait_until_waiting(&barrier, PARTIES - 1);
            barrier.abort().unwrap();
        } else {
            assert!(is_broken_by(&barrier.wait(), BarrierBreak::Aborted));
        }
    });
    assert!(barrier.is_broken());
    assert!(is_broken_by(&barrier.wait(), BarrierBreak::Aborted));
    barrier.reset().unwrap();
    in_parties(|_| assert!(barrier.wait().is_ok()));
}

#[test]
fn reset_frees_those_who_wait_and_all_pass_again() {
    let _watchdog = watchdog(LONG);
    let barrier = Barrier::new(PARTIES).unwrap();
    in_parties(|index| {
        if index == 0 {
            wait_until_waiting(&barrier, PARTIES - 1);
            barrier.reset().unwrap();
        } else {
            assert!(is_broken_by(&barrier.wait(), BarrierBreak::Reset));
        }
        barrier.wait().unwrap();
    });
    assert!(!barrier.is_broken());
}

#[test]
fn one_that_is_late_finds_it_broken_like_all_others() {
    let _watchdog = watchdog(LONG);
    let barrier = Barrier::new(PARTIES).unwrap();
    in_parties(|index| {
        let start = Instant::now();
        if index == 0 {
            while !barrier.is_broken() {
                thread::yield_now();
            }
        }
        assert!(is_broken_by(&barrier.wait_timeout(SHORT), BarrierBreak::TimedOut));
        assert!(start.elapsed() >= SHORT || index == 0 || barrier.is_broken());
    });
}

#[test]
fn the_default_timeout_holds_where_none_is_given() {
    let _watchdog = watchdog(LONG);
    let barrier = Barrier::builder(2).timeout(SHORT).build().unwrap();
    let start = Instant::now();
    assert!(is_broken_by(&barrier.wait(), BarrierBreak::TimedOut));
    assert!(start.elapsed() >= SHORT);
}

#[test]
fn one_party_alone_never_waits() {
    let barrier = Barrier::new(1).unwrap();
    for _ in 0..3 {
        assert_eq!(barrier.wait().unwrap(), 0);
    }
}

#[test]
fn a_party_that_is_killed_while_it_waits_breaks_it_for_the_others() {
    let _watchdog = watchdog(LONG);
    for others in [1, 2] {
        let barrier = Barrier::new(4).unwrap();
        let victim = os::fork(|| drop(barrier.wait()));
        wait_until_waiting(&barrier, 1);
        let cause = BarrierBreak::PartyDied { pid: victim as u32 };
        let other = || assert!(is_broken_by(&barrier.wait(), cause));
        let others: Vec<_> = (0..others).map(|_| os::fork(other)).collect();
        wait_until_waiting(&barrier, 1 + others.len());
        os::kill_and_reap(victim);
        for other in others {
            assert_eq!(os::wait(other), os::Status::Exited(0));
        }
        assert!(is_broken_by(&barrier.wait(), cause));
        barrier.reset().unwrap();
        assert!(barrier.wait_timeout(Duration::ZERO).is_err());
    }
}

/// Waits until `pid` watches `count` other parties, as its system call shows; for a while, since there are
/// systems on which it cannot.
fn wait_until_watching(pid: os::Pid, count: usize) {
    let (start, words) = (Instant::now(), format!("{:#x}", count + 2));
    while start.elapsed() < Duration::from_secs(1) {
        if let os::Sight::Asleep { call, .. } = os::look(pid) {
            let fields: Vec<&str> = call.split(' ').collect();
            if fields[0] == "449" && fields[2] == words {
                return;
            }
        }
        thread::yield_now();
    }
}

#[test]
fn parties_that_sleep_watch_those_who_come_later_too() {
    let _watchdog = watchdog(LONG);
    for killed in 0..3 {
        let barrier = Barrier::new(4).unwrap();
        let wait = || assert!(matches!(barrier.wait(), Err(Error::BrokenBarrierError { .. })));
        let mut parties = Vec::new();
        for count in 0..3 {
            parties.push(os::fork(wait));
            wait_until_waiting(&barrier, count + 1);
            parties.iter().for_each(|&party| wait_until_watching(party, count));
        }
        os::kill_and_reap(parties.remove(killed));
        for party in parties {
            assert_eq!(os::wait(party), os::Status::Exited(0));
        }
        assert!(barrier.is_broken());
    }
}

#[test]
fn all_but_one_are_killed_at_once_and_that_one_is_told() {
    let _watchdog = watchdog(LONG);
    for survivor in 0..5 {
        let barrier = Barrier::new(6).unwrap();
        let wait = || assert!(matches!(barrier.wait(), Err(Error::BrokenBarrierError { .. })));
        let mut parties: Vec<_> = (0..5).map(|_| os::fork(wait)).collect();
        wait_until_waiting(&barrier, 5);
        parties.iter().for_each(|&party| os::wait_until_asleep(party));
        let survivor = parties.remove(survivor);
        parties.iter().for_each(|&party| os::signal(party, libc::SIGKILL));
        for party in parties {
            // Or it was told of the first one's death before its turn came.
            let status = os::wait(party);
            assert!(matches!(status, os::Status::Killed(libc::SIGKILL) | os::Status::Exited(0)));
        }
        assert_eq!(os::wait(survivor), os::Status::Exited(0));
    }
}

#[test]
fn parties_look_after_each_other_where_the_system_cannot_watch_them() {
    let _watchdog = watchdog(LONG);
    let barrier = Barrier::new(3).unwrap();
    let wait = || {
        os::refuse_call(449);
        assert!(matches!(barrier.wait(), Err(Error::BrokenBarrierError { .. })));
    };
    let (victim, other) = (os::fork(wait), os::fork(wait));
    wait_until_waiting(&barrier, 2);
    os::wait_until_asleep(other);
    os::kill_and_reap(victim);
    assert_eq!(os::wait(other), os::Status::Exited(0));
}

#[test]
fn more_processes_than_parties_pass_in_turns() {
    let _watchdog = watchdog(LONG);
    fn slow() {
        thread::sleep(Duration::from_millis(1));
    }
    let barrier = Barrier::builder(2).action(slow).build().unwrap();
    let passed = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while barrier.wait().is_ok() {
                    passed.fetch_add(1, SeqCst);
                }
            });
        }
        while passed.load(SeqCst) < 100 {
            thread::yield_now();
        }
        barrier.abort().unwrap();
    });
}

#[test]
fn it_crosses_spawn_with_its_action() {
    let _watchdog = watchdog(LONG);
    static HERE: AtomicU32 = AtomicU32::new(0);
    fn note() {
        HERE.fetch_add(1, SeqCst);
    }
    fn work(barrier: Barrier) -> (usize, u32) {
        (barrier.wait().unwrap(), HERE.load(SeqCst))
    }
    let barrier = Barrier::builder(2).action(note).build().unwrap();
    let child = Process::new(work, (barrier.clone(),)).start().unwrap();
    let place = barrier.wait().unwrap();
    let (other, noted) = child.join().unwrap();
    assert_eq!(place + other, 1);
    assert_eq!(noted + HERE.load(SeqCst), 1, "by the last to arrive alone");
    assert_eq!(noted, u32::from(other == 1));
}

#[test]
fn a_number_of_parties_that_cannot_be_is_refused() {
    for parties in [0, 121, usize::MAX] {
        assert!(matches!(Barrier::new(parties), Err(Error::InvalidArgument { .. })));
    }
}

#[test]
fn debug_tells_how_many_wait() {
    let barrier = Barrier::new(3).unwrap();
    assert_eq!(format!("{barrier:?}"), "<Barrier(waiters=0/3)>");
    barrier.abort().unwrap();
    assert_eq!(format!("{barrier:?}"), "<Barrier(broken)>");
}
