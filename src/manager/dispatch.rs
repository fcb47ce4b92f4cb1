//! A server's requests: who asks is known, what is asked is not believed.

use super::home::{Home, Note};
use super::protocol::{self, Greeting, Kind, Request, Welcome};
use super::python;
use super::served::{Answer, Call, Outcome, Ticket};
use super::server::{Parked, Server, Timer};
use super::session::{Channel, Session};
use crate::codec::Payload;
use crate::process::panics;
use crate::process::target::Location;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result, sys};
use std::fmt::Write;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

impl Server {
    /// Serves one frame. An error ends the channel; those of requests are replies.
    pub(super) fn serve(&mut self, channel: &mut Channel, frame: Range<usize>) -> Result<()> {
        let is_python = match channel.session {
            Some(_) => channel.python.is_some(),
            None => python::is_request(channel.inbox.body(frame.clone())),
        };
        if is_python {
            return self.serve_python(channel, frame);
        }
        let Some(session) = channel.session else { return self.greet(channel, frame) };
        let (request, _) = Request::parse(channel.inbox.body(frame.clone()))?;
        if request.caught_up {
            self.settle_lent(channel, true);
        }
        let Channel { inbox, outbox, failure, parked, key, lent, .. } = channel;
        let fds = inbox.take_fds(request.fds)?;
        let arguments = &inbox.body(frame)[protocol::REQUEST..];
        self.home.session.set(session);
        if request.no_reply {
            let mut nowhere = Payload::default();
            let outcome = self.answer(session, request, arguments, fds, &mut nowhere);
            let outcome = outcome.and_then(|parked| match parked {
                Some((ticket, ..)) => {
                    self.abandon(ticket, request.object);
                    Err(Error::invalid("a call that waits was posted"))
                }
                None => Ok(()),
            });
            if let Err(error) = outcome {
                failure.get_or_insert(error);
            }
            if let Some((ticket, entry)) = self.lent.take() {
                // Nobody wants to see it.
                self.settle_one(ticket, &entry, true);
            }
        } else if request.kind == Kind::Sync {
            let failure = failure.take();
            outbox.push(|out| match &failure {
                None => protocol::push_value(out, &()),
                Some(error) => {
                    protocol::push_error(out, error);
                    Ok(())
                }
            })?;
        } else {
            let waits = outbox.push(|out| {
                let before = (out.bytes.len(), out.fds.len());
                let outcome = self.answer(session, request, arguments, fds, out);
                if !matches!(outcome, Ok(None)) {
                    out.bytes.truncate(before.0);
                    out.fds.truncate(before.1);
                }
                outcome.unwrap_or_else(|error| {
                    protocol::push_error(out, &error);
                    None
                })
            });
            if let Some((ticket, waiting)) = waits {
                *parked = Some(ticket);
                self.park(ticket, Parked { channel: *key, ..waiting });
            }
            lent.extend(self.lent.take());
        }
        self.home.session.set(0);
        self.deliver();
        self.settle();
        Ok(())
    }

    /// Runs a request: its reply is appended to `out`, or it waits.
    fn answer(
        &mut self,
        session: u64,
        request: Request,
        arguments: &[u8],
        mut fds: Vec<OwnedFd>,
        out: &mut Payload,
    ) -> Result<Option<(Ticket, Parked)>> {
        let id = request.object;
        let mut decoder = Decoder::new(arguments, &mut fds);
        match request.kind {
            Kind::Call => return self.call(session, request, decoder, out),
            Kind::Create => {
                let entry = Location::decode(&mut decoder)?.resolve()?;
                let mut rest = rest_of(&mut decoder, arguments);
                let id = self.home.make(entry, &mut rest)?;
                self.session(session)?.refer(id);
                protocol::push_value(out, &id)?;
            }
            Kind::Get => {
                let (name, interface) = <(String, String)>::decode(&mut decoder)?;
                let id = self.named(&name)?;
                let entry = self.home.find(id)?;
                let found = entry.object.try_borrow().map_err(|_| Error::Deadlock)?.interface();
                if found != interface {
                    return Err(Error::InterfaceMismatch {
                        expected: interface.into(),
                        found: found.into(),
                    });
                }
                entry.references.set(entry.references.get() + 1);
                self.session(session)?.refer(id);
                protocol::push_value(out, &id)?;
            }
            Kind::Take => {
                let from = u64::decode(&mut decoder)?;
                let entry = self.home.find(id)?;
                if !self.sessions.get_mut(&from).is_some_and(|from| from.unlend(id)) {
                    entry.references.set(entry.references.get() + 1);
                }
                self.session(session)?.refer(id);
                protocol::push_value(out, &())?;
            }
            Kind::Drop => {
                if !self.session(session)?.unrefer(id) {
                    return Err(Error::NoSuchObject);
                }
                drop(self.home.release(id, 1));
                protocol::push_value(out, &())?;
            }
            Kind::Lend => {
                let entry = self.home.find(id)?;
                entry.references.set(entry.references.get() + 1);
                *self.session(session)?.lent.entry(id).or_default() += 1;
                protocol::push_value(out, &())?;
            }
            Kind::Count => protocol::push_value(out, &(self.home.objects.borrow().len() as u64))?,
            Kind::Debug => protocol::push_value(out, &self.describe())?,
            Kind::Sync => protocol::push_value(out, &())?,
            Kind::Apply => {
                let entry = Location::decode(&mut decoder)?.resolve()?;
                let mut rest = rest_of(&mut decoder, arguments);
                let result = self.home.apply(id, entry, &mut rest)?;
                protocol::push_value(out, &Encoded(result))?;
            }
        }
        Ok(None)
    }

    /// Runs a method of an object.
    pub(super) fn call(
        &mut self,
        session: u64,
        request: Request,
        arguments: Decoder<'_>,
        out: &mut Payload,
    ) -> Result<Option<(Ticket, Parked)>> {
        let entry = self.home.find(request.object)?;
        let mut object = entry.object.try_borrow_mut().map_err(|_| Error::Deadlock)?;
        let mut call = Call {
            method: request.method,
            arguments,
            reply: out,
            waits: &mut self.waits,
            session,
            outcome: Outcome::Open,
        };
        let served = panics::catch(|| object.serve(&mut call));
        let outcome = call.outcome;
        drop(object);
        if self.waits.take_hold() {
            self.session(session)?.held.insert(request.object);
        }
        served??;
        match outcome {
            Outcome::Answered => Ok(None),
            Outcome::Lent(ticket) => {
                self.lent = Some((ticket, entry));
                Ok(None)
            }
            Outcome::Open => protocol::push_value(out, &()).map(|()| None),
            Outcome::Parked(ticket, deadline) => {
                let deadline = deadline.instant();
                let parked = Parked { channel: 0, entry, deadline };
                Ok(Some((ticket, parked)))
            }
        }
    }

    pub(super) fn park(&mut self, ticket: Ticket, parked: Parked) {
        if let Some(deadline) = parked.deadline {
            self.timers.insert((deadline, Timer::Ticket(ticket)));
        }
        self.parked.insert(ticket, parked);
        self.waits.parked = self.parked.len();
    }

    /// A call that was to wait, but must not.
    fn abandon(&mut self, ticket: Ticket, object: u64) {
        if let Ok(entry) = self.home.find(object) {
            if let Ok(mut object) = entry.object.try_borrow_mut() {
                object.withdraw(ticket, false, &mut self.waits);
            }
        }
    }

    /// Sends the answers of calls that waited.
    pub(super) fn deliver(&mut self) {
        self.waits.answers.append(&mut self.home.answers.borrow_mut());
        while !self.waits.answers.is_empty() {
            for answer in std::mem::take(&mut self.waits.answers) {
                self.deliver_one(answer);
            }
        }
    }

    fn deliver_one(&mut self, answer: Answer) {
        let Answer { ticket, payload, lent } = answer;
        let Some(parked) = self.unpark(ticket) else { return };
        match self.channels.get_mut(&parked.channel).and_then(Option::as_deref_mut) {
            // Nobody is there to have it.
            None if lent => self.settle_one(ticket, &parked.entry, false),
            None => {}
            Some(channel) => {
                channel.parked = None;
                if lent {
                    channel.lent.push((ticket, parked.entry));
                }
                channel.outbox.push(|out| match channel.python {
                    Some(shape) => python::push(out, &shape.reply(payload)),
                    None => {
                        out.bytes.extend(payload.bytes);
                        out.fds.extend(payload.fds);
                    }
                });
                self.woken.push(parked.channel);
            }
        }
    }

    /// Sees to the notes about references; objects that go may leave further ones.
    pub(super) fn settle(&mut self) {
        while !self.home.ledger.is_clear() {
            for note in self.home.ledger.take() {
                match note {
                    Note::Take { object, from } => {
                        let lent = self.sessions.get_mut(&from).is_some_and(|s| s.unlend(object));
                        if !lent {
                            self.count(object);
                        }
                    }
                    Note::Drop { object } => drop(self.home.release(object, 1)),
                    Note::Lend { object, session } => {
                        if let Some(session) = self.sessions.get_mut(&session) {
                            *session.lent.entry(object).or_default() += 1;
                            self.count(object);
                        }
                    }
                }
            }
        }
    }

    fn count(&self, object: u64) {
        if let Ok(entry) = self.home.find(object) {
            entry.references.set(entry.references.get() + 1);
        }
    }

    pub(super) fn session(&mut self, number: u64) -> Result<&mut Session> {
        self.sessions.get_mut(&number).ok_or(Error::Closed)
    }

    /// The first frame of a channel.
    fn greet(&mut self, channel: &mut Channel, frame: Range<usize>) -> Result<()> {
        let Greeting { secret } = Greeting::parse(channel.inbox.body(frame))?;
        let number = match self.secrets.get(&secret) {
            Some(number) => *number,
            None => {
                let number = sys::random::u64().map_err(Error::os("getrandom"))? | 1;
                self.sessions
                    .insert(number, Session { secret: Some(secret), ..Session::default() });
                self.secrets.insert(secret, number);
                number
            }
        };
        self.session(number)?.channels += 1;
        channel.session = Some(number);
        let welcome = Welcome {
            server: self.home.place.server,
            session: number,
            max_message: self.limits.max_message as u64,
        };
        channel.outbox.push(|out| protocol::push_value(out, &welcome))
    }

    /// The object of a name: the one there is, or a new one.
    pub(super) fn named(&mut self, name: &str) -> Result<u64> {
        let home = Rc::clone(&self.home);
        self.names.object(name, &home)
    }

    /// What there is, in CPython's form.
    pub(super) fn describe(&self) -> String {
        let sessions = self.sessions.values().filter(|session| session.channels > 0).count();
        let channels = self.channels.len();
        let parked = self.parked.len();
        let strangers = self.strangers.len();
        let mut lines = vec![format!(
            "sessions={sessions} channels={channels} strangers={strangers} parked={parked}"
        )];
        for (id, entry) in self.home.objects.borrow().iter() {
            let mut line = String::new();
            let _ = write!(line, "  {id:016x}:       refcount={}", entry.references.get());
            let _ = write!(line, "\n    {}", entry.kind);
            lines.push(line);
        }
        lines[1..].sort();
        lines.join("\n")
    }
}

/// A value that is encoded already.
struct Encoded(Payload);

impl Encode for Encoded {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.bytes(&self.0.bytes);
        self.0.fds.iter().for_each(|fd| encoder.fd(fd.as_fd()));
    }
}

/// What a decoder has not taken.
fn rest_of(decoder: &mut Decoder<'_>, arguments: &[u8]) -> Payload {
    let left = decoder.remaining();
    let mut fds = Vec::new();
    while let Ok(fd) = decoder.fd() {
        fds.push(fd);
    }
    Payload { bytes: arguments[arguments.len() - left..].to_vec(), fds }
}

impl Home {
    /// The method of an entry that is made with no further argument.
    pub(super) fn make_plain(&self, location: Location, bytes: &[u8]) -> Result<u64> {
        let mut payload = Payload { bytes: bytes.to_vec(), fds: Vec::new() };
        self.make(location.resolve()?, &mut payload)
    }
}
