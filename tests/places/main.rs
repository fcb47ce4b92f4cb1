//! The essentials of every room in the places where programs have to run: little memory, few descriptors,
//! no /proc, nothing that can be written, an older kernel, a sandbox.
//!
//! Without arguments: a table of the places that can be made here. `check` tries the rooms right where the
//! program is, for a machine that is such a place itself; `check stepped` has that machine's clock stepped
//! meanwhile.

mod checks;
mod filter;
#[cfg(target_pointer_width = "64")]
mod listed;
mod machine;
mod place;
#[path = "../support/mod.rs"]
mod support;

use checks::{ROOMS, Room};
use place::{PLACES, Place, confined_to};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

/// The exit code of who finds that there is no such place.
const NO_SUCH_PLACE: u8 = 77;

/// How long a process may take in its place.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    multiproc::init();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        words if machine::is_ours() => machine::run(words),
        ["in", name] => {
            let place = PLACES.iter().find(|place| place.name == *name);
            let place = place.expect("a place of the table");
            go((place.enter)(), place, "")
        }
        ["confined", room] => go(confined_to(room), &PLACES[0], room),
        ["unlisted"] => match confined_to("processes") {
            Ok(()) => {
                support::os::parent_pid();
                ExitCode::SUCCESS
            }
            Err(_) => ExitCode::from(NO_SUCH_PLACE),
        },
        ["check", "stepped"] => match place::step_the_clock() {
            Ok(stepper) => {
                let code = go(Ok(()), &PLACES[0], "");
                support::os::kill_and_reap(stepper);
                code
            }
            Err(error) => go(Err(error), &PLACES[0], ""),
        },
        ["check", rooms @ ..] => go(Ok(()), &PLACES[0], rooms.first().copied().unwrap_or_default()),
        other => {
            let filter = other.iter().find(|word| !word.starts_with('-'));
            table(filter.copied().unwrap_or_default())
        }
    }
}

/// Tries the rooms whose names hold `filter` in `place`, which this process has entered, or not.
fn go(entered: std::io::Result<()>, place: &Place, filter: &str) -> ExitCode {
    if let Err(error) = entered {
        println!("skipped: {error}");
        return ExitCode::from(NO_SUCH_PLACE);
    }
    let mut well = true;
    for room in ROOMS.iter().filter(|room| room.name.contains(filter)) {
        let (line, holds) = try_room(room, place);
        println!("{}: {line}", room.name);
        well &= holds;
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the room's checks came to, in words, and whether that is as it should be.
fn try_room(room: &Room, place: &Place) -> (String, bool) {
    let (mut passed, mut excused, mut failed) = (0, BTreeMap::<_, usize>::new(), Vec::new());
    for (name, check) in room.checks {
        match catch_unwind(AssertUnwindSafe(check)) {
            Ok(Ok(())) => passed += 1,
            Ok(Err(error)) if (place.excuses)(room.name, &error) => {
                *excused.entry(error.to_string()).or_default() += 1;
            }
            Ok(Err(error)) => failed.push(format!("{name} FAILED: {error}")),
            Err(_) => failed.push(format!("{name} FAILED")),
        }
    }
    let holds = failed.is_empty();
    let excused = excused.into_iter().map(|(error, count)| format!("{count} answered \"{error}\""));
    let words = std::iter::once(format!("{passed} passed")).chain(failed).chain(excused);
    (words.collect::<Vec<_>>().join(", "), holds)
}

/// Sends a process to each place and prints what came of it.
fn table(filter: &str) -> ExitCode {
    let places = PLACES.iter().map(|place| (place.name.to_owned(), ["in", place.name]));
    let confined = ROOMS
        .iter()
        .map(|room| (format!("the README's system calls: {}", room.name), ["confined", room.name]));
    let rows: Vec<_> = places.chain(confined).filter(|(title, _)| title.contains(filter)).collect();
    let _watchdog = support::watchdog(PATIENCE * (1 + rows.len() as u32));
    let mut well = an_unlisted_call_kills();
    for (title, words) in rows {
        let begun = Instant::now();
        let output = send_to(&words);
        let said = String::from_utf8_lossy(&output.stdout);
        let (verdict, shown) = match output.status.code() {
            Some(0) => ("passed", said.lines().filter(|line| line.contains("answered")).collect()),
            Some(code) if code == i32::from(NO_SUCH_PLACE) => ("", said.lines().collect()),
            _ => ("FAILED", said.lines().collect::<Vec<_>>()),
        };
        println!("{title:<45} {verdict:<7} {:.1?}", begun.elapsed());
        shown.iter().for_each(|line| println!("    {line}"));
        if verdict == "FAILED" {
            well = false;
            println!("    {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether the filter does what the rows about it rest on.
fn an_unlisted_call_kills() -> bool {
    let status = send_to(&["unlisted"]).status;
    let killed =
        status.signal() == Some(libc::SIGSYS) || status.code() == Some(NO_SUCH_PLACE.into());
    if !killed {
        println!("a call that is not listed came through: {status}");
    }
    killed
}

/// The checker of leaks makes system calls of its own: it stays behind.
fn send_to(words: &[&str]) -> Output {
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new(program);
    command.args(words).env("MULTIPROC_LEAKS", "off");
    command.output().expect("this program, once more")
}
