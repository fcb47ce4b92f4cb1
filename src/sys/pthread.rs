//! Robust, process-shared, error-checking pthread mutexes.
//!
//! glibc keeps the mutexes that a thread holds in a list threaded through the mutexes themselves and
//! known to the kernel, which at the thread's death marks each as ownerless and wakes one waiter. The
//! list is by address: a mapping must not go while a mutex in it is held (`region` sees to that).

use super::code_result;
use super::futex::Expected;
use super::time::Deadline;
use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};

/// How a mutex was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// As usual.
    Clean,
    /// The last holder died while it held the mutex; it is consistent again already.
    OwnerDied,
    /// It was not: somebody holds it (try), or the deadline passed (timed).
    No,
}

/// A robust process-shared mutex, in memory that several processes map.
#[repr(transparent)]
pub(crate) struct Mutex(UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>);

// SAFETY: a process-shared mutex is made to be used from any thread of any process; every operation
// is one call of the pthread library on it.
unsafe impl Send for Mutex {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mutex {}

/// What a robust mutex's futex word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u32);

impl State {
    /// The thread that holds the mutex, if one does: the kernel takes a dead thread's id away.
    #[inline]
    pub(crate) fn holder(self) -> Option<u32> {
        let tid = self.0 & libc::FUTEX_TID_MASK;
        (tid != 0 && self.0 & libc::FUTEX_OWNER_DIED == 0).then_some(tid)
    }

    /// Whether the next who asks gets the mutex.
    pub(crate) fn is_free(self) -> bool {
        self.0 == 0 || self.0 & libc::FUTEX_OWNER_DIED != 0
    }
}

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// glibc 2.30 and later. The libc crate does not declare it.
    fn pthread_mutex_clocklock(
        mutex: *mut libc::pthread_mutex_t,
        clock: libc::clockid_t,
        until: *const libc::timespec,
    ) -> i32;
}

/// Where a mutex keeps its futex word and its kind, counted in 32-bit words: part of the ABI of each
/// libc, which programs compiled against an older one rely on.
const FUTEX: usize = if cfg!(target_env = "gnu") { 0 } else { 1 };
const KIND: usize = match (cfg!(target_env = "gnu"), cfg!(target_pointer_width = "64")) {
    (true, true) => 4,
    (true, false) => 3,
    (false, _) => 0,
};

impl Mutex {
    /// A place for a mutex, to be [`init`](Self::init)ed where it will stay.
    pub(crate) const fn uninit() -> Mutex {
        Mutex(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    #[inline]
    fn as_ptr(&self) -> *mut libc::pthread_mutex_t {
        self.0.get().cast()
    }

    /// Makes this a robust, process-shared, error-checking mutex that nobody holds.
    ///
    /// # Safety
    /// * No other thread or process uses the mutex yet.
    pub(crate) unsafe fn init(&self) -> io::Result<()> {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: `attributes` is writable for one attribute object.
        code_result(unsafe { libc::pthread_mutexattr_init(attributes) })?;
        // SAFETY: `attributes` was initialised above, here and in the next two calls.
        code_result(unsafe {
            libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: as above.
        code_result(unsafe {
            libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST)
        })?;
        // SAFETY: as above.
        code_result(unsafe {
            libc::pthread_mutexattr_settype(attributes, libc::PTHREAD_MUTEX_ERRORCHECK)
        })?;
        // SAFETY: `attributes` is initialised; the mutex's bytes are writable and, by this function's
        // contract, nobody else's yet.
        let made = code_result(unsafe { libc::pthread_mutex_init(self.as_ptr(), attributes) });
        // SAFETY: initialised above and not used again.
        code_result(unsafe { libc::pthread_mutexattr_destroy(attributes) })?;
        made
    }

    /// One of the mutex's 32-bit words, which the libc and the kernel may change at any time.
    #[inline]
    fn word(&self, index: usize) -> &AtomicU32 {
        let word = self.as_ptr().cast::<u32>().wrapping_add(index);
        // SAFETY: `index` is one of the two constants above, so the word is inside the mutex and
        // aligned as it is; the libc accesses it as 32 bits too.
        unsafe { AtomicU32::from_ptr(word) }
    }

    /// Whether the mutex is of the kind that [`init`](Self::init) makes: the one part that never
    /// changes, and that decides what the libc does with the others.
    #[inline]
    pub(crate) fn is_intact(&self) -> bool {
        static WANTED: AtomicU32 = AtomicU32::new(0);
        #[cold]
        fn learn() -> u32 {
            let fresh = Mutex::uninit();
            // SAFETY: nobody else has seen the mutex.
            if unsafe { fresh.init() }.is_ok() {
                // Relaxed, here and below: whoever reads another value learns the same.
                WANTED.store(fresh.word(KIND).load(Ordering::Relaxed), Ordering::Relaxed);
            }
            WANTED.load(Ordering::Relaxed)
        }
        let wanted = match WANTED.load(Ordering::Relaxed) {
            0 => learn(),
            kind => kind,
        };
        self.word(KIND).load(Ordering::Relaxed) == wanted
    }

    /// Whether all of the kind's bytes are zero, as in a mutex that was never initialised.
    pub(crate) fn is_uninit(&self) -> bool {
        self.word(KIND).load(Ordering::Relaxed) == 0
    }

    /// The futex word, by the kernel's protocol for robust futexes: the holder's thread id, and
    /// whether somebody sleeps, and whether the last holder died.
    #[inline]
    pub(crate) fn state(&self) -> State {
        State(self.word(FUTEX).load(Ordering::Relaxed))
    }

    /// The futex word and what it holds for as long as the present holder keeps the mutex and nobody
    /// queues for it; `None` if nobody holds it.
    ///
    /// The holder's release, and the kernel at its death, wake one of those who sleep on the word: they
    /// go by the mark of waiters, which is set here as a waiter would.
    pub(crate) fn watch(&self) -> Option<Expected<'_>> {
        let word = self.word(FUTEX);
        let mut now = word.load(Ordering::Relaxed);
        loop {
            State(now).holder()?;
            let marked = now | libc::FUTEX_WAITERS;
            if now == marked {
                return Some((word, marked));
            }
            // Relaxed: the mark concerns the holder alone, which changes the same word when it goes.
            match word.compare_exchange(now, marked, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some((word, marked)),
                Err(other) => now = other,
            }
        }
    }

    /// Sorts every answer an acquiring call can give, for the plain, try and timed form alike.
    #[inline]
    fn sort(&self, code: i32) -> io::Result<Acquired> {
        if code == 0 { Ok(Acquired::Clean) } else { self.sort_unusual(code) }
    }

    #[cold]
    fn sort_unusual(&self, code: i32) -> io::Result<Acquired> {
        match code {
            libc::EBUSY | libc::ETIMEDOUT => Ok(Acquired::No),
            libc::EOWNERDEAD => {
                // SAFETY: (mutex-1) EOWNERDEAD also means that this thread holds the mutex now.
                let mended = code_result(unsafe { libc::pthread_mutex_consistent(self.as_ptr()) });
                if mended.is_err() {
                    // The word was scribbled over: whoever is refused must not hold the mutex.
                    let _ = self.unlock();
                }
                mended?;
                Ok(Acquired::OwnerDied)
            }
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// `pthread_mutex_trylock`. The holder itself gets EDEADLK or `No`, as the libc has it.
    #[inline]
    pub(crate) fn try_lock(&self) -> io::Result<Acquired> {
        // SAFETY: (mutex-1)
        self.sort(unsafe { libc::pthread_mutex_trylock(self.as_ptr()) })
    }

    /// `pthread_mutex_lock`, or its timed form on the monotonic clock. The holder gets EDEADLK.
    ///
    /// musl forgets the mutex that it is about to unlock before it wakes a waiter: killed in between, it
    /// leaves the waiter asleep beside a free mutex. There a wait without end is made of waits of a
    /// slice each, so that such a death costs one slice.
    pub(crate) fn lock(&self, deadline: Deadline) -> io::Result<Acquired> {
        match deadline.remaining() {
            None if cfg!(target_env = "gnu") => {
                // SAFETY: (mutex-1)
                self.sort(unsafe { libc::pthread_mutex_lock(self.as_ptr()) })
            }
            left => self.lock_within(left.unwrap_or(std::time::Duration::MAX)),
        }
    }

    #[cfg(target_env = "gnu")]
    fn lock_within(&self, left: std::time::Duration) -> io::Result<Acquired> {
        let clock = libc::CLOCK_MONOTONIC;
        let until = super::time::timespec(super::time::clock(clock).saturating_add(left));
        // SAFETY: (mutex-1) `until` outlives the call.
        self.sort(unsafe { pthread_mutex_clocklock(self.as_ptr(), clock, &until) })
    }

    /// musl has no timed form on the monotonic clock, so who waits sleeps on the futex word here, by the
    /// same protocol: it marks the word, and wakes others when it releases what it has waited for.
    /// Whoever is killed before it has marked the word leaves others asleep, for a slice at most.
    #[cfg(not(target_env = "gnu"))]
    fn lock_within(&self, left: std::time::Duration) -> io::Result<Acquired> {
        const SLICE: std::time::Duration = std::time::Duration::from_millis(100);
        let deadline = Deadline::after(left);
        let mut waited = false;
        loop {
            let answer = self.try_lock()?;
            if answer != Acquired::No {
                if waited {
                    let _ = self.watch();
                }
                return Ok(answer);
            }
            if self.state().holder() == Some(super::process::thread_id()) {
                return Err(io::Error::from_raw_os_error(libc::EDEADLK));
            }
            if deadline.has_passed() {
                return Ok(Acquired::No);
            }
            if let Some((word, expected)) = self.watch() {
                super::futex::wait(word, expected, deadline.min(Deadline::after(SLICE)))?;
                waited = true;
            }
        }
    }

    /// `pthread_mutex_unlock`; EPERM from a thread that does not hold the mutex, which stays as it was.
    #[inline]
    pub(crate) fn unlock(&self) -> io::Result<()> {
        // SAFETY: (mutex-1)
        code_result(unsafe { libc::pthread_mutex_unlock(self.as_ptr()) })
    }
}

impl std::fmt::Debug for Mutex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mutex")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::futex;
    use std::time::Duration;

    fn mutex() -> Box<Mutex> {
        let mutex = Box::new(Mutex::uninit());
        // SAFETY: nobody else has seen the mutex.
        unsafe { mutex.init() }.unwrap();
        mutex
    }

    #[test]
    fn the_holder_is_told_of_its_deadlock_and_a_stranger_may_not_unlock() {
        let mutex = mutex();
        assert_eq!(mutex.lock(Deadline::NEVER).unwrap(), Acquired::Clean);
        assert_eq!(mutex.lock(Deadline::NEVER).unwrap_err().raw_os_error(), Some(libc::EDEADLK));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(mutex.try_lock().unwrap(), Acquired::No);
                let soon = Deadline::after(Duration::from_millis(3));
                assert_eq!(mutex.lock(soon).unwrap(), Acquired::No);
                assert_eq!(mutex.unlock().unwrap_err().raw_os_error(), Some(libc::EPERM));
            });
        });
        mutex.unlock().unwrap();
        assert_eq!(mutex.unlock().unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn whoever_watches_a_mutex_is_woken_by_its_release_and_by_the_holders_end() {
        for forgotten in [false, true] {
            let mutex = mutex();
            assert!(mutex.watch().is_none());
            let (held, watched) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    mutex.lock(Deadline::NEVER).unwrap();
                    held.wait();
                    watched.wait();
                    if !forgotten {
                        mutex.unlock().unwrap();
                    }
                });
                held.wait();
                let (word, expected) = mutex.watch().unwrap();
                watched.wait();
                while word.load(Ordering::Relaxed) == expected {
                    assert!(futex::wait(word, expected, Deadline::NEVER).unwrap());
                }
                assert!(mutex.watch().is_none());
            });
        }
    }

    #[test]
    fn a_thread_that_ends_with_the_mutex_hands_it_over() {
        let mutex = mutex();
        std::thread::scope(|scope| {
            scope.spawn(|| mutex.lock(Deadline::NEVER).unwrap());
        });
        assert_eq!(mutex.lock(Deadline::NEVER).unwrap(), Acquired::OwnerDied);
        mutex.unlock().unwrap();
        assert_eq!(mutex.try_lock().unwrap(), Acquired::Clean);
        mutex.unlock().unwrap();
    }
}
