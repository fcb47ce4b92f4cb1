//! What the tests share; each test binary uses its own part of it.
//!
//! A test binary that says `mod support;` is checked for leaks when it ends, without a further word.
#![allow(dead_code)]

mod leaks;
pub(crate) mod os;

use os::Status;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long [`in_child`] lets its child run.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends the process when it is not dropped in time: a test that hangs says so by its name.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Nothing is ever sent; the drop is what the thread waits for.
    _leash: Sender<()>,
}

/// Aborts the process, naming the test, unless the guard is dropped within `patience`, or as many times that
/// as `MULTIPROC_PATIENCE` says, for tools that make a program slow.
pub(crate) fn watchdog(patience: Duration) -> Watchdog {
    let test = test_name();
    let times = std::env::var("MULTIPROC_PATIENCE").ok().and_then(|times| times.parse().ok());
    let patience = patience * times.unwrap_or(1);
    let (leash, released) = channel();
    std::thread::spawn(move || {
        if released.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            os::complain(&format!("watchdog: {test} still runs after {patience:?}\n"));
            std::process::abort();
        }
    });
    Watchdog { _leash: leash }
}

/// libtest names each test's thread after the test.
fn test_name() -> String {
    std::thread::current().name().unwrap_or("a thread without a name").to_owned()
}

/// Runs `test` in a forked child, where it is the only thread, and asserts that it ends well.
///
/// The child is killed if it still runs after 30 seconds. It inherits every lock as it was at the
/// fork, those of libtest's other threads too: it had better not print, other than by panicking.
#[track_caller]
pub(crate) fn in_child(test: impl FnOnce()) {
    in_child_within(PATIENCE, test);
}

/// [`in_child`] with a patience of its own.
#[track_caller]
pub(crate) fn in_child_within(patience: Duration, test: impl FnOnce()) {
    let name = test_name();
    let pid = os::fork(|| {
        // The usual hook prints into libtest's buffer, which dies with the child.
        let prefix = format!("{name}, in its child {}: ", os::own_pid());
        std::panic::set_hook(Box::new(move |panic| os::complain(&format!("{prefix}{panic}\n"))));
        test();
    });
    let Some(status) = os::wait_until(pid, Instant::now() + patience) else {
        let sight = os::look(pid);
        os::kill_and_reap(pid);
        panic!("the child still ran after {patience:?}: {sight:?}");
    };
    assert_eq!(status, Status::Exited(0), "the child failed");
}

/// Waits for a forked child and asserts that it ended well.
#[track_caller]
pub(crate) fn join(pid: os::Pid) {
    let status = os::wait_until(pid, Instant::now() + 2 * PATIENCE);
    assert_eq!(status, Some(Status::Exited(0)), "{:?}", os::look(pid));
}

/// Sleeps until it is killed: what a process is told to do that is there to be ended.
pub(crate) fn sleep() {
    loop {
        std::thread::park();
    }
}

/// The two ends of something that can be read and written both ways, and is at its end when the last copy
/// of the other end is closed.
pub(crate) fn pipe() -> (File, File) {
    let (a, b) = UnixStream::pair().unwrap();
    (OwnedFd::from(a).into(), OwnedFd::from(b).into())
}

/// Held by each test of a binary that takes turns: a fork must not find the library's locks held by another
/// test's thread, nor copy the descriptors of another test.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
