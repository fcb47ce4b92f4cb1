//! Bytes that nobody can change any more.

use crate::sys::memory::{self, Mapping};
use crate::sys::{self};
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Bytes in shared memory that are sealed against writing: every process reads them in place.
///
/// A clone, or a copy sent to another process, is the same memory: the bytes are copied once, when
/// they are put in, and never again. The seals are the kernel's and can not be lifted, which is why
/// `SharedBytes` can lend them as a plain slice.
///
/// It is made from a slice or a vector by `try_from`, not by `from`: memory and descriptors can be
/// refused.
///
/// # Examples
/// ```
/// use multiproc::SharedBytes;
///
/// let bytes = SharedBytes::try_from("a dictionary for all".as_bytes())?;
/// assert_eq!(&bytes[2..12], b"dictionary");
///
/// let squares = SharedBytes::build(4, |buffer| {
///     for (i, byte) in buffer.iter_mut().enumerate() {
///         *byte = (i * i) as u8;
///     }
/// })?;
/// assert_eq!(*squares, [0, 1, 4, 9]);
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedBytes {
    inner: Arc<Inner>,
}

struct Inner {
    fd: OwnedFd,
    /// None where there are no bytes: the system has no empty mappings.
    mapping: Option<Mapping>,
}

/// Without the first there would be writers, without the last somebody could cut the file.
const SEALS: i32 = memory::SEAL_WRITE | memory::SEAL_SHRINK | memory::SEAL_GROW | memory::SEAL_SEAL;

impl SharedBytes {
    /// Copies `bytes` into new shared memory.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC) or a descriptor (EMFILE).
    pub fn new(bytes: &[u8]) -> Result<SharedBytes> {
        let fd = memory::memfd(c"multiproc-bytes").map_err(Error::os("memfd_create"))?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = sys::fd::write(fd.as_fd(), rest).map_err(Error::os("write"))?;
            rest = &rest[written..];
        }
        SharedBytes::seal(fd, bytes.len())
    }

    /// Makes `len` zero bytes, lets `fill` write them in place, and seals them.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused memory (ENOMEM, ENOSPC, EFBIG) or a descriptor (EMFILE), or
    ///   `fill` forked a child that is still there and could write (EBUSY).
    pub fn build(len: usize, fill: impl FnOnce(&mut [u8])) -> Result<SharedBytes> {
        let fd = memory::memfd(c"multiproc-bytes").map_err(Error::os("memfd_create"))?;
        memory::set_size(fd.as_fd(), len as u64).map_err(Error::os("ftruncate"))?;
        if len == 0 {
            fill(&mut []);
        } else {
            super::memory::reserve(fd.as_fd(), 0, len as u64)?;
            let mapping = Mapping::shared(fd.as_fd(), 0, len, true).map_err(Error::os("mmap"))?;
            // SAFETY: the mapping is new, `len` writable bytes long, and lives to the end of this
            // block; its descriptor has not left this function, so nobody else has the memory but a
            // child that `fill` forks, whose writes are those of a copy of this very code.
            fill(unsafe { std::slice::from_raw_parts_mut(mapping.as_ptr(), len) });
        }
        SharedBytes::seal(fd, len)
    }

    fn seal(fd: OwnedFd, len: usize) -> Result<SharedBytes> {
        memory::add_seals(fd.as_fd(), SEALS).map_err(Error::os("fcntl(F_ADD_SEALS)"))?;
        SharedBytes::map(fd, len)
    }

    fn map(fd: OwnedFd, len: usize) -> Result<SharedBytes> {
        let mapping = match len {
            0 => None,
            _ => Some(Mapping::private_read_only(fd.as_fd(), len).map_err(Error::os("mmap"))?),
        };
        Ok(SharedBytes { inner: Arc::new(Inner { fd, mapping }) })
    }

    /// Takes up bytes that another process made.
    fn adopt(fd: OwnedFd) -> Result<SharedBytes> {
        let seals = memory::seals(fd.as_fd())
            .map_err(|_| Error::corrupt("a descriptor that is no memory file"))?;
        if seals & SEALS != SEALS {
            return Err(Error::corrupt("shared bytes that are not sealed"));
        }
        // The seals come first: from here on neither size nor bytes can change.
        let len = memory::size(fd.as_fd()).map_err(Error::os("fstat"))?;
        let len = usize::try_from(len)
            .map_err(|_| Error::os("mmap")(io::Error::from_raw_os_error(sys::ENOMEM)))?;
        SharedBytes::map(fd, len)
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.inner.mapping {
            // SAFETY: (bytes-1)
            Some(mapping) => unsafe { std::slice::from_raw_parts(mapping.as_ptr(), mapping.len()) },
            None => &[],
        }
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl TryFrom<&[u8]> for SharedBytes {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<SharedBytes> {
        SharedBytes::new(bytes)
    }
}

impl TryFrom<Vec<u8>> for SharedBytes {
    type Error = Error;

    fn try_from(bytes: Vec<u8>) -> Result<SharedBytes> {
        SharedBytes::new(&bytes)
    }
}

impl PartialEq for SharedBytes {
    fn eq(&self, other: &SharedBytes) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner) || **self == **other
    }
}

impl Eq for SharedBytes {}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<SharedBytes(len={})>", self.len())
    }
}

impl AsFd for SharedBytes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.fd.as_fd()
    }
}

impl Encode for SharedBytes {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.fd(self.as_fd());
    }
}

impl Decode for SharedBytes {
    fn decode(decoder: &mut Decoder<'_>) -> Result<SharedBytes> {
        SharedBytes::adopt(decoder.fd()?)
    }
}
