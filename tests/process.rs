//! A process does its work and says how it went, however it was started.
//!
//! Forking is refused while a process has threads, as a test harness has: most tests run in a spawned
//! process of their own and try every start method from there.

#[path = "support/alone.rs"]
mod alone;
mod support;

use alone::alone;
use multiproc::{
    Child, Error, ExitStatus, Process, Shared, StartMethod, Stdio, all_start_methods,
    current_process,
};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use support::{pipe, sleep};

multiproc::init_before_main!();

#[test]
fn a_return_value_comes_back_through_join() {
    alone(|| {
        fn describe(number: u64, words: Vec<String>, more: Option<(u8, char)>) -> String {
            format!("{number} {words:?} {more:?}")
        }
        for method in all_start_methods() {
            let words = vec!["a".to_string(), String::new()];
            let process = Process::new(describe, (7, words, Some((1, 'x'))));
            let child = process.start_method(method).start().unwrap();
            assert_eq!(child.join().unwrap(), r#"7 ["a", ""] Some((1, 'x'))"#, "{method}");
        }
    });
}

#[test]
fn ten_mebibytes_go_there_and_back() {
    alone(|| {
        for method in all_start_methods() {
            let bytes: Vec<u8> = (0..10 << 20).map(|n: u32| ((n * 31) >> 7) as u8).collect();
            let backwards = |mut bytes: Vec<u8>| {
                bytes.reverse();
                bytes
            };
            let process = Process::new(backwards, (bytes.clone(),)).start_method(method);
            let mut back = process.start().unwrap().join().unwrap();
            back.reverse();
            assert!(back == bytes, "{method}");
        }
    });
}

#[test]
fn a_result_waits_for_who_joins_late_or_not_at_all() {
    alone(|| {
        for method in all_start_methods() {
            let start = || Process::new(|| vec![1u8; 1 << 20], ()).start_method(method).start();
            drop(start().unwrap());
            let child = start().unwrap();
            assert_eq!(child.wait().unwrap(), ExitStatus::Exited(0));
            assert_eq!(child.wait().unwrap(), ExitStatus::Exited(0));
            assert_eq!(child.join().unwrap().len(), 1 << 20);
        }
    });
}

#[test]
fn a_panic_comes_back_with_message_and_place_and_exit_code_1() {
    alone(|| {
        for method in all_start_methods() {
            let start = || {
                Process::new(|n: u32| assert!(n == 0, "{n} is not nothing"), (3,))
                    .start_method(method)
                    .start()
                    .unwrap()
            };
            let child = start();
            assert_eq!(child.wait().unwrap(), ExitStatus::Exited(1));
            assert_eq!(child.exit_code(), Some(1));
            match start().join() {
                Err(Error::Panicked { message, location, .. }) => {
                    assert_eq!(message, "3 is not nothing");
                    assert!(location.starts_with(file!()), "{location}");
                }
                other => panic!("{method}: {other:?}"),
            }
        }
    });
}

/// Panics when it is dropped, also in a process that it has travelled to.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

impl multiproc::Encode for Bomb {
    fn encode(&self, _: &mut multiproc::Encoder<'_>) {}
}

impl multiproc::Decode for Bomb {
    fn decode(_: &mut multiproc::Decoder<'_>) -> multiproc::Result<Bomb> {
        panic!("decoded")
    }
}

#[test]
fn a_panic_in_drop_or_decode_is_a_panic_like_others() {
    alone(|| {
        for method in all_start_methods() {
            let dropped = Process::new(|| drop(Bomb), ()).start_method(method).start().unwrap();
            assert!(
                matches!(dropped.join(), Err(Error::Panicked { message, .. }) if message == "dropped")
            );
            let result = Process::new(|| Bomb, ()).start_method(method).start().unwrap();
            assert!(
                matches!(result.join(), Err(Error::Panicked { message, .. }) if message == "dropped")
            );
        }
        let forked = Process::fork(|| Bomb).unwrap();
        assert!(
            matches!(forked.join(), Err(Error::Panicked { message, .. }) if message == "dropped")
        );
    });
}

#[test]
fn a_value_that_panics_when_it_is_dropped_in_the_middle_of_a_panic_aborts_that_child_alone() {
    alone(|| {
        for method in all_start_methods() {
            let process = Process::new(
                || {
                    let _bomb = Bomb;
                    panic!("first")
                },
                (),
            );
            let process: Process<()> = process.start_method(method);
            assert!(matches!(process.start().unwrap().join(), Err(Error::Killed { signal: 6 })));
        }
    });
}

#[test]
fn a_forked_closure_captures_what_it_likes() {
    alone(|| {
        let text = String::from("captured");
        let child = Process::fork(|| text.len()).unwrap();
        assert_eq!(child.join().unwrap(), 8);
        let moved = Process::fork(move || text).unwrap();
        assert_eq!(moved.join().unwrap(), "captured");
        let panicked: Child<()> = Process::fork(|| panic!("in a fork")).unwrap();
        assert!(
            matches!(panicked.join(), Err(Error::Panicked { message, .. }) if message == "in a fork")
        );
    });
}

#[test]
fn exit_gives_its_code_under_every_method() {
    alone(|| {
        for method in all_start_methods() {
            for code in [0, 1, 7, 255, 256 + 9] {
                let process: Process<()> = Process::new(|code| multiproc::exit(code), (code,));
                let child = process.start_method(method).start().unwrap();
                assert_eq!(child.wait().unwrap(), ExitStatus::Exited(code & 255), "{method}");
                match child.join() {
                    Err(Error::Exited { code: told }) => assert_eq!(told, code & 255),
                    other => panic!("{method}: {other:?}"),
                }
            }
            let std: Process<()> = Process::new(|| std::process::exit(4), ());
            if method == StartMethod::Spawn {
                assert_eq!(
                    std.start_method(method).start().unwrap().wait().unwrap().code(),
                    Some(4)
                );
            }
        }
    });
}

#[test]
fn what_is_returned_is_the_exit_code_as_it_is_from_main() {
    alone(|| {
        fn fails(with: Option<String>) -> Result<u8, String> {
            with.map_or(Ok(7), Err)
        }
        for method in all_start_methods() {
            let start = |with: Option<&str>| {
                let process = Process::new(fails, (with.map(str::to_string),));
                process.start_method(method).start().unwrap()
            };
            let (good, bad) = (start(None), start(Some("reason")));
            assert_eq!(
                (good.wait().unwrap().code(), bad.wait().unwrap().code()),
                (Some(0), Some(1))
            );
            assert_eq!(good.join().unwrap(), Ok(7));
            assert_eq!(bad.join().unwrap(), Err("reason".to_string()));
            let code = |code: u8| ExitCode::from(code);
            for number in [0, 1, 200] {
                let child = Process::new(code, (number,)).start_method(method).start().unwrap();
                assert_eq!(child.wait().unwrap().code(), Some(number.into()), "{method}");
                assert_eq!(child.join().unwrap(), ExitCode::from(number));
            }
        }
        let forked = Process::fork(|| fails(Some("f".into()))).unwrap();
        assert_eq!(forked.exit_code().or(Some(forked.wait().unwrap().to_number())), Some(1));
    });
}

#[test]
fn every_signal_is_told_by_its_number() {
    alone(|| {
        // Where the tests run in the background of a script, it is ignored.
        support::os::by_default(2);
        for method in all_start_methods() {
            let start = || Process::new(sleep, ()).start_method(method).start().unwrap();
            type Send = fn(&Child<()>) -> multiproc::Result<()>;
            let cases: [(Send, i32); 4] = [
                (|child| child.terminate(), 15),
                (|child| child.kill(), 9),
                (|child| child.interrupt(), 2),
                (|child| child.signal(10), 10),
            ];
            for (send, signal) in cases {
                let child = start();
                assert_eq!((child.exit_code(), child.is_alive()), (None, true));
                assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), None);
                send(&child).unwrap();
                assert_eq!(child.wait().unwrap(), ExitStatus::Killed(signal), "{method}");
                assert_eq!((child.exit_code(), child.is_alive()), (Some(-signal), false));
                send(&child).unwrap();
                assert!(
                    matches!(child.join(), Err(Error::Killed { signal: told }) if told == signal)
                );
            }
            let child = start();
            assert_eq!(child.signal(1000).unwrap_err().raw_os_error(), Some(22));
            child.kill().unwrap();
        }
    });
}

#[test]
fn children_terminated_right_after_their_start_all_die_of_it() {
    alone(|| {
        for (method, count) in all_start_methods().into_iter().zip([20, 100, 100]) {
            let children: Vec<_> = (0..count)
                .map(|_| {
                    let child = Process::new(sleep, ()).start_method(method).start().unwrap();
                    child.terminate().unwrap();
                    child
                })
                .collect();
            for child in children {
                assert_eq!(child.wait().unwrap(), ExitStatus::Killed(15), "{method}");
            }
        }
    });
}

#[test]
fn a_wait_takes_its_time_and_no_more_is_promised() {
    alone(|| {
        for method in all_start_methods() {
            let child = Process::new(sleep, ()).start_method(method).start().unwrap();
            let before = Instant::now();
            assert_eq!(child.wait_timeout(Duration::from_millis(30)).unwrap(), None);
            assert!(before.elapsed() >= Duration::from_millis(30));
            assert_eq!(child.try_wait().unwrap(), None);
            child.kill().unwrap();
            assert_eq!(child.wait_timeout(Duration::MAX).unwrap(), Some(ExitStatus::Killed(9)));
        }
    });
}

#[test]
fn threads_that_wait_for_one_child_all_hear_of_its_end() {
    alone(|| {
        for method in [StartMethod::Spawn, StartMethod::ForkServer] {
            let (mut ours, theirs) = pipe();
            let read = |file: OwnedFd| File::from(file).read(&mut [0]).unwrap() as u32;
            let process = Process::new(read, (OwnedFd::from(theirs),)).start_method(method);
            let child = process.start().unwrap();
            std::thread::scope(|scope| {
                let waits: Vec<_> = (0..8)
                    .map(|n| {
                        let child = &child;
                        scope.spawn(move || match n % 2 {
                            0 => child.wait().unwrap(),
                            _ => loop {
                                if let Some(status) = child.try_wait().unwrap() {
                                    break status;
                                }
                                std::thread::yield_now();
                            },
                        })
                    })
                    .collect();
                ours.write_all(b"x").unwrap();
                waits.into_iter().for_each(|wait| {
                    assert_eq!(wait.join().unwrap(), ExitStatus::Exited(0), "{method}");
                });
            });
            assert_eq!(child.join().unwrap(), 1);
        }
    });
}

#[test]
fn a_child_is_a_descriptor_that_is_readable_when_it_has_ended() {
    alone(|| {
        for method in all_start_methods() {
            let child = Process::new(sleep, ()).start_method(method).start().unwrap();
            let mut poll = support::os::Poll::of(child.as_fd());
            assert!(!poll.is_readable(0));
            child.kill().unwrap();
            assert!(poll.is_readable(-1));
        }
    });
}

#[test]
fn handles_among_the_arguments_are_the_same_objects_in_the_child() {
    alone(|| {
        for method in all_start_methods() {
            let shared = Shared::new([AtomicU32::new(1), AtomicU32::new(2)]).unwrap();
            let (mut reader, writer) = pipe();
            let work = |shared: Shared<[AtomicU32; 2]>, writer: OwnedFd| {
                shared[1].fetch_add(1, Ordering::Relaxed);
                File::from(writer).write_all(b"hello").unwrap();
            };
            let process = Process::new(work, (shared.clone(), OwnedFd::from(writer)));
            process.start_method(method).start().unwrap().join().unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello", "{method}");
            assert_eq!(shared[1].load(Ordering::Relaxed), 3);
        }
    });
}

#[test]
fn handles_come_back_in_results() {
    alone(|| {
        for method in all_start_methods() {
            let make = || -> Vec<OwnedFd> {
                (0..300).map(|_| OwnedFd::from(File::open("/dev/zero").unwrap())).collect()
            };
            let back = Process::new(make, ()).start_method(method).start().unwrap().join().unwrap();
            assert_eq!(back.len(), 300, "{method}");
            let mut byte = [1];
            File::from(back.into_iter().last().unwrap()).read_exact(&mut byte).unwrap();
            assert_eq!(byte, [0]);
        }
    });
}

#[test]
fn what_is_printed_for_people_tells_name_state_and_kind() {
    alone(|| {
        let child = Process::new(sleep, ()).name("sleeper").daemon(true).start().unwrap();
        let (pid, me) = (child.pid(), std::process::id());
        let text = format!("{child:?}");
        assert_eq!(text, format!("<Process name='sleeper' pid={pid} parent={me} started daemon>"));
        child.kill().unwrap();
        child.wait().unwrap();
        let text = format!("{child:?}");
        let end = "stopped exitcode=-SIGKILL daemon>";
        assert_eq!(text, format!("<Process name='sleeper' pid={pid} parent={me} {end}"));
        assert!(format!("{:?}", current_process()).contains("started"));
    });
}

#[test]
fn stdin_of_a_child_is_at_its_end() {
    alone(|| {
        for method in all_start_methods() {
            let read = || std::io::stdin().read(&mut [0; 10]).unwrap() as u32;
            assert_eq!(
                Process::new(read, ()).start_method(method).start().unwrap().join().unwrap(),
                0
            );
        }
    });
}

#[test]
fn a_child_of_a_program_without_stdout_and_stderr_runs_and_exits_well() {
    alone(|| {
        let pipes = all_start_methods().map(|_| pipe());
        for fd in [1, 2] {
            support::os::close(fd);
        }
        for (method, (ours, theirs)) in all_start_methods().into_iter().zip(pipes) {
            let talk = |input: OwnedFd| {
                println!("into nowhere");
                eprintln!("into nowhere");
                File::from(input).read(&mut [0]).unwrap() as u32
            };
            (&ours).write_all(b"x").unwrap();
            let process = Process::new(talk, (OwnedFd::from(theirs),)).start_method(method);
            assert_eq!(process.start().unwrap().join().unwrap(), 1, "{method}");
            let mut nothing = Vec::new();
            (&ours).read_to_end(&mut nothing).unwrap();
            assert_eq!(nothing, b"", "{method}");
        }
    });
}

#[test]
fn a_child_of_a_program_that_has_closed_its_streams_has_streams_all_the_same() {
    alone(|| {
        let look = || {
            let stdin = std::fs::read_link("/proc/self/fd/0").unwrap();
            (stdin, std::io::stdin().read(&mut [0]).unwrap() as u32)
        };
        let echo = || {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).unwrap();
            println!("{text}");
            eprintln!("err {text}");
        };
        for fd in [0, 1, 2] {
            support::os::close(fd);
            // The second of each has siblings, whose descriptors may have such numbers.
            for method in all_start_methods().into_iter().chain(all_start_methods()) {
                let process = Process::new(sleep, ()).start_method(method);
                drop(process.daemon(true).start().unwrap());
                let child = Process::new(look, ()).start_method(method).start().unwrap();
                assert_eq!(child.join().unwrap(), ("/dev/null".into(), 0), "{method}");
                let process = Process::new(echo, ()).start_method(method).stdin(Stdio::Piped);
                let process = process.stdout(Stdio::Piped).stderr(Stdio::Piped);
                let mut child = process.start().unwrap();
                child.stdin.take().unwrap().write_all(b"text").unwrap();
                let (mut out, mut err) = (String::new(), String::new());
                child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
                child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
                assert_eq!((&*out, &*err), ("text\n", "err text\n"), "{method}");
                child.join().unwrap();
            }
        }
    });
}

#[test]
fn a_child_that_breaks_its_own_stdout_exits_well() {
    alone(|| {
        for method in all_start_methods() {
            let work = || {
                let (reader, writer) = pipe();
                drop(reader);
                support::os::replace(1, writer.as_fd());
                print!("into nowhere");
                7u32
            };
            let child = Process::new(work, ()).start_method(method).start().unwrap();
            assert_eq!(child.wait().unwrap(), ExitStatus::Exited(0), "{method}");
            assert_eq!(child.join().unwrap(), 7, "{method}");
        }
    });
}

#[test]
fn a_panic_is_told_although_stderr_is_broken() {
    alone(|| {
        for method in all_start_methods() {
            let child = Process::new(
                || {
                    let (reader, writer) = pipe();
                    drop(reader);
                    support::os::replace(2, writer.as_fd());
                    panic!("unheard")
                },
                (),
            );
            let child: Process<()> = child.start_method(method);
            let error = child.start().unwrap().join();
            assert!(
                matches!(&error, Err(Error::Panicked { message, .. }) if message == "unheard"),
                "{error:?}"
            );
        }
    });
}

#[test]
fn the_handle_of_a_child_is_refused_in_a_fork() {
    alone(|| {
        for method in all_start_methods() {
            let child = Process::new(sleep, ()).start_method(method).start().unwrap();
            let refused = Process::fork(|| {
                let refused = [child.wait().map(drop), child.kill(), child.try_wait().map(drop)];
                let all = refused.iter().all(|answer| matches!(answer, Err(Error::ForeignProcess)));
                assert!(format!("{child:?}").contains("unknown"));
                all && !child.is_alive()
            });
            assert!(refused.unwrap().join().unwrap(), "{method}");
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap(), ExitStatus::Killed(9));
        }
    });
}

#[test]
fn a_thousand_children_at_once_by_spawn() {
    alone(|| many(StartMethod::Spawn, 1000));
}

#[test]
fn a_thousand_children_at_once_by_forkserver() {
    alone(|| many(StartMethod::ForkServer, 1000));
}

#[test]
fn a_thousand_children_at_once_by_fork() {
    alone(|| many(StartMethod::Fork, 1000));
}

/// Starts `count` children that all live at the same time, and joins them.
fn many(method: StartMethod, count: u32) {
    let (reader, writer) = pipe();
    let work = |n: u32, gate: OwnedFd| {
        assert_eq!(File::from(gate).read(&mut [0]).unwrap(), 0);
        n * 2
    };
    let start = |n| {
        let gate = reader.as_fd().try_clone_to_owned().unwrap();
        Process::new(work, (n, gate)).start_method(method).start().unwrap()
    };
    let children: Vec<_> = (0..count).map(start).collect();
    assert_eq!(multiproc::active_children().len() as u32, count);
    if method == StartMethod::Fork {
        // Its copies of the other end went with the children.
        use std::os::fd::AsRawFd;
        drop(reader);
        support::os::shut_down(writer.as_raw_fd());
    }
    drop(writer);
    for (n, child) in (0..).zip(children) {
        assert_eq!(child.join().unwrap(), n * 2);
    }
    assert!(multiproc::active_children().is_empty());
}
