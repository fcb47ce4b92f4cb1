//! What a process will be.

use super::bootstrap::{self, Birth};
use super::child::{Child, Progress, Role, START_TIMEOUT};
use super::family::{self, Identity};
use super::fork::Surety;
use super::settings::Settings;
use super::starter::{Copy, Departure, Stage, Starter};
use super::stdio::Streams;
use super::surroundings::Surroundings;
use super::target::{Body, EntryPoint, Target};
use super::{StartMethod, authkey, exit, fork, lifeline, method, stdio};
use crate::codec::Payload;
use crate::sys::signal::{self, Blocked};
use crate::{Decode, Encode, Error, Level, Result, log, sys};
use std::ffi::CString;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

/// A process that is yet to be started: what it will run, and how.
///
/// The function is a function item or a closure that captures nothing; what it needs are its
/// arguments, and what it returns comes back through [`Child::join`]. Arguments are encoded at once;
/// handles among them are the same objects in the child.
///
/// The process ends when its function returns: threads that the function has left running end with it,
/// as at the end of `main`.
///
/// It begins with the signals blocked that the starting thread blocks, and ignores what this process
/// ignores (by ForkServer, what that ignored when the server was started). A write to a broken pipe is
/// an error in it, as in every Rust program, or kills it if it would kill this process.
///
/// # Differences from Python
/// A child waits for its threads there; join them here. The program that is executed is always this one
/// (there is no `set_executable`), and there is no class to derive from: the function is all there is.
///
/// # Examples
/// ```
/// fn greet(name: String) -> String {
///     format!("hello {name}")
/// }
///
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// let child = multiproc::Process::new(greet, ("bob".to_string(),)).name("greeter").start()?;
/// assert_eq!(child.name(), "greeter");
/// assert_eq!(child.join()?, "hello bob");
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing runs until `start` is called"]
pub struct Process<R> {
    entry: &'static EntryPoint,
    arguments: Result<Payload>,
    numbers: Vec<u32>,
    pub(super) settings: Settings,
    result: PhantomData<fn() -> R>,
}

impl<R: Encode + Decode + 'static> Process<R> {
    /// A process that will call `f` with `arguments`, a tuple.
    ///
    /// Arguments that cannot be encoded are an error of [`start`](Self::start).
    pub fn new<F, A>(f: F, arguments: A) -> Process<R>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
    {
        Process::numbered(f, arguments, family::next_numbers())
    }

    /// A process whose own children, if they have default names, are called after `numbers`.
    pub(crate) fn numbered<F, A>(f: F, arguments: A, numbers: Vec<u32>) -> Process<R>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
    {
        let _ = f;
        Process {
            entry: EntryPoint::of::<Body<F, A, R>>(),
            arguments: Payload::of(&arguments),
            numbers,
            settings: Settings::default(),
            result: PhantomData,
        }
    }

    /// Starts a copy of this process that calls `f`, which may capture anything, and leaves with what
    /// it returns.
    ///
    /// The child has all of this process's memory and descriptors, and none of its threads. Nothing of
    /// the parent's runs in it: no exit hook, no destructor of what is on the stack, no flushing of
    /// what was buffered.
    ///
    /// # Errors
    /// * [`Error::ThreadsRunning`]: this process has other threads, whose locks the child would
    ///   inherit for ever locked. [`fork_unchecked`](Self::fork_unchecked) does not look.
    /// * [`Error::Os`]: `fork` (EAGAIN, ENOMEM), a socket or a descriptor (EMFILE) was refused.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// let text = String::from("captured");
    /// let child = multiproc::Process::fork(move || text.len())?;
    /// assert_eq!(child.join()?, 8);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fork(f: impl FnOnce() -> R) -> Result<Child<R>> {
        fork_closure(f, Surety::Look)
    }

    /// Names the process, for people: by default `Process-1`, `Process-2`, and so on, and
    /// `Process-1:2` for the second child of the first.
    ///
    /// # Differences from Python
    /// The default does not tell the start method (`SpawnProcess-1` there).
    pub fn name(mut self, name: impl Into<String>) -> Process<R> {
        self.settings.name = Some(name.into());
        self
    }

    /// Whether the process is terminated when this one exits, and dies when this one is killed. By
    /// default, what this process is itself.
    ///
    /// # Differences from Python
    /// A daemon may have children here; they die with it if they are daemons too.
    pub fn daemon(mut self, daemon: bool) -> Process<R> {
        self.settings.daemon = Some(daemon);
        self
    }

    /// Chooses how the process comes to be. By default, what [`start_method`] says.
    pub fn start_method(self, method: StartMethod) -> Process<R> {
        self.started_by(Starter::of(method))
    }

    pub(crate) fn started_by(mut self, starter: &'static Starter) -> Process<R> {
        self.settings.method = Some(starter);
        self
    }

    /// How long the process may take until [`multiproc::init`](crate::init) runs in it, before who
    /// waits for it kills it and gets [`Error::StartTimeout`](crate::Error::StartTimeout). A minute by
    /// default; it matters for [`Spawn`](StartMethod::Spawn) alone.
    pub fn start_timeout(mut self, timeout: Duration) -> Process<R> {
        self.settings.start_timeout = Some(timeout);
        self
    }

    /// Starts the process.
    ///
    /// # Blocking
    /// Returns once the process exists; it may not have reached its function yet.
    ///
    /// # Errors
    /// * [`Error::NotInitialized`]: [`multiproc::init`](crate::init) has not run (Spawn, ForkServer).
    /// * [`Error::Encode`]: the arguments cannot make the journey.
    /// * [`Error::NotInExecutable`]: the function is in a shared library.
    /// * [`Error::ThreadsRunning`]: Fork, while this process has other threads.
    /// * [`Error::Os`]: the system refused a process (EAGAIN, ENOMEM), a descriptor (EMFILE), or the
    ///   program's file (ENOENT, EACCES). Nothing remains of the attempt.
    pub fn start(self) -> Result<Child<R>> {
        self.start_as(false)
    }

    /// Starts a process that serves this library: a daemon that `active_children` does not show.
    pub(crate) fn start_hidden(self) -> Result<Child<R>> {
        self.daemon(true).start_as(true)
    }

    /// [`start_hidden`](Self::start_hidden) up to where the child's first word is awaited.
    pub(crate) fn set_out_hidden(self) -> Result<Starting<R>> {
        self.daemon(true).set_out(true)
    }

    /// [`set_out_hidden`](Self::set_out_hidden) as a copy of this process: what the process calls is `f`, with what
    /// it captures as it is in the parent's memory, and not the function.
    pub(crate) fn copy_hidden(self, copy: Copy, f: impl FnOnce() -> R) -> Result<Starting<R>> {
        let Process { settings, numbers, .. } = self.daemon(true);
        copy_to_call(copy, f, settings, numbers, true, Surety::Look)
    }

    fn start_as(self, hidden: bool) -> Result<Child<R>> {
        self.set_out(hidden)?.arrive()
    }

    fn set_out(self, hidden: bool) -> Result<Starting<R>> {
        let Process { entry, arguments, numbers, settings, .. } = self;
        set_out(entry, arguments?, settings, numbers, hidden).map(Starting::of)
    }
}

/// What all of [`Process::start`] comes to, whatever the process returns.
fn set_out(
    entry: &'static EntryPoint,
    mut arguments: Payload,
    settings: Settings,
    numbers: Vec<u32>,
    hidden: bool,
) -> Result<Begun> {
    let starter = settings.method.unwrap_or_else(method::chosen_or_default);
    if starter.method != StartMethod::Fork {
        bootstrap::check_initialized()?;
    }
    let location = entry.locate()?;
    settings.environment.check()?;
    let has_own_key = settings.authkey.is_some();
    begin(settings, numbers, hidden, &mut |birth, held| {
        let arguments = std::mem::take(&mut arguments);
        (starter.start)(Departure { birth, held, has_own_key, entry, location, arguments })
    })
}

impl Surroundings {
    /// Adds what a child by `method` would not find around itself, and takes away what it would.
    ///
    /// # Errors
    /// * [`Error::Os`]: `sigaction` was refused, which cannot be.
    pub(super) fn fit(&mut self, method: StartMethod, has_own_key: bool) -> Result<()> {
        if method == StartMethod::Fork {
            // The key, and what was chosen, are in the memory that the child has a copy of, unless it is to have
            // another key.
            self.authkey.take_if(|_| !has_own_key);
            self.method = None;
            return Ok(());
        }
        if method == StartMethod::ForkServer && self.directory.is_none() {
            // The server's own is what this process's was when it started the server.
            self.directory = std::env::current_dir().ok();
        }
        let kills = signal::is_default(signal::SIGPIPE).map_err(Error::os("sigaction"))?;
        self.broken_pipe_kills = Some(kills);
        Ok(())
    }
}

impl Settings {
    /// # Errors
    /// * [`Error::InvalidArgument`]: a name that is empty or holds NUL.
    fn command(&self) -> Result<Option<CString>> {
        let Some(name) = &self.argv0 else { return Ok(None) };
        match CString::new(name.as_bytes()) {
            Ok(command) if !name.is_empty() => Ok(Some(command)),
            _ => Err(Error::invalid(format!("no program can be called {name:?}"))),
        }
    }

    fn identity(&self, numbers: Vec<u32>) -> Identity {
        let me = family::identity();
        let name = self.name.clone().unwrap_or_else(|| {
            let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
            format!("Process-{}", numbers.join(":"))
        });
        let daemon = self.daemon.unwrap_or(me.daemon);
        Identity { name, numbers, daemon, parent: Some((sys::process::id(), me.name.clone())) }
    }
}

/// A process that was started, or asked for, and what it will return.
pub(crate) struct Starting<R> {
    begun: Begun,
    result: PhantomData<fn() -> R>,
}

/// A process that was started, or asked for.
struct Begun {
    stage: Stage,
    role: Role,
    held: Option<Held>,
}

/// What every start has in common: `start`, called once, makes the process, with all signals blocked.
fn begin(
    settings: Settings,
    numbers: Vec<u32>,
    hidden: bool,
    start: &mut dyn FnMut(&mut Birth, &mut Option<Held>) -> Result<Stage>,
) -> Result<Begun> {
    exit::look_after()?;
    family::reap_ended();
    let authkey = settings.authkey.clone().map_or_else(authkey::own, Ok)?;
    let command = settings.command()?;
    let identity = Arc::new(settings.identity(numbers));
    let (streams, pipes) = stdio::open(settings.streams)?;
    let role = Role {
        name: identity.name.clone(),
        daemon: identity.daemon,
        hidden,
        start_timeout: settings.start_timeout.unwrap_or(START_TIMEOUT),
    };
    let (tether, lifeline) = match identity.daemon {
        true => Tether::new().map(|(tether, lifeline)| (Some(tether), Some(lifeline)))?,
        false => (None, None),
    };
    let mut held = Some(Held { tether, pipes });
    let blocked = Blocked::all();
    let mask = blocked.before().to_bits();
    let surroundings = Surroundings {
        method: method::chosen_entry(),
        log: log::chosen(),
        logger: log::chosen_logger(),
        authkey: Some(authkey),
        command,
        directory: settings.directory,
        environment: settings.environment,
        streams,
        fences: settings.fences,
        broken_pipe_kills: None,
    };
    let mut birth = Birth { identity, mask, lifeline, surroundings };
    let stage = start(&mut birth, &mut held)?;
    drop(blocked);
    Ok(Begun { stage, role, held })
}

impl<R> Starting<R> {
    fn of(begun: Begun) -> Starting<R> {
        Starting { begun, result: PhantomData }
    }

    /// Waits until the process is there.
    pub(crate) fn arrive(self) -> Result<Child<R>> {
        let (progress, pipes) = self.begun.arrive()?;
        Ok(Child::new(progress).with_pipes(pipes))
    }
}

impl Begun {
    fn arrive(self) -> Result<(Arc<Progress>, Streams)> {
        let Begun { stage, role, held } = self;
        let mut born = match stage {
            Stage::Born(born) => born,
            Stage::Asked(answer) => answer()?,
        };
        born.pidfd = stdio::above_if_possible(born.pidfd);
        let (tether, pipes) = held.map(|held| (held.tether, held.pipes)).unwrap_or_default();
        let ours = tether.map(|tether| {
            // Refused (it cannot be), the child does it for itself.
            let _ = lifeline::tie(&tether.theirs, born.pid);
            tether.ours
        });
        let progress = Arc::new(Progress::new(born, role, ours));
        family::adopt(progress.clone());
        log::tell(Level::Debug, || format!("{} started with pid {}", progress.name, progress.pid));
        Ok((progress, pipes))
    }
}

/// What the parent holds of the child until that exists. A forked child has to close its copies.
pub(super) struct Held {
    tether: Option<Tether>,
    pipes: Streams,
}

/// A lifeline, as long as the parent has both ends.
struct Tether {
    ours: OwnedFd,
    /// A copy of the child's end.
    theirs: OwnedFd,
}

impl Tether {
    /// This, and the child's end.
    fn new() -> Result<(Tether, OwnedFd)> {
        let (ours, theirs) = lifeline::new()?;
        let copy = sys::fd::dup(theirs.as_fd()).map_err(Error::os("fcntl(F_DUPFD_CLOEXEC)"))?;
        Ok((Tether { ours, theirs: copy }, theirs))
    }
}

pub(super) fn fork_closure<R: Encode + Decode + 'static>(
    f: impl FnOnce() -> R,
    surety: Surety,
) -> Result<Child<R>> {
    copy_to_call(fork::start, f, Settings::default(), family::next_numbers(), false, surety)?
        .arrive()
}

fn copy_to_call<R: Encode + Decode + 'static>(
    copy: Copy,
    f: impl FnOnce() -> R,
    settings: Settings,
    numbers: Vec<u32>,
    hidden: bool,
    surety: Surety,
) -> Result<Starting<R>> {
    let (mut f, mut surety) = (Some(f), Some(surety));
    let has_own_key = settings.authkey.is_some();
    let begun = begin(settings, numbers, hidden, &mut |birth, held| {
        birth.surroundings.fit(StartMethod::Fork, has_own_key)?;
        let surety = surety.take().unwrap_or(Surety::Look);
        copy(surety, &mut |voice| {
            drop(held.take());
            f.take().map_or(1, |f| bootstrap::run_closure(voice, birth, f))
        })
        .map(Stage::Born)
    });
    begun.map(Starting::of)
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("target", &self.entry.name())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
