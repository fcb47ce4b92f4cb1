//! Handing out many tasks of one function.

use super::care::Begun;
use super::core::Core;
use super::job::{Inbox, Job, Loss, Part, Portion};
use super::worker::{Apply, Chunk};
use crate::codec::Payload;
use crate::process::target::{EntryPoint, Location};
use crate::sys::time::Deadline;
use crate::{Decode, Encode, Error, Result};
use std::sync::Arc;

/// Room for the items of a chunk to begin with.
const SOME: usize = 64;

/// The tasks of one job on their way to the pool, in chunks.
pub(crate) struct Feeder {
    core: Arc<Core>,
    job: Arc<dyn Job>,
    /// The function, which every task begins with.
    entry: Result<Location>,
    /// The task that is being encoded.
    task: Payload,
    /// Parts handed out so far.
    parts: u64,
    /// The bytes that their arguments take.
    bytes: u64,
}

impl Feeder {
    /// Tasks of `f`, applied to items as `M` says.
    pub(crate) fn new<F, T, R, M>(core: Arc<Core>, f: F, job: Arc<dyn Job>) -> Feeder
    where
        F: Copy + Send + Sync + 'static,
        T: Decode + 'static,
        R: Encode + 'static,
        M: Apply<F, T, R>,
    {
        let _ = f;
        let entry = EntryPoint::of::<Chunk<F, T, R, M>>().locate();
        Feeder { core, job, entry, task: Payload::default(), parts: 0, bytes: 0 }
    }

    pub(crate) fn parts(&self) -> u64 {
        self.parts
    }

    /// Hands out up to `most` tasks as one chunk, and says how many; none if there are none.
    ///
    /// Those that cannot be encoded have that error for their result.
    ///
    /// # Errors
    /// What keeps the pool from taking any task: [`Error::PoolClosed`] and the like.
    pub(crate) fn feed<T: Encode>(
        &mut self,
        most: usize,
        mut next: impl FnMut() -> Option<T>,
    ) -> Result<usize> {
        let Some(first) = next() else { return Ok(0) };
        if most <= 1 {
            self.hand_out_or_lose(std::slice::from_ref(&first))?;
            return Ok(1);
        }
        let mut chunk = Vec::with_capacity(most.min(SOME));
        chunk.push(first);
        chunk.extend(std::iter::from_fn(&mut next).take(most - 1));
        self.hand_out_or_lose(&chunk)?;
        Ok(chunk.len())
    }

    fn hand_out_or_lose<T: Encode>(&mut self, chunk: &[T]) -> Result<()> {
        match self.hand_out(chunk) {
            Err(error @ (Error::Encode { .. } | Error::MessageTooLong { .. })) => {
                if chunk.len() > 1 {
                    // Not all of them, it may be.
                    return chunk.chunks(1).try_for_each(|item| self.hand_out_or_lose(item));
                }
                let loss = Loss::Remote(error.to_string());
                let portion = Portion { part: self.parts, items: chunk.len(), bytes: 0 };
                self.job.lose(portion, error, &loss);
            }
            outcome => self.bytes += outcome?,
        }
        self.parts += 1;
        Ok(())
    }

    /// Says how many bytes it is.
    fn hand_out<T: Encode>(&mut self, chunk: &[T]) -> Result<u64> {
        self.task.fds.clear();
        self.task.bytes.clear();
        self.task.push(self.entry.as_ref().map_err(Error::again)?)?;
        self.task.push(chunk)?;
        let bytes = self.task.bytes.len() as u64;
        let portion = Portion { part: self.parts, items: chunk.len(), bytes };
        self.core.submit(&self.job, portion, &mut self.task)?;
        Ok(bytes)
    }
}

/// Tasks going out and their results coming back, part by part. Dropped, it takes back the tasks that no
/// worker has begun with.
pub(crate) struct Stream<R> {
    feeder: Feeder,
    inbox: Arc<Inbox<R>>,
}

impl<R: Encode + Decode + Send + 'static> Stream<R> {
    /// A stream of the results of `f`, in order or as they come.
    pub(crate) fn new<F, T, M>(core: Arc<Core>, f: F, ordered: bool) -> Stream<R>
    where
        F: Copy + Send + Sync + 'static,
        T: Decode + 'static,
        M: Apply<F, T, R>,
    {
        let inbox = Arc::new(Inbox::new(ordered));
        let feeder = Feeder::new::<F, T, R, M>(core, f, inbox.clone());
        Stream { feeder, inbox }
    }

    /// [`Feeder::feed`].
    pub(crate) fn feed<T: Encode>(
        &mut self,
        most: usize,
        next: impl FnMut() -> Option<T>,
    ) -> Result<usize> {
        self.feeder.feed(most, next)
    }

    /// Waits until no more than so many parts are outstanding.
    pub(crate) fn wait_until_outstanding(&self, most: u64) -> Result<()> {
        let few = || self.outstanding() <= most;
        if few() {
            return Ok(());
        }
        self.feeder.core.attend(Deadline::NEVER, few).map(drop)
    }

    /// The next part, if it is here.
    pub(crate) fn try_take(&self) -> Option<Part<R>> {
        self.inbox.take()
    }

    /// Waits until a part can be taken, and takes it; [`Error::TimeoutError`] once the deadline has passed.
    pub(crate) fn take(&self, deadline: Deadline) -> Result<Part<R>> {
        if let Some(part) = self.inbox.take() {
            return Ok(part);
        }
        let here = self.feeder.core.attend(deadline, || self.inbox.has_next())?;
        let missing = if here { Error::PoolClosed } else { Error::TimeoutError };
        self.inbox.take().ok_or(missing)
    }
}

impl<R> Stream<R> {
    /// Parts that were handed out and have not come back.
    pub(crate) fn outstanding(&self) -> u64 {
        self.feeder.parts - self.inbox.arrived()
    }

    /// The bytes that their arguments take.
    pub(crate) fn outstanding_bytes(&self) -> u64 {
        self.feeder.bytes - self.inbox.arrived_bytes()
    }
}

impl<R> Drop for Stream<R> {
    fn drop(&mut self) {
        self.inbox.abandon();
        if self.outstanding() > 0 {
            let _ = self.feeder.core.cancel(Some(&self.feeder.job), Begun::Finish);
        }
    }
}
