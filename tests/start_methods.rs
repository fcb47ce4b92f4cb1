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
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use support::{os, pipe, sleep};

multiproc::init_before_main!();

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

/// How many siblings of each method, and with and without a lifeline.
const SIBLINGS: usize = 5;

fn start_siblings() {
    for sibling in all_start_methods() {
        for n in 0..2 * SIBLINGS {
            let process = Process::new(sleep, ()).start_method(sibling).daemon(n % 2 == 0);
            let process = process.stdin(multiproc::Stdio::Piped);
            drop(process.start().unwrap());
        }
    }
}

fn end_siblings() {
    multiproc::active_children().iter().for_each(|child| child.kill().unwrap());
}

#[test]
fn spawned_and_served_children_have_the_descriptors_they_were_given_and_no_others() {
    alone(|| {
        // Neither siblings nor what the program leaves open for exec may show.
        let (stray, _other) = pipe();
        let high = 100;
        os::replace(high, stray.as_fd());
        start_siblings();
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
        end_siblings();
    });
}

#[test]
fn a_forked_child_has_its_parents_descriptors_but_nothing_of_its_siblings() {
    alone(|| {
        let (stray, _other) = pipe();
        let stray = stray.as_raw_fd();
        let before = descriptors();
        start_siblings();
        for daemon in [false, true] {
            let child = Process::new(descriptors, ()).start_method(StartMethod::Fork);
            let seen = child.daemon(daemon).start().unwrap().join().unwrap();
            assert_eq!(seen.get(&stray), before.get(&stray));
            // Own: a control socket instead of this process's, and a lifeline. Of the siblings, whose
            // handles are gone, and of the forkserver there is no socket, no pidfd and no pipe.
            assert_eq!(seen.len(), before.len() + usize::from(daemon), "{seen:?} {before:?}");
        }
        end_siblings();
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

#[test]
fn a_start_leaves_the_callers_signal_mask_as_it_was() {
    fn blocked() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|line| line.starts_with("SigBlk:")).unwrap().to_string()
    }
    alone(|| {
        os::block(10);
        let before = blocked();
        for method in all_start_methods() {
            let child = Process::new(blocked, ()).start_method(method).start().unwrap();
            assert_eq!(blocked(), before, "{method}");
            assert_eq!(child.join().unwrap(), before, "{method}");
            // One that is refused does too.
            let usual = os::limit_open_files(3);
            let refused = Process::new(|| (), ()).start_method(method).start();
            os::limit_open_files(usual);
            assert!(refused.is_err());
            assert_eq!(blocked(), before, "{method}");
        }
    });
}

#[test]
fn a_broken_pipe_is_an_error_in_a_child_or_kills_it_as_its_parent() {
    fn write() -> bool {
        let (reader, mut writer) = pipe();
        drop(reader);
        writer.write_all(b"x").unwrap_err().kind() == std::io::ErrorKind::BrokenPipe
    }
    alone(|| {
        let start = |method| Process::new(write, ()).start_method(method).start().unwrap();
        // The forkserver is started meanwhile, and has nothing to do with it.
        for kills in [false, true, false] {
            if kills {
                os::by_default(13)
            } else {
                os::ignore(13)
            }
            for method in all_start_methods() {
                match start(method).join() {
                    Ok(true) => assert!(!kills, "{method}"),
                    Err(Error::Killed { signal: 13 }) => assert!(kills, "{method}"),
                    other => panic!("{method}: {other:?}"),
                }
            }
        }
        // A handler of the parent's is not the child's; its program does not die of it either.
        let _flag = os::SignalFlag::catch(13);
        for method in all_start_methods() {
            assert!(start(method).join().unwrap(), "{method}");
        }
    });
}

#[test]
fn a_child_begins_in_a_thread_of_its_own() {
    fn ids() -> (u32, String) {
        let thread = std::fs::read_link("/proc/thread-self").unwrap();
        (std::process::id(), thread.file_name().unwrap().to_str().unwrap().to_string())
    }
    alone(|| {
        for method in all_start_methods() {
            let (pid, thread) =
                Process::new(ids, ()).start_method(method).start().unwrap().join().unwrap();
            assert_eq!(thread, pid.to_string(), "{method}");
            assert_ne!(thread, ids().1, "{method}");
        }
    });
}

#[test]
fn what_a_forked_closure_captured_is_the_childs_and_let_go_by_the_parent() {
    alone(|| {
        let text = std::sync::Arc::new(String::from("captured"));
        let copy = text.clone();
        let child = Process::fork(move || copy.len()).unwrap();
        assert_eq!(std::sync::Arc::strong_count(&text), 1);
        assert_eq!(child.join().unwrap(), 8);
    });
}

#[test]
fn hooks_do_not_multiply_over_five_generations() {
    fn generation(left: u32) -> Vec<u32> {
        let mut seen = vec![HOOKS.load(Ordering::Relaxed)];
        if left > 0 {
            seen.extend(Process::fork(|| generation(left - 1)).unwrap().join().unwrap());
        }
        seen
    }
    alone(|| {
        multiproc::at_fork_child(|| {
            HOOKS.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(generation(5), [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_child_hands_on_the_queue_it_was_given_and_has_a_pool_of_its_own() {
    fn nest(depth: u32, by: u32, queue: multiproc::Queue<u32>) {
        let method = all_start_methods()[by as usize];
        if depth > 0 {
            let process = Process::new(nest, (depth - 1, by, queue.clone()));
            process.start_method(method).start().unwrap().join().unwrap();
        }
        if depth == 1 {
            let pool = Context::new(method).pool().processes(1).build().unwrap();
            assert_eq!(pool.map(|n: u32| n * n, 1..4).unwrap(), [1, 4, 9]);
        }
        queue.put(&depth).unwrap();
    }
    alone(|| {
        for by in 0..3 {
            let queue = multiproc::Queue::new().unwrap();
            nest(2, by, queue.clone());
            let seen = [(); 3].map(|()| queue.get().unwrap());
            assert_eq!(seen, [0, 1, 2]);
        }
    });
}
