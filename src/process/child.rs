//! A process that this one started.

use super::ExitStatus;
use super::control::{Control, Incoming, Kind, Packet};
use super::family;
use crate::sys::poll::{self, IN, PollFd};
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Error, Result, sys};
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a child may take from its start to `multiproc::init`, before who waits for it gives up.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Who is told by the kernel how a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaper {
    /// This process: it is the parent.
    Us,
    /// The forkserver, which passes it on by the child's control socket.
    Forkserver,
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
    /// What it has said by now.
    pub(crate) early: Vec<Packet>,
}

/// What is known of a child, shared by its handle and the list of this process's children.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) name: String,
    pub(crate) daemon: bool,
    pub(crate) pid: u32,
    creator: u32,
    pidfd: OwnedFd,
    reaper: Reaper,
    start_deadline: Deadline,
    /// Python's `active_children` does not show it, and it is nobody's to join.
    pub(crate) hidden: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Gone in a fork of the process that started the child.
    control: Option<Control>,
    /// While this end is open a daemon lives. Nothing is ever sent on it.
    lifeline: Option<OwnedFd>,
    greeted: bool,
    /// Nothing more will be said: the child has closed its end, most likely by ending.
    ended: bool,
    timed_out: bool,
    finished: Option<Finished>,
    status: Option<ExitStatus>,
}

/// What a child says last.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    /// The encoded result, or what came in its place.
    pub(crate) outcome: Result<crate::codec::Payload>,
}

impl Progress {
    pub(crate) fn new(
        born: Born,
        name: String,
        daemon: bool,
        hidden: bool,
        lifeline: Option<OwnedFd>,
    ) -> Result<Progress> {
        let mut state = State {
            control: Some(born.control),
            lifeline,
            greeted: born.greeted,
            ended: false,
            timed_out: false,
            finished: None,
            status: None,
        };
        for packet in born.early {
            state.absorb(packet)?;
        }
        Ok(Progress {
            name,
            daemon,
            pid: born.pid,
            creator: sys::process::id(),
            pidfd: born.pidfd,
            reaper: born.reaper,
            start_deadline: Deadline::after(START_TIMEOUT),
            hidden,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }

    fn check_creator(&self) -> Result<()> {
        if self.creator == sys::process::id() { Ok(()) } else { Err(Error::ForeignProcess) }
    }

    /// Waits until the child has ended, and reaps it; `None` once the deadline has passed.
    pub(crate) fn wait(&self, deadline: Deadline) -> Result<Option<ExitStatus>> {
        self.check_creator()?;
        loop {
            let mut state = self.state();
            if state.status.is_some() {
                return Ok(state.status);
            }
            // Only a child that has not greeted yet is listened to while it runs: what it says later
            // is read when it has ended.
            if !state.greeted && !state.ended {
                state.absorb_all()?;
            }
            let greeted = state.greeted;
            let listen = !greeted && !state.ended;
            // A negative number is nobody's: poll passes it over.
            let control = state.control.as_ref().filter(|_| listen);
            let control = control.map_or(-1, |control| control.as_fd().as_raw_fd());
            drop(state);
            let mut fds = [PollFd::new(self.pidfd.as_raw_fd(), IN), PollFd::new(control, IN)];
            let until = if greeted { deadline } else { deadline.min(self.start_deadline) };
            poll::poll(&mut fds, until).map_err(Error::os("ppoll"))?;
            if fds[0].is_ready() {
                return self.reap(deadline);
            }
            if !greeted && self.start_deadline.has_passed() {
                self.state().timed_out = true;
                self.signal(sys::signal::SIGKILL)?;
            } else if deadline.has_passed() {
                return Ok(None);
            }
        }
    }

    /// The child has ended: learns how, and reads what it left.
    fn reap(&self, deadline: Deadline) -> Result<Option<ExitStatus>> {
        let mut state = self.state();
        if state.status.is_some() {
            return Ok(state.status);
        }
        state.absorb_all()?;
        let status = match self.reaper {
            Reaper::Us => match sys::process::reap(self.pidfd.as_fd()) {
                Ok(status) => status,
                // The host program waited for any child, or has SIGCHLD ignored.
                Err(error) if error.raw_os_error() == Some(sys::ECHILD) => None,
                Err(error) => return Err(Error::os("waitid(P_PIDFD)")(error)),
            },
            Reaper::Forkserver => match state.await_status(deadline)? {
                Some(status) => status,
                None => return Ok(None),
            },
        };
        // 255 is what Python gives where nobody can tell any more.
        let told = state.finished.as_ref().map_or(255, |finished| finished.code);
        state.status = Some(status.unwrap_or(ExitStatus::Exited(told)));
        let status = state.status;
        drop(state);
        family::forget(self);
        Ok(status)
    }

    /// In a fork of the process that started the child: closes the ends by which the child, and its
    /// parent, would take this process for the parent.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.control = None;
        state.lifeline = None;
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
            None if !state.greeted => Err(Error::NotStarted { status }),
            None => Err(match status {
                ExitStatus::Exited(code) => Error::Exited { code },
                ExitStatus::Killed(signal) => Error::Killed { signal },
            }),
        }
    }
}

impl State {
    fn receive(&self, deadline: Deadline) -> Result<Incoming> {
        self.control.as_ref().map_or(Ok(Incoming::End), |control| control.receive(deadline))
    }

    /// Reads all packets that are there.
    fn absorb_all(&mut self) -> Result<()> {
        loop {
            match self.receive(Deadline::now())? {
                Incoming::Packet(packet) => drop(self.absorb(packet)?),
                Incoming::Nothing => return Ok(()),
                Incoming::End => {
                    self.ended = true;
                    return Ok(());
                }
            }
        }
    }

    /// Takes note of a packet; gives the status if it was one from the forkserver.
    fn absorb(&mut self, packet: Packet) -> Result<Option<ExitStatus>> {
        match packet.kind {
            Kind::Hello => self.greeted = true,
            Kind::Finished => self.finished = Some(Finished::decode(packet)?),
            Kind::Status => {
                let status = super::status_from_bytes(&packet.payload.bytes)?;
                self.status = Some(status);
                return Ok(Some(status));
            }
            _ => return Err(Error::decode(format!("a packet {:?} from a child", packet.kind))),
        }
        Ok(None)
    }

    /// The forkserver's word on the child that has ended: `Some(None)` if the forkserver is gone too,
    /// `None` once the deadline has passed.
    fn await_status(&mut self, deadline: Deadline) -> Result<Option<Option<ExitStatus>>> {
        loop {
            if self.status.is_some() {
                return Ok(Some(self.status));
            }
            match self.receive(deadline)? {
                Incoming::Packet(packet) => drop(self.absorb(packet)?),
                Incoming::Nothing => return Ok(None),
                Incoming::End => return Ok(Some(None)),
            }
        }
    }
}

impl Finished {
    fn decode(packet: Packet) -> Result<Finished> {
        let mut payload = packet.payload;
        let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
        let code = i32::decode(&mut decoder)?;
        let failed = bool::decode(&mut decoder)?;
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
/// As a descriptor ([`AsFd`]) it is a pidfd: readable once the process has ended.
///
/// # If a process dies
/// A child that is killed has [`ExitStatus::Killed`]; [`join`](Self::join) says
/// [`Error::Killed`] unless the result had been handed over already. When this process is killed, its
/// daemons die with it; its other children go on.
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
    progress: Arc<Progress>,
    result: PhantomData<fn() -> R>,
}

impl<R> Child<R> {
    pub(crate) fn new(progress: Arc<Progress>) -> Child<R> {
        Child { progress, result: PhantomData }
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

    /// Sends SIGTERM. A process that has ended already does not mind.
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
    /// # Blocking
    /// As [`wait`](Self::wait). The process never waits for its result to be read.
    ///
    /// # Errors
    /// * [`Error::Panicked`]: the function panicked; here is what it said, and where.
    /// * [`Error::Exited`], [`Error::Killed`]: the process ended without returning.
    /// * [`Error::NotStarted`], [`Error::StartTimeout`]: it ended, or did not get so far in a minute,
    ///   before [`multiproc::init`](crate::init) ran in it.
    /// * [`Error::DifferentExecutable`]: the program's file was replaced by another build.
    /// * [`Error::Encode`], [`Error::Decode`]: arguments or result could not make the journey.
    /// * As [`wait`](Self::wait).
    pub fn join(self) -> Result<R> {
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
            Ok(Some(status)) => write!(f, "stopped exitcode={}", status.to_number())?,
            Err(_) => f.write_str("unknown")?,
        }
        f.write_str(if *daemon { " daemon>" } else { ">" })
    }
}
