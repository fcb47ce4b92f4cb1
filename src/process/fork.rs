//! Start method Fork: a copy of this process.
#![allow(unsafe_code)]

use super::bootstrap::Voice;
use super::builder::fork_closure;
use super::child::{Born, Child, Reaper};
use super::control::Control;
use super::{Process, authkey, exit, family, forkserver, lifeline, spawn};
use crate::sys::signal;
use crate::{Decode, Encode, Error, Result, log, sys};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

type Hook = Box<dyn Fn() + Send>;

static AT_FORK: Mutex<Vec<Hook>> = Mutex::new(Vec::new());

/// Has `f` called in every child that this library forks from this process (and that such children
/// fork), before the child's function, in the order of registration. A hook that panics does not keep
/// the others from running.
///
/// Registered by the function given to [`set_forkserver_preload`](crate::set_forkserver_preload), it
/// is called in every child of the forkserver.
///
/// # Examples
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// static REQUESTS: AtomicU32 = AtomicU32::new(0);
/// multiproc::at_fork_child(|| REQUESTS.store(0, Ordering::Relaxed));
/// ```
#[doc(alias = "register_after_fork")]
pub fn at_fork_child(f: impl Fn() + Send + 'static) {
    AT_FORK.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(f));
}

/// In a forked child: calls what [`at_fork_child`] was given.
#[inline]
pub(crate) fn run_hooks() {
    // Taken out while they run, so that one may register another.
    let hooks = std::mem::take(&mut *AT_FORK.lock().unwrap_or_else(PoisonError::into_inner));
    if hooks.is_empty() {
        return;
    }
    for hook in &hooks {
        let _ = catch_unwind(AssertUnwindSafe(hook));
    }
    let mut now = AT_FORK.lock().unwrap_or_else(PoisonError::into_inner);
    let added = std::mem::replace(&mut *now, hooks);
    now.extend(added);
}

/// Who answers for it that no other thread holds, at the moment of the fork, what the child will want.
pub(crate) enum Surety {
    /// A look, right before: there is no other thread.
    Look,
    /// The caller of [`Process::fork_unchecked`].
    Caller(Promise),
}

/// Made by [`Process::fork_unchecked`] alone, for what its caller promises.
pub(crate) struct Promise(());

/// # Errors
/// * [`Error::ThreadsRunning`]: this process has other threads, or the system does not tell.
#[inline]
fn check_single_threaded() -> Result<()> {
    let mut looks = 0;
    while sys::process::is_single_threaded() != Some(true) {
        // A thread that was joined a moment ago may still be on its way out of the kernel.
        if looks == LOOKS {
            return Err(Error::ThreadsRunning);
        }
        looks += 1;
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(())
}

/// How often, and how long after each other, to look again whether other threads run.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_micros(500);

/// Forks; the child runs `body` with its control socket and leaves with the code it gives. All signals
/// are blocked, and `body` unblocks them.
///
/// What the child will need is made before it: see [`Voice`].
///
/// # Errors
/// * [`Error::ThreadsRunning`]: this process has other threads, and nobody answers for them.
/// * [`Error::Os`]: a socket, a descriptor or the process was refused.
pub(crate) fn start(surety: Surety, body: &mut dyn FnMut(Voice) -> i32) -> Result<Born> {
    let (control, theirs) = Control::pair()?;
    let voice = Voice::new(theirs);
    // Opened here: what code a new child runs for the first time costs it a page fault. And the child
    // exists before the descriptor that names it can be had: this leaves a number free for that.
    let stdin = spawn::empty_input()?;
    exit::flush();
    // Nor may its pid become another's before that.
    let ignored = signal::keep_zombies().map_err(Error::os("sigaction"))?;
    let restore = || drop(ignored.map(|before| signal::restore(signal::SIGCHLD, before)));
    let forked = match surety {
        Surety::Look => bare(),
        Surety::Caller(promise) => with_locks_held(|| vouched(promise)),
    };
    if let Ok(None) = forked {
        restore();
        drop(control);
        enter(stdin, || body(voice));
    }
    drop(stdin);
    let named = forked.map(|pid| pid.map(|pid| (pid, sys::process::pidfd_open(pid))));
    restore();
    match named? {
        Some((pid, Ok(pidfd))) => {
            Ok(Born { pid, pidfd, control, reaper: Reaper::Us, greeted: true })
        }
        Some((pid, Err(error))) => {
            sys::process::kill_and_reap(pid);
            Err(Error::os("pidfd_open")(error))
        }
        // The child has left by `enter`.
        None => Err(Error::Disconnected),
    }
}

/// Runs `f` while this thread holds every lock of the library that a new child takes. The child has
/// copies of them, held by itself, and lets them go as its parent does.
///
/// The forkserver's comes first: who holds it may take the others, which are nobody's for longer than
/// a few lines.
fn with_locks_held<T>(f: impl FnOnce() -> T) -> T {
    let _server = forkserver::hold();
    let _key = authkey::hold();
    let _exit = exit::hold();
    let _hooks = AT_FORK.lock().unwrap_or_else(PoisonError::into_inner);
    let _lifeline = lifeline::hold();
    let _logger = log::hold();
    let _streams = (std::io::stdout().lock(), std::io::stderr().lock());
    family::with_locks_held(f)
}

/// Forks: `None` in the child, which has this process's memory as it is; the child's pid here.
///
/// # Errors
/// * [`Error::ThreadsRunning`]: this process has other threads.
/// * [`Error::Os`]: `fork` was refused (EAGAIN, ENOMEM).
#[inline]
pub(crate) fn bare() -> Result<Option<u32>> {
    check_single_threaded()?;
    vouched(Promise(()))
}

/// Forks, as [`bare`] does; no other thread holds what the child will want.
#[inline]
fn vouched(_: Promise) -> Result<Option<u32>> {
    // SAFETY: (fork-1): there is a promise only where no other thread was there a line ago, or where
    // the caller of `fork_unchecked` has given his.
    match unsafe { sys::process::fork() }.map_err(Error::os("fork"))? {
        0 => Ok(None),
        pid => Ok(Some(pid)),
    }
}

impl<R: Encode + Decode + 'static> Process<R> {
    /// [`fork`](Self::fork) without a look at the number of threads.
    ///
    /// # Safety
    /// * No other thread of this process holds, at this moment, a lock that `f` or what it calls will
    ///   want: the child has a copy of the lock, for ever locked. The libc's allocator looks after
    ///   itself, and this library holds its own locks, and those of std's output streams, while it
    ///   forks. Those of a `Queue` or a `Pool` that `f` uses are `f`'s.
    /// * No other thread of this process panics, sets its panic hook or changes its environment at
    ///   this moment: the child does both, before `f`.
    ///
    /// # Errors
    /// As [`fork`](Self::fork), without [`Error::ThreadsRunning`].
    pub unsafe fn fork_unchecked(f: impl FnOnce() -> R) -> Result<Child<R>> {
        fork_closure(f, Surety::Caller(Promise(())))
    }
}

/// The whole life of a child that this process forks for itself.
fn enter(stdin: OwnedFd, body: impl FnOnce() -> i32) -> ! {
    to_the_end(|| {
        forkserver::drop_inherited();
        let _ = sys::fd::replace_stdio(0, stdin.as_fd());
        drop(stdin);
        body()
    })
}

/// [`enter`] for one of several children: `numbers` are its copies of what belongs to the others or to the
/// parent, which it neither uses nor drops.
pub(super) fn enter_among(
    stdin: OwnedFd,
    numbers: impl Iterator<Item = RawFd>,
    body: impl FnOnce() -> i32,
) -> ! {
    enter(stdin, || {
        // SAFETY: the owners are in the frames of the parent's function, to which this child does not return.
        unsafe { sys::fd::close_numbers(numbers) };
        body()
    })
}

/// Runs `body` in a forked child and leaves with the code it gives: nothing of the parent's runs, and
/// nothing is unwound into the parent's frames.
#[inline]
pub(crate) fn to_the_end(body: impl FnOnce() -> i32) -> ! {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(code) => exit::exit(code),
        // A panic outside of the user's function: nobody above this frame is ours to unwind.
        Err(_) => sys::process::exit_now(1),
    }
}
