//! What the library does, told to whoever wants to know: nobody, unless asked.

use crate::codec::Payload;
use crate::process::target::{self, Entry, EntryPoint, Location};
use crate::{Decoder, Result, current_process};
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock};

/// How much a record matters; Python's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Each start and end of a process.
    Debug = 10,
    /// What a user of the library may want to know.
    Info = 20,
    /// What has gone wrong and was put right.
    Warning = 30,
    /// What has gone wrong.
    Error = 40,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Record<'a> {
    /// How much it matters.
    pub level: Level,
    /// The name of the process in which it happened.
    pub process: &'a str,
    /// What happened.
    pub message: &'a str,
}

impl fmt::Display for Record<'_> {
    /// As Python: `[DEBUG/Process-1] child process starts`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}/{}] {}", self.level, self.process, self.message)
    }
}

/// The least level that is written to stderr; 0 for none.
static STDERR: AtomicU8 = AtomicU8::new(0);

static LOGGER: RwLock<Option<Logger>> = RwLock::new(None);

/// Whether there ever was a logger: most programs have none, and a lock that is taken in a forked child
/// costs it a copy of a page.
static LISTENED_TO: AtomicBool = AtomicBool::new(false);

/// Who is given every record.
#[derive(Clone, Copy)]
struct Logger {
    call: fn(&Record<'_>),
    /// What makes a child have the same.
    entry: &'static EntryPoint,
}

/// The entry of setting `F` as the logger.
struct SetLogger<F>(std::marker::PhantomData<fn(F)>);

impl<F: Fn(&Record<'_>) + Copy + Send + Sync + 'static> Entry for SetLogger<F> {
    fn run(_: &mut Decoder<'_>, _: &mut Payload) -> Result<()> {
        set_logger(target::instance::<F>());
        Ok(())
    }
}

/// Has what happens in the library written to stderr, in this process and in the children that it
/// starts from now on, from this level upwards.
///
/// Records of several processes may come between each other's, each is one line.
///
/// # Examples
/// ```
/// multiproc::log_to_stderr(multiproc::Level::Info);
/// ```
pub fn log_to_stderr(level: Level) {
    STDERR.store(level as u8, Ordering::Relaxed);
}

/// Has every record given to `logger`, whatever its level, in this process and in the children that it
/// starts from now on. `logger` is a function item or a closure that captures nothing.
///
/// A child that a function in a shared library cannot be named to has no logger.
///
/// # Examples
/// ```
/// multiproc::set_logger(|record| println!("{record}"));
/// ```
#[doc(alias = "get_logger")]
pub fn set_logger<F: Fn(&Record<'_>) + Copy + Send + Sync + 'static>(logger: F) {
    let _ = logger;
    let logger = Logger {
        call: |record| target::instance::<F>()(record),
        entry: EntryPoint::of::<SetLogger<F>>(),
    };
    *LOGGER.write().unwrap_or_else(PoisonError::into_inner) = Some(logger);
    LISTENED_TO.store(true, Ordering::Relaxed);
}

fn logger() -> Option<Logger> {
    // Relaxed: what there is to see is behind the lock.
    if !LISTENED_TO.load(Ordering::Relaxed) {
        return None;
    }
    *LOGGER.read().unwrap_or_else(PoisonError::into_inner)
}

/// Takes this file's lock, for a fork.
pub(crate) fn hold() -> impl Sized {
    LOGGER.write().unwrap_or_else(PoisonError::into_inner)
}

/// The choice as a child is told it.
pub(crate) fn chosen() -> u8 {
    STDERR.load(Ordering::Relaxed)
}

/// The logger as a child is told it.
pub(crate) fn chosen_logger() -> Option<Location> {
    logger()?.entry.locate().ok()
}

/// In a child that has just begun: takes up its parent's choice.
#[inline]
pub(crate) fn inherit(chosen: u8) {
    STDERR.store(chosen, Ordering::Relaxed);
}

/// Tells that something happened; costs next to nothing while nobody listens.
#[inline]
pub(crate) fn tell(level: Level, message: impl FnOnce() -> String) {
    let least = STDERR.load(Ordering::Relaxed);
    let logger = logger();
    let to_stderr = least != 0 && level as u8 >= least;
    if !to_stderr && logger.is_none() {
        return;
    }
    let (me, message) = (current_process(), message());
    let record = Record { level, process: me.name(), message: &message };
    if to_stderr {
        // One write, so that lines stay whole; a broken stderr does not matter.
        let _ = std::io::stderr().write_all(format!("{record}\n").as_bytes());
    }
    if let Some(logger) = logger {
        (logger.call)(&record);
    }
}
