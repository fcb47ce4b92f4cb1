//! Waiting, under a lock, for what others change.

use super::slot::Slot;
use super::{Lock, RLock, owner_text};
use crate::region::{RawLock, RawLockGuard, Shared};
use crate::sys::futex::{self, Op};
use crate::sys::process;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::marker::PhantomData;
use std::mem::forget;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::Duration;

/// How many may wait at a time.
const WAITERS: usize = 240;

/// Who waits joins a queue that has no wake-up pending, so that nobody who comes later takes one meant
/// for those who are there. More than one is in use only while woken ones have not come to run yet.
const QUEUES: usize = 8;

crate::shared! {
    /// One of the queues. The one at its head, who holds the turn, sleeps on `pending`; the others
    /// wait for the turn, which the kernel passes on when its holder dies.
    struct Waiters {
        turn: RawLock,
        /// Wake-ups that nobody has taken yet. It grows when notified, by one system call that wakes
        /// the head too, and shrinks when one takes a wake-up; all under the condition's lock.
        pending: AtomicU32,
        /// 1 while the head has taken a wake-up and not passed the turn on yet. If it dies so, its heir
        /// has a wake-up that nobody acted on.
        taking: AtomicU32,
    }

    /// Everything here changes under the condition's lock, but for the kernel's part.
    struct State {
        /// Where notifying begins to look, so that every queue comes to its turn.
        next: AtomicU32,
        /// The slots from here on were never used.
        used: AtomicU32,
        queues: [Waiters; QUEUES],
        /// Whoever waits holds one, for as long as it does; `mark` is its queue's number plus 1.
        slots: [Slot; WAITERS],
    }
}

impl State {
    const fn new() -> State {
        let (next, used) = (AtomicU32::new(0), AtomicU32::new(0));
        let slots = [const { Slot::new() }; WAITERS];
        State { next, used, queues: [const { Waiters::new() }; QUEUES], slots }
    }

    /// How many wait in each queue. The dead do not count.
    fn waiters(&self) -> [u32; QUEUES] {
        let mut counts = [0; QUEUES];
        let used = WAITERS.min(self.used.load(Relaxed) as usize);
        for slot in self.slots[..used].iter().filter(|slot| slot.is_alive()) {
            let queue = (slot.mark.load(Relaxed) as usize).wrapping_sub(1);
            if let Some(count) = counts.get_mut(queue) {
                *count += 1;
            }
        }
        counts
    }

    /// A slot for one who is going to wait.
    fn free_slot(&self) -> Result<(&Slot, RawLockGuard<'_>)> {
        for (place, slot) in self.slots.iter().enumerate() {
            if slot.is_alive() {
                continue;
            }
            if let Some(guard) = slot.lock.try_acquire()? {
                self.used.fetch_max(place as u32 + 1, Relaxed);
                return Ok((slot, guard));
            }
        }
        Err(Error::overflow("waiters of a condition"))
    }

    /// A queue in which no wake-up is pending for somebody.
    fn quiet_queue(&self) -> Option<usize> {
        let waiters = self.waiters();
        (0..QUEUES).find(|&queue| self.queues[queue].settle_pending(waiters[queue]) == 0)
    }

    fn notify(&self, mut left: u32) -> Result<()> {
        let waiters = self.waiters();
        let first = self.next.load(Relaxed) as usize % QUEUES;
        for queue in (first..QUEUES).chain(0..first) {
            let pending = self.queues[queue].settle_pending(waiters[queue]);
            let more = left.min(waiters[queue] - pending);
            if more > 0 {
                self.queues[queue].wake(more)?;
                left -= more;
                self.next.store(queue as u32 + 1, Relaxed);
            }
        }
        Ok(())
    }
}

impl Waiters {
    const fn new() -> Waiters {
        let (pending, taking) = (AtomicU32::new(0), AtomicU32::new(0));
        Waiters { turn: RawLock::new(), pending, taking }
    }

    /// The pending wake-ups, of which there are no more than there are waiters: those of the dead go.
    fn settle_pending(&self, waiters: u32) -> u32 {
        let pending = self.pending.load(Relaxed);
        if pending > waiters {
            self.pending.store(waiters, Relaxed);
        }
        pending.min(waiters)
    }

    fn wake(&self, count: u32) -> Result<()> {
        // `count` is no more than `WAITERS`, which the call has room for.
        futex::wake_op(&self.pending, Op::Add, count as i32, 1).map_err(Error::os("futex"))?;
        Ok(())
    }

    /// Waits for the turn and, with it, for a wake-up; `None` if the deadline passes before the turn.
    fn sleep(&self, deadline: Deadline) -> Result<Option<RawLockGuard<'_>>> {
        let Some(turn) = self.turn.acquire_until(deadline)? else { return Ok(None) };
        let inherited = turn.owner_died() && self.taking.load(Relaxed) != 0;
        while !inherited && self.pending.load(SeqCst) == 0 {
            if !futex::wait(&self.pending, 0, deadline).map_err(Error::os("futex"))? {
                break;
            }
        }
        Ok(Some(turn))
    }

    /// Takes a wake-up, by the holder of the turn and of the condition's lock.
    fn take(&self, turn: &RawLockGuard<'_>) -> bool {
        let inherited = turn.owner_died() && self.taking.load(Relaxed) != 0;
        let pending = self.pending.load(Relaxed);
        if pending > 0 {
            self.taking.store(1, Relaxed);
            self.pending.store(pending - 1, SeqCst);
        }
        inherited || pending > 0
    }

    /// Takes a wake-up without the turn, if there are more than the `waiters` beside the caller need.
    fn take_surplus(&self, waiters: u32) -> bool {
        let pending = self.pending.load(Relaxed);
        let surplus = pending >= waiters && pending > 0;
        if surplus {
            self.pending.store(pending - 1, SeqCst);
        }
        surplus
    }
}

/// The lock of a condition, held without a guard.
#[derive(Clone)]
enum Under {
    Lock(Lock),
    RLock(RLock),
}

impl Under {
    /// Whether the last holder died; `None` if the deadline passes.
    fn acquire_until(&self, deadline: Deadline) -> Result<Option<bool>> {
        match self {
            Under::Lock(lock) => {
                let Some(guard) = lock.shared().acquire_until(deadline)? else { return Ok(None) };
                let owner_died = guard.owner_died();
                forget(guard);
                Ok(Some(owner_died))
            }
            Under::RLock(lock) => {
                let Some(guard) = lock.acquire_until(deadline)? else { return Ok(None) };
                let owner_died = guard.owner_died();
                forget(guard);
                Ok(Some(owner_died))
            }
        }
    }

    fn try_acquire(&self) -> Result<Option<bool>> {
        match self {
            Under::Lock(lock) => {
                let Some(guard) = lock.shared().try_acquire()? else { return Ok(None) };
                let owner_died = guard.owner_died();
                forget(guard);
                Ok(Some(owner_died))
            }
            Under::RLock(lock) => {
                let Some(guard) = lock.try_acquire()? else { return Ok(None) };
                let owner_died = guard.owner_died();
                forget(guard);
                Ok(Some(owner_died))
            }
        }
    }

    fn release(&self) {
        match self {
            Under::Lock(lock) => lock.shared().release(process::id()),
            Under::RLock(lock) => lock.release(),
        }
    }

    /// Releases the lock altogether, and gives how often it was held.
    fn release_all(&self) -> u32 {
        match self {
            Under::Lock(lock) => {
                lock.shared().release(process::id());
                1
            }
            Under::RLock(lock) => lock.release_all(),
        }
    }

    /// Acquires the lock as often as it was released, and gives whether a holder died meanwhile.
    fn restore(&self, depth: u32) -> Result<bool> {
        match self {
            Under::Lock(lock) => {
                let guard = lock.shared().acquire()?;
                let owner_died = guard.owner_died();
                forget(guard);
                Ok(owner_died)
            }
            Under::RLock(lock) => lock.restore(depth),
        }
    }
}

/// Lets those who hold a lock wait for others to change what it protects.
///
/// Acquiring the condition acquires its lock: its own, which is an [`RLock`], or one that was given. Its
/// guard [`wait`](ConditionGuard::wait)s, which releases the lock meanwhile, and
/// [`notify`](ConditionGuard::notify)s those who do. A clone is the same condition, and so is what
/// another process receives.
///
/// # If a process dies
/// One that is killed while it waits leaves no trace: it is not counted when somebody notifies, and if
/// it was being woken already, the next who waits is woken in its stead. Notifying never waits for those
/// who are woken. Of a killed holder the lock tells, by [`owner_died`](ConditionGuard::owner_died).
///
/// # Differences from Python
/// In Python a killed waiter makes a later `notify` hang. Waiting without the lock does not compile.
/// [`wait`](ConditionGuard::wait) may return without having been notified if another waiter was
/// killed at the wrong moment: look again, as [`wait_for`](ConditionGuard::wait_for) does. At most 240
/// wait at a time.
///
/// # Examples
/// ```
/// use multiproc::{Condition, Value};
///
/// let (condition, number) = (Condition::new()?, Value::new(0)?);
/// let clones = (condition.clone(), number.clone());
/// let thread = std::thread::spawn(move || {
///     let guard = clones.0.acquire()?;
///     clones.1.set(4)?;
///     guard.notify_all()
/// });
/// let mut guard = condition.acquire()?;
/// guard.wait_for(|| number.get().is_ok_and(|n| n == 4))?;
/// # drop(guard);
/// # thread.join().unwrap()?;
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct Condition {
    under: Under,
    state: Shared<State>,
}

impl Condition {
    /// Makes a condition with an [`RLock`] of its own.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM) or a descriptor (EMFILE).
    pub fn new() -> Result<Condition> {
        Condition::under(Under::RLock(RLock::new()?))
    }

    /// Makes a condition of what `lock` protects. Several conditions may share a lock.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_lock(lock: &Lock) -> Result<Condition> {
        Condition::under(Under::Lock(lock.clone()))
    }

    /// Makes a condition of what `lock` protects. Several conditions may share a lock.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_rlock(lock: &RLock) -> Result<Condition> {
        Condition::under(Under::RLock(lock.clone()))
    }

    fn under(under: Under) -> Result<Condition> {
        Ok(Condition { under, state: Shared::new(State::new())? })
    }

    /// Blocks until the calling thread holds the condition's lock.
    ///
    /// # Blocking
    /// Waits without limit; [`acquire_timeout`](Self::acquire_timeout) bounds it,
    /// [`try_acquire`](Self::try_acquire) does not wait.
    ///
    /// # Errors
    /// * [`Error::Deadlock`]: the calling thread holds it already, and it is a [`Lock`].
    /// * [`Error::Corrupt`]: its memory was scribbled over.
    pub fn acquire(&self) -> Result<ConditionGuard<'_>> {
        self.acquire_until(Deadline::NEVER)?.ok_or(Error::TimeoutError)
    }

    /// Acquires the condition's lock if nobody else holds it; `None` if somebody does.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: its memory was scribbled over.
    pub fn try_acquire(&self) -> Result<Option<ConditionGuard<'_>>> {
        Ok(self.under.try_acquire()?.map(|owner_died| self.guard(owner_died)))
    }

    /// Blocks until the calling thread holds the condition's lock; `None` if `timeout` passes first.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<ConditionGuard<'_>>> {
        self.acquire_until(Deadline::after(timeout))
    }

    fn acquire_until(&self, deadline: Deadline) -> Result<Option<ConditionGuard<'_>>> {
        Ok(self.under.acquire_until(deadline)?.map(|owner_died| self.guard(owner_died)))
    }

    fn guard(&self, owner_died: bool) -> ConditionGuard<'_> {
        let pid = process::id();
        ConditionGuard { condition: self, pid, held: true, owner_died, not_send: PhantomData }
    }
}

impl fmt::Debug for Condition {
    /// The lock, and how many wait.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiters: u32 = self.state.waiters().iter().sum();
        match &self.under {
            Under::Lock(lock) => {
                write!(f, "<Condition(<Lock(owner={})>, {waiters})>", owner_text(lock.shared()))
            }
            Under::RLock(lock) => write!(f, "<Condition({lock:?}, {waiters})>"),
        }
    }
}

impl Encode for Condition {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        match &self.under {
            Under::Lock(lock) => {
                encoder.bytes(&[0]);
                lock.encode(encoder);
            }
            Under::RLock(lock) => {
                encoder.bytes(&[1]);
                lock.encode(encoder);
            }
        }
        self.state.encode(encoder);
    }
}

impl Decode for Condition {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Condition> {
        let under = match decoder.bytes(1)? {
            [0] => Under::Lock(Lock::decode(decoder)?),
            [1] => Under::RLock(RLock::decode(decoder)?),
            other => return Err(Error::decode(format!("{other:?} in the place of a lock's kind"))),
        };
        Ok(Condition { under, state: Shared::decode(decoder)? })
    }
}

/// Holds a [`Condition`]'s lock until it is dropped, but for the time it waits.
///
/// It stays on the thread that acquired the lock. A copy made by `fork` releases nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ConditionGuard<'a> {
    condition: &'a Condition,
    /// The process that acquired the lock: in a forked child, the guard is a copy of another's.
    pid: u32,
    /// False after the lock could not be acquired again.
    held: bool,
    owner_died: bool,
    not_send: PhantomData<*const ()>,
}

impl ConditionGuard<'_> {
    /// Whether the lock's last holder was killed, before it was acquired or during a wait.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Releases the lock, blocks until notified, and acquires the lock again, as often as it was held;
    /// always true.
    ///
    /// # Blocking
    /// Waits without limit; signals do not end the wait. [`wait_timeout`](Self::wait_timeout) bounds
    /// it, but for the time it takes to get the lock again.
    ///
    /// # If a process dies
    /// If another waiter is killed when it has been woken but has not returned yet, this one may return
    /// instead, without having been notified.
    ///
    /// # Errors
    /// * [`Error::Overflow`]: 240 wait already.
    /// * [`Error::ForeignProcess`]: the guard is a copy made by `fork`.
    /// * [`Error::Corrupt`]: the memory of the lock or the condition was scribbled over.
    pub fn wait(&mut self) -> Result<bool> {
        self.wait_until(Deadline::NEVER)
    }

    /// Releases the lock, blocks until notified, and acquires the lock again; false if `timeout`
    /// passes first.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<bool> {
        self.wait_until(Deadline::after(timeout))
    }

    /// Waits until `predicate`, called under the lock, says yes; always true.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_for(&mut self, predicate: impl FnMut() -> bool) -> Result<bool> {
        self.wait_for_until(predicate, Deadline::NEVER)
    }

    /// Waits until `predicate`, called under the lock, says yes; false if `timeout` passes first.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_for_timeout(
        &mut self,
        predicate: impl FnMut() -> bool,
        timeout: Duration,
    ) -> Result<bool> {
        self.wait_for_until(predicate, Deadline::after(timeout))
    }

    fn wait_for_until(
        &mut self,
        mut predicate: impl FnMut() -> bool,
        deadline: Deadline,
    ) -> Result<bool> {
        loop {
            if predicate() {
                return Ok(true);
            }
            if deadline.has_passed() {
                return Ok(false);
            }
            self.wait_until(deadline)?;
        }
    }

    fn wait_until(&mut self, deadline: Deadline) -> Result<bool> {
        self.check_own()?;
        let state = &self.condition.state;
        let Some(place) = state.quiet_queue() else {
            // Woken ones in every queue: let them come to run, and return as if woken.
            let depth = self.condition.under.release_all();
            thread::yield_now();
            return self.hold_again(depth).map(|()| true);
        };
        let queue = &state.queues[place];
        let (slot, _alive) = state.free_slot()?;
        slot.mark.store(place as u32 + 1, Relaxed);
        loop {
            let depth = self.condition.under.release_all();
            let turn = queue.sleep(deadline);
            self.hold_again(depth)?;
            let turn = turn?;
            let over = deadline.has_passed();
            let woken = match &turn {
                Some(turn) => queue.take(turn),
                // One that was woken in time and only lacked the turn.
                None => queue.take_surplus(state.waiters()[place]),
            };
            if woken || over {
                slot.mark.store(0, Relaxed);
            }
            if turn.is_some() {
                queue.taking.store(0, Relaxed);
            }
            drop(turn);
            if woken || over {
                return Ok(woken);
            }
        }
    }

    fn hold_again(&mut self, depth: u32) -> Result<()> {
        self.held = false;
        self.owner_died |= self.condition.under.restore(depth)?;
        self.held = true;
        Ok(())
    }

    /// Wakes up to `count` of those who wait. More than there are is as well.
    ///
    /// They go on when this guard is dropped. Nobody is waited for.
    ///
    /// # Errors
    /// * [`Error::ForeignProcess`]: the guard is a copy made by `fork`.
    pub fn notify(&self, count: u32) -> Result<()> {
        self.check_own()?;
        self.condition.state.notify(count)
    }

    /// Wakes all who wait.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    pub fn notify_all(&self) -> Result<()> {
        self.notify(u32::MAX)
    }

    fn check_own(&self) -> Result<()> {
        if self.held && self.pid == process::id() { Ok(()) } else { Err(Error::ForeignProcess) }
    }
}

impl fmt::Debug for ConditionGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConditionGuard").field("owner_died", &self.owner_died).finish()
    }
}

impl Drop for ConditionGuard<'_> {
    fn drop(&mut self) {
        if self.check_own().is_ok() {
            self.condition.under.release();
        }
    }
}
