//! Host programs and systems that make it hard.

#[path = "support/alone.rs"]
mod alone;
mod support;

use alone::alone;
use multiproc::{Error, ExitStatus, Process, all_start_methods};
use std::time::Duration;
use support::{os, sleep};

multiproc::init_before_main!();

#[test]
fn a_host_that_ignores_sigchld_gets_results_and_codes_all_the_same() {
    alone(|| {
        os::ignore(17);
        for method in all_start_methods() {
            let start = |code: i32| {
                let work = |code: i32| if code == 0 { 8 } else { multiproc::exit(code) };
                Process::new(work, (code,)).start_method(method).start().unwrap()
            };
            assert_eq!(start(0).join().unwrap(), 8, "{method}");
            assert_eq!(start(0).wait().unwrap(), ExitStatus::Exited(0), "{method}");
            // The kernel keeps no zombie to ask: the truth where it tells holders of pidfds, or 255.
            let told = start(3).wait().unwrap().to_number();
            assert!([3, 255].contains(&told), "{method}: {told}");
            let child = Process::new(sleep, ()).start_method(method).start().unwrap();
            child.kill().unwrap();
            assert!([-9, 255].contains(&child.wait().unwrap().to_number()), "{method}");
        }
    });
}

#[test]
fn a_host_that_reaps_every_child_in_a_handler_gets_results_and_codes_all_the_same() {
    alone(|| {
        os::reap_all_at_once();
        for method in all_start_methods() {
            for code in [0, 3] {
                let work = |code: i32| if code == 0 { 8 } else { multiproc::exit(code) };
                let start = || Process::new(work, (code,)).start_method(method).start().unwrap();
                let told = start().wait().unwrap().to_number();
                assert!([code, 255].contains(&told), "{method}: {told}");
                match start().join() {
                    Ok(8) => assert_eq!(code, 0, "{method}"),
                    Err(Error::Exited { code: 3 | 255 }) => assert_eq!(code, 3, "{method}"),
                    other => panic!("{method}: {other:?}"),
                }
            }
            let child = Process::new(sleep, ()).start_method(method).start().unwrap();
            child.kill().unwrap();
            assert!([-9, 255].contains(&child.wait().unwrap().to_number()), "{method}");
        }
    });
}

#[test]
fn a_host_that_waits_for_any_child_takes_a_status_and_nothing_else() {
    alone(|| {
        for method in all_start_methods() {
            let child = Process::new(|| 7, ()).start_method(method).start().unwrap();
            if method == multiproc::StartMethod::ForkServer {
                // Not our child: there is nobody to steal.
                assert_eq!(child.join().unwrap(), 7);
                continue;
            }
            os::Orphan::of(child.pid() as i32).ends();
            assert!(os::reap_any(), "{method}");
            assert_eq!(child.wait().unwrap(), ExitStatus::Exited(0), "{method}");
            assert_eq!(child.join().unwrap(), 7, "{method}");
        }
    });
}

#[test]
fn signals_raining_on_parent_and_children_change_nothing() {
    alone(|| {
        let ticks = os::Ticks::every(Duration::from_micros(200));
        for method in all_start_methods() {
            for round in 0..15u32 {
                let work = |bytes: Vec<u8>, round: u32| {
                    let _ticks = os::Ticks::every(Duration::from_micros(200));
                    std::thread::sleep(Duration::from_millis(2));
                    (bytes, round)
                };
                let bytes = vec![1; 100_000];
                let child = Process::new(work, (bytes.clone(), round)).start_method(method);
                let child = child.daemon(round % 2 == 0).start().unwrap();
                assert!(child.join().unwrap() == (bytes, round), "{method}");
            }
            let child = Process::new(sleep, ()).start_method(method).start().unwrap();
            let waited = child.wait_timeout(Duration::from_millis(20)).unwrap();
            assert_eq!(waited, None, "{method}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
        drop(ticks);
    });
}

#[test]
fn every_limit_of_open_files_gives_a_child_or_an_error_and_leaks_nothing() {
    alone(|| {
        for method in all_start_methods() {
            for daemon in [false, true] {
                let mut started = 0;
                for limit in 3..=40 {
                    started += u32::from(start_within(limit, method, daemon));
                }
                assert!(started > 0, "{method}: none at all");
            }
        }
    });
}

/// Starts a child with so many descriptors allowed; whether there was one that did its work.
fn start_within(limit: u64, method: multiproc::StartMethod, daemon: bool) -> bool {
    let before = os::open_files();
    let usual = os::limit_open_files(limit);
    let work = |bytes: Vec<u8>| bytes.len() as u32;
    let process = Process::new(work, (vec![0; 40_000],)).start_method(method).daemon(daemon);
    let answer = process.start().map(|child| {
        let waited = child.wait_timeout(Duration::from_secs(20));
        if waited.as_ref().is_ok_and(Option::is_none) {
            panic!("{method}: hangs with {limit} descriptors");
        }
        child.join()
    });
    os::limit_open_files(usual);
    let ended = multiproc::active_children();
    assert!(ended.is_empty(), "{method}: {ended:?} with {limit} descriptors: {answer:?}");
    if method == multiproc::StartMethod::ForkServer {
        // The server, if this is the first: its pidfd, its lifeline, and two sockets.
        assert!(os::open_files() <= before + 4);
    } else {
        assert_eq!(os::open_files(), before, "{method} with {limit} descriptors: {answer:?}");
    }
    match answer {
        Ok(Ok(40_000)) => true,
        Ok(Ok(other)) => panic!("{other}"),
        Ok(Err(error)) | Err(error) => {
            assert!(!matches!(error, Error::StartTimeout | Error::TimeoutError), "{error}");
            false
        }
    }
}

#[test]
fn a_served_burst_beyond_the_servers_descriptors_is_refused_child_by_child() {
    alone(|| {
        // The server may raise its limit to this, and not beyond.
        os::limit_open_files_for_good(200);
        let mut children = Vec::new();
        let refused = loop {
            let process = Process::new(sleep, ()).start_method(multiproc::StartMethod::ForkServer);
            match process.start() {
                Ok(child) => children.push(child),
                Err(error) => break error,
            }
            assert!(children.len() < 200, "two descriptors each, and no end");
        };
        assert_eq!(refused.raw_os_error(), Some(24), "{refused}");
        // Nobody is lost by it, and there is room again for as many as have left.
        for child in children.drain(..) {
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap(), ExitStatus::Killed(9));
        }
        let process = Process::new(|| 1, ()).start_method(multiproc::StartMethod::ForkServer);
        assert_eq!(process.start().unwrap().join().unwrap(), 1);
    });
}
