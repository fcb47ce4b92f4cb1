//! A shared value with a run of plain items behind it.

use super::{Plain, Share, Shared};
use crate::{Error, Result, sys};
use std::any::type_name;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::OwnedFd;

/// One mapping that holds a `Share` head and, behind it, as many `Plain` items as it was made for.
///
/// It derefs to the head. The number of items is checked against the memory once, when the slice is
/// made or taken up, and kept in the handle: shared memory is never asked for it again.
pub(crate) struct SharedSlice<H: Share, T: Plain> {
    head: Shared<H>,
    len: usize,
    items: PhantomData<T>,
}

// SAFETY: the handle gives raw pointers and atomic access to items that are nothing but their bytes.
unsafe impl<H: Share, T: Plain> Send for SharedSlice<H, T> {}
// SAFETY: as for `Send`.
unsafe impl<H: Share, T: Plain> Sync for SharedSlice<H, T> {}

impl<H: Share, T: Plain> SharedSlice<H, T> {
    /// The bytes between the head's end and the first item. The head begins on a cache line, which
    /// is more alignment than any plain type has.
    const GAP: usize = {
        assert!(size_of::<T>() > 0, "an item without bytes");
        size_of::<H>().next_multiple_of(align_of::<T>()) - size_of::<H>()
    };

    fn name() -> &'static str {
        type_name::<SharedSlice<H, T>>()
    }

    /// Makes a head and `len` items of zero bytes.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC, EFBIG) or a descriptor (EMFILE).
    pub(crate) fn zeroed(head: H, len: usize) -> Result<SharedSlice<H, T>> {
        let bytes = len
            .checked_mul(size_of::<T>())
            .and_then(|bytes| bytes.checked_add(Shared::<H>::LEN + Self::GAP))
            .filter(|&bytes| bytes <= isize::MAX as usize / 2)
            .ok_or_else(|| Error::os("mmap")(io::Error::from_raw_os_error(sys::ENOMEM)))?;
        let head = Shared::with_tail(head, Self::name(), bytes)?;
        Ok(SharedSlice { head, len, items: PhantomData })
    }

    /// Makes a head and a copy of `items`.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub(crate) fn new(head: H, items: &[T]) -> Result<SharedSlice<H, T>> {
        let slice = Self::zeroed(head, items.len())?;
        // SAFETY: (slice-1) nobody else has seen the memory yet, and it is not `items`'s.
        unsafe { slice.as_ptr().copy_from_nonoverlapping(items.as_ptr(), items.len()) };
        Ok(slice)
    }

    /// Takes up what another process made.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the descriptor is not that of such a slice, or the memory is too short.
    /// * [`Error::Os`]: the system refused the mapping.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<SharedSlice<H, T>> {
        let (head, tail) = Shared::adopt_with_tail(fd, Self::name())?;
        let bytes = tail
            .checked_sub(Self::GAP)
            .filter(|bytes| bytes % size_of::<T>() == 0)
            .ok_or_else(|| Error::corrupt("shared memory with a broken item at its end"))?;
        Ok(SharedSlice { head, len: bytes / size_of::<T>(), items: PhantomData })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first item.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.head.tail().wrapping_add(Self::GAP).cast()
    }

    /// The head, as a handle.
    pub(crate) fn shared(&self) -> &Shared<H> {
        &self.head
    }
}

impl<H: Share, T: Plain> Deref for SharedSlice<H, T> {
    type Target = H;

    #[inline]
    fn deref(&self) -> &H {
        &self.head
    }
}

impl<H: Share, T: Plain> Clone for SharedSlice<H, T> {
    fn clone(&self) -> SharedSlice<H, T> {
        SharedSlice { head: self.head.clone(), len: self.len, items: PhantomData }
    }
}
