//! A sealed file in memory.

use crate::sys::limits::{Resource, soft_limit};
use crate::sys::{self, memory};
use crate::{Error, Result};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A memory file that never shrinks, nor grows unless it was made to; its seals cannot change.
#[derive(Debug)]
pub(crate) struct Memory {
    fd: OwnedFd,
    size: u64,
}

/// How much is reserved by one call, which a signal makes begin again.
const STRIDE: u64 = 64 << 20;

impl Memory {
    const FIXED: i32 = memory::SEAL_SHRINK | memory::SEAL_GROW | memory::SEAL_SEAL;
    const GROWABLE: i32 = memory::SEAL_SHRINK | memory::SEAL_SEAL;

    /// Makes a file of `size` zero bytes, of which the first `reserved` have their pages already.
    ///
    /// # Errors
    /// * [`Error::Os`]: `memfd_create` (EMFILE, ENOMEM), `ftruncate` (EFBIG), `fallocate` (ENOSPC,
    ///   ENOMEM) or sealing was refused. Nothing remains.
    pub(crate) fn new(size: u64, reserved: u64) -> Result<Memory> {
        Memory::make(size, reserved, Self::FIXED)
    }

    /// Makes a file like [`new`](Self::new)'s, all of it reserved, that may grow but never shrink.
    /// Its [`size`](Self::size) is what it was made with.
    pub(crate) fn growable(size: u64) -> Result<Memory> {
        Memory::make(size, size, Self::GROWABLE)
    }

    fn make(size: u64, reserved: u64, seals: i32) -> Result<Memory> {
        // Beyond this limit the call below would raise SIGXFSZ.
        if soft_limit(Resource::FileSize).ok().flatten().is_some_and(|limit| size > limit) {
            return Err(Error::os("ftruncate")(io::Error::from_raw_os_error(sys::EFBIG)));
        }
        let fd = memory::memfd(c"multiproc").map_err(Error::os("memfd_create"))?;
        memory::set_size(fd.as_fd(), size).map_err(Error::os("ftruncate"))?;
        let memory = Memory { fd, size };
        memory.reserve(0, reserved)?;
        memory::add_seals(memory.fd.as_fd(), seals).map_err(Error::os("fcntl(F_ADD_SEALS)"))?;
        Ok(memory)
    }

    /// Takes up a file that another process made, after checking that it is what [`new`](Self::new)
    /// makes.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the descriptor is no memory file, or not sealed as it must be.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<Memory> {
        match Memory::adopt_growable(fd)? {
            (memory, false) => Ok(memory),
            _ => Err(Error::corrupt("a memory file that can grow")),
        }
    }

    /// Takes up a file that another process made by [`new`](Self::new) or
    /// [`growable`](Self::growable), and says whether it was the second.
    pub(crate) fn adopt_growable(fd: OwnedFd) -> Result<(Memory, bool)> {
        let seals = memory::seals(fd.as_fd())
            .map_err(|_| Error::corrupt("a descriptor that is no memory file"))?;
        if seals & Self::GROWABLE != Self::GROWABLE {
            return Err(Error::corrupt("a memory file that is not sealed"));
        }
        // The seals come first: from here on the size cannot shrink.
        let size = memory::size(fd.as_fd()).map_err(Error::os("fstat"))?;
        Ok((Memory { fd, size }, seals & memory::SEAL_GROW == 0))
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The size at this moment, of memory that may grow.
    pub(crate) fn current_size(&self) -> Result<u64> {
        memory::size(self.fd.as_fd()).map_err(Error::os("fstat"))
    }

    /// What tells this memory from all other, in every process.
    pub(crate) fn identity(&self) -> Result<u64> {
        memory::inode(self.fd.as_fd()).map_err(Error::os("fstat"))
    }

    /// Gives a range its pages, so that touching it cannot fail for lack of memory. Memory that may
    /// grow does so if the range ends beyond it.
    ///
    /// # Errors
    /// * [`Error::Os`]: `fallocate` was refused (ENOSPC, ENOMEM); ENOMEM also for more than the
    ///   machine has, which the system would begin to give and have to kill somebody for.
    pub(crate) fn reserve(&self, offset: u64, len: u64) -> Result<()> {
        reserve(self.fd.as_fd(), offset, len)
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

/// [`Memory::reserve`] for a file that is no `Memory` yet.
pub(super) fn reserve(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    let refused = Error::os("fallocate");
    if len > STRIDE && memory::installed().is_ok_and(|installed| len > installed) {
        return Err(refused(io::Error::from_raw_os_error(sys::ENOMEM)));
    }
    let end = offset.saturating_add(len);
    let mut at = offset;
    while at < end {
        let step = STRIDE.min(end - at);
        memory::reserve(fd, at, step).map_err(&refused)?;
        at += step;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_could_shrink_or_be_sealed_further_is_refused() {
        for seals in [0, memory::SEAL_SHRINK, memory::SEAL_SEAL, memory::SEAL_GROW] {
            let fd = memory::memfd(c"multiproc-test").unwrap();
            memory::set_size(fd.as_fd(), 4096).unwrap();
            memory::add_seals(fd.as_fd(), seals).unwrap();
            assert!(matches!(Memory::adopt_growable(fd), Err(Error::Corrupt { .. })), "{seals}");
        }
    }

    #[test]
    fn memory_is_taken_up_as_what_it_was_made_as() {
        let fixed = Memory::new(10_000, 0).unwrap();
        let copy = || fixed.as_fd().try_clone_to_owned().unwrap();
        assert_eq!(Memory::adopt(copy()).unwrap().size(), 10_000);
        assert!(!Memory::adopt_growable(copy()).unwrap().1);
        assert!(fixed.reserve(0, 20_000).is_err(), "sealed against growing");

        let growable = Memory::growable(10).unwrap();
        growable.reserve(10, 90).unwrap();
        assert_eq!((growable.size(), growable.current_size().unwrap()), (10, 100));
        let copy = growable.as_fd().try_clone_to_owned().unwrap();
        assert!(matches!(Memory::adopt(copy), Err(Error::Corrupt { .. })));
        assert_ne!(fixed.identity().unwrap(), growable.identity().unwrap());
    }

    #[test]
    fn more_than_the_machine_has_is_refused_before_it_is_tried() {
        let refused = Memory::new(1 << 50, 1 << 50).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(sys::ENOMEM));
        assert_eq!(Memory::new(1 << 50, 0).unwrap().size(), 1 << 50, "of holes");
    }
}
