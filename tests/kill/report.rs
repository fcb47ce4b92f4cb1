//! How thorough a sweep is, and what it has to tell.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How thorough a sweep is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// The least distance between two kills, in instructions.
    pub(crate) stride: usize,
    /// Long operations get a longer stride, so that the sweep takes about so many steps.
    pub(crate) steps: u64,
    /// How long a round may wait for any one thing.
    pub(crate) patience: Duration,
}

impl Config {
    /// Every 7th instruction, or fewer of a long operation; `MULTIPROC_KILL=full` means each, however
    /// long it takes, and a number means that stride.
    pub(crate) fn from_env() -> Config {
        let (stride, steps) = match std::env::var("MULTIPROC_KILL").as_deref() {
            Ok("full") => (1, u64::MAX),
            Ok(number) => (number.parse().expect("MULTIPROC_KILL: `full` or a stride"), u64::MAX),
            Err(_) => (7, 125_000),
        };
        assert!(stride > 0, "MULTIPROC_KILL: a stride is at least 1");
        Config { stride, steps, patience: Duration::from_secs(20) }
    }

    /// For rounds that take long: fewer of them, unless the environment asks for all.
    pub(crate) fn shortened(self, times: u64) -> Config {
        let steps = if self.steps == u64::MAX { self.steps } else { self.steps / times };
        Config { steps, ..self }
    }

    /// Each instruction, whatever the environment says: for short operations.
    pub(crate) fn every_instruction() -> Config {
        Config { stride: 1, steps: u64::MAX, ..Config::from_env() }
    }

    /// The stride for an operation of `length` instructions; each kill costs the steps up to it.
    pub(crate) fn stride_for(&self, length: usize) -> usize {
        let all = (length as u64).pow(2) / 2;
        self.stride.max((all / self.steps) as usize)
    }
}

/// What a round found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Somebody was left asleep who should not be.
    Stuck,
    /// A survivor, or a sleeper that was to be served, never came to its end.
    Hung,
    /// A process panicked, or ended as it should not.
    Broken,
}

/// One round that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) wrong: Wrong,
    /// After which instruction the kill came, and where that is.
    pub(crate) k: usize,
    pub(crate) place: String,
    pub(crate) why: String,
}

/// What a sweep did and found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) kills: usize,
    /// Kills that met the victim asleep in the operation.
    pub(crate) blocked: usize,
    /// Sleepers that were killed when the victim's death had woken them.
    pub(crate) woken: usize,
    pub(crate) steps: u64,
    pub(crate) stride: usize,
    /// The instructions from the marker to the victim's end.
    pub(crate) length: usize,
    /// How many sleepers slept in which system call.
    pub(crate) sleepers: BTreeMap<String, usize>,
    pub(crate) owner_deaths: u64,
    pub(crate) failures: Vec<Failure>,
}

impl Report {
    pub(crate) fn count(&self, wrong: Wrong) -> usize {
        self.failures.iter().filter(|failure| failure.wrong == wrong).count()
    }

    /// Panics with the failures if there are any.
    pub(crate) fn assert_clean(&self) {
        assert!(self.kills > 0, "the sweep killed nobody");
        assert!(self.failures.is_empty(), "{} of {} kills", self.failures.len(), self.kills);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kills ({} blocked) ", self.kills, self.blocked)?;
        if self.woken > 0 {
            write!(f, "and {} of the woken ", self.woken)?;
        }
        write!(f, "over {} instructions, ", self.length)?;
        write!(f, "stride {}, {} steps; sleepers: ", self.stride, self.steps)?;
        if self.sleepers.is_empty() {
            f.write_str("none, ")?;
        }
        for (call, count) in &self.sleepers {
            write!(f, "{count} in {call}, ")?;
        }
        write!(f, "owner deaths: {}; ", self.owner_deaths)?;
        let [stuck, hung, broken] = [Wrong::Stuck, Wrong::Hung, Wrong::Broken];
        let [stuck, hung, broken] = [self.count(stuck), self.count(hung), self.count(broken)];
        write!(f, "{stuck} stuck, {hung} hung, {broken} broken")?;
        const SHOWN: usize = 5;
        for Failure { wrong, k, place, why } in self.failures.iter().take(SHOWN) {
            write!(f, "\n    {wrong:?} at k = {k}, {place}: {why}")?;
        }
        match self.failures.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n    and {more} more"),
        }
    }
}

/// The system call at the front of a line of /proc/PID/syscall, by name where it is a usual one.
pub(crate) fn call_name(line: &str) -> String {
    let number = line.split(' ').next().unwrap_or_default();
    let usual = [
        (libc::SYS_futex, "futex"),
        (libc::SYS_read, "read"),
        (libc::SYS_write, "write"),
        (libc::SYS_ppoll, "ppoll"),
        (libc::SYS_recvmsg, "recvmsg"),
        (libc::SYS_sendmsg, "sendmsg"),
        (libc::SYS_waitid, "waitid"),
        (libc::SYS_wait4, "wait4"),
    ];
    let name = usual.iter().find(|(usual, _)| number.parse() == Ok(*usual));
    name.map_or(format!("call {number}"), |(_, name)| name.to_string())
}
