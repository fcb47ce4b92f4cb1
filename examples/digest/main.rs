//! Prints the SHA-256 of every regular file below the given paths, as
//! `find PATH... -type f | LC_ALL=C sort | xargs sha256sum` does.
//!
//! `cargo run --release --example digest -- [--workers N] [--kill-workers MS] PATH...`
//!
//! The files are the tasks of a pool of N processes, by default as many as there are usable CPUs.
//! With `--kill-workers` a random one of them is killed every MS milliseconds: its file is hashed by
//! another, and the output is the same.
//!
//! What cannot be read gives a line on standard error each, and exit code 1 at the end; the rest is
//! done all the same.

mod options;
mod report;
mod sha256;
mod walk;

use multiproc::{Pool, StartMethod};
use options::{Options, USAGE};
use report::{Report, reason};
use sha256::Sha256;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use walk::Walk;

/// A file's digest in hexadecimal and its length; or why there is none.
type Digest = Result<(String, u64), String>;

fn main() -> ExitCode {
    multiproc::init();
    let Some(options) = Options::parse(std::env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut report = Report::new();
    let done = run(&options, &mut report);
    if let Err(error) = done.and_then(|()| report.finish()) {
        report.failure(Path::new("standard output"), &reason(&error));
    }
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reports the digest of each file, in order; worker processes compute them.
fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    /// Files that a worker is given at a time: most are small.
    const CHUNK: usize = 8;
    let mut builder = Pool::builder().start_method(StartMethod::ForkServer).retries(u32::MAX);
    if let Some(workers) = options.workers {
        builder = builder.processes(workers);
    }
    let pool = builder.build()?;
    // What the walk has come by since: it goes on while results are asked for.
    let (drawn, failures) = (RefCell::new(VecDeque::new()), RefCell::new(Vec::new()));
    let files = Walk::new(&options.paths).filter_map(|found| match found {
        Ok(path) => {
            drawn.borrow_mut().push_back(path.clone());
            Some(path)
        }
        Err(failure) => {
            failures.borrow_mut().push(failure);
            None
        }
    });
    // What a killed worker had in hand is done again, all of it: the less, the sooner.
    let chunk = if options.kill_workers.is_some() { 1 } else { CHUNK };
    let mut digests = pool.imap(digest_file, files).chunksize(chunk);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        if let Some(period) = options.kill_workers {
            let (pool, over) = (&pool, &over);
            scope.spawn(move || kill_now_and_then(pool, period, over));
        }
        let _over = SetAtEnd(&over);
        loop {
            let digest = digests.next();
            for (path, error) in failures.take() {
                report.failure(&path, &reason(&error));
            }
            let Some(digest) = digest else { return Ok(()) };
            let Some(path) = drawn.borrow_mut().pop_front() else { return Ok(()) };
            match digest.unwrap_or_else(|error| Err(error.to_string())) {
                Ok((digest, len)) => report.digest(&path, &digest, len)?,
                Err(reason) => report.failure(&path, &reason),
            }
        }
    })
}

/// Kills a random worker every `period`, to show that it does not matter.
fn kill_now_and_then(pool: &Pool, period: Duration, over: &AtomicBool) {
    let mut random = u64::from(std::process::id());
    while !over.load(Ordering::Relaxed) {
        thread::sleep(period);
        // xorshift: any numbers will do.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let workers = pool.snapshot().workers;
        if let Some(worker) = workers.get(random as usize % workers.len().max(1)) {
            pool.kill_worker(worker.pid);
        }
    }
}

/// Sets a flag when it is dropped, also on the way out with an error.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The task: one file.
fn digest_file(path: PathBuf) -> Digest {
    digest_of(&path).map_err(|error| reason(&error))
}

fn digest_of(path: &Path) -> io::Result<(String, u64)> {
    thread_local! {
        /// Used for one file after the other: clearing it takes longer than hashing a small file.
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 << 10]);
    }
    BUFFER.with(|buffer| digest_with(path, &mut buffer.borrow_mut()))
}

fn digest_with(path: &Path, buffer: &mut [u8]) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut len = 0;
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok((hash.finish(), len)),
            Ok(n) => {
                hash.update(&buffer[..n]);
                len += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
