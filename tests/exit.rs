//! How processes leave.

#[path = "support/alone.rs"]
mod alone;
mod support;

use alone::alone;
use multiproc::{ExitStatus, Process, StartMethod, all_start_methods, at_exit};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use support::{os, pipe, sleep};

multiproc::init_before_main!();

/// Has `text` written to `end` when this process leaves.
fn note(end: &File, text: &'static str, priority: i32) {
    let mut end = end.try_clone().unwrap();
    at_exit(move || end.write_all(text.as_bytes()).unwrap(), priority).unwrap();
}

#[test]
fn hooks_run_by_priority_and_newest_first_around_the_end_of_the_children() {
    alone(|| {
        for method in all_start_methods() {
            let (mut told, end) = pipe();
            let leaver = |end: File| {
                let (wait, go) = pipe();
                let work = |wait: File, end: File| {
                    // Nothing is ever written there: it ends when the last hook of priority 0 has run.
                    assert_eq!((&wait).read(&mut [0]).unwrap(), 0);
                    (&end).write_all(b"child ").unwrap();
                };
                let child = (wait, end.try_clone().unwrap());
                Process::new(work, child).start().unwrap();
                note(&end, "-1 ", -1);
                at_exit(move || drop(go), 0).unwrap();
                note(&end, "first0 ", 0);
                note(&end, "second0 ", 0);
                note(&end, "9 ", 9);
                at_exit(|| panic!("a hook that fails"), 5).unwrap();
                let late = end.try_clone().unwrap();
                at_exit(move || note(&late, "registered late ", 3), 4).unwrap();
            };
            let child = Process::new(leaver, (end,)).start_method(method).start().unwrap();
            let mut text = String::new();
            told.read_to_string(&mut text).unwrap();
            assert_eq!(text, "9 registered late second0 first0 child -1 ", "{method}");
            assert_eq!(child.wait().unwrap(), ExitStatus::Exited(0));
        }
    });
}

#[test]
fn hooks_run_however_a_child_leaves_by_itself_and_never_the_parents() {
    alone(|| {
        for method in all_start_methods() {
            for way in 0..4u32 {
                let (mut told, end) = pipe();
                note(&end, "the parent's ", 0);
                let leave = |way: u32, end: File| {
                    note(&end, "left", 0);
                    drop(end);
                    match way {
                        0 => (),
                        1 => multiproc::exit(3),
                        2 => panic!("on purpose"),
                        _ => os::signal(os::own_pid(), 9),
                    }
                };
                let child = Process::new(leave, (way, end.try_clone().unwrap()));
                let child = child.start_method(method).start().unwrap();
                let status = child.wait().unwrap();
                assert_eq!(status.to_number(), [0, 3, 1, -9][way as usize], "{method}");
                drop(end);
                let mut text = [0; 4];
                let count = if way < 3 { 4 } else { 0 };
                told.read_exact(&mut text[..count]).unwrap();
                assert_eq!(&text[..count], &b"left"[..count]);
                told.set_nonblocking();
                assert!(told.read(&mut [0]).is_err(), "{method}: more than its own");
            }
        }
        // What is left of the hooks of this process is written to sockets that nobody reads.
    });
}

trait SetNonblocking {
    fn set_nonblocking(&self);
}

impl SetNonblocking for File {
    fn set_nonblocking(&self) {
        let socket = UnixStream::from(OwnedFd::from(self.try_clone().unwrap()));
        socket.set_nonblocking(true).unwrap();
    }
}

#[test]
fn a_fork_writes_out_its_own_words_once_and_its_parents_never() {
    alone(|| {
        for method in all_start_methods() {
            let (mut told, end) = pipe();
            let talk = |end: File, by: u32| {
                os::replace(1, std::os::fd::AsFd::as_fd(&end));
                drop(end);
                print!("parent;");
                let talk = || print!("child;");
                let child = Process::new(talk, ()).start_method(all_start_methods()[by as usize]);
                child.start().unwrap().join().unwrap();
                print!("end;");
            };
            let by = all_start_methods().iter().position(|&m| m == method).unwrap() as u32;
            let child = Process::new(talk, (end, by)).start().unwrap();
            child.join().unwrap();
            let mut text = String::new();
            told.read_to_string(&mut text).unwrap();
            assert_eq!(text.matches("parent;").count(), 1, "{method}: {text}");
            assert_eq!(text.matches("child;").count(), 1, "{method}: {text}");
            assert_eq!(text.matches("end;").count(), 1, "{method}: {text}");
        }
    });
}

#[test]
fn leaving_with_a_forkserver_its_daemons_and_others_takes_no_grace() {
    alone(|| {
        let leaver = || {
            let start = |daemon| {
                let work = |daemon: bool| {
                    if daemon {
                        sleep()
                    }
                };
                let process = Process::new(work, (daemon,)).daemon(daemon);
                process.start_method(StartMethod::ForkServer).start().unwrap();
            };
            [true, false, true, false].into_iter().for_each(start);
        };
        let before = std::time::Instant::now();
        for _ in 0..20 {
            Process::new(leaver, ()).start().unwrap().join().unwrap();
        }
        // Twenty times the two seconds that those get who do not listen would be beyond the watchdog's
        // half; no bound on the time itself is meant.
        assert!(before.elapsed().as_secs() < 30);
    });
}

#[test]
fn the_text_of_a_panic_names_the_process_and_reaches_stderr_whole() {
    alone(|| {
        for method in all_start_methods() {
            let (mut told, end) = pipe();
            let work = |end: File| {
                os::replace(2, std::os::fd::AsFd::as_fd(&end));
                drop(end);
                panic!("the reason");
            };
            let process: Process<()> =
                Process::new(work, (end,)).name("worker").start_method(method);
            let child = process.start().unwrap();
            // A backtrace may be longer than what fits the pipe: it is read before the child can end.
            let mut text = String::new();
            told.read_to_string(&mut text).unwrap();
            assert_eq!(child.wait().unwrap(), ExitStatus::Exited(1));
            assert!(text.starts_with("Process worker:\n"), "{text}");
            assert!(text.contains("the reason") && text.contains(file!()), "{text}");
        }
    });
}

#[test]
fn hooks_registered_by_many_threads_all_run_once() {
    alone(|| {
        for method in all_start_methods() {
            let count = multiproc::Shared::new(AtomicU32::new(0)).unwrap();
            let work = |count: multiproc::Shared<AtomicU32>| {
                std::thread::scope(|scope| {
                    for thread in 0..4 {
                        let count = &count;
                        scope.spawn(move || {
                            for n in 0..100 {
                                let count = count.clone();
                                let add = move || _ = count.fetch_add(1, Ordering::Relaxed);
                                at_exit(add, n - thread * 10).unwrap();
                            }
                        });
                    }
                });
                assert_eq!(count.load(Ordering::Relaxed), 0);
            };
            let process = Process::new(work, (count.clone(),)).start_method(method);
            process.start().unwrap().join().unwrap();
            assert_eq!(count.load(Ordering::Relaxed), 400, "{method}");
        }
    });
}
