//! Hands a pool tasks that come to a bad end, and prints what it reports of each.
//!
//! `cargo run --release --example crash`
//!
//! The exit code is 0 if every report is the expected one and the pool works afterwards. What the
//! language's runtime says on standard error of an abort is the worker's own.
#![allow(unsafe_code)]

use multiproc::{Error, ExitStatus, Pool, Result};
use std::process::ExitCode;
use std::time::Duration;

/// A task of no arguments and no result that matters: how it ends is all there is to it.
struct Fate {
    name: &'static str,
    expected: fn(&Error) -> bool,
    run: fn(&Pool) -> Result<()>,
}

const FATES: [Fate; 8] = [
    Fate {
        name: "panics",
        expected: |error| matches!(error, Error::Panicked { message, .. } if message == "no milk"),
        run: |pool| pool.apply(|| -> () { panic!("no milk") }, ()),
    },
    Fate {
        name: "reads a wild address",
        expected: |error| is_killed_by(error, libc::SIGSEGV),
        run: |pool| pool.apply(read_wild_address, ()),
    },
    Fate {
        name: "overflows its stack",
        expected: |error| is_killed_by(error, libc::SIGABRT),
        run: |pool| pool.apply(overflow, ()),
    },
    Fate {
        name: "aborts",
        expected: |error| is_killed_by(error, libc::SIGABRT),
        run: |pool| pool.apply(|| -> () { std::process::abort() }, ()),
    },
    Fate {
        name: "exits with code 3",
        expected: |error| matches!(error, Error::WorkerDied { status: ExitStatus::Exited(3), .. }),
        run: |pool| pool.apply(|| -> () { multiproc::exit(3) }, ()),
    },
    Fate {
        name: "exits with code 0",
        expected: |error| matches!(error, Error::WorkerDied { status: ExitStatus::Exited(0), .. }),
        run: |pool| pool.apply(|| -> () { multiproc::exit(0) }, ()),
    },
    Fate {
        name: "hangs",
        expected: |error| matches!(error, Error::TaskTimeout),
        run: |pool| pool.apply(|| std::thread::sleep(Duration::MAX), ()),
    },
    Fate {
        name: "leaks memory",
        expected: |error| is_killed_by(error, libc::SIGABRT),
        run: |pool| pool.apply(leak, ()),
    },
];

fn main() -> ExitCode {
    multiproc::init();
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crash: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was reported as expected.
fn run() -> Result<bool> {
    let pool = Pool::builder()
        .processes(2)
        .task_timeout(Duration::from_secs(1))
        .memory_limit(1 << 30)
        .build()?;
    println!("{:<22}{:<12}what the pool reports", "a task that", "");
    let mut all_expected = true;
    for Fate { name, expected, run } in FATES {
        let outcome = run(&pool);
        let is_expected = outcome.as_ref().is_err_and(expected);
        let verdict = if is_expected { "" } else { "UNEXPECTED" };
        let report = outcome.map_or_else(|error| error.to_string(), |()| "success".to_owned());
        println!("{name:<22}{verdict:<12}{report}");
        all_expected &= is_expected;
    }
    let counters = pool.snapshot().counters;
    println!(
        "\n{} tasks: {} with an answer, {} died with their workers, {} took too long",
        counters.submitted, counters.done, counters.died, counters.timed_out
    );
    let answer = pool.apply(|a: u32, b: u32| a * b, (6, 7))?;
    println!("{} workers replaced; six times seven is {answer}", counters.replaced);
    Ok(all_expected && answer == 42)
}

fn is_killed_by(error: &Error, signal: i32) -> bool {
    matches!(error, Error::WorkerDied { status: ExitStatus::Killed(by), .. } if *by == signal)
}

fn read_wild_address() {
    // SAFETY: it is not right, and is meant not to be: the kernel maps nothing into the first page, so
    // the read, which is volatile and therefore made, ends the process.
    let byte = unsafe { std::ptr::without_provenance::<u8>(64).read_volatile() };
    println!("there is a {byte} where nothing should be");
}

fn overflow() {
    println!("{}", descend(0));
}

#[expect(unconditional_recursion, reason = "that is how a stack overflows")]
fn descend(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 512]);
    descend(depth + 1) + frame[0]
}

/// Takes memory until there is no more; it is not touched, so that none is missing elsewhere.
fn leak() {
    loop {
        std::hint::black_box(vec![0u8; 16 << 20].leak());
    }
}
