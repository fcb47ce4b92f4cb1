//! One value in shared memory.

use super::{Memory, Share};
use crate::sys::memory::{Mapping, page_size};
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// One value in memory that several processes map: the abstraction under every primitive.
///
/// A clone is the same value. Sent to another process, as argument or message, it is still the same
/// value there. It is made of raw locks, atomics and plain cells, so that using it from everywhere at
/// once is sound; [`shared!`](crate::shared) declares such structs.
///
/// The memory lives for as long as some process has the handle, and costs one descriptor and one
/// mapping, whatever the number of locks and words in it.
///
/// # If a process dies
/// The memory stays as the dead process left it. Locks in it say so when they are acquired next.
///
/// # Examples
/// ```
/// use multiproc::Shared;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// let counters = Shared::new([const { AtomicU64::new(0) }; 8])?;
/// let same = counters.clone();
/// same[3].fetch_add(1, Ordering::Relaxed);
/// assert_eq!(counters[3].load(Ordering::Relaxed), 1);
/// # Ok::<(), multiproc::Error>(())
/// ```
pub struct Shared<T: Share> {
    inner: Arc<Inner<T>>,
}

/// What stands before the value, so that a descriptor of something else is not taken for it.
#[repr(C)]
struct Header {
    magic: u64,
    /// Of the value.
    size: u64,
    /// Of the value's type, by name.
    fingerprint: u64,
}

const MAGIC: u64 = u64::from_le_bytes(*b"mp share");

/// Where the value begins: one cache line behind the header, aligned for all that `Share` allows.
const VALUE_AT: usize = 64;

struct Inner<T: Share> {
    memory: Memory,
    mapping: ManuallyDrop<Mapping>,
    value: PhantomData<T>,
}

impl<T: Share> Inner<T> {
    const LEN: usize = VALUE_AT + size_of::<T>();

    fn header() -> Header {
        const { assert!(align_of::<T>() <= VALUE_AT, "aligned to more than a cache line") };
        Header {
            magic: MAGIC,
            size: size_of::<T>() as u64,
            fingerprint: fingerprint(type_name::<T>()),
        }
    }

    fn map(memory: Memory) -> Result<Inner<T>> {
        let mapping =
            Mapping::shared(memory.as_fd(), 0, Self::LEN, true).map_err(Error::os("mmap"))?;
        Ok(Inner { memory, mapping: ManuallyDrop::new(mapping), value: PhantomData })
    }

    fn value(&self) -> *mut T {
        // SAFETY: the mapping is `LEN` bytes long, so the place of the value is inside.
        unsafe { self.mapping.as_ptr().add(VALUE_AT) }.cast()
    }
}

/// FNV-1a.
fn fingerprint(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl<T: Share> Drop for Inner<T> {
    fn drop(&mut self) {
        // SAFETY: (shared-1)
        let value = unsafe { &*self.value() };
        if value.is_held() {
            // A guard was forgotten. The kernel has the lock's address in a list of this thread:
            // the mapping stays until the process ends.
            return;
        }
        // SAFETY: the mapping is not used after this, the last use of the last handle.
        unsafe { ManuallyDrop::drop(&mut self.mapping) };
    }
}

impl<T: Share> Shared<T> {
    /// Moves `value` into new shared memory.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or a descriptor (EMFILE).
    pub fn new(value: T) -> Result<Shared<T>> {
        let len = Inner::<T>::LEN.next_multiple_of(page_size()) as u64;
        let inner = Inner::<T>::map(Memory::new(len, len)?)?;
        let header = inner.mapping.as_ptr().cast::<Header>();
        // SAFETY: the mapping begins with room for a header, page-aligned, that nobody else sees yet.
        unsafe { header.write(Inner::<T>::header()) };
        // SAFETY: (shared-1) nobody else sees the place yet.
        unsafe { inner.value().write(value) };
        // SAFETY: (shared-1)
        unsafe { &*inner.value() }.settle()?;
        Ok(Shared { inner: Arc::new(inner) })
    }

    /// Takes up a value that another process made.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the descriptor is not that of a `Shared<T>` of this very type.
    /// * [`Error::Os`]: the system refused the mapping (ENOMEM).
    fn adopt(fd: OwnedFd) -> Result<Shared<T>> {
        let memory = Memory::adopt(fd)?;
        if memory.size() < Inner::<T>::LEN as u64 {
            return Err(Error::corrupt("shared memory that is too short for its type"));
        }
        let inner = Inner::<T>::map(memory)?;
        let header = inner.mapping.as_ptr().cast::<Header>();
        // SAFETY: the mapping begins with a header's bytes, of which every pattern is one; they are
        // copied out before they are looked at.
        let found = unsafe { header.read_volatile() };
        let wanted = Inner::<T>::header();
        if (found.magic, found.size, found.fingerprint)
            != (wanted.magic, wanted.size, wanted.fingerprint)
        {
            return Err(Error::corrupt(format!(
                "shared memory that does not hold a {}",
                type_name::<T>()
            )));
        }
        Ok(Shared { inner: Arc::new(inner) })
    }
}

impl<T: Share> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: (shared-1)
        unsafe { &*self.inner.value() }
    }
}

impl<T: Share> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared { inner: self.inner.clone() }
    }
}

impl<T: Share + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&**self).finish()
    }
}

impl<T: Share> AsFd for Shared<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.memory.as_fd()
    }
}

impl<T: Share> Encode for Shared<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.fd(self.as_fd());
    }
}

impl<T: Share> Decode for Shared<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Shared<T>> {
        Shared::adopt(decoder.fd()?)
    }
}
