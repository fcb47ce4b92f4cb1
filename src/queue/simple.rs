//! `SimpleQueue<T>`: a pair of kernel sockets that keep message boundaries.
//!
//! The getters take turns, so that each can look at the item in front before it takes it away: one whose
//! descriptors find no free numbers stays where it is.

use super::queue::{decode, with_scratch};
use super::turn::take_turn;
use crate::codec::Payload;
use crate::region::{RawLock, Shared, SharedBytes};
use crate::sys::socket::{self, Kind, MAX_FDS, Receive};
use crate::sys::time::Deadline;
use crate::sys::{self, poll};
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Items up to this length travel in the socket, longer ones in memory of their own.
const INLINE: usize = 16 << 10;

/// Whether the item's bytes follow, or memory that holds them.
const HERE: u8 = 0;
const ELSEWHERE: u8 = 1;

/// A first-in, first-out queue that the kernel keeps.
///
/// It has three descriptors, no memory but one lock, and about a hundred small items of room; it can be
/// polled. Where more is wanted there is [`Queue`](crate::Queue), which is faster too.
///
/// # If a process dies
/// Each item is put, and taken, in one system call, which is done or not when its process is killed. Another
/// getter then goes on in place of one that was killed.
///
/// # Differences from Python
/// `close` is about the queue, not about the calling process alone: whoever waits to get wakes once what is
/// in has been got.
///
/// # Examples
/// ```
/// let queue = multiproc::SimpleQueue::<String>::new()?;
/// queue.put(&"hello".to_string())?;
/// assert!(!queue.is_empty()?);
/// assert_eq!(queue.get()?, "hello");
/// # Ok::<(), multiproc::Error>(())
/// ```
pub struct SimpleQueue<T> {
    inner: Arc<Inner>,
    items: PhantomData<fn(T) -> T>,
}

struct Inner {
    /// The end that is received from.
    read: OwnedFd,
    /// The end that is sent to.
    write: OwnedFd,
    /// Held by the one getter that takes an item, also while it sleeps for one.
    turn: Shared<RawLock>,
}

/// What is in front.
#[derive(PartialEq)]
enum Front {
    Item,
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

impl<T> SimpleQueue<T> {
    /// Makes a queue.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or a descriptor (EMFILE).
    pub fn new() -> Result<SimpleQueue<T>> {
        let (read, write) = socket::pair(Kind::SeqPacket).map_err(Error::os("socketpair"))?;
        Ok(Self::over(Inner { read, write, turn: Shared::new(RawLock::new())? }))
    }

    fn over(inner: Inner) -> SimpleQueue<T> {
        SimpleQueue { inner: Arc::new(inner), items: PhantomData }
    }

    fn read_end(&self) -> BorrowedFd<'_> {
        self.inner.read.as_fd()
    }

    fn write_end(&self) -> BorrowedFd<'_> {
        self.inner.write.as_fd()
    }

    /// Whether there is nothing to get.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused to look.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.look()? != Front::Item)
    }

    fn look(&self) -> Result<Front> {
        let how = Receive { dont_wait: true, peek: true, without_fds: true };
        match socket::receive(self.read_end(), &mut [IoSliceMut::new(&mut [0])], &mut vec![], how) {
            // A closed queue has messages of no bytes, one after the other.
            Ok(received) => Ok(if received.len == 0 { Front::End } else { Front::Item }),
            Err(error) if error.raw_os_error() == Some(sys::EAGAIN) => Ok(Front::Nothing),
            Err(error) => Err(Error::os("recvmsg")(error)),
        }
    }

    /// Closes the queue for everybody: nothing more goes in, and what is in can still be got.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused.
    pub fn close(&self) -> Result<()> {
        socket::shutdown_write(self.write_end()).map_err(Error::os("shutdown"))
    }
}

impl<T: Encode> SimpleQueue<T> {
    /// Puts an item into the queue, and waits for room if there is none.
    ///
    /// # Blocking
    /// Waits without limit for room; signals do not end the wait.
    ///
    /// # Errors
    /// * [`Error::Encode`]: the item cannot be encoded, or has more than 252 descriptors.
    /// * [`Error::Closed`]: somebody closed the queue.
    /// * [`Error::Os`]: the system refused memory (ENOMEM), descriptors (EMFILE) or more of them in flight
    ///   (ETOOMANYREFS).
    pub fn put(&self, item: &T) -> Result<()> {
        self.put_until(item, || Deadline::NEVER)
    }

    /// Puts an item into the queue if there is room.
    ///
    /// # Errors
    /// * [`Error::Full`]: there is none.
    /// * Those of [`put`](Self::put).
    pub fn try_put(&self, item: &T) -> Result<()> {
        self.put_until(item, Deadline::now)
    }

    /// Puts an item into the queue, and waits for room no longer than `timeout`.
    ///
    /// # Errors
    /// * [`Error::Full`]: there was none within the time.
    /// * Those of [`put`](Self::put).
    pub fn put_timeout(&self, item: &T, timeout: Duration) -> Result<()> {
        self.put_until(item, || Deadline::after(timeout))
    }

    fn put_until(&self, item: &T, deadline: impl FnOnce() -> Deadline) -> Result<()> {
        with_scratch(|message| {
            message.push(item)?;
            let mut kind = HERE;
            if message.bytes.len() > INLINE {
                let body = SharedBytes::try_from(message.bytes.as_slice())?;
                message.bytes.clear();
                message.push(&body)?;
                kind = ELSEWHERE;
            }
            if message.fds.len() > MAX_FDS {
                return Err(Error::encode(format!("more than {MAX_FDS} descriptors in one item")));
            }
            self.send(kind, message, deadline())
        })
    }

    fn send(&self, kind: u8, message: &Payload, deadline: Deadline) -> Result<()> {
        let fds: Vec<_> = message.fds.iter().map(AsFd::as_fd).collect();
        let parts = [IoSlice::new(std::slice::from_ref(&kind)), IoSlice::new(&message.bytes)];
        let wait = deadline == Deadline::NEVER;
        loop {
            match socket::send(self.write_end(), &parts, &fds, wait) {
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(sys::EPIPE) => {
                    return Err(Error::Closed);
                }
                Err(error) if error.raw_os_error() == Some(sys::EAGAIN) => {}
                Err(error) => return Err(Error::os("sendmsg")(error)),
            }
            if deadline.has_passed() {
                return Err(Error::Full);
            }
            poll::wait_writable(self.write_end(), deadline).map_err(Error::os("ppoll"))?;
        }
    }
}

impl<T: Decode> SimpleQueue<T> {
    /// Takes the first item out of the queue, and waits for one if there is none.
    ///
    /// # Blocking
    /// Waits without limit; signals do not end the wait.
    ///
    /// # Errors
    /// * [`Error::Closed`]: the queue is empty, and somebody closed it.
    /// * [`Error::Decode`]: the item is taken, but it is no `T`.
    /// * [`Error::Os`] (EMFILE): this process has no free numbers for the item's descriptors; it stays first.
    /// * [`Error::Corrupt`]: the queue's memory was scribbled over.
    pub fn get(&self) -> Result<T> {
        self.get_until(Deadline::NEVER)
    }

    /// Takes the first item out of the queue if there is one.
    ///
    /// # Errors
    /// * [`Error::Empty`]: there is none.
    /// * Those of [`get`](Self::get).
    pub fn try_get(&self) -> Result<T> {
        self.get_until(Deadline::now())
    }

    /// Takes the first item out of the queue, and waits for one no longer than `timeout`.
    ///
    /// # Errors
    /// * [`Error::Empty`]: there was none within the time.
    /// * Those of [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        self.get_until(Deadline::after(timeout))
    }

    fn get_until(&self, deadline: Deadline) -> Result<T> {
        with_scratch(|message| {
            self.receive(message, deadline)?;
            match message.bytes.split_first() {
                None => Err(Error::Closed),
                Some((&HERE, body)) => decode(body, &mut message.fds),
                Some((_, body)) => {
                    // The memory's descriptor is the last one.
                    let memory = message.fds.len().saturating_sub(1);
                    let body: SharedBytes = decode(body, &mut message.fds.split_off(memory))?;
                    decode(&body, &mut message.fds)
                }
            }
        })
    }

    fn receive(&self, message: &mut Payload, deadline: Deadline) -> Result<()> {
        let nothing = || self.look().map(|front| front != Front::Item);
        let Some(_turn) = take_turn(&self.inner.turn, deadline, nothing)? else {
            return Err(if self.look()? == Front::End { Error::Closed } else { Error::Empty });
        };
        self.peek(message, deadline)?;
        // It is the one that was looked at: nobody else takes any, and those who put do it behind.
        if !message.bytes.is_empty() { self.discard() } else { Ok(()) }
    }

    /// Waits for an item and copies it and its descriptors.
    fn peek(&self, message: &mut Payload, deadline: Deadline) -> Result<()> {
        let dont_wait = deadline != Deadline::NEVER;
        let how = Receive { dont_wait, peek: true, without_fds: false };
        message.bytes.reserve(INLINE + 1);
        loop {
            let Payload { bytes, fds } = message;
            match socket::receive_onto(self.read_end(), bytes, INLINE + 1, fds, how) {
                Ok(received) if received.fds_lost => {
                    return Err(Error::os("recvmsg")(io::Error::from_raw_os_error(sys::EMFILE)));
                }
                Ok(received) if received.truncated => {
                    // None that `put` has put: the others can be had once it is away.
                    self.discard()?;
                    return Err(Error::corrupt("a queue's item"));
                }
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(sys::EAGAIN) => {}
                Err(error) => return Err(Error::os("recvmsg")(error)),
            }
            if deadline.has_passed() {
                return Err(Error::Empty);
            }
            poll::wait_readable(self.read_end(), deadline).map_err(Error::os("ppoll"))?;
        }
    }

    /// Takes the item in front away; the kernel closes its descriptors.
    fn discard(&self) -> Result<()> {
        let how = Receive { dont_wait: true, peek: false, without_fds: true };
        let taken = socket::receive(self.read_end(), &mut [], &mut Vec::new(), how);
        taken.map(drop).map_err(Error::os("recvmsg"))
    }
}

/// Readable while there is something to get, or the queue is closed.
impl<T> AsFd for SimpleQueue<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read_end()
    }
}

impl<T> Clone for SimpleQueue<T> {
    fn clone(&self) -> SimpleQueue<T> {
        SimpleQueue { inner: Arc::clone(&self.inner), items: PhantomData }
    }
}

impl<T> fmt::Debug for SimpleQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("SimpleQueue");
        if let Ok(empty) = self.is_empty() {
            text.field("empty", &empty);
        }
        text.finish()
    }
}

impl<T> Encode for SimpleQueue<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.inner.turn.encode(encoder);
        encoder.fd(self.read_end());
        encoder.fd(self.write_end());
    }
}

impl<T> Decode for SimpleQueue<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<SimpleQueue<T>> {
        let turn = Decode::decode(decoder)?;
        let (read, write) = (decoder.fd()?, decoder.fd()?);
        for end in [&read, &write] {
            socket::kind(end.as_fd()).map_err(|_| Error::decode("no socket"))?;
        }
        Ok(SimpleQueue::over(Inner { read, write, turn }))
    }
}
