//! Queues between processes against a ring of slots made by hand.
//!
//! The hand-made ring has slots of a fixed size in shared memory, each with a ticket number that says
//! whose turn it is, no lock at all, and an eventfd on each side for those who sleep, rung only when
//! somebody does, and for producers only at half empty. It takes messages of one size, and whoever is killed in
//! it stops it for ever: the price of a queue without those two flaws is what the ratio shows.
#![allow(unsafe_code)]

mod support;

use multiproc::Queue;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};
use support::{compare, fork, print_head, repeats, scaled, wait_for};

/// What a queue may cost, measured by the hand-made ring.
const TARGET: f64 = 2.0;

/// What both kinds can do, with messages of `N` bytes.
trait Carrier<const N: usize> {
    fn put(&self, message: &[u8; N]);
    fn get(&self) -> [u8; N];
}

impl<const N: usize> Carrier<N> for Queue<[u8; N]> {
    fn put(&self, message: &[u8; N]) {
        Queue::put(self, message).expect("there is memory");
    }

    fn get(&self) -> [u8; N] {
        Queue::get(self).expect("the queue is open")
    }
}

/// A counter in a pair of cache lines of its own.
#[repr(C, align(128))]
struct Line(AtomicU64);

/// Those who sleep at one side.
#[repr(C, align(128))]
struct Sleepers {
    count: AtomicU32,
    bell: i32,
}

#[repr(C, align(64))]
struct Slot<const N: usize> {
    turn: AtomicU64,
    bytes: std::cell::UnsafeCell<[u8; N]>,
}

#[repr(C)]
struct Slots<const N: usize> {
    tail: Line,
    head: Line,
    getters: Sleepers,
    putters: Sleepers,
    slots: [Slot<N>; SLOTS],
}

const SLOTS: usize = 256;

/// A ring by hand, in memory that forked children share.
struct ByHand<const N: usize>(*const Slots<N>);

impl<const N: usize> ByHand<N> {
    fn new() -> ByHand<N> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let len = size_of::<Slots<N>>();
        // SAFETY: no address is asked for, so no existing memory changes.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        assert!(place != libc::MAP_FAILED);
        let slots = place.cast::<Slots<N>>();
        for side in [0, 1] {
            // SAFETY: the call takes numbers.
            let bell = unsafe { libc::eventfd(0, libc::EFD_SEMAPHORE) };
            assert!(bell >= 0);
            // SAFETY: the mapping holds zeros, which are a value of every field, and is nobody else's yet.
            let slots = unsafe { &mut *slots };
            if side == 0 { slots.getters.bell = bell } else { slots.putters.bell = bell }
        }
        // SAFETY: as above.
        let turns = unsafe { &(*slots).slots };
        turns.iter().enumerate().for_each(|(i, s)| s.turn.store(i as u64, Ordering::Relaxed));
        ByHand(slots)
    }

    fn slots(&self) -> &Slots<N> {
        // SAFETY: mapped until the drop of `self`; all access is atomic or by turns.
        unsafe { &*self.0 }
    }

    /// Waits for the turn `offset` behind the counter's place and says which place it is.
    fn claim(&self, counter: &AtomicU64, offset: u64, sides: [&Sleepers; 2]) -> u64 {
        let [sleepers, others] = sides;
        loop {
            let place = counter.load(Ordering::Relaxed);
            let slot = &self.slots().slots[place as usize % SLOTS];
            let ahead = slot.turn.load(Ordering::Acquire).wrapping_sub(place + offset) as i64;
            if ahead == 0 {
                let (now, next) = (Ordering::Relaxed, Ordering::Relaxed);
                if counter.compare_exchange_weak(place, place + 1, now, next).is_ok() {
                    return place;
                }
            } else if ahead < 0 {
                // Whoever goes to sleep leaves nobody asleep at the other side.
                Self::wake(others);
                sleepers.count.fetch_add(1, Ordering::SeqCst);
                fence(Ordering::SeqCst);
                let again = slot.turn.load(Ordering::Acquire).wrapping_sub(place + offset) as i64;
                let still = again < 0 && counter.load(Ordering::Relaxed) == place;
                let take_back = |n: u32| n.checked_sub(1);
                let order = Ordering::SeqCst;
                if still || sleepers.count.fetch_update(order, order, take_back).is_err() {
                    let mut one = 0u64;
                    // SAFETY: `one` is writable for eight bytes.
                    unsafe { libc::read(sleepers.bell, (&raw mut one).cast(), 8) };
                }
            }
        }
    }

    fn wake(sleepers: &Sleepers) {
        fence(Ordering::SeqCst);
        if sleepers.count.load(Ordering::Relaxed) > 0 {
            let count = u64::from(sleepers.count.swap(0, Ordering::SeqCst));
            // SAFETY: `count` is readable for eight bytes.
            unsafe { libc::write(sleepers.bell, (&raw const count).cast(), 8) };
        }
    }
}

impl<const N: usize> Carrier<N> for ByHand<N> {
    fn put(&self, message: &[u8; N]) {
        let slots = self.slots();
        let place = self.claim(&slots.tail.0, 0, [&slots.putters, &slots.getters]);
        let slot = &slots.slots[place as usize % SLOTS];
        // SAFETY: the slot's turn is this place's until the store below.
        unsafe { *slot.bytes.get() = *message };
        slot.turn.store(place + 1, Ordering::Release);
        Self::wake(&slots.getters);
    }

    fn get(&self) -> [u8; N] {
        let slots = self.slots();
        let place = self.claim(&slots.head.0, 1, [&slots.getters, &slots.putters]);
        let slot = &slots.slots[place as usize % SLOTS];
        // SAFETY: the slot's turn is this place's until the store below.
        let message = unsafe { *slot.bytes.get() };
        slot.turn.store(place + SLOTS as u64, Ordering::Release);
        if place % (SLOTS as u64 / 2) == 0 {
            Self::wake(&slots.putters);
        }
        message
    }
}

impl<const N: usize> Drop for ByHand<N> {
    fn drop(&mut self) {
        let bells = [self.slots().getters.bell, self.slots().putters.bell];
        // SAFETY: made by `new` and nobody else's.
        bells.iter().for_each(|bell| assert_eq!(unsafe { libc::close(*bell) }, 0));
        // SAFETY: likewise, and not used after this.
        unsafe { libc::munmap(self.0.cast_mut().cast(), size_of::<Slots<N>>()) };
    }
}

/// The time of one of `messages` that `pairs` producers put and as many consumers get.
fn run<const N: usize>(carrier: &impl Carrier<N>, pairs: usize, messages: usize) -> Duration {
    let each = messages / pairs;
    let mut message = [7; N];
    let get_all = || {
        for _ in 0..each {
            let message = carrier.get();
            assert!(message[0] == 7 && message[N - 1] == 7);
        }
    };
    let mut put_all = || {
        for i in 0..each {
            message[N / 2] = i as u8;
            carrier.put(&message);
        }
    };
    let consumers: Vec<_> = (0..pairs).map(|_| fork(get_all)).collect();
    let start = Instant::now();
    let producers: Vec<_> = (1..pairs).map(|_| fork(&mut put_all)).collect();
    put_all();
    consumers.into_iter().chain(producers).for_each(wait_for);
    start.elapsed() / messages as u32
}

fn row<const N: usize>(name: &str, pairs: usize, messages: usize) {
    // Words on the command line pick rows.
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if !words.iter().all(|word| name.contains(word.as_str())) {
        return;
    }
    let messages = scaled(messages);
    let queue = Queue::<[u8; N]>::new().expect("a queue");
    let by_hand = ByHand::<N>::new();
    let ours = || run(&queue, pairs, messages);
    compare(name, TARGET, ours, || run(&by_hand, pairs, messages), repeats());
}

fn main() {
    print_head();
    row::<64>("queue 1p1c 64 B", 1, 400_000);
    row::<4096>("queue 1p1c 4 KiB", 1, 100_000);
    row::<64>("queue 2p2c 64 B", 2, 400_000);
    row::<4096>("queue 2p2c 4 KiB", 2, 100_000);
}
