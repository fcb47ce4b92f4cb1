//! The clients that have come to a listener and are not let in yet.

use super::Connection;
use super::auth::Handshake;
use super::listener::{Listener, Refusal};
use super::peer::Peer;
use super::wait::Watch;
use crate::sys::{self, listen, poll, time::Deadline};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The most clients whose handshakes go on at a time. Who comes then makes the oldest leave: one that means
/// well is done long before as many others have come.
const MOST: usize = 256;
/// How many are met between two looks at the others.
const AT_ONCE: usize = MOST / 8;

/// Strangers, and those who have proved themselves.
#[derive(Debug)]
pub(super) struct Door {
    strangers: VecDeque<Stranger>,
    friends: VecDeque<(Connection, Peer)>,
    /// The process that these have connected to: a forked child has copies of them that are not its own.
    owner: u32,
}

#[derive(Debug)]
struct Stranger {
    connection: Connection,
    peer: Peer,
    handshake: Handshake,
    deadline: Deadline,
}

/// What became of a stranger for now.
enum Outcome {
    Friend,
    Waits,
    Refused(Error),
}

impl Default for Door {
    fn default() -> Door {
        Door { strangers: VecDeque::new(), friends: VecDeque::new(), owner: sys::process::id() }
    }
}

impl Door {
    /// Lets in who comes, goes on with every handshake, and gives one client that is through, if any is.
    pub(super) fn attend(&mut self, listener: &Listener) -> Result<Option<(Connection, Peer)>> {
        self.is_ready(listener)?;
        Ok(self.friends.pop_front())
    }

    /// The same, but leaves the client there.
    pub(super) fn is_ready(&mut self, listener: &Listener) -> Result<bool> {
        if self.owner != sys::process::id() {
            *self = Door::default();
        }
        if self.friends.is_empty() {
            let welcomed = self.welcome(listener);
            self.go_on(listener);
            if self.friends.is_empty() {
                welcomed?;
            }
        }
        Ok(!self.friends.is_empty())
    }

    /// Accepts whoever is in the kernel's queue. Where no handshake is wanted, one: the others are better
    /// kept there.
    fn welcome(&mut self, listener: &Listener) -> Result<()> {
        for _ in 0..AT_ONCE {
            if !self.friends.is_empty() {
                break;
            }
            match listen::accept(listener.socket().as_fd()) {
                Ok(socket) => self.meet(socket, listener),
                Err(error) => match error.raw_os_error() {
                    Some(sys::EAGAIN) => break,
                    // A stranger less may be all that it takes.
                    Some(sys::EMFILE | sys::ENFILE) if !self.strangers.is_empty() => {
                        self.drop_oldest(listener);
                    }
                    errno if listen::is_clients_fault(errno) => {}
                    _ => return Err(Error::os("accept4")(error)),
                },
            }
        }
        Ok(())
    }

    fn meet(&mut self, socket: OwnedFd, listener: &Listener) {
        let (socket, peer) = match Peer::met(socket) {
            Ok(met) => met,
            Err(error) => return refuse(listener, Peer::default(), &error),
        };
        let options = listener.options();
        if !options.peers.allow(&peer) {
            return refuse(
                listener,
                peer,
                &Error::authentication("the peer's user is not allowed"),
            );
        }
        let connection = into_connection(socket, &peer);
        let Some(secret) = options.secret() else {
            return self.friends.push_back((connection, peer));
        };
        if self.strangers.len() >= MOST {
            self.drop_oldest(listener);
        }
        let deadline = Deadline::after(options.handshake_timeout);
        let handshake = Handshake::accepting(secret);
        self.strangers.push_back(Stranger { connection, peer, handshake, deadline });
    }

    fn drop_oldest(&mut self, listener: &Listener) {
        if let Some(oldest) = self.strangers.pop_front() {
            refuse(listener, oldest.peer, &Error::TimeoutError);
        }
    }

    fn go_on(&mut self, listener: &Listener) {
        for _ in 0..self.strangers.len() {
            let Some(mut stranger) = self.strangers.pop_front() else { break };
            match stranger.go_on() {
                Outcome::Friend => self.friends.push_back((stranger.connection, stranger.peer)),
                Outcome::Waits => self.strangers.push_back(stranger),
                Outcome::Refused(error) => refuse(listener, stranger.peer, &error),
            }
        }
    }

    /// Waits for a new client or a stranger's next word.
    pub(super) fn wait(&self, socket: BorrowedFd<'_>, deadline: Deadline) -> Result<()> {
        let strangers = self.strangers.iter().map(Stranger::poll_fd);
        let mut fds: Vec<_> = std::iter::once(poll::PollFd::new(socket.as_raw_fd(), poll::IN))
            .chain(strangers)
            .collect();
        let first = self.strangers.iter().map(|stranger| stranger.deadline);
        let deadline = first.fold(deadline, Deadline::min);
        poll::poll(&mut fds, deadline).map_err(Error::os("ppoll")).map(drop)
    }

    /// Has a wait for the listener look at the strangers too.
    pub(super) fn watch(&self, watch: &mut Watch) {
        if !self.friends.is_empty() {
            watch.ready();
        }
        self.strangers.iter().for_each(|stranger| watch.push(stranger.poll_fd()));
    }
}

impl Stranger {
    fn go_on(&mut self) -> Outcome {
        let before = self.handshake.progress();
        match self.handshake.advance(&self.connection, Deadline::now()) {
            Ok(()) => Outcome::Friend,
            // Nobody may have looked for a while: who has done its part by now was not late. A handshake
            // has few steps, so this is no way to stay.
            Err(Error::TimeoutError) if self.handshake.progress() > before => Outcome::Waits,
            Err(Error::TimeoutError) if !self.deadline.has_passed() => Outcome::Waits,
            Err(error) => Outcome::Refused(error),
        }
    }

    fn poll_fd(&self) -> poll::PollFd {
        let events = if self.handshake.is_sending() { poll::OUT } else { poll::IN };
        poll::PollFd::new(self.connection.as_raw_fd(), events)
    }
}

fn refuse(listener: &Listener, peer: Peer, error: &Error) {
    let reason = error.to_string();
    listener.last(|last| {
        last.refused += 1;
        last.refusal = Some(Refusal { peer, reason });
    });
}

fn into_connection(socket: OwnedFd, peer: &Peer) -> Connection {
    if peer.credentials.is_some() {
        return UnixStream::from(socket).into();
    }
    let socket = TcpStream::from(socket);
    // Without it small messages may come later, that is all.
    let _ = socket.set_nodelay(true);
    socket.into()
}
