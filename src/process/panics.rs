//! Panics on their way to another process.

use super::family;
use crate::{Error, Result};
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

thread_local! {
    /// What the last panic of this thread was: the hook knows, the catcher does not.
    static LAST: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

/// What the hook knows of a panic.
#[derive(Default)]
struct Noted {
    message: String,
    location: String,
    backtrace: String,
}

/// Whether a caught panic is also told on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// As every Rust program does, under the process's name.
    OnStderr,
    /// It reaches who waits for the result, and nobody else.
    Silently,
}

/// Whether nobody but who waits for the result is told.
static SILENT: AtomicBool = AtomicBool::new(false);

/// What is called when a thread panics.
type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// The hook that this process had before ours. Not captured by ours: a hook that captures nothing takes
/// no memory, of which a forked child would have to touch the pages.
static BEFORE: RwLock<Option<Hook>> = RwLock::new(None);

/// Has this process, and those forked from it, remember where they panic. The last call decides whether
/// stderr is told too.
#[inline]
pub(crate) fn remember(report: Report) {
    static REMEMBERS: AtomicBool = AtomicBool::new(false);
    SILENT.store(report == Report::Silently, Ordering::Relaxed);
    if REMEMBERS.swap(true, Ordering::Relaxed) {
        return;
    }
    let before = std::panic::take_hook();
    *BEFORE.write().unwrap_or_else(PoisonError::into_inner) = Some(before);
    std::panic::set_hook(Box::new(hook));
}

fn hook(info: &PanicHookInfo<'_>) {
    note(info);
    if !SILENT.load(Ordering::Relaxed) {
        // Unlike `eprintln!`, it does not panic where stderr is broken.
        let _ = writeln!(std::io::stderr(), "Process {}:", family::identity().name);
        if let Some(before) = &*BEFORE.read().unwrap_or_else(PoisonError::into_inner) {
            before(info);
        }
    }
    if cfg!(panic = "abort") {
        // Nobody catches it: the parent is told now, or never.
        family::tell_panic(&last());
    }
}

fn note(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => backtrace.to_string(),
        _ => String::new(),
    };
    let noted = Noted { message: text(info.payload()), location, backtrace };
    LAST.with(|last| last.replace(Some(noted)));
}

fn last() -> Error {
    LAST.with(RefCell::take).unwrap_or_default().into()
}

impl From<Noted> for Error {
    fn from(noted: Noted) -> Error {
        let Noted { message, location, backtrace } = noted;
        Error::Panicked { message, location: location.into(), backtrace: backtrace.into() }
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a value that is no text")
        .to_owned()
}

/// Runs `f`; a panic is [`Error::Panicked`].
#[inline]
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let noted = LAST.with(RefCell::take);
        let noted = noted.unwrap_or_else(|| Noted { message: text(&*payload), ..Noted::default() });
        // The value may panic once more when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        noted.into()
    })
}
