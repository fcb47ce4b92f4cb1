//! A process that this one started.

use super::ExitStatus;
use super::control::{Control, Incoming, Kind, Packet};
use super::family;
use super::stdio::Streams;
use crate::sys::poll::{self, IN, PollFd};
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Error, Level, Result, log, sys};
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a child may take from its start to `multiproc::init`, before who waits for it gives up.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Who is told by the kernel how a child ended.
#[derive(Clone, Debug)]
pub(crate) enum Reaper {
    /// This process: it is the parent.
    Us,
    /// The forkserver, which passes it on by the child's control socket.
    Forkserver(Arc<Progress>),
}

/// What a start method gives: a process that exists.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) control: Control,
    pub(crate) reaper: Reaper,
    /// Whether the child is this library's already, and not still a program on its way to `init`.
    pub(crate) greeted: bool,
}

/// What a child is to its parent.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) daemon: bool,
    /// Python's `active_children` does not show it, and it is nobody's to join.
    pub(crate) hidden: bool,
    /// How long it may take to its `init`.
    pub(crate) start_timeout: Duration,
}

/// What is known of a child, shared by its handle and the list of this process's children.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) name: String,
    pub(crate) daemon: bool,
    pub(crate) hidden: bool,
    pub(crate) pid: u32,
    creator: u32,
    pidfd: OwnedFd,
    reaper: Reaper,
    start_deadline: Deadline,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Gone once the child was reaped, and in a fork of the process that started it. Shared with
    /// those that wait for its next packet.
    control: Option<Arc<Control>>,
    /// While this end is open a daemon lives. Nothing is ever sent on it.
    lifeline: Option<OwnedFd>,
    /// Whether a forkserver will say how the child ended.
    served: bool,
    greeted: bool,
    /// Nothing more will be said: the child has closed its end, most likely by ending.
    silent: bool,
    timed_out: bool,
    finished: Option<Finished>,
    /// What the forkserver has said.
    told: Option<ExitStatus>,
    status: Option<ExitStatus>,
}

/// What a child says last.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    /// The encoded result, or what came in its place.
    pub(crate) outcome: Result<crate::codec::Payload>,
}

/// Python's exit code of a process of which nobody can tell any more.
const LOST: i32 = 255;

impl Progress {
    pub(crate) fn new(born: Born, role: Role, lifeline: Option<OwnedFd>) -> Progress {
        let served = matches!(born.reaper, Reaper::Forkserver(_));
        Progress {
            name: role.name,
            daemon: role.daemon,
            hidden: role.hidden,
            pid: born.pid,
            creator: sys::process::id(),
            pidfd: born.pidfd,
            reaper: born.reaper,
            start_deadline: Deadline::after(role.start_timeout),
            state: Mutex::new(State::new(born.control, lifeline, served, born.greeted)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes its lock, for a fork.
    pub(crate) fn hold(&self) -> impl Sized + '_ {
        self.state()
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }

    fn check_creator(&self) -> Result<()> {
        if self.creator == sys::process::id() { Ok(()) } else { Err(Error::ForeignProcess) }
    }

    /// Waits until the child has ended, and reaps it; `None` once the deadline has passed.
    ///
    /// Any number of threads may do so at once: each waits without a lock, and what the first of them
    /// learns is the others' too.
    pub(crate) fn wait(&self, deadline: Deadline) -> Result<Option<ExitStatus>> {
        self.check_creator()?;
        if let Some(status) = self.state().status {
            return Ok(Some(status));
        }
        if self.await_end(deadline)? { self.await_status(deadline) } else { Ok(None) }
    }

    /// Waits until the child has ended; false once the deadline has passed.
    fn await_end(&self, deadline: Deadline) -> Result<bool> {
        loop {
            // Only a child that has not greeted yet is listened to while it runs: what it says later
            // is read when it has ended.
            let (control, impatient) = self.state().await_greeting();
            let until = if impatient { deadline.min(self.start_deadline) } else { deadline };
            // A negative number is nobody's: poll passes it over.
            let control_fd = control.as_ref().map_or(-1, |control| control.as_fd().as_raw_fd());
            let mut fds = [PollFd::new(self.raw_fd(), IN), PollFd::new(control_fd, IN)];
            poll::poll(&mut fds, until).map_err(Error::os("ppoll"))?;
            if fds[0].is_ready() {
                return Ok(true);
            }
            if impatient && self.start_deadline.has_passed() {
                self.state().timed_out = true;
                log::tell(Level::Error, || {
                    format!("{} did not get to its init in time", self.name)
                });
                self.signal(sys::signal::SIGKILL)?;
            } else if deadline.has_passed() {
                return Ok(false);
            }
        }
    }

    /// The child has ended: learns how, and reads what it left.
    fn await_status(&self, deadline: Deadline) -> Result<Option<ExitStatus>> {
        loop {
            let mut state = self.state();
            state.absorb_all();
            let status = match state.status {
                Some(status) => Some(status),
                None => self.learn_status(&mut state)?,
            };
            if let Some(status) = status {
                state.close(status);
                drop(state);
                family::forget(self);
                log::tell(Level::Debug, || format!("{} {status}", self.name));
                return Ok(Some(status));
            }
            let control = state.control.clone();
            drop(state);
            if deadline.has_passed() {
                return Ok(None);
            }
            self.pause(control, deadline)?;
        }
    }

    /// How the child, which has ended, did so; `None` if it is too early to tell.
    fn learn_status(&self, state: &mut State) -> Result<Option<ExitStatus>> {
        match &self.reaper {
            Reaper::Us => match sys::process::reap(self.pidfd.as_fd()) {
                Ok(status) => Ok(status),
                // The host program waited for any child, or has SIGCHLD ignored.
                Err(error) if error.raw_os_error() == Some(sys::ECHILD) => {
                    Ok(Some(self.guess_status(state)))
                }
                Err(error) => Err(Error::os("waitid(P_PIDFD)")(error)),
            },
            Reaper::Forkserver(server) if state.told.is_none() => {
                if !state.silent && !server.has_ended()? {
                    return Ok(None);
                }
                // What it said before it went.
                state.absorb_all();
                Ok(Some(state.told.unwrap_or_else(|| self.guess_status(state))))
            }
            Reaper::Forkserver(_) => Ok(state.told),
        }
    }

    /// The best word on a child that somebody else has reaped.
    fn guess_status(&self, state: &State) -> ExitStatus {
        let own = || state.finished.as_ref().map_or(LOST, |finished| finished.code);
        sys::process::exit_info(self.pidfd.as_fd()).unwrap_or_else(|| ExitStatus::Exited(own()))
    }

    /// Waits for the word of who reaps the child.
    fn pause(&self, control: Option<Arc<Control>>, deadline: Deadline) -> Result<()> {
        let Reaper::Forkserver(server) = &self.reaper else {
            // A debugger is told first, and no descriptor says when it is our turn.
            std::thread::sleep(Duration::from_millis(1));
            return Ok(());
        };
        let control_fd = control.as_ref().map_or(-1, |control| control.as_fd().as_raw_fd());
        let mut fds = [PollFd::new(control_fd, IN), PollFd::new(server.raw_fd(), IN)];
        poll::poll(&mut fds, deadline).map(drop).map_err(Error::os("ppoll"))
    }

    /// Whether the process has ended, reaped or not.
    fn has_ended(&self) -> Result<bool> {
        poll::wait_readable(self.pidfd.as_fd(), Deadline::now()).map_err(Error::os("ppoll"))
    }

    /// In a fork of the process that started the child: gives up the ends by which the child, and its
    /// parent, would take this process for the parent.
    pub(crate) fn abandon(&self) -> impl Iterator<Item = OwnedFd> + use<> {
        let mut state = self.state();
        let control = state.control.take().and_then(Arc::into_inner).map(Control::into_fd);
        control.into_iter().chain(state.lifeline.take())
    }

    /// What is left of one that nobody has a handle of.
    pub(crate) fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Sends the child a signal; one that has ended already does not mind.
    pub(crate) fn signal(&self, signal: i32) -> Result<()> {
        self.check_creator()?;
        match sys::process::send_signal(self.pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() != Some(sys::ESRCH) => {
                Err(Error::os("pidfd_send_signal")(error))
            }
            _ => Ok(()),
        }
    }

    /// What the child, which has ended so, leaves to who joins it.
    fn outcome(&self, status: ExitStatus) -> Result<crate::codec::Payload> {
        let mut state = self.state();
        match state.finished.take() {
            Some(finished) => finished.outcome,
            None if state.timed_out => Err(Error::StartTimeout),
            None => Err(match status {
                ExitStatus::Killed(signal) => Error::Killed { signal },
                ExitStatus::Exited(_) if !state.greeted => Error::NotStarted { status },
                ExitStatus::Exited(code) => Error::Exited { code },
            }),
        }
    }
}

impl State {
    fn new(control: Control, lifeline: Option<OwnedFd>, served: bool, greeted: bool) -> State {
        State {
            control: Some(Arc::new(control)),
            lifeline,
            served,
            greeted,
            silent: false,
            timed_out: false,
            finished: None,
            told: None,
            status: None,
        }
    }

    /// Reads what a child has said that has not greeted yet. Gives the socket if its greeting is still
    /// to come by it, and whether there is a limit to the wait for it.
    fn await_greeting(&mut self) -> (Option<Arc<Control>>, bool) {
        if !self.greeted {
            self.absorb_all();
        }
        let impatient = !self.greeted && !self.timed_out;
        (self.control.clone().filter(|_| impatient && !self.silent), impatient)
    }

    /// Reads all packets that are there. One that cannot be read is what the child leaves.
    fn absorb_all(&mut self) {
        while let (Some(control), false) = (&self.control, self.silent) {
            match control.receive(Deadline::now()).and_then(|incoming| self.absorb(incoming)) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.silent = Control::is_stuck(&error);
                    self.finished = Some(Finished { code: LOST, outcome: Err(error) });
                }
            }
        }
    }

    /// Takes note of what came; false if that was the last for now.
    fn absorb(&mut self, incoming: Incoming) -> Result<bool> {
        match incoming {
            Incoming::Nothing => return Ok(false),
            Incoming::End => {
                self.silent = true;
                return Ok(false);
            }
            Incoming::Packet(Packet { kind: Kind::Hello, .. }) => self.greeted = true,
            Incoming::Packet(packet @ Packet { kind: Kind::Finished, .. }) => {
                // Unless somebody else is to say how it ended, that was all.
                self.silent = !self.served;
                self.finished = Some(Finished::decode(packet)?);
            }
            Incoming::Packet(Packet { kind: Kind::Status, payload }) => {
                self.told = Some(super::status_from_bytes(&payload.bytes)?);
            }
            Incoming::Packet(Packet { kind, .. }) => {
                return Err(Error::decode(format!("a packet {kind:?} from a child")));
            }
        }
        Ok(true)
    }

    /// The child is dead and reaped: nothing is to be said any more.
    fn close(&mut self, status: ExitStatus) {
        self.status = Some(status);
        self.control = None;
        self.lifeline = None;
    }
}

/// Reads all that a child says, as its parent does; whether it said what it leaves.
#[cfg(any(test, fuzzing))]
pub(super) fn hear(control: Control) -> bool {
    let mut state = State::new(control, None, true, false);
    state.absorb_all();
    let Some(Finished { outcome, .. }) = state.finished else { return false };
    match outcome {
        Ok(mut left) => {
            let mut decoder = Decoder::new(&left.bytes, &mut left.fds);
            Vec::<String>::decode(&mut decoder).is_ok()
        }
        Err(error) => !matches!(error, Error::Decode { .. }),
    }
}

impl Finished {
    fn decode(packet: Packet) -> Result<Finished> {
        let mut payload = packet.payload;
        let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
        let (failed, code) = <(bool, i32)>::decode(&mut decoder)?;
        if failed {
            return Ok(Finished { code, outcome: Err(<Error as Decode>::decode(&mut decoder)?) });
        }
        let rest = decoder.remaining();
        payload.fds.reverse();
        payload.bytes.drain(..payload.bytes.len() - rest);
        Ok(Finished { code, outcome: Ok(payload) })
    }
}

/// A process that this one started and may wait for.
///
/// Dropping the handle lets the process go its own way; it is still joined, or terminated if it is a
/// daemon, when this process exits.
///
/// As a descriptor ([`AsFd`]) it is a pidfd: readable once the process has ended. For the process that
/// started it alone it can be waited for and signalled; a fork of that one gets
/// [`Error::ForeignProcess`].
///
/// # If a process dies
/// A child that is killed has [`ExitStatus::Killed`]; [`join`](Self::join) says
/// [`Error::Killed`] unless the result had been handed over already. When this process is killed, its
/// daemons die with it; its other children go on.
///
/// # Differences from Python
/// There is no handle before the start, so nothing can be asked too early, and no process is started
/// twice. `sentinel` is the descriptor, `close` the drop, which a running process does not forbid.
///
/// # Examples
/// ```
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// let child = multiproc::Process::new(square, (12,)).start()?;
/// assert_eq!(child.join()?, 144);
/// # Ok(())
/// # }
/// ```
pub struct Child<R> {
    /// The writing end of its standard input, if that is [`Stdio::Piped`](crate::Stdio::Piped): it sees the
    /// end when this is dropped.
    pub stdin: Option<ChildStdin>,
    /// The reading end of its standard output, likewise.
    pub stdout: Option<ChildStdout>,
    /// The reading end of its standard error, likewise.
    pub stderr: Option<ChildStderr>,
    progress: Arc<Progress>,
    result: PhantomData<fn() -> R>,
}

impl<R> Child<R> {
    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    pub(crate) fn new(progress: Arc<Progress>) -> Child<R> {
        Child { stdin: None, stdout: None, stderr: None, progress, result: PhantomData }
    }

    /// Gives the handle its ends of the pipes to the child.
    pub(crate) fn with_pipes(self, [stdin, stdout, stderr]: Streams) -> Child<R> {
        let (stdin, stdout) = (stdin.map(ChildStdin::from), stdout.map(ChildStdout::from));
        Child { stdin, stdout, stderr: stderr.map(ChildStderr::from), ..self }
    }

    /// The process's pid.
    pub fn pid(&self) -> u32 {
        self.progress.pid
    }

    /// The process's name.
    pub fn name(&self) -> &str {
        &self.progress.name
    }

    /// Whether the process is terminated when this one exits, and dies when this one is killed.
    pub fn is_daemon(&self) -> bool {
        self.progress.daemon
    }

    /// Whether the process has not ended yet. One that has ended is reaped by this.
    pub fn is_alive(&self) -> bool {
        matches!(self.progress.wait(Deadline::now()), Ok(None))
    }

    /// How the process ended, in Python's numbers: its exit code, or minus the signal that killed it.
    /// `None` while it runs.
    pub fn exit_code(&self) -> Option<i32> {
        self.progress.wait(Deadline::now()).ok().flatten().map(ExitStatus::to_number)
    }

    /// Blocks until the process has ended, and says how. It may be called again and again.
    ///
    /// # Blocking
    /// Waits without limit; signals do not end the wait. A process that does not reach
    /// [`multiproc::init`](crate::init) within a minute is killed.
    ///
    /// # Errors
    /// * [`Error::ForeignProcess`]: this process is not the one that started it, but a fork of it.
    /// * [`Error::Os`]: `ppoll` or `waitid` was refused.
    pub fn wait(&self) -> Result<ExitStatus> {
        self.progress.wait(Deadline::NEVER)?.ok_or(Error::TimeoutError)
    }

    /// Says how the process ended, if it has.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.progress.wait(Deadline::now())
    }

    /// Blocks until the process has ended or the time is over, which gives `None`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.progress.wait(Deadline::after(timeout))
    }

    /// Sends SIGTERM. A process that has ended already does not mind; one that dies of it runs no exit
    /// hooks, and what it was about to send is not sent. Its daemons die with it.
    ///
    /// # Errors
    /// * [`Error::Os`]: `pidfd_send_signal` (EPERM: the process has changed its user).
    /// * [`Error::ForeignProcess`]: this process is a fork of the one that started it.
    pub fn terminate(&self) -> Result<()> {
        self.signal(sys::signal::SIGTERM)
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// As [`terminate`](Self::terminate).
    pub fn kill(&self) -> Result<()> {
        self.signal(sys::signal::SIGKILL)
    }

    /// Sends SIGINT.
    ///
    /// # Errors
    /// As [`terminate`](Self::terminate).
    ///
    /// # Differences from Python
    /// Nothing is raised in the process: unless it has a handler of its own, or ignores the signal, it is
    /// killed by it, and its exit code is -2 and not 1.
    pub fn interrupt(&self) -> Result<()> {
        self.signal(sys::signal::SIGINT)
    }

    /// Sends any signal, through the pidfd: never to another process that was given the same pid.
    ///
    /// # Errors
    /// As [`terminate`](Self::terminate), and [`Error::Os`] (EINVAL) for a number that is no signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.progress.signal(signal)
    }
}

impl<R: Decode> Child<R> {
    /// Blocks until the process has ended, and gives what its function returned.
    ///
    /// The exit code is as if the function were `main`: 0; 1 if what it returned is an `Err`, which is
    /// given here as it is; the number of an [`ExitCode`](std::process::ExitCode). Unlike `main`, a
    /// child does not print the `Err`, which need not be printable: whoever joins has it.
    ///
    /// # Blocking
    /// As [`wait`](Self::wait). The process never waits for its result to be read. A pipe to its
    /// standard input is closed first; a full one from its output that nobody reads keeps it waiting.
    ///
    /// # Errors
    /// * [`Error::Panicked`]: the function panicked; here is what it said, and where.
    /// * [`Error::Exited`], [`Error::Killed`]: the process ended without returning.
    /// * [`Error::NotStarted`], [`Error::StartTimeout`]: it exited, or did not get so far in a minute,
    ///   before [`multiproc::init`](crate::init) ran in it.
    /// * [`Error::DifferentExecutable`]: the program's file was replaced by another build.
    /// * [`Error::Encode`], [`Error::Decode`]: arguments or result could not make the journey.
    /// * As [`wait`](Self::wait).
    pub fn join(mut self) -> Result<R> {
        drop(self.stdin.take());
        let status = self.wait()?;
        let mut payload = self.progress.outcome(status)?;
        let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
        let result = R::decode(&mut decoder)?;
        decoder.finish()?;
        Ok(result)
    }
}

impl<R> AsFd for Child<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.progress.pidfd.as_fd()
    }
}

impl<R> fmt::Debug for Child<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { name, pid, creator, daemon, .. } = &*self.progress;
        write!(f, "<Process name='{name}' pid={pid} parent={creator} ")?;
        match self.progress.wait(Deadline::now()) {
            Ok(None) => f.write_str("started")?,
            Ok(Some(status)) => match status.signal().and_then(sys::signal::name) {
                Some(name) => write!(f, "stopped exitcode=-{name}")?,
                None => write!(f, "stopped exitcode={}", status.to_number())?,
            },
            Err(_) => f.write_str("unknown")?,
        }
        f.write_str(if *daemon { " daemon>" } else { ">" })
    }
}
