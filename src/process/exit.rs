//! Leaving a process.

use super::child::Progress;
use super::{family, forkserver};
use crate::sys::time::Deadline;
use crate::{Level, Result, log, sys};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

struct Hook {
    priority: i32,
    run: Box<dyn FnOnce() + Send>,
}

/// In the order in which they were registered.
static HOOKS: Mutex<Vec<Hook>> = Mutex::new(Vec::new());

/// Whether [`at_exit_hook`] is in libc's list.
static REGISTERED: Mutex<bool> = Mutex::new(false);

/// The process whose exit is looked after; a process forked by other means than ours leaves alone.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// The forked process that must leave by `_exit`; zero or another's pid elsewhere.
static FORKED: AtomicU32 = AtomicU32::new(0);

/// How long daemons have to end after SIGTERM before they are killed.
const GRACE: Duration = Duration::from_secs(2);

#[inline]
fn hooks() -> MutexGuard<'static, Vec<Hook>> {
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has `f` called when this process exits in the ordinary way: by returning from `main`, by
/// `std::process::exit`, by [`exit`], or, in a child, when its function has ended.
///
/// Hooks run from the highest priority to the lowest, among equals the newest first. Those of
/// priority zero and above run before daemons are terminated and children joined, the others after.
/// A child does not inherit its parent's hooks. A hook that panics does not keep the others from
/// running.
///
/// # If a process dies
/// Hooks of a process that is killed, or aborts, do not run.
///
/// # Errors
/// * [`Error::Os`](crate::Error::Os): `atexit` was refused (ENOMEM).
///
/// # Differences from Python
/// `Finalize` is for what an object leaves behind; that is `Drop` here, which runs when the object goes
/// and not at exit. A hook cannot be taken back, and does not run twice.
///
/// # Examples
/// ```
/// multiproc::at_exit(|| println!("bye"), 0)?;
/// # Ok::<(), multiproc::Error>(())
/// ```
pub fn at_exit(f: impl FnOnce() + Send + 'static, priority: i32) -> Result<()> {
    look_after()?;
    hooks().push(Hook { priority, run: Box::new(f) });
    Ok(())
}

/// Takes this file's locks, for a fork.
pub(crate) fn hold() -> impl Sized {
    (REGISTERED.lock().unwrap_or_else(PoisonError::into_inner), hooks())
}

/// Has this process's exit looked after. Calling it again changes nothing.
#[inline]
pub(crate) fn look_after() -> Result<()> {
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*registered {
        sys::process::at_exit(at_exit_hook).map_err(crate::Error::os("atexit"))?;
        *registered = true;
    }
    if OWNER.load(Ordering::Relaxed) == 0 {
        OWNER.store(sys::process::id(), Ordering::Relaxed);
    }
    Ok(())
}

/// In a child that has just begun: its exit is its own.
#[inline]
pub(crate) fn become_child(forked: bool) {
    let pid = sys::process::id();
    OWNER.store(pid, Ordering::Relaxed);
    if forked {
        FORKED.store(pid, Ordering::Relaxed);
    }
    // The parent's hooks are not run and not dropped: what they captured is the parent's.
    std::mem::forget(std::mem::take(&mut *hooks()));
}

extern "C" fn at_exit_hook() {
    if OWNER.load(Ordering::Relaxed) == sys::process::id() {
        let _ = catch_unwind(run_hooks);
    }
}

/// Runs the hooks, ends the daemons and joins the other children.
#[inline]
fn run_hooks() {
    run_hooks_while(|hook| hook.priority >= 0);
    end_children();
    run_hooks_while(|_| true);
}

/// Runs the hooks that are `wanted`, those that they register included.
#[inline]
fn run_hooks_while(wanted: impl Fn(&Hook) -> bool) {
    loop {
        let mut hooks = hooks();
        // Of equals the last one: the newest.
        let next =
            (0..hooks.len()).filter(|&i| wanted(&hooks[i])).max_by_key(|&i| hooks[i].priority);
        let Some(hook) = next.map(|i| hooks.remove(i)) else { return };
        drop(hooks);
        let _ = catch_unwind(AssertUnwindSafe(hook.run));
    }
}

fn log_end(child: &Progress) {
    log::tell(Level::Info, || format!("process leaves: {} is ended", child.name));
}

/// Terminates the daemons and waits for everybody; the forkserver, which knows how the others ended,
/// leaves last.
#[inline]
fn end_children() {
    let server = forkserver::pid();
    let mut children = family::living();
    children.retain(|child| Some(child.pid) != server);
    let (daemons, others): (Vec<_>, Vec<_>) = children.into_iter().partition(|child| child.daemon);
    for daemon in &daemons {
        log_end(daemon);
        let _ = daemon.signal(sys::signal::SIGTERM);
    }
    // A look at the clock costs a forked child two page faults.
    if !daemons.is_empty() {
        let grace = Deadline::after(GRACE);
        daemons.iter().for_each(|daemon| end(daemon, grace));
    }
    for child in others {
        let _ = child.wait(Deadline::NEVER);
    }
    if let Some(server) = forkserver::dismiss() {
        end(&server, Deadline::after(GRACE));
    }
}

/// Waits for a child that has been asked to leave, until it has outstayed its time.
fn end(child: &Progress, grace: Deadline) {
    if let Ok(None) = child.wait(grace) {
        let _ = child.signal(sys::signal::SIGKILL);
        let _ = child.wait(Deadline::NEVER);
    }
}

/// Leaves the calling process at once, with this exit code: exit hooks run, children are looked after,
/// stdout is flushed, destructors of what is on the stack do not run.
///
/// In a forked child it is the only right way to leave early: what the parent has registered with
/// libc's `atexit`, or left in buffers, stays the parent's.
///
/// # Examples
/// ```no_run
/// multiproc::exit(3);
/// ```
#[inline]
pub fn exit(code: i32) -> ! {
    if FORKED.load(Ordering::Relaxed) != sys::process::id() {
        // The hooks run from libc's list, with those of everybody else.
        std::process::exit(code);
    }
    let _ = catch_unwind(run_hooks);
    flush();
    sys::process::exit_now(code)
}

/// Writes out what std buffers for stdout (for stderr it buffers nothing); a broken or closed stdout
/// does not matter.
#[inline]
pub(crate) fn flush() {
    let _ = std::io::stdout().flush();
}
