//! Plain items in shared memory without a lock.

use super::{Plain, SharedSlice, words};
use crate::{Decode, Decoder, Encode, Encoder, Result};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI8, AtomicI16, AtomicI32, AtomicU8, AtomicU16, AtomicU32};
#[cfg(target_pointer_width = "64")]
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::atomic::{AtomicIsize, AtomicUsize};

crate::shared! {
    /// What tells these items from those under a lock, by its type's name.
    struct NoLock {}
}

/// Items that are read and written without a lock, each in units of its alignment.
pub(crate) struct Bare<T: Plain> {
    items: SharedSlice<NoLock, T>,
}

impl<T: Plain> Bare<T> {
    pub(crate) fn zeroed(len: usize) -> Result<Bare<T>> {
        Ok(Bare { items: SharedSlice::zeroed(NoLock {}, len)? })
    }

    pub(crate) fn new(items: &[T]) -> Result<Bare<T>> {
        Ok(Bare { items: SharedSlice::new(NoLock {}, items)? })
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The first item.
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.items.as_ptr()
    }

    /// # Panics
    /// If there is no such item: indices are checked before they come here.
    #[inline]
    fn place(&self, index: usize) -> *mut T {
        assert!(index < self.len(), "item {index} of {}", self.len());
        self.items.as_ptr().wrapping_add(index)
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> T {
        // SAFETY: (bare-1)
        unsafe { words::load_plain(self.place(index)) }
    }

    #[inline]
    pub(crate) fn set(&self, index: usize, item: T) {
        // SAFETY: (bare-1)
        unsafe { words::store_plain(self.place(index), item) };
    }

    pub(crate) fn to_vec(&self, range: Range<usize>) -> Vec<T> {
        range.map(|index| self.get(index)).collect()
    }

    pub(crate) fn set_all(&self, start: usize, items: &[T]) {
        items.iter().enumerate().for_each(|(i, &item)| self.set(start + i, item));
    }

    /// # Safety
    /// * Nobody, in any process, writes the items for as long as the slice lives.
    pub(crate) unsafe fn as_slice(&self) -> &[T] {
        // SAFETY: (bare-1) the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.items.as_ptr(), self.len()) }
    }

    /// # Safety
    /// * Nobody else, in any process, reads or writes the items for as long as the slice lives.
    #[allow(clippy::mut_from_ref, reason = "that nobody else has them is the caller's promise")]
    pub(crate) unsafe fn as_mut_slice(&self) -> &mut [T] {
        // SAFETY: (bare-1) the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.items.as_ptr(), self.len()) }
    }
}

impl<T: Integer> Bare<T> {
    /// Changes an item in one step, and gives what it was.
    #[inline]
    pub(crate) fn change(&self, index: usize, change: Change<T>) -> T {
        // SAFETY: (bare-1) the item is accessed by atomic operations of its own size alone, since a
        // type that is an `Integer` is as long as its alignment.
        unsafe { T::change(self.place(index), change) }
    }
}

/// A change of an integer in one step.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub enum Change<T> {
    Add(T),
    Sub(T),
    And(T),
    Or(T),
    Xor(T),
    Max(T),
    Min(T),
    Swap(T),
    /// From the first to the second.
    Exchange(T, T),
}

/// An integer that can be changed in one step by whoever shares it: those that the machine has atomic
/// operations for, at the place where they are.
pub trait Integer: Plain + Eq {
    /// Changes the integer at `place`.
    ///
    /// # Safety
    /// * `place` is aligned, mapped, and accessed by atomic operations of this size alone.
    #[doc(hidden)]
    unsafe fn change(place: *mut Self, change: Change<Self>) -> Self;
}

macro_rules! integers {
    ($($number:ty, $atomic:ty;)*) => {$(
        impl Integer for $number {
            #[inline]
            unsafe fn change(place: *mut $number, change: Change<$number>) -> $number {
                // SAFETY: this function's contract.
                let place = unsafe { <$atomic>::from_ptr(place) };
                match change {
                    Change::Add(n) => place.fetch_add(n, SeqCst),
                    Change::Sub(n) => place.fetch_sub(n, SeqCst),
                    Change::And(n) => place.fetch_and(n, SeqCst),
                    Change::Or(n) => place.fetch_or(n, SeqCst),
                    Change::Xor(n) => place.fetch_xor(n, SeqCst),
                    Change::Max(n) => place.fetch_max(n, SeqCst),
                    Change::Min(n) => place.fetch_min(n, SeqCst),
                    Change::Swap(n) => place.swap(n, SeqCst),
                    Change::Exchange(from, to) => {
                        match place.compare_exchange(from, to, SeqCst, SeqCst) {
                            Ok(was) | Err(was) => was,
                        }
                    }
                }
            }
        }

        const _: () = assert!(
            size_of::<$number>() == align_of::<$number>()
                && align_of::<$number>() == align_of::<$atomic>()
        );
    )*};
}

integers! {
    i8, AtomicI8; i16, AtomicI16; i32, AtomicI32; isize, AtomicIsize;
    u8, AtomicU8; u16, AtomicU16; u32, AtomicU32; usize, AtomicUsize;
}

// Elsewhere they may lie across two words.
#[cfg(target_pointer_width = "64")]
integers! { i64, AtomicI64; u64, AtomicU64; }

impl<T: Plain> Clone for Bare<T> {
    fn clone(&self) -> Bare<T> {
        Bare { items: self.items.clone() }
    }
}

impl<T: Plain> AsFd for Bare<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.items.shared().as_fd()
    }
}

impl<T: Plain> Encode for Bare<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.fd(self.as_fd());
    }
}

impl<T: Plain> Decode for Bare<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Bare<T>> {
        Ok(Bare { items: SharedSlice::adopt(decoder.fd()?)? })
    }
}

impl<T: Plain> crate::RawArray<T> {
    /// The items themselves.
    ///
    /// # Safety
    /// * Nobody, in any process, writes the items for as long as the slice lives.
    pub unsafe fn as_slice(&self) -> &[T] {
        // SAFETY: the caller's promise is the same.
        unsafe { self.items().as_slice() }
    }

    /// The items themselves.
    ///
    /// # Safety
    /// * Nobody else, in any process, reads or writes the items for as long as the slice lives.
    #[allow(clippy::mut_from_ref, reason = "that nobody else has them is the caller's promise")]
    pub unsafe fn as_mut_slice(&self) -> &mut [T] {
        // SAFETY: the caller's promise is the same.
        unsafe { self.items().as_mut_slice() }
    }
}
