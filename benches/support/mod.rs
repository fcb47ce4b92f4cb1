//! What the benches share: each operation is measured beside the same work done by hand, in turns, so
//! that whatever else the machine does meets both; the table shows the ratio and its target.
#![allow(dead_code, unreachable_pub)]

use std::time::{Duration, Instant};

/// Whether to be done in a moment: `--quick`, or `MULTIPROC_BENCH_QUICK=1`.
pub fn quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
        || std::env::var_os("MULTIPROC_BENCH_QUICK").is_some_and(|value| value != "0")
}

/// `full`, or a small part of it in quick mode.
pub fn scaled(full: usize) -> usize {
    if quick() { (full / 50).max(1) } else { full }
}

/// How often each measurement is repeated.
pub fn repeats() -> usize {
    if quick() { 3 } else { 15 }
}

/// The time of one of `operations`, all of which `run` does.
pub fn per_operation(operations: usize, run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed() / operations as u32
}

/// Prints the head of the table.
pub fn print_head() {
    println!(
        "{:<30} {:>10} {:>10} {:>7} {:>7} {:>7} {:>21} {:>21}",
        "", "ours", "by hand", "ratio", "best", "target", "ours, all", "by hand, all"
    );
}

/// Measures `ours` and `limit` in turns, each giving the time of one operation, and prints the row:
/// medians, their ratio, that of the quickest, the target, and from where to where each went.
pub fn compare(
    name: &str,
    target_ratio: f64,
    mut ours: impl FnMut() -> Duration,
    mut limit: impl FnMut() -> Duration,
    repeats: usize,
) -> Row {
    // The first round meets cold caches.
    ours();
    limit();
    let (mut our_times, mut limit_times) = (Vec::new(), Vec::new());
    for repeat in 0..repeats {
        // Who goes first changes, so that neither always has the other's warm caches.
        if repeat % 2 == 0 {
            our_times.push(ours());
            limit_times.push(limit());
        } else {
            limit_times.push(limit());
            our_times.push(ours());
        }
    }
    let row = Row { ours: Spread::of(our_times), limit: Spread::of(limit_times), target_ratio };
    row.print(name);
    row
}

/// The outcome of one comparison.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub ours: Spread,
    pub limit: Spread,
    pub target_ratio: f64,
}

impl Row {
    /// Our median by the limit's.
    pub fn ratio(&self) -> f64 {
        self.ours.median.as_secs_f64() / self.limit.median.as_secs_f64()
    }

    /// The quickest of ours by the quickest of the limit's: what a busy machine disturbs least.
    pub fn best_ratio(&self) -> f64 {
        self.ours.least.as_secs_f64() / self.limit.least.as_secs_f64()
    }

    fn print(&self, name: &str) {
        let missed = if self.ratio() > self.target_ratio { " over" } else { "" };
        println!(
            "{name:<30} {:>10} {:>10} {:>7.2} {:>7.2} {:>7.2} {:>21} {:>21}{missed}",
            text(self.ours.median),
            text(self.limit.median),
            self.ratio(),
            self.best_ratio(),
            self.target_ratio,
            self.ours.range(),
            self.limit.range(),
        );
    }
}

/// The middle and the ends of some measurements.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub least: Duration,
    pub median: Duration,
    pub most: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Spread {
        times.sort();
        Spread { least: times[0], median: times[times.len() / 2], most: times[times.len() - 1] }
    }

    fn range(&self) -> String {
        format!("{}..{}", text(self.least), text(self.most))
    }
}

/// A duration with three digits or so.
fn text(duration: Duration) -> String {
    match duration.as_nanos() {
        nanos @ 0..10_000 => format!("{nanos} ns"),
        nanos @ 10_000..10_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        nanos => format!("{:.1} ms", nanos as f64 / 1e6),
    }
}

/// Runs `body` in a forked child, which leaves when it ends; the pid is for [`wait_for`].
///
/// To be called while the program has one thread only.
#[allow(unsafe_code)]
pub fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: there is no other thread, so the child is as whole as its parent.
    match unsafe { libc::fork() } {
        0 => {
            body();
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        pid => {
            assert!(pid > 0, "fork failed");
            pid
        }
    }
}

/// Waits for a child of [`fork`], and panics unless it ended well.
#[allow(unsafe_code)]
pub fn wait_for(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: `status` is writable.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0, "the child failed");
}

/// Has the calling process run on one core alone, if one is given.
#[allow(unsafe_code)]
pub fn pin(core: Option<usize>) {
    let Some(core) = core else { return };
    // SAFETY: a set of processors is plain bits, of which all may be zero.
    let mut set = unsafe { std::mem::zeroed::<libc::cpu_set_t>() };
    // SAFETY: `set` is one such set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the call reads `set`. A machine of one core refuses the second; the row is then unpinned.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
}
