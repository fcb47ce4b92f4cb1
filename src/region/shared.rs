//! One value in shared memory.

use super::share::Blank;
use super::{Memory, Share};
use crate::sys::memory::{Mapping, page_size};
use crate::{Decode, Decoder, Encode, Encoder, Error, Result, sys};
use std::any::type_name;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, needs_drop};
use std::ops::{Deref, Range};
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
    /// The bytes behind the value, of a [`SharedSlice`](super::SharedSlice).
    tail: u64,
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
    /// Where the value ends.
    const END: usize = VALUE_AT + size_of::<T>();

    /// Maps the first `len` bytes of the memory.
    fn map(memory: Memory, len: u64) -> Result<Inner<T>> {
        const { assert!(align_of::<T>() <= VALUE_AT, "aligned to more than a cache line") };
        if len < Self::END as u64 || memory.size() < len {
            return Err(Error::corrupt("shared memory that is too short for its type"));
        }
        let len = usize::try_from(len)
            .map_err(|_| Error::os("mmap")(io::Error::from_raw_os_error(sys::ENOMEM)))?;
        let mapping = Mapping::shared(memory.as_fd(), 0, len, true).map_err(Error::os("mmap"))?;
        Ok(Inner { memory, mapping: ManuallyDrop::new(mapping), value: PhantomData })
    }

    fn header(&self) -> *mut Header {
        self.mapping.as_ptr().cast()
    }

    #[inline]
    fn value(&self) -> *mut T {
        // SAFETY: `map` made sure that the mapping is `END` bytes long or longer, so the value is inside.
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
    /// The fewest bytes that its memory can have.
    pub(super) const LEN: usize = Inner::<T>::END;

    /// Moves `value` into new shared memory.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or a descriptor (EMFILE).
    pub fn new(value: T) -> Result<Shared<T>> {
        Shared::moved(&value, type_name::<T>(), Inner::<T>::END, 0)
    }

    /// Moves `value` into new shared memory of `len` bytes or more; those behind the value are zero.
    /// `name` is of the type that knows what they are.
    pub(super) fn with_tail(value: T, name: &str, len: usize) -> Result<Shared<T>> {
        Shared::moved(&value, name, len, 0)
    }

    /// As [`new`](Self::new), with `room` bytes behind the value's pages: holes, until somebody reserves
    /// them in [`memory`](Self::memory) and maps them as an [`Area`](super::Area).
    pub(crate) fn with_room(value: T, room: u64) -> Result<Shared<T>> {
        Shared::moved(&value, type_name::<T>(), Inner::<T>::END, room)
    }

    /// A value of zero bytes in new shared memory, the pages of which are not touched but for the first.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn zeroed() -> Result<Shared<T>>
    where
        T: Blank,
    {
        let inner = Shared::<T>::make(type_name::<T>(), Inner::<T>::END, 0)?;
        Ok(Shared { inner: Arc::new(inner) })
    }

    /// Makes the memory of a value that its caller then lets go of. It comes by reference because
    /// thousands of locks are large, and each move would be one more copy on the stack.
    fn moved(value: &T, name: &str, len: usize, room: u64) -> Result<Shared<T>> {
        let inner = Shared::<T>::make(name, len, room)?;
        // SAFETY: (shared-1) nobody else sees the place yet. The original is not used again, and has
        // nothing to drop.
        unsafe { inner.value().copy_from_nonoverlapping(value, 1) };
        // SAFETY: (shared-1)
        unsafe { &*inner.value() }.settle()?;
        Ok(Shared { inner: Arc::new(inner) })
    }

    /// Memory with a header, and zero bytes in the value's place.
    fn make(name: &str, len: usize, room: u64) -> Result<Inner<T>> {
        const { assert!(!needs_drop::<T>(), "a type in shared memory is never dropped") };
        debug_assert!(len >= Inner::<T>::END);
        let mapped = (len as u64).next_multiple_of(page_size() as u64);
        let size = mapped.checked_add(room).ok_or_else(|| Error::invalid("too much room"))?;
        let inner = Inner::<T>::map(Memory::new(size, mapped)?, mapped)?;
        let tail = (len - Inner::<T>::END) as u64;
        let header = Header {
            magic: MAGIC,
            size: size_of::<T>() as u64,
            fingerprint: fingerprint(name),
            tail,
        };
        // SAFETY: the mapping begins with room for a header, page-aligned, that nobody else sees yet.
        unsafe { inner.header().write(header) };
        Ok(inner)
    }

    /// Takes up a value that another process made.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the descriptor is not that of a `Shared<T>` of this very type.
    /// * [`Error::Os`]: the system refused the mapping (ENOMEM).
    fn adopt(fd: OwnedFd) -> Result<Shared<T>> {
        // What may be behind the value's pages is for its users to map.
        let inner = Inner::<T>::map(Memory::adopt(fd)?, Self::pages())?;
        match Shared::check(inner, type_name::<T>())? {
            (shared, 0) => Ok(shared),
            _ => Err(wrong_type(type_name::<T>())),
        }
    }

    /// The bytes of the file that the pages of the value take.
    fn pages() -> u64 {
        Inner::<T>::END.next_multiple_of(page_size()) as u64
    }

    /// The file, for who maps the room behind the value.
    pub(crate) fn memory(&self) -> &Memory {
        &self.inner.memory
    }

    /// Where in the file the room is; the file is sealed, so this never changes.
    pub(crate) fn room(&self) -> Range<u64> {
        Self::pages()..self.inner.memory.size()
    }

    /// Takes up a value and the bytes behind it, and says how many those are.
    pub(super) fn adopt_with_tail(fd: OwnedFd, name: &str) -> Result<(Shared<T>, usize)> {
        let memory = Memory::adopt(fd)?;
        let size = memory.size();
        Shared::check(Inner::<T>::map(memory, size)?, name)
    }

    fn check(inner: Inner<T>, name: &str) -> Result<(Shared<T>, usize)> {
        // SAFETY: the mapping begins with a header's bytes, of which every pattern is one; they are
        // copied out before they are looked at.
        let found = unsafe { inner.header().read_volatile() };
        if (found.magic, found.size, found.fingerprint)
            != (MAGIC, size_of::<T>() as u64, fingerprint(name))
        {
            return Err(wrong_type(name));
        }
        let room = inner.mapping.len() - Inner::<T>::END;
        match usize::try_from(found.tail) {
            Ok(tail) if tail <= room => Ok((Shared { inner: Arc::new(inner) }, tail)),
            _ => Err(Error::corrupt("shared memory that is too short for its items")),
        }
    }

    /// Where the bytes behind the value begin.
    #[inline]
    pub(super) fn tail(&self) -> *mut u8 {
        // SAFETY: `map` made sure that the mapping is `END` bytes long or longer.
        unsafe { self.inner.mapping.as_ptr().add(Inner::<T>::END) }
    }

    /// What tells this memory from all other, in every process.
    pub(crate) fn identity(&self) -> Result<u64> {
        self.inner.memory.identity()
    }
}

fn wrong_type(name: &str) -> Error {
    Error::corrupt(format!("shared memory that does not hold a {name}"))
}

impl<T: Share> Deref for Shared<T> {
    type Target = T;

    #[inline]
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
