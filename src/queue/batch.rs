//! Several messages got under one turn.

use crate::Result;
use crate::codec::Payload;
use std::os::fd::OwnedFd;

/// Messages one behind the other in one pair of buffers.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    payload: Payload,
    /// Where each message ends in the bytes, and in the descriptors.
    ends: Vec<(usize, usize)>,
    most: usize,
}

impl Batch {
    /// More bytes than this are not taken at once: a consumer that is killed takes them along.
    const MOST_BYTES: usize = 1 << 20;

    /// One for `most` messages.
    pub(crate) fn of(most: usize) -> Batch {
        Batch { most, ..Batch::default() }
    }

    pub(super) fn clear(&mut self) {
        self.payload.bytes.clear();
        self.payload.fds.clear();
        self.ends.clear();
    }

    pub(super) fn has_room(&self) -> bool {
        self.ends.len() < self.most && self.payload.bytes.len() < Self::MOST_BYTES
    }

    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The descriptors of all messages together.
    pub(super) fn fds(&self) -> usize {
        self.ends.last().map_or(0, |end| end.1)
    }

    pub(super) fn payload(&mut self) -> &mut Payload {
        &mut self.payload
    }

    /// What was added to the payload is a message.
    pub(super) fn end_message(&mut self) {
        self.ends.push((self.payload.bytes.len(), self.payload.fds.len()));
    }

    /// Calls `each` for the messages in their order, until it fails.
    pub(crate) fn try_for_each(
        &mut self,
        mut each: impl FnMut(&[u8], &mut Vec<OwnedFd>) -> Result<()>,
    ) -> Result<()> {
        let mut fds = std::mem::take(&mut self.payload.fds).into_iter();
        let (mut start, mut fds_taken) = (0, 0);
        for &(end, fds_end) in &self.ends {
            let mut own: Vec<OwnedFd> = fds.by_ref().take(fds_end - fds_taken).collect();
            each(&self.payload.bytes[start..end], &mut own)?;
            (start, fds_taken) = (end, fds_end);
        }
        Ok(())
    }
}
