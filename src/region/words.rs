//! Bytes copied to and from memory that others may write at the same time.
//!
//! What another thread of this process writes meanwhile must be accessed atomically, or the program
//! has no meaning; and atomic accesses of one place must all be of one size. So runs of bytes are
//! copied by whole, aligned machine words, and [`Plain`] values in units of their own alignment.
//! Nothing here orders anything: callers who need more than untorn words keep a lock.

use super::Plain;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

const WORD: usize = size_of::<usize>();

/// The word that holds the byte at `at`, and the byte's place in it.
///
/// # Safety
/// * All bytes of that word are in one mapping, which outlives the answer.
unsafe fn word<'a>(at: *const u8) -> (&'a AtomicUsize, usize) {
    let place = at.addr() % WORD;
    let word = at.wrapping_sub(place).cast_mut().cast::<usize>();
    // SAFETY: aligned by the line above, and inside a mapping by this function's contract; shared
    // memory is accessed as atomic words alone wherever it is accessed as words.
    (unsafe { AtomicUsize::from_ptr(word) }, place)
}

/// How many of `len` bytes at `at` come before the first whole word.
fn before_words(at: *const u8, len: usize) -> usize {
    ((WORD - at.addr() % WORD) % WORD).min(len)
}

/// Copies bytes out.
///
/// # Safety
/// * The words that hold `to.len()` bytes at `from` are in one mapping that outlives the call.
/// * Whoever else accesses them does it by this module.
pub(super) unsafe fn load(from: *const u8, to: &mut [u8]) {
    let (head, rest) = to.split_at_mut(before_words(from, to.len()));
    // SAFETY: the contract of this function is that of each of its parts.
    unsafe { load_part(from, head) };
    let from = from.wrapping_add(head.len());
    let mut words = rest.chunks_exact_mut(WORD);
    let mut at = from;
    for bytes in &mut words {
        // SAFETY: this function's contract.
        let (word, _) = unsafe { word(at) };
        bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        at = at.wrapping_add(WORD);
    }
    // SAFETY: as for the head.
    unsafe { load_part(at, words.into_remainder()) };
}

/// Copies bytes in; bytes beside them in the same word keep what others write there.
///
/// # Safety
/// As for [`load`], of `from.len()` bytes at `to`, in a writable mapping.
pub(super) unsafe fn store(to: *mut u8, from: &[u8]) {
    let (head, rest) = from.split_at(before_words(to, from.len()));
    // SAFETY: the contract of this function is that of each of its parts.
    unsafe { store_part(to, head) };
    let mut at = to.wrapping_add(head.len());
    let words = rest.chunks_exact(WORD);
    let tail = words.remainder();
    for bytes in words {
        let mut value = [0; WORD];
        value.copy_from_slice(bytes);
        // SAFETY: this function's contract.
        let (word, _) = unsafe { word(at) };
        word.store(usize::from_ne_bytes(value), Ordering::Relaxed);
        at = at.wrapping_add(WORD);
    }
    // SAFETY: as for the head.
    unsafe { store_part(at, tail) };
}

/// [`load`] for bytes of one word.
unsafe fn load_part(from: *const u8, to: &mut [u8]) {
    if !to.is_empty() {
        // SAFETY: the caller's contract.
        let (word, place) = unsafe { word(from) };
        let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        to.copy_from_slice(&bytes[place..place + to.len()]);
    }
}

/// [`store`] for bytes of one word.
unsafe fn store_part(to: *mut u8, from: &[u8]) {
    if !from.is_empty() {
        // SAFETY: the caller's contract.
        let (word, place) = unsafe { word(to) };
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            let mut bytes = old.to_ne_bytes();
            bytes[place..place + from.len()].copy_from_slice(from);
            Some(usize::from_ne_bytes(bytes))
        });
    }
}

/// Does `$body` with `$Atomic` being the atomic integer of `$T`'s alignment, or of the widest there is.
macro_rules! by_alignment {
    ($T:ty, $Atomic:ident => $body:expr) => {
        match align_of::<$T>() {
            1 => {
                type $Atomic = AtomicU8;
                $body
            }
            2 => {
                type $Atomic = AtomicU16;
                $body
            }
            4 => {
                type $Atomic = AtomicU32;
                $body
            }
            _ => {
                type $Atomic = AtomicU64;
                $body
            }
        }
    };
}

/// Reads a value, in units of its alignment: numbers whole, larger values perhaps torn between units.
///
/// # Safety
/// * `from` is aligned and in a mapping that outlives the call.
/// * Whoever else accesses the value does it by this function and [`store_plain`], with this `T`.
pub(super) unsafe fn load_plain<T: Plain>(from: *const T) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    by_alignment!(T, Atomic => {
        let from = from.cast_mut().cast::<Atomic>();
        let to = value.as_mut_ptr().cast::<Atomic>();
        for i in 0..size_of::<T>() / size_of::<Atomic>() {
            // SAFETY: a value's size is a multiple of its alignment, so the unit is inside it.
            let unit = unsafe { &*from.wrapping_add(i) }.load(Ordering::Relaxed);
            // SAFETY: as above, in `value`, which this function alone sees.
            unsafe { to.wrapping_add(i).write(Atomic::new(unit)) };
        }
    });
    // SAFETY: every byte was written, and every pattern of them is a value of a `Plain` type.
    unsafe { value.assume_init() }
}

/// Writes a value, in the same units.
///
/// # Safety
/// As for [`load_plain`], of a writable mapping.
pub(super) unsafe fn store_plain<T: Plain>(to: *mut T, value: T) {
    by_alignment!(T, Atomic => {
        let from = (&raw const value).cast::<Atomic>();
        let to = to.cast::<Atomic>();
        for i in 0..size_of::<T>() / size_of::<Atomic>() {
            // SAFETY: a value's size is a multiple of its alignment, so the unit is inside it; a
            // `Plain` value has no padding, so it is initialised.
            let unit = unsafe { from.wrapping_add(i).read() }.into_inner();
            // SAFETY: as above, at the other place.
            unsafe { &*to.wrapping_add(i) }.store(unit, Ordering::Relaxed);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_and_length_copies_exactly_its_bytes() {
        let pattern: Vec<u8> = (1..=24).collect();
        for at in 0..WORD {
            for len in 0..=24 {
                let mut memory = [usize::MAX; 6];
                let start = memory.as_mut_ptr().cast::<u8>().wrapping_add(at);
                let len = len.min(size_of_val(&memory) - at);
                // SAFETY: inside `memory`, by the line above, which this thread alone accesses.
                unsafe { store(start, &pattern[..len]) };
                let mut copy = vec![0; len];
                // SAFETY: as above.
                unsafe { load(start, &mut copy) };
                assert_eq!(copy, &pattern[..len]);
                let bytes: Vec<u8> = memory.iter().flat_map(|word| word.to_ne_bytes()).collect();
                assert!(bytes[..at].iter().all(|&byte| byte == 0xff));
                assert!(bytes[at + len..].iter().all(|&byte| byte == 0xff));
            }
        }
    }

    #[test]
    fn values_of_every_alignment_are_copied_whole() {
        fn check<T: Plain + PartialEq + std::fmt::Debug>(before: T, after: T) {
            let mut place = before;
            // SAFETY: this thread's own variable; like a mapping, it may be written by the same pointer.
            assert_eq!(unsafe { load_plain((&raw mut place).cast_const()) }, before);
            // SAFETY: as above.
            unsafe { store_plain(&raw mut place, after) };
            assert_eq!(place, after);
        }
        check(1_u8, 2);
        check([1_u8; 7], [2; 7]);
        check([1_u16; 3], [2; 3]);
        check([1.5_f32; 5], [2.5; 5]);
        check(1.5_f64, 2.5);
        check([1_u128; 3], [u128::MAX; 3]);
    }
}
