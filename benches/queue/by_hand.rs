//! A ring of slots made by hand: what the kernel and the memory allow.
//!
//! The slots have a fixed size in shared memory, each with a ticket number that says whose turn it is, no
//! lock at all, and an eventfd on each side for those who sleep, rung only when somebody does, and for
//! producers only at half empty. It takes messages of one size, and whoever is killed in it stops it for ever:
//! the price of a queue without those two flaws is what the ratio shows.
#![allow(unsafe_code)]

use crate::Carrier;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

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
struct Slots<const N: usize, const S: usize> {
    tail: Line,
    head: Line,
    getters: Sleepers,
    putters: Sleepers,
    slots: [Slot<N>; S],
}

/// A ring of `S` slots of `N` bytes, in memory that forked children share.
pub(crate) struct ByHand<const N: usize, const S: usize>(*const Slots<N, S>);

impl<const N: usize, const S: usize> ByHand<N, S> {
    pub(crate) fn new() -> ByHand<N, S> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let len = size_of::<Slots<N, S>>();
        // SAFETY: no address is asked for, so no existing memory changes.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        assert!(place != libc::MAP_FAILED);
        let slots = place.cast::<Slots<N, S>>();
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

    fn slots(&self) -> &Slots<N, S> {
        // SAFETY: mapped until the drop of `self`; all access is atomic or by turns.
        unsafe { &*self.0 }
    }

    /// Waits for the turn `offset` behind the counter's place and says which place it is.
    fn claim(&self, counter: &AtomicU64, offset: u64, sides: [&Sleepers; 2]) -> u64 {
        let [sleepers, others] = sides;
        loop {
            let place = counter.load(Ordering::Relaxed);
            let slot = &self.slots().slots[place as usize % S];
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

impl<const N: usize, const S: usize> Carrier for ByHand<N, S> {
    fn put(&self, message: &Vec<u8>) {
        let slots = self.slots();
        let place = self.claim(&slots.tail.0, 0, [&slots.putters, &slots.getters]);
        let slot = &slots.slots[place as usize % S];
        // SAFETY: the slot's turn is this place's until the store below.
        let bytes = unsafe { &mut *slot.bytes.get() };
        bytes.copy_from_slice(message);
        slot.turn.store(place + 1, Ordering::Release);
        Self::wake(&slots.getters);
    }

    fn get(&self, message: &mut Vec<u8>) {
        let slots = self.slots();
        let place = self.claim(&slots.head.0, 1, [&slots.getters, &slots.putters]);
        let slot = &slots.slots[place as usize % S];
        message.clear();
        // SAFETY: the slot's turn is this place's until the store below.
        message.extend_from_slice(unsafe { &*slot.bytes.get() });
        slot.turn.store(place + S as u64, Ordering::Release);
        if place % (S as u64 / 2) == 0 {
            Self::wake(&slots.putters);
        }
    }
}

impl<const N: usize, const S: usize> Drop for ByHand<N, S> {
    fn drop(&mut self) {
        let bells = [self.slots().getters.bell, self.slots().putters.bell];
        // SAFETY: made by `new` and nobody else's.
        bells.iter().for_each(|bell| assert_eq!(unsafe { libc::close(*bell) }, 0));
        // SAFETY: likewise, and not used after this.
        unsafe { libc::munmap(self.0.cast_mut().cast(), size_of::<Slots<N, S>>()) };
    }
}
