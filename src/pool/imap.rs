//! Results one by one.

use super::feeder::Stream;
use super::job::Part;
use crate::{Decode, Encode, Result};
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The results of [`Pool::imap`](crate::Pool::imap) and
/// [`Pool::imap_unordered`](crate::Pool::imap_unordered), one by one as they come.
///
/// Tasks are drawn from the input as it is iterated, so it may be infinite; how far ahead is bounded.
/// After an error the others still come. If the input panics, so does the iterator, after it has given
/// the results of what was drawn before. Dropped early, it hands out nothing more and takes back the
/// tasks that no worker has begun with.
pub struct Imap<I: Iterator, R> {
    stream: Stream<R>,
    input: Input<I>,
    chunksize: usize,
    /// In tasks.
    lookahead: usize,
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

    /// Draws from the input until enough is on its way, or nothing is left.
    fn feed(&mut self) -> Result<()> {
        // Not one for one: who draws many at a time wakes workers less often.
        if self.owed > self.lookahead / 2 {
            return Ok(());
        }
        while self.owed == 0 || self.owed + self.chunksize <= self.lookahead {
            match self.stream.feed(self.chunksize, || self.input.next())? {
                0 => break,
                fed => self.owed += fed,
            }
        }
        Ok(())
    }

    /// The pool cannot go on: this error is the last that is given.
    fn end_with(&mut self, error: crate::Error) -> Option<Result<R>> {
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
            match self.stream.take() {
                Ok(Part::Values(values)) => self.ready.extend(values.into_iter().map(Ok)),
                Ok(Part::Mixed(results)) => self.ready.extend(results),
                Err(error) => return self.end_with(error),
            }
        }
        self.owed -= 1;
        self.ready.pop_front()
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
