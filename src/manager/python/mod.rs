//! CPython's managers: the objects of theirs, used from here, and ours, used by them.
//!
//! Messages are pickles in the frames of `multiproc.connection`. A request is a tuple of id, method,
//! positional and keyword arguments; a reply one of a word and a value. Requests about objects (whose id
//! is ignored) go on a connection each; one that has asked for `accept_connection` then carries the calls
//! of one thread.

mod arguments;
mod client;
mod containers;
mod index;
mod list;
mod make;
mod order;
mod server;
mod values;
mod waiting;

pub use client::{PythonManager, PythonProxy};

use super::protocol::{self, LENGTH, REPLY};
use crate::codec::Payload;
use crate::connection::Term;
use crate::{Decoder, Error, Object, Result};
use arguments::Raised;

/// Whether a first frame is a CPython program's: a pickle of a protocol that it has.
pub(super) fn is_request(frame: &[u8]) -> bool {
    matches!(frame, [0x80, 2..=5, ..])
}

/// What a CPython program is answered.
#[derive(Debug)]
pub(super) enum Reply {
    Return(Object),
    /// An object of a registered type, with the methods that it may call.
    Proxy {
        type_name: &'static str,
        id: u64,
        exposed: Object,
    },
    Raise(Raised),
}

/// The id of an object as Python has it.
fn id_text(id: u64) -> Object {
    format!("{id:016x}").into()
}

impl Reply {
    fn of(outcome: Result<Object, Raised>) -> Reply {
        outcome.map_or_else(Reply::Raise, Reply::Return)
    }

    fn to_pickle(&self) -> Result<Vec<u8>> {
        let pair = |word: &str, value: Term<'_>| {
            Term::Tuple(&[Term::Plain(&word.into()), value]).to_pickle()
        };
        match self {
            Reply::Return(value) => pair("#RETURN", Term::Plain(value)),
            Reply::Proxy { type_name, id, exposed } => {
                // The address is the one that the client came by.
                let arguments = Object::tuple([(*type_name).into(), Object::None, id_text(*id)]);
                let (module, class) = ("multiprocessing.managers", "Token");
                let token = Term::Instance { module, class, arguments: &arguments };
                pair("#PROXY", Term::Tuple(&[Term::Plain(exposed), token]))
            }
            Reply::Raise(Raised::Trouble(text)) => {
                pair("#TRACEBACK", Term::Plain(&text[..].into()))
            }
            Reply::Raise(Raised::Exception { module, class, arguments }) => {
                let arguments = Object::tuple(arguments.iter().cloned());
                pair("#ERROR", Term::Instance { module, class, arguments: &arguments })
            }
        }
    }
}

/// Appends a reply as a frame.
pub(super) fn push(out: &mut Payload, reply: &Reply) {
    let pickle = reply.to_pickle().unwrap_or_else(|error| {
        let trouble = Reply::Raise(Raised::Trouble(error.to_string()));
        trouble.to_pickle().unwrap_or_default()
    });
    let len = i32::try_from(pickle.len()).unwrap_or(0);
    out.bytes.extend_from_slice(&len.to_be_bytes());
    out.bytes.extend_from_slice(&pickle[..len as usize]);
}

/// How a reply of ours is made one of Python's.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    read: fn(&mut Decoder<'_>) -> Result<Object>,
    /// What Python calls an invalid argument here.
    invalid: &'static str,
}

impl Shape {
    /// For a channel that waits for nothing.
    pub(super) const NOTHING: Shape = Shape { read: |_| Ok(Object::None), invalid: "ValueError" };

    /// The reply that a frame of ours is.
    pub(super) fn reply(&self, mut payload: Payload) -> Reply {
        Reply::of(self.value(&mut payload).map_err(|error| self.raised(error)))
    }

    fn value(&self, payload: &mut Payload) -> Result<Object> {
        let Payload { bytes, fds } = payload;
        let frame = bytes.get(LENGTH..).unwrap_or_default();
        let (is_value, ..) = protocol::parse_reply(frame)?;
        let mut decoder = Decoder::new(&frame[REPLY..], fds);
        if is_value {
            (self.read)(&mut decoder)
        } else {
            protocol::decode_rest(false, &mut decoder)
        }
    }

    fn raised(&self, error: Error) -> Raised {
        match error {
            Error::InvalidArgument { reason } => Raised::new("builtins", self.invalid, reason),
            other => Raised::from(other),
        }
    }
}
