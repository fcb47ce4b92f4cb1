//! Who is whose child, what it is called, and who goes when somebody goes.

#[path = "support/alone.rs"]
mod alone;
mod support;

use alone::{alone, alone_within};
use multiproc::{
    Context, ExitStatus, Process, Queue, SharedMemory, StartMethod, active_children,
    all_start_methods, current_process, parent_process,
};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use support::{os, pipe, sleep};

multiproc::init_before_main!();

/// A method as it can be an argument.
fn number(method: StartMethod) -> u32 {
    all_start_methods().iter().position(|&known| known == method).unwrap() as u32
}

fn method(number: u32) -> StartMethod {
    all_start_methods()[number as usize]
}

#[test]
fn the_root_is_called_main_process_and_has_no_parent() {
    let me = current_process();
    assert_eq!((me.name(), me.pid(), me.is_daemon()), ("MainProcess", std::process::id(), false));
    assert!(parent_process().is_none());
}

#[test]
fn children_are_numbered_by_level_and_servers_take_no_number() {
    fn name() -> String {
        current_process().name().to_string()
    }
    fn nest(depth: u32, by: u32) -> Vec<String> {
        let mut names = vec![name()];
        if depth > 0 {
            for _ in 0..2 {
                let child = Process::new(nest, (depth - 1, by)).start_method(method(by));
                names.extend(child.start().unwrap().join().unwrap());
            }
        }
        names
    }
    alone(|| {
        let mine = current_process().name().to_string();
        for (n, method) in (0..).zip(all_start_methods()) {
            let names = Process::new(nest, (2, number(method))).start_method(method);
            let names = names.start().unwrap().join().unwrap();
            let top = n + 1;
            let relative = ["", ":1", ":1:1", ":1:2", ":2", ":2:1", ":2:2"];
            let wanted = relative.map(|end| format!("{mine}:{top}{end}"));
            assert_eq!(names, wanted, "{method}");
        }
        let named = Process::new(name, ()).name("given").start().unwrap();
        assert_eq!(named.name(), "given");
        assert_eq!(named.join().unwrap(), "given");
    });
}

#[test]
fn a_child_knows_its_parent_and_what_it_is_itself() {
    alone(|| {
        for method in all_start_methods() {
            let tell = || {
                let parent = parent_process().unwrap();
                assert!(parent.is_alive());
                assert!(!parent.join_timeout(Duration::from_millis(5)).unwrap());
                assert!(format!("{parent:?}").contains("started"));
                (parent.pid(), parent.name().to_string(), current_process().pid())
            };
            let child = Process::new(tell, ()).start_method(method).start().unwrap();
            let (pid, me) = (child.pid(), current_process());
            assert_eq!(child.join().unwrap(), (me.pid(), me.name().to_string(), pid), "{method}");
        }
    });
}

#[test]
fn being_a_daemon_is_inherited_and_the_word_of_the_builder_counts_more() {
    alone(|| {
        for method in all_start_methods() {
            let start = |daemon: Option<bool>| {
                let tell = || {
                    let start = |process: Process<bool>| process.start().unwrap();
                    let is_daemon = || current_process().is_daemon();
                    let inherits = start(Process::new(is_daemon, ()));
                    let chosen = start(Process::new(is_daemon, ()).daemon(false));
                    assert!(!chosen.is_daemon());
                    (is_daemon(), inherits.join().unwrap(), chosen.join().unwrap())
                };
                let process = Process::new(tell, ()).start_method(method);
                let process = match daemon {
                    Some(daemon) => process.daemon(daemon),
                    None => process,
                };
                process.start().unwrap().join().unwrap()
            };
            assert_eq!(start(None), (false, false, false), "{method}");
            assert_eq!(start(Some(true)), (true, true, false), "{method}");
        }
    });
}

#[test]
fn active_children_are_those_that_live_and_looking_reaps_the_others() {
    alone(|| {
        for method in all_start_methods() {
            let (ours, theirs) = pipe();
            let hold = |gate: OwnedFd| drop(File::from(gate).read(&mut [0]));
            let ends =
                Process::new(hold, (OwnedFd::from(theirs),)).start_method(method).start().unwrap();
            let stays = Process::new(sleep, ()).start_method(method).start().unwrap();
            let pids = || {
                let mut pids: Vec<_> = active_children().iter().map(|child| child.pid()).collect();
                pids.sort();
                pids
            };
            let mut both = [ends.pid(), stays.pid()];
            both.sort();
            assert_eq!(pids(), both, "{method}");
            (&ours).write_all(b"x").unwrap();
            while ends.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
            assert_eq!(pids(), [stays.pid()], "{method}");
            active_children()[0].kill().unwrap();
            stays.wait().unwrap();
            assert!(pids().is_empty());
        }
    });
}

#[test]
fn a_start_reaps_the_children_that_nobody_joined() {
    alone(|| {
        let child = Process::new(|| (), ()).start().unwrap();
        let mut ended = os::Orphan::of(child.pid() as i32);
        drop(child);
        assert!(ended.ends());
        assert!(os::has_children());
        let stays = Process::new(sleep, ()).start().unwrap();
        assert_eq!(os::children(), [stays.pid() as i32].into());
        stays.kill().unwrap();
    });
}

#[test]
fn a_grandchild_notices_the_death_of_its_parent() {
    alone(|| {
        for by in all_start_methods() {
            let (mut told, end) = pipe();
            let middle = |by: u32, end: OwnedFd| {
                let grandchild = |end: OwnedFd| {
                    let mut end = File::from(end);
                    let parent = parent_process().unwrap();
                    // A fork of this process, which lives on, is nobody's parent and nobody's child here.
                    let bystander = Process::fork(sleep).unwrap();
                    assert!(parent.is_alive());
                    end.write_all(b"alive ").unwrap();
                    parent.join().unwrap();
                    assert!(!parent.is_alive() && parent.join_timeout(Duration::ZERO).unwrap());
                    bystander.kill().unwrap();
                    bystander.wait().unwrap();
                    end.write_all(b"gone").unwrap();
                };
                Process::new(grandchild, (end,)).start_method(method(by)).start().unwrap();
                sleep();
            };
            let middle = Process::new(middle, (number(by), OwnedFd::from(end)))
                .start_method(by)
                .start()
                .unwrap();
            let mut word = [0; 6];
            told.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"alive ");
            middle.kill().unwrap();
            middle.wait().unwrap();
            let mut rest = String::new();
            told.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "gone", "{by}");
        }
    });
}

#[test]
fn a_parent_handle_is_refused_in_a_fork() {
    alone(|| {
        let parent = parent_process().unwrap();
        let refused = Process::fork(|| {
            let own = parent_process().unwrap();
            let foreign = matches!(parent.join(), Err(multiproc::Error::ForeignProcess));
            (foreign, own.pid(), own.is_alive())
        });
        assert_eq!(refused.unwrap().join().unwrap(), (true, std::process::id(), true));
    });
}

#[test]
fn others_are_joined_and_daemons_ended_when_a_process_leaves() {
    alone(|| {
        for by in all_start_methods() {
            let (mut told, end) = pipe();
            let leaver = |by: u32, end: OwnedFd| {
                let start = |daemon: bool| {
                    let work = |daemon: bool, end: OwnedFd| {
                        if daemon {
                            sleep();
                        }
                        std::thread::sleep(Duration::from_millis(20));
                        File::from(end).write_all(b"worked").unwrap();
                    };
                    let copy = end.try_clone().unwrap();
                    let process = Process::new(work, (daemon, copy)).daemon(daemon);
                    drop(process.start_method(method(by)).start().unwrap());
                };
                start(true);
                start(false);
                start(true);
            };
            let process = Process::new(leaver, (number(by), OwnedFd::from(end))).start_method(by);
            let leaver = process.start().unwrap();
            assert_eq!(leaver.wait().unwrap(), ExitStatus::Exited(0));
            // Everybody has left by then.
            let mut words = String::new();
            told.read_to_string(&mut words).unwrap();
            assert_eq!(words, "worked", "{by}");
        }
    });
}

#[test]
fn a_daemon_that_does_not_listen_is_killed_in_the_end() {
    alone(|| {
        let leaver = || {
            let deaf = |end: OwnedFd| {
                os::ignore(15);
                File::from(end).write_all(b"x").unwrap();
                sleep();
            };
            let (mut ours, theirs) = pipe();
            let child = Process::new(deaf, (OwnedFd::from(theirs),)).daemon(true).start().unwrap();
            ours.read_exact(&mut [0]).unwrap();
            child.pid()
        };
        let leaver = Process::new(leaver, ()).start().unwrap();
        let pid = leaver.join().unwrap();
        assert!(os::Orphan::of(pid as i32).ends());
    });
}

#[test]
fn a_daemon_ends_with_the_whole_line_of_its_ancestors_daemons() {
    alone(|| {
        for by in all_start_methods() {
            let (mut told, end) = pipe();
            fn line(depth: u32, by: u32, end: OwnedFd) {
                if depth > 0 {
                    let copy = end.try_clone().unwrap();
                    let child = Process::new(line, (depth - 1, by, copy)).daemon(true);
                    child.start_method(method(by)).start().unwrap();
                }
                (&File::from(end.try_clone().unwrap())).write_all(b"x").unwrap();
                sleep();
            }
            let process = Process::new(line, (3, number(by), OwnedFd::from(end)));
            let top = process.daemon(true).start_method(by).start().unwrap();
            told.read_exact(&mut [0; 4]).unwrap();
            top.kill().unwrap();
            assert_eq!(told.read(&mut [0]).unwrap(), 0, "{by}");
            top.wait().unwrap();
        }
    });
}

#[test]
fn a_parent_killed_at_random_instants_leaves_no_daemon_behind() {
    alone(|| {
        for by in all_start_methods() {
            for round in 0..12u64 {
                let (mut told, end) = pipe();
                let family = |by: u32, end: OwnedFd| -> () {
                    let hold = |_end: OwnedFd| sleep();
                    let mut told = File::from(end.try_clone().unwrap());
                    loop {
                        let copy = end.try_clone().unwrap();
                        Process::new(hold, (copy,))
                            .daemon(true)
                            .start_method(method(by))
                            .start()
                            .unwrap();
                        told.write_all(b"x").unwrap();
                    }
                };
                let parent =
                    Process::new(family, (number(by), OwnedFd::from(end))).start().unwrap();
                told.read_exact(&mut [0; 3]).unwrap();
                let before = std::time::Instant::now();
                while before.elapsed() < Duration::from_micros(round * 137) {}
                parent.kill().unwrap();
                // All of it is at its end when the last daemon is dead.
                told.read_to_end(&mut Vec::new()).unwrap();
                parent.wait().unwrap();
            }
        }
    });
}

/// A family with everything that this library starts processes for, or names, at work until it is killed.
fn busy_family(by: u32) {
    let context = Context::new(method(by));
    let _named = SharedMemory::create(None, 5000).unwrap();
    let queue = Queue::<u32>::new().unwrap();
    let consumer = |queue: Queue<u32>| -> () {
        loop {
            queue.get().unwrap();
        }
    };
    context.process(consumer, (queue.clone(),)).daemon(true).start().unwrap();
    let pool = context.pool().processes(2).build().unwrap();
    let manager = context.manager().start().unwrap();
    let list = manager.list(0..3u32).unwrap();
    let nested = |by: u32| {
        let context = Context::new(method(by));
        let pool = context.pool().processes(1).build().unwrap();
        let _named = SharedMemory::create(None, 5000).unwrap();
        drop(context.process(sleep, ()).start().unwrap());
        loop {
            pool.map(|n: u32| n, 0..10).unwrap();
        }
    };
    let nested: Process<()> = context.process(nested, (by,));
    nested.daemon(true).start().unwrap();
    loop {
        pool.map(|n: u32| n, 0..100).unwrap();
        list.append(7).unwrap();
        queue.put(&7).unwrap();
        context.process(sleep, ()).daemon(true).start().unwrap();
    }
}

/// Kills such a family after `time`, and waits until all of it is gone.
fn kill_busy_family(by: StartMethod, time: Duration) {
    let parent = Process::new(busy_family, (number(by),)).start().unwrap();
    assert_eq!(parent.wait_timeout(time).unwrap(), None);
    parent.kill().unwrap();
    parent.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while os::has_children() {
        if !os::reap_any() {
            let left = os::children();
            let looks = || left.iter().map(|&pid| os::look(pid)).collect::<Vec<_>>();
            assert!(Instant::now() < deadline, "{by} after {time:?} leaves {:?}", looks());
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    // A name that a killed process leaves goes with the next one that is made, or so. At the end it is
    // seen whether any other file is left.
    SharedMemory::reclaim().unwrap();
}

#[test]
fn a_parent_killed_at_random_instants_leaves_no_worker_and_no_server_behind() {
    let kills = std::env::var("MULTIPROC_ORPHANS").ok().and_then(|kills| kills.parse().ok());
    let patience = Duration::from_secs(60 + kills.unwrap_or(0u64));
    alone_within(patience, || {
        let kills = std::env::var("MULTIPROC_ORPHANS").ok().and_then(|kills| kills.parse().ok());
        // Who loses its parent becomes this process's child.
        os::adopt_orphans();
        for by in all_start_methods() {
            // From before its `init` to when everything is at work.
            (0..8u64).for_each(|n| kill_busy_family(by, Duration::from_micros(n * n * 1009)));
        }
        for (kill, by) in (0..kills.unwrap_or(0)).zip(all_start_methods().into_iter().cycle()) {
            let random = RandomState::new().hash_one(kill);
            kill_busy_family(by, Duration::from_micros(random % 80_000));
        }
    });
}
