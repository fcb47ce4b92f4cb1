//! What an object in a server is to the server, and a call to the object.

use super::outside::Outside;
use super::protocol;
use super::proxy::Proxy;
use crate::codec::Payload;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Error, Result};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// An object that a manager's server holds.
///
/// [`managed!`](crate::managed) implements it; there is nothing to call.
pub trait Served: 'static {
    /// Itself, as what it is.
    #[doc(hidden)]
    fn as_any(&mut self) -> &mut dyn Any;

    /// What messages call the object.
    #[doc(hidden)]
    fn kind(&self) -> &'static str;

    /// The methods that can be called, as text: equal for equal interfaces.
    #[doc(hidden)]
    fn interface(&self) -> String;

    /// Runs a method.
    #[doc(hidden)]
    fn serve(&mut self, call: &mut Call<'_>) -> Result<()>;

    /// A call that waited is over: its time is up (and it is to be answered), or its client is gone.
    #[doc(hidden)]
    fn withdraw(&mut self, ticket: Ticket, timed_out: bool, waits: &mut Waits) {
        let _ = (ticket, timed_out, waits);
    }

    /// What was lent by the answer to a call was received, or never will be.
    #[doc(hidden)]
    fn settled(&mut self, ticket: Ticket, received: bool, waits: &mut Waits) {
        let _ = (ticket, received, waits);
    }

    /// A client that held something of the object is gone.
    #[doc(hidden)]
    fn session_ended(&mut self, session: u64, waits: &mut Waits) {
        let _ = (session, waits);
    }
}

/// What an object does in which calls wait.
#[doc(hidden)]
pub trait Waiting {
    /// As [`Served::withdraw`].
    fn call_ended(&mut self, ticket: Ticket, timed_out: bool, waits: &mut Waits);

    /// As [`Served::settled`].
    fn lending_ended(&mut self, ticket: Ticket, received: bool, waits: &mut Waits) {
        let _ = (ticket, received, waits);
    }

    /// As [`Served::session_ended`].
    fn holder_ended(&mut self, session: u64, waits: &mut Waits) {
        let _ = (session, waits);
    }
}

/// A type whose values a manager can hold, with the proxy that stands for them.
///
/// [`managed!`](crate::managed) implements it.
pub trait Managed: Served {
    /// Its proxy.
    type Proxy: Proxy;
}

/// A call that waits in a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[doc(hidden)]
pub struct Ticket(pub(super) u64);

/// A call as the object sees it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Call<'a> {
    pub(super) method: u64,
    pub(super) arguments: Decoder<'a>,
    /// Where the reply goes, as a frame.
    pub(super) reply: &'a mut Payload,
    pub(super) waits: &'a mut Waits,
    /// Whose call it is; zero for one from inside the server.
    pub(super) session: u64,
    pub(super) outcome: Outcome,
}

/// What has become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Neither answered nor parked.
    Open,
    Answered,
    /// Answered with something that is the object's until the client has it.
    Lent(Ticket),
    Parked(Ticket, Deadline),
}

impl Call<'_> {
    /// The number of the method.
    pub fn method(&self) -> u64 {
        self.method
    }

    /// Decodes the arguments, all of them.
    pub fn arguments<A: Decode>(&mut self) -> Result<A> {
        let arguments = A::decode(&mut self.arguments)?;
        match self.arguments.remaining() {
            0 => Ok(arguments),
            left => Err(Error::decode(format!("{left} bytes are left over"))),
        }
    }

    /// Answers the call.
    pub fn answer<R: Encode + ?Sized>(&mut self, value: &R) -> Result<()> {
        protocol::push_value(self.reply, value)?;
        self.outcome = Outcome::Answered;
        Ok(())
    }

    /// Answers the call with an error that is not its own to give away.
    pub(super) fn fail(&mut self, error: &Error) {
        protocol::push_error(self.reply, error);
        self.outcome = Outcome::Answered;
    }

    /// Answers the call with something that stays the object's: it is [settled](Served::settled) later.
    pub(super) fn lend<R: Encode + ?Sized>(&mut self, value: &R) -> Result<Ticket> {
        protocol::push_value(self.reply, value)?;
        let ticket = self.waits.number();
        self.outcome = Outcome::Lent(ticket);
        Ok(ticket)
    }

    /// As [`lend`](Self::lend), of an error: if it does not arrive, it is for another.
    pub(super) fn lend_error(&mut self, error: &Error) -> Ticket {
        protocol::push_error(self.reply, error);
        let ticket = self.waits.number();
        self.outcome = Outcome::Lent(ticket);
        ticket
    }

    /// The client's session.
    pub(in crate::manager) fn session(&self) -> u64 {
        self.session
    }

    /// Lets the call wait; the object answers it later by its ticket.
    pub(super) fn park(&mut self, timeout: Option<Duration>) -> Result<Ticket> {
        let ticket = self.waits.admit(self.session)?;
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        self.outcome = Outcome::Parked(ticket, deadline);
        Ok(ticket)
    }

    /// Lets the call wait; another thread answers it later.
    pub(super) fn park_outside(&mut self) -> Result<(Ticket, Arc<Outside>)> {
        let outside = self.waits.outside.clone();
        let outside = outside.ok_or_else(|| Error::invalid("a call from inside the server"))?;
        Ok((self.park(None)?, outside))
    }

    /// Has the object told when this client is gone.
    pub(super) fn hold(&mut self) {
        self.waits.hold = true;
    }

    /// No method of this number is exported.
    pub fn not_exported(&self, object: &'static str) -> Error {
        Error::NotExported { object: object.into() }
    }
}

/// The answer to a call that waited, as a frame.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ticket: Ticket,
    pub(super) payload: Payload,
    /// Whether it is settled later.
    pub(super) lent: bool,
}

/// The calls that wait in a server, as far as objects have to do with them.
#[doc(hidden)]
#[derive(Debug)]
pub struct Waits {
    next: u64,
    /// How many calls wait, and how many may.
    pub(super) parked: usize,
    pub(super) limit: usize,
    pub(super) answers: Vec<Answer>,
    /// Those of other threads; none where nobody can wait for them.
    pub(super) outside: Option<Arc<Outside>>,
    hold: bool,
}

impl Waits {
    pub(super) fn new(limit: usize, outside: Option<Arc<Outside>>) -> Waits {
        // Those of calls from inside must not be taken for tickets of clients.
        let next = if outside.is_some() { 1 } else { 1 << 63 };
        Waits { next, parked: 0, limit, answers: Vec::new(), outside, hold: false }
    }

    fn admit(&mut self, session: u64) -> Result<Ticket> {
        if session == 0 {
            return Err(Error::invalid("a call from inside the server may not wait"));
        }
        if self.parked >= self.limit {
            let message = format!("{} calls wait in the server already", self.limit);
            return Err(Error::Remote { message });
        }
        Ok(self.number())
    }

    fn number(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// Answers a call that waited.
    pub(super) fn answer<R: Encode + ?Sized>(&mut self, ticket: Ticket, value: &R) {
        let mut payload = Payload::default();
        if let Err(error) = protocol::push_value(&mut payload, value) {
            protocol::push_error(&mut payload, &error);
        }
        self.answers.push(Answer { ticket, payload, lent: false });
    }

    /// As [`answer`](Self::answer), with something that stays the object's: it is settled later, if this is
    /// true. Otherwise it cannot be encoded, and the call was answered so.
    pub(super) fn lend<R: Encode + ?Sized>(&mut self, ticket: Ticket, value: &R) -> bool {
        let mut payload = Payload::default();
        let pushed = protocol::push_value(&mut payload, value);
        if let Err(error) = &pushed {
            protocol::push_error(&mut payload, error);
        }
        self.answers.push(Answer { ticket, payload, lent: pushed.is_ok() });
        pushed.is_ok()
    }

    /// Answers a call that waited with an error.
    pub(super) fn fail(&mut self, ticket: Ticket, error: &Error) {
        let mut payload = Payload::default();
        protocol::push_error(&mut payload, error);
        self.answers.push(Answer { ticket, payload, lent: false });
    }

    /// Whether [`Call::hold`] was called since the last time.
    pub(super) fn take_hold(&mut self) -> bool {
        std::mem::take(&mut self.hold)
    }
}
