//! What the tasks of a pool in a manager give, got later.

use super::pool::{Errand, Parcel};
use crate::manager::outside::Outside;
use crate::manager::{Call, Ticket, Waiting, Waits};
use crate::pool::Imap;
use crate::sys::time::Deadline;
use crate::{Decode, Encode, Error, Result};
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Has a thread of the server do what may take its time.
pub(super) fn in_thread(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name("manager's pool".into());
    thread.spawn(work).map(drop).map_err(Error::os("pthread_create"))
}

/// The result of tasks that were handed to a pool, as it is in a manager's server; an
/// [`AsyncResultProxy`] stands for it elsewhere.
pub struct AsyncResult<T>(Arc<Outcome<T>>);

pub(super) struct Outcome<T> {
    /// What the tasks give, once they were handed in; or why they were not.
    parcels: OnceLock<Result<Parcels>>,
    turn: Mutex<()>,
    /// Rung when the tasks were handed in.
    handed_in: Condvar,
    open: fn(Vec<Parcel>) -> Result<T>,
    /// Once somebody has asked for it.
    opened: Mutex<Option<Result<T>>>,
}

type Parcels = crate::AsyncResult<Vec<Result<Parcel>>>;

impl<T> Outcome<T> {
    /// The tasks were handed in, or the pool has refused them.
    pub(super) fn hand_in(&self, parcels: Result<Parcels>) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.parcels.set(parcels);
        drop(turn);
        self.handed_in.notify_all();
    }

    fn is_ready(&self) -> bool {
        match self.parcels.get() {
            None => false,
            Some(Ok(parcels)) => parcels.ready(),
            Some(Err(_)) => true,
        }
    }

    /// Shows the result, which is there, to `look`.
    fn visit<R>(&self, look: impl FnOnce(&Result<T>) -> R) -> R {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        look(opened.get_or_insert_with(|| {
            let parcels: Result<Vec<Parcel>> = match self.parcels.get() {
                Some(Ok(parcels)) => parcels.get()?.into_iter().collect(),
                Some(Err(error)) => Err(error.again()),
                None => Err(Error::TimeoutError),
            };
            (self.open)(parcels?)
        }))
    }

    fn wait(&self, deadline: Deadline) -> Result<bool> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let parcels = loop {
            if let Some(parcels) = self.parcels.get() {
                break parcels;
            }
            let left = deadline.remaining().unwrap_or(Duration::MAX);
            if left.is_zero() {
                return Ok(false);
            }
            let waited = self.handed_in.wait_timeout(turn, left);
            turn = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(turn);
        match (parcels, deadline.remaining()) {
            (Err(_), _) => Ok(true),
            (Ok(parcels), Some(left)) => parcels.wait_timeout(left),
            (Ok(parcels), None) => parcels.wait().map(|()| true),
        }
    }
}

impl<T: Encode + Decode + Send + 'static> AsyncResult<T> {
    /// The result of tasks that are yet to be handed in.
    pub(super) fn new(open: fn(Vec<Parcel>) -> Result<T>) -> AsyncResult<T> {
        AsyncResult(Arc::new(Outcome {
            parcels: OnceLock::new(),
            turn: Mutex::default(),
            handed_in: Condvar::new(),
            open,
            opened: Mutex::default(),
        }))
    }

    pub(super) fn outcome(&self) -> Arc<Outcome<T>> {
        Arc::clone(&self.0)
    }

    fn get_within(&mut self, call: &mut Call<'_>, timeout: Option<Duration>) -> Result<()> {
        if self.ready() {
            return self.0.visit(|result| match result {
                Ok(value) => call.answer(value),
                Err(error) => {
                    call.fail(error);
                    Ok(())
                }
            });
        }
        if timeout == Some(Duration::ZERO) {
            return Err(Error::TimeoutError);
        }
        let (ticket, outside) = call.park_outside()?;
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        let outcome = Arc::clone(&self.0);
        in_thread(move || match outcome.wait(deadline) {
            Ok(true) => outcome.visit(|result| outside.answer(ticket, result.as_ref())),
            Ok(false) => outside.answer(ticket, Err::<&T, _>(&Error::TimeoutError)),
            Err(error) => outside.answer(ticket, Err::<&T, _>(&error)),
        })
    }

    fn wait_within(&mut self, call: &mut Call<'_>, timeout: Option<Duration>) -> Result<()> {
        if self.ready() || timeout == Some(Duration::ZERO) {
            return call.answer(&self.ready());
        }
        let (ticket, outside) = call.park_outside()?;
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        let outcome = Arc::clone(&self.0);
        in_thread(move || outside.answer(ticket, outcome.wait(deadline).as_ref()))
    }

    fn ready(&self) -> bool {
        self.0.is_ready()
    }

    fn successful(&self) -> Result<bool> {
        if self.ready() { Ok(self.0.visit(Result::is_ok)) } else { Err(Error::TimeoutError) }
    }
}

impl<T> Waiting for AsyncResult<T> {
    /// Its thread finds nobody to answer; the result stays.
    fn call_ended(&mut self, _: Ticket, _: bool, _: &mut Waits) {}
}

impl<T> fmt::Debug for AsyncResult<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("ready", &self.0.is_ready()).finish()
    }
}

crate::managed! {
    /// The result of tasks that were handed to a [pool in a manager](super::PoolProxy), there or yet to come.
    ///
    /// The result stays in the server until its last proxy is gone: it may be got again, and by others.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let pool = manager.pool(1)?;
    /// let result = pool.map_async(|n: u32| n + 1, [1, 2])?;
    /// result.wait()?;
    /// assert!(result.ready()? && result.successful()?);
    /// assert_eq!(result.get()?, [2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub impl<T: Send> AsyncResult as AsyncResultProxy = "AsyncResult" [waits] {
        #[doc(hidden)]
        fn get_within(&mut self, timeout: Option<Duration>) waits -> T;
        #[doc(hidden)]
        fn wait_within(&mut self, timeout: Option<Duration>) waits -> bool;
        /// Whether the result is there.
        fn ready(&self) -> bool;
        /// Whether it is no error; [`Error::TimeoutError`](crate::Error::TimeoutError) if it is not there.
        fn successful(&self) throws -> bool;
    }
}

impl<T: Encode + Decode + Send + 'static> AsyncResultProxy<T> {
    /// Blocks until the result is there, and gives it.
    ///
    /// # Errors
    /// * As [`AsyncResult::get`](crate::AsyncResult::get), of the tasks that failed the first one's.
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn get(&self) -> Result<T> {
        self.get_within(None)
    }

    /// Gives the result if it is there.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: it is not.
    /// * Otherwise as [`get`](Self::get).
    pub fn try_get(&self) -> Result<T> {
        self.get_within(Some(Duration::ZERO))
    }

    /// Blocks until the result is there, and gives it, unless the time is up before.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        self.get_within(Some(timeout))
    }

    /// Blocks until the result is there.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn wait(&self) -> Result<()> {
        self.wait_within(None).map(drop)
    }

    /// Blocks until the result is there (true) or the time is up (false).
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        self.wait_within(Some(timeout))
    }
}

/// The results of an `imap`, as they are in a manager's server; a [`ResultsProxy`] stands for them
/// elsewhere.
pub struct Results<T>(Arc<Shared<T>>);

type Source = Imap<std::vec::IntoIter<Errand>, Result<Parcel>>;

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Rung when there may be something for who waits.
    changed: Condvar,
}

struct State<T> {
    /// Where results come from; a thread that waits for one has it.
    source: Option<Source>,
    /// Those that were drawn and that nobody got, which come first.
    back: VecDeque<Result<T>>,
    /// Those on their way to clients.
    lent: Vec<(Ticket, Result<T>)>,
    /// The calls that threads are about to answer.
    waiting: HashSet<Ticket>,
}

/// What was drawn: a result or a task's error, or nothing as all were.
type Drawn<T> = Option<Result<T>>;

/// Draws what is there already, for those who ask next.
fn draw_ready<T: Decode>(source: &mut Source) -> Vec<Result<T>> {
    const MOST: usize = 64;
    let ready = std::iter::from_fn(|| opened(source.try_next()));
    ready.take_while(|result| !matches!(result, Err(Error::TimeoutError))).take(MOST).collect()
}

fn opened<T: Decode>(drawn: Option<Result<Result<Parcel>>>) -> Drawn<T> {
    drawn.map(|result| result.and_then(|parcel| parcel).and_then(Parcel::open))
}

impl<T: Encode + Decode + Send + 'static> Results<T> {
    pub(super) fn new(source: Source) -> Results<T> {
        let state = State {
            source: Some(source),
            back: VecDeque::new(),
            lent: Vec::new(),
            waiting: HashSet::new(),
        };
        Results(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Answers the next result, `None` when there are no more.
    fn next_within(&mut self, call: &mut Call<'_>, timeout: Option<Duration>) -> Result<()> {
        let mut state = self.0.lock();
        // To draw one may mean to hand tasks in, which may have to wait for room: not in this thread.
        let Some(result) = state.back.pop_front() else {
            drop(state);
            return self.wait_for_next(call, timeout);
        };
        let ticket = match &result {
            Ok(value) => call.lend(&Some(value))?,
            Err(error) => call.lend_error(error),
        };
        state.lent.push((ticket, result));
        Ok(())
    }

    fn wait_for_next(&mut self, call: &mut Call<'_>, timeout: Option<Duration>) -> Result<()> {
        let (ticket, outside) = call.park_outside()?;
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        self.0.lock().waiting.insert(ticket);
        let shared = Arc::clone(&self.0);
        in_thread(move || shared.answer(ticket, deadline, &outside))
            .inspect_err(|_| _ = self.0.lock().waiting.remove(&ticket))
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was on its way to a client is not: the next one gets it.
    fn take_back(&self, ticket: Ticket) {
        let mut state = self.lock();
        if let Some(place) = state.lent.iter().position(|(lent, _)| *lent == ticket) {
            let (_, result) = state.lent.swap_remove(place);
            state.back.push_front(result);
            self.changed.notify_one();
        }
    }
}

impl<T: Encode + Decode + Send + 'static> Shared<T> {
    /// In a thread: waits for the next result and answers with it.
    fn answer(&self, ticket: Ticket, deadline: Deadline, outside: &Outside) {
        let (drawn, mut state) = self.draw(ticket, deadline);
        let is_wanted = state.waiting.remove(&ticket);
        match drawn {
            None => outside.answer(ticket, Ok(&None::<T>)),
            // It is still to come.
            Some(Err(error @ Error::TimeoutError)) => {
                outside.answer(ticket, Err::<&Option<T>, _>(&error));
            }
            Some(result) if is_wanted => {
                if outside.lend(ticket, result.as_ref().map(Some)) {
                    state.lent.push((ticket, result));
                }
            }
            // Its client is gone meanwhile.
            Some(result) => {
                state.back.push_front(result);
                self.changed.notify_one();
            }
        }
    }

    /// One thread at a time waits for the pool, the others for that one. The state stays locked: nobody
    /// sees it while a result is neither back nor lent.
    fn draw(&self, ticket: Ticket, deadline: Deadline) -> (Drawn<T>, MutexGuard<'_, State<T>>) {
        let mut state = self.lock();
        loop {
            if !state.waiting.contains(&ticket) {
                return (None, state);
            }
            if let Some(result) = state.back.pop_front() {
                return (Some(result), state);
            }
            if let Some(mut source) = state.source.take() {
                drop(state);
                let drawn = opened(match deadline.remaining() {
                    Some(left) => source.next_timeout(left),
                    None => source.next(),
                });
                let ready = draw_ready(&mut source);
                state = self.lock();
                state.back.extend(ready);
                state.source = Some(source);
                self.changed.notify_all();
                return (drawn, state);
            }
            let left = deadline.remaining();
            if left == Some(Duration::ZERO) {
                return (Some(Err(Error::TimeoutError)), state);
            }
            let waited = self.changed.wait_timeout(state, left.unwrap_or(Duration::MAX));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<T> Waiting for Results<T> {
    fn call_ended(&mut self, ticket: Ticket, _: bool, _: &mut Waits) {
        self.0.lock().waiting.remove(&ticket);
        // It may have been answered, but the server has not seen that yet.
        self.0.take_back(ticket);
        self.0.changed.notify_all();
    }

    fn lending_ended(&mut self, ticket: Ticket, received: bool, _: &mut Waits) {
        if received {
            self.0.lock().lent.retain(|(lent, _)| *lent != ticket);
        } else {
            self.0.take_back(ticket);
        }
    }
}

impl<T> fmt::Debug for Results<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

crate::managed! {
    /// The results of an `imap` of a [pool in a manager](super::PoolProxy), each for one of those who ask.
    ///
    /// # If a process dies
    /// A result that was sent to it, but that it has not read from its socket, goes to the next who asks.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let pool = manager.pool(2)?;
    /// let squares = pool.imap(|n: u64| n * n, 1..=4)?;
    /// assert_eq!(squares.next_result()?, Some(1));
    /// let rest: multiproc::Result<Vec<u64>> = squares.iter().collect();
    /// assert_eq!(rest?, [4, 9, 16]);
    /// # Ok(())
    /// # }
    /// ```
    pub impl<T: Send> Results as ResultsProxy = "IMapIterator" [waits] {
        #[doc(hidden)]
        fn next_within(&mut self, timeout: Option<Duration>) waits -> Option<T>;
    }
}

impl<T: Encode + Decode + Send + 'static> ResultsProxy<T> {
    /// Blocks until the next result is there, and gives it; none if there are no more.
    ///
    /// # Errors
    /// * A task's own: those after it can still be got.
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn next_result(&self) -> Result<Option<T>> {
        self.next_within(None)
    }

    /// Gives the next result if it is there.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: it is not.
    /// * Otherwise as [`next_result`](Self::next_result).
    pub fn try_next_result(&self) -> Result<Option<T>> {
        self.next_within(Some(Duration::ZERO))
    }

    /// Blocks until the next result is there, and gives it, unless the time is up before.
    ///
    /// # Errors
    /// As [`try_next_result`](Self::try_next_result).
    pub fn next_result_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        self.next_within(Some(timeout))
    }

    /// The results that are left, each asked for when it is wanted. After a task's error the others come; it
    /// ends when there are no more, or the server is gone.
    pub fn iter(&self) -> impl Iterator<Item = Result<T>> + '_ {
        let mut is_over = false;
        std::iter::from_fn(move || {
            if is_over {
                return None;
            }
            let next = self.next_result().transpose();
            is_over = matches!(next, None | Some(Err(Error::Disconnected | Error::Os { .. })));
            next
        })
    }
}
