//! Recursive locks, semaphores, events, conditions, barriers and raw values, each beside the same done by
//! hand with the C library's primitives or bare futexes.
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
use support::{compare, fork, per_operation, print_head, repeats, scaled, wait_for};

/// A page that forked children share, for what is made by hand.
struct Page(*mut u8);

impl Page {
    fn new() -> Page {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: no address is asked for, so no existing memory changes.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED);
        Page(start.cast())
    }

    /// Word `index`, each on a cache line of its own, behind the first line's mutex or semaphore.
    fn word(&self, index: usize) -> &AtomicU32 {
        let word = self.0.wrapping_add(64 * (index + 2)).cast();
        // SAFETY: inside the page, aligned, and used as an atomic alone.
        unsafe { AtomicU32::from_ptr(word) }
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        self.0.cast()
    }

    fn semaphore(&self, index: usize) -> *mut libc::sem_t {
        self.0.wrapping_add(64 * index).cast()
    }
}

/// A robust, recursive, process-shared mutex.
fn recursive_mutex() -> Page {
    let page = Page::new();
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
    // SAFETY: the page's first bytes are nobody else's yet.
    assert_eq!(unsafe { libc::pthread_mutex_init(page.mutex(), attributes) }, 0);
    page
}

fn lock_by_hand(page: &Page) {
    // SAFETY: `recursive_mutex` made it.
    assert_eq!(unsafe { libc::pthread_mutex_lock(page.mutex()) }, 0);
}

fn unlock_by_hand(page: &Page) {
    // SAFETY: as above.
    unsafe { libc::pthread_mutex_unlock(page.mutex()) };
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
    per_operation(rounds, || {
        let run = |body: &&dyn Fn()| fork(|| (0..rounds).for_each(|_| body()));
        let children: Vec<_> = bodies.iter().map(run).collect();
        children.into_iter().for_each(wait_for);
    })
}

fn free() {
    let (lock, mutex) = (RLock::new().unwrap(), recursive_mutex());
    let (semaphore, by_hand) = (Semaphore::new(1).unwrap(), semaphores([1, 0]));
    let (count, word) = (RawValue::new(0_u32).unwrap(), Page::new());
    let (n, turns) = (10_000, scaled(300));
    let row = |name, target, ours: &dyn Fn(), hand: &dyn Fn()| {
        compare(name, target, || of_a_thousand(n, ours), || of_a_thousand(n, hand), turns);
    };
    let once = || {
        lock_by_hand(&mutex);
        unlock_by_hand(&mutex);
    };
    row("1000 x rlock, free", 1.35, &|| drop(black_box(&lock).acquire().unwrap()), &once);
    let nested = || {
        let _outer = black_box(&lock).acquire().unwrap();
        drop(black_box(&lock).acquire().unwrap());
    };
    let nested_by_hand = || {
        lock_by_hand(&mutex);
        once();
        unlock_by_hand(&mutex);
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
    // Nothing by hand gives a permit an owner; a robust mutex is the least that could.
    row("1000 x permit, free", 6.0, &|| drop(semaphore.permit().unwrap()), &once);
    let add = || {
        black_box(black_box(&count).fetch_add(1));
    };
    let add_by_hand = || {
        black_box(black_box(word.word(0)).fetch_add(1, SeqCst));
    };
    row("1000 x fetch_add", 1.2, &add, &add_by_hand);
    assert_eq!(count.get(), word.word(0).load(SeqCst));
}

fn contended(processes: usize) {
    let (semaphore, by_hand) = (Semaphore::new(1).unwrap(), semaphores([1, 0]));
    let (lock, mutex) = (RLock::new().unwrap(), recursive_mutex());
    let n = scaled(50_000);
    let row = |what: &str, target, ours: &dyn Fn(), hand: &dyn Fn()| {
        let run = |body: &dyn Fn()| together(n, &vec![body; processes]) * 1000;
        let name = format!("1000 x {what}, {processes} processes");
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
        lock_by_hand(&mutex);
        unlock_by_hand(&mutex);
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

/// A hundred thousand locks in one mapping, each acquired and released.
fn many() {
    const LOCKS: usize = 100_000;
    let made = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(|| Shared::new([const { RawLock::new() }; LOCKS]).unwrap());
    let locks = made.unwrap().join().unwrap();
    let page = recursive_mutex();
    let ours = || {
        per_operation(LOCKS / 1000, || {
            locks.iter().for_each(|lock| drop(lock.acquire().unwrap()));
        })
    };
    let hand = || {
        per_operation(LOCKS / 1000, || {
            (0..LOCKS).for_each(|_| {
                lock_by_hand(&page);
                unlock_by_hand(&page);
            });
        })
    };
    compare("1000 of 100,000 locks, one by one", 3.0, ours, hand, repeats());
}

fn main() {
    print_head();
    // Their names as arguments choose among them.
    let parts: [(&str, &dyn Fn()); 5] = [
        ("free", &free),
        ("contended", &|| contended(2)),
        ("contended", &|| contended(4)),
        ("round_trips", &round_trips),
        ("many", &many),
    ];
    let chosen = |name: &str| std::env::args().any(|argument| argument == name);
    let all = !parts.iter().any(|(name, _)| chosen(name));
    parts.iter().filter(|(name, _)| all || chosen(name)).for_each(|(_, run)| run());
}
