//! Start method ForkServer: a small process that forks children on request.
//!
//! It is an ordinary daemon of this process, started by Spawn at the first use, with one thread. A
//! request is one descriptor: the child's end of a control socket in which the child's orders lie
//! already. The server forks, and the child itself answers by that socket with its pid and a pidfd
//! before it does anything else. So whoever got no answer knows that nothing was done, wherever the
//! server was killed, and may ask the next one. When the child has ended, the server says how. The
//! requests come by an unnamed socket pair, so nobody else can make any.

mod server;

#[cfg(any(test, fuzzing))]
pub(super) use server::hear_requests;

use super::child::{Born, Child, Progress, Reaper};
use super::control::{Control, Incoming, Kind, Packet};
use super::target::{Entry, EntryPoint, Location};
use super::{ExitStatus, Process, StartMethod, family, status_from_bytes};
use crate::codec::Payload;
use crate::sys::poll;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Error, Level, Result, log, sys};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// How long the kernel may take to close what a dead process had.
const DEATH: Duration = Duration::from_secs(1);

struct Server {
    /// The process whose server it is: a fork of that one starts its own.
    owner: u32,
    requests: Control,
    /// Its handle: looked at, and let go with the server.
    child: Child<Result<()>>,
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);
static PRELOAD: Mutex<Option<Location>> = Mutex::new(None);

#[inline]
fn server() -> MutexGuard<'static, Option<Server>> {
    SERVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes this file's locks, for a fork.
pub(crate) fn hold() -> impl Sized {
    (server(), PRELOAD.lock().unwrap_or_else(PoisonError::into_inner))
}

/// In a forked child: lets go of its parent's server.
#[inline]
pub(crate) fn drop_inherited() {
    drop(server().take());
}

/// The pid of this process's server, if it has one.
#[inline]
pub(crate) fn pid() -> Option<u32> {
    server().as_ref().map(|server| server.child.pid())
}

/// Lets the server leave, which it does when nobody can ask for anything any more.
#[inline]
pub(crate) fn dismiss() -> Option<Arc<Progress>> {
    server().take().map(|server| server.child.progress().clone())
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
/// It takes effect for a server that has not been started yet. If `f` panics, there is no server, and
/// starts fail with what it said.
///
/// # Errors
/// * [`Error::NotInExecutable`]: `f` is in a shared library.
///
/// # Differences from Python
/// A function takes the place of module names. A preload that fails is never ignored: `on_error` is
/// always `fail`, with the reason as the error of the start.
///
/// # Examples
/// ```
/// use std::sync::OnceLock;
///
/// static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
///
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// // Every child finds the table made.
/// multiproc::set_forkserver_preload(|| drop(TABLE.set((0..1000).map(|n| n * n).collect())))?;
/// let last = || TABLE.get().and_then(|table| table.last()).copied();
/// let process = multiproc::Process::new(last, ());
/// let child = process.start_method(multiproc::StartMethod::ForkServer).start()?;
/// assert_eq!(child.join()?, Some(998_001));
/// # Ok(())
/// # }
/// ```
pub fn set_forkserver_preload<F: super::Target<(), ()>>(f: F) -> Result<()> {
    let _ = f;
    let location = EntryPoint::of::<Preload<F>>().locate()?;
    *PRELOAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(location);
    Ok(())
}

/// A child that the server was asked for.
pub(crate) struct Asked {
    orders: Payload,
    /// The server, if one could be started.
    server: Option<Arc<Progress>>,
    /// Where the answer comes; none if the server was gone.
    control: Option<Control>,
}

/// Asks the server for a child with these `orders`, and does not wait until it is there.
pub(crate) fn ask(orders: Payload) -> Result<Asked> {
    let mut server = None;
    match request(&orders, &mut server) {
        Ok(control) => Ok(Asked { orders, server, control: Some(control) }),
        Err(Error::Disconnected) => Ok(Asked { orders, server, control: None }),
        Err(error) => Err(error),
    }
}

impl Asked {
    /// Waits until the child is there.
    pub(crate) fn answer(self) -> Result<Born> {
        let Asked { orders, server, control } = self;
        let answered = match (control, server.clone()) {
            (Some(control), Some(server)) => answer(control, server),
            _ => Err(Error::Disconnected),
        };
        match answered {
            // The server died between two starts, or over this one: a new one is asked, once.
            Err(Error::Disconnected) if retire(&server)?.is_some() => {
                log::tell(Level::Warning, || "the forkserver died: another is started".into());
                let mut asked = None;
                match start_once(&orders, &mut asked) {
                    Err(Error::Disconnected) => Err(why_it_died(retire(&asked)?)),
                    answer => answer,
                }
            }
            answer => answer,
        }
    }
}

fn start_once(orders: &Payload, asked: &mut Option<Arc<Progress>>) -> Result<Born> {
    let control = request(orders, asked)?;
    asked.clone().map_or(Err(Error::Disconnected), |server| answer(control, server))
}

/// Asks the server that `asked` is set to; the answer comes from what this gives.
fn request(orders: &Payload, asked: &mut Option<Arc<Progress>>) -> Result<Control> {
    let (control, theirs) = Control::pair()?;
    control.send(Kind::Start, orders, false)?;
    let request = Payload { bytes: Vec::new(), fds: vec![theirs.into_fd()] };
    let mut server = server();
    let running = running(&mut server)?;
    *asked = Some(running.child.progress().clone());
    running.requests.send(Kind::Fork, &request, true)?;
    // Only the server and the child have the other end now: if both are gone, so is the answer. And
    // the number is free for the pidfd that comes.
    Ok(control)
}

/// Forgets the server that was `asked`, if it is dead or dying; gives it if nobody has forgotten it
/// before.
fn retire(asked: &Option<Arc<Progress>>) -> Result<Option<Option<Server>>> {
    let mut server = server();
    let same =
        |server: &&Server| asked.as_ref().is_some_and(|p| Arc::ptr_eq(p, server.child.progress()));
    let Some(current) = server.as_ref().filter(same) else { return Ok(Some(None)) };
    // A killed process closes one descriptor after the other. One that lives has lost the request:
    // its table of descriptors was full.
    let deadline = Deadline::after(DEATH);
    let dead =
        poll::wait_hang_up(current.requests.as_fd(), deadline).map_err(Error::os("ppoll"))?;
    Ok(dead.then(|| server.take()))
}

/// What a server that does not live long enough to serve says of itself.
fn why_it_died(server: Option<Option<Server>>) -> Error {
    let Some(Server { requests, child, .. }) = server.flatten() else { return Error::Disconnected };
    drop(requests);
    let error = match child.wait_timeout(ANSWER) {
        Ok(Some(_)) => child.join().and_then(|result| result).err(),
        Ok(None) => Some(Error::StartTimeout),
        Err(error) => Some(error),
    };
    error.unwrap_or(Error::Disconnected)
}

/// The server, which is started if none runs.
fn running(server: &mut Option<Server>) -> Result<&Server> {
    let mine = |server: &Server| server.owner == sys::process::id() && server.child.is_alive();
    Ok(match server.take().filter(mine) {
        Some(running) => server.insert(running),
        None => server.insert(Server::start()?),
    })
}

/// The word of the child that was asked for.
fn answer(control: Control, server: Arc<Progress>) -> Result<Born> {
    let Packet { kind, mut payload } = match control.receive(Deadline::after(ANSWER))? {
        Incoming::Packet(packet) => packet,
        Incoming::Nothing => return Err(Error::StartTimeout),
        Incoming::End => return Err(Error::Disconnected),
    };
    let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
    match kind {
        Kind::Started => {
            let (pid, pidfd) = (u32::decode(&mut decoder)?, decoder.fd()?);
            let reaper = Reaper::Forkserver(server);
            Ok(Born { pid, pidfd, control, reaper, greeted: true })
        }
        Kind::Refused => Err(<Error as Decode>::decode(&mut decoder)?),
        // It ended before it could say a word.
        Kind::Status => Err(match status_from_bytes(&payload.bytes)? {
            ExitStatus::Killed(signal) => Error::Killed { signal },
            status => Error::NotStarted { status },
        }),
        _ => Err(Error::decode(format!("a packet {kind:?} from a forkserver"))),
    }
}

impl Server {
    fn start() -> Result<Server> {
        let (requests, theirs) = Control::pair()?;
        let preload = *PRELOAD.lock().unwrap_or_else(PoisonError::into_inner);
        let arguments = (theirs.into_fd(), preload);
        let child = Process::numbered(server::serve, arguments, family::own_numbers())
            .name("forkserver")
            .start_method(StartMethod::Spawn)
            .start_hidden()?;
        Ok(Server { owner: sys::process::id(), requests, child })
    }
}
