//! Start method ForkServer: a small process that forks children on request.
//!
//! It is an ordinary daemon of this process, started by Spawn at the first use, with one thread. A
//! request is one descriptor: the child's end of a control socket in which the child's orders lie
//! already. The server forks, and answers by that same socket: the pid and a pidfd, and when the child
//! has ended, how. The requests come by an unnamed socket pair, so nobody else can make any.

use super::bootstrap;
use super::child::{Born, Child, Reaper};
use super::control::{Control, Incoming, Kind, Packet};
use super::target::{Entry, EntryPoint, Location};
use super::{Process, StartMethod, exit, fork, status_to_bytes};
use crate::codec::Payload;
use crate::sys::poll::{self, IN, PollFd};
use crate::sys::signal::{self, SIGINT, SIGTERM};
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Error, Result, sys};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

struct Server {
    /// The process whose server it is: a fork of that one starts its own.
    owner: u32,
    requests: Control,
    /// Its handle: looked at, and let go with the server.
    child: Child<()>,
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);
static PRELOAD: Mutex<Option<Location>> = Mutex::new(None);

fn server() -> MutexGuard<'static, Option<Server>> {
    SERVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In a forked child: lets go of its parent's server.
pub(crate) fn drop_inherited() {
    drop(server().take());
}

/// The entry of a preload function.
struct Preload<F>(std::marker::PhantomData<fn(F)>);

impl<F: super::Target<(), ()>> Entry for Preload<F> {
    fn run(_: &mut Decoder<'_>, _: &mut Payload) -> Result<()> {
        super::target::instance::<F>().call(());
        Ok(())
    }
}

/// Has the forkserver call `f` once, before it forks its first child: what `f` loads, every child
/// has. It must not leave threads behind, or every later start is refused.
///
/// It takes effect for a server that has not been started yet.
///
/// # Errors
/// * [`Error::NotInExecutable`]: `f` is in a shared library.
pub fn set_forkserver_preload<F: super::Target<(), ()>>(f: F) -> Result<()> {
    let _ = f;
    let location = EntryPoint::of::<Preload<F>>().locate()?;
    *PRELOAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(location);
    Ok(())
}

/// Has the server fork a child; `payload` is its orders.
pub(crate) fn start(payload: &Payload) -> Result<Born> {
    match start_once(payload) {
        // The server died between two starts, or over this one: a new one is asked, once.
        Err(Error::Disconnected) => start_once(payload),
        answer => answer,
    }
}

fn start_once(payload: &Payload) -> Result<Born> {
    let (control, theirs) = Control::pair()?;
    control.send(Kind::Start, payload, false)?;
    let request = Payload { bytes: Vec::new(), fds: vec![theirs.into_fd()] };
    let mut server = server();
    let sent = running(&mut server)?.send(Kind::Fork, &request, true);
    if matches!(sent, Err(Error::Disconnected)) {
        *server = None;
    }
    drop(server);
    sent?;
    // Only the server and the child have the other end now: if both are gone, so is the answer.
    drop(request);
    answer(control)
}

/// The socket of the server, which is started if none runs.
fn running(server: &mut Option<Server>) -> Result<&Control> {
    let mine = |server: &Server| server.owner == sys::process::id() && server.child.is_alive();
    let server = match server.take().filter(mine) {
        Some(running) => server.insert(running),
        None => server.insert(Server::start()?),
    };
    Ok(&server.requests)
}

/// The server's word on the child that it was asked for.
fn answer(control: Control) -> Result<Born> {
    let deadline = Deadline::after(ANSWER);
    let mut early = Vec::new();
    loop {
        match control.receive(deadline)? {
            Incoming::Packet(Packet { kind: Kind::Started, mut payload }) => {
                let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
                let (pid, pidfd) = (u32::decode(&mut decoder)?, decoder.fd()?);
                let reaper = Reaper::Forkserver;
                return Ok(Born { pid, pidfd, control, reaper, greeted: true, early });
            }
            Incoming::Packet(Packet { kind: Kind::Refused, mut payload }) => {
                let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
                return Err(<Error as Decode>::decode(&mut decoder)?);
            }
            // The child may be quicker than the server.
            Incoming::Packet(packet) => early.push(packet),
            Incoming::Nothing => return Err(Error::StartTimeout),
            Incoming::End => return Err(Error::Disconnected),
        }
    }
}

impl Server {
    fn start() -> Result<Server> {
        let (requests, theirs) = Control::pair()?;
        let preload = *PRELOAD.lock().unwrap_or_else(PoisonError::into_inner);
        let child = Process::new(serve, (theirs.into_fd(), preload))
            .name("forkserver")
            .start_method(StartMethod::Spawn)
            .start_hidden()?;
        Ok(Server { owner: sys::process::id(), requests, child })
    }
}

/// A child of the server that has not been reaped.
struct Charge {
    pidfd: OwnedFd,
    /// A copy of its own end: by it goes what the server has to say of it.
    control: Control,
}

/// The server's whole life.
fn serve(requests: OwnedFd, preload: Option<Location>) {
    let before = [SIGINT, SIGTERM].map(|signal| (signal, signal::ignore(signal)));
    if let Some(Ok(entry)) = preload.map(Location::resolve) {
        let _ = entry.run(&mut Decoder::new(&[], &mut Vec::new()), &mut Payload::default());
    }
    // What it returns in a child is the child's: everything of the server's is dropped by then.
    let Some(control) = forked_child(Control::from_fd(requests)) else { return };
    for (signal, before) in before {
        if let Ok(before) = before {
            let _ = signal::restore(signal, before);
        }
    }
    let code = match bootstrap::start_packet(&control) {
        Ok(payload) => bootstrap::run(control, payload, true),
        Err(_) => 1,
    };
    exit::exit(code)
}

/// Serves requests until nobody can make any; gives its control socket to a child, `None` to the
/// server itself.
fn forked_child(requests: Control) -> Option<Control> {
    let mut charges: Vec<Charge> = Vec::new();
    loop {
        let mut fds = vec![PollFd::new(requests.as_fd().as_raw_fd(), IN)];
        fds.extend(charges.iter().map(|charge| PollFd::new(charge.pidfd.as_raw_fd(), IN)));
        poll::poll(&mut fds, Deadline::NEVER).ok()?;
        let mut ended = fds[1..].iter().map(PollFd::is_ready);
        charges.retain(|charge| !(ended.next().unwrap_or(false) && charge.report()));
        if !fds[0].is_ready() {
            continue;
        }
        let Ok(Incoming::Packet(Packet { kind: Kind::Fork, mut payload })) =
            requests.receive(Deadline::NEVER)
        else {
            return None;
        };
        let control = Control::from_fd(payload.fds.pop()?);
        match fork_one(&control) {
            Ok(None) => return Some(control),
            Ok(Some(pidfd)) => charges.push(Charge { pidfd, control }),
            Err(error) => refuse(&control, &error),
        }
    }
}

/// Forks: `None` in the child; in the server, what names the child, once the owner was told.
fn fork_one(control: &Control) -> Result<Option<OwnedFd>> {
    exit::flush();
    let Some(pid) = fork::bare()? else { return Ok(None) };
    let named = sys::process::pidfd_open(pid).map_err(Error::os("pidfd_open"));
    let told = named.and_then(|pidfd| {
        let mut payload = Payload::of(&pid)?;
        payload.fds.push(pidfd.try_clone().map_err(Error::os("fcntl(F_DUPFD_CLOEXEC)"))?);
        match control.send(Kind::Started, &payload, true) {
            // Who asked is gone; the child finds out for itself.
            Ok(()) | Err(Error::Disconnected) => Ok(pidfd),
            Err(error) => Err(error),
        }
    });
    if told.is_err() {
        sys::process::kill_and_reap(pid);
    }
    told.map(Some)
}

fn refuse(control: &Control, error: &Error) {
    if let Ok(payload) = Payload::of(error) {
        let _ = control.send(Kind::Refused, &payload, true);
    }
}

impl Charge {
    /// Reaps the child, which has ended, and passes its status on; false if it has not ended.
    fn report(&self) -> bool {
        let status = match sys::process::reap(self.pidfd.as_fd()) {
            Ok(None) => return false,
            Ok(Some(status)) => status,
            Err(_) => return true,
        };
        let bytes = status_to_bytes(status).to_vec();
        let _ = self.control.send(Kind::Status, &Payload { bytes, fds: Vec::new() }, false);
        true
    }
}
