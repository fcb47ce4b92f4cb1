//! The server's own side.

use crate::codec::Payload;
use crate::process::control::{Control, Incoming, Kind, Packet};
use crate::process::target::Location;
use crate::process::{bootstrap, exit, fork, status_to_bytes};
use crate::sys::limits::{self, Limit, Resource};
use crate::sys::poll::Epoll;
use crate::sys::signal::{self, Blocked, Disposition, SIGCHLD, SIGINT, SIGTERM};
use crate::sys::time::Deadline;
use crate::{Decoder, Error, Result, sys};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The server's whole life.
pub(super) fn serve(requests: OwnedFd, preload: Option<Location>) -> Result<()> {
    let parents = Parents::replace()?;
    if let Some(preload) = preload {
        preload.resolve()?.run(&mut Decoder::new(&[], &mut Vec::new()), &mut Payload::default())?;
    }
    let requests = Control::from_fd(requests);
    let mut charges = Charges::new(&requests)?;
    match forked_child(&requests, &mut charges)? {
        Some(control) => fork::to_the_end(|| be_child(control, &parents, (requests, charges))),
        None => Ok(()),
    }
}

/// A child's life, which begins with copies of what is the `servers`.
fn be_child(control: Control, parents: &Parents, servers: (Control, Charges)) -> i32 {
    // First: somebody waits for it.
    if let Err(error) = announce(&control) {
        refuse(&control, &error);
        sys::process::exit_now(1);
    }
    drop(servers.0);
    servers.1.let_go();
    parents.restore();
    bootstrap::take_up(control, true)
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

    fn restore(&self) {
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

/// The children that have not been reaped, and what tells when one has ended or another is asked for:
/// however many there are, a request takes as long as it does with one.
struct Charges {
    epoll: Epoll,
    /// By what epoll calls them.
    by_key: BTreeMap<u64, Charge>,
    next_key: u64,
}

impl Charges {
    /// What epoll calls the requests.
    const REQUESTS: u64 = 0;

    fn new(requests: &Control) -> Result<Charges> {
        let epoll = Epoll::new().map_err(Error::os("epoll_create1"))?;
        epoll.add(requests.as_fd(), Charges::REQUESTS).map_err(Error::os("epoll_ctl"))?;
        Ok(Charges { epoll, by_key: BTreeMap::new(), next_key: Charges::REQUESTS + 1 })
    }

    /// Waits until something happens, and reaps those that have ended; whether there is a request.
    fn look_after(&mut self, ready: &mut Vec<u64>) -> Result<bool> {
        self.epoll.wait(Deadline::NEVER, ready).map_err(Error::os("epoll_wait"))?;
        for key in ready.iter() {
            if self.by_key.get(key).is_some_and(Charge::report) {
                self.remove(*key);
            }
        }
        Ok(ready.contains(&Charges::REQUESTS))
    }

    /// Has the next child that is added watched.
    fn watch(&mut self, pidfd: OwnedFd) -> Result<OwnedFd> {
        self.epoll.add(pidfd.as_fd(), self.next_key).map_err(Error::os("epoll_ctl"))?;
        Ok(pidfd)
    }

    /// Takes on the child that is watched.
    fn add(&mut self, pidfd: OwnedFd, control: Control) {
        self.by_key.insert(self.next_key, Charge { pidfd, control });
        self.next_key += 1;
    }

    fn remove(&mut self, key: u64) {
        if let Some(charge) = self.by_key.remove(&key) {
            // To close it does not suffice: a child that was just forked has a copy.
            let _ = self.epoll.remove(charge.pidfd.as_fd());
        }
    }

    /// In a child: closes its copies.
    fn let_go(self) {
        drop(self.epoll);
        if !self.by_key.is_empty() {
            let fds = self.by_key.into_values().flat_map(|of| [of.pidfd, of.control.into_fd()]);
            sys::fd::close_all(fds.collect());
        }
    }
}

/// Serves requests until nobody can make any; gives its control socket to a child, in which all
/// signals are blocked, `None` to the server itself.
fn forked_child(requests: &Control, charges: &mut Charges) -> Result<Option<Control>> {
    let mut room = Room::default();
    let mut ready = Vec::new();
    loop {
        room.fill(requests);
        if !charges.look_after(&mut ready)? {
            continue;
        }
        let suffices = room.leave();
        let control = match next_request(requests)? {
            Request::Fork(control) => control,
            Request::Unusable => continue,
            Request::End => return Ok(None),
        };
        match if suffices { fork_one(charges) } else { Err(no_room()) } {
            Ok(None) => {
                // To free it would cost the child pages that it shares with the server.
                std::mem::forget((room, ready));
                return Ok(Some(control));
            }
            Ok(Some(pidfd)) => charges.add(pidfd, control),
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

/// Forks: `None` in the child, with all signals blocked; in the server, what names the child, which
/// `charges` watches.
fn fork_one(charges: &mut Charges) -> Result<Option<OwnedFd>> {
    exit::flush();
    let blocked = Blocked::all();
    let Some(pid) = fork::bare()? else {
        blocked.stay();
        return Ok(None);
    };
    let named = sys::process::pidfd_open(pid).map_err(Error::os("pidfd_open"));
    named.and_then(|pidfd| charges.watch(pidfd)).map(Some).inspect_err(|_| {
        sys::process::kill_and_reap(pid);
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
