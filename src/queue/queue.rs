//! `Queue<T>`.

use super::builder::Builder;
use super::parcel::Parcel;
use super::ring::Ring;
use crate::codec::Payload;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// A first-in, first-out queue that any number of processes put into and get from.
///
/// A clone is the same queue, and so is what another process receives when a queue is sent to it as an
/// argument or a message. What one process puts comes out in the order in which it was put.
///
/// It costs four descriptors, begins with 36 KiB of memory, takes more as it fills, and gives it back
/// when it runs empty. Of items with descriptors it holds a few hundred, as many as the system's socket has
/// room for; each of them may have thousands.
///
/// # If a process dies
/// Killed in the middle of a `put`, a process has put its item or it has not; in the middle of a `get`, it
/// has taken the item (which is gone with it) or it has not. Everybody else goes on either way. An item
/// whose `put` has returned stays in the queue also when the process that put it ends.
///
/// # Differences from Python
/// There is no feeder thread: an item that cannot be encoded fails in `put`, what was put can be got at
/// once, `len`, `is_empty` and `is_full` are exact at some moment of the call, and a process may end without
/// `join_thread` or `cancel_join_thread`. Python's queue stays locked for ever when a process is killed in
/// `get`.
///
/// # Examples
/// ```
/// use multiproc::Queue;
///
/// let queue = Queue::<String>::new()?;
/// queue.put(&"hello".to_string())?;
/// assert_eq!(queue.get()?, "hello");
/// # Ok::<(), multiproc::Error>(())
/// ```
pub struct Queue<T> {
    pub(super) ring: Ring,
    items: PhantomData<fn(T) -> T>,
}

thread_local! {
    /// Buffers that this thread has used before: a fresh one for every large message costs more in page
    /// faults than the copy.
    static SCRATCH: Cell<Payload> = const {
        Cell::new(Payload { bytes: Vec::new(), fds: Vec::new() })
    };
}

/// Calls `with` with the thread's buffers, empty.
pub(super) fn with_scratch<R>(with: impl FnOnce(&mut Payload) -> R) -> R {
    /// A larger buffer is worth its memory only while it is used.
    const KEEP: usize = 1 << 20;
    // Taken out, so that an `Encode` that itself uses a queue finds none and makes its own.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    let answer = with(&mut scratch);
    scratch.fds.clear();
    scratch.bytes.clear();
    if scratch.bytes.capacity() <= KEEP {
        let _ = SCRATCH.try_with(|cell| cell.set(scratch));
    }
    answer
}

/// The item that a message is.
#[inline]
pub(super) fn decode<T: Decode>(bytes: &[u8], fds: &mut Vec<OwnedFd>) -> Result<T> {
    let mut decoder = Decoder::new(bytes, fds);
    let item = T::decode(&mut decoder)?;
    decoder.finish()?;
    Ok(item)
}

impl<T> Queue<T> {
    /// Makes a queue that takes what it is given until its memory reaches a quarter of what the process
    /// may use.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or a descriptor (EMFILE).
    pub fn new() -> Result<Queue<T>> {
        Self::builder().build()
    }

    /// Makes a queue that holds `maxsize` items at most; 0 means any number.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    ///
    /// # Examples
    /// ```
    /// use multiproc::{Error, Queue};
    ///
    /// let queue = Queue::bounded(1)?;
    /// queue.put(&1u8)?;
    /// assert!(queue.is_full()?);
    /// assert!(matches!(queue.try_put(&2), Err(Error::Full)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn bounded(maxsize: usize) -> Result<Queue<T>> {
        Self::builder().maxsize(maxsize).build()
    }

    /// Begins a queue of which more is to be said.
    ///
    /// # Examples
    /// ```
    /// use multiproc::Queue;
    ///
    /// let queue = Queue::<Vec<u8>>::builder().maxsize(100).max_bytes(64 << 20).build()?;
    /// assert_eq!(queue.maxsize(), Some(100));
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn builder() -> Builder<T> {
        Builder::new()
    }

    /// What is underneath, to wait for.
    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn over(ring: Ring) -> Queue<T> {
        Queue { ring, items: PhantomData }
    }

    /// How many items are in the queue.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: its memory was scribbled over.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> Result<usize> {
        Ok(self.ring.len()?.try_into().unwrap_or(usize::MAX))
    }

    /// Whether no item is in the queue.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.ring.len()? == 0)
    }

    /// Whether the queue holds as many items as it may; never true without a maximum.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    #[doc(alias = "full")]
    pub fn is_full(&self) -> Result<bool> {
        self.ring.is_full()
    }

    /// The most items the queue holds, if there is a maximum.
    pub fn maxsize(&self) -> Option<usize> {
        Some(self.ring.maxsize() as usize).filter(|maxsize| *maxsize != 0)
    }

    /// Closes the queue for everybody: nothing more goes in, and what is in can still be got.
    ///
    /// Whoever waits to put wakes with [`Error::Closed`], and so does whoever waits to get once the queue is
    /// empty. Closing it again changes nothing.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: its memory was scribbled over.
    ///
    /// # Differences from Python
    /// Python's `close` is about the calling process alone.
    ///
    /// # Examples
    /// ```
    /// use multiproc::{Error, Queue};
    ///
    /// let queue = Queue::new()?;
    /// queue.put(&1)?;
    /// queue.close()?;
    /// assert!(matches!(queue.put(&2), Err(Error::Closed)));
    /// assert_eq!(queue.get()?, 1);
    /// assert!(matches!(queue.get(), Err(Error::Closed)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn close(&self) -> Result<()> {
        self.ring.close()
    }

    /// A descriptor that is readable while there may be something to get, or the queue is closed, for a
    /// poller or a runtime to wait for.
    ///
    /// Any number of processes may wait for it beside each other and beside those who wait in
    /// [`get`](Self::get). Another may be faster, so use [`try_get`](Self::try_get) when it is readable; it
    /// stays so until a `try_get` finds nothing.
    ///
    /// # Errors
    /// * [`Error::Os`] (EMFILE, ENOMEM): the descriptor is made when it is first asked for.
    ///
    /// # Examples
    /// ```
    /// use std::os::fd::AsFd;
    ///
    /// let queue = multiproc::Queue::new()?;
    /// let readable = queue.readiness()?.as_fd().try_clone_to_owned().expect("a free number");
    /// queue.put(&1)?;
    /// // ... wait until `readable` is, then
    /// assert_eq!(queue.try_get()?, 1);
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn readiness(&self) -> Result<BorrowedFd<'_>> {
        self.ring.bell()
    }

    /// Whether somebody has closed the queue.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }
}

impl<T: Encode> Queue<T> {
    /// Puts an item into the queue, and waits for room if there is none.
    ///
    /// When it returns, the item is in the queue: it stays there whatever becomes of this process.
    ///
    /// # Blocking
    /// Waits without limit for room, in the queue or for the item's descriptors; signals do not end the wait.
    ///
    /// # If a process dies
    /// The death of another producer or consumer at any moment neither blocks this call nor damages what is
    /// in the queue.
    ///
    /// # Errors
    /// * [`Error::Encode`]: the item cannot be encoded.
    /// * [`Error::MessageTooLong`]: the item would not fit an empty queue.
    /// * [`Error::Closed`]: somebody closed the queue.
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC), descriptor numbers (EMFILE) or more
    ///   descriptors in flight (ETOOMANYREFS).
    /// * [`Error::Corrupt`]: its memory was scribbled over.
    ///
    /// The queue is as before in each case.
    pub fn put(&self, item: &T) -> Result<()> {
        self.put_until(item, || Deadline::NEVER)
    }

    /// Puts an item into the queue if there is room.
    ///
    /// # Errors
    /// * [`Error::Full`]: there is none.
    /// * Those of [`put`](Self::put).
    #[doc(alias = "put_nowait")]
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

    #[inline]
    fn put_until(&self, item: &T, deadline: impl FnOnce() -> Deadline) -> Result<()> {
        if let Some((len, bytes)) = item.at_hand() {
            return self.ring.put_parcel(&Parcel::plain(len, bytes), deadline()).map(drop);
        }
        with_scratch(|message| {
            // Encoded before anything is locked: a failure costs nobody a slot, and whatever
            // `encode` does, it holds nobody up.
            message.push(item)?;
            self.ring.put(message, deadline()).map(drop)
        })
    }
}

impl<T: Decode> Queue<T> {
    /// Takes the first item out of the queue, and waits for one if there is none.
    ///
    /// # Blocking
    /// Waits without limit; signals do not end the wait.
    ///
    /// # If a process dies
    /// The death of another consumer, also of one that waits in this call, or of a producer at any moment
    /// neither blocks this call nor damages what is in the queue.
    ///
    /// # Errors
    /// * [`Error::Closed`]: the queue is empty, and somebody closed it.
    /// * [`Error::Decode`]: the item is taken, but it is no `T`.
    /// * [`Error::Os`]: this process has no free numbers for the item's descriptors (EMFILE) or no address
    ///   space (ENOMEM); the item stays first.
    /// * [`Error::Corrupt`]: its memory was scribbled over.
    pub fn get(&self) -> Result<T> {
        self.get_until(Deadline::NEVER)
    }

    /// Takes the first item out of the queue if there is one.
    ///
    /// # Errors
    /// * [`Error::Empty`]: there is none.
    /// * Those of [`get`](Self::get).
    #[doc(alias = "get_nowait")]
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

    #[inline]
    fn get_until(&self, deadline: Deadline) -> Result<T> {
        self.get_claiming(deadline, drop)
    }

    /// Gets the first item; `claim` is called with its number just before it is taken.
    #[inline]
    pub(super) fn get_claiming(&self, deadline: Deadline, claim: impl FnOnce(u64)) -> Result<T> {
        with_scratch(|message| {
            self.ring.get(message, deadline, claim)?;
            decode(&message.bytes, &mut message.fds)
        })
    }

    /// Gets item after item, waiting for each, until the queue is closed and empty.
    ///
    /// # Examples
    /// ```
    /// let queue = multiproc::Queue::new()?;
    /// queue.put(&1)?;
    /// queue.put(&2)?;
    /// queue.close()?;
    /// let sum: i32 = queue.iter().sum::<multiproc::Result<i32>>()?;
    /// assert_eq!(sum, 3);
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self }
    }
}

/// Gets items until the queue is closed and empty; made by [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    queue: &'a Queue<T>,
}

impl<T: Decode> Iterator for Iter<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        match self.queue.get() {
            Err(Error::Closed) => None,
            item => Some(item),
        }
    }
}

impl<'a, T: Decode> IntoIterator for &'a Queue<T> {
    type Item = Result<T>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue::over(self.ring.clone())
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Queue");
        if let Ok(len) = self.ring.len() {
            text.field("len", &len);
        }
        text.field("maxsize", &self.maxsize()).field("closed", &self.is_closed()).finish()
    }
}

impl<T> Encode for Queue<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.ring.encode(encoder);
    }
}

impl<T> Decode for Queue<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Queue<T>> {
        Ring::decode(decoder).map(Queue::over)
    }
}
