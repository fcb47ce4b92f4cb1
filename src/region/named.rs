//! Lending the memory of a named block.

use crate::{Result, SharedMemory};

impl SharedMemory {
    /// The bytes themselves.
    ///
    /// # Errors
    /// * [`Error::Os`](crate::Error::Os): the system refused the mapping (ENOMEM).
    ///
    /// # Safety
    /// * Nobody else, in this or another process, writes the bytes for as long as the slice lives, nor
    ///   reads what is written through it.
    /// * No program makes the block shorter meanwhile.
    #[allow(clippy::mut_from_ref, reason = "that nobody else has it is the caller's promise")]
    pub unsafe fn as_mut_slice(&self) -> Result<&mut [u8]> {
        let start = self.as_mut_ptr()?;
        // SAFETY: the mapping is `len` bytes long and lives as long as `self`; the rest is promised by
        // the caller.
        Ok(unsafe { std::slice::from_raw_parts_mut(start, self.len()) })
    }
}
