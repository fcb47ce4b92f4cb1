//! The methods that Python has for what calls may wait on: they are translated to ours, whose replies
//! come in their time.

use super::Shape;
use super::arguments::{Arguments, Raised};
use super::containers::not_exposed;
use super::server::Done;
use crate::codec::Payload;
use crate::manager::protocol::method_number;
use crate::{Decode, Decoder, Encode, Object, Result};
use std::time::Duration;

type Outcome = Result<Done, Raised>;

/// The one thread that a channel's calls come from.
const THREAD: u64 = 1;

/// A call of ours that stands for one of Python's.
pub(super) struct Forward {
    pub(super) method: u64,
    pub(super) arguments: Payload,
    pub(super) shape: Shape,
}

fn none(decoder: &mut Decoder<'_>) -> Result<Object> {
    <()>::decode(decoder).map(|()| Object::None)
}

fn plain<T: Decode + Into<Object>>(decoder: &mut Decoder<'_>) -> Result<Object> {
    T::decode(decoder).map(Into::into)
}

fn as_none<T: Decode>(decoder: &mut Decoder<'_>) -> Result<Object> {
    T::decode(decoder).map(|_| Object::None)
}

fn was_acquired(decoder: &mut Decoder<'_>) -> Result<Object> {
    Option::<bool>::decode(decoder).map(|acquired| acquired.is_some().into())
}

type Read = fn(&mut Decoder<'_>) -> Result<Object>;

/// The call of `method`, once the arguments were taken.
fn forward<A: Encode>(
    given: Arguments,
    method: &str,
    arguments: &A,
    read: Read,
    invalid: &'static str,
) -> Outcome {
    given.finish()?;
    let (method, arguments) = (method_number(method), Payload::of(arguments)?);
    Ok(Done::Forward(Forward { method, arguments, shape: Shape { read, invalid } }))
}

/// The text that Python has for what has no better one.
fn about(kind: &str) -> Outcome {
    Ok(Done::Now(format!("<{kind}>").into()))
}

pub(super) const QUEUE: &[&str] =
    &["empty", "full", "get", "get_nowait", "join", "put", "put_nowait", "qsize", "task_done"];

pub(super) fn call_queue(method: &str, mut given: Arguments) -> Outcome {
    const INVALID: &str = "ValueError";
    match method {
        "put" => {
            let item = given.required("item")?;
            let timeout = given.waiting("block")?;
            forward(given, "put_within", &(item, timeout), none, INVALID)
        }
        "put_nowait" => {
            let item = given.required("item")?;
            forward(given, "put_within", &(item, Some(Duration::ZERO)), none, INVALID)
        }
        "get" => {
            let timeout = given.waiting("block")?;
            forward(given, "get_within", &(timeout,), plain::<Object>, INVALID)
        }
        "get_nowait" => {
            forward(given, "get_within", &(Some(Duration::ZERO),), plain::<Object>, INVALID)
        }
        "join" => forward(given, "join_within", &(None::<Duration>,), as_none::<bool>, INVALID),
        "task_done" => forward(given, "task_done", &(), none, INVALID),
        "qsize" => forward(given, "len", &(), plain::<usize>, INVALID),
        "empty" => forward(given, "is_empty", &(), plain::<bool>, INVALID),
        "full" => forward(given, "is_full", &(), plain::<bool>, INVALID),
        "__str__" | "__repr__" => about("Queue"),
        _ => Err(not_exposed(method)),
    }
}

pub(super) const EVENT: &[&str] = &["is_set", "set", "clear", "wait"];

pub(super) fn call_event(method: &str, mut given: Arguments) -> Outcome {
    const INVALID: &str = "RuntimeError";
    match method {
        "is_set" => forward(given, "is_set", &(), plain::<bool>, INVALID),
        "set" => forward(given, "set", &(), none, INVALID),
        "clear" => forward(given, "clear", &(), none, INVALID),
        "wait" => {
            let timeout = given.timeout()?;
            forward(given, "wait_within", &(timeout,), plain::<bool>, INVALID)
        }
        "__str__" | "__repr__" => about("Event"),
        _ => Err(not_exposed(method)),
    }
}

pub(super) const LOCK: &[&str] = &["acquire", "release", "locked"];

/// A lock of either kind, and what a condition has of it.
pub(super) fn call_lock(method: &str, mut given: Arguments) -> Outcome {
    const INVALID: &str = "RuntimeError";
    match method {
        "acquire" => {
            let timeout = given.waiting("blocking")?;
            forward(given, "acquire_within", &(THREAD, timeout), was_acquired, INVALID)
        }
        "release" => forward(given, "release_now", &(THREAD,), none, INVALID),
        "locked" => forward(given, "locked", &(), plain::<bool>, INVALID),
        "__str__" | "__repr__" => about("Lock"),
        _ => Err(not_exposed(method)),
    }
}

pub(super) const CONDITION: &[&str] =
    &["acquire", "release", "locked", "wait", "notify", "notify_all"];

pub(super) fn call_condition(method: &str, mut given: Arguments) -> Outcome {
    const INVALID: &str = "RuntimeError";
    match method {
        "wait" => {
            let timeout = given.timeout()?;
            forward(given, "wait_within", &(THREAD, timeout), plain::<bool>, INVALID)
        }
        "notify" => {
            let count = usize::try_from(given.or("n", 1i64)?).unwrap_or(0);
            forward(given, "notify_some", &(THREAD, count), none, INVALID)
        }
        "notify_all" => forward(given, "notify_some", &(THREAD, usize::MAX), none, INVALID),
        "__str__" | "__repr__" => about("Condition"),
        _ => call_lock(method, given),
    }
}

pub(super) const SEMAPHORE: &[&str] = &["acquire", "release", "locked"];

pub(super) fn call_semaphore(method: &str, mut given: Arguments) -> Outcome {
    const INVALID: &str = "ValueError";
    match method {
        "acquire" => {
            let timeout = given.waiting("blocking")?;
            forward(given, "acquire_within", &(false, timeout), plain::<bool>, INVALID)
        }
        "release" => forward(given, "release_now", &(false,), none, INVALID),
        "locked" => forward(given, "locked", &(), plain::<bool>, INVALID),
        "__str__" | "__repr__" => about("Semaphore"),
        _ => Err(not_exposed(method)),
    }
}

pub(super) const BARRIER: &[&str] = &["__getattribute__", "wait", "abort", "reset"];

pub(super) fn call_barrier(method: &str, mut given: Arguments) -> Outcome {
    const INVALID: &str = "ValueError";
    match method {
        "wait" => {
            let timeout = given.timeout()?;
            forward(given, "wait_within", &(timeout,), plain::<usize>, INVALID)
        }
        "abort" => forward(given, "abort", &(), none, INVALID),
        "reset" => forward(given, "reset", &(), none, INVALID),
        "__getattribute__" => match &given.text("name")?[..] {
            "parties" => forward(given, "parties", &(), plain::<usize>, INVALID),
            "n_waiting" => forward(given, "waiting", &(), plain::<usize>, INVALID),
            "broken" => forward(given, "is_broken", &(), plain::<bool>, INVALID),
            name => {
                let text = format!("'Barrier' object has no attribute '{name}'");
                Err(Raised::builtin("AttributeError", text))
            }
        },
        "__str__" | "__repr__" => about("Barrier"),
        _ => Err(not_exposed(method)),
    }
}
