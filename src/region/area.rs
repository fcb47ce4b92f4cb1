//! A mapped stretch of bytes that locks kept by its users protect.

use super::Memory;
use crate::sys::memory::Mapping;
use crate::{Error, Result};
use std::os::fd::AsFd;

/// A stretch of a [`Memory`], mapped: bytes are copied in and out and never borrowed, since another
/// process may write them at any time.
#[derive(Debug)]
pub(crate) struct Area {
    mapping: Mapping,
}

impl Area {
    /// Maps `len` bytes of `memory` from `offset`, a multiple of the page size.
    ///
    /// # Errors
    /// * [`Error::Os`]: `mmap` was refused (ENOMEM: no address space).
    /// * [`Error::Corrupt`]: the memory ends before the stretch does.
    pub(crate) fn map(memory: &Memory, offset: u64, len: usize) -> Result<Area> {
        if offset.checked_add(len as u64).is_none_or(|end| end > memory.size()) {
            return Err(Error::corrupt("a memory file that is too short"));
        }
        let mapping =
            Mapping::shared(memory.as_fd(), offset, len, true).map_err(Error::os("mmap"))?;
        Ok(Area { mapping })
    }

    pub(crate) fn len(&self) -> usize {
        self.mapping.len()
    }

    /// The address of `len` bytes at `at`.
    ///
    /// # Panics
    /// If they are not all inside: offsets from shared memory are checked before they come here.
    fn bytes(&self, at: usize, len: usize) -> *mut u8 {
        assert!(
            at.checked_add(len).is_some_and(|end| end <= self.len()),
            "{len} bytes at {at} of a mapped area of {}",
            self.len()
        );
        // SAFETY: the assertion above keeps the sum inside the mapping.
        unsafe { self.mapping.as_ptr().add(at) }
    }

    /// Copies bytes in. The caller holds the lock that its protocol asks of a writer.
    pub(crate) fn write(&self, at: usize, from: &[u8]) {
        let to = self.bytes(at, from.len());
        // SAFETY: (area-1) `to` has room for `from`, and the two do not overlap: nobody holds a
        // slice of a mapping.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }

    /// Copies bytes out. The caller holds the lock that its protocol asks of a reader, and checks
    /// the copy before it believes it.
    pub(crate) fn read(&self, at: usize, to: &mut [u8]) {
        let from = self.bytes(at, to.len());
        // SAFETY: (area-1) as for `write`, with the two sides changed.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }

    /// Copies `len` bytes out onto the end of `to`.
    pub(crate) fn append_to(&self, at: usize, len: usize, to: &mut Vec<u8>) {
        to.reserve(len);
        let from = self.bytes(at, len);
        let end = to.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: (area-1) `reserve` made room for `len` bytes behind the vector's end.
        unsafe { std::ptr::copy_nonoverlapping(from, end, len) };
        // SAFETY: the copy above initialised the `len` bytes behind the end.
        unsafe { to.set_len(to.len() + len) };
    }
}
