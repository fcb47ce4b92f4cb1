//! Any system call may fail once, in any operation of any room: of the process that asked for it, of the
//! children, workers and servers that serve it. The operation is an error or does its work, hangs nowhere
//! and leaves nothing behind, and the next one is as if nothing had been.
//!
//! A filter has each call of a whole family of processes ask this one, which counts them and has one
//! fail: a run for each call, or some of very many, with one of its errors; with `MULTIPROC_FULL=1` for
//! each call with each of them. An argument picks the operations whose room or name holds it.

mod operations;
// Not the whole of `support`: what looks for leaks there makes system calls before `init`.
#[allow(dead_code)]
#[path = "../support/os.rs"]
mod os;
mod seccomp;

use operations::{OPERATIONS, Operation, Outcome};
use os::{Page, Status};
use seccomp::Question;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn main() {
    multiproc::init();
    os::adopt_orphans();
    os::alarm(if is_full() { 6 * 3600 } else { 900 });
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let scratch = Scratch::new();
    let mut all = Tried::default();
    for operation in OPERATIONS {
        if !operation.room.contains(&wanted) && !operation.name.contains(&wanted) {
            continue;
        }
        let Some(tried) = sweep(operation, &scratch.0) else {
            return println!("skipped: no seccomp filter can ask here");
        };
        println!("{:<16} {:<20} {tried}", operation.room, operation.name);
        all.add(tried);
    }
    println!("{:<37} {all}", "altogether");
    println!("failed: {}", all.kinds());
    assert!(all.flaws == 0, "{} flaws", all.flaws);
}

fn is_full() -> bool {
    std::env::var_os("MULTIPROC_FULL").is_some()
}

/// A folder of this run's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let name = format!("multiproc-faults-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What was tried, and what came of it.
#[derive(Default)]
struct Tried {
    calls: usize,
    failed: usize,
    refused: usize,
    flaws: usize,
    kinds: BTreeMap<&'static str, usize>,
}

impl Tried {
    fn add(&mut self, other: Tried) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.refused += other.refused;
        self.flaws += other.flaws;
        for (name, count) in other.kinds {
            *self.kinds.entry(name).or_default() += count;
        }
    }

    fn kinds(&self) -> String {
        let each = self.kinds.iter().map(|(name, count)| format!("{name} {count}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tried { calls, failed, refused, flaws, kinds } = self;
        let served = failed - refused - flaws;
        let kinds = kinds.len();
        write!(
            f,
            "{calls:>5} calls, {failed:>5} failures of {kinds:>2} kinds: {refused:>5} refused, {served:>5} served"
        )
    }
}

/// Has one call of the operation fail after the other; `None` if they cannot be made to.
fn sweep(operation: &Operation, scratch: &Path) -> Option<Tried> {
    let (calls, _) = run(operation, scratch, &mut |_, _| None);
    let calls = calls?;
    let mut tried = Tried { calls, ..Tried::default() };
    // Where there are many they are of few kinds: the short form takes some of them.
    let stride = if is_full() { 1 } else { 1 + calls / 60 };
    // Threads take turns as they like: a few calls more may occur in another run.
    let mut nth = 0;
    while try_all(operation, scratch, nth, &mut tried) {
        nth += stride;
    }
    Some(tried)
}

/// Has the `nth` call fail, with one of its errors, or with each; false if there is none.
fn try_all(operation: &Operation, scratch: &Path, nth: usize, tried: &mut Tried) -> bool {
    let mut occurred = false;
    for which in 0..if is_full() { 4 } else { 1 } {
        let mut failed = None;
        let (_, end) = run(operation, scratch, &mut |count, question| {
            if count != nth || which >= question.errors.len() {
                return None;
            }
            let error = question.errors[(nth + which) % question.errors.len()];
            failed = Some((question.name, error));
            Some(error)
        });
        let Some((name, error)) = failed else { return occurred };
        occurred = true;
        let error = std::io::Error::from_raw_os_error(error);
        if !matches!(end, Status::Exited(0 | REFUSED)) {
            let Operation { room, name: operation, .. } = operation;
            eprintln!("{room}, {operation}: {end:?} when call {nth}, {name}, failed: {error}\n");
            tried.flaws += 1;
        }
        tried.failed += 1;
        tried.refused += usize::from(end == Status::Exited(REFUSED));
        *tried.kinds.entry(name).or_default() += 1;
    }
    occurred
}

/// Exit codes of the process that does the operation.
const REFUSED: i32 = 10;
const FLAWED: i32 = 99;

/// Does the operation in a process of its own, whose calls fail as `answer` says. Gives how many calls
/// there were, or `None` if they cannot be made to fail, and how the process ended.
fn run(
    operation: &Operation,
    scratch: &Path,
    answer: &mut dyn FnMut(usize, &Question) -> Option<i32>,
) -> (Option<usize>, Status) {
    let page = Page::new();
    let (said, end) = UnixStream::pair().unwrap();
    let subject = os::fork(|| {
        // A program that cannot begin, or has no memory, says so: nobody wants to know.
        os::replace(2, end.as_fd());
        os::set_variable("TMPDIR", scratch.to_str().unwrap());
        if seccomp::ask(&page) {
            os::alarm(30);
            let seen = catch_unwind(|| twice(operation, &page));
            os::exit_now(match seen {
                Ok(Ok(())) => 0,
                Ok(Err(_)) => REFUSED,
                Err(_) => FLAWED,
            });
        }
    });
    let mut calls = None;
    let mut all_gone = true;
    let mut leaves_a_file = false;
    if let Some(listener) = seccomp::listener_of(subject, &page) {
        let mut count = 0;
        all_gone = seccomp::serve(&listener, &page, 40_000, |nth, question| {
            count += 1;
            let error = answer(nth, question);
            leaves_a_file |= error.is_some() && question.leaves_a_file();
            error
        });
        calls = Some(count);
    }
    let mut status = os::wait(subject);
    // Orphans that nobody reaped.
    while os::reap_any() {}
    let left = files_in(scratch);
    if !(left.is_empty() || leaves_a_file) {
        eprintln!("files: {left:?}");
        status = Status::Exited(FLAWED);
    }
    for file in left {
        let _ = fs::remove_file(file);
    }
    if !all_gone {
        eprintln!("somebody is left");
        status = Status::Exited(FLAWED);
    }
    if matches!(status, Status::Exited(FLAWED) | Status::Killed(_)) {
        drop(end);
        let mut text = String::new();
        let _ = (&said).read_to_string(&mut text);
        eprintln!("{text}");
    }
    (calls, status)
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The operation while a call may fail, then when none does: gives what the first came to.
fn twice(operation: &Operation, page: &Page) -> Outcome {
    let before = Held::now();
    seccomp::set_phase(page, true);
    let first = (operation.run)();
    seccomp::set_phase(page, false);
    before.check(operation, &first);
    let second = (operation.run)();
    assert!(second.is_ok(), "{second:?}, later than {first:?}");
    before.check(operation, &first);
    first
}

/// What a process holds.
struct Held {
    descriptors: usize,
    mappings: usize,
}

impl Held {
    fn now() -> Held {
        Held { descriptors: os::open_files(), mappings: shared_mappings().len() }
    }

    /// Asserts that no more is held now than was then.
    fn check(&self, operation: &Operation, after: &Outcome) {
        let left = multiproc::active_children();
        assert!(left.is_empty(), "{left:?} after {after:?}");
        let now = os::open_files();
        let more = now.saturating_sub(self.descriptors + operation.keeps);
        assert!(more == 0, "{more} of the descriptors {:?} after {after:?}", descriptors());
        let mappings = shared_mappings();
        assert!(mappings.len() <= self.mappings, "{mappings:#?} after {after:?}");
        assert!(operation.keeps > 0 || !os::has_children(), "a child after {after:?}");
    }
}

/// The lines of the memory that this process shares with others.
fn shared_mappings() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/maps").unwrap();
    let is_shared = |line: &&str| line.split(' ').nth(1).is_some_and(|mode| mode.ends_with('s'));
    text.lines().filter(is_shared).map(str::to_owned).collect()
}

/// What this process's descriptors are of.
fn descriptors() -> Vec<PathBuf> {
    let folder = fs::read_dir("/proc/self/fd").unwrap();
    folder.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).collect()
}
