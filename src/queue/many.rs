//! Several items of a `Queue` at once.

use super::batch::Batch;
use super::parcel::Parcel;
use super::queue::{decode, with_scratch};
use crate::sys::time::Deadline;
use crate::{Decode, Encode, Queue, Result};
use std::time::Duration;

impl<T: Encode> Queue<T> {
    /// Puts items one behind the other, with none of anybody else's between them, and waits for room where
    /// there is none; says how many are in: all of them, unless somebody closes the queue meanwhile.
    ///
    /// It costs less than as many calls of [`put`](Self::put). An item that cannot be encoded, or is too
    /// long, fails the call before any is put.
    ///
    /// # Blocking
    /// Waits without limit for room; signals do not end the wait.
    ///
    /// # If a process dies
    /// As in [`put`](Self::put): a caller that is killed has put some of the first items, or none.
    ///
    /// # Errors
    /// Those of [`put`](Self::put), when no item is in.
    ///
    /// # Examples
    /// ```
    /// let queue = multiproc::Queue::new()?;
    /// assert_eq!(queue.put_many(&[1, 2, 3])?, 3);
    /// assert_eq!(queue.get_many(2)?, [1, 2]);
    /// assert_eq!(queue.get_many(2)?, [3]);
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn put_many(&self, items: &[T]) -> Result<usize> {
        self.put_many_until(items, || Deadline::NEVER)
    }

    /// Puts as many of the first items as there is room for, and says how many.
    ///
    /// # Errors
    /// * [`Error::Full`](crate::Error::Full): there is room for none.
    /// * Those of [`put`](Self::put), when no item is in.
    pub fn try_put_many(&self, items: &[T]) -> Result<usize> {
        self.put_many_until(items, Deadline::now)
    }

    /// Puts items, and waits for room no longer than `timeout` in all; says how many of the first are in.
    ///
    /// # Errors
    /// * [`Error::Full`](crate::Error::Full): there was room for none within the time.
    /// * Those of [`put`](Self::put), when no item is in.
    pub fn put_many_timeout(&self, items: &[T], timeout: Duration) -> Result<usize> {
        self.put_many_until(items, || Deadline::after(timeout))
    }

    fn put_many_until(&self, items: &[T], deadline: impl FnOnce() -> Deadline) -> Result<usize> {
        if items.is_empty() {
            return Ok(0);
        }
        if items.iter().all(|item| item.at_hand().is_some()) {
            let parcels = items.iter().filter_map(T::at_hand);
            let parcels = parcels.map(|(len, bytes)| Parcel::plain(len, bytes));
            return self.ring.put_many(parcels, deadline());
        }
        with_scratch(|message| {
            let mut ends = Vec::with_capacity(items.len());
            for item in items {
                message.push(item)?;
                ends.push((message.bytes.len(), message.fds.len()));
            }
            self.ring.put_many(Parcel::each(message, &ends), deadline())
        })
    }
}

impl<T: Decode> Queue<T> {
    /// Takes the first item, and with it those behind it that are there already, `most` in all; waits for
    /// the first if there is none.
    ///
    /// It costs less than as many calls of [`get`](Self::get). It takes no more at once than about a
    /// mebibyte holds, since a process that is killed takes with it what it has taken.
    ///
    /// # Blocking
    /// Waits without limit for the first; signals do not end the wait.
    ///
    /// # If a process dies
    /// As in [`get`](Self::get): a caller that is killed has taken all of what it would get, or nothing.
    ///
    /// # Errors
    /// Those of [`get`](Self::get). If one of the items is no `T`, all of them are taken and lost.
    pub fn get_many(&self, most: usize) -> Result<Vec<T>> {
        self.get_many_until(most, Deadline::NEVER)
    }

    /// Takes the first items that are there, `most` at most.
    ///
    /// # Errors
    /// * [`Error::Empty`](crate::Error::Empty): there is none.
    /// * Those of [`get_many`](Self::get_many).
    pub fn try_get_many(&self, most: usize) -> Result<Vec<T>> {
        self.get_many_until(most, Deadline::now())
    }

    /// Takes the first items, and waits for the first no longer than `timeout`.
    ///
    /// # Errors
    /// * [`Error::Empty`](crate::Error::Empty): there was none within the time.
    /// * Those of [`get_many`](Self::get_many).
    pub fn get_many_timeout(&self, most: usize, timeout: Duration) -> Result<Vec<T>> {
        self.get_many_until(most, Deadline::after(timeout))
    }

    fn get_many_until(&self, most: usize, deadline: Deadline) -> Result<Vec<T>> {
        self.get_many_claiming(most, deadline, |_, _| ())
    }

    /// Gets the first items; `claim` is called with the number of the first and how many they are, just
    /// before they are taken.
    pub(super) fn get_many_claiming(
        &self,
        most: usize,
        deadline: Deadline,
        claim: impl FnOnce(u64, u64),
    ) -> Result<Vec<T>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut batch = Batch::of(most);
        self.ring.get_many(&mut batch, deadline, claim)?;
        let mut items = Vec::with_capacity(batch.count());
        batch.try_for_each(|bytes, fds| {
            items.push(decode(bytes, fds)?);
            Ok(())
        })?;
        Ok(items)
    }
}
