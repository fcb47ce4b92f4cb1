//! The forkserver: one for a process, quick to fork, hard to hurt, and gone with its process.

#[path = "support/alone.rs"]
mod alone;
mod support;

use alone::alone;
use multiproc::{Error, ExitStatus, Process, StartMethod, all_start_methods};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use support::{os, pipe, sleep};

multiproc::init_before_main!();

static HOOKS: AtomicU32 = AtomicU32::new(0);

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
        // Where the tests run in the background of a script, it is ignored.
        os::by_default(2);
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

/// The sockets of this process.
fn sockets() -> BTreeSet<i32> {
    let folder = std::fs::read_dir("/proc/self/fd").unwrap();
    let is_socket = |path: &std::path::Path| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    let paths = folder.map(|entry| entry.unwrap().path()).filter(|path| is_socket(path));
    paths.map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn no_socket_of_a_forkserver_or_its_users_has_a_name_that_others_could_connect_to() {
    alone(|| {
        server();
        let unnamed = || sockets().into_iter().all(os::is_unnamed);
        assert!(sockets().len() >= 3 && unnamed());
        let child = Process::new(unnamed, ()).start_method(StartMethod::ForkServer);
        assert!(child.start().unwrap().join().unwrap());
    });
}

#[test]
fn what_is_no_request_does_not_hurt_a_forkserver() {
    alone(|| {
        let before = sockets();
        let pid = server();
        let new: Vec<_> = sockets().difference(&before).copied().collect();
        // Those that carry packets; the third is the lifeline, by which nothing is ever sent.
        let packets: Vec<_> = new.into_iter().filter(|&fd| os::keeps_boundaries(fd)).collect();
        assert_eq!(packets.len(), 2);
        for bytes in [&b"x"[..], &[0; 16], &[8; 16], &[8; 5000]] {
            packets.iter().for_each(|&fd| os::send(fd, bytes));
            assert_eq!(server(), pid);
        }
    });
}

#[test]
fn a_forkserver_stopped_for_a_while_answers_when_it_goes_on() {
    alone(|| {
        let pid = server();
        os::signal(pid, 19);
        while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ") {
            std::thread::yield_now();
        }
        let starter = std::thread::spawn(server);
        os::signal(pid, 18);
        assert_eq!(starter.join().unwrap(), pid);
    });
}
