//! Plain items in shared memory that are borrowed under one lock.

use super::{Plain, RawLock, RawLockGuard, Share, Shared, SharedSlice};
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Items and the lock they are borrowed under: their own, in the same mapping, or one that was given.
///
/// Which lock it is stands in the memory of the items, so that no two handles can disagree: two
/// locks for the same items would be two `&mut` to them.
pub(crate) struct Guarded<T: Plain> {
    items: SharedSlice<Head, T>,
    given: Option<Shared<RawLock>>,
}

#[repr(C)]
struct Head {
    /// Unused where a lock was given.
    own: RawLock,
    /// What tells the given lock's memory from all other; 0 if the items have their own lock.
    /// Written before anybody else sees it.
    given: AtomicU64,
}

// SAFETY: `repr(C)`, both fields are `Share`, and the methods reach the one that has any.
unsafe impl Share for Head {
    fn settle(&self) -> Result<()> {
        self.own.settle()
    }

    fn is_held(&self) -> bool {
        self.own.is_held()
    }
}

impl<T: Plain> Guarded<T> {
    /// `len` items of zero bytes under a lock of their own, or the one given.
    pub(crate) fn zeroed(len: usize, given: Option<&Shared<RawLock>>) -> Result<Guarded<T>> {
        let items = SharedSlice::zeroed(Head::new(given)?, len)?;
        Ok(Guarded { items, given: given.cloned() })
    }

    /// A copy of `items`, likewise.
    pub(crate) fn new(items: &[T], given: Option<&Shared<RawLock>>) -> Result<Guarded<T>> {
        let items = SharedSlice::new(Head::new(given)?, items)?;
        Ok(Guarded { items, given: given.cloned() })
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    #[inline]
    pub(crate) fn lock(&self) -> &RawLock {
        self.given.as_deref().unwrap_or(&self.items.own)
    }

    /// Borrows the items; `None` if the deadline passes first.
    #[inline]
    pub(crate) fn acquire_until(&self, deadline: Deadline) -> Result<Option<SliceGuard<'_, T>>> {
        Ok(self.lock().acquire_until(deadline)?.map(|lock| self.borrow(lock)))
    }

    /// Borrows the items if nobody holds the lock.
    #[inline]
    pub(crate) fn try_acquire(&self) -> Result<Option<SliceGuard<'_, T>>> {
        Ok(self.lock().try_acquire()?.map(|lock| self.borrow(lock)))
    }

    /// `lock` is a guard of [`lock`](Self::lock).
    #[inline]
    fn borrow<'a>(&'a self, lock: RawLockGuard<'a>) -> SliceGuard<'a, T> {
        SliceGuard { start: self.items.as_ptr(), len: self.items.len(), lock, items: PhantomData }
    }
}

impl<T: Plain> Clone for Guarded<T> {
    fn clone(&self) -> Guarded<T> {
        Guarded { items: self.items.clone(), given: self.given.clone() }
    }
}

impl Head {
    fn new(given: Option<&Shared<RawLock>>) -> Result<Head> {
        let given = given.map_or(Ok(0), Shared::identity)?;
        Ok(Head { own: RawLock::new(), given: AtomicU64::new(given) })
    }
}

impl<T: Plain> AsFd for Guarded<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.items.shared().as_fd()
    }
}

impl<T: Plain> Encode for Guarded<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.fd(self.as_fd());
        encoder.bytes(&[self.given.is_some().into()]);
        if let Some(given) = &self.given {
            given.encode(encoder);
        }
    }
}

impl<T: Plain> Decode for Guarded<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Guarded<T>> {
        let items = SharedSlice::<Head, T>::adopt(decoder.fd()?)?;
        let given = match decoder.bytes(1)? {
            [0] => None,
            [1] => Some(Shared::<RawLock>::decode(decoder)?),
            other => return Err(Error::decode(format!("{other:?} in the place of a yes or no"))),
        };
        let identity = given.as_ref().map_or(Ok(0), Shared::identity)?;
        if items.given.load(Ordering::Relaxed) != identity {
            return Err(Error::corrupt("shared items that are under another lock"));
        }
        Ok(Guarded { items, given })
    }
}

/// Borrows the items of a [`Guarded`] for as long as it holds the lock.
pub(crate) struct SliceGuard<'a, T: Plain> {
    start: *mut T,
    len: usize,
    lock: RawLockGuard<'a>,
    items: PhantomData<&'a mut [T]>,
}

// SAFETY: `&SliceGuard` gives `&[T]`, of plain bytes; the lock's guard is only looked at.
unsafe impl<T: Plain + Sync> Sync for SliceGuard<'_, T> {}

impl<T: Plain> SliceGuard<'_, T> {
    /// Whether the last holder was killed while it held the lock.
    pub(crate) fn owner_died(&self) -> bool {
        self.lock.owner_died()
    }

    /// Leaves the news of the last holder's death to the next who acquires the lock.
    pub(crate) fn pass_the_news_on(&self) {
        self.lock.pass_the_news_on();
    }

    /// # Panics
    /// In a child that was forked meanwhile: the lock is the parent's, which may be writing.
    #[inline]
    fn check_own(&self) {
        #[cold]
        #[track_caller]
        fn foreign() -> ! {
            panic!("a guard that was copied by fork: only the parent holds the lock")
        }
        if !self.lock.is_own() {
            foreign();
        }
    }
}

impl<T: Plain> Deref for SliceGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.check_own();
        // SAFETY: (guarded-1)
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T: Plain> DerefMut for SliceGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.check_own();
        // SAFETY: (guarded-1) and `&mut self` is the only borrow of this guard.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}
