//! What the processes of a ring share about it, beside its bytes.

use super::cursor::{Cursor, Point};
use crate::region::RawLock;
use crate::{Error, Result};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// How many segments the table has room for: more than there can be classes, each of which is in one
/// segment of the chain at most.
pub(super) const SEGMENTS: usize = 64;

crate::shared! {
    /// The control block of a ring, one page.
    ///
    /// Every part has cache lines of its own: what producers write and what consumers write never
    /// share one.
    pub(super) struct State {
        pub(super) fixed: Fixed,
        pub(super) producer: Producer,
        pub(super) items: Items,
        pub(super) tail: Cursor,
        pub(super) consumer: Consumer,
        pub(super) space: Space,
        pub(super) head: Cursor,
        /// Segment `s` is in place `s % SEGMENTS`. Written under the producers' turn, before the tail
        /// that makes the segment exist is published.
        pub(super) segments: [Segment; SEGMENTS],
    }

    /// What never changes, but for `watched`, which changes once.
    #[repr(align(64))]
    pub(super) struct Fixed {
        /// The most items; 0 means no limit.
        pub(super) maxsize: AtomicU64,
        /// 1 if sleepers for items do not keep the turn.
        pub(super) crowd: AtomicU32,
        /// 1 once somebody polls the bells, which then fall silent when the ring is found empty.
        pub(super) watched: AtomicU32,
        /// 1 if who puts publishes first and rings then.
        pub(super) tended: AtomicU32,
        /// 1 if its handles are ends, who have a bell for space.
        pub(super) ends: AtomicU32,
    }

    /// The producers' side.
    #[repr(align(64))]
    pub(super) struct Producer {
        /// Held by the one producer that puts, also while it sleeps for space.
        pub(super) turn: RawLock,
        /// The head as last looked at, under the turn; zeros after a death.
        pub(super) seen: Point,
        /// The last number given to a message with descriptors. Counted up under the turn, before the
        /// first of the descriptors is sent, and never down.
        pub(super) ticket: AtomicU64,
    }

    /// The consumers' side.
    #[repr(align(64))]
    pub(super) struct Consumer {
        /// Held by the one consumer that gets, also while it sleeps for items.
        pub(super) turn: RawLock,
        /// The tail as last looked at, under the turn; zeros after a death.
        pub(super) seen: Point,
        /// The last ticket of which no descriptor is waiting in the side socket.
        pub(super) settled: AtomicU64,
        /// When the ring last gave its memory back, in nanoseconds of the monotonic clock.
        pub(super) shrunk: AtomicU64,
    }

    /// The sleepers of a crowd.
    #[repr(align(64))]
    pub(super) struct Items {
        /// How many sleep for an item; may say more than there are. With the tokens, never fewer.
        pub(super) sleepers: AtomicU32,
        /// Wake-ups that no sleeper of a crowd has taken yet: the futex they sleep on.
        pub(super) tokens: AtomicU32,
    }

    /// What the producer that sleeps waits for.
    #[repr(align(64))]
    pub(super) struct Space {
        /// The head that it waits for. Written under the producers' turn, before the head is armed.
        pub(super) wanted: Point,
        /// 1 if its bell rang: the futex that it sleeps on in a ring without ends.
        pub(super) rung: AtomicU32,
    }

    /// A stretch of the stream that lies in one class.
    pub(super) struct Segment {
        /// The stream's position at which it begins.
        pub(super) start: AtomicU64,
        pub(super) class: AtomicU64,
    }
}

impl State {
    pub(super) const fn new(maxsize: u64, crowd: bool) -> State {
        State {
            fixed: Fixed {
                maxsize: AtomicU64::new(maxsize),
                crowd: AtomicU32::new(crowd as u32),
                watched: AtomicU32::new(0),
                tended: AtomicU32::new(0),
                ends: AtomicU32::new(0),
            },
            producer: Producer {
                turn: RawLock::new(),
                seen: Point::ZERO,
                ticket: AtomicU64::new(0),
            },
            items: Items { sleepers: AtomicU32::new(0), tokens: AtomicU32::new(0) },
            tail: Cursor::ARMED,
            consumer: Consumer {
                turn: RawLock::new(),
                seen: Point::ZERO,
                settled: AtomicU64::new(0),
                shrunk: AtomicU64::new(0),
            },
            space: Space { wanted: Point::ZERO, rung: AtomicU32::new(0) },
            head: Cursor::ZERO,
            segments: [const { Segment { start: AtomicU64::new(0), class: AtomicU64::new(0) } };
                SEGMENTS],
        }
    }

    pub(super) fn segment(&self, number: u64) -> &Segment {
        &self.segments[number as usize % SEGMENTS]
    }

    pub(super) fn is_closed(&self) -> bool {
        self.tail.word().is_closed()
    }
}

/// What stands in front of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Of the body, in bytes.
    pub(super) len: u64,
    /// How many descriptors go with it; with any, eight bytes for their ticket precede the body.
    pub(super) fds: u32,
}

impl Frame {
    pub(super) const LEN: usize = 16;
    pub(super) const TICKET: u64 = 8;

    /// The bytes of the stream that the message takes: messages are aligned to the frame.
    pub(super) fn stride(self) -> Option<u64> {
        let ticket = if self.fds > 0 { Self::TICKET } else { 0 };
        self.len.checked_add(ticket + Self::LEN as u64)?.checked_next_multiple_of(Self::LEN as u64)
    }

    /// The frame's bytes for a place in the stream.
    pub(super) fn to_bytes(self, position: u64) -> [u8; Frame::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.fds.to_le_bytes());
        bytes[12..].copy_from_slice(&self.check(position).to_le_bytes());
        bytes
    }

    /// The frame that the bytes at a place of the stream say.
    pub(super) fn from_bytes(bytes: [u8; Frame::LEN], position: u64) -> Result<Frame> {
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let len = u64::from(word(0)) | u64::from(word(4)) << 32;
        let frame = Frame { len, fds: word(8) };
        if word(12) == frame.check(position) {
            Ok(frame)
        } else {
            Err(Error::corrupt("a queue's message"))
        }
    }

    /// Never zero, so that a hole in the memory is not taken for a message.
    fn check(self, position: u64) -> u32 {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = (position ^ ODD).wrapping_mul(ODD) ^ self.len.wrapping_mul(ODD).rotate_left(17);
        ((mixed ^ u64::from(self.fds)).wrapping_mul(ODD) >> 32) as u32 | 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_block_fits_a_page() {
        assert!(size_of::<State>() + 64 <= 4096, "{} bytes", size_of::<State>());
    }

    #[test]
    fn a_frame_is_known_by_its_place_alone() {
        let frame = Frame { len: 5, fds: 1 };
        let bytes = frame.to_bytes(4096);
        assert_eq!(Frame::from_bytes(bytes, 4096).unwrap(), frame);
        assert!(Frame::from_bytes(bytes, 4112).is_err());
        assert!(Frame::from_bytes([0; 16], 0).is_err());
        assert_eq!(frame.stride(), Some(32));
        assert_eq!(Frame { len: u64::MAX - 20, fds: 1 }.stride(), None);
    }
}
