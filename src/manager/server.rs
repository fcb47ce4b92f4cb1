//! The server's loop: one thread, one epoll set, no waiting but in `epoll_wait`.

use super::frames::Filled;
use super::home::{Entry, Home};
use super::outside::Outside;
use super::place::{Door, Stranger};
use super::protocol::STRANGERS_MOST;
use super::served::{Ticket, Waits};
use super::session::{Channel, Session};
use super::types::{ById, Limits, Names};
use crate::connection::Secret;
use crate::sys::alarm::Alarm;
use crate::sys::poll::Epoll;
use crate::sys::socket;
use crate::sys::time::Deadline;
use crate::{Error, Result, sys};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What epoll calls the listening socket, the owner's, other threads' bell and the alarm; channels have higher
/// numbers.
const DOOR: u64 = 0;
const OWNER: u64 = 1;
const BELL: u64 = 2;
const ALARM: u64 = 3;
const FIRST_CHANNEL: u64 = 4;

/// How long the references in messages of a client that is gone are kept.
const KEEP_LENT: Duration = Duration::from_secs(60);
/// How long no client is let in after the system had no descriptor for one.
const PAUSE: Duration = Duration::from_millis(100);

/// A call that waits.
pub(super) struct Parked {
    pub(super) channel: u64,
    pub(super) entry: Rc<Entry>,
    pub(super) deadline: Option<Instant>,
}

/// What is due at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A call's time is up.
    Ticket(Ticket),
    /// A client has not greeted.
    Stranger(u64),
    /// The references that a client, which is gone, has lent are given up.
    Lent(u64),
    /// Clients are let in again.
    Door,
}

/// A server and all that it has to do with.
pub(super) struct Server {
    pub(super) home: Rc<Home>,
    pub(super) limits: Limits,
    pub(super) names: Names,
    door: Door,
    /// Hangs up when the manager's owner wants the server to end.
    _owner: Option<OwnedFd>,
    epoll: Epoll,
    /// Rings when the first of the timers is due, or earlier: a timeout of `epoll_wait` would be set anew
    /// for each call that is served, which costs more than to serve it. None where there is no such clock.
    alarm: Option<Alarm>,
    /// When it rings.
    rings_at: Option<Instant>,
    next_key: u64,
    /// The one that is attended to is not in its place.
    pub(super) channels: ById<Option<Box<Channel>>>,
    /// Those who have not proved that they hold the key, the oldest first.
    waiting: VecDeque<u64>,
    pub(super) strangers: ById<Stranger>,
    pub(super) sessions: ById<Session>,
    pub(super) secrets: HashMap<[u8; 16], u64>,
    pub(super) parked: HashMap<Ticket, Parked>,
    pub(super) timers: BTreeSet<(Instant, Timer)>,
    pub(super) waits: Waits,
    /// The references of CPython programs, all together.
    pub(super) python_references: Session,
    /// What the last call has lent.
    pub(super) lent: Option<(Ticket, Rc<Entry>)>,
    /// Channels whose call was answered while another's was served.
    pub(super) woken: Vec<u64>,
}

impl Server {
    pub(super) fn new(
        home: Rc<Home>,
        door: Door,
        owner: Option<OwnedFd>,
        limits: Limits,
        names: Names,
    ) -> Result<Server> {
        let epoll = Epoll::new().map_err(Error::os("epoll_create1"))?;
        epoll.add(door.as_fd(), DOOR).map_err(Error::os("epoll_ctl"))?;
        if let Some(owner) = &owner {
            epoll.add(owner.as_fd(), OWNER).map_err(Error::os("epoll_ctl"))?;
        }
        let outside = Arc::new(Outside::new()?);
        epoll.add(outside.as_fd(), BELL).map_err(Error::os("epoll_ctl"))?;
        let alarm = Alarm::new().ok().filter(|alarm| epoll.add(alarm.as_fd(), ALARM).is_ok());
        Ok(Server {
            home,
            limits,
            names,
            door,
            _owner: owner,
            epoll,
            alarm,
            rings_at: None,
            next_key: FIRST_CHANNEL,
            channels: ById::default(),
            waiting: VecDeque::new(),
            strangers: ById::default(),
            sessions: ById::default(),
            secrets: HashMap::new(),
            parked: HashMap::new(),
            timers: BTreeSet::new(),
            waits: Waits::new(limits.parked_calls, Some(outside)),
            python_references: Session::default(),
            lent: None,
            woken: Vec::new(),
        })
    }

    /// Serves until the owner is gone.
    pub(super) fn run(&mut self) -> Result<()> {
        let _entered = self.home.enter()?;
        let mut ready = Vec::new();
        loop {
            let until = self.set_alarm();
            self.epoll.wait(until, &mut ready).map_err(Error::os("epoll_wait"))?;
            for &key in &ready {
                match key {
                    DOOR => self.let_in()?,
                    OWNER => return Ok(()),
                    BELL => self.hear(),
                    ALARM => self.alarm_has_rung(),
                    channel => self.attend(channel, true),
                }
            }
            self.run_timers()?;
        }
    }

    /// Sees to it that the first timer is not slept through: how long `epoll_wait` may take.
    fn set_alarm(&mut self) -> Deadline {
        let Some(&(first, _)) = self.timers.first() else { return Deadline::NEVER };
        if self.rings_at.is_some_and(|rings_at| rings_at <= first) {
            return Deadline::NEVER;
        }
        self.rings_at = self.alarm.as_ref().and_then(|alarm| alarm.set(first).ok()).map(|()| first);
        if self.rings_at.is_some() { Deadline::NEVER } else { Deadline::at(first) }
    }

    fn alarm_has_rung(&mut self) {
        self.rings_at = None;
        if let Some(alarm) = &self.alarm {
            alarm.heard();
        }
    }

    /// Passes on the answers of other threads.
    fn hear(&mut self) {
        let outside = self.waits.outside.as_ref().map(|outside| outside.take());
        self.waits.answers.extend(outside.unwrap_or_default());
        self.deliver();
        self.wake();
    }

    /// Goes on with the channels whose calls were answered.
    fn wake(&mut self) {
        while let Some(key) = self.woken.pop() {
            self.attend_one(key, false);
        }
    }

    /// Accepts all who wait.
    fn let_in(&mut self) -> Result<()> {
        let secret =
            Secret { key: self.home.place.key.clone(), legacy_md5: self.limits.legacy_md5 };
        loop {
            match self.door.accept(&secret) {
                Ok(Some(stranger)) => self.welcome(stranger),
                Ok(None) => return Ok(()),
                // No descriptor is left: the queue would be reported again and again.
                Err(_) => {
                    let _ = self.epoll.modify(self.door.as_fd(), DOOR, false, false);
                    self.timers.insert((Instant::now() + PAUSE, Timer::Door));
                    return Ok(());
                }
            }
        }
    }

    /// A client that has just connected; there are only so many places.
    fn welcome(&mut self, stranger: Stranger) {
        if self.channels.len() + self.strangers.len() >= self.limits.connections {
            return;
        }
        if self.waiting.len() >= self.limits.strangers {
            if let Some(oldest) = self.waiting.pop_front() {
                self.close(oldest);
            }
        }
        let key = self.next_key;
        self.next_key += 1;
        if self.epoll.add(stranger.as_fd(), key).is_err() {
            return;
        }
        self.waiting.push_back(key);
        if let Some(until) = Instant::now().checked_add(self.limits.handshake_timeout) {
            self.timers.insert((until, Timer::Stranger(key)));
        }
        self.meet(key, stranger);
    }

    /// Goes on with a handshake; who has the key becomes a channel.
    fn meet(&mut self, key: u64, mut stranger: Stranger) {
        match stranger.advance() {
            Ok(false) => drop(self.strangers.insert(key, stranger)),
            Ok(true) => {
                self.is_known_now(key);
                if let Some(socket) = stranger.into_socket() {
                    if self.limits.python {
                        // A Python program sends its request when its last word was acknowledged.
                        let _ = socket::acknowledge_now(socket.as_fd());
                    }
                    self.channels.insert(key, Some(Box::new(Channel::new(key, socket))));
                }
            }
            Err(_) => self.is_known_now(key),
        }
    }

    /// Takes note that somebody is no stranger any more, or gone.
    pub(super) fn is_known_now(&mut self, key: u64) {
        self.waiting.retain(|waiting| *waiting != key);
    }

    /// Does what is to be done for a channel, and for those whose calls this has answered.
    fn attend(&mut self, key: u64, read: bool) {
        if !self.attend_one(key, read) {
            if let Some(stranger) = self.strangers.remove(&key) {
                self.meet(key, stranger);
            }
        }
        self.wake();
    }

    /// False if there is no such channel.
    fn attend_one(&mut self, key: u64, read: bool) -> bool {
        let Some(mut channel) = self.channels.get_mut(&key).and_then(Option::take) else {
            return false;
        };
        match self.advance(&mut channel, read) {
            Ok(true) => {
                self.watch(&mut channel);
                match self.channels.get_mut(&key) {
                    Some(place) => *place = Some(channel),
                    None => self.bury(*channel),
                }
            }
            Ok(false) | Err(_) => {
                self.channels.remove(&key);
                self.bury(*channel);
            }
        }
        self.settle();
        true
    }

    /// Sends, reads, serves and sends; false if the channel is at its end.
    fn advance(&mut self, channel: &mut Channel, read: bool) -> Result<bool> {
        if channel.outbox.len() > 0 {
            channel.flush()?;
        }
        if read && !channel.ending {
            match channel.inbox.fill(channel.socket.as_fd(), true)? {
                Filled::End => {
                    if channel.has_read_all() {
                        self.settle_lent(channel, true);
                    }
                    return Ok(false);
                }
                Filled::Lost => return Ok(false),
                Filled::Some | Filled::Nothing => {}
            }
        }
        loop {
            let served = self.serve_frames(channel);
            let flushed = channel.flush()?;
            if channel.ending && flushed {
                return Ok(false);
            }
            // What stopped it may be gone now: then there is no event to come for what has arrived.
            if !served || !flushed {
                return Ok(!Server::floods(channel));
            }
        }
    }

    /// Whether a client has sent more descriptors ahead of their requests than any request could have.
    fn floods(channel: &Channel) -> bool {
        const MOST: usize = 1 << 10;
        channel.inbox.fds() > MOST
    }

    /// Serves the requests that have arrived; whether there may be more.
    fn serve_frames(&mut self, channel: &mut Channel) -> bool {
        let mut any = false;
        while channel.is_free() {
            let max = match channel.session {
                // A Python program begins with what it wants, and has proved itself by now.
                None if self.limits.python => self.limits.max_message,
                Some(_) => self.limits.max_message,
                None => STRANGERS_MOST,
            };
            let served = match channel.inbox.frame(max) {
                Ok(None) => return false,
                Ok(Some(frame)) => self.serve(channel, frame),
                Err(error) => Err(error),
            };
            any = true;
            if let Err(error) = served {
                channel.outbox.push(|out| super::protocol::push_error(out, &error));
                channel.ending = true;
            }
        }
        any
    }

    fn watch(&self, channel: &mut Channel) {
        let wanted = channel.wanted_interest();
        if wanted != channel.interest {
            let changed =
                self.epoll.modify(channel.socket.as_fd(), channel.key, wanted.0, wanted.1);
            if changed.is_ok() {
                channel.interest = wanted;
            }
        }
    }

    fn close(&mut self, key: u64) {
        drop(self.strangers.remove(&key));
        self.is_known_now(key);
        if let Some(channel) = self.channels.remove(&key).flatten() {
            self.bury(*channel);
        }
        self.settle();
        self.wake();
    }

    /// A channel is gone: its call waits no more, and its session may be at its end.
    fn bury(&mut self, mut channel: Channel) {
        // First its call, or what comes back would be for it.
        if let Some(parked) = channel.parked.and_then(|ticket| self.unpark(ticket)) {
            self.withdraw(&parked, channel.parked, false);
        }
        self.settle_lent(&mut channel, false);
        match channel.session {
            None => {}
            Some(number) => self.leave(number),
        }
    }

    /// The replies to a channel were read, or never will be: what was lent with them is gone, or back.
    pub(super) fn settle_lent(&mut self, channel: &mut Channel, received: bool) {
        if channel.lent.is_empty() {
            return;
        }
        // The last first: what comes back to a queue then has its old order.
        for (ticket, entry) in channel.lent.drain(..).rev() {
            self.settle_one(ticket, &entry, received);
        }
        self.deliver();
    }

    pub(super) fn settle_one(&mut self, ticket: Ticket, entry: &Entry, received: bool) {
        if let Ok(mut object) = entry.object.try_borrow_mut() {
            object.settled(ticket, received, &mut self.waits);
        }
    }

    /// A channel of a session is gone; with the last one the session ends.
    fn leave(&mut self, number: u64) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        session.channels -= 1;
        if session.channels > 0 {
            return;
        }
        if let Some(secret) = session.secret {
            self.secrets.remove(&secret);
        }
        let references = std::mem::take(&mut session.references);
        let held = std::mem::take(&mut session.held);
        if session.lent.is_empty() {
            self.sessions.remove(&number);
        } else {
            self.timers.insert((Instant::now() + KEEP_LENT, Timer::Lent(number)));
        }
        for id in held {
            if let Ok(entry) = self.home.find(id) {
                if let Ok(mut object) = entry.object.try_borrow_mut() {
                    object.session_ended(number, &mut self.waits);
                }
            }
        }
        self.deliver();
        for (id, count) in references {
            drop(self.home.release(id, count));
        }
    }

    /// Tells an object that a call on it is over.
    fn withdraw(&mut self, parked: &Parked, ticket: Option<Ticket>, timed_out: bool) {
        if let (Some(ticket), Ok(mut object)) = (ticket, parked.entry.object.try_borrow_mut()) {
            object.withdraw(ticket, timed_out, &mut self.waits);
        }
        self.deliver();
    }

    /// Takes a call out of those that wait.
    pub(super) fn unpark(&mut self, ticket: Ticket) -> Option<Parked> {
        let parked = self.parked.remove(&ticket)?;
        self.waits.parked = self.parked.len();
        if let Some(deadline) = parked.deadline {
            self.timers.remove(&(deadline, Timer::Ticket(ticket)));
        }
        Some(parked)
    }

    fn run_timers(&mut self) -> Result<()> {
        // While the alarm is set and silent, nothing is due.
        if self.timers.is_empty() || self.rings_at.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        while let Some((at, timer)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, timer));
                break;
            }
            match timer {
                Timer::Ticket(ticket) => self.time_out(ticket),
                Timer::Stranger(key) => {
                    let channel = self.channels.get(&key).and_then(Option::as_ref);
                    let greeted = channel.is_none_or(|channel| channel.session.is_some());
                    if self.strangers.contains_key(&key) || !greeted {
                        self.close(key);
                    }
                }
                Timer::Lent(number) => {
                    let session = self.sessions.remove(&number).unwrap_or_default();
                    for (id, count) in session.lent {
                        drop(self.home.release(id, count));
                    }
                    self.settle();
                }
                Timer::Door => self
                    .epoll
                    .modify(self.door.as_fd(), DOOR, true, false)
                    .map_err(Error::os("epoll_ctl"))?,
            }
        }
        Ok(())
    }

    /// The object answers a call whose time is up, unless it must wait for something more.
    fn time_out(&mut self, ticket: Ticket) {
        let Some(parked) = self.parked.get_mut(&ticket) else { return };
        parked.deadline = None;
        let entry = Rc::clone(&parked.entry);
        if let Ok(mut object) = entry.object.try_borrow_mut() {
            object.withdraw(ticket, true, &mut self.waits);
        }
        self.deliver();
        self.settle();
        self.wake();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("door", &self.door).finish_non_exhaustive()
    }
}

/// Raises the number of descriptors to what this process may have: a client needs one.
pub(super) fn allow_many_descriptors() {
    use sys::limits::{Limit, Resource, limit, set_limit};
    if let Ok(Limit { hard, .. }) = limit(Resource::OpenFiles) {
        // Where it is refused, there are as many clients as there may be.
        let _ = set_limit(Resource::OpenFiles, Limit { soft: hard, hard });
    }
}
