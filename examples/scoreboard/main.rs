//! Sixteen accidents at which libraries of this kind hang, lose or leak something, and what becomes of each
//! here, and with CPython's `multiprocessing` where a `python3` is found.
//!
//! `cargo run --release --example scoreboard`
//!
//! Every accident happens in a process of its own, under a watchdog; children start by the method that each
//! library takes when nothing is said: spawn here, fork in CPython up to 3.13. The exit code is 0 if none of
//! this library's went wrong.

mod ours;
mod python;

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// An accident, and what is said of it.
struct Scenario {
    name: &'static str,
    /// With this library.
    ours: fn() -> ours::Told,
    /// The same for CPython: a program that prints what became of it.
    python: &'static str,
}

const SCENARIOS: [Scenario; 16] = [
    Scenario {
        name: "a worker is killed in its task",
        ours: ours::worker_killed,
        python: python::WORKER_KILLED,
    },
    Scenario {
        name: "all idle workers are killed",
        ours: ours::idle_workers_killed,
        python: python::IDLE_WORKERS_KILLED,
    },
    Scenario {
        name: "a pool is terminated after that",
        ours: ours::terminated_after_that,
        python: python::TERMINATED_AFTER_THAT,
    },
    Scenario {
        name: "a task's answer cannot be rebuilt",
        ours: ours::answer_not_rebuilt,
        python: python::ANSWER_NOT_REBUILT,
    },
    Scenario {
        name: "a child is joined before its queue is read",
        ours: ours::joined_before_read,
        python: python::JOINED_BEFORE_READ,
    },
    Scenario {
        name: "the holder of a lock is killed",
        ours: ours::holder_killed,
        python: python::HOLDER_KILLED,
    },
    Scenario {
        name: "a sibling is alive when a pipe's writer ends",
        ours: ours::sibling_alive,
        python: python::SIBLING_ALIVE,
    },
    Scenario {
        name: "a child exits before its target runs",
        ours: ours::exits_before,
        python: python::EXITS_BEFORE,
    },
    Scenario {
        name: "fifty children are never joined",
        ours: ours::never_joined,
        python: python::NEVER_JOINED,
    },
    Scenario {
        name: "a busy pool with 4 MiB to hand over is ended",
        ours: ours::busy_pool,
        python: python::BUSY_POOL,
    },
    Scenario {
        name: "65 and 300 handles go in one message",
        ours: ours::many_handles,
        python: python::MANY_HANDLES,
    },
    Scenario {
        name: "a program puts what nobody reads, and exits",
        ours: ours::nobody_reads,
        python: python::NOBODY_READS,
    },
    Scenario {
        name: "a producer is killed in a large put",
        ours: ours::producer_killed,
        python: python::PRODUCER_KILLED,
    },
    Scenario {
        name: "the owner of named memory is killed",
        ours: ours::owner_killed,
        python: python::OWNER_KILLED,
    },
    Scenario {
        name: "a manager's server is killed",
        ours: ours::server_killed,
        python: python::SERVER_KILLED,
    },
    Scenario {
        name: "the parent of a pool is killed",
        ours: ours::parent_killed,
        python: python::PARENT_KILLED,
    },
];

/// How long an accident may take before it is called a hang: the best of CPython's take a second or two.
const OUR_PATIENCE: Duration = Duration::from_secs(30);
const THEIR_PATIENCE: Duration = Duration::from_secs(5);

/// What a process came to.
struct Outcome {
    text: String,
    well: bool,
}

fn main() -> ExitCode {
    if std::env::var_os(ours::EXIT).is_some() {
        return ExitCode::from(3);
    }
    multiproc::init();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let ["scenario", number] = *words.iter().map(String::as_str).collect::<Vec<_>>() {
        return one(number.parse().unwrap_or(0));
    }
    let python = python::version();
    let title = python.clone().unwrap_or("no python3 was found".into());
    println!("| | multiproc {} | {title} |\n|---|---|---|", env!("CARGO_PKG_VERSION"));
    let mut well = true;
    for (number, scenario) in SCENARIOS.iter().enumerate() {
        let ours = watch(again(number), OUR_PATIENCE);
        well &= ours.well;
        let theirs = python.as_ref().map(|_| theirs(scenario.python)).unwrap_or_default();
        println!("| {} | {} | {theirs} |", scenario.name, ours.text);
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn theirs(program: &str) -> String {
    let path = match python::write(program) {
        Ok(path) => path,
        Err(error) => return error.to_string(),
    };
    let mut command = Command::new("python3");
    command.arg(&path);
    let outcome = watch(command, THEIR_PATIENCE);
    let _ = std::fs::remove_file(path);
    outcome.text
}

/// One accident, in this process.
fn one(number: usize) -> ExitCode {
    match (SCENARIOS[number].ours)() {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("wrong: {error}");
            ExitCode::FAILURE
        }
    }
}

fn again(number: usize) -> Command {
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new(program);
    command.args(["scenario", &number.to_string()]);
    command
}

/// Runs a command in a process group of its own and takes its first line for the outcome.
fn watch(mut command: Command, patience: Duration) -> Outcome {
    command.stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null()).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Outcome { text: error.to_string(), well: false },
    };
    let end = Instant::now() + patience;
    let status = loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(status) => break status,
            Err(_) => break None,
        }
    };
    // Whatever the accident has left is in its group.
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-9", "--", &group]).stderr(Stdio::null()).status();
    let _ = child.wait();
    let mut said = String::new();
    let _ = child.stdout.take().map(|mut output| output.read_to_string(&mut said));
    let line = said.lines().next().unwrap_or_default().to_owned();
    match status {
        None if line.is_empty() => Outcome { text: "**hangs**".into(), well: false },
        None => Outcome { text: format!("{line}, then **hangs**"), well: false },
        Some(status) if line.is_empty() => Outcome { text: status.to_string(), well: false },
        Some(status) => Outcome { text: line, well: status.success() },
    }
}
