//! Descriptors that arrived, and which message each belongs to.
//!
//! The kernel hands descriptors over with the first of the bytes that one `sendmsg` sent along with them,
//! in a read that goes no further than those bytes. It may begin earlier, with bytes of other calls that
//! had none. So of all that a read brings, its last byte is sure to have come with the descriptors, and
//! they belong to the message which that byte is part of: to no other one, whatever that says of itself.

use crate::sys::limits::{Resource, soft_limit};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

/// So many may be held before the limit is looked up.
const FEW: usize = 256;

/// Half of the descriptors that this process may have.
fn most_held() -> usize {
    let limit = soft_limit(Resource::OpenFiles).ok().flatten().unwrap_or(u64::MAX);
    usize::try_from(limit / 2).unwrap_or(usize::MAX)
}

/// The descriptors that were received and not taken yet, in the order of the stream.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    batches: VecDeque<Batch>,
    /// How many descriptors the batches have together.
    held: usize,
    /// Where a read leaves its descriptors until it is [`note`](Self::note)d.
    incoming: Vec<OwnedFd>,
}

/// What one read brought.
#[derive(Debug)]
pub(super) struct Batch {
    /// The place in the stream of the last byte that came with it.
    pub(super) at: u64,
    pub(super) fds: Vec<OwnedFd>,
    /// Whether there were more, for which this process had no number free.
    pub(super) lost: bool,
}

impl Arrivals {
    pub(super) fn incoming(&mut self) -> &mut Vec<OwnedFd> {
        &mut self.incoming
    }

    /// Files what [`incoming`](Self::incoming) holds under the last of the bytes it came with.
    ///
    /// What is held for messages that are still on their way is at most half of what this process may
    /// open: no peer can keep it from opening files by a message that never ends. More is closed.
    pub(super) fn note(&mut self, read: Range<u64>, mut lost: bool) {
        if self.held > FEW && self.held > most_held() {
            lost |= !self.incoming.is_empty();
            self.incoming.clear();
        }
        if lost || !self.incoming.is_empty() {
            let (at, fds) = (read.end.saturating_sub(1), std::mem::take(&mut self.incoming));
            self.push(Batch { at, fds, lost });
        }
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.held += batch.fds.len();
        self.batches.push_back(batch);
    }

    pub(super) fn batches(&self) -> impl ExactSizeIterator<Item = &Batch> {
        self.batches.iter()
    }

    /// Takes the `count` descriptors of the message at `span`, and closes what it should not have had.
    pub(super) fn take(&mut self, span: &Range<u64>, count: usize) -> Result<Vec<OwnedFd>> {
        let mut taken = Vec::new();
        if count == 0 && self.batches.is_empty() {
            return Ok(taken);
        }
        self.discard_before(span.start);
        let mut lost = false;
        while let Some(batch) = self.pop_before(span.end) {
            lost |= batch.lost;
            taken.extend(batch.fds);
        }
        let came = taken.len();
        taken.truncate(count);
        match taken.len() == count {
            true => Ok(taken),
            false if lost => {
                let source = io::Error::from_raw_os_error(crate::sys::EMFILE);
                Err(Error::os("recvmsg(SCM_RIGHTS)")(source))
            }
            false => Err(Error::decode(format!(
                "{count} descriptors announced where {came} came with the message"
            ))),
        }
    }

    /// Closes what came with bytes before `end`.
    pub(super) fn discard_before(&mut self, end: u64) {
        while self.pop_before(end).is_some() {}
    }

    fn pop_before(&mut self, end: u64) -> Option<Batch> {
        if self.batches.front()?.at >= end {
            return None;
        }
        let batch = self.batches.pop_front()?;
        self.held -= batch.fds.len();
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    fn arrivals(batches: &[(Range<u64>, usize, bool)]) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for (span, count, lost) in batches {
            arrivals.incoming().extend((0..*count).map(|_| sys::fd::eventfd(true).unwrap()));
            arrivals.note(span.clone(), *lost);
        }
        arrivals
    }

    #[test]
    fn descriptors_belong_to_the_message_with_the_last_byte_of_the_read() {
        let mut arrivals = arrivals(&[(0..20, 2, false)]);
        assert!(matches!(arrivals.take(&(0..8), 2), Err(Error::Decode { .. })));
        assert_eq!(arrivals.take(&(8..24), 2).unwrap().len(), 2);
        assert_eq!(arrivals.batches().len(), 0);
    }

    #[test]
    fn a_message_takes_nothing_that_came_before_or_after_it() {
        let mut arrivals = arrivals(&[(0..10, 1, false), (20..30, 1, false)]);
        assert!(matches!(arrivals.take(&(10..20), 1), Err(Error::Decode { .. })));
        assert_eq!(arrivals.take(&(20..30), 1).unwrap().len(), 1);
    }

    #[test]
    fn a_message_gathers_what_came_with_each_part_of_it_and_no_more_than_it_announced() {
        let mut arrivals = arrivals(&[(0..11, 2, false), (11..12, 2, false), (12..30, 2, false)]);
        assert_eq!(arrivals.take(&(10..30), 5).unwrap().len(), 5);
        assert_eq!(arrivals.batches().len(), 0);
    }

    #[test]
    fn descriptors_that_found_no_number_are_emfile_for_their_message_alone() {
        let mut arrivals = arrivals(&[(0..20, 1, true)]);
        assert_eq!(arrivals.take(&(0..8), 0).unwrap().len(), 0);
        let error = arrivals.take(&(8..20), 3).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(sys::EMFILE));
        assert_eq!(arrivals.take(&(20..30), 0).unwrap().len(), 0);
    }
}
