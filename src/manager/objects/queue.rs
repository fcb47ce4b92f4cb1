//! Queues.

use crate::manager::{Call, Manager, Ticket, Waiting, Waits};
use crate::{Decode, Encode, Error, Result};
use std::collections::VecDeque;
use std::time::Duration;

/// A queue as it is in a manager's server; a [`QueueProxy`] stands for it elsewhere.
#[derive(Debug)]
pub struct Queue<T> {
    items: VecDeque<T>,
    /// How many items there may be; zero for any number.
    maxsize: usize,
    getters: VecDeque<Ticket>,
    /// The items on their way to getters, which come back if they do not arrive.
    lent: Vec<(Ticket, T)>,
    putters: VecDeque<(Ticket, T)>,
    /// The items put of which nobody said that they are done.
    unfinished: u64,
    joiners: Vec<Ticket>,
}

impl<T: Encode + Decode + 'static> Queue<T> {
    fn new(maxsize: usize) -> Queue<T> {
        Queue {
            items: VecDeque::new(),
            maxsize,
            getters: VecDeque::new(),
            lent: Vec::new(),
            putters: VecDeque::new(),
            unfinished: 0,
            joiners: Vec::new(),
        }
    }

    /// A queue for any number of items.
    pub fn unbounded() -> Queue<T> {
        Queue::new(0)
    }

    /// A queue for up to `maxsize` items.
    pub fn bounded(maxsize: usize) -> Queue<T> {
        Queue::new(maxsize)
    }

    fn is_full(&self) -> bool {
        self.maxsize > 0 && self.items.len() >= self.maxsize
    }

    fn put_within(
        &mut self,
        call: &mut Call<'_>,
        item: T,
        timeout: Option<Duration>,
    ) -> Result<()> {
        if self.is_full() {
            if timeout == Some(Duration::ZERO) {
                return Err(Error::Full);
            }
            let ticket = call.park(timeout)?;
            self.putters.push_back((ticket, item));
            return Ok(());
        }
        self.take_in(item, call.waits);
        Ok(())
    }

    /// An item for who waits, or for the next.
    fn take_in(&mut self, item: T, waits: &mut Waits) {
        self.unfinished += 1;
        if let Some(item) = self.hand_out(item, waits) {
            self.items.push_back(item);
        }
    }

    /// An item for who waits; gives it back if nobody does who could have it.
    fn hand_out(&mut self, item: T, waits: &mut Waits) -> Option<T> {
        while let Some(ticket) = self.getters.pop_front() {
            if waits.lend(ticket, &item) {
                self.lent.push((ticket, item));
                return None;
            }
        }
        Some(item)
    }

    fn get_within(&mut self, call: &mut Call<'_>, timeout: Option<Duration>) -> Result<()> {
        if let Some(item) = self.items.front() {
            // It stays where it cannot be encoded.
            let ticket = call.lend(item)?;
            self.lent.extend(self.items.pop_front().map(|item| (ticket, item)));
            if let Some((ticket, item)) = self.putters.pop_front() {
                self.take_in(item, call.waits);
                call.waits.answer(ticket, &());
            }
            return Ok(());
        }
        if timeout == Some(Duration::ZERO) {
            return Err(Error::Empty);
        }
        self.getters.push_back(call.park(timeout)?);
        Ok(())
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn maxsize(&self) -> usize {
        self.maxsize
    }

    fn task_done(&mut self, call: &mut Call<'_>) -> Result<()> {
        self.unfinished = self
            .unfinished
            .checked_sub(1)
            .ok_or_else(|| Error::invalid("task_done() called too many times"))?;
        if self.unfinished == 0 {
            self.joiners.drain(..).for_each(|ticket| call.waits.answer(ticket, &true));
        }
        Ok(())
    }

    fn join_within(&mut self, call: &mut Call<'_>, timeout: Option<Duration>) -> Result<()> {
        if self.unfinished == 0 || timeout == Some(Duration::ZERO) {
            return call.answer(&(self.unfinished == 0));
        }
        self.joiners.push(call.park(timeout)?);
        Ok(())
    }
}

impl<T: Encode + Decode + 'static> Waiting for Queue<T> {
    fn call_ended(&mut self, ticket: Ticket, timed_out: bool, waits: &mut Waits) {
        let before = (self.getters.len(), self.putters.len());
        self.getters.retain(|waiting| *waiting != ticket);
        self.putters.retain(|(waiting, _)| *waiting != ticket);
        self.joiners.retain(|waiting| *waiting != ticket);
        if !timed_out {
            return;
        }
        if self.getters.len() < before.0 {
            waits.fail(ticket, &Error::Empty);
        } else if self.putters.len() < before.1 {
            waits.fail(ticket, &Error::Full);
        } else {
            waits.answer(ticket, &false);
        }
    }

    fn lending_ended(&mut self, ticket: Ticket, received: bool, waits: &mut Waits) {
        let place = self.lent.iter().position(|(lent, _)| *lent == ticket);
        let item = place.map(|place| self.lent.swap_remove(place).1);
        if let (Some(item), false) = (item, received) {
            // It is still the first of all.
            if let Some(item) = self.hand_out(item, waits) {
                self.items.push_front(item);
            }
        }
    }
}

crate::managed! {
    /// A queue in a manager, as other processes use it, also over a network.
    ///
    /// Between the processes of one program on one machine, [`Queue`](crate::Queue) is a hundred times
    /// quicker.
    ///
    /// # If a process dies
    /// What it has put is in the queue. An item that was sent to it, but that it has not read from its
    /// socket when it dies, goes back to the front of the queue (of several that it gets in a pipeline, all
    /// do if it has not read all of them).
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let queue = manager.queue(2)?;
    /// queue.put("first".to_string())?;
    /// queue.put("second".to_string())?;
    /// assert!(matches!(queue.try_put("third".to_string()), Err(multiproc::Error::Full)));
    /// assert_eq!(queue.get()?, "first");
    /// queue.task_done()?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "JoinableQueueProxy")]
    pub impl<T> Queue as QueueProxy = "Queue" [waits] {
        #[doc(hidden)]
        fn put_within(&mut self, item: T, timeout: Option<Duration>) waits;
        #[doc(hidden)]
        fn get_within(&mut self, timeout: Option<Duration>) waits -> T;
        #[doc(hidden)]
        fn join_within(&mut self, timeout: Option<Duration>) waits -> bool;
        /// How many items wait.
        #[doc(alias = "qsize")]
        fn len(&self) -> usize;
        /// Whether none does.
        fn is_empty(&self) -> bool;
        /// Whether no further item fits.
        fn is_full(&self) -> bool;
        /// How many items fit; zero for any number.
        fn maxsize(&self) -> usize;
        /// Says that one of the items got is done.
        fn task_done(&mut self) waits;
    }
}

impl<T: Encode + Decode + 'static> QueueProxy<T> {
    /// Blocks until the queue has room, and puts `item` in.
    ///
    /// # Errors
    /// * [`Error::MessageTooLong`]: the item is longer than the server takes.
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn put(&self, item: T) -> Result<()> {
        self.put_within(item, None)
    }

    /// Puts `item` in if the queue has room.
    ///
    /// # Errors
    /// * [`Error::Full`]: it has none.
    /// * Otherwise as [`put`](Self::put).
    pub fn try_put(&self, item: T) -> Result<()> {
        self.put_within(item, Some(Duration::ZERO))
    }

    /// Puts `item` in, and waits no longer than `timeout` for room.
    ///
    /// # Errors
    /// As [`try_put`](Self::try_put).
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<()> {
        self.put_within(item, Some(timeout))
    }

    /// Blocks until there is an item, and takes it.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn get(&self) -> Result<T> {
        self.get_within(None)
    }

    /// Takes an item if there is one.
    ///
    /// # Errors
    /// * [`Error::Empty`]: there is none.
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn try_get(&self) -> Result<T> {
        self.get_within(Some(Duration::ZERO))
    }

    /// Takes an item, and waits no longer than `timeout` for one.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        self.get_within(Some(timeout))
    }

    /// Blocks until all items that were put are [done](Self::task_done).
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn join(&self) -> Result<()> {
        self.join_within(None).map(drop)
    }

    /// As [`join`](Self::join), and gives false if the time is up before.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        self.join_within(Some(timeout))
    }
}

impl Manager {
    /// Makes a queue for up to `maxsize` items; zero means any number.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    #[doc(alias = "JoinableQueue")]
    pub fn queue<T: Encode + Decode + 'static>(&self, maxsize: usize) -> Result<QueueProxy<T>> {
        self.create(Queue::new, (maxsize,))
    }

    /// Makes a queue, of which each counts the items that are not done; the same as
    /// [`queue`](Self::queue).
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn joinable_queue<T>(&self, maxsize: usize) -> Result<QueueProxy<T>>
    where
        T: Encode + Decode + 'static,
    {
        self.queue(maxsize)
    }
}
