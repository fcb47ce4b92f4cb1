//! Servers that do not end when they are asked to.

use super::PATIENCE;
use super::support::{os, watchdog};
use multiproc::{Connection, Error, ExitStatus, Manager, ManagerBuilder};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);

/// What nobody comes back from.
struct Pit;

impl Pit {
    fn new() -> Pit {
        Pit
    }

    fn fall(&self, end: Connection) {
        end.send(&()).unwrap();
        loop {
            std::thread::park();
        }
    }
}

multiproc::managed! {
    impl Pit as PitProxy {
        fn fall(&self, end: Connection);
    }
}

fn builder() -> ManagerBuilder {
    Manager::builder().shutdown_timeout(SHORT)
}

/// Has the server run a method that never returns, and gives the thread that waits for it.
fn occupy(manager: &Manager) -> JoinHandle<multiproc::Result<()>> {
    let pit = manager.create(Pit::new, ()).unwrap();
    let (ours, theirs) = multiproc::pipe().unwrap();
    let caller = std::thread::spawn(move || pit.fall(theirs));
    ours.recv::<()>().unwrap();
    caller
}

/// Shuts it down; what it took, and how the server ended.
fn shut_down(manager: &Manager) -> (Duration, ExitStatus) {
    let start = Instant::now();
    manager.shutdown().unwrap();
    (start.elapsed(), manager.join().unwrap())
}

#[test]
fn a_server_in_a_method_that_never_returns_is_ended_by_sigterm() {
    let _watchdog = watchdog(PATIENCE);
    let manager = builder().start().unwrap();
    let caller = occupy(&manager);
    let (took, status) = shut_down(&manager);
    assert_eq!(status, ExitStatus::Killed(libc::SIGTERM));
    assert!(took >= SHORT);
    assert!(matches!(caller.join().unwrap(), Err(Error::Disconnected)));
}

#[test]
fn a_server_that_ignores_sigterm_too_is_killed() {
    let _watchdog = watchdog(PATIENCE);
    let manager = builder().initializer(|| os::ignore(libc::SIGTERM), ()).start().unwrap();
    let caller = occupy(&manager);
    let (took, status) = shut_down(&manager);
    assert_eq!(status, ExitStatus::Killed(libc::SIGKILL));
    assert!(took >= 2 * SHORT);
    assert!(matches!(caller.join().unwrap(), Err(Error::Disconnected)));
    manager.shutdown().unwrap();
}

#[test]
fn a_server_that_ignores_sigterm_ends_when_it_is_asked_to() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::builder()
        .shutdown_timeout(PATIENCE)
        .initializer(|| os::ignore(libc::SIGTERM), ())
        .start()
        .unwrap();
    assert_eq!(shut_down(&manager).1, ExitStatus::Exited(0));
}

#[test]
fn a_stopped_server_is_killed() {
    let _watchdog = watchdog(PATIENCE);
    let manager = builder().start().unwrap();
    let list = manager.list([1]).unwrap();
    let pid = manager.pid().unwrap();
    os::signal(pid as _, libc::SIGSTOP);
    let is_stopped =
        || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("State:\tT");
    while !is_stopped() {
        std::thread::yield_now();
    }
    let caller = std::thread::spawn(move || list.len());
    let (took, status) = shut_down(&manager);
    // SIGTERM waits until it is let go on, which nobody does.
    assert_eq!(status, ExitStatus::Killed(libc::SIGKILL));
    assert!(took >= 2 * SHORT);
    assert!(matches!(caller.join().unwrap(), Err(Error::Disconnected | Error::Os { .. })));
}

#[test]
fn a_dropped_manager_ends_a_server_that_does_not_listen() {
    let _watchdog = watchdog(PATIENCE);
    let manager = builder().start().unwrap();
    let caller = occupy(&manager);
    drop(manager);
    assert!(matches!(caller.join().unwrap(), Err(Error::Disconnected)));
}
