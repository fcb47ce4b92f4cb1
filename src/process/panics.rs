//! Panics on their way to another process.

use super::family;
use crate::{Error, Result};
use std::any::Any;
use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// Where and what the last panic of this thread was: the hook knows, the catcher does not.
    static LAST: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Whether a caught panic is also told on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// As every Rust program does, under the process's name.
    OnStderr,
    /// It reaches who waits for the result, and nobody else.
    Silently,
}

/// Has this process, and those forked from it, remember where they panic. The last call decides whether
/// stderr is told too.
pub(crate) fn remember(report: Report) {
    static REMEMBERS: AtomicBool = AtomicBool::new(false);
    static SILENT: AtomicBool = AtomicBool::new(false);
    SILENT.store(report == Report::Silently, Ordering::Relaxed);
    if REMEMBERS.swap(true, Ordering::Relaxed) {
        return;
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        note(info);
        if !SILENT.load(Ordering::Relaxed) {
            // Unlike `eprintln!`, it does not panic where stderr is broken.
            let _ = writeln!(std::io::stderr(), "Process {}:", family::identity().name);
            before(info);
        }
        if cfg!(panic = "abort") {
            // Nobody catches it: the parent is told now, or never.
            family::tell_panic(&last());
        }
    }));
}

fn note(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    LAST.with(|last| last.replace(Some((text(info.payload()), place))));
}

fn last() -> Error {
    let (message, location) = LAST.with(RefCell::take).unwrap_or_default();
    Error::Panicked { message, location }
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
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let noted = LAST.with(RefCell::take);
        let (message, location) = noted.unwrap_or_else(|| (text(&*payload), String::new()));
        // The value may panic once more when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        Error::Panicked { message, location }
    })
}
