//! Any system call of a start may fail once: of the parent, of the child on its way to its function and
//! back, of the forkserver. That start is an error or does its work, hangs nowhere and leaves nothing
//! behind, and the next one is as if nothing had been.
//!
//! A filter has each call of a whole family of processes ask this one, which counts them and has one
//! fail: a run for each call, with one of its errors; with `MULTIPROC_FULL=1`, with each of them.

// Not the whole of `support`: what looks for leaks there makes system calls before `init`.
#[allow(dead_code)]
#[path = "../support/os.rs"]
mod os;
mod seccomp;

use multiproc::{ExitStatus, Process, StartMethod, all_start_methods};
use os::{Page, Status};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::catch_unwind;

fn main() {
    multiproc::init();
    os::adopt_orphans();
    os::alarm(600);
    for method in all_start_methods() {
        let (Some(calls), _) = run(method, &mut |_, _| None) else {
            return println!("skipped: no seccomp filter can ask here");
        };
        let mut tried = Tried::default();
        for nth in 0..calls {
            try_all(method, nth, &mut tried);
        }
        println!(
            "{method}: {calls} calls, {} failed, {} starts disturbed: ok",
            tried.failed, tried.disturbed
        );
    }
}

#[derive(Default)]
struct Tried {
    failed: u32,
    disturbed: u32,
}

/// Has the `nth` call fail, with one of its errors, or with each.
fn try_all(method: StartMethod, nth: usize, tried: &mut Tried) {
    let full = std::env::var_os("MULTIPROC_FULL").is_some();
    for which in 0..if full { 4 } else { 1 } {
        let mut failed = None;
        let (_, end) = run(method, &mut |count, number| {
            let (name, errors) = seccomp::errors_of(number);
            if count != nth || which >= errors.len() {
                return None;
            }
            let error = errors[(nth + which) % errors.len()];
            failed = Some((name, error));
            Some(error)
        });
        let Some((name, error)) = failed else { return };
        let error = std::io::Error::from_raw_os_error(error);
        assert!(
            matches!(end, Status::Exited(0 | DISTURBED)),
            "{method}: {end:?} when call {nth}, {name}, failed: {error}"
        );
        tried.failed += 1;
        tried.disturbed += u32::from(end == Status::Exited(DISTURBED));
    }
}

/// Exit codes of the process that starts others.
const DISTURBED: i32 = 10;
const FLAWED: i32 = 99;

/// Starts a child in a process of its own, whose calls fail as `answer` says. Gives how many calls
/// there were, or `None` if they cannot be made to fail, and how the process ended.
fn run(
    method: StartMethod,
    answer: &mut dyn FnMut(usize, i32) -> Option<i32>,
) -> (Option<usize>, Status) {
    let page = Page::new();
    let (said, end) = UnixStream::pair().unwrap();
    let subject = os::fork(|| {
        // A program that cannot begin, or has no memory, says so: nobody wants to know.
        os::replace(2, end.as_fd());
        if seccomp::ask(&page) {
            os::alarm(20);
            let seen = catch_unwind(|| start_twice(method, &page));
            os::exit_now(match seen {
                Ok(0) => 0,
                Ok(_) => DISTURBED,
                Err(_) => FLAWED,
            });
        }
    });
    let mut calls = None;
    let mut all_gone = true;
    if let Some(listener) = seccomp::listener_of(subject, &page) {
        let mut count = 0;
        all_gone = seccomp::serve(&listener, &page, 30_000, |nth, number| {
            count += 1;
            answer(nth, number)
        });
        calls = Some(count);
    }
    assert!(all_gone, "{method}: somebody is left after call {calls:?}");
    let status = os::wait(subject);
    // Orphans that nobody reaped.
    while os::reap_any() {}
    if matches!(status, Status::Exited(FLAWED) | Status::Killed(_)) {
        drop(end);
        let mut text = String::new();
        let _ = (&said).read_to_string(&mut text);
        eprintln!("{text}");
    }
    (calls, status)
}

/// A start that may be disturbed, then one that is not: gives how many errors the first had.
fn start_twice(method: StartMethod, page: &Page) -> usize {
    let before = os::open_files();
    seccomp::set_phase(page, true);
    let errors = start_once(method);
    seccomp::set_phase(page, false);
    check_nothing_is_left(method, before, &errors);
    let again = start_once(method);
    assert!(again.is_empty(), "{again:?}, in a later start than {errors:?}");
    check_nothing_is_left(method, before, &errors);
    errors.len()
}

/// Starts a child and sees to its end; what was refused meanwhile.
fn start_once(method: StartMethod) -> Vec<multiproc::Error> {
    let mut errors = Vec::new();
    let process = Process::new(|bytes: Vec<u8>| bytes.len() as u32, (vec![0; 40_000],));
    let process = process.stdin(multiproc::Stdio::Piped).current_dir("/");
    match process.start_method(method).daemon(true).start() {
        Err(error) => errors.push(error),
        Ok(child) => {
            // What failed in a wait is no longer in the way of the next.
            let status = loop {
                match child.wait() {
                    Ok(status) => break status,
                    Err(error) => errors.push(error),
                }
                assert!(errors.len() < 3, "{errors:?}");
            };
            match child.join() {
                Ok(len) => assert_eq!((len, status), (40_000, ExitStatus::Exited(0))),
                Err(error) => errors.push(error),
            }
        }
    }
    errors
}

fn check_nothing_is_left(method: StartMethod, before: usize, errors: &[multiproc::Error]) {
    let left = multiproc::active_children();
    assert!(left.is_empty(), "{left:?} after {errors:?}");
    // The forkserver's: its pidfd, its lifeline, and two sockets.
    let kept = if method == StartMethod::ForkServer { 4 } else { 0 };
    let now = os::open_files();
    assert!(now <= before + kept, "{} descriptors after {errors:?}", now - before);
    if method != StartMethod::ForkServer {
        assert!(!os::has_children(), "a child after {errors:?}");
    }
}
