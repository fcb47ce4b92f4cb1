//! A sealed file in memory.

use crate::sys::memory;
use crate::{Error, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A memory file of a fixed size, sealed so that neither its size nor its seals can change.
#[derive(Debug)]
pub(crate) struct Memory {
    fd: OwnedFd,
    size: u64,
}

impl Memory {
    const SEALS: i32 = memory::SEAL_SHRINK | memory::SEAL_GROW | memory::SEAL_SEAL;

    /// Makes a file of `size` zero bytes, of which the first `reserved` have their pages already.
    ///
    /// # Errors
    /// * [`Error::Os`]: `memfd_create` (EMFILE, ENOMEM), `ftruncate` (EFBIG), `fallocate` (ENOSPC,
    ///   ENOMEM) or sealing was refused. Nothing remains.
    pub(crate) fn new(size: u64, reserved: u64) -> Result<Memory> {
        let fd = memory::memfd(c"multiproc").map_err(Error::os("memfd_create"))?;
        memory::set_size(fd.as_fd(), size).map_err(Error::os("ftruncate"))?;
        let memory = Memory { fd, size };
        memory.reserve(0, reserved)?;
        memory::add_seals(memory.fd.as_fd(), Self::SEALS)
            .map_err(Error::os("fcntl(F_ADD_SEALS)"))?;
        Ok(memory)
    }

    /// Takes up a file that another process made, after checking that it is what [`new`](Self::new)
    /// makes.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the descriptor is no memory file, or not sealed as it must be.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<Memory> {
        let seals = memory::seals(fd.as_fd())
            .map_err(|_| Error::corrupt("a descriptor that is no memory file"))?;
        if seals & Self::SEALS != Self::SEALS {
            return Err(Error::corrupt("a memory file that is not sealed"));
        }
        // The seals come first: from here on the size cannot change.
        let size = memory::size(fd.as_fd()).map_err(Error::os("fstat"))?;
        Ok(Memory { fd, size })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Gives a range its pages, so that touching it cannot fail for lack of memory.
    ///
    /// # Errors
    /// * [`Error::Os`]: `fallocate` was refused (ENOSPC, ENOMEM).
    pub(crate) fn reserve(&self, offset: u64, len: u64) -> Result<()> {
        debug_assert!(offset + len <= self.size);
        if len == 0 {
            return Ok(());
        }
        memory::reserve(self.fd.as_fd(), offset, len).map_err(Error::os("fallocate"))
    }

    /// Gives a range's pages back to the system; it reads as zeros afterwards.
    pub(crate) fn punch(&self, offset: u64, len: u64) -> Result<()> {
        memory::punch(self.fd.as_fd(), offset, len)
            .map_err(Error::os("fallocate(FALLOC_FL_PUNCH_HOLE)"))
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
