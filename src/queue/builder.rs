//! Making a queue.

use super::channel::over_ring;
use super::limit::default_max_bytes;
use super::ring::{Options, Ring};
use crate::{Error, JoinableQueue, Queue, Receiver, Result, Sender};
use std::marker::PhantomData;

/// Says how large a [`Queue`] may become; made by [`Queue::builder`].
#[derive(Debug)]
#[must_use = "a builder makes nothing until `build`"]
pub struct Builder<T> {
    maxsize: usize,
    max_bytes: Option<u64>,
    items: PhantomData<fn(T) -> T>,
}

impl<T> Builder<T> {
    pub(super) fn new() -> Builder<T> {
        Builder { maxsize: 0, max_bytes: None, items: PhantomData }
    }

    /// Sets the most items the queue holds; 0, as at first, means any number.
    pub fn maxsize(mut self, maxsize: usize) -> Builder<T> {
        self.maxsize = maxsize;
        self
    }

    /// Sets the most bytes of memory the queue takes for its items; a single one may take half of
    /// that. It is rounded to whole pages.
    ///
    /// At first it is a quarter of the memory that the process may use.
    pub fn max_bytes(mut self, max_bytes: u64) -> Builder<T> {
        self.max_bytes = Some(max_bytes);
        self
    }

    /// Makes the queue.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: no bytes, or more than a mapping can have.
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or a descriptor (EMFILE).
    pub fn build(self) -> Result<Queue<T>> {
        self.ring().map(Queue::over)
    }

    /// Makes the queue as one that knows when all its items are done.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    ///
    /// # Examples
    /// ```
    /// let queue = multiproc::Queue::builder().max_bytes(1 << 20).build_joinable()?;
    /// queue.put(&1)?;
    /// assert_eq!(queue.unfinished()?, 1);
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn build_joinable(self) -> Result<JoinableQueue<T>> {
        JoinableQueue::around(self.build()?)
    }

    /// Makes the queue as a [`channel`](crate::channel).
    ///
    /// # Errors
    /// As [`build`](Self::build).
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = multiproc::Queue::builder().max_bytes(1 << 20).build_channel()?;
    /// sender.send(&1)?;
    /// assert_eq!(receiver.recv()?, 1);
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn build_channel(self) -> Result<(Sender<T>, Receiver<T>)> {
        over_ring(self.ring()?)
    }

    fn ring(self) -> Result<Ring> {
        let max_bytes = self.max_bytes.unwrap_or_else(default_max_bytes);
        if max_bytes == 0 || max_bytes > isize::MAX as u64 / 2 {
            return Err(Error::invalid(format!("a queue of {max_bytes} bytes")));
        }
        let options = Options { maxsize: self.maxsize as u64, max_bytes, crowd: false };
        Ring::new(options)
    }
}
