//! Pools.

use super::pool_results::{AsyncResult, AsyncResultProxy, Results, ResultsProxy, in_thread};
use crate::codec::Payload;
use crate::manager::{Call, Managed, Manager, Ticket, Waiting, Waits};
use crate::process::target::{CallOnce, EntryPoint, Location, Target};
use crate::{Decode, Decoder, Encode, Error, Result};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A pool as it is in a manager's server, whose process its workers are children of; a [`PoolProxy`]
/// stands for it elsewhere.
///
/// What a pool does is waited for by a thread for each call, and tasks are handed in by another, so that
/// the server goes on.
#[derive(Debug)]
pub struct Pool {
    /// None when it is being dropped.
    pool: Option<Arc<crate::Pool>>,
    line: Arc<Mutex<Line>>,
    is_closed: bool,
}

/// What is to be done with the pool, in order, by a thread that lives as long as there is anything: where
/// the pool's memory is full, it is that thread that waits for room.
#[derive(Default)]
struct Line {
    orders: VecDeque<Order>,
    is_served: bool,
}

type Order = Box<dyn FnOnce(&crate::Pool) + Send>;

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("orders", &self.orders.len()).finish_non_exhaustive()
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what is in line until nothing is.
fn serve(line: &Mutex<Line>, pool: &crate::Pool) {
    loop {
        let mut next = lock(line);
        let Some(order) = next.orders.pop_front() else {
            next.is_served = false;
            return;
        };
        drop(next);
        order(pool);
    }
}

crate::message! {
    /// A task on its way to a worker.
    #[doc(hidden)]
    #[derive(Debug)]
    pub struct Errand {
        entry: Location,
        bytes: Vec<u8>,
        fds: Vec<OwnedFd>,
    }

    /// What a worker has made of it.
    #[doc(hidden)]
    #[derive(Debug)]
    pub struct Parcel {
        bytes: Vec<u8>,
        fds: Vec<OwnedFd>,
    }
}

impl Errand {
    fn new<F, A, R>(arguments: &A) -> Result<Errand>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + 'static,
    {
        let entry = EntryPoint::of::<CallOnce<F, A, R>>().locate()?;
        let Payload { bytes, fds } = Payload::of(arguments)?;
        Ok(Errand { entry, bytes, fds })
    }

    /// In a worker.
    pub(super) fn run(mut self) -> Result<Parcel> {
        let mut result = Payload::default();
        let mut decoder = Decoder::new(&self.bytes, &mut self.fds);
        self.entry.resolve()?.run(&mut decoder, &mut result)?;
        Ok(Parcel { bytes: result.bytes, fds: result.fds })
    }
}

impl Parcel {
    pub(super) fn open<R: Decode>(mut self) -> Result<R> {
        R::decode(&mut Decoder::new(&self.bytes, &mut self.fds))
    }
}

impl Pool {
    fn new(processes: usize) -> Result<Pool> {
        let pool = Some(Arc::new(crate::Pool::new(processes)?));
        Ok(Pool { pool, line: Arc::default(), is_closed: false })
    }

    /// Has something done with the pool, after all that was ordered before.
    fn order(&self, order: impl FnOnce(&crate::Pool) + Send + 'static) -> Result<()> {
        let pool = Arc::clone(self.pool.as_ref().ok_or(Error::Closed)?);
        let mut line = lock(&self.line);
        line.orders.push_back(Box::new(order));
        if line.is_served {
            return Ok(());
        }
        let orders = Arc::clone(&self.line);
        // It looks for its first order when this lets go of the line.
        in_thread(move || serve(&orders, &pool)).inspect_err(|_| drop(line.orders.pop_back()))?;
        line.is_served = true;
        Ok(())
    }

    /// Has another thread answer the call, with what `work` gives.
    fn answer_later<R: Encode>(
        &self,
        call: &mut Call<'_>,
        work: impl FnOnce(&crate::Pool) -> Result<R> + Send + 'static,
    ) -> Result<()> {
        let pool = self.pool.clone().ok_or(Error::Closed)?;
        let (ticket, outside) = call.park_outside()?;
        in_thread(move || {
            let outcome = work(&pool);
            drop(pool);
            outside.answer(ticket, outcome.as_ref());
        })
    }

    fn run_all(&mut self, call: &mut Call<'_>, errands: Vec<Errand>) -> Result<()> {
        self.answer_later(call, |pool| {
            let parcels: Vec<Result<Parcel>> = pool.map(Errand::run, errands)?;
            parcels.into_iter().collect::<Result<Vec<Parcel>>>()
        })
    }

    /// Hands tasks in; their results can be asked for.
    fn begin<T>(
        &self,
        errands: Vec<Errand>,
        open: fn(Vec<Parcel>) -> Result<T>,
    ) -> Result<AsyncResultProxy<T>>
    where
        T: Encode + Decode + Send + 'static,
    {
        if self.is_closed {
            return Err(Error::PoolClosed);
        }
        let result = AsyncResult::new(open);
        let outcome = result.outcome();
        self.order(move |pool| outcome.hand_in(pool.map_async(Errand::run, errands)))?;
        add(result)
    }

    fn begin_one<R>(&mut self, errand: Errand) -> Result<AsyncResultProxy<R>>
    where
        R: Encode + Decode + Send + 'static,
    {
        self.begin(vec![errand], |mut parcels| parcels.pop().ok_or(Error::Taken)?.open())
    }

    fn begin_all<R>(&mut self, errands: Vec<Errand>) -> Result<AsyncResultProxy<Vec<R>>>
    where
        R: Encode + Decode + Send + 'static,
    {
        self.begin(errands, |parcels| parcels.into_iter().map(Parcel::open).collect())
    }

    fn iterate<R>(&mut self, (errands, ordered): (Vec<Errand>, bool)) -> Result<ResultsProxy<R>>
    where
        R: Encode + Decode + Send + 'static,
    {
        let pool = self.pool.as_ref().ok_or(Error::Closed)?;
        add(Results::new(if ordered {
            pool.imap(Errand::run, errands)
        } else {
            pool.imap_unordered(Errand::run, errands)
        }))
    }

    /// What was handed in before is in line before it.
    fn close(&mut self, call: &mut Call<'_>) -> Result<()> {
        self.is_closed = true;
        let (ticket, outside) = call.park_outside()?;
        self.order(move |pool| {
            pool.close();
            outside.answer(ticket, Ok(&()));
        })
    }

    fn terminate(&mut self, call: &mut Call<'_>) -> Result<()> {
        self.is_closed = true;
        self.answer_later(call, |pool| {
            pool.terminate();
            Ok(())
        })
    }

    fn join(&mut self, call: &mut Call<'_>) -> Result<()> {
        self.answer_later(call, crate::Pool::join)
    }

    fn processes(&self) -> usize {
        self.pool.as_ref().map_or(0, |pool| pool.processes())
    }
}

/// Puts an object into the server that runs this.
fn add<R: Managed>(object: R) -> Result<R::Proxy> {
    Manager::current().ok_or(Error::Closed)?.add(object)
}

impl Waiting for Pool {
    /// Its thread finds nobody to answer.
    fn call_ended(&mut self, _: Ticket, _: bool, _: &mut Waits) {}
}

impl Drop for Pool {
    /// Workers are waited for elsewhere.
    fn drop(&mut self) {
        let Some(pool) = self.pool.take() else { return };
        let _ = std::thread::Builder::new().spawn(move || pool.terminate());
    }
}

crate::managed! {
    /// A pool of workers in a manager, which processes share.
    ///
    /// Functions are function items, or closures that capture nothing, of the server's own program.
    ///
    /// # If a process dies
    /// As for [`Pool`](crate::Pool); the tasks of a client that is gone are done for nobody. With its last
    /// proxy the pool is terminated.
    ///
    /// # Differences from Python
    /// Python's `apply` is [`run`](Self::run). There are no callbacks, which would run in the server.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let pool = manager.pool(2)?;
    /// assert_eq!(pool.run(|a: i32, b: i32| a + b, (1, 2))?, 3);
    /// assert_eq!(pool.map(|n: u64| n * n, 0..5)?, [0, 1, 4, 9, 16]);
    ///
    /// let later = pool.map_async(|n: u64| n + 1, 0..3)?;
    /// let one_by_one: Result<Vec<u64>, _> = pool.imap(|n: u64| n * 2, 0..3)?.iter().collect();
    /// assert_eq!((one_by_one?, later.get()?), (vec![0, 2, 4], vec![1, 2, 3]));
    /// pool.close()?;
    /// pool.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub impl Pool as PoolProxy = "Pool" [waits] {
        #[doc(hidden)]
        fn run_all(&mut self, errands: Vec<Errand>) waits -> Vec<Parcel>;
        /// Takes no more tasks.
        fn close(&mut self) waits;
        /// Ends the workers, whatever they do.
        fn terminate(&mut self) waits;
        /// Waits until the workers of a closed or terminated pool have ended.
        fn join(&mut self) waits;
        /// How many workers there are.
        fn processes(&self) -> usize;
    }
}

impl PoolProxy {
    /// Has a worker call `f` with `arguments`, a tuple, and waits for the result.
    ///
    /// # Errors
    /// * As for [`Pool::apply`](crate::Pool::apply).
    /// * [`Error::DifferentExecutable`]: the server is another program, or another build.
    /// * [`Error::Disconnected`]: the server is gone.
    #[doc(alias = "apply")]
    pub fn run<F, A, R>(&self, f: F, arguments: A) -> Result<R>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + Decode + 'static,
    {
        let mut results = self.starmap(f, [arguments])?;
        results.pop().ok_or(Error::Disconnected)
    }

    /// Has workers call `f` with each item, and waits for the results, which have the items' order.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn map<F, T, R>(&self, f: F, items: impl IntoIterator<Item = T>) -> Result<Vec<R>>
    where
        F: Target<(T,), R>,
        T: Encode + Decode + 'static,
        R: Encode + Decode + 'static,
    {
        self.starmap(f, items.into_iter().map(|item| (item,)))
    }

    /// As [`map`](Self::map), where each item is a tuple of arguments.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn starmap<F, A, R>(&self, f: F, items: impl IntoIterator<Item = A>) -> Result<Vec<R>>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + Decode + 'static,
    {
        let parcels = self.run_all(errands(f, items)?)?;
        parcels.into_iter().map(Parcel::open).collect()
    }

    /// Hands a task in, and gives what its result can be got from, by whoever has that.
    ///
    /// # Errors
    /// * [`Error::PoolClosed`]: the pool takes no more tasks.
    /// * [`Error::DifferentExecutable`]: the server is another program, or another build.
    /// * [`Error::Disconnected`]: the server is gone.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let pool = manager.pool(1)?;
    /// let sum = pool.apply_async(|a: i32, b: i32| a + b, (1, 2))?;
    /// assert_eq!(sum.get()?, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply_async<F, A, R>(&self, f: F, arguments: A) -> Result<AsyncResultProxy<R>>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        let _ = f;
        self.apply(Pool::begin_one::<R>, Errand::new::<F, A, R>(&arguments)?)?
    }

    /// [`map`](Self::map) that does not wait: the results can be got from what it gives.
    ///
    /// # Errors
    /// As [`apply_async`](Self::apply_async).
    pub fn map_async<F, T, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<AsyncResultProxy<Vec<R>>>
    where
        F: Target<(T,), R>,
        T: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        self.starmap_async(f, items.into_iter().map(|item| (item,)))
    }

    /// [`starmap`](Self::starmap) that does not wait.
    ///
    /// # Errors
    /// As [`apply_async`](Self::apply_async).
    pub fn starmap_async<F, A, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<AsyncResultProxy<Vec<R>>>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        self.apply(Pool::begin_all::<R>, errands(f, items)?)?
    }

    /// Has workers call `f` with each item; the results are got one by one, in order. All items are sent to
    /// the server at once, and handed to workers as results are asked for, some of them ahead.
    ///
    /// # Errors
    /// As [`apply_async`](Self::apply_async).
    pub fn imap<F, T, R>(&self, f: F, items: impl IntoIterator<Item = T>) -> Result<ResultsProxy<R>>
    where
        F: Target<(T,), R>,
        T: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        let errands = errands(f, items.into_iter().map(|item| (item,)))?;
        self.apply(Pool::iterate::<R>, (errands, true))?
    }

    /// [`imap`](Self::imap) with the results in the order in which they come.
    ///
    /// # Errors
    /// As [`apply_async`](Self::apply_async).
    pub fn imap_unordered<F, T, R>(
        &self,
        f: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<ResultsProxy<R>>
    where
        F: Target<(T,), R>,
        T: Encode + Decode + 'static,
        R: Encode + Decode + Send + 'static,
    {
        let errands = errands(f, items.into_iter().map(|item| (item,)))?;
        self.apply(Pool::iterate::<R>, (errands, false))?
    }
}

fn errands<F, A, R>(f: F, items: impl IntoIterator<Item = A>) -> Result<Vec<Errand>>
where
    F: Target<A, R>,
    A: Encode + Decode + 'static,
    R: Encode + 'static,
{
    let _ = f;
    items.into_iter().map(|item| Errand::new::<F, A, R>(&item)).collect()
}

impl Manager {
    /// Makes a pool of so many workers, which are children of the server.
    ///
    /// # Errors
    /// * As for [`Pool::new`](crate::Pool::new).
    /// * As [`create`](Self::create).
    pub fn pool(&self, processes: usize) -> Result<PoolProxy> {
        self.try_create(Pool::new, (processes,))
    }
}
