//! The harness tried on primitives of its own: one that must pass and two that must be found out.
#![allow(unsafe_code)]

use super::report::{Config, Wrong};
use super::step::{After, Marker, Scenario, Tally, sweep};
use super::storm::{Role, Weather, storm};
use crate::support::os::{self, Page};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// A robust pthread mutex at the start of shared memory.
struct RobustMutex(Page);

impl RobustMutex {
    fn new() -> RobustMutex {
        let page = Page::new();
        let mut attributes = std::mem::MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        let mutex = RobustMutex(page);
        // SAFETY: `attributes` is writable for one attribute object.
        let mut codes = vec![unsafe { libc::pthread_mutexattr_init(attributes) }];
        let shared = libc::PTHREAD_PROCESS_SHARED;
        // SAFETY: `attributes` was initialised above, here and in the next call.
        codes.push(unsafe { libc::pthread_mutexattr_setpshared(attributes, shared) });
        let robust = libc::PTHREAD_MUTEX_ROBUST;
        // SAFETY: as above.
        codes.push(unsafe { libc::pthread_mutexattr_setrobust(attributes, robust) });
        // SAFETY: the mapping has room for the mutex and nobody else uses it yet.
        codes.push(unsafe { libc::pthread_mutex_init(mutex.as_ptr(), attributes) });
        assert_eq!(codes, [0; 4]);
        mutex
    }

    fn as_ptr(&self) -> *mut libc::pthread_mutex_t {
        self.0.as_ptr().cast()
    }

    /// Takes the mutex; true if its last holder died.
    fn lock(&self) -> bool {
        // SAFETY: initialised by `new`, in a mapping that `self` keeps; so in the next two calls.
        match unsafe { libc::pthread_mutex_lock(self.as_ptr()) } {
            0 => false,
            libc::EOWNERDEAD => {
                // SAFETY: as above, and held by this thread.
                assert_eq!(unsafe { libc::pthread_mutex_consistent(self.as_ptr()) }, 0);
                true
            }
            code => panic!("pthread_mutex_lock: {code}"),
        }
    }

    fn unlock(&self) {
        // SAFETY: as in `lock`.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(self.as_ptr()) }, 0);
    }
}

struct LockAndUnlock;

impl Scenario for LockAndUnlock {
    type State = RobustMutex;

    fn setup(&self) -> RobustMutex {
        RobustMutex::new()
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, mutex: &RobustMutex, _index: usize, tally: &Tally) {
        if mutex.lock() {
            tally.owner_died();
        }
        mutex.unlock();
    }

    fn victim(&self, mutex: &RobustMutex, marker: Marker) {
        mutex.lock();
        marker.step_from_here();
        mutex.unlock();
        mutex.lock();
        mutex.unlock();
    }

    fn stuck(&self, _mutex: &RobustMutex, after: &After) -> Option<String> {
        let asleep = &after.asleep;
        (!asleep.is_empty()).then(|| format!("sleepers {asleep:?} of a mutex whose holder died"))
    }

    fn proceed(&self, mutex: &RobustMutex, after: &After, tally: &Tally) {
        let told = mutex.lock();
        assert!(!(told && after.finished), "told of a dead owner where none died");
        mutex.unlock();
        if told {
            tally.owner_died();
        }
    }
}

pub(crate) fn a_robust_mutex_is_handed_on_from_every_instruction() {
    let report = sweep(&Config::every_instruction(), "robust mutex", &LockAndUnlock);
    if cfg!(target_env = "musl") {
        // musl takes back its note to the kernel of the pending operation before it wakes: a kill
        // between the two leaves the sleepers beside a free mutex. Those who sleep on it have to look
        // again from time to time.
        assert!(report.count(Wrong::Stuck) > 0, "musl has repaired this");
        assert_eq!(report.count(Wrong::Stuck), report.failures.len());
    } else {
        report.assert_clean();
    }
    assert!(report.owner_deaths > 0);
}

/// Publishes a word, then wakes: a kill between the two leaves the sleeper beside it.
struct PublishThenWake;

impl Scenario for PublishThenWake {
    type State = Page;

    fn setup(&self) -> Page {
        Page::new()
    }

    fn sleep(&self, page: &Page, _index: usize, _tally: &Tally) {
        while page.word(0).load(SeqCst) == 0 {
            os::futex_wait(page.word(0), 0);
        }
    }

    fn victim(&self, page: &Page, marker: Marker) {
        marker.step_from_here();
        page.word(0).store(1, SeqCst);
        os::futex_wake(page.word(0), 1);
    }

    fn stuck(&self, page: &Page, after: &After) -> Option<String> {
        let published = page.word(0).load(SeqCst) == 1;
        (published && !after.asleep.is_empty()).then(|| "asleep beside a published word".into())
    }

    fn proceed(&self, page: &Page, _after: &After, _tally: &Tally) {
        page.word(0).store(1, SeqCst);
        os::futex_wake(page.word(0), 1);
    }
}

pub(crate) fn publishing_before_waking_is_found_out() {
    let report = sweep(&Config::every_instruction(), "publish, then wake", &PublishThenWake);
    assert!(report.count(Wrong::Stuck) > 0, "the sweep cannot fail");
    assert_eq!(report.count(Wrong::Stuck), report.failures.len());
    assert!(report.failures.len() < report.kills, "the sweep cannot pass");
}

/// A semaphore whose every waiter sleeps on the word: one that is woken and killed before it takes
/// its permit would leave the next asleep beside it, although `post` itself cannot be split. The
/// victim is the only waiter here, so that it is the one that is woken.
struct WokenAndKilled;

impl WokenAndKilled {
    fn take(page: &Page) {
        loop {
            let permits = page.word(0).load(SeqCst);
            if permits == 0 {
                os::futex_wait(page.word(0), 0);
            } else if page.word(0).compare_exchange(permits, permits - 1, SeqCst, SeqCst).is_ok() {
                return;
            }
        }
    }
}

impl Scenario for WokenAndKilled {
    type State = Page;

    fn setup(&self) -> Page {
        Page::new()
    }

    fn sleepers(&self) -> usize {
        0
    }

    fn sleep(&self, _page: &Page, _index: usize, _tally: &Tally) {}

    fn victim(&self, page: &Page, marker: Marker) {
        marker.step_from_here();
        WokenAndKilled::take(page);
    }

    fn unblock(&self, page: &Page) -> bool {
        os::futex_add_and_wake(page.word(0), 1);
        true
    }

    fn stuck(&self, page: &Page, after: &After) -> Option<String> {
        let lost = after.unblocked == 1 && page.word(0).load(SeqCst) == 1;
        lost.then(|| "a wake-up went to a dead process".into())
    }

    fn proceed(&self, _page: &Page, _after: &After, _tally: &Tally) {}
}

pub(crate) fn a_victim_that_sleeps_is_killed_there_and_stepped_on_after_it_is_woken() {
    let config = Config::every_instruction();
    let report = sweep(&config, "woken, then killed", &WokenAndKilled);
    assert_eq!(report.blocked, 1);
    assert!(report.count(Wrong::Stuck) > 0, "no kill fell between the wake-up and the taking");
    assert!(report.failures.len() < report.kills);
}

pub(crate) fn a_storm_over_a_robust_mutex_loses_no_count() {
    let mutex = RobustMutex::new();
    let data = Page::new();
    let (both, undone) = ((data.counter(0), data.counter(1)), data.counter(2));
    // Two counts that are equal whenever nobody holds the mutex; who inherits it makes them so.
    let worker = Role {
        name: "worker",
        processes: 3,
        mortal: true,
        run: &|turn| {
            while turn.goes_on() {
                if mutex.lock() && both.0.load(SeqCst) != both.1.load(SeqCst) {
                    both.0.store(both.1.load(SeqCst), SeqCst);
                    undone.fetch_add(1, SeqCst);
                }
                let (first, second) = (both.0.load(SeqCst), both.1.load(SeqCst));
                assert_eq!(first, second, "in slot {}, life {}", turn.slot, turn.life);
                both.0.fetch_add(1, SeqCst);
                both.1.fetch_add(1, SeqCst);
                mutex.unlock();
            }
        },
    };
    storm(
        &Weather::from_env(),
        "robust mutex",
        &[worker],
        || {},
        |totals| {
            let counted = both.1.load(SeqCst);
            println!("  {counted} counted, {} undone", undone.load(SeqCst));
            // A process beats before each count, and loses at most the one it is killed in.
            assert!(counted <= totals.beats && totals.beats - counted <= totals.kills as u64 + 3);
        },
    );
}

pub(crate) fn a_storm_finds_a_lock_that_dies_with_its_holder() {
    let data = Page::new();
    let word = data.word(0);
    let worker = Role {
        name: "worker",
        processes: 2,
        mortal: true,
        run: &|turn| {
            while turn.goes_on() {
                while word.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {
                    std::thread::yield_now();
                }
                word.store(0, SeqCst);
            }
        },
    };
    let weather = Weather { patience: Duration::from_millis(500), ..Weather::from_env() };
    // The panic is what is wanted here, so nobody need read about it.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        storm(&weather, "spin lock", &[worker], || {}, |_| {})
    }));
    std::panic::set_hook(hook);
    let message = caught.expect_err("the storm cannot fail");
    let message = message.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(message.contains("hangs"), "{message}");
}

/// Forks a child that ends by itself, or lives on when its parent is killed before it tells it not to.
struct LeavesAnOrphan;

impl Scenario for LeavesAnOrphan {
    type State = Page;

    fn setup(&self) -> Page {
        Page::new()
    }

    fn sleepers(&self) -> usize {
        0
    }

    fn sleep(&self, _page: &Page, _index: usize, _tally: &Tally) {}

    fn victim(&self, page: &Page, marker: Marker) {
        let orphan = os::fork(|| os::futex_wait(page.word(0), 0));
        marker.step_from_here();
        page.word(0).store(1, SeqCst);
        os::futex_wake(page.word(0), 1);
        os::wait_until(orphan, Instant::now() + Duration::from_secs(10));
    }

    fn stuck(&self, _page: &Page, _after: &After) -> Option<String> {
        None
    }

    fn proceed(&self, _page: &Page, _after: &After, _tally: &Tally) {}
}

pub(crate) fn a_child_that_outlives_its_killed_parent_is_found() {
    let patience = Duration::from_millis(100);
    let config = Config { stride: 1, patience, ..Config::from_env() };
    let report = sweep(&config, "orphan", &LeavesAnOrphan);
    assert!(report.count(Wrong::Hung) > 0, "the orphans went unseen");
}
