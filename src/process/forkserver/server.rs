//! The server's own side.

use crate::codec::Payload;
use crate::process::control::{Control, Incoming, Kind, Packet};
use crate::process::target::Location;
use crate::process::{bootstrap, exit, fork, status_to_bytes};
use crate::sys::limits::{self, Limit, Resource};
use crate::sys::poll::{self, IN, PollFd};
use crate::sys::signal::{self, Blocked, Disposition, SIGCHLD, SIGINT, SIGTERM};
use crate::sys::time::Deadline;
use crate::{Decoder, Error, Result, sys};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// The server's whole life.
pub(super) fn serve(requests: OwnedFd, preload: Option<Location>) -> Result<()> {
    let parents = Parents::replace()?;
    if let Some(preload) = preload {
        preload.resolve()?.run(&mut Decoder::new(&[], &mut Vec::new()), &mut Payload::default())?;
    }
    // What it returns in a child is the child's: everything of the server's is dropped by then.
    match forked_child(Control::from_fd(requests))? {
        Some(control) => fork::to_the_end(|| be_child(control, parents)),
        None => Ok(()),
    }
}

/// A child's life.
fn be_child(control: Control, parents: Parents) -> i32 {
    parents.restore();
    match announce(&control) {
        Ok(()) => bootstrap::take_up(control, true),
        Err(error) => {
            refuse(&control, &error);
            sys::process::exit_now(1)
        }
    }
}

/// What a child tells before it does anything else; nobody to hear it is a reason to do nothing.
fn announce(control: &Control) -> Result<()> {
    let pid = sys::process::id();
    let mut payload = Payload::of(&pid)?;
    payload.fds.push(sys::process::pidfd_open(pid).map_err(Error::os("pidfd_open"))?);
    control.send(Kind::Started, &payload, true)
}

fn refuse(control: &Control, error: &Error) {
    if let Ok(payload) = Payload::of(error) {
        let _ = control.send(Kind::Refused, &payload, true);
    }
}

/// What the server's parent set for its processes, where the server needs it otherwise.
struct Parents {
    signals: [(i32, Disposition); 3],
    open_files: Limit,
}

impl Parents {
    /// The server outlives what is sent to a whole group, reaps its children itself, and may have two
    /// descriptors for each.
    fn replace() -> Result<Parents> {
        let sigaction = Error::os("sigaction");
        let signals = [
            (SIGINT, signal::ignore(SIGINT).map_err(&sigaction)?),
            (SIGTERM, signal::ignore(SIGTERM).map_err(&sigaction)?),
            (SIGCHLD, signal::by_default(SIGCHLD).map_err(&sigaction)?),
        ];
        let open_files = limits::limit(Resource::OpenFiles).map_err(Error::os("getrlimit"))?;
        // Refused, it serves as many as it can.
        let most = Limit { soft: open_files.hard, ..open_files };
        let _ = limits::set_limit(Resource::OpenFiles, most);
        Ok(Parents { signals, open_files })
    }

    fn restore(self) {
        for (signal, before) in self.signals {
            let _ = signal::restore(signal, before);
        }
        let _ = limits::set_limit(Resource::OpenFiles, self.open_files);
    }
}

/// A child of the server that has not been reaped.
struct Charge {
    pidfd: OwnedFd,
    /// A copy of its own end: by it goes what the server has to say of it.
    control: Control,
}

/// Serves requests until nobody can make any; gives its control socket to a child, in which all
/// signals are blocked, `None` to the server itself.
fn forked_child(requests: Control) -> Result<Option<Control>> {
    let mut charges: Vec<Charge> = Vec::new();
    let mut room = Room::default();
    loop {
        room.fill(&requests);
        let mut fds = vec![PollFd::new(requests.as_fd().as_raw_fd(), IN)];
        fds.extend(charges.iter().map(|charge| PollFd::new(charge.pidfd.as_raw_fd(), IN)));
        poll::poll(&mut fds, Deadline::NEVER).map_err(Error::os("ppoll"))?;
        let mut ended = fds[1..].iter().map(PollFd::is_ready);
        charges.retain(|charge| !(ended.next().unwrap_or(false) && charge.report()));
        if !fds[0].is_ready() {
            continue;
        }
        let suffices = room.leave();
        let control = match next_request(&requests)? {
            Request::Fork(control) => control,
            Request::Unusable => continue,
            Request::End => return Ok(None),
        };
        match if suffices { fork_one() } else { Err(no_room()) } {
            Ok(None) => {
                let fds = charges.into_iter().flat_map(|of| [of.pidfd, of.control.into_fd()]);
                sys::fd::close_all(fds.collect());
                return Ok(Some(control));
            }
            Ok(Some(pidfd)) => charges.push(Charge { pidfd, control }),
            Err(error) => refuse(&control, &error),
        }
    }
}

/// Numbers kept free for the two descriptors that a request needs: with none left, the one that comes
/// with the request would be lost, and nobody could be told.
#[derive(Default)]
struct Room(Vec<OwnedFd>);

impl Room {
    const NEEDED: usize = 2;

    fn fill(&mut self, source: &Control) {
        while self.0.len() < Room::NEEDED {
            match sys::fd::dup(source.as_fd()) {
                Ok(place) => self.0.push(place),
                Err(_) => return,
            }
        }
    }

    /// Frees the numbers; whether they suffice.
    fn leave(&mut self) -> bool {
        let kept = self.0.len();
        self.0.clear();
        kept == Room::NEEDED
    }
}

fn no_room() -> Error {
    Error::os("pidfd_open")(io::Error::from_raw_os_error(sys::EMFILE))
}

enum Request {
    Fork(Control),
    /// What came is no request, or has lost its descriptor on the way.
    Unusable,
    End,
}

fn next_request(requests: &Control) -> Result<Request> {
    match requests.receive(Deadline::NEVER) {
        Ok(Incoming::End) => Ok(Request::End),
        Ok(Incoming::Packet(Packet { kind: Kind::Fork, mut payload })) => {
            let control = payload.fds.pop().map(Control::from_fd);
            Ok(control.map_or(Request::Unusable, Request::Fork))
        }
        Err(error) if Control::is_stuck(&error) => Err(error),
        _ => Ok(Request::Unusable),
    }
}

/// Reads requests and does nothing about them; whether there was one that could be served.
#[cfg(any(test, fuzzing))]
pub(in crate::process) fn hear_requests(requests: &Control) -> bool {
    let mut served = false;
    loop {
        match next_request(requests) {
            Ok(Request::End) | Err(_) => return served,
            Ok(request) => served |= matches!(request, Request::Fork(_)),
        }
    }
}

/// Forks: `None` in the child, with all signals blocked; in the server, what names the child.
fn fork_one() -> Result<Option<OwnedFd>> {
    exit::flush();
    let blocked = Blocked::all();
    let Some(pid) = fork::bare()? else {
        blocked.stay();
        return Ok(None);
    };
    sys::process::pidfd_open(pid).map(Some).map_err(|error| {
        sys::process::kill_and_reap(pid);
        Error::os("pidfd_open")(error)
    })
}

impl Charge {
    /// Reaps the child, which has ended, and passes its status on; false if it is too early for that.
    fn report(&self) -> bool {
        let status = match sys::process::reap(self.pidfd.as_fd()) {
            Ok(Some(status)) => status,
            // A debugger is told first.
            Ok(None) => {
                std::thread::sleep(Duration::from_millis(1));
                return false;
            }
            Err(_) => return true,
        };
        let bytes = status_to_bytes(status).to_vec();
        let _ = self.control.send(Kind::Status, &Payload { bytes, fds: Vec::new() }, false);
        true
    }
}
