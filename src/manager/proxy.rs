//! References to objects, and what all proxies have in common.

use super::client::Client;
use super::home::{Home, Ledger, Note, Visit};
use super::place::Place;
use super::protocol::{self, Kind, LENGTH, Request};
use super::served::{Managed, Served};
use crate::codec::Payload;
use crate::connection::Key;
use crate::process::target::EntryPoint;
use crate::{Address, Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What stands for an object in a manager's server, in whatever process.
///
/// [`managed!`](crate::managed) implements it for the proxies that it declares.
pub trait Proxy: Clone + Encode + Decode {
    /// The object.
    type Object: Managed<Proxy = Self>;

    /// The methods of the object, as text.
    #[doc(hidden)]
    fn interface() -> String;

    /// The proxy of a reference.
    #[doc(hidden)]
    fn from_handle(handle: Handle) -> Self;

    /// The reference.
    #[doc(hidden)]
    fn handle(&self) -> &Handle;
}

/// A reference to an object; given back when its last clone in this process is dropped.
#[doc(hidden)]
#[derive(Clone)]
pub struct Handle(Arc<Reference>);

struct Reference {
    object: u64,
    place: Arc<Place>,
    holder: Holder,
}

/// Who has the reference, as the server counts.
enum Holder {
    /// The server itself: the handle is (or was) inside an object, or in a method's hands.
    Server(Arc<Ledger>),
    /// A client process; and the one that was forked from it, if this is that.
    Client(Arc<Client>, Mutex<Option<Arc<Client>>>),
}

impl Handle {
    /// A reference that the client's session has already.
    pub(super) fn of_client(client: Arc<Client>, object: u64) -> Handle {
        let place = Arc::clone(&client.place);
        Handle(Arc::new(Reference {
            object,
            place,
            holder: Holder::Client(client, Mutex::default()),
        }))
    }

    /// A reference that the server counts already.
    pub(super) fn of_server(home: &Home, object: u64) -> Handle {
        let holder = Holder::Server(Arc::clone(&home.ledger));
        Handle(Arc::new(Reference { object, place: Arc::clone(&home.place), holder }))
    }

    /// The object's id.
    pub(super) fn id(&self) -> u64 {
        self.0.object
    }

    /// The server that this thread runs, if the object is in it.
    pub(super) fn home(&self) -> Option<std::rc::Rc<Home>> {
        Home::here(self.0.place.server)
    }

    /// Shows the object to `look`, in its own server.
    pub(super) fn visit<R>(&self, look: impl FnOnce(&dyn std::any::Any) -> R) -> Result<R> {
        let home = self.home().ok_or_else(|| Error::invalid("an object of another manager"))?;
        let entry = home.find(self.id())?;
        let mut object = entry.object.try_borrow_mut().map_err(|_| Error::Deadlock)?;
        Ok(look(object.as_any()))
    }

    /// This process's session with the server, in which the object is referred to.
    pub(super) fn client(&self) -> Result<Arc<Client>> {
        let Reference { object, place, holder } = &*self.0;
        match holder {
            Holder::Client(client, _) if client.is_ours() => Ok(Arc::clone(client)),
            Holder::Client(_, forked) => {
                let mut forked = forked.lock().unwrap_or_else(PoisonError::into_inner);
                match &*forked {
                    Some(client) if client.is_ours() => Ok(Arc::clone(client)),
                    _ => {
                        let client = Client::of(place)?;
                        let request = Request::new(Kind::Take, *object);
                        client.exchange::<u64, ()>(request, &0)?;
                        *forked = Some(Arc::clone(&client));
                        Ok(client)
                    }
                }
            }
            Holder::Server(_) => Client::of(place),
        }
    }

    /// Calls a method and waits for its reply.
    pub(super) fn call<A: Encode + ?Sized, R: Decode>(
        &self,
        method: u64,
        arguments: &A,
    ) -> Result<R> {
        if let Some(home) = self.home() {
            let reply = home.call(self.id(), method, &mut Payload::of(arguments)?)?;
            let mut payload = reply;
            let (is_value, _, _) = protocol::parse_reply(&payload.bytes[LENGTH..])?;
            payload.bytes.drain(..LENGTH + protocol::REPLY);
            return protocol::decode_reply(is_value, payload);
        }
        let request = Request { method, ..Request::new(Kind::Call, self.id()) };
        match &self.0.holder {
            // The common case, without a count of users that all threads write to.
            Holder::Client(client, _) if client.is_ours() => client.exchange(request, arguments),
            _ => self.client()?.exchange(request, arguments),
        }
    }

    /// Calls a function on the object, in the server.
    pub fn apply<F, O, A, R>(&self, f: F, argument: A) -> Result<R>
    where
        F: Fn(&mut O, A) -> R + Copy + Send + Sync + 'static,
        O: Served,
        A: Encode + Decode + 'static,
        R: Encode + Decode + 'static,
    {
        let _ = f;
        let function = EntryPoint::of::<Visit<F, O, A, R>>();
        if let Some(home) = self.home() {
            let mut result = home.apply(self.id(), function, &mut Payload::of(&argument)?)?;
            return R::decode(&mut Decoder::new(&result.bytes, &mut result.fds));
        }
        let request = Request::new(Kind::Apply, self.id());
        self.client()?.exchange(request, &(function.locate()?, argument))
    }

    /// Makes a reference that will travel, and says whose it is.
    fn lend(&self) -> Result<u64> {
        if let Some(home) = self.home() {
            let session = home.session.get();
            home.find(self.id())?;
            home.ledger.add(Note::Lend { object: self.id(), session });
            return Ok(session);
        }
        let client = self.client()?;
        client.exchange::<(), ()>(Request::new(Kind::Lend, self.id()), &())?;
        Ok(client.session)
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        match &self.holder {
            Holder::Server(ledger) => ledger.add(Note::Drop { object: self.object }),
            Holder::Client(client, forked) => {
                client.give_back(self.object);
                let forked = forked.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(forked) = forked {
                    forked.give_back(self.object);
                }
            }
        }
    }
}

/// The key does not travel where others can read it: a server that is reached over a network sends
/// proxies to those alone who have it.
impl Encode for Handle {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        let session = match self.lend() {
            Ok(session) => session,
            Err(error) => return encoder.fail(error),
        };
        let Place { server, address, key } = &*self.0.place;
        (self.id(), session, server).encode(encoder);
        let to_client = matches!(address, Address::Tcp { .. }) && self.home().is_some();
        (address, if to_client { &[] } else { key.bytes() }).encode(encoder);
    }
}

impl Decode for Handle {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Handle> {
        let (object, from, server) = <(u64, u64, u64)>::decode(decoder)?;
        let (address, key) = <(Address, Vec<u8>)>::decode(decoder)?;
        if let Some(home) = Home::here(server) {
            home.find(object)?;
            home.ledger.add(Note::Take { object, from });
            return Ok(Handle::of_server(&home, object));
        }
        let client = Client::of(&Arc::new(Place { server, address, key: Key::new(key) }))?;
        client.exchange::<u64, ()>(Request::new(Kind::Take, object), &from)?;
        Ok(Handle::of_client(client, object))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:#x}", self.0.place.address, self.id())
    }
}

/// The id of the object that a proxy stands for, for tests of equality: two proxies of one object have
/// the same.
pub fn object_id<P: Proxy>(proxy: &P) -> u64 {
    proxy.handle().id()
}
