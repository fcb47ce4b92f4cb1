//! Where results go: one job a call of the pool.

use crate::codec::Decoder;
use crate::process::{ExitStatus, panics};
use crate::{Decode, Error, Result};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What became of a task that gave no result of its own.
#[derive(Clone, Debug)]
pub(crate) enum Loss {
    WorkerDied {
        pid: u32,
        status: ExitStatus,
    },
    Poison {
        deaths: u32,
        pid: u32,
        status: ExitStatus,
    },
    PoolClosed,
    Cancelled,
    TimedOut,
    /// The pool could not go on.
    PoolFailed(String),
    /// The task's error, as the worker reported it.
    Remote(String),
}

impl Loss {
    pub(crate) fn error(&self) -> Error {
        match self.clone() {
            Loss::WorkerDied { pid, status } => Error::WorkerDied { pid, status },
            Loss::Poison { deaths, pid, status } => Error::Poison { deaths, pid, status },
            Loss::PoolClosed => Error::PoolClosed,
            Loss::Cancelled => Error::Cancelled,
            Loss::TimedOut => Error::TaskTimeout,
            Loss::PoolFailed(message) | Loss::Remote(message) => Error::Remote { message },
        }
    }
}

/// What a job has handed out at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Portion {
    /// Counted from the job's first.
    pub(crate) part: u64,
    /// How many tasks it is.
    pub(crate) items: usize,
    /// How many bytes its arguments take.
    pub(crate) bytes: u64,
}

/// A call's results on their way from the pool to the caller. Each portion is delivered exactly once.
pub(crate) trait Job: Send + Sync {
    /// The results of `portion` have arrived: they are in the decoder. Says whether all are values.
    fn deliver(&self, portion: Portion, decoder: &mut Decoder<'_>) -> bool;

    /// `portion` will not arrive.
    fn lose(&self, portion: Portion, error: Error, loss: &Loss);

    /// Whether nobody will look at what is delivered.
    fn is_unwanted(&self) -> bool;
}

/// What is called with a result when it has come.
type Callback<R> = Box<dyn FnOnce(&Result<R>) + Send>;

/// The one result of an `apply`, or the whole of a `map_async`.
pub(crate) struct Single<R> {
    answer: Mutex<Answer<R>>,
    /// Nobody will take it.
    unwanted: AtomicBool,
}

enum Answer<R> {
    Pending(Vec<Callback<R>>),
    Here(Result<R>),
    /// It was taken: whether it was a success.
    Taken(bool),
}

impl<R> Single<R> {
    pub(crate) fn new() -> Single<R> {
        let answer = Mutex::new(Answer::Pending(Vec::new()));
        Single { answer, unwanted: AtomicBool::new(false) }
    }

    fn answer(&self) -> MutexGuard<'_, Answer<R>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_here(&self) -> bool {
        !matches!(*self.answer(), Answer::Pending(_))
    }

    /// Whether it is a success; `None` while it is not here.
    pub(crate) fn is_success(&self) -> Option<bool> {
        match &*self.answer() {
            Answer::Pending(_) => None,
            Answer::Here(result) => Some(result.is_ok()),
            Answer::Taken(success) => Some(*success),
        }
    }

    /// Takes the result, which is here.
    pub(crate) fn take(&self) -> Result<R> {
        let mut answer = self.answer();
        let success = match &*answer {
            Answer::Pending(_) => return Err(Error::TimeoutError),
            Answer::Here(result) => result.is_ok(),
            Answer::Taken(success) => *success,
        };
        match std::mem::replace(&mut *answer, Answer::Taken(success)) {
            Answer::Here(result) => result,
            _ => Err(Error::Taken),
        }
    }

    /// Has `callback` called with the result: when it comes, or now if it is here.
    pub(crate) fn add_callback(&self, callback: Callback<R>) {
        match &mut *self.answer() {
            Answer::Pending(callbacks) => callbacks.push(callback),
            Answer::Here(result) => drop(panics::catch(|| callback(result))),
            Answer::Taken(_) => {}
        }
    }

    /// The handle is gone.
    pub(crate) fn abandon(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_no_use(&self) -> bool {
        let is_empty = |answer: &Answer<R>| match answer {
            Answer::Pending(callbacks) => callbacks.is_empty(),
            _ => true,
        };
        self.unwanted.load(Ordering::Relaxed) && is_empty(&self.answer())
    }

    pub(crate) fn complete(&self, result: Result<R>) {
        loop {
            // Not under the lock: callbacks are the user's, and may add others.
            let callbacks = match &mut *self.answer() {
                Answer::Pending(callbacks) => std::mem::take(callbacks),
                _ => return,
            };
            for callback in callbacks {
                // One that panics harms nobody else.
                let _ = panics::catch(|| callback(&result));
            }
            let mut answer = self.answer();
            if matches!(&*answer, Answer::Pending(callbacks) if callbacks.is_empty()) {
                *answer = Answer::Here(result);
                return;
            }
        }
    }
}

impl<R: Decode + Send> Job for Single<R> {
    fn deliver(&self, _: Portion, decoder: &mut Decoder<'_>) -> bool {
        let result = R::decode(decoder);
        let success = result.is_ok();
        self.complete(result);
        success
    }

    fn lose(&self, _: Portion, error: Error, _: &Loss) {
        self.complete(Err(error));
    }

    fn is_unwanted(&self) -> bool {
        self.has_no_use()
    }
}

/// The results of a chunk of tasks.
#[derive(Debug)]
pub(crate) enum Part<R> {
    /// Every one is a value.
    Values(Vec<R>),
    /// Some are errors.
    Mixed(Vec<Result<R>>),
}

impl<R> Part<R> {
    fn is_success(&self) -> bool {
        match self {
            Part::Values(_) => true,
            Part::Mixed(results) => results.iter().all(Result::is_ok),
        }
    }

    /// Appends the values to `values`; gives the first error, if there is one.
    pub(crate) fn append_to(self, values: &mut Vec<R>) -> Result<()> {
        match self {
            Part::Values(mut own) if values.is_empty() && values.capacity() <= own.capacity() => {
                std::mem::swap(values, &mut own);
            }
            Part::Values(own) => values.extend(own),
            Part::Mixed(results) => {
                for result in results {
                    values.push(result?);
                }
            }
        }
        Ok(())
    }
}

impl<R: Decode> Part<R> {
    /// What a worker made of a chunk of `items` tasks.
    fn decode(items: usize, decoder: &mut Decoder<'_>) -> Part<R> {
        let all = bool::decode(decoder);
        if let Ok(true) = all {
            match Vec::decode(decoder) {
                Ok(values) if values.len() == items => return Part::Values(values),
                Ok(_) => return Part::broken(items, &Error::decode("results of other tasks")),
                Err(error) => return Part::broken(items, &error),
            }
        }
        let one = |decoder: &mut Decoder<'_>| match bool::decode(decoder) {
            Ok(true) => R::decode(decoder),
            Ok(false) => Err(<Error as Decode>::decode(decoder).unwrap_or_else(|error| error)),
            Err(error) => Err(error),
        };
        Part::Mixed((0..items).map(|_| one(decoder)).collect())
    }

    fn broken(items: usize, error: &Error) -> Part<R> {
        Part::Mixed((0..items).map(|_| Err(Error::decode(error.to_string()))).collect())
    }
}

/// The results of a `map` or `imap`, part by part.
pub(crate) struct Inbox<R> {
    ordered: bool,
    unwanted: AtomicBool,
    state: Mutex<InboxState<R>>,
}

struct InboxState<R> {
    /// In order: the parts from `first` on. As they come: each that has come, and `first` is no matter.
    parts: VecDeque<Option<Part<R>>>,
    first: u64,
    /// Parts that have arrived, taken or not.
    arrived: u64,
    /// The bytes that their arguments took.
    arrived_bytes: u64,
}

impl<R> Inbox<R> {
    pub(crate) fn new(ordered: bool) -> Inbox<R> {
        let state = InboxState { parts: VecDeque::new(), first: 0, arrived: 0, arrived_bytes: 0 };
        Inbox { ordered, unwanted: AtomicBool::new(false), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, InboxState<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many parts have arrived so far.
    pub(crate) fn arrived(&self) -> u64 {
        self.state().arrived
    }

    /// How many bytes the arguments of those took.
    pub(crate) fn arrived_bytes(&self) -> u64 {
        self.state().arrived_bytes
    }

    /// Whether [`take`](Self::take) would give something.
    pub(crate) fn has_next(&self) -> bool {
        matches!(self.state().parts.front(), Some(Some(_)))
    }

    /// The next part, in order or as they come.
    pub(crate) fn take(&self) -> Option<Part<R>> {
        let mut state = self.state();
        if !matches!(state.parts.front(), Some(Some(_))) {
            return None;
        }
        state.first += 1;
        state.parts.pop_front().flatten()
    }

    /// Nobody will take anything more.
    pub(crate) fn abandon(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }

    fn put(&self, portion: Portion, results: Part<R>) {
        let mut state = self.state();
        state.arrived += 1;
        state.arrived_bytes += portion.bytes;
        if !self.ordered {
            state.parts.push_back(Some(results));
            return;
        }
        let Some(at) = portion.part.checked_sub(state.first) else { return };
        let at = at as usize;
        if at >= state.parts.len() {
            state.parts.resize_with(at + 1, || None);
        }
        state.parts[at] = Some(results);
    }
}

impl<R: Decode + Send> Job for Inbox<R> {
    fn deliver(&self, portion: Portion, decoder: &mut Decoder<'_>) -> bool {
        let results = Part::decode(portion.items, decoder);
        let success = results.is_success();
        self.put(portion, results);
        success
    }

    fn lose(&self, portion: Portion, error: Error, loss: &Loss) {
        let others = (1..portion.items).map(|_| Err(loss.error()));
        let results = std::iter::once(Err(error)).chain(others).collect();
        self.put(portion, Part::Mixed(results));
    }

    fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed)
    }
}

/// A `map` whose result is taken as a whole.
pub(crate) struct Batch<R> {
    pub(crate) inbox: Inbox<R>,
    /// How many parts there are, once that is known.
    parts: OnceLock<u64>,
    pub(crate) whole: Arc<Single<Vec<R>>>,
}

impl<R> Batch<R> {
    pub(crate) fn new() -> Batch<R> {
        let (inbox, whole) = (Inbox::new(true), Arc::new(Single::new()));
        Batch { inbox, parts: OnceLock::new(), whole }
    }

    /// No further part was handed out.
    pub(crate) fn seal(&self, parts: u64) {
        let _ = self.parts.set(parts);
        self.complete_if_all_are_here();
    }

    fn complete_if_all_are_here(&self) {
        if self.parts.get() != Some(&self.inbox.arrived()) || self.whole.is_here() {
            return;
        }
        let mut values = Vec::new();
        let mut outcome = Ok(());
        while let Some(part) = self.inbox.take() {
            if outcome.is_ok() {
                outcome = part.append_to(&mut values);
            }
        }
        self.whole.complete(outcome.map(|()| values));
    }
}

impl<R: Decode + Send> Job for Batch<R> {
    fn deliver(&self, portion: Portion, decoder: &mut Decoder<'_>) -> bool {
        let success = self.inbox.deliver(portion, decoder);
        self.complete_if_all_are_here();
        success
    }

    fn lose(&self, portion: Portion, error: Error, loss: &Loss) {
        self.inbox.lose(portion, error, loss);
        self.complete_if_all_are_here();
    }

    fn is_unwanted(&self) -> bool {
        self.whole.has_no_use()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Payload;

    fn deliver(inbox: &Inbox<u32>, part: u64, values: &[u32]) {
        let mut payload = Payload::default();
        payload.push(&true).unwrap();
        payload.push(values).unwrap();
        let portion = Portion { part, items: values.len(), bytes: 10 };
        inbox.deliver(portion, &mut Decoder::new(&payload.bytes, &mut payload.fds));
    }

    fn taken(inbox: &Inbox<u32>) -> Option<Vec<u32>> {
        inbox.take().map(|part| {
            let mut values = Vec::new();
            part.append_to(&mut values).unwrap();
            values
        })
    }

    #[test]
    fn an_ordered_inbox_gives_parts_in_order_and_another_as_they_come() {
        let (ordered, loose) = (Inbox::new(true), Inbox::new(false));
        for inbox in [&ordered, &loose] {
            deliver(inbox, 1, &[3]);
            assert_eq!((inbox.arrived(), inbox.arrived_bytes()), (1, 10));
        }
        assert_eq!(taken(&ordered), None);
        assert_eq!(taken(&loose), Some(vec![3]));
        deliver(&ordered, 0, &[1, 2]);
        assert_eq!((taken(&ordered), taken(&ordered)), (Some(vec![1, 2]), Some(vec![3])));
    }

    #[test]
    fn a_lost_part_is_an_error_for_each_of_its_tasks() {
        let inbox = Inbox::<u32>::new(true);
        let portion = Portion { part: 0, items: 3, bytes: 0 };
        inbox.lose(portion, Error::PoolClosed, &Loss::PoolClosed);
        let part = inbox.take().unwrap();
        let Part::Mixed(results) = part else { panic!("{part:?}") };
        assert_eq!(results.len(), 3);
        assert!(results.iter().all(|result| matches!(result, Err(Error::PoolClosed))));
    }

    #[test]
    fn a_result_is_taken_once() {
        let single = Single::<u32>::new();
        assert!(matches!(single.take(), Err(Error::TimeoutError)));
        let mut payload = Payload::of(&7u32).unwrap();
        let portion = Portion { part: 0, items: 1, bytes: 4 };
        single.deliver(portion, &mut Decoder::new(&payload.bytes, &mut payload.fds));
        assert_eq!(single.is_success(), Some(true));
        assert_eq!(single.take().unwrap(), 7);
        assert!(matches!(single.take(), Err(Error::Taken)));
        assert_eq!(single.is_success(), Some(true));
    }
}
