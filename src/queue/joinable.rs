//! `JoinableQueue<T>`: a queue that knows when all its items are done.

use super::ledger::Ledger;
use super::queue::Queue;
use crate::region::Shared;
use crate::sys::process;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A [`Queue`] whose consumers say when an item is done, and whose producers can wait until all are.
///
/// # If a process dies
/// As with [`Queue`]. Besides, [`join`](Self::join) tells how many items were taken by processes that have
/// ended without saying that these are done.
///
/// # Differences from Python
/// Python's `join` waits for ever for an item whose consumer was killed.
///
/// # Examples
/// ```
/// use multiproc::JoinableQueue;
///
/// let queue = JoinableQueue::new()?;
/// queue.put(&1)?;
/// queue.put(&2)?;
/// for _ in 0..2 {
///     let item = queue.get()?;
///     // ... do something with it, then
///     queue.task_done()?;
/// }
/// queue.join()?;
/// # Ok::<(), multiproc::Error>(())
/// ```
pub struct JoinableQueue<T> {
    queue: Queue<T>,
    ledger: Shared<Ledger>,
    /// The process this handle was last used in, above, and its place in the ledger, counted from 1, below.
    place: Arc<AtomicU64>,
}

impl<T> JoinableQueue<T> {
    /// Makes a queue that takes what it is given until its memory reaches a quarter of what the process
    /// may use.
    ///
    /// # Errors
    /// As [`Queue::new`].
    pub fn new() -> Result<JoinableQueue<T>> {
        Self::around(Queue::new()?)
    }

    /// Makes a queue that holds `maxsize` items at most; 0 means any number.
    ///
    /// # Errors
    /// As [`Queue::new`].
    pub fn bounded(maxsize: usize) -> Result<JoinableQueue<T>> {
        Self::around(Queue::bounded(maxsize)?)
    }

    fn over(queue: Queue<T>, ledger: Shared<Ledger>) -> Result<JoinableQueue<T>> {
        Ok(JoinableQueue { queue, ledger, place: Arc::new(AtomicU64::new(0)) })
    }

    /// One whose items nobody has taken yet.
    pub(super) fn around(queue: Queue<T>) -> Result<JoinableQueue<T>> {
        Self::over(queue, Shared::new(Ledger::new())?)
    }

    pub(crate) fn queue(&self) -> &Queue<T> {
        &self.queue
    }

    /// This process's place in the ledger.
    fn place(&self) -> Result<Option<usize>> {
        let known = self.place.load(Ordering::Relaxed);
        let pid = process::id();
        if (known >> 32) as u32 == pid {
            return Ok((known as u32 as usize).checked_sub(1));
        }
        let place = self.ledger.enter()?;
        // Relaxed: another thread finds the same place.
        let found = u64::from(pid) << 32 | place.map_or(0, |place| place as u64 + 1);
        self.place.store(found, Ordering::Relaxed);
        Ok(place)
    }

    /// Says that an item that was got is done.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: it was said of as many items as were put.
    /// * [`Error::Corrupt`]: the queue's memory was scribbled over.
    pub fn task_done(&self) -> Result<()> {
        self.ledger.task_done(self.place()?, self.queue.ring().put_so_far()?)
    }

    /// Waits until every item that was put is done.
    ///
    /// # Blocking
    /// Waits without limit; signals do not end the wait.
    ///
    /// # If a process dies
    /// Its items are reported by the error below, once for the queue, and then count as done. Up to 128
    /// processes that have got items are watched.
    ///
    /// # Errors
    /// * [`Error::ItemsLost`]: processes have ended with items that were not done.
    /// * [`Error::Corrupt`]: the queue's memory was scribbled over.
    pub fn join(&self) -> Result<()> {
        self.join_until(Deadline::NEVER)
    }

    /// Whether every item that was put is done.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: it is not.
    /// * Those of [`join`](Self::join).
    pub fn try_join(&self) -> Result<()> {
        self.join_until(Deadline::now())
    }

    /// Waits until every item that was put is done, no longer than `timeout`.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: that was not so within the time.
    /// * Those of [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<()> {
        self.join_until(Deadline::after(timeout))
    }

    fn join_until(&self, deadline: Deadline) -> Result<()> {
        let ring = self.queue.ring();
        self.ledger.join(deadline, || ring.put_so_far(), || ring.taken())
    }

    /// How many items were put and are not done.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the queue's memory was scribbled over.
    pub fn unfinished(&self) -> Result<usize> {
        Ok(self.ledger.unfinished(self.queue.ring().put_so_far()?))
    }

    /// How many items are in the queue.
    ///
    /// # Errors
    /// As [`Queue::len`].
    #[doc(alias = "qsize")]
    pub fn len(&self) -> Result<usize> {
        self.queue.len()
    }

    /// Whether no item is in the queue.
    ///
    /// # Errors
    /// As [`Queue::len`].
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> Result<bool> {
        self.queue.is_empty()
    }

    /// Whether the queue holds as many items as it may.
    ///
    /// # Errors
    /// As [`Queue::len`].
    #[doc(alias = "full")]
    pub fn is_full(&self) -> Result<bool> {
        self.queue.is_full()
    }

    /// The most items the queue holds, if there is a maximum.
    pub fn maxsize(&self) -> Option<usize> {
        self.queue.maxsize()
    }

    /// Closes the queue as [`Queue::close`] does.
    ///
    /// # Errors
    /// As there.
    pub fn close(&self) -> Result<()> {
        self.queue.close()
    }

    /// Whether somebody has closed the queue.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// A descriptor that is readable while there may be something to get; see [`Queue::readiness`].
    ///
    /// # Errors
    /// As there.
    pub fn readiness(&self) -> Result<BorrowedFd<'_>> {
        self.queue.readiness()
    }
}

impl<T: Encode> JoinableQueue<T> {
    /// Puts an item as [`Queue::put`] does.
    ///
    /// # Errors
    /// As there.
    pub fn put(&self, item: &T) -> Result<()> {
        self.queue.put(item)
    }

    /// Puts an item as [`Queue::try_put`] does.
    ///
    /// # Errors
    /// As there.
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, item: &T) -> Result<()> {
        self.queue.try_put(item)
    }

    /// Puts an item as [`Queue::put_timeout`] does.
    ///
    /// # Errors
    /// As there.
    pub fn put_timeout(&self, item: &T, timeout: Duration) -> Result<()> {
        self.queue.put_timeout(item, timeout)
    }

    /// Puts items as [`Queue::put_many`] does.
    ///
    /// # Errors
    /// As there.
    pub fn put_many(&self, items: &[T]) -> Result<usize> {
        self.queue.put_many(items)
    }

    /// Puts items as [`Queue::try_put_many`] does.
    ///
    /// # Errors
    /// As there.
    pub fn try_put_many(&self, items: &[T]) -> Result<usize> {
        self.queue.try_put_many(items)
    }

    /// Puts items as [`Queue::put_many_timeout`] does.
    ///
    /// # Errors
    /// As there.
    pub fn put_many_timeout(&self, items: &[T], timeout: Duration) -> Result<usize> {
        self.queue.put_many_timeout(items, timeout)
    }
}

impl<T: Decode> JoinableQueue<T> {
    /// Gets an item as [`Queue::get`] does; [`task_done`](Self::task_done) is due for it.
    ///
    /// # Errors
    /// As there.
    pub fn get(&self) -> Result<T> {
        self.get_until(Deadline::NEVER)
    }

    /// Gets an item as [`Queue::try_get`] does.
    ///
    /// # Errors
    /// As there.
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T> {
        self.get_until(Deadline::now())
    }

    /// Gets an item as [`Queue::get_timeout`] does.
    ///
    /// # Errors
    /// As there.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        self.get_until(Deadline::after(timeout))
    }

    fn get_until(&self, deadline: Deadline) -> Result<T> {
        let place = self.place()?;
        self.queue.get_claiming(deadline, |number| self.ledger.claim(place, number, 1))
    }

    /// Gets items as [`Queue::get_many`] does; [`task_done`](Self::task_done) is due for each of them.
    ///
    /// # Errors
    /// As there.
    pub fn get_many(&self, most: usize) -> Result<Vec<T>> {
        self.get_many_until(most, Deadline::NEVER)
    }

    /// Gets items as [`Queue::try_get_many`] does.
    ///
    /// # Errors
    /// As there.
    pub fn try_get_many(&self, most: usize) -> Result<Vec<T>> {
        self.get_many_until(most, Deadline::now())
    }

    /// Gets items as [`Queue::get_many_timeout`] does.
    ///
    /// # Errors
    /// As there.
    pub fn get_many_timeout(&self, most: usize, timeout: Duration) -> Result<Vec<T>> {
        self.get_many_until(most, Deadline::after(timeout))
    }

    fn get_many_until(&self, most: usize, deadline: Deadline) -> Result<Vec<T>> {
        let place = self.place()?;
        let most = most.min(Ledger::MOST);
        let claim = |first, count| self.ledger.claim(place, first, count);
        self.queue.get_many_claiming(most, deadline, claim)
    }

    /// Gets item after item, waiting for each, until the queue is closed and empty;
    /// [`task_done`](Self::task_done) is due for each of them.
    pub fn iter(&self) -> impl Iterator<Item = Result<T>> + '_ {
        std::iter::from_fn(|| match self.get() {
            Err(Error::Closed) => None,
            item => Some(item),
        })
    }
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> JoinableQueue<T> {
        let (queue, ledger) = (self.queue.clone(), self.ledger.clone());
        JoinableQueue { queue, ledger, place: Arc::clone(&self.place) }
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("JoinableQueue");
        if let Ok(unfinished) = self.unfinished() {
            text.field("unfinished", &unfinished);
        }
        text.field("queue", &self.queue).finish()
    }
}

impl<T> Encode for JoinableQueue<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.queue.encode(encoder);
        self.ledger.encode(encoder);
    }
}

impl<T> Decode for JoinableQueue<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<JoinableQueue<T>> {
        JoinableQueue::over(Decode::decode(decoder)?, Decode::decode(decoder)?)
    }
}
