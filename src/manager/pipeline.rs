//! Calls that wait for their replies, calls that wait for many at once, and calls that wait for none.

use super::client::{Client, Link};
use super::protocol::{self, Kind, Request};
use super::proxy::Handle;
use crate::codec::Payload;
use crate::{Decode, Encode, Error, Result};
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

/// How a proxy's calls are made: [`Now`], [`Later`] or [`Posted`].
pub trait Mode: Sized + 'static {
    /// What the proxy holds.
    #[doc(hidden)]
    type Link: Clone;

    /// What a call that gives a `T` gives here.
    type Answer<T>;

    /// Makes a call.
    #[doc(hidden)]
    fn call<A: Encode, R: Decode>(link: &Self::Link, method: u64, arguments: &A)
    -> Self::Answer<R>;
}

/// Each call waits for its reply: the ordinary way.
#[derive(Clone, Copy, Debug)]
pub struct Now;

/// Calls are sent together, and each gives a [`Pending`]: inside `pipeline`.
#[derive(Clone, Copy, Debug)]
pub struct Later;

/// Calls are sent together, and nobody waits for a reply: inside `post`.
#[derive(Clone, Copy, Debug)]
pub struct Posted;

impl Mode for Now {
    type Link = Handle;
    type Answer<T> = Result<T>;

    fn call<A: Encode, R: Decode>(link: &Handle, method: u64, arguments: &A) -> Result<R> {
        link.call(method, arguments)
    }
}

impl Mode for Later {
    type Link = Batch;
    type Answer<T> = Pending<T>;

    fn call<A: Encode, R: Decode>(link: &Batch, method: u64, arguments: &A) -> Pending<R> {
        let index = link.state.borrow_mut().push(&link.handle, method, arguments, false);
        Pending { state: Rc::clone(&link.state), index, result: PhantomData }
    }
}

impl Mode for Posted {
    type Link = Batch;
    type Answer<T> = Result<()>;

    fn call<A: Encode, R: Decode>(link: &Batch, method: u64, arguments: &A) -> Result<()> {
        let mut state = link.state.borrow_mut();
        let index = state.push(&link.handle, method, arguments, true);
        match state.replies.get_mut(index).and_then(Option::take) {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Calls on their way to an object.
#[doc(hidden)]
#[derive(Clone)]
pub struct Batch {
    handle: Handle,
    state: Rc<RefCell<State>>,
}

/// A reply as it came, or why there is none.
type Reply = Result<(bool, Payload)>;

struct State {
    /// None inside the server itself, where a call is made at once.
    line: Option<(Arc<Client>, Box<Link>)>,
    replies: Vec<Option<Reply>>,
    /// The calls sent or to be sent whose replies have not come, in order.
    due: Vec<usize>,
    /// Why there will be no more replies.
    broken: bool,
}

/// After so many bytes the replies are waited for: neither side then waits for the other to read.
const MOST_UNSENT: usize = 32 << 10;
/// After so many calls too.
const MOST_DUE: usize = 256;

impl Batch {
    fn new(handle: &Handle) -> Result<Batch> {
        let line = match handle.home() {
            Some(_) => None,
            None => {
                let client = handle.client()?;
                let link = client.take()?;
                Some((client, link))
            }
        };
        let state = State { line, replies: Vec::new(), due: Vec::new(), broken: false };
        Ok(Batch { handle: handle.clone(), state: Rc::new(RefCell::new(state)) })
    }

    /// Makes calls by `calls`, sends them and waits for all replies.
    pub fn pipeline<R>(handle: &Handle, calls: impl FnOnce(Batch) -> R) -> Result<R> {
        let batch = Batch::new(handle)?;
        let state = Rc::clone(&batch.state);
        let value = calls(batch);
        let mut state = state.borrow_mut();
        state.collect()?;
        if let Some((client, link)) = state.line.take() {
            client.put_back(link);
        }
        Ok(value)
    }

    /// Makes calls by `calls` and sends them.
    pub fn post<R>(handle: &Handle, calls: impl FnOnce(Batch) -> R) -> Result<R> {
        let batch = Batch::new(handle)?;
        let state = Rc::clone(&batch.state);
        let value = calls(batch);
        let mut state = state.borrow_mut();
        if let Some((client, mut link)) = state.line.take() {
            link.flush()?;
            client.put_back_posted(link);
        }
        Ok(value)
    }
}

impl State {
    /// Makes a call; gives the place of its reply.
    fn push<A: Encode>(
        &mut self,
        handle: &Handle,
        method: u64,
        arguments: &A,
        post: bool,
    ) -> usize {
        let index = self.replies.len();
        let reply = match &mut self.line {
            None if self.broken || handle.home().is_none() => Some(Err(Error::Closed)),
            None => Some(call_here(handle, method, arguments)),
            Some((client, link)) => {
                let request =
                    Request { method, no_reply: post, ..Request::new(Kind::Call, handle.id()) };
                match link.push(client, request, arguments) {
                    Ok(()) => None,
                    Err(error) => Some(Err(error)),
                }
            }
        };
        if post {
            // Nobody asks for it but the caller, at once.
            self.replies.clear();
            self.replies.push(reply);
            let full = self.line.as_mut().filter(|(_, link)| link.unsent() >= MOST_UNSENT);
            if let Some((_, link)) = full {
                if let Err(error) = link.flush() {
                    self.replies[0] = Some(Err(error));
                }
            }
            return 0;
        }
        if reply.is_none() {
            self.due.push(index);
        }
        self.replies.push(reply);
        let unsent = self.line.as_ref().map_or(0, |(_, link)| link.unsent());
        if unsent >= MOST_UNSENT || self.due.len() >= MOST_DUE {
            let _ = self.collect();
        }
        index
    }

    /// Sends what was not sent and waits for all replies that are due.
    fn collect(&mut self) -> Result<()> {
        let Some((_, link)) = &mut self.line else {
            return if self.broken { Err(Error::Disconnected) } else { Ok(()) };
        };
        let mut outcome = link.flush();
        for index in self.due.drain(..) {
            let reply = match outcome {
                Ok(()) => link.receive_raw(),
                Err(_) => Err(Error::Disconnected),
            };
            if let Err(error) = &reply {
                outcome = Err(error.again());
            }
            self.replies[index] = Some(reply);
        }
        if outcome.is_err() {
            self.line = None;
            self.broken = true;
            return Err(Error::Disconnected);
        }
        outcome
    }
}

fn call_here<A: Encode>(handle: &Handle, method: u64, arguments: &A) -> Reply {
    let home = handle.home().ok_or(Error::Closed)?;
    let mut reply = home.call(handle.id(), method, &mut Payload::of(arguments)?)?;
    let (is_value, _, _) = protocol::parse_reply(&reply.bytes[protocol::LENGTH..])?;
    reply.bytes.drain(..protocol::LENGTH + protocol::REPLY);
    Ok((is_value, reply))
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// The reply to a call of a pipeline.
///
/// It is there when `pipeline` has returned. Asked for earlier, it waits for all calls made so far.
pub struct Pending<T> {
    state: Rc<RefCell<State>>,
    index: usize,
    result: PhantomData<fn() -> T>,
}

impl<T: Decode> Pending<T> {
    /// Gives what the call has given.
    ///
    /// # Errors
    /// * Those of the call.
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn get(self) -> Result<T> {
        let mut state = self.state.borrow_mut();
        if state.replies[self.index].is_none() {
            state.collect()?;
        }
        let (is_value, payload) = state.replies[self.index].take().unwrap_or(Err(Error::Taken))?;
        drop(state);
        protocol::decode_reply(is_value, payload)
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("index", &self.index).finish_non_exhaustive()
    }
}
