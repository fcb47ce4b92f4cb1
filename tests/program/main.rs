//! Programs whose beginning goes wrong, and programs whose file goes away.
//!
//! This test is its own subject: it is run again in roles, some of which do something before `init`.

#[path = "../support/mod.rs"]
mod support;

use multiproc::{Error, ExitStatus, Process, StartMethod};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use support::os;

/// What a child does before `init`.
const BEFORE_INIT: &str = "PROGRAM_TEST_BEFORE_INIT";

const METHODS: [StartMethod; 2] = [StartMethod::Spawn, StartMethod::ForkServer];

fn main() {
    if std::env::var_os("MULTIPROC_CHILD").is_some() {
        misbehave(&std::env::var(BEFORE_INIT).unwrap_or_default());
    }
    multiproc::init();
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("role") => role(&words[2]),
        Some("one") => one(),
        _ => all(words.get(1).map_or("", String::as_str)),
    }
}

fn misbehave(how: &str) {
    match how {
        "exit" => std::process::exit(3),
        "die" => std::process::abort(),
        "hang" => loop {
            std::thread::park();
        },
        "close" => os::close(3),
        "talk" => os::send(3, b"hello"),
        _ => {}
    }
}

fn all(filter: &str) {
    let tests: [(&str, fn()); 10] = [
        ("a_child_that_exits_before_init_was_not_started", exits),
        ("a_child_that_dies_before_init_was_killed", dies),
        ("a_child_that_never_gets_to_init_is_killed_in_time", hangs),
        ("a_child_that_closes_everything_before_init_does_not_run_the_program_again", closes),
        ("a_child_that_sends_what_is_no_packet_is_an_error_and_not_a_hang", talks),
        ("the_variable_means_nothing_to_who_inherits_it", inherits),
        ("the_programs_file_may_go_away_or_be_another_or_have_other_names", moves),
        ("without_proc_the_program_is_found_by_its_path", without_proc),
        ("the_command_is_named_after_the_program", command_name),
        ("a_static_program_starts_itself_again", is_static),
    ];
    for (name, test) in tests.into_iter().filter(|(name, _)| name.contains(filter)) {
        let watchdog = support::watchdog(Duration::from_secs(60));
        test();
        drop(watchdog);
        println!("{name}: ok");
    }
}

/// Starts `process` with children that misbehave so.
fn starting<R>(how: &str, start: impl FnOnce() -> R) -> R {
    // Only this thread and a watchdog run, and the watchdog looks at no variable.
    os::set_variable(BEFORE_INIT, how);
    let started = start();
    os::set_variable(BEFORE_INIT, "");
    started
}

fn spawn() -> multiproc::Child<()> {
    Process::new(|| (), ()).start_timeout(Duration::from_millis(200)).start().unwrap()
}

fn exits() {
    let child = starting("exit", spawn);
    assert_eq!(child.wait().unwrap(), ExitStatus::Exited(3));
    let error = child.join().unwrap_err();
    assert!(matches!(error, Error::NotStarted { status: ExitStatus::Exited(3) }), "{error}");
    assert!(error.to_string().contains("exited with code 3 before multiproc::init"), "{error}");
    // The same for the server.
    let server = || Process::new(|| (), ()).start_method(StartMethod::ForkServer).start();
    let error = starting("exit", server).unwrap_err();
    assert!(matches!(error, Error::NotStarted { status: ExitStatus::Exited(3) }), "{error}");
}

fn dies() {
    let child = starting("die", spawn);
    assert_eq!(child.wait().unwrap(), ExitStatus::Killed(6));
    assert!(matches!(child.join(), Err(Error::Killed { signal: 6 })));
}

fn hangs() {
    let child = starting("hang", spawn);
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait().unwrap(), ExitStatus::Killed(9));
    assert!(matches!(child.join(), Err(Error::StartTimeout)));
    // A child that got there has all the time it wants.
    let slow = Process::new(|| std::thread::sleep(Duration::from_millis(400)), ());
    slow.start_timeout(Duration::from_millis(200)).start().unwrap().join().unwrap();
}

fn closes() {
    let child = starting("close", spawn);
    assert_eq!(child.wait().unwrap(), ExitStatus::Exited(1));
    assert!(matches!(child.join(), Err(Error::NotStarted { .. })));
}

fn talks() {
    let child = starting("talk", spawn);
    assert!(child.wait().unwrap().success());
    assert!(matches!(child.join(), Err(Error::Decode { .. }) | Ok(())));
}

fn inherits() {
    let shell = || {
        // The shell knows nothing of this library and passes the variable on.
        let program = std::env::current_exe().unwrap();
        let status = Command::new("/bin/sh")
            .env("MULTIPROC_CHILD", std::process::id().to_string())
            .arg("-c")
            .arg("\"$0\" one && exit 5")
            .arg(program)
            .status();
        status.unwrap().code().unwrap()
    };
    assert_eq!(Process::new(shell, ()).start().unwrap().join().unwrap(), 5);
}

/// A role: one start of each kind.
fn one() {
    for method in METHODS {
        let child = Process::new(|n: u32| n + 1, (1,)).start_method(method).start().unwrap();
        assert_eq!(child.join().unwrap(), 2);
    }
}

/// A copy of this program in a folder of its own.
fn copy(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("multiproc-program-{}-{name}", os::own_pid()));
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    program
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn moves() {
    for how in ["rename", "delete", "replace", "chdir"] {
        let program = copy(how);
        run(Command::new(&program).args(["role", how]));
        fs::remove_dir_all(program.parent().unwrap()).unwrap();
    }
    let program = copy("names");
    let folder = program.parent().unwrap();
    let link = folder.join("link");
    std::os::unix::fs::symlink(&program, &link).unwrap();
    run(Command::new(&link).arg("one"));
    run(Command::new("./program").arg("one").current_dir(folder));
    run(Command::new(&program).arg("one").arg0("/no/such/name"));
    run(Command::new(&program).arg("one").arg0(""));
    fs::remove_dir_all(folder).unwrap();
}

/// What happens to this program's own file before it starts others.
fn role(how: &str) {
    let program = std::env::current_exe().unwrap();
    match how {
        "rename" => fs::rename(&program, program.with_file_name("renamed")).unwrap(),
        "delete" => fs::remove_file(&program).unwrap(),
        "replace" => {
            fs::remove_file(&program).unwrap();
            fs::copy("/bin/true", &program).unwrap();
        }
        "chdir" => std::env::set_current_dir("/").unwrap(),
        _ => panic!("no role {how}"),
    }
    one();
}

fn without_proc() {
    let script = "mount -t tmpfs none /proc && test ! -e /proc/self && exec \"$0\" one";
    let unshare = |script: &str| {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(program);
        command
    };
    let possible = unshare("mount -t tmpfs none /proc").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        println!("skipped: no mount namespace can be made here");
        return;
    }
    run(&mut unshare(script));
}

/// All of these tests are of a static program where this one is.
fn is_static() {
    if cfg!(target_feature = "crt-static") {
        one();
    } else {
        println!(
            "skipped: this program is not static; with --target x86_64-unknown-linux-musl it is"
        );
    }
}

fn command_name() {
    let name = || fs::read_to_string("/proc/self/comm").unwrap();
    for method in METHODS {
        let child = Process::new(name, ()).start_method(method).start().unwrap();
        assert_eq!(child.join().unwrap(), name(), "{method}");
    }
}
