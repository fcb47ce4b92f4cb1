//! What a server knows of its clients: a process is a session, whatever the number of its channels.

use super::frames::{Inbox, Outbox};
use super::home::Entry;
use super::python::Shape;
use super::served::Ticket;
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// A client process.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// What makes a connection one of its; none for a thread of a CPython program, which has one alone.
    pub(super) secret: Option<[u8; 16]>,
    /// How many channels it has; with the last of them it ends.
    pub(super) channels: usize,
    /// The references it holds, by object.
    pub(super) references: HashMap<u64, u64>,
    /// The references it has put into messages that nobody has received yet, by object.
    pub(super) lent: HashMap<u64, u64>,
    /// The objects that it may hold something of: a lock, a permit.
    pub(super) held: HashSet<u64>,
}

impl Session {
    /// Takes note of one more reference.
    pub(super) fn refer(&mut self, object: u64) {
        *self.references.entry(object).or_default() += 1;
    }

    /// Takes one reference back; false if it has none.
    pub(super) fn unrefer(&mut self, object: u64) -> bool {
        subtract(&mut self.references, object)
    }

    /// Takes back one reference that was lent; false if there is none.
    pub(super) fn unlend(&mut self, object: u64) -> bool {
        subtract(&mut self.lent, object)
    }
}

fn subtract(counts: &mut HashMap<u64, u64>, object: u64) -> bool {
    match counts.get_mut(&object) {
        None => false,
        Some(1) => counts.remove(&object).is_some(),
        Some(count) => {
            *count -= 1;
            true
        }
    }
}

/// One socket of a client.
pub(super) struct Channel {
    pub(super) key: u64,
    pub(super) socket: OwnedFd,
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    /// None until it has greeted.
    pub(super) session: Option<u64>,
    /// The call that it waits for; the requests behind it wait too.
    pub(super) parked: Option<Ticket>,
    /// Of a thread of a CPython program: how the reply to the call that it waits for is made Python's.
    pub(super) python: Option<Shape>,
    /// The first error of a request that nobody waited for.
    pub(super) failure: Option<Error>,
    /// What was lent with replies of which nobody knows whether they were read.
    pub(super) lent: Vec<(Ticket, Rc<Entry>)>,
    /// The client reads no more; what it sent before is still to be served.
    deaf: bool,
    /// It is closed as soon as everything was sent.
    pub(super) ending: bool,
    /// What epoll reports it for: readable, writable.
    pub(super) interest: (bool, bool),
}

/// How many bytes of replies may wait for a client before its requests do.
const MOST_OUT: usize = 1 << 20;
/// How many bytes of requests may wait behind a call that waits.
const MOST_IN: usize = 64 << 10;

impl Channel {
    pub(super) fn new(key: u64, socket: OwnedFd) -> Channel {
        Channel {
            key,
            socket,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            session: None,
            parked: None,
            python: None,
            failure: None,
            lent: Vec::new(),
            deaf: false,
            ending: false,
            interest: (true, false),
        }
    }

    /// Sends what there is to send; false if the socket does not take all of it without waiting.
    pub(super) fn flush(&mut self) -> Result<bool> {
        if self.deaf {
            self.outbox.clear();
            return Ok(true);
        }
        match self.outbox.flush(self.socket.as_fd(), false) {
            Err(Error::Disconnected) => {
                self.deaf = true;
                self.outbox.clear();
                // One that lives after all must not wait for what is lost.
                let _ = crate::sys::socket::shutdown_write(self.socket.as_fd());
                Ok(true)
            }
            other => other,
        }
    }

    /// Whether a client that has closed its end had read all replies.
    pub(super) fn has_read_all(&self) -> bool {
        let taken = || crate::sys::socket::was_all_taken(self.socket.as_fd()).unwrap_or(false);
        !self.deaf && self.outbox.len() == 0 && taken()
    }

    /// Whether its next request may be served.
    pub(super) fn is_free(&self) -> bool {
        self.parked.is_none() && !self.ending && self.outbox.len() < MOST_OUT
    }

    /// What epoll should report it for.
    pub(super) fn wanted_interest(&self) -> (bool, bool) {
        let read = !self.ending
            && self.outbox.len() < MOST_OUT
            && (self.parked.is_none() || self.inbox.len() < MOST_IN);
        (read, self.outbox.len() > 0)
    }
}
