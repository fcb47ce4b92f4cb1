//! Events: set, cleared, waited for.

mod support;

use multiproc::{Event, Process};
use std::time::{Duration, Instant};
use support::{os, watchdog};

multiproc::init_before_main!();

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

#[test]
fn wait_follows_the_flag() {
    let _watchdog = watchdog(LONG);
    let event = Event::new().unwrap();
    assert!(!event.is_set());
    assert!(!event.wait_timeout(Duration::ZERO).unwrap());
    let start = Instant::now();
    assert!(!event.wait_timeout(SHORT).unwrap());
    assert!(start.elapsed() >= SHORT);
    event.set().unwrap();
    event.set().unwrap();
    assert!(event.is_set() && event.wait().unwrap() && event.wait_timeout(SHORT).unwrap());
    event.clear();
    event.clear();
    assert!(!event.is_set() && !event.wait_timeout(SHORT).unwrap());
}

#[test]
fn set_wakes_all_who_wait_in_any_process() {
    let _watchdog = watchdog(LONG);
    let event = Event::new().unwrap();
    for _ in 0..3 {
        let sleepers = [0, 1, 2].map(|_| os::fork(|| assert!(event.wait().unwrap())));
        sleepers.into_iter().for_each(os::wait_until_asleep);
        event.set().unwrap();
        event.clear(); // and yet each of them is woken
        for sleeper in sleepers {
            assert_eq!(os::wait(sleeper), os::Status::Exited(0));
        }
    }
}

#[test]
fn a_killed_sleeper_leaves_no_trace() {
    let _watchdog = watchdog(LONG);
    let event = Event::new().unwrap();
    let sleepers = [0, 1].map(|_| os::fork(|| assert!(event.wait().unwrap())));
    sleepers.into_iter().for_each(os::wait_until_asleep);
    os::kill_and_reap(sleepers[0]);
    event.set().unwrap();
    assert_eq!(os::wait(sleepers[1]), os::Status::Exited(0));
    event.clear();
    assert!(!event.wait_timeout(SHORT).unwrap());
}

#[test]
fn a_spawned_child_wakes_its_parent() {
    let _watchdog = watchdog(LONG);
    fn work(event: Event) {
        event.set().unwrap();
    }
    let event = Event::new().unwrap();
    let child = Process::new(work, (event.clone(),)).start().unwrap();
    assert!(event.wait().unwrap());
    child.join().unwrap();
}

#[test]
fn debug_tells_whether_it_is_set() {
    let event = Event::new().unwrap();
    assert_eq!(format!("{event:?}"), "<Event unset>");
    event.set().unwrap();
    assert_eq!(format!("{event:?}"), "<Event set>");
}
