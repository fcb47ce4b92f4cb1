//! Many tasks of one function.

use super::core::Core;
use super::job::{Inbox, Job, Part};
use super::result::Answer;
use super::worker::{Apply, Chunk};
use crate::codec::Payload;
use crate::process::target::{EntryPoint, Location};
use crate::sys::time::Deadline;
use crate::{Decode, Encode, Error, Result};
use std::collections::VecDeque;
use std::fmt;
use std::iter::{Fuse, FusedIterator};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// Room for the items of a chunk to begin with.
const SOME: usize = 64;

/// Hands tasks out in chunks.
pub(crate) struct Feeder<R> {
    core: Arc<Core>,
    entry: Result<Location>,
    pub(crate) inbox: Arc<Inbox<R>>,
    job: Arc<dyn Job>,
    /// Parts handed out so far.
    parts: u64,
}

impl<R: Encode + Decode + Send + 'static> Feeder<R> {
    pub(crate) fn new<F, T, M>(core: Arc<Core>, f: F, ordered: bool) -> Feeder<R>
    where
        F: Copy + Send + Sync + 'static,
        T: Decode + 'static,
        M: Apply<F, T, R>,
    {
        let _ = f;
        let inbox = Arc::new(Inbox::new(ordered));
        let job: Arc<dyn Job> = inbox.clone();
        let entry = EntryPoint::of::<Chunk<F, T, R, M>>().locate();
        Feeder { core, entry, inbox, job, parts: 0 }
    }

    /// Parts that were handed out and have not come back.
    pub(crate) fn outstanding(&self) -> u64 {
        self.parts - self.inbox.arrived()
    }

    /// Hands out up to `most` tasks as one chunk; false if there are none.
    ///
    /// # Errors
    /// * [`Error::Encode`]: an argument cannot make the journey; its chunk was not handed out.
    /// * [`Error::PoolClosed`], and what else keeps the pool from taking a task.
    pub(crate) fn feed<T: Encode>(
        &mut self,
        most: usize,
        mut next: impl FnMut() -> Option<T>,
    ) -> Result<bool> {
        let mut chunk = Vec::with_capacity(most.min(SOME));
        chunk.extend(std::iter::from_fn(&mut next).take(most));
        if chunk.is_empty() {
            return Ok(false);
        }
        let entry = self.entry.as_ref().map_err(Error::again)?;
        let mut task = Payload::of(entry)?;
        task.push(&chunk)?;
        self.core.submit(&self.job, self.parts, chunk.len(), task)?;
        self.parts += 1;
        Ok(true)
    }

    /// Waits until fewer than `window` parts are outstanding.
    pub(crate) fn make_room(&self, window: u64) -> Result<()> {
        self.core.attend(Deadline::NEVER, || self.outstanding() < window).map(drop)
    }

    /// Waits until a part can be taken, and takes it.
    pub(crate) fn take(&self) -> Result<Part<R>> {
        self.core.attend(Deadline::NEVER, || self.inbox.has_next())?;
        self.inbox.take().ok_or(Error::PoolClosed)
    }
}

/// The results of [`Pool::imap`](crate::Pool::imap) and
/// [`Pool::imap_unordered`](crate::Pool::imap_unordered), one by one as they come.
///
/// Tasks are drawn from the input as it is iterated, so it may be infinite; how far ahead is bounded.
/// After an error the others still come. Dropped early, it hands out nothing more, and what is
/// outstanding is thrown away when it comes.
pub struct Imap<I: Iterator, R> {
    feeder: Feeder<R>,
    input: Fuse<I>,
    chunksize: usize,
    /// In tasks.
    lookahead: usize,
    /// Results that were taken and not given yet.
    ready: VecDeque<Result<R>>,
    /// Tasks handed out whose results were not given yet.
    owed: usize,
    item: PhantomData<fn() -> I::Item>,
}

impl<I, R> Imap<I, R>
where
    I: Iterator,
    I::Item: Encode,
    R: Encode + Decode + Send + 'static,
{
    pub(crate) fn new(feeder: Feeder<R>, input: I, lookahead: usize) -> Imap<I, R> {
        Imap {
            feeder,
            input: input.fuse(),
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
        while self.owed == 0 || self.owed + self.chunksize <= self.lookahead {
            let (input, mut drawn) = (&mut self.input, 0);
            let fed = self.feeder.feed(self.chunksize, || {
                let item = input.next();
                drawn += usize::from(item.is_some());
                item
            });
            if !fed? {
                break;
            }
            self.owed += drawn;
        }
        Ok(())
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
        // An argument that cannot be handed out has its error in the place of its result.
        let fed = self.feed();
        if let Some(result) = self.ready.pop_front() {
            if let Err(error) = fed {
                self.ready.push_back(Err(error));
                self.owed += 1;
            }
            self.owed -= 1;
            return Some(result);
        }
        if self.owed == 0 {
            return fed.err().map(Err);
        }
        match self.feeder.take() {
            Ok(Part::Values(values)) => self.ready.extend(values.into_iter().map(Ok)),
            Ok(Part::Mixed(results)) => self.ready.extend(results),
            Err(error) => {
                self.owed = 0;
                return Some(Err(error));
            }
        }
        if let Err(error) = fed {
            self.ready.push_back(Err(error));
            self.owed += 1;
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

/// The results of a `map` that was handed in as a whole.
pub(crate) struct Batch<R> {
    inbox: Arc<Inbox<R>>,
    parts: u64,
    /// Whether it was a success, once it was taken.
    taken: Mutex<Option<bool>>,
}

impl<R> Batch<R> {
    pub(crate) fn new(feeder: &Feeder<R>) -> Batch<R> {
        Batch { inbox: feeder.inbox.clone(), parts: feeder.parts, taken: Mutex::new(None) }
    }
}

impl<R: Decode + Send> Answer<Vec<R>> for Batch<R> {
    fn is_here(&self) -> bool {
        self.inbox.arrived() == self.parts
    }

    fn is_success(&self) -> Option<bool> {
        let taken = *self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.or_else(|| self.is_here().then(|| self.inbox.is_success()))
    }

    fn take(&self) -> Result<Vec<R>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.is_some() {
            return Err(Error::Taken);
        }
        let mut results = Vec::new();
        let mut outcome = Ok(());
        while let Some(part) = self.inbox.take() {
            if outcome.is_ok() {
                outcome = part.append_to(&mut results);
            }
        }
        *taken = Some(outcome.is_ok());
        outcome.map(|()| results)
    }
}
