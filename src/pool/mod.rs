//! Pools of worker processes.

mod builder;
mod care;
mod core;
mod crew;
mod feeder;
mod imap;
mod job;
mod ledger;
mod result;
mod revoked;
mod snapshot;
mod worker;

pub use builder::PoolBuilder;
pub use imap::Imap;
pub use ledger::Counters;
pub use result::AsyncResult;
pub use snapshot::{Activity, Snapshot, WorkerState};

use self::core::Core;
use crate::process::target::{CallOnce, EntryPoint, Target};
use crate::{Decode, Encode, Result};
use care::Begun;
use feeder::{Feeder, Stream};
use job::{Batch, Job, Loss, Portion, Single};
use std::fmt;
use std::sync::Arc;
use worker::{Alone, Apply, Unpacked};

/// Worker processes that run tasks.
///
/// A task is a function item or a closure that captures nothing, with its arguments. Workers take
/// tasks themselves as they become free. There is never a thread behind a pool, so that Fork stays
/// possible: whoever waits for a result looks after the pool while it waits. While nobody does, tasks
/// are taken and run all the same; but workers that die are not replaced and time limits not watched
/// until somebody does again.
///
/// Dropping the pool terminates it. What is outstanding then fails with
/// [`Error::PoolClosed`](crate::Error::PoolClosed); to have it done, [`close`](Self::close) the pool
/// and [`join`](Self::join) it.
///
/// # If a process dies
/// When a worker is killed, the task that it ran fails with
/// [`Error::WorkerDied`](crate::Error::WorkerDied), or is tried again if the pool was built with
/// [`retries`](PoolBuilder::retries). Whatever had it, every task ends in exactly one of the ways that
/// [`Counters`] counts. No other task is concerned, and the worker is replaced. When the
/// process that owns the pool is killed, the workers die with it.
///
/// # Differences from Python
/// * A worker that is killed there takes its task's result with it, and who waits for that waits for ever; or,
///   with the executor, every task fails.
/// * Dropping the pool is what leaving a `with` block is there: it ends the workers. To have tasks done first,
///   close and join. No other process can be given the pool, which the compiler checks.
/// * A task gets its arguments as a tuple; there are no named ones.
/// * There is no pool of threads: a scoped thread of std needs none of this.
///
/// # Examples
/// ```
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// let pool = multiproc::Pool::new(2)?;
/// assert_eq!(pool.map(|n: u64| n * n, 0..5)?, [0, 1, 4, 9, 16]);
/// # Ok(())
/// # }
/// ```
pub struct Pool {
    core: Arc<Core>,
}

impl Pool {
    /// A pool of so many workers, with the usual settings.
    ///
    /// # Errors
    /// As [`PoolBuilder::build`].
    pub fn new(processes: usize) -> Result<Pool> {
        Pool::builder().processes(processes).build()
    }

    /// A pool to be described further.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// Runs `f` with `arguments`, a tuple, in a worker, and gives its result.
    ///
    /// # Blocking
    /// Until the task is done.
    ///
    /// # Errors
    /// * As [`apply_async`](Self::apply_async) and [`AsyncResult::get`].
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// let pool = multiproc::Pool::new(1)?;
    /// assert_eq!(pool.apply(|a: u32, b: u32| a * b, (6, 7))?, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply<F, A, R>(&self, f: F, arguments: A) -> Result<R>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        self.apply_async(f, arguments)?.get()
    }

    /// Hands a task in and gives what its result will be taken from.
    ///
    /// # Blocking
    /// Not on busy workers: tasks wait in memory, until that is full.
    ///
    /// # Errors
    /// * [`Error::PoolClosed`](crate::Error::PoolClosed): the pool was closed or terminated.
    /// * [`Error::Encode`](crate::Error::Encode): the arguments cannot make the journey.
    /// * [`Error::NotInExecutable`](crate::Error::NotInExecutable): `f` is in a shared library.
    /// * [`Error::Os`](crate::Error::Os): the system refused memory (ENOMEM, ENOSPC).
    /// * [`Error::ForeignProcess`](crate::Error::ForeignProcess): this process is a fork of the one
    ///   that owns the pool.
    pub fn apply_async<F, A, R>(&self, f: F, arguments: A) -> Result<AsyncResult<R>>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        let _ = f;
        let location = EntryPoint::of::<CallOnce<F, A, R>>().locate()?;
        let mut task = self.core.lend_buffer();
        task.push(&location)?;
        task.push(&arguments)?;
        let single = Arc::new(Single::new());
        let job: Arc<dyn Job> = single.clone();
        let portion = Portion { part: 0, items: 1, bytes: task.bytes.len() as u64 };
        self.core.submit(&job, portion, &mut task)?;
        self.core.take_back(task);
        Ok(AsyncResult::new(self.core.clone(), single, job))
    }

    /// Runs `f` on every item, and gives the results in order.
    ///
    /// The items go out in chunks: four for each worker, or more where those would be very long.
    ///
    /// # Blocking
    /// Until everything is done.
    ///
    /// # Errors
    /// * Of the tasks that failed, the first one's error, once all are done:
    ///   [`Error::Panicked`](crate::Error::Panicked), [`Error::WorkerDied`](crate::Error::WorkerDied).
    /// * As [`apply_async`](Self::apply_async).
    ///
    /// # Differences from Python
    /// Python gives the error that arrived first.
    pub fn map<F, T, R>(&self, f: F, items: impl IntoIterator<Item = T>) -> Result<Vec<R>>
    where
        F: Target<(T,), R>,
        T: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        let (items, chunksize) = self.chunks(items);
        self.run::<Alone, _, _, _>(f, items, chunksize)
    }

    /// [`map`](Self::map) for a function of several arguments: each item is a tuple of them.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// let pool = multiproc::Pool::new(2)?;
    /// assert_eq!(pool.starmap(|a: i32, b: i32| a - b, [(5, 3), (9, 2)])?, [2, 7]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn starmap<F, A, R>(&self, f: F, items: impl IntoIterator<Item = A>) -> Result<Vec<R>>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        let (items, chunksize) = self.chunks(items);
        self.run::<Unpacked, _, _, _>(f, items, chunksize)
    }

    /// [`map`](Self::map) with chunks of so many items; zero means one.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn map_chunks<F, T, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = T>,
        chunksize: usize,
    ) -> Result<Vec<R>>
    where
        F: Target<(T,), R>,
        T: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        self.run::<Alone, _, _, _>(f, items, chunksize)
    }

    /// [`starmap`](Self::starmap) with chunks of so many items; zero means one.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn starmap_chunks<F, A, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = A>,
        chunksize: usize,
    ) -> Result<Vec<R>>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        self.run::<Unpacked, _, _, _>(f, items, chunksize)
    }

    fn run<M, F, T, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = T>,
        chunksize: usize,
    ) -> Result<Vec<R>>
    where
        M: Apply<F, T, R>,
        F: Copy + Send + Sync + 'static,
        T: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        /// Chunks on their way at a time, for each worker: enough that none waits for the next.
        const WINDOW: u64 = 256;
        /// Bytes on their way at a time, for each worker, unless they are fewer chunks than [`FEW`]: more
        /// would be memory that is in no cache.
        const BYTES: u64 = 128 << 10;
        const FEW: u64 = 4;
        /// Results that room is made for on the iterator's word alone.
        const SOME: usize = 1 << 16;
        let workers = self.core.processes() as u64;
        let is_enough = |stream: &Stream<R>| {
            let outstanding = stream.outstanding();
            outstanding >= WINDOW * workers
                || outstanding >= FEW * workers && stream.outstanding_bytes() >= BYTES * workers
        };
        let mut stream = Stream::new::<F, T, M>(self.core.clone(), f, true);
        let mut items = items.into_iter();
        let mut results = Vec::with_capacity(items.size_hint().0.min(SOME));
        let mut outcome = Ok(());
        let mut collect = |stream: &Stream<R>| {
            while let Some(part) = stream.try_take() {
                if outcome.is_ok() {
                    outcome = part.append_to(&mut results);
                }
            }
        };
        while stream.feed(chunksize, || items.next())? > 0 {
            if is_enough(&stream) {
                stream.wait_until_outstanding(stream.outstanding() / 2)?;
                collect(&stream);
            }
        }
        stream.wait_until_outstanding(0)?;
        collect(&stream);
        outcome.map(|()| results)
    }

    /// The items, and how many of them make a chunk: as Python has it.
    fn chunks<T>(&self, items: impl IntoIterator<Item = T>) -> (impl Iterator<Item = T>, usize) {
        /// More in a chunk saves nothing more, and costs memory that is not in any cache.
        const MOST: usize = 8192;
        let items = items.into_iter();
        let (listed, items) = match items.size_hint() {
            (least, Some(most)) if least == most => (least, Items::Counted(items)),
            _ => {
                let items: Vec<T> = items.collect();
                (items.len(), Items::Listed(items.into_iter()))
            }
        };
        (items, listed.div_ceil(4 * self.core.processes()).clamp(1, MOST))
    }

    /// [`map`](Self::map) that does not wait: the result is taken from what it gives.
    ///
    /// # Errors
    /// As [`apply_async`](Self::apply_async).
    pub fn map_async<F, T, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        F: Target<(T,), R>,
        T: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        let (items, chunksize) = self.chunks(items);
        self.run_async::<Alone, _, _, _>(f, items, chunksize)
    }

    /// [`map_async`](Self::map_async) with chunks of so many items; zero means one.
    ///
    /// # Errors
    /// As [`apply_async`](Self::apply_async).
    pub fn map_async_chunks<F, T, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = T>,
        chunksize: usize,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        F: Target<(T,), R>,
        T: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        self.run_async::<Alone, _, _, _>(f, items, chunksize)
    }

    /// [`starmap`](Self::starmap) that does not wait.
    ///
    /// # Errors
    /// As [`apply_async`](Self::apply_async).
    pub fn starmap_async<F, A, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        let (items, chunksize) = self.chunks(items);
        self.run_async::<Unpacked, _, _, _>(f, items, chunksize)
    }

    /// [`starmap_async`](Self::starmap_async) with chunks of so many items; zero means one.
    ///
    /// # Errors
    /// As [`apply_async`](Self::apply_async).
    pub fn starmap_async_chunks<F, A, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = A>,
        chunksize: usize,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        self.run_async::<Unpacked, _, _, _>(f, items, chunksize)
    }

    fn run_async<M, F, T, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = T>,
        chunksize: usize,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        M: Apply<F, T, R>,
        F: Copy + Send + Sync + 'static,
        T: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        let mut items = items.into_iter();
        let batch = Arc::new(Batch::new());
        let job: Arc<dyn Job> = batch.clone();
        // Dropped early, by an error or a panic of the input, it leaves no result to wait for.
        let result = AsyncResult::new(self.core.clone(), batch.whole.clone(), job.clone());
        let mut feeder = Feeder::new::<F, T, R, M>(self.core.clone(), f, job);
        while feeder.feed(chunksize, || items.next())? > 0 {}
        batch.seal(feeder.parts());
        Ok(result)
    }

    /// Runs `f` on every item, and gives the results one by one, in order, as they are asked for.
    ///
    /// Items are drawn as results are taken, a bounded number ahead: the input may be infinite. A task
    /// that fails has its error in its place, and the others still come. Nothing runs before the first
    /// result is asked for.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// let pool = multiproc::Pool::new(2)?;
    /// let squares: Result<Vec<u64>, _> = pool.imap(|n: u64| n * n, 1..).take(3).collect();
    /// assert_eq!(squares?, [1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn imap<F, I, R>(&self, f: F, items: I) -> Imap<I::IntoIter, R>
    where
        F: Target<(I::Item,), R>,
        I: IntoIterator,
        I::Item: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        self.imap_as(f, items, true)
    }

    /// [`imap`](Self::imap) with the results in the order in which they come.
    pub fn imap_unordered<F, I, R>(&self, f: F, items: I) -> Imap<I::IntoIter, R>
    where
        F: Target<(I::Item,), R>,
        I: IntoIterator,
        I::Item: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        self.imap_as(f, items, false)
    }

    fn imap_as<F, I, R>(&self, f: F, items: I, ordered: bool) -> Imap<I::IntoIter, R>
    where
        F: Target<(I::Item,), R>,
        I: IntoIterator,
        I::Item: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        /// Tasks on their way at a time, for each worker.
        const LOOKAHEAD: usize = 64;
        let stream = Stream::new::<F, I::Item, Alone>(self.core.clone(), f, ordered);
        Imap::new(stream, items.into_iter(), LOOKAHEAD * self.core.processes())
    }

    /// How many workers the pool has.
    pub fn processes(&self) -> usize {
        self.core.processes()
    }

    /// Who does what at this moment, and what was done so far.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// let pool = multiproc::Pool::new(2)?;
    /// pool.map(|n: u32| n + 1, 0..10)?;
    /// for worker in pool.snapshot().workers {
    ///     println!("{}: {:?}, {} done", worker.pid, worker.activity, worker.finished);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.core)
    }

    /// Kills one worker, by its pid as [`snapshot`](Self::snapshot) gives it, as if it had crashed: its
    /// task fails or is tried again, and it is replaced. False if it is no worker of this pool, or none
    /// any more.
    pub fn kill_worker(&self, pid: u32) -> bool {
        self.core.kill_worker(pid)
    }

    /// Takes no further tasks. What was handed in is still done.
    pub fn close(&self) {
        self.core.close();
    }

    /// Takes back all tasks that no worker has begun with, and says how many: they fail with
    /// [`Error::Cancelled`](crate::Error::Cancelled). With [`close`](Self::close) and
    /// [`join`](Self::join), the pool ends as soon as what runs is done.
    ///
    /// A few thousand tasks may be taken back and still be in line at a time; of more, some run.
    ///
    /// # Errors
    /// As [`AsyncResult::cancel`].
    pub fn cancel_queued(&self) -> Result<usize> {
        self.core.cancel(None, Begun::Finish)
    }

    /// Ends the workers now, by SIGTERM, and by SIGKILL where that does not help within a second. What
    /// is outstanding fails with [`Error::PoolClosed`](crate::Error::PoolClosed).
    pub fn terminate(&self) {
        self.core.end(&Loss::PoolClosed);
    }

    /// Blocks until everything that was handed in is done and the workers have left.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`](crate::Error::InvalidArgument): the pool was neither closed nor
    ///   terminated, so that this would not end.
    /// * [`Error::ForeignProcess`](crate::Error::ForeignProcess): this process is a fork of the one
    ///   that owns the pool.
    pub fn join(&self) -> Result<()> {
        self.core.join()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, size) = (self.core.phase_name(), self.core.processes());
        write!(f, "<Pool state={state} pool_size={size}>")
    }
}

/// Items of which the number is known.
enum Items<I: Iterator> {
    Counted(I),
    Listed(std::vec::IntoIter<I::Item>),
}

impl<I: Iterator> Iterator for Items<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        match self {
            Items::Counted(items) => items.next(),
            Items::Listed(items) => items.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Items::Counted(items) => items.size_hint(),
            Items::Listed(items) => items.size_hint(),
        }
    }
}
