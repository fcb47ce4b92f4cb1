//! Bytes that several processes read and write.

use super::{Memory, words};
use crate::sys::memory::{Mapping, page_size};
use crate::{Decode, Decoder, Encode, Encoder, Error, Result, sys};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A run of bytes in memory that several processes map: the plainest thing there is to share.
///
/// A clone, or a copy sent to another process, is the same memory. Reads and writes copy whole machine
/// words without a lock: what somebody else writes at the same time comes out half old, half new, and
/// nothing is ordered around it. A [`Lock`](crate::Lock) beside the region takes care of both;
/// [`Array`](crate::Array) is the two in one.
///
/// A region made by [`growable`](Self::growable) reserves address space beyond its end, so that it can
/// grow in place: all processes that have it see its new end, and none has to map it again.
///
/// # If a process dies
/// The bytes stay as it left them; the memory is freed with its last handle, wherever that is.
///
/// # Examples
/// ```
/// use multiproc::Region;
///
/// let region = Region::growable(10, 1 << 20)?;
/// region.write_at(6, b"data")?;
/// assert!(region.write_at(7, b"data").is_err(), "beyond the end");
///
/// region.clone().grow(4096)?;
/// region.write_at(7, b"data")?;
/// assert_eq!(region.read_at(5, 6)?, b"\0ddata");
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct Region {
    inner: Arc<Inner>,
}

struct Inner {
    memory: Memory,
    mapping: Mapping,
    /// How far the memory is known to reach; it never shrinks, so what is inside stays inside.
    known: AtomicUsize,
    growable: bool,
    /// How far it may reach. The mapping is as long, rounded up.
    max: usize,
}

impl Region {
    /// Makes a region of `len` zero bytes.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC, EFBIG) or a descriptor (EMFILE).
    pub fn new(len: usize) -> Result<Region> {
        Region::map(Memory::new(len as u64, len as u64)?, len, false)
    }

    /// Makes a region of `len` zero bytes that can [`grow`](Self::grow) to `max` bytes. Those to come
    /// cost address space and no memory.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: `max` is less than `len`.
    /// * [`Error::Os`]: as [`new`](Self::new); ENOMEM also where address space is limited.
    pub fn growable(len: usize, max: usize) -> Result<Region> {
        if max < len {
            return Err(Error::invalid(format!("a region of {len} bytes that may have {max}")));
        }
        Region::map(Memory::growable(len as u64)?, max, true)
    }

    fn map(memory: Memory, max: usize, growable: bool) -> Result<Region> {
        let refused = Error::os("mmap");
        // One byte at least, since there are no empty mappings; whole pages, so that the word that
        // holds the last byte is inside.
        let len = max
            .max(1)
            .checked_next_multiple_of(page_size())
            .filter(|&len| len <= isize::MAX as usize)
            .ok_or_else(|| refused(io::Error::from_raw_os_error(sys::ENOMEM)))?;
        let mapping = Mapping::shared(memory.as_fd(), 0, len, true).map_err(&refused)?;
        let known = AtomicUsize::new(usize::try_from(memory.size()).unwrap_or(max).min(max));
        Ok(Region { inner: Arc::new(Inner { memory, mapping, known, growable, max }) })
    }

    /// How many bytes there are at this moment.
    pub fn len(&self) -> usize {
        self.inner.learn_len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes there can be.
    pub fn max_len(&self) -> usize {
        self.inner.max
    }

    /// Makes the region `len` bytes long, for every process that has it; the new bytes are zero. A
    /// region that is as long already stays as it is.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: the region cannot be as long.
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC). The region is what it was.
    pub fn grow(&self, len: usize) -> Result<()> {
        if len > self.max_len() {
            let max = self.max_len();
            return Err(Error::invalid(format!("{len} bytes of a region of at most {max}")));
        }
        let now = self.len();
        if len > now {
            self.inner.memory.reserve(now as u64, (len - now) as u64)?;
            self.inner.known.fetch_max(len, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Copies out the `len` bytes at `at`.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: they are not all inside.
    pub fn read_at(&self, at: usize, len: usize) -> Result<Vec<u8>> {
        self.inner.check(at, len)?;
        let mut bytes = vec![0; len];
        self.read_into(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `to` with the bytes at `at`.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: they are not all inside.
    pub fn read_into(&self, at: usize, to: &mut [u8]) -> Result<()> {
        let from = self.inner.check(at, to.len())?;
        // SAFETY: (region-1) `check` found the bytes inside.
        unsafe { words::load(from, to) };
        Ok(())
    }

    /// Copies `bytes` in at `at`.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: they would not all be inside.
    pub fn write_at(&self, at: usize, bytes: &[u8]) -> Result<()> {
        let to = self.inner.check(at, bytes.len())?;
        // SAFETY: (region-1) `check` found the bytes inside.
        unsafe { words::store(to, bytes) };
        Ok(())
    }

    /// The address of the first byte, page-aligned.
    ///
    /// # Safety
    /// * The pointer is used while a clone of the region lives, and for the first [`len`](Self::len)
    ///   bytes alone: beyond them is SIGBUS.
    /// * What other threads and processes access at the same time is accessed atomically, by words of
    ///   one size (`usize`, if [`read_at`](Self::read_at) or [`write_at`](Self::write_at) is one of
    ///   them), and no reference to it is made.
    pub unsafe fn as_ptr(&self) -> *mut u8 {
        self.inner.mapping.as_ptr()
    }
}

impl Inner {
    fn learn_len(&self) -> usize {
        let known = self.known.load(Ordering::Relaxed);
        if !self.growable {
            return known;
        }
        match self.memory.current_size() {
            // A file that somebody made longer than the mapping is none of our making, but no harm.
            Ok(size) => {
                let size = usize::try_from(size).unwrap_or(self.max).min(self.max);
                self.known.fetch_max(size, Ordering::Relaxed).max(size)
            }
            Err(_) => known,
        }
    }

    /// The address of `len` bytes at `at`, if they are all inside.
    #[inline]
    fn check(&self, at: usize, len: usize) -> Result<*mut u8> {
        let inside = |end: usize| at.checked_add(len).is_some_and(|wanted| wanted <= end);
        if inside(self.known.load(Ordering::Relaxed)) || inside(self.learn_len()) {
            return Ok(self.mapping.as_ptr().wrapping_add(at));
        }
        let known = self.known.load(Ordering::Relaxed);
        Err(Error::invalid(format!("{len} bytes at {at} of a region of {known}")))
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inner.growable {
            true => write!(f, "<Region(len={}, max_len={})>", self.len(), self.max_len()),
            false => write!(f, "<Region(len={})>", self.len()),
        }
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.memory.as_fd()
    }
}

impl Encode for Region {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.fd(self.as_fd());
        encoder.len(self.max_len());
    }
}

impl Decode for Region {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Region> {
        let (memory, growable) = Memory::adopt_growable(decoder.fd()?)?;
        let max = decoder.len()?;
        let fits = if growable { memory.size() <= max as u64 } else { memory.size() == max as u64 };
        if !fits {
            let size = memory.size();
            return Err(Error::corrupt(format!("a region of {size} bytes that may have {max}")));
        }
        Region::map(memory, max, growable)
    }
}
