//! A worker: takes tasks, runs them, hands the results over.
//!
//! What a worker does is noted in its slot of shared memory. The note of a task is made just before the
//! task is taken, and erased after its result was put: a worker that is killed in between is known to
//! have had that task, and one that is killed elsewhere is known to have had none.

use super::revoked::Revoked;
use crate::codec::Payload;
use crate::process::panics::{self, Report};
use crate::process::target::{Entry, EntryPoint, Location, Target, instance};
use crate::queue::Ring;
use crate::sys::signal;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Error, Result, Shared, sys};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

crate::shared! {
    /// What one worker does. Written by the worker, read by the pool.
    pub(crate) struct Slot {
        /// One more than the number of the task it has; zero while it has none. With [`DOOMED`], it
        /// takes no other.
        claim: AtomicU64,
        /// When it took the task, in nanoseconds of the monotonic clock.
        since: AtomicU64,
        /// How many tasks it has finished.
        finished: AtomicU64,
        /// 1 once it waits for its first task.
        ready: AtomicU64,
        /// Keeps each worker's words in a cache line of their own.
        _line: [AtomicU64; 4],
    }
}

/// In a claim: the pool is about to end the worker.
const DOOMED: u64 = 1 << 63;

/// As many slots as fill a page, its header apart.
pub(crate) const SLOTS: usize = 63;

/// A page of slots.
pub(crate) type Slots = [Slot; SLOTS];

impl Slot {
    pub(crate) const fn new() -> Slot {
        Slot {
            claim: AtomicU64::new(0),
            since: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            ready: AtomicU64::new(0),
            _line: [const { AtomicU64::new(0) }; 4],
        }
    }

    /// The task that the worker has, or had when it died.
    pub(crate) fn claim(&self) -> Option<u64> {
        // Acquire: pairs with `take`, so that who sees a task claimed sees what was done before.
        (self.claim.load(Ordering::Acquire) & !DOOMED).checked_sub(1)
    }

    pub(crate) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    /// How long the worker has had its task.
    pub(crate) fn since(&self) -> Duration {
        Duration::from_nanos(self.since.load(Ordering::Relaxed))
    }

    /// Whether it has come as far as waiting for a task.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) != 0
    }

    /// Has the worker take no other task than `task`; false if it does not have that any more.
    pub(crate) fn doom(&self, task: u64) -> bool {
        let claim = task.wrapping_add(1);
        // AcqRel: pairs with `release`, either side of which comes first. Twice is once.
        let doom =
            self.claim.compare_exchange(claim, claim | DOOMED, Ordering::AcqRel, Ordering::Acquire);
        doom.is_ok() || doom == Err(claim | DOOMED)
    }

    pub(crate) fn is_doomed(&self) -> bool {
        self.claim.load(Ordering::Relaxed) & DOOMED != 0
    }

    /// For the next worker.
    pub(crate) fn reset(&self) {
        self.finished.store(0, Ordering::Relaxed);
        self.ready.store(0, Ordering::Relaxed);
        self.claim.store(0, Ordering::Release);
    }

    fn note_ready(&self) {
        self.ready.store(1, Ordering::Relaxed);
    }

    fn take(&self, task: u64) {
        // First: whoever sees the claim sees since when.
        self.since.store(sys::time::monotonic().as_nanos() as u64, Ordering::Relaxed);
        self.claim.store(task.wrapping_add(1) & !DOOMED, Ordering::Release);
    }

    /// Erases the claim; false if the worker is to take no other task.
    fn release(&self) -> bool {
        let claim = self.claim.load(Ordering::Relaxed);
        if claim & DOOMED != 0 {
            return false;
        }
        // Release: whoever sees the claim gone sees the result that was put before.
        self.claim.compare_exchange(claim, 0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    fn note_end(&self) {
        // Relaxed: no one else writes it.
        self.finished.store(self.finished() + 1, Ordering::Relaxed);
    }
}

/// What stands at the front of a result message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    /// The task's result follows.
    Done = 0,
    /// The task could not give a result: the error follows.
    Failed = 1,
    /// The worker's initializer failed: the error follows; the task's number means nothing.
    Uninitialized = 2,
}

crate::message! {
    /// Everything a worker is given.
    pub(crate) struct Package {
        pub(crate) tasks: Ring,
        pub(crate) results: Ring,
        pub(crate) revoked: Revoked,
        pub(crate) slots: Shared<Slots>,
        pub(crate) slot: u32,
        pub(crate) limit: u64,
        pub(crate) initializer: Option<Call>,
    }

    /// A function with its arguments, encoded.
    #[derive(Debug)]
    pub(crate) struct Call {
        pub(crate) entry: Location,
        pub(crate) bytes: Vec<u8>,
        pub(crate) fds: Vec<std::os::fd::OwnedFd>,
    }
}

/// What a worker works with.
pub(crate) struct Place<'a> {
    pub(crate) tasks: &'a Ring,
    pub(crate) results: &'a Ring,
    pub(crate) revoked: &'a Revoked,
    pub(crate) slot: &'a Slot,
    pub(crate) limit: u64,
    /// Or why it cannot be called.
    pub(crate) initializer: Result<Option<Call>>,
}

/// The life of a worker that is given all it needs.
pub(crate) fn work(package: Package) {
    let Package { tasks, results, revoked, slots, slot, limit, initializer } = package;
    let Some(slot) = slots.get(slot as usize) else { return };
    let (tasks, results, revoked) = (&tasks, &results, &revoked);
    work_at(Place { tasks, results, revoked, slot, limit, initializer: Ok(initializer) });
}

/// A worker's whole life.
pub(crate) fn work_at(place: Place<'_>) {
    // Ctrl-C reaches the whole foreground group; what becomes of the work is the parent's to say.
    let _ = signal::ignore(signal::SIGINT);
    // However the parent treats SIGTERM: its workers end by it.
    let _ = signal::reset(signal::SIGTERM);
    signal::set_mask(0);
    panics::remember(Report::Silently);
    let Place { tasks, results, revoked, slot, limit, initializer } = place;
    let mut result = Payload::default();
    if let Err(error) = initializer.and_then(|call| call.map_or(Ok(()), Call::run)) {
        let _ = report(results, u64::MAX, Tag::Uninitialized, Err(error), &mut result);
        return;
    }
    slot.note_ready();
    let mut task = Payload::default();
    let mut known = None;
    while limit == 0 || slot.finished() < limit {
        // Closed is the ordinary end; with any other error nothing can be done here, and the pool
        // learns of it as of every death.
        let Ok(number) = tasks.get(&mut task, Deadline::NEVER, |number| slot.take(number)) else {
            return;
        };
        if !revoked.is_revoked(number) {
            let outcome = run(&mut task, &mut known, &mut result);
            let tag = if outcome.is_ok() { Tag::Done } else { Tag::Failed };
            if report(results, number, tag, outcome, &mut result).is_err() {
                return;
            }
            slot.note_end();
        }
        if !slot.release() {
            return;
        }
    }
}

impl Call {
    fn run(self) -> Result<()> {
        let Call { entry, bytes, mut fds } = self;
        let entry = entry.resolve()?;
        let mut decoder = Decoder::new(&bytes, &mut fds);
        panics::catch(|| entry.run(&mut decoder, &mut Payload::default()))?
    }
}

/// Runs the task in `message`, its result going behind the header of `result`. `known` is the entry
/// point of the last one, most likely the same.
fn run(
    message: &mut Payload,
    known: &mut Option<(Location, &'static EntryPoint)>,
    result: &mut Payload,
) -> Result<()> {
    begin(result);
    let mut decoder = Decoder::new(&message.bytes, &mut message.fds);
    let location = Location::decode(&mut decoder)?;
    let entry = match *known {
        Some((last, entry)) if last == location => entry,
        _ => location.resolve()?,
    };
    *known = Some((location, entry));
    panics::catch(|| entry.run(&mut decoder, result))?
}

/// The task's number, and a tag.
pub(crate) const RESULT_HEADER: usize = 9;

/// Empties a result and leaves room for its header.
fn begin(result: &mut Payload) {
    /// Results of more bytes are not reason enough to keep the memory.
    const KEPT: usize = 4 << 20;
    result.fds.clear();
    result.bytes.clear();
    result.bytes.shrink_to(KEPT);
    result.bytes.resize(RESULT_HEADER, 0);
}

/// Hands over what became of a task: what is in `result`, or an error.
fn report(
    results: &Ring,
    task: u64,
    tag: Tag,
    outcome: Result<()>,
    result: &mut Payload,
) -> Result<()> {
    if let Err(error) = outcome {
        begin(result);
        // An error consists of numbers and text, which encode.
        let _ = result.push(&error);
    }
    result.bytes[..8].copy_from_slice(&task.to_le_bytes());
    result.bytes[8] = tag as u8;
    match results.put(result, Deadline::NEVER) {
        Ok(_) => Ok(()),
        Err(Error::Closed) => Err(Error::Closed),
        // Too long, no memory, no descriptors in flight: that is said in its place.
        Err(error) => {
            begin(result);
            let _ = result.push(&error);
            result.bytes[..8].copy_from_slice(&task.to_le_bytes());
            result.bytes[8] = Tag::Failed as u8;
            results.put(result, Deadline::NEVER).map(drop)
        }
    }
}

/// How an item of a chunk becomes arguments.
pub(crate) trait Apply<F, T, R>: 'static {
    fn call(function: F, item: T) -> R;
}

/// The item is the one argument: `map`.
pub(crate) struct Alone;

impl<F: Target<(T,), R>, T, R> Apply<F, T, R> for Alone {
    fn call(function: F, item: T) -> R {
        function.call((item,))
    }
}

/// The item is a tuple of arguments: `starmap`.
pub(crate) struct Unpacked;

impl<F: Target<T, R>, T, R> Apply<F, T, R> for Unpacked {
    fn call(function: F, item: T) -> R {
        function.call(item)
    }
}

/// The entry of a chunk of tasks: a vector of items in, and out what [`Part`](super::job::Part) reads.
pub(crate) struct Chunk<F, T, R, M>(PhantomData<fn(F, T, M) -> R>);

impl<F, T, R, M> Entry for Chunk<F, T, R, M>
where
    F: Copy + Send + Sync + 'static,
    T: Decode + 'static,
    R: Encode + 'static,
    M: Apply<F, T, R>,
{
    fn run(decoder: &mut Decoder<'_>, result: &mut Payload) -> Result<()> {
        let items = Vec::<T>::decode(decoder)?;
        let call = |item| panics::catch(|| M::call(instance::<F>(), item));
        let mut values = Vec::with_capacity(items.len());
        let mut items = items.into_iter();
        let mut failed = None;
        for item in items.by_ref() {
            match call(item) {
                Ok(value) => values.push(value),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let Some(error) = failed else { return push_all(result, &values) };
        // One that panics does not take the others with it.
        let before = values.into_iter().map(Ok);
        let after = items.map(call);
        push_each(result, before.chain([Err(error)]).chain(after))
    }
}

/// Every task has a value: they go as one vector, in one copy where they are plain numbers.
fn push_all<R: Encode>(result: &mut Payload, values: &Vec<R>) -> Result<()> {
    let before = result.bytes.len();
    result.push(&true)?;
    if result.push(values).is_ok() {
        return Ok(());
    }
    // One of them cannot be encoded: find out which.
    result.bytes.truncate(before);
    push_each(result, values.iter().map(Ok))
}

/// One by one, each with a word whether it is a value.
fn push_each<R: Encode>(
    result: &mut Payload,
    outcomes: impl Iterator<Item = Result<R>>,
) -> Result<()> {
    result.push(&false)?;
    for outcome in outcomes {
        let before = result.bytes.len();
        result.push(&true)?;
        if let Err(error) = outcome.and_then(|value| result.push(&value)) {
            result.bytes.truncate(before);
            result.push(&false)?;
            result.push(&error)?;
        }
    }
    Ok(())
}
