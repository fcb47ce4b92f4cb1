//! Results one by one.

use super::feeder::Stream;
use super::job::Part;
use crate::sys::time::Deadline;
use crate::{Decode, Encode, Error, Result};
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// The results of [`Pool::imap`](crate::Pool::imap) and
/// [`Pool::imap_unordered`](crate::Pool::imap_unordered), one by one as they come.
///
/// Tasks are drawn from the input as it is iterated, so it may be infinite; how far ahead is bounded.
/// After an error the others still come. If the input panics, so does the iterator, after it has given
/// the results of what was drawn before. Input that blocks holds the iterator up, but nobody else: to have
/// each result before the next item is asked for, set a [`lookahead`](Self::lookahead) of one. Dropped
/// early, it hands out nothing more and takes back the tasks that no worker has begun with.
pub struct Imap<I: Iterator, R> {
    stream: Stream<R>,
    input: Input<I>,
    chunksize: usize,
    /// In tasks.
    lookahead: usize,
    /// In bytes of arguments.
    lookahead_bytes: u64,
    /// Results that were taken and not given yet.
    ready: VecDeque<Result<R>>,
    /// Tasks handed out whose results were not given yet.
    owed: usize,
    item: PhantomData<fn() -> I::Item>,
}

/// Where tasks are drawn from.
enum Input<I> {
    Open(I),
    /// It has panicked, which is yet to be told.
    Panicked(Box<dyn Any + Send>),
    Over,
}

impl<I: Iterator> Input<I> {
    fn next(&mut self) -> Option<I::Item> {
        let Input::Open(items) = self else { return None };
        match catch_unwind(AssertUnwindSafe(|| items.next())) {
            Ok(Some(item)) => return Some(item),
            Ok(None) => *self = Input::Over,
            Err(panic) => *self = Input::Panicked(panic),
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Input::Open(items) => items.size_hint(),
            _ => (0, Some(0)),
        }
    }
}

impl<I, R> Imap<I, R>
where
    I: Iterator,
    I::Item: Encode,
    R: Encode + Decode + Send + 'static,
{
    pub(crate) fn new(stream: Stream<R>, input: I, lookahead: usize) -> Imap<I, R> {
        Imap {
            stream,
            input: Input::Open(input),
            chunksize: 1,
            lookahead,
            lookahead_bytes: u64::MAX,
            ready: VecDeque::new(),
            owed: 0,
            item: PhantomData,
        }
    }

    /// Hands out `tasks` at a time: cheaper for short tasks. One by default, and zero means one.
    pub fn chunksize(mut self, tasks: usize) -> Imap<I, R> {
        self.chunksize = tasks.max(1);
        self
    }

    /// Draws at most this many tasks whose results have not been given yet. At least one chunk; by
    /// default enough to keep every worker busy.
    pub fn lookahead(mut self, tasks: usize) -> Imap<I, R> {
        self.lookahead = tasks;
        self
    }

    /// Draws nothing more while the arguments of tasks that are not done take so many bytes. By default
    /// the number of tasks alone counts.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// let pool = multiproc::Pool::new(2)?;
    /// let pages = (0..).map(|n: u64| vec![n as u8; 1 << 20]);
    /// let mut lengths = pool.imap(|page: Vec<u8>| page.len(), pages).lookahead_bytes(4 << 20);
    /// assert_eq!(lengths.next().transpose()?, Some(1 << 20));
    /// # Ok(())
    /// # }
    /// ```
    pub fn lookahead_bytes(mut self, bytes: usize) -> Imap<I, R> {
        self.lookahead_bytes = bytes as u64;
        self
    }

    /// The next result, if it is there: [`Error::TimeoutError`] in its place if it is not.
    ///
    /// What is drawn from the input first may block all the same.
    pub fn try_next(&mut self) -> Option<Result<R>> {
        self.next_until(Deadline::now())
    }

    /// The next result; [`Error::TimeoutError`] in its place if it does not come in time. It can be taken
    /// later.
    ///
    /// What is drawn from the input first is not part of that time.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// use std::time::Duration;
    ///
    /// let pool = multiproc::Pool::new(1)?;
    /// let mut naps = pool.imap(std::thread::sleep, [Duration::MAX]);
    /// let nap = naps.next_timeout(Duration::from_millis(10));
    /// assert!(matches!(nap, Some(Err(multiproc::Error::TimeoutError))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<R>> {
        self.next_until(Deadline::after(timeout))
    }

    fn next_until(&mut self, deadline: Deadline) -> Option<Result<R>> {
        if let Err(error) = self.feed() {
            return self.end_with(error);
        }
        if self.ready.is_empty() {
            if self.owed == 0 {
                return match std::mem::replace(&mut self.input, Input::Over) {
                    Input::Panicked(panic) => resume_unwind(panic),
                    _ => None,
                };
            }
            match self.stream.take(deadline) {
                Ok(Part::Values(values)) => self.ready.extend(values.into_iter().map(Ok)),
                Ok(Part::Mixed(results)) => self.ready.extend(results),
                Err(Error::TimeoutError) => return Some(Err(Error::TimeoutError)),
                Err(error) => return self.end_with(error),
            }
        }
        self.owed -= 1;
        self.ready.pop_front()
    }

    /// Draws from the input until enough is on its way, or nothing is left.
    fn feed(&mut self) -> Result<()> {
        // Not one for one: who draws many at a time wakes workers less often.
        if self.owed > self.lookahead / 2 {
            return Ok(());
        }
        while self.owed == 0 || self.has_room() {
            match self.stream.feed(self.chunksize, || self.input.next())? {
                0 => break,
                fed => self.owed += fed,
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.owed + self.chunksize <= self.lookahead
            && self.stream.outstanding_bytes() < self.lookahead_bytes
    }

    /// The pool cannot go on: this error is the last that is given.
    fn end_with(&mut self, error: Error) -> Option<Result<R>> {
        self.input = Input::Over;
        self.owed = 0;
        Some(Err(error))
    }
}

impl<I, R> Iterator for Imap<I, R>
where
    I: Iterator,
    I::Item: Encode,
    R: Encode + Decode + Send + 'static,
{
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        self.next_until(Deadline::NEVER)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.input.size_hint();
        (least.saturating_add(self.owed), most.and_then(|most| most.checked_add(self.owed)))
    }
}

impl<I, R> FusedIterator for Imap<I, R>
where
    I: Iterator,
    I::Item: Encode,
    R: Encode + Decode + Send + 'static,
{
}

impl<I: Iterator, R> fmt::Debug for Imap<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("owed", &self.owed).finish_non_exhaustive()
    }
}
