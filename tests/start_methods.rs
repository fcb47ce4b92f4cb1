//! What a start method promises beside running the function.

#[path = "support/alone.rs"]
mod alone;
mod support;

use alone::alone;
use multiproc::{Child, Context, Error, ExitStatus, Process, StartMethod, all_start_methods};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use support::os;

multiproc::init_before_main!();

fn sleep() {
    loop {
        std::thread::park();
    }
}

fn pipe() -> (File, File) {
    let (a, b) = UnixStream::pair().unwrap();
    (OwnedFd::from(a).into(), OwnedFd::from(b).into())
}

/// The descriptors of this process, and what they name.
fn descriptors() -> BTreeMap<i32, String> {
    let folder = std::fs::read_dir("/proc/self/fd").unwrap();
    let all = folder.map(|entry| {
        let path = entry.unwrap().path();
        let number: i32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        (number, std::fs::read_link(&path).unwrap_or_default().display().to_string())
    });
    let own = format!("/proc/{}/fd", std::process::id());
    all.filter(|(_, target)| *target != own).collect()
}

#[test]
#[allow(unsafe_code)]
fn a_process_with_other_threads_is_not_forked() {
    alone(|| {
        std::thread::scope(|scope| {
            let (stop, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || wait.recv());
            let by_method = Process::new(|| (), ()).start_method(StartMethod::Fork).start();
            assert!(matches!(by_method, Err(Error::ThreadsRunning)));
            assert!(matches!(Process::fork(|| ()), Err(Error::ThreadsRunning)));
            // SAFETY: the other thread sleeps in a channel, and the child does not use that.
            let unchecked = unsafe { Process::fork_unchecked(|| 7) };
            assert_eq!(unchecked.unwrap().join().unwrap(), 7);
            drop(stop);
        });
        // A thread that has been joined is no hindrance, though the kernel may not be done with it.
        for n in 0..100 {
            std::thread::spawn(|| ()).join().unwrap();
            assert_eq!(Process::fork(|| n).unwrap().join().unwrap(), n);
        }
    });
}

#[test]
fn a_method_is_chosen_once_and_is_the_childrens_too() {
    alone(|| {
        assert_eq!(multiproc::start_method(), StartMethod::Spawn);
        multiproc::set_start_method(StartMethod::ForkServer).unwrap();
        multiproc::set_start_method(StartMethod::ForkServer).unwrap();
        let refused = multiproc::set_start_method(StartMethod::Fork);
        assert!(matches!(refused, Err(Error::InvalidArgument { .. })));
        for method in all_start_methods() {
            let name = || multiproc::start_method().name().to_string();
            let child = Process::new(name, ()).start_method(method).start().unwrap();
            assert_eq!(child.join().unwrap(), "forkserver", "{method}");
        }
    });
}

#[test]
fn a_context_starts_by_its_own_method_whatever_the_program_chose() {
    alone(|| {
        multiproc::set_start_method(StartMethod::Fork).unwrap();
        assert_eq!(Context::default(), Context::from(StartMethod::Fork));
        let me = std::process::id();
        let parent = std::os::unix::process::parent_id;
        for method in all_start_methods() {
            let context = Context::new(method);
            assert_eq!(context.start_method(), method);
            let theirs = context.process(parent, ()).start().unwrap().join().unwrap();
            assert_eq!(theirs == me, method != StartMethod::ForkServer, "{method}");
        }
        // What one context made goes to the processes of another.
        let shared = multiproc::Shared::new(AtomicU32::new(0)).unwrap();
        let add = |shared: multiproc::Shared<AtomicU32>| shared.fetch_add(1, Ordering::Relaxed);
        for (n, method) in (0..).zip(all_start_methods()) {
            let child = Context::new(method).process(add, (shared.clone(),)).start().unwrap();
            assert_eq!(child.join().unwrap(), n);
        }
    });
}

#[test]
fn spawned_and_served_children_have_the_descriptors_they_were_given_and_no_others() {
    alone(|| {
        // Neither siblings nor what the program leaves open for exec may show.
        let (stray, _other) = pipe();
        let high = 100;
        os::replace(high, stray.as_fd());
        for sibling in all_start_methods() {
            Process::new(sleep, ()).start_method(sibling).daemon(true).start().unwrap();
        }
        for method in [StartMethod::Spawn, StartMethod::ForkServer] {
            for daemon in [false, true] {
                let look = |_given: OwnedFd| descriptors();
                let given = OwnedFd::from(File::open("/dev/zero").unwrap());
                let child = Process::new(look, (given,)).start_method(method).daemon(daemon);
                let mut seen = child.start().unwrap().join().unwrap();
                assert_eq!(seen.remove(&0).as_deref(), Some("/dev/null"));
                assert!(seen.remove(&1).is_some() && seen.remove(&2).is_some());
                let (sockets, others): (Vec<_>, Vec<_>) =
                    seen.into_values().partition(|target| target.starts_with("socket:"));
                // The control socket, and a daemon's lifeline.
                assert_eq!(sockets.len(), 1 + usize::from(daemon), "{method} {sockets:?}");
                assert_eq!(others, ["/dev/zero"], "{method}");
            }
        }
        os::close(high);
    });
}

#[test]
fn a_forked_child_has_its_parents_descriptors_and_a_socket_of_its_own() {
    alone(|| {
        let (stray, _other) = pipe();
        let stray = stray.as_raw_fd();
        Process::new(sleep, ()).daemon(true).start().unwrap();
        for daemon in [false, true] {
            let before = descriptors();
            let child = Process::new(descriptors, ()).start_method(StartMethod::Fork);
            let seen = child.daemon(daemon).start().unwrap().join().unwrap();
            assert_eq!(seen.get(&stray), before.get(&stray));
            let sockets = |all: &BTreeMap<i32, String>| {
                all.values().filter(|target| target.starts_with("socket:")).count()
            };
            // Own: a control socket and a lifeline. Gone: this process's control socket, and its ends
            // of the sibling's control socket and lifeline.
            assert_eq!(sockets(&seen) + 3, sockets(&before) + 1 + usize::from(daemon));
        }
    });
}

#[test]
fn starts_leave_no_descriptor_behind() {
    alone(|| {
        for method in all_start_methods() {
            let start = |daemon| {
                let child = Process::new(|| 1, ()).start_method(method).daemon(daemon);
                assert_eq!(child.start().unwrap().join().unwrap(), 1);
            };
            start(false);
            let before = descriptors();
            (0..10).for_each(|n| start(n % 2 == 0));
            let held = Process::new(|| 1, ()).start_method(method).daemon(true).start().unwrap();
            held.wait().unwrap();
            // A handle whose child was reaped keeps its pidfd, and nothing else.
            assert_eq!(descriptors().len(), before.len() + 1, "{method}");
            drop(held);
            assert_eq!(descriptors(), before, "{method}");
        }
    });
}

#[test]
fn a_daemon_dies_with_its_killed_parent_whatever_the_parent_forked_meanwhile() {
    alone(|| {
        for method in all_start_methods() {
            for round in 0..3 {
                let (reader, writer) = pipe();
                let family = |method: u32, gap: u32, end: OwnedFd| {
                    let start = |daemon: bool, method| {
                        let hold = |_end: OwnedFd| sleep();
                        let copy = end.as_fd().try_clone_to_owned().unwrap();
                        Process::new(hold, (copy,))
                            .daemon(daemon)
                            .start_method(method)
                            .start()
                            .unwrap()
                    };
                    start(true, all_start_methods()[method as usize]);
                    start(true, all_start_methods()[method as usize]);
                    // These live on, as children that are no daemons do, and hold nothing of the others'.
                    let mut orphans = Vec::new();
                    for _ in 0..gap {
                        orphans.push(
                            Process::new(sleep, ())
                                .start_method(StartMethod::Fork)
                                .start()
                                .unwrap()
                                .pid(),
                        );
                        orphans.push(
                            Process::new(sleep, ())
                                .start_method(StartMethod::ForkServer)
                                .start()
                                .unwrap()
                                .pid(),
                        );
                    }
                    let mut told = File::from(end);
                    orphans.iter().for_each(|pid| told.write_all(&pid.to_le_bytes()).unwrap());
                    told.write_all(&[0; 4]).unwrap();
                    sleep();
                };
                let index = all_start_methods().iter().position(|&m| m == method).unwrap() as u32;
                let child =
                    Process::new(family, (index, round, OwnedFd::from(writer))).start().unwrap();
                let mut orphans = Vec::new();
                let mut word = [0; 4];
                let mut reader = reader;
                loop {
                    reader.read_exact(&mut word).unwrap();
                    match u32::from_le_bytes(word) {
                        0 => break,
                        pid => orphans.push(os::Orphan::of(pid as i32)),
                    }
                }
                child.kill().unwrap();
                // The forked orphans have copies of the writer: end those first, then its end is that
                // of the daemons.
                assert_eq!(child.wait().unwrap(), ExitStatus::Killed(9));
                orphans.into_iter().for_each(os::Orphan::kill);
                assert_eq!(reader.read(&mut word).unwrap(), 0, "{method}");
            }
        }
    });
}

#[test]
fn a_daemon_dies_with_its_killed_parent_while_forked_siblings_live() {
    alone(|| {
        for method in all_start_methods() {
            let (mut pids, writer) = pipe();
            let family = |method: u32, end: OwnedFd| {
                let method = all_start_methods()[method as usize];
                let daemon =
                    Process::new(sleep, ()).daemon(true).start_method(method).start().unwrap();
                let sibling =
                    Process::new(sleep, ()).start_method(StartMethod::Fork).start().unwrap();
                let late =
                    Process::new(sleep, ()).daemon(true).start_method(method).start().unwrap();
                for pid in [daemon.pid(), late.pid(), sibling.pid()] {
                    (&File::from(end.try_clone().unwrap())).write_all(&pid.to_le_bytes()).unwrap();
                }
                sleep();
            };
            let index = all_start_methods().iter().position(|&m| m == method).unwrap() as u32;
            let child = Process::new(family, (index, OwnedFd::from(writer))).start().unwrap();
            let mut next = || {
                let mut word = [0; 4];
                pids.read_exact(&mut word).unwrap();
                os::Orphan::of(i32::from_le_bytes(word))
            };
            let (mut daemon, mut late, mut sibling) = (next(), next(), next());
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(daemon.ends() && late.ends(), "{method}");
            assert!(!sibling.has_ended(), "a child that is no daemon outlives its parent");
            sibling.kill();
        }
    });
}

#[test]
fn a_stopped_daemon_that_blocks_every_signal_dies_with_its_parent() {
    alone(|| {
        let (mut pids, writer) = pipe();
        let family = |end: OwnedFd| {
            let block = || {
                os::block_all_signals();
                sleep()
            };
            let daemon = Process::new(block, ()).daemon(true).start().unwrap();
            File::from(end).write_all(&daemon.pid().to_le_bytes()).unwrap();
            sleep();
        };
        let child = Process::new(family, (OwnedFd::from(writer),)).start().unwrap();
        let mut word = [0; 4];
        pids.read_exact(&mut word).unwrap();
        let mut daemon = os::Orphan::of(i32::from_le_bytes(word));
        daemon.stop();
        child.kill().unwrap();
        assert!(daemon.ends());
    });
}

static HOOKS: AtomicU32 = AtomicU32::new(0);

#[test]
fn hooks_run_in_every_forked_child_and_in_its_forked_children_in_order() {
    alone(|| {
        multiproc::at_fork_child(|| {
            HOOKS.store(HOOKS.load(Ordering::Relaxed) * 10 + 1, Ordering::Relaxed)
        });
        multiproc::at_fork_child(|| panic!("a hook that fails"));
        multiproc::at_fork_child(|| {
            HOOKS.store(HOOKS.load(Ordering::Relaxed) * 10 + 2, Ordering::Relaxed)
        });
        let told = || HOOKS.load(Ordering::Relaxed);
        assert_eq!(Process::fork(told).unwrap().join().unwrap(), 12);
        let nested = Process::fork(|| Process::fork(told).unwrap().join().unwrap());
        assert_eq!(nested.unwrap().join().unwrap(), 1212);
        assert_eq!(Process::new(told, ()).start().unwrap().join().unwrap(), 0);
        assert_eq!(told(), 0);
    });
}

#[test]
fn the_preload_function_runs_once_in_the_server_and_its_work_is_every_childs() {
    alone(|| {
        multiproc::set_forkserver_preload(|| {
            HOOKS.fetch_add(std::process::id(), Ordering::Relaxed);
            multiproc::at_fork_child(|| {
                HOOKS.fetch_add(1, Ordering::Relaxed);
            });
            print!("preloaded");
        })
        .unwrap();
        let told = || HOOKS.load(Ordering::Relaxed);
        let start =
            || Process::new(told, ()).start_method(StartMethod::ForkServer).start().unwrap();
        let first = start().join().unwrap();
        assert_ne!(first, 0);
        assert_eq!(start().join().unwrap(), first);
    });
}

static PRELOADED: OnceLock<multiproc::Lock> = OnceLock::new();

#[test]
fn what_a_preload_function_prints_comes_once_and_a_lock_it_makes_is_one_for_all() {
    alone(|| {
        let work = || {
            multiproc::set_forkserver_preload(|| {
                PRELOADED.get_or_init(|| multiproc::Lock::new().unwrap());
                print!("preloaded ");
            })
            .unwrap();
            for _ in 0..3 {
                let add = || {
                    drop(PRELOADED.get().unwrap().acquire().unwrap());
                    print!("child ");
                };
                let process = Process::new(add, ()).start_method(StartMethod::ForkServer);
                process.start().unwrap().join().unwrap();
            }
        };
        let process = Process::new(work, ()).stdout(multiproc::Stdio::Piped);
        let mut child = process.start().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        child.join().unwrap();
        assert_eq!(text, "preloaded child child child ");
    });
}

#[test]
fn a_preload_function_that_panics_or_leaves_threads_is_an_error_of_every_start() {
    alone(|| {
        multiproc::set_forkserver_preload(|| panic!("no luck")).unwrap();
        let start = || Process::new(|| (), ()).start_method(StartMethod::ForkServer).start();
        for _ in 0..2 {
            match start() {
                Err(Error::Panicked { message, .. }) => assert_eq!(message, "no luck"),
                other => panic!("{other:?}"),
            }
        }
        multiproc::set_forkserver_preload(|| drop(std::thread::spawn(sleep))).unwrap();
        let refused = start();
        assert!(matches!(refused, Err(Error::ThreadsRunning)), "{refused:?}");
    });
}

/// The forkserver's pid: the parent of its children.
fn server() -> i32 {
    let parent = std::os::unix::process::parent_id;
    let child = Process::new(parent, ()).start_method(StartMethod::ForkServer).start().unwrap();
    child.join().unwrap() as i32
}

#[test]
fn a_killed_forkserver_is_started_again_and_its_children_tell_for_themselves() {
    alone(|| {
        let start = |code: u32| {
            let work = |code: u32, gate: OwnedFd| {
                let _ = File::from(gate).read(&mut [0]);
                if code > 0 { multiproc::exit(code as i32) } else { "done".to_string() }
            };
            let (ours, theirs) = pipe();
            let process = Process::new(work, (code, OwnedFd::from(theirs)));
            (process.start_method(StartMethod::ForkServer).start().unwrap(), ours)
        };
        let first = server();
        let (returns, gate) = start(0);
        let (exits, gates) = (start(3), start(5));
        os::signal(first, 9);
        let second = server();
        assert_ne!(first, second);
        drop((gate, exits.1, gates.1));
        // The result is the child's own word, and so is the code that goes with it.
        assert_eq!(returns.wait().unwrap(), ExitStatus::Exited(0));
        assert_eq!(returns.join().unwrap(), "done");
        // Of the others nobody may know: Python's code for that, or the truth where the kernel tells.
        for (child, code) in [(exits.0, 3), (gates.0, 5)] {
            assert!([code, 255].contains(&child.wait().unwrap().to_number()));
        }
    });
}

#[test]
fn a_forkserver_killed_at_any_moment_of_a_start_has_the_work_done_once() {
    alone(|| {
        let count = multiproc::Shared::new(AtomicU32::new(0)).unwrap();
        let mut done = 0;
        for round in 0..60u32 {
            let pid = server();
            let killer = std::thread::spawn(move || {
                let wait = std::time::Instant::now();
                while wait.elapsed() < Duration::from_micros(u64::from(round * 10)) {}
                os::signal(pid, 9);
            });
            let work = |count: multiproc::Shared<AtomicU32>| count.fetch_add(1, Ordering::Relaxed);
            let process =
                Process::new(work, (count.clone(),)).start_method(StartMethod::ForkServer);
            assert_eq!(process.start().unwrap().join().unwrap(), done);
            done += 1;
            killer.join().unwrap();
            assert_eq!(count.load(Ordering::Relaxed), done, "round {round}");
        }
    });
}

#[test]
fn a_forkserver_does_not_mind_what_is_sent_to_its_group() {
    alone(|| {
        let pid = server();
        os::signal(pid, 2);
        os::signal(pid, 15);
        assert_eq!(server(), pid);
        // Its children are not so: they do on a signal what their parent does.
        let child = Process::new(sleep, ()).start_method(StartMethod::ForkServer).start().unwrap();
        child.interrupt().unwrap();
        assert_eq!(child.wait().unwrap(), ExitStatus::Killed(2));
    });
}

#[test]
fn a_forkserver_leaves_with_its_process_and_at_once() {
    alone(|| {
        let (mut reader, writer) = pipe();
        let user = |end: OwnedFd| {
            let hold = |_end: OwnedFd| ();
            let child = Process::new(hold, (end,)).start_method(StartMethod::ForkServer);
            child.start().unwrap().join().unwrap();
            server()
        };
        let before = std::time::Instant::now();
        let child = Process::new(user, (OwnedFd::from(writer),)).start().unwrap();
        let mut pid = os::Orphan::of(child.join().unwrap());
        assert!(pid.ends());
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        // Well below the grace of those that do not leave by themselves.
        assert!(before.elapsed() < Duration::from_secs(30));
    });
}

#[test]
fn a_served_child_works_where_its_parent_works_now() {
    alone(|| {
        server();
        let place = std::env::temp_dir().canonicalize().unwrap();
        std::env::set_current_dir(&place).unwrap();
        for method in all_start_methods() {
            let here = || std::env::current_dir().unwrap();
            let child = Process::new(here, ()).start_method(method).start().unwrap();
            assert_eq!(child.join().unwrap(), place, "{method}");
        }
    });
}

#[test]
fn a_child_has_its_parents_signal_mask_and_dispositions() {
    alone(|| {
        os::block(10);
        os::ignore(12);
        for method in all_start_methods() {
            let child = Process::new(sleep, ()).start_method(method).start().unwrap();
            child.signal(10).unwrap();
            child.signal(12).unwrap();
            assert_eq!(child.wait_timeout(Duration::from_millis(50)).unwrap(), None, "{method}");
            child.signal(15).unwrap();
            assert_eq!(child.wait().unwrap(), ExitStatus::Killed(15), "{method}");
        }
    });
}

#[test]
fn arguments_environment_and_names_are_as_in_the_parent() {
    alone(|| {
        let args = || std::env::args().collect::<Vec<_>>();
        let vars = || {
            let all = std::env::vars().filter(|(name, _)| name != "MULTIPROC_CHILD");
            all.collect::<BTreeMap<_, _>>()
        };
        // A variable of nearly the library's name is the program's own.
        os::set_variable("MULTIPROC_CHILDREN", "7");
        for method in all_start_methods() {
            let start =
                |process: Process<Vec<String>>| process.start_method(method).start().unwrap();
            assert_eq!(start(Process::new(args, ())).join().unwrap(), args(), "{method}");
            let child = Process::new(vars, ()).start_method(method).start().unwrap();
            assert_eq!(child.join().unwrap(), vars(), "{method}");
            let none = || std::env::var_os("MULTIPROC_CHILD").is_none();
            assert!(Process::new(none, ()).start_method(method).start().unwrap().join().unwrap());
        }
    });
}

#[test]
fn an_idle_sibling_thread_may_start_processes_too() {
    alone(|| {
        std::thread::scope(|scope| {
            for method in [StartMethod::Spawn, StartMethod::ForkServer] {
                for n in 0..4 {
                    scope.spawn(move || {
                        for i in 0..5u32 {
                            let child: Child<u32> = Process::new(|n: u32| n + 1, (n * 10 + i,))
                                .start_method(method)
                                .start()
                                .unwrap();
                            assert_eq!(child.join().unwrap(), n * 10 + i + 1);
                        }
                    });
                }
            }
        });
    });
}

#[test]
#[allow(unsafe_code)]
fn a_fork_among_threads_that_use_the_library_never_inherits_one_of_its_locks() {
    alone(|| {
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for n in 0u64.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        if n < 1000 {
                            multiproc::at_exit(|| (), 0).unwrap();
                        }
                        multiproc::active_children();
                        multiproc::current_process().authkey().unwrap();
                        let parent = multiproc::parent_process().unwrap();
                        assert!(parent.is_alive());
                        print!("");
                    }
                });
            }
            for n in 0..100u32 {
                // SAFETY: the other threads use this library and stdout, and nothing of their own.
                let child = unsafe { Process::fork_unchecked(|| n + 1) };
                assert_eq!(child.unwrap().join().unwrap(), n + 1);
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}
