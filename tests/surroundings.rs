//! A child's environment, directory, streams and fences are as they were chosen.

#[path = "support/alone.rs"]
mod alone;
mod support;

use alone::alone;
use multiproc::{Error, ExitStatus, Process, StartMethod, Stdio, all_start_methods};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;

multiproc::init_before_main!();

type Variables = BTreeMap<String, String>;

fn variables() -> Variables {
    std::env::vars().collect()
}

#[test]
fn the_environment_is_changed_as_asked_in_the_order_asked() {
    alone(|| {
        support::os::set_variable("KEPT", "kept");
        for method in all_start_methods() {
            let run = |process: Process<Variables>| {
                process.start_method(method).start().unwrap().join().unwrap()
            };
            let mut wanted = variables();
            let changed =
                run(Process::new(variables, ()).env("A", "1").env("A", "2").env_remove("KEPT"));
            wanted.remove("KEPT");
            wanted.insert("A".to_string(), "2".to_string());
            assert_eq!(changed, wanted, "{method}");
            let only = run(Process::new(variables, ()).env("X", "1").env_clear().env("B", "="));
            assert_eq!(only, [("B".to_string(), "=".to_string())].into(), "{method}");
            assert!(std::env::var_os("A").is_none() && std::env::var_os("KEPT").is_some());
            for (name, value) in [("", ""), ("A=B", ""), ("A\0", ""), ("A", "\0")] {
                let refused =
                    Process::new(variables, ()).env(name, value).start_method(method).start();
                assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{method}");
            }
        }
    });
}

#[test]
fn the_working_directory_is_the_one_asked_for_or_an_error() {
    alone(|| {
        for method in all_start_methods() {
            let start = |place: &str| {
                let here = || std::env::current_dir().unwrap();
                Process::new(here, ()).current_dir(place).start_method(method).start().unwrap()
            };
            assert_eq!(start("/usr").join().unwrap().as_os_str(), "/usr");
            let error = start("/no/such/place").join().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(2), "{method}: {error}");
            assert!(error.to_string().starts_with("chdir"));
        }
    });
}

#[test]
fn piped_streams_carry_what_is_said_each_way() {
    alone(|| {
        for method in all_start_methods() {
            let talk = || {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).unwrap();
                println!("out {text}");
                eprintln!("err {text}");
            };
            let process = Process::new(talk, ()).start_method(method);
            let process = process.stdin(Stdio::Piped).stdout(Stdio::Piped).stderr(Stdio::Piped);
            let mut child = process.start().unwrap();
            // The end is seen although other children are forked meanwhile, this one included.
            child.stdin.take().unwrap().write_all(b"hello").unwrap();
            let (mut out, mut err) = (String::new(), String::new());
            child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
            child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            assert_eq!((out.as_str(), err.as_str()), ("out hello\n", "err hello\n"), "{method}");
            child.join().unwrap();
        }
    });
}

#[test]
fn a_join_closes_the_pipe_that_the_child_reads_from() {
    alone(|| {
        for method in all_start_methods() {
            let read = || std::io::stdin().read(&mut [0]).unwrap() as u32;
            let process = Process::new(read, ()).start_method(method).stdin(Stdio::Piped);
            assert_eq!(process.start().unwrap().join().unwrap(), 0, "{method}");
        }
    });
}

#[test]
fn streams_may_be_files_nothing_or_the_parents_own() {
    alone(|| {
        for method in all_start_methods() {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            let talk = || {
                println!("into the socket");
                eprintln!("into nothing");
                let target = |fd: u32| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
                (target(0), target(2))
            };
            let own = std::fs::read_link("/proc/self/fd/0").unwrap();
            let process = Process::new(talk, ()).start_method(method).stdin(Stdio::Inherit);
            let process = process.stdout(std::os::fd::OwnedFd::from(theirs)).stderr(Stdio::Null);
            let (stdin, stderr) = process.start().unwrap().join().unwrap();
            assert_eq!((stdin, stderr.as_os_str()), (own, "/dev/null".as_ref()), "{method}");
            let mut text = String::new();
            (&ours).read_to_string(&mut text).unwrap();
            assert_eq!(text, "into the socket\n", "{method}");
        }
    });
}

#[test]
fn a_child_that_takes_too_much_memory_is_stopped_and_not_its_parent() {
    alone(|| {
        for method in all_start_methods() {
            let allocate = |len: usize| {
                let mut bytes: Vec<u8> = Vec::new();
                bytes.try_reserve_exact(len).is_ok()
            };
            let run = |len: usize| {
                let process = Process::new(allocate, (len,)).memory_limit(4 << 30);
                process.start_method(method).start().unwrap().join().unwrap()
            };
            assert_eq!((run(1 << 20), run(8 << 30)), (true, false), "{method}");
            assert!(allocate(8 << 30));
        }
    });
}

#[test]
fn a_child_that_computes_too_long_is_stopped() {
    alone(|| {
        for method in all_start_methods() {
            let process: Process<()> = Process::new(
                || loop {
                    std::hint::spin_loop()
                },
                (),
            );
            let process = process.cpu_limit(Duration::from_millis(300)).start_method(method);
            // SIGXCPU.
            assert_eq!(
                process.start().unwrap().wait().unwrap(),
                ExitStatus::Killed(24),
                "{method}"
            );
        }
    });
}

#[test]
fn fences_hold_for_the_child_alone_and_impossible_ones_are_errors() {
    fn field(name: &str) -> String {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_string()
    }
    fn stat() -> Vec<String> {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        stat.rsplit(") ").next().unwrap().split(' ').map(str::to_string).collect()
    }
    alone(|| {
        for method in all_start_methods() {
            let look = || {
                let files = (0..100).map_while(|_| std::fs::File::open("/dev/null").ok());
                let files = files.collect::<Vec<_>>().len() as u32;
                let stat = stat();
                // Process group, session and niceness.
                (
                    field("Cpus_allowed_list:"),
                    files,
                    stat[2].clone(),
                    stat[3].clone(),
                    stat[16].clone(),
                )
            };
            let mine = stat();
            let process = Process::new(look, ()).affinity(&[0]).open_files(50).nice(5);
            let child = process.process_group(0).start_method(method).start().unwrap();
            let pid = child.pid().to_string();
            let (cpus, files, group, session, nice) = child.join().unwrap();
            assert_eq!((cpus.as_str(), nice.as_str()), ("0", "5"), "{method}");
            assert_eq!((group, session), (pid, mine[3].clone()), "{method}");
            assert!(files < 50, "{method}: {files}");
            let leader = Process::new(look, ()).new_session().start_method(method).start().unwrap();
            let pid = leader.pid().to_string();
            let (_, files, group, session, _) = leader.join().unwrap();
            assert_eq!((files, group, session), (100, pid.clone(), pid), "{method}");
            assert_eq!(stat()[2..4], mine[2..4]);
            let refused = Process::new(|| (), ()).affinity(&[8000]).start_method(method).start();
            let error = refused.unwrap().join().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(22), "{method}: {error}");
            // The leader of a session stays in its group.
            let refused =
                Process::new(|| (), ()).new_session().process_group(0).start_method(method);
            assert_eq!(
                refused.start().unwrap().join().unwrap_err().raw_os_error(),
                Some(1),
                "{method}"
            );
        }
    });
}

#[test]
fn a_spawned_program_is_called_as_asked_and_starts_its_own_children_all_the_same() {
    fn names() -> (String, String) {
        let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
        (std::env::args().next().unwrap(), comm.trim().to_string())
    }
    alone(|| {
        let mine = names();
        for method in all_start_methods() {
            let work = || {
                let grandchild = Process::new(names, ()).start().unwrap().join().unwrap();
                (names(), grandchild)
            };
            let process = Process::new(work, ()).argv0("another name").start_method(method);
            let ((argv0, comm), grandchild) = process.start().unwrap().join().unwrap();
            assert_eq!(comm, "another name", "{method}");
            if method == StartMethod::Spawn {
                assert_eq!(
                    (argv0.as_str(), grandchild.0.as_str()),
                    ("another name", "another name")
                );
            } else {
                assert_eq!((argv0, grandchild.0), (mine.0.clone(), mine.0.clone()), "{method}");
            }
            for name in ["", "a\0"] {
                let refused = Process::new(|| (), ()).argv0(name).start_method(method).start();
                assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{method}");
            }
        }
        assert_eq!(names(), mine);
    });
}

#[test]
fn root_gives_its_children_another_user_and_group() {
    fn ids() -> Vec<String> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        ["Uid:", "Gid:", "Groups:"].map(|name| field(name).trim().to_string()).into()
    }
    if !support::os::is_root() {
        return eprintln!("skipped: only root may choose users");
    }
    alone(|| {
        let mine = ids();
        let four = |id: &str| [id; 4].join("\t");
        for method in all_start_methods() {
            let process = Process::new(ids, ()).uid(65534).gid(65533).start_method(method);
            let child = process.daemon(true).start().unwrap();
            assert_eq!(child.join().unwrap(), [four("65534"), four("65533"), String::new()]);
            // Whoever has given root up does not get it back.
            let work = |method: u32| {
                let process = Process::new(|| (), ()).uid(0);
                let process = process.start_method(all_start_methods()[method as usize]);
                process.start().unwrap().join().unwrap_err().raw_os_error()
            };
            let process = Process::new(work, (1,)).uid(65534).start_method(method);
            assert_eq!(process.start().unwrap().join().unwrap(), Some(1), "{method}");
        }
        assert_eq!(ids(), mine);
    });
}

#[test]
fn a_family_shares_one_key_and_who_is_given_another_hands_that_on() {
    fn keys() -> (Vec<u8>, Vec<u8>) {
        let key = || Vec::from(multiproc::current_process().authkey().unwrap());
        let child = Process::new(key, ()).start().unwrap();
        (key(), child.join().unwrap())
    }
    alone(|| {
        // Nobody has asked for it yet: the first start draws it.
        let children: Vec<_> = all_start_methods()
            .map(|method| Process::new(keys, ()).start_method(method).start().unwrap())
            .into();
        let mine = Vec::from(multiproc::current_process().authkey().unwrap());
        assert_eq!(mine.len(), 32);
        for child in children {
            assert_eq!(child.join().unwrap(), (mine.clone(), mine.clone()));
        }
        for method in all_start_methods() {
            let process = Process::new(keys, ()).authkey(b"another").start_method(method);
            assert!(format!("{process:?}").contains("AuthKey(..)"));
            let theirs = process.start().unwrap().join().unwrap();
            assert_eq!(theirs, (b"another".to_vec(), b"another".to_vec()), "{method}");
        }
        multiproc::current_process().set_authkey(b"a third");
        for method in all_start_methods() {
            let child = Process::new(keys, ()).start_method(method).start().unwrap();
            assert_eq!(child.join().unwrap().1, b"a third", "{method}");
        }
    });
}
