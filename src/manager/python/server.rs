//! The server's side: CPython programs as clients.

use super::arguments::{Arguments, Raised};
use super::waiting::Forward;
use super::{Reply, Shape, containers, id_text, list, make, push, values, waiting};
use crate::codec::Payload;
use crate::connection::request_from_pickle;
use crate::manager::objects::{
    Array, Barrier, Condition, Dict, Event, Iter, List, Lock, Namespace, Queue, RLock, Semaphore,
    Set, Value,
};
use crate::manager::protocol::{Kind, Request};
use crate::manager::server::{Parked, Server};
use crate::manager::session::{Channel, Session};
use crate::process::panics;
use crate::{Decoder, Error, Object, Result, sys};
use std::any::Any;
use std::ops::Range;

/// What has become of a call.
pub(super) enum Done {
    Now(Object),
    /// These are what an iterator gives, which is yet to be made.
    Iterator(Vec<Object>),
    Forward(Forward),
}

/// A request as it was read.
struct Asked {
    id: Object,
    function: String,
    arguments: Arguments,
}

impl Asked {
    fn read(frame: &[u8]) -> Result<Asked> {
        let wrong = |_| Error::decode("a request that is no tuple of four");
        let Object::Tuple(parts) = request_from_pickle(frame)? else {
            return Err(wrong(Vec::new()));
        };
        let [id, function, positional, keywords] = parts.try_into().map_err(wrong)?;
        let positional = match positional {
            Object::Tuple(items) | Object::List(items) => items,
            _ => return Err(wrong(Vec::new())),
        };
        let arguments = Arguments::new(positional, keywords.try_into()?);
        Ok(Asked { id, function: function.try_into()?, arguments })
    }

    /// The object that an id means.
    fn object(id: &Object) -> Result<u64, Raised> {
        let number = match id {
            Object::Str(text) => u64::from_str_radix(text, 16).ok(),
            _ => None,
        };
        number.ok_or_else(|| Raised::from(Error::NoSuchObject))
    }
}

/// The methods of an object that a Python program may call; none if it can use none.
fn exposed(object: &mut dyn Any) -> Option<&'static [&'static str]> {
    macro_rules! first {
        ($($type:ty => $methods:expr,)*) => {
            $( if object.is::<$type>() { return Some($methods); } )*
        };
    }
    first! {
        List<Object> => list::LIST,
        Dict<Object, Object> => containers::DICT,
        Set<Object> => containers::SET,
        Namespace => values::NAMESPACE,
        Value<Object> => values::VALUE,
        Array<Object> => values::ARRAY,
        Iter<Object> => values::ITERATOR,
        Queue<Object> => waiting::QUEUE,
        Event => waiting::EVENT,
        Lock => waiting::LOCK,
        RLock => waiting::LOCK,
        Condition => waiting::CONDITION,
        Semaphore => waiting::SEMAPHORE,
        Barrier => waiting::BARRIER,
    }
    None
}

/// Calls a method, or says which of ours does it.
fn call(object: &mut dyn Any, method: &str, given: Arguments) -> Result<Done, Raised> {
    macro_rules! first {
        ($($type:ty => $call:expr,)*) => {
            $( if let Some(object) = object.downcast_mut::<$type>() {
                return $call(object, method, given);
            } )*
        };
    }
    first! {
        List<Object> => list::call_list,
        Dict<Object, Object> => containers::call_dict,
        Set<Object> => containers::call_set,
        Namespace => values::call_namespace,
        Value<Object> => values::call_value,
        Array<Object> => values::call_array,
        Iter<Object> => values::call_iterator,
        Queue<Object> => |_: &mut _, method, given| waiting::call_queue(method, given),
        Event => |_: &mut _, method, given| waiting::call_event(method, given),
        Lock => |_: &mut _, method, given| waiting::call_lock(method, given),
        RLock => |_: &mut _, method, given| waiting::call_lock(method, given),
        Condition => |_: &mut _, method, given| waiting::call_condition(method, given),
        Semaphore => |_: &mut _, method, given| waiting::call_semaphore(method, given),
        Barrier => |_: &mut _, method, given| waiting::call_barrier(method, given),
    }
    Err(Raised::Trouble("an object that Python programs cannot use".into()))
}

fn names(methods: &[&'static str]) -> Object {
    Object::tuple(methods.iter().map(|name| Object::from(*name)))
}

impl Server {
    /// Serves one request of a CPython program.
    pub(in crate::manager) fn serve_python(
        &mut self,
        channel: &mut Channel,
        frame: Range<usize>,
    ) -> Result<()> {
        let asked = Asked::read(channel.inbox.body(frame));
        // It asks for one thing after the other.
        self.settle_lent(channel, true);
        let reply = match (asked, channel.session) {
            (Err(error), session) => {
                channel.ending = session.is_none();
                Some(Reply::Raise(Raised::Trouble(error.to_string())))
            }
            (_, None) if !self.limits.python => {
                channel.ending = true;
                let text = "Python programs are let in by the manager's python(true) alone";
                Some(Reply::Raise(Raised::Trouble(text.into())))
            }
            (Ok(asked), None) => {
                let outcome = self.control(channel, asked);
                channel.ending = channel.session.is_none();
                Some(Reply::of(outcome.map_err(Raised::into_trouble)))
            }
            (Ok(asked), Some(session)) => self
                .call_for_python(channel, session, asked)
                .unwrap_or_else(|raised| Some(Reply::Raise(raised))),
        };
        if let Some(reply) = reply {
            channel.outbox.push(|out| push(out, &reply));
        }
        self.deliver();
        self.settle();
        Ok(())
    }

    /// A request about objects.
    fn control(&mut self, channel: &mut Channel, asked: Asked) -> Result<Object, Raised> {
        let mut arguments = asked.arguments;
        match &asked.function[..] {
            "dummy" => Ok(Object::None),
            "create" => {
                let type_name = arguments.text("typeid")?;
                self.create_for_python(&type_name, arguments)
            }
            "incref" => {
                let id = Asked::object(&arguments.required("ident")?)?;
                self.refer_for_python(id).map(|()| Object::None)
            }
            "decref" => {
                let id = Asked::object(&arguments.required("ident")?)?;
                if !self.python_references.unrefer(id) {
                    return Err(Error::NoSuchObject.into());
                }
                drop(self.home.release(id, 1));
                Ok(Object::None)
            }
            "number_of_objects" => Ok(self.home.objects.borrow().len().into()),
            "debug_info" => Ok(self.describe().into()),
            "accept_connection" => {
                let number = sys::random::u64().map_err(Error::os("getrandom"))? | 1;
                self.sessions.insert(number, Session { channels: 1, ..Session::default() });
                channel.session = Some(number);
                channel.python = Some(Shape::NOTHING);
                Ok(Object::None)
            }
            "shutdown" => Err(Raised::Trouble("the server ends with its owner".into())),
            other => Err(Raised::Trouble(format!("no request is called {other:?}"))),
        }
    }

    /// The object of a registered name, or a new one of a type that Python's managers have; the client
    /// has a reference to it.
    fn create_for_python(&mut self, name: &str, arguments: Arguments) -> Result<Object, Raised> {
        let id = if self.names.has(name) {
            let id = self.named(name)?;
            arguments.finish()?;
            self.refer_for_python(id)?;
            id
        } else {
            let made = panics::catch(|| make::make(name, arguments))??;
            let id = self.home.add(made)?;
            self.python_references.refer(id);
            id
        };
        let entry = self.home.find(id)?;
        let mut object = entry.object.try_borrow_mut().map_err(|_| Error::Deadlock)?;
        let methods = exposed(object.as_any()).unwrap_or_default();
        Ok(Object::tuple([id_text(id), names(methods)]))
    }

    fn refer_for_python(&mut self, id: u64) -> Result<(), Raised> {
        let entry = self.home.find(id)?;
        entry.references.set(entry.references.get() + 1);
        self.python_references.refer(id);
        Ok(())
    }

    /// A call of a method; no reply if it waits.
    fn call_for_python(
        &mut self,
        channel: &mut Channel,
        session: u64,
        asked: Asked,
    ) -> Result<Option<Reply>, Raised> {
        let id = Asked::object(&asked.id)?;
        let entry = self.home.find(id)?;
        let done = {
            let mut object = entry.object.try_borrow_mut().map_err(|_| Error::Deadlock)?;
            panics::catch(|| call(object.as_any(), &asked.function, asked.arguments))??
        };
        match done {
            Done::Now(value) => Ok(Some(Reply::Return(value))),
            Done::Iterator(items) => {
                let id = self.home.add(Box::new(Iter::new(items)))?;
                self.python_references.refer(id);
                let exposed = names(values::ITERATOR);
                Ok(Some(Reply::Proxy { type_name: "Iterator", id, exposed }))
            }
            Done::Forward(forward) => Ok(self.forward(channel, session, id, forward)),
        }
    }

    /// Does a call of ours for one of Python's.
    fn forward(
        &mut self,
        channel: &mut Channel,
        session: u64,
        id: u64,
        forward: Forward,
    ) -> Option<Reply> {
        let Forward { method, mut arguments, shape } = forward;
        let request = Request { method, ..Request::new(Kind::Call, id) };
        let decoder = Decoder::new(&arguments.bytes, &mut arguments.fds);
        let mut out = Payload::default();
        let outcome = self.call(session, request, decoder, &mut out);
        channel.lent.extend(self.lent.take());
        match outcome {
            Ok(None) => Some(shape.reply(out)),
            Ok(Some((ticket, parked))) => {
                channel.parked = Some(ticket);
                channel.python = Some(shape);
                self.park(ticket, Parked { channel: channel.key, ..parked });
                None
            }
            Err(error) => Some(Reply::Raise(shape.raised(error))),
        }
    }
}
