//! `channel::<T>()`: a queue with two ends, each of which learns that the other is gone.

use super::queue::Queue;
use super::ring::Ring;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result, sys};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Makes a channel: what any number of senders send, any number of receivers get, first in, first out, and
/// either side learns when nobody is left on the other.
///
/// Both ends can be cloned, and sent to other processes. An end is gone when its last handle, in whatever
/// process, is dropped or its process has ended, however that happened. A child made by `fork` has a copy of
/// every handle of its parent, and so keeps the ends in being until it ends.
///
/// # Errors
/// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or a descriptor (EMFILE).
///
/// # Examples
/// ```
/// use multiproc::{Error, channel};
///
/// let (sender, receiver) = channel()?;
/// sender.send(&1)?;
/// drop(sender);
/// assert_eq!(receiver.recv()?, 1);
/// assert!(matches!(receiver.recv(), Err(Error::Disconnected)));
/// # Ok::<(), Error>(())
/// ```
pub fn channel<T>() -> Result<(Sender<T>, Receiver<T>)> {
    bounded_channel(0)
}

/// Makes a [`channel`] that holds `maxsize` items at most; 0 means any number.
///
/// # Errors
/// As [`channel`].
///
/// # Examples
/// ```
/// use multiproc::{Error, bounded_channel};
///
/// let (sender, receiver) = bounded_channel(1)?;
/// sender.send(&1)?;
/// assert!(matches!(sender.try_send(&2), Err(Error::Full)));
/// drop(receiver);
/// assert!(matches!(sender.send(&2), Err(Error::Disconnected)));
/// # Ok::<(), Error>(())
/// ```
pub fn bounded_channel<T>(maxsize: usize) -> Result<(Sender<T>, Receiver<T>)> {
    Queue::builder().maxsize(maxsize).build_channel()
}

/// The ends of a ring that has no other handles.
pub(super) fn over_ring<T>(ring: Ring) -> Result<(Sender<T>, Receiver<T>)> {
    let (writers, sender_life) = pipe()?;
    let (readers, receiver_life) = pipe()?;
    let ring = ring.for_ends()?;
    let sender = Sender::over(ring.duplicate()?, sender_life, readers)?;
    Ok((sender, Receiver::over(ring, receiver_life, writers)?))
}

/// A pipe on which nothing is ever sent: its reading end hangs up with the last writing end.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    sys::fd::pipe().map_err(Error::os("pipe2"))
}

/// The sending end of a [`channel`]; a clone is the same end.
///
/// # If a process dies
/// Killed in the middle of a `send`, however large the item, a sender has sent it or it has not; the other
/// senders and the receivers go on.
///
/// # Examples
/// ```
/// let (sender, receiver) = multiproc::channel::<String>()?;
/// let child = multiproc::Process::fork(move || sender.send(&"hello".to_string()))?;
/// assert_eq!(receiver.recv()?, "hello");
/// child.join()??;
/// # Ok::<(), multiproc::Error>(())
/// ```
pub struct Sender<T> {
    queue: Queue<T>,
    /// With the last copy of it the receivers are told that no sender is left.
    life: Arc<OwnedFd>,
}

impl<T> Sender<T> {
    fn over(ring: Ring, life: OwnedFd, readers: OwnedFd) -> Result<Sender<T>> {
        let queue = Queue::over(ring.with_end(None, Some(readers))?);
        Ok(Sender { queue, life: Arc::new(life) })
    }

    /// How many items wait to be received.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the channel's memory was scribbled over.
    pub fn len(&self) -> Result<usize> {
        self.queue.len()
    }

    /// Whether no item waits to be received.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool> {
        self.queue.is_empty()
    }

    /// Whether the channel holds as many items as it may; never true without a maximum.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn is_full(&self) -> Result<bool> {
        self.queue.is_full()
    }

    /// Whether no receiver is left, so that every send fails.
    ///
    /// [`wait`](crate::wait) waits for that when it is given a sender.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused to look.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = multiproc::channel::<u32>()?;
    /// assert!(!sender.is_disconnected()?);
    /// drop(receiver);
    /// assert_eq!(multiproc::wait(&[&sender], None)?, [0]);
    /// assert!(sender.is_disconnected()?);
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn is_disconnected(&self) -> Result<bool> {
        match self.check() {
            Err(Error::Disconnected) => Ok(true),
            answer => answer.map(|()| false),
        }
    }

    /// A descriptor that hangs up when no receiver is left, for a poller or a runtime to wait for.
    pub fn hang_up(&self) -> BorrowedFd<'_> {
        // Every sender's ring has one; its own end, which never hangs up before it, stands in.
        self.queue.ring().readers().unwrap_or(self.life.as_fd())
    }

    fn check(&self) -> Result<()> {
        self.queue.ring().check_readers()
    }
}

impl<T: Encode> Sender<T> {
    /// Sends an item, and waits for room if there is none.
    ///
    /// It asks the system whether a receiver is left, which a [`Queue`] does not; for many small items
    /// [`send_many`](Self::send_many) asks once.
    ///
    /// # Blocking
    /// Waits without limit for room, but not when no receiver is left; signals do not end the wait.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: no receiver is left.
    /// * Those of [`Queue::put`].
    pub fn send(&self, item: &T) -> Result<()> {
        self.check()?;
        self.queue.put(item)
    }

    /// Sends an item if there is room.
    ///
    /// # Errors
    /// * [`Error::Full`]: there is none.
    /// * Those of [`send`](Self::send).
    pub fn try_send(&self, item: &T) -> Result<()> {
        self.check()?;
        self.queue.try_put(item)
    }

    /// Sends an item, and waits for room no longer than `timeout`.
    ///
    /// # Errors
    /// * [`Error::Full`]: there was none within the time.
    /// * Those of [`send`](Self::send).
    pub fn send_timeout(&self, item: &T, timeout: Duration) -> Result<()> {
        self.check()?;
        self.queue.put_timeout(item, timeout)
    }

    /// Sends items one behind the other and says how many were sent, as [`Queue::put_many`] does.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), when none was sent.
    pub fn send_many(&self, items: &[T]) -> Result<usize> {
        self.check()?;
        self.queue.put_many(items)
    }

    /// Sends as many of the first items as there is room for, as [`Queue::try_put_many`] does.
    ///
    /// # Errors
    /// * [`Error::Full`]: there is room for none.
    /// * Those of [`send`](Self::send), when none was sent.
    pub fn try_send_many(&self, items: &[T]) -> Result<usize> {
        self.check()?;
        self.queue.try_put_many(items)
    }

    /// Sends items, and waits for room no longer than `timeout` in all, as [`Queue::put_many_timeout`] does.
    ///
    /// # Errors
    /// * [`Error::Full`]: there was room for none within the time.
    /// * Those of [`send`](Self::send), when none was sent.
    pub fn send_many_timeout(&self, items: &[T], timeout: Duration) -> Result<usize> {
        self.check()?;
        self.queue.put_many_timeout(items, timeout)
    }
}

/// The receiving end of a [`channel`]; a clone is the same end.
///
/// # If a process dies
/// Killed in the middle of a receive, a receiver has taken the item (which is gone with it) or it has not.
///
/// # Examples
/// ```
/// let (sender, receiver) = multiproc::channel()?;
/// sender.send_many(&[1, 2, 3])?;
/// drop(sender);
/// let all: multiproc::Result<Vec<i32>> = receiver.iter().collect();
/// assert_eq!(all?, [1, 2, 3]);
/// # Ok::<(), multiproc::Error>(())
/// ```
pub struct Receiver<T> {
    queue: Queue<T>,
    /// With the last copy of it the senders are told that no receiver is left.
    life: Arc<OwnedFd>,
}

impl<T> Receiver<T> {
    fn over(ring: Ring, life: OwnedFd, writers: OwnedFd) -> Result<Receiver<T>> {
        let queue = Queue::over(ring.with_end(Some(writers), None)?);
        Ok(Receiver { queue, life: Arc::new(life) })
    }

    pub(crate) fn queue(&self) -> &Queue<T> {
        &self.queue
    }

    /// How many items wait to be received.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the channel's memory was scribbled over.
    pub fn len(&self) -> Result<usize> {
        self.queue.len()
    }

    /// Whether no item waits to be received.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool> {
        self.queue.is_empty()
    }

    /// A descriptor that is readable while there may be something to receive or no sender is left; see
    /// [`Queue::readiness`].
    ///
    /// # Errors
    /// As there.
    pub fn readiness(&self) -> Result<BorrowedFd<'_>> {
        self.queue.readiness()
    }
}

impl<T: Decode> Receiver<T> {
    /// Takes the first item, and waits for one if there is none.
    ///
    /// # Blocking
    /// Waits as long as a sender is left; signals do not end the wait.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: there is no item, and no sender is left.
    /// * Those of [`Queue::get`].
    pub fn recv(&self) -> Result<T> {
        self.queue.get()
    }

    /// Takes the first item if there is one.
    ///
    /// # Errors
    /// * [`Error::Empty`]: there is none.
    /// * Those of [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<T> {
        self.queue.try_get()
    }

    /// Takes the first item, and waits for one no longer than `timeout`.
    ///
    /// # Errors
    /// * [`Error::Empty`]: there was none within the time.
    /// * Those of [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T> {
        self.queue.get_timeout(timeout)
    }

    /// Takes the first items, `most` at most, as [`Queue::get_many`] does.
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv).
    pub fn recv_many(&self, most: usize) -> Result<Vec<T>> {
        self.queue.get_many(most)
    }

    /// Takes the first items that are there, `most` at most.
    ///
    /// # Errors
    /// * [`Error::Empty`]: there is none.
    /// * Those of [`recv`](Self::recv).
    pub fn try_recv_many(&self, most: usize) -> Result<Vec<T>> {
        self.queue.try_get_many(most)
    }

    /// Takes the first items, and waits for the first no longer than `timeout`.
    ///
    /// # Errors
    /// * [`Error::Empty`]: there was none within the time.
    /// * Those of [`recv`](Self::recv).
    pub fn recv_many_timeout(&self, most: usize, timeout: Duration) -> Result<Vec<T>> {
        self.queue.get_many_timeout(most, timeout)
    }

    /// Receives item after item, waiting for each, until there is none and no sender is left.
    pub fn iter(&self) -> impl Iterator<Item = Result<T>> + '_ {
        std::iter::from_fn(|| match self.recv() {
            Err(Error::Disconnected) => None,
            item => Some(item),
        })
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { queue: self.queue.clone(), life: Arc::clone(&self.life) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver { queue: self.queue.clone(), life: Arc::clone(&self.life) }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<T> Encode for Sender<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.queue.ring().encode_with_end(encoder, self.life.as_fd());
    }
}

impl<T> Encode for Receiver<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.queue.ring().encode_with_end(encoder, self.life.as_fd());
    }
}

impl<T> Decode for Sender<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Sender<T>> {
        let ring = Ring::decode(decoder)?;
        Sender::over(ring, decoder.fd()?, decoder.fd()?)
    }
}

impl<T> Decode for Receiver<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Receiver<T>> {
        let ring = Ring::decode(decoder)?;
        Receiver::over(ring, decoder.fd()?, decoder.fd()?)
    }
}
