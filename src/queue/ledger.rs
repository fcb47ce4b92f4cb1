//! What the processes of a `JoinableQueue` share beside its ring: who has taken items that are not done.

use super::turn::take_turn;
use crate::region::{RawLock, RawLockGuard};
use crate::sys::time::Deadline;
use crate::sys::{self, poll, process};
use crate::{Error, Result};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Processes whose items are accounted for at the same time; those of any further one are not.
const SLOTS: usize = 128;

/// How often a join looks whether those who have items are still there.
const LOOK: Duration = Duration::from_millis(50);

crate::shared! {
    /// The ledger.
    pub(super) struct Ledger {
        /// Held by who changes `done`, or gives a slot to a process or takes it away.
        lock: RawLock,
        /// How many items are done, as far as 32 bits go: the futex that joins sleep on.
        done: AtomicU32,
        /// The slot, counted from 1, of the last who was about to take an item. Written under the
        /// consumers' turn, before the slot's account.
        last: AtomicU32,
        /// While slots of the dead are cleared: 1 above, and below what `done` is to be. Written under the lock.
        burial: AtomicU64,
        slots: [Slot; SLOTS],
    }

    /// A process that gets items.
    pub(super) struct Slot {
        /// 0 if it is nobody's, `DEAD` if its items are being reported.
        pid: AtomicU32,
        padding: AtomicU32,
        account: AtomicU64,
    }
}

/// How many items a process has, and of those that it was about to take last the number of the first and
/// how many they are: in one word, so that they change as one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Account(u64);

impl Account {
    const OWED_BITS: u32 = 24;
    const OWED: u64 = (1 << Self::OWED_BITS) - 1;
    const LAST_BITS: u32 = 12;
    const LAST: u64 = (1 << Self::LAST_BITS) - 1;
    const NUMBER: u64 = u64::MAX >> (Self::OWED_BITS + Self::LAST_BITS);
    const EMPTY: Account = Account(0);

    fn owed(self) -> u64 {
        self.0 & Self::OWED
    }

    /// How many it was about to take; 0 if that is settled.
    fn last(self) -> u64 {
        self.0 >> Self::OWED_BITS & Self::LAST
    }

    fn is_about(self, number: u64) -> bool {
        self.last() > 0 && self.0 >> (Self::OWED_BITS + Self::LAST_BITS) == number & Self::NUMBER
    }

    /// With `count` more items, the first of which is `number`.
    fn with(self, number: u64, count: u64) -> Account {
        let owed = (self.owed() + count).min(Self::OWED);
        let last = count.min(Self::LAST) << Self::OWED_BITS;
        Account((number & Self::NUMBER) << (Self::OWED_BITS + Self::LAST_BITS) | last | owed)
    }

    /// With one item less.
    fn less(self) -> Option<Account> {
        (self.owed() > 0).then(|| Account(self.0 - 1))
    }

    /// Without the last items, which were not taken.
    fn without_last(self) -> Account {
        Account(self.owed().saturating_sub(self.last()))
    }
}

impl Slot {
    const DEAD: u32 = u32::MAX;

    const fn free() -> Slot {
        let account = AtomicU64::new(Account::EMPTY.0);
        Slot { pid: AtomicU32::new(0), padding: AtomicU32::new(0), account }
    }

    /// Changes the account as one; says whether `change` had a change to make.
    fn change(&self, change: impl Fn(Account) -> Option<Account>) -> bool {
        let order = Ordering::SeqCst;
        self.account.fetch_update(order, order, |word| Some(change(Account(word))?.0)).is_ok()
    }

    fn account(&self) -> Account {
        Account(self.account.load(Ordering::SeqCst))
    }

    /// Whether its process has ended.
    fn is_dead(&self) -> Result<bool> {
        let pid = self.pid.load(Ordering::SeqCst);
        if pid == Self::DEAD {
            return Ok(true);
        }
        match process::pidfd_open(pid) {
            Ok(pidfd) => {
                poll::wait_readable(pidfd.as_fd(), Deadline::now()).map_err(Error::os("ppoll"))
            }
            Err(error) => match error.raw_os_error() {
                Some(sys::ESRCH) => Ok(true),
                // No process, or the number is that of a thread now, which later kernels say by ENOENT.
                Some(sys::EINVAL | sys::ENOENT) => Ok(pid != 0),
                _ => Err(Error::os("pidfd_open")(error)),
            },
        }
    }
}

impl Ledger {
    pub(super) const fn new() -> Ledger {
        Ledger {
            lock: RawLock::new(),
            done: AtomicU32::new(0),
            last: AtomicU32::new(0),
            burial: AtomicU64::new(0),
            slots: [const { Slot::free() }; SLOTS],
        }
    }

    fn lock(&self) -> Result<RawLockGuard<'_>> {
        self.lock_until(Deadline::NEVER)?.ok_or(Error::TimeoutError)
    }

    fn lock_until(&self, deadline: Deadline) -> Result<Option<RawLockGuard<'_>>> {
        let lock = take_turn(&self.lock, deadline, || Ok(false))?;
        if let Some(lock) = lock.as_ref().filter(|lock| lock.owner_died()) {
            self.finish_burial(lock)?;
        }
        Ok(lock)
    }

    /// The place of this process, counted from 0; `None` if there are too many of them.
    pub(super) fn enter(&self) -> Result<Option<usize>> {
        let _lock = self.lock()?;
        let mut free = None;
        for (place, slot) in self.slots.iter().enumerate() {
            let pid = slot.pid.load(Ordering::SeqCst);
            if pid == process::id() {
                return Ok(Some(place));
            }
            if free.is_none() && (pid == 0 || slot.account().owed() == 0 && slot.is_dead()?) {
                free = Some(place);
            }
        }
        if let Some(place) = free {
            self.slots[place].account.store(Account::EMPTY.0, Ordering::SeqCst);
            self.slots[place].pid.store(process::id(), Ordering::SeqCst);
        }
        Ok(free)
    }

    /// Items that a process may take at once.
    pub(super) const MOST: usize = Account::LAST as usize;

    /// Notes that the process at `place` is about to take `count` items, the first of which is `number`. The
    /// caller has the consumers' turn.
    pub(super) fn claim(&self, place: Option<usize>, number: u64, count: u64) {
        // Whoever was about to take this very item before was killed, or failed, before it was taken.
        let last = self.last.load(Ordering::SeqCst) as usize;
        if let Some(last) = last.checked_sub(1).and_then(|last| self.slots.get(last)) {
            last.change(|account| account.is_about(number).then(|| account.without_last()));
        }
        if let Some(slot) = place.and_then(|place| self.slots.get(place)) {
            self.last.store(place.map_or(0, |place| place as u32 + 1), Ordering::SeqCst);
            slot.change(|account| Some(account.with(number, count)));
        }
    }

    /// One of the `put` items is done, one of those at `place` first of all.
    pub(super) fn task_done(&self, place: Option<usize>, put: u64) -> Result<()> {
        let lock = self.lock()?;
        if self.done.load(Ordering::SeqCst) == put as u32 {
            return Err(Error::invalid("task_done was called more often than items were put"));
        }
        self.count_done(&lock, 1)?;
        if let Some(slot) = place.and_then(|place| self.slots.get(place)) {
            slot.change(Account::less);
        }
        Ok(())
    }

    /// Counts and wakes in one system call, which no SIGKILL can split.
    fn count_done(&self, _lock: &RawLockGuard<'_>, mut items: u64) -> Result<()> {
        const MOST: u64 = 2000;
        // A million calls would be a number that was scribbled.
        items = items.min(1 << 31);
        while items > 0 {
            let some = items.min(MOST);
            sys::futex::wake_op(&self.done, sys::futex::Op::Add, some as i32, i32::MAX)
                .map_err(Error::os("futex"))?;
            items -= some;
        }
        Ok(())
    }

    /// Waits until all that was put is done. `put` and `taken` say how many items were so far.
    pub(super) fn join(
        &self,
        deadline: Deadline,
        put: impl Fn() -> Result<u64>,
        taken: impl Fn() -> Result<u64>,
    ) -> Result<()> {
        loop {
            let done = self.done.load(Ordering::SeqCst);
            if done == put()? as u32 {
                return Ok(());
            }
            self.report_the_dead(deadline, &put, &taken)?;
            if deadline.has_passed() {
                return Err(Error::TimeoutError);
            }
            let look = deadline.min(Deadline::after(LOOK));
            sys::futex::wait(&self.done, done, look).map_err(Error::os("futex"))?;
        }
    }

    /// Fails if processes that have ended have items that are not done, and counts these as done.
    fn report_the_dead(
        &self,
        deadline: Deadline,
        put: impl Fn() -> Result<u64>,
        taken: impl Fn() -> Result<u64>,
    ) -> Result<()> {
        let has_items = |slot: &&Slot| slot.account().owed() > 0;
        if !self.slots.iter().any(|slot| has_items(&slot)) {
            return Ok(());
        }
        let Some(lock) = self.lock_until(deadline)? else { return Ok(()) };
        let mut items = 0;
        for slot in self.slots.iter().filter(has_items) {
            if !slot.is_dead()? {
                continue;
            }
            slot.pid.store(Slot::DEAD, Ordering::SeqCst);
            // In this order: who takes the item that a dead process was about to take says so before it does.
            let taken = taken()?;
            let account = slot.account();
            let account = if account.is_about(taken) { account.without_last() } else { account };
            items += account.owed();
        }
        // No more than there are: another may have said that they are done in a dead process's place.
        let done = self.done.load(Ordering::SeqCst);
        let items = items.min((put()? as u32).wrapping_sub(done).into());
        let target = done.wrapping_add(items as u32);
        self.burial.store(1 << 32 | u64::from(target), Ordering::SeqCst);
        self.finish_burial(&lock)?;
        if items > 0 { Err(Error::ItemsLost { items }) } else { Ok(()) }
    }

    /// Counts the items of the dead as done and gives their slots back, also in place of somebody who was
    /// killed when he did that.
    fn finish_burial(&self, lock: &RawLockGuard<'_>) -> Result<()> {
        let burial = self.burial.load(Ordering::SeqCst);
        if burial >> 32 == 0 {
            return Ok(());
        }
        let left = (burial as u32).wrapping_sub(self.done.load(Ordering::SeqCst));
        self.count_done(lock, left.into())?;
        for slot in self.slots.iter().filter(|slot| slot.pid.load(Ordering::SeqCst) == Slot::DEAD) {
            slot.account.store(Account::EMPTY.0, Ordering::SeqCst);
            slot.pid.store(0, Ordering::SeqCst);
        }
        self.burial.store(0, Ordering::SeqCst);
        Ok(())
    }

    /// How many of the `put` items are not done.
    pub(super) fn unfinished(&self, put: u64) -> usize {
        (put as u32).wrapping_sub(self.done.load(Ordering::SeqCst)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_counts_and_takes_back_the_last() {
        let account = Account::EMPTY.with(7, 1).with(u64::MAX, 1);
        assert_eq!(account.owed(), 2);
        assert!(!account.is_about(8));
        let account = account.less().unwrap().with(9, 3);
        assert!(account.is_about(9) && account.owed() == 4);
        let account = account.without_last();
        assert!(!account.is_about(9) && account.owed() == 1);
        assert!(account.less().unwrap().less().is_none());
        assert!(!Account::EMPTY.is_about(0));
        assert!(Account::EMPTY.with(u64::MAX, 1).is_about(u64::MAX));
    }
}
