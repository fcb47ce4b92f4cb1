//! Recursive locks, semaphores, events, conditions, barriers and raw values, each beside the same done by
//! hand with the C library's primitives or bare futexes.
//!
//! What is by hand survives nobody's death, but for the mutexes, and that is what these rows pay for:
//!
//! * *condition*: 1.0 where both sides have a processor, about 2 on a busy machine, where they share one, against a
//!   target of 1.2. By hand two semaphores are posted, and nobody holds a lock. Here the woken one needs the lock
//!   that its waker still holds, and may have to sleep once more for it. Waking after the release would spare
//!   that; a notifier killed between the two would then leave a sleeper that nobody owes a wake-up any more,
//!   since the lock was released in good order.
//! * *barrier of 4*: 1.25 against a target of 1.15. Its quickest round is 12.2 us where that by hand is 9.7, and
//!   1.5 us of the difference are timers: sleeping without one, it is 10.7 (1.1). Each sleeper has a timer, after
//!   which it looks whether the others live, since a death wakes nobody who sleeps on the round alone; to sleep
//!   on every other party's lock from the beginning costs more, a wake-up by each that leaves. Some with a timer
//!   and the others without would not do: those with one may be killed together. A timer that is due before the
//!   kernel's next tick costs twice that (17 us a round), so it is due after it. All instructions of our own are
//!   under a fiftieth of the time.
//! * *permit*, 1.1 of a robust mutex and a semaphore together, 2.6 times a bare acquire and release.
#![allow(unsafe_code)]

mod support;

use multiproc::{
    Barrier, Condition, Event, PlainCell, RLock, RawLock, RawValue, Semaphore, Shared,
};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::{compare, fork, per_operation, pin, print_head, repeats, scaled, wait_for};

/// A page that forked children share, for what is made by hand.
struct Page(*mut u8);

impl Page {
    fn new() -> Page {
        Page::of(4096)
    }

    fn of(len: usize) -> Page {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: no address is asked for, so no existing memory changes.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED);
        Page(start.cast())
    }

    /// Word `index`, each on a cache line of its own, behind the first line's mutex or semaphore.
    fn word(&self, index: usize) -> &AtomicU32 {
        let word = self.0.wrapping_add(64 * (index + 2)).cast();
        // SAFETY: inside the page, aligned, and used as an atomic alone.
        unsafe { AtomicU32::from_ptr(word) }
    }

    fn mutex(&self, index: usize) -> *mut libc::pthread_mutex_t {
        self.0.cast::<libc::pthread_mutex_t>().wrapping_add(index)
    }

    fn semaphore(&self, index: usize) -> *mut libc::sem_t {
        self.0.wrapping_add(64 * index).cast()
    }
}

/// So many robust, recursive, process-shared mutexes, one behind the other.
fn recursive_mutexes(count: usize) -> Page {
    let page = Page::of(4096.max(count * size_of::<libc::pthread_mutex_t>()));
    let mut attributes = MaybeUninit::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: `attributes` is writable for one attribute object, initialised by this call.
    unsafe { libc::pthread_mutexattr_init(attributes) };
    // SAFETY: as above, here and below.
    unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
    // SAFETY: as above.
    unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) };
    // SAFETY: as above.
    unsafe { libc::pthread_mutexattr_settype(attributes, libc::PTHREAD_MUTEX_RECURSIVE) };
    for index in 0..count {
        // SAFETY: the place is inside the page and nobody else's yet.
        assert_eq!(unsafe { libc::pthread_mutex_init(page.mutex(index), attributes) }, 0);
    }
    page
}

fn lock_by_hand(page: &Page, index: usize) {
    // SAFETY: `recursive_mutexes` made it.
    assert_eq!(unsafe { libc::pthread_mutex_lock(page.mutex(index)) }, 0);
}

fn unlock_by_hand(page: &Page, index: usize) {
    // SAFETY: as above.
    unsafe { libc::pthread_mutex_unlock(page.mutex(index)) };
}

fn semaphores(values: [u32; 2]) -> Page {
    let page = Page::new();
    for (index, value) in values.into_iter().enumerate() {
        // SAFETY: the place is the page's own, 64 bytes for each.
        assert_eq!(unsafe { libc::sem_init(page.semaphore(index), 1, value) }, 0);
    }
    page
}

fn sem_wait(page: &Page, index: usize) {
    // SAFETY: `semaphores` made it.
    while unsafe { libc::sem_wait(page.semaphore(index)) } != 0 {}
}

fn sem_post(page: &Page, index: usize) {
    // SAFETY: as above.
    unsafe { libc::sem_post(page.semaphore(index)) };
}

fn futex_wait(word: &AtomicU32, value: u32) {
    // SAFETY: the word outlives the call; no timeout.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, 0_usize) };
}

fn futex_wake(word: &AtomicU32, count: i32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// Waits for everybody on bare words: a count, and a round to sleep on.
fn barrier_by_hand(page: &Page, parties: u32) {
    let (count, round) = (page.word(0), page.word(1));
    let mine = round.load(SeqCst);
    if count.fetch_add(1, SeqCst) + 1 == parties {
        count.store(0, SeqCst);
        round.fetch_add(1, SeqCst);
        futex_wake(round, i32::MAX);
    }
    while round.load(SeqCst) == mine {
        futex_wait(round, mine);
    }
}

/// Hands a word back and forth by bare futexes: waits until it is `from`, makes it `to`.
fn hand_over(word: &AtomicU32, from: u32, to: u32) {
    loop {
        let now = word.load(SeqCst);
        if now == from {
            break;
        }
        futex_wait(word, now);
    }
    word.store(to, SeqCst);
    futex_wake(word, 1);
}

/// The time of a thousand `operation`s.
fn of_a_thousand(operations: usize, mut operation: impl FnMut()) -> Duration {
    per_operation(operations.div_ceil(1000), || (0..operations).for_each(|_| operation()))
}

/// The time of one of `rounds` in which as many processes as there are bodies take part.
fn together(rounds: usize, bodies: &[&dyn Fn()]) -> Duration {
    on_cores(rounds, false, bodies)
}

/// [`together`], with the processes on the machine's cores by turns, if they are to be pinned.
fn on_cores(rounds: usize, pinned: bool, bodies: &[&dyn Fn()]) -> Duration {
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    per_operation(rounds, || {
        let run = |(index, body): (usize, &&dyn Fn())| {
            fork(|| {
                pin(pinned.then_some(index % cores));
                (0..rounds).for_each(|_| body());
            })
        };
        let children: Vec<_> = bodies.iter().enumerate().map(run).collect();
        children.into_iter().for_each(wait_for);
    })
}

fn free() {
    let (lock, mutex) = (RLock::new().unwrap(), recursive_mutexes(1));
    let (semaphore, by_hand) = (Semaphore::new(1).unwrap(), semaphores([1, 0]));
    let (count, word) = (RawValue::new(0_u32).unwrap(), Page::new());
    let (n, turns) = (10_000, scaled(300));
    let row = |name, target, ours: &dyn Fn(), hand: &dyn Fn()| {
        compare(name, target, || of_a_thousand(n, ours), || of_a_thousand(n, hand), turns);
    };
    let once = || {
        lock_by_hand(&mutex, 0);
        unlock_by_hand(&mutex, 0);
    };
    row("1000 x rlock, free", 1.35, &|| drop(black_box(&lock).acquire().unwrap()), &once);
    let nested = || {
        let _outer = black_box(&lock).acquire().unwrap();
        drop(black_box(&lock).acquire().unwrap());
    };
    let nested_by_hand = || {
        lock_by_hand(&mutex, 0);
        once();
        unlock_by_hand(&mutex, 0);
    };
    row("1000 x rlock, twice", 1.35, &nested, &nested_by_hand);
    let acquire = || {
        black_box(&semaphore).acquire().unwrap();
        black_box(&semaphore).release().unwrap();
    };
    let wait = || {
        sem_wait(&by_hand, 0);
        sem_post(&by_hand, 0);
    };
    row("1000 x semaphore, free", 1.5, &acquire, &wait);
    // Nothing by hand gives a permit an owner; a robust mutex and a semaphore are the least that could.
    let owned_by_hand = || {
        lock_by_hand(&mutex, 0);
        wait();
        unlock_by_hand(&mutex, 0);
    };
    row("1000 x permit, free", 1.5, &|| drop(semaphore.permit().unwrap()), &owned_by_hand);
    let add = || {
        black_box(black_box(&count).fetch_add(1));
    };
    let add_by_hand = || {
        black_box(black_box(word.word(0)).fetch_add(1, SeqCst));
    };
    row("1000 x fetch_add", 1.2, &add, &add_by_hand);
    assert_eq!(count.get(), word.word(0).load(SeqCst));
}

fn contended(processes: usize, pinned: bool) {
    let (semaphore, by_hand) = (Semaphore::new(1).unwrap(), semaphores([1, 0]));
    let (lock, mutex) = (RLock::new().unwrap(), recursive_mutexes(1));
    let n = scaled(50_000);
    let row = |what: &str, target, ours: &dyn Fn(), hand: &dyn Fn()| {
        let run = |body: &dyn Fn()| on_cores(n, pinned, &vec![body; processes]) * 1000;
        let where_they_are = if pinned { " pinned" } else { "" };
        let name = format!("1000 x {what}, {processes} processes{where_they_are}");
        compare(&name, target, || run(ours), || run(hand), repeats());
    };
    let acquire = || {
        semaphore.acquire().unwrap();
        semaphore.release().unwrap();
    };
    let wait = || {
        sem_wait(&by_hand, 0);
        sem_post(&by_hand, 0);
    };
    row("semaphore", 1.5, &acquire, &wait);
    let once = || {
        lock_by_hand(&mutex, 0);
        unlock_by_hand(&mutex, 0);
    };
    row("rlock", 1.5, &|| drop(lock.acquire().unwrap()), &once);
}

fn round_trips() {
    let n = scaled(5_000);
    let (ping, pong) = (Event::new().unwrap(), Event::new().unwrap());
    let hand_on = |from: &Event, to: &Event| {
        from.wait().unwrap();
        from.clear();
        to.set().unwrap();
    };
    let events = || {
        ping.clear();
        pong.clear();
        ping.set().unwrap();
        together(n, &[&|| hand_on(&ping, &pong), &|| hand_on(&pong, &ping)])
    };
    let page = Page::new();
    let words = || {
        page.word(0).store(0, SeqCst);
        let (one, two) = (|| hand_over(page.word(0), 0, 1), || hand_over(page.word(0), 1, 0));
        together(n, &[&one, &two])
    };
    compare("event, there and back", 1.2, events, words, repeats());

    let (condition, turn) =
        (Condition::new().unwrap(), Shared::new(PlainCell::new(0_u32)).unwrap());
    let change = |from: u32| {
        let mut guard = condition.acquire().unwrap();
        guard.wait_for(|| turn.get() == from).unwrap();
        turn.set(1 - from);
        guard.notify(1).unwrap();
    };
    let conditions = || {
        turn.set(0);
        together(n, &[&|| change(0), &|| change(1)])
    };
    let by_hand = semaphores([1, 0]);
    let pass = |from, to| {
        sem_wait(&by_hand, from);
        sem_post(&by_hand, to);
    };
    let semaphores = || together(n, &[&|| pass(0, 1), &|| pass(1, 0)]);
    compare("condition, there and back", 1.2, conditions, semaphores, repeats());

    let (barrier, page) = (Barrier::new(4).unwrap(), Page::new());
    let wait = || assert!(barrier.wait().is_ok());
    let ours = || together(n, &[&wait as &dyn Fn(); 4]);
    let wait_by_hand = || barrier_by_hand(&page, 4);
    let hand = || together(n, &[&wait_by_hand as &dyn Fn(); 4]);
    compare("barrier of 4", 1.15, ours, hand, repeats());
}

/// A hundred thousand locks in one mapping, each acquired and released, by one process and by several that
/// walk through them in the same order.
fn many() {
    const LOCKS: usize = 100_000;
    let made = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(|| Shared::new([const { RawLock::new() }; LOCKS]).unwrap());
    let (locks, mutexes) = (made.unwrap().join().unwrap(), recursive_mutexes(LOCKS));
    let ours = || locks.iter().for_each(|lock| drop(lock.acquire().unwrap()));
    let hand = || {
        (0..LOCKS).for_each(|index| {
            lock_by_hand(&mutexes, index);
            unlock_by_hand(&mutexes, index);
        });
    };
    for (processes, pinned) in [(1, false), (2, false), (4, false), (2, true), (4, true)] {
        let walk = |body: &dyn Fn()| {
            on_cores(1, pinned, &vec![body; processes]) / (LOCKS / 1000 * processes) as u32
        };
        let where_they_are = if pinned { " pinned" } else { "" };
        let name = format!("1000 of 100,000 locks, {processes}{where_they_are}");
        compare(&name, 1.5, || walk(&ours), || walk(&hand), repeats());
    }
}

fn main() {
    print_head();
    // Their names as arguments choose among them.
    let parts: [(&str, &dyn Fn()); 7] = [
        ("free", &free),
        ("contended", &|| contended(2, false)),
        ("contended", &|| contended(4, false)),
        ("pinned", &|| contended(2, true)),
        ("pinned", &|| contended(4, true)),
        ("round_trips", &round_trips),
        ("many", &many),
    ];
    let chosen = |name: &str| std::env::args().any(|argument| argument == name);
    let all = !parts.iter().any(|(name, _)| chosen(name));
    parts.iter().filter(|(name, _)| all || chosen(name)).for_each(|(_, run)| run());
}
