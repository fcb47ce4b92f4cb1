//! What the processes of a ring share about it, beside its bytes.

use crate::region::{RawLock, RawLockGuard};
use crate::{Error, Result};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

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

    /// What never changes, but for `closed`, which changes once.
    #[repr(align(64))]
    pub(super) struct Fixed {
        /// The most items; 0 means no limit.
        pub(super) maxsize: AtomicU64,
        /// 1 if sleepers for items do not keep the turn.
        pub(super) crowd: AtomicU32,
        /// 1 once the ring is closed. Written under both gates.
        pub(super) closed: AtomicU32,
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

    /// Where a tail is published, and who sleeps for that.
    #[repr(align(64))]
    pub(super) struct Items {
        /// Never held while asleep.
        pub(super) gate: RawLock,
        /// How many sleep for an item (with a turn: one or none). Written under the gate; may say more
        /// than there are, never fewer.
        pub(super) sleepers: AtomicU32,
        /// Wake-ups that no sleeper of a crowd has taken yet: the futex they sleep on.
        pub(super) tokens: AtomicU32,
    }

    /// Where a head is published, and who sleeps for that.
    #[repr(align(64))]
    pub(super) struct Space {
        /// Never held while asleep.
        pub(super) gate: RawLock,
        /// 1 while the producer that has the turn sleeps, or may. Written under the gate.
        pub(super) asleep: AtomicU32,
        /// The head that it waits for. Written under the gate.
        pub(super) wanted: Point,
    }

    /// A cursor that changes as one, also if its writer is killed at any instruction.
    ///
    /// The copy that the version's last bit names is the valid one. The writer fills in the other and
    /// then stores the next version.
    #[repr(align(64))]
    pub(super) struct Cursor {
        version: AtomicU64,
        copies: [Point; 2],
    }

    /// The three numbers of a [`Mark`].
    pub(super) struct Point {
        position: AtomicU64,
        items: AtomicU64,
        segment: AtomicU64,
    }

    /// A stretch of the stream that lies in one class.
    pub(super) struct Segment {
        /// The stream's position at which it begins.
        pub(super) start: AtomicU64,
        pub(super) class: AtomicU64,
    }
}

/// A place in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Bytes of all messages before it, frames included.
    pub(super) position: u64,
    /// Messages before it.
    pub(super) items: u64,
    /// The segment that it is in.
    pub(super) segment: u64,
}

impl Mark {
    /// Whether a head has come as far as `wanted` in every respect.
    pub(super) fn reaches(self, wanted: Mark) -> bool {
        self.position >= wanted.position
            && self.items >= wanted.items
            && self.segment >= wanted.segment
    }
}

impl State {
    pub(super) const fn new(maxsize: u64, crowd: bool) -> State {
        State {
            fixed: Fixed {
                maxsize: AtomicU64::new(maxsize),
                crowd: AtomicU32::new(crowd as u32),
                closed: AtomicU32::new(0),
            },
            producer: Producer {
                turn: RawLock::new(),
                seen: Point::ZERO,
                ticket: AtomicU64::new(0),
            },
            items: Items {
                gate: RawLock::new(),
                sleepers: AtomicU32::new(0),
                tokens: AtomicU32::new(0),
            },
            tail: Cursor::ZERO,
            consumer: Consumer {
                turn: RawLock::new(),
                seen: Point::ZERO,
                settled: AtomicU64::new(0),
                shrunk: AtomicU64::new(0),
            },
            space: Space { gate: RawLock::new(), asleep: AtomicU32::new(0), wanted: Point::ZERO },
            head: Cursor::ZERO,
            segments: [const { Segment { start: AtomicU64::new(0), class: AtomicU64::new(0) } };
                SEGMENTS],
        }
    }

    pub(super) fn segment(&self, number: u64) -> &Segment {
        &self.segments[number as usize % SEGMENTS]
    }

    pub(super) fn is_closed(&self) -> bool {
        // Acquire: who sees the ring closed also sees the last message that was put.
        self.fixed.closed.load(Ordering::Acquire) != 0
    }
}

impl Point {
    #[expect(clippy::declare_interior_mutable_const, reason = "an initial value, always copied")]
    const ZERO: Point =
        Point { position: AtomicU64::new(0), items: AtomicU64::new(0), segment: AtomicU64::new(0) };

    // Relaxed, both: a lock that the reader and the writer hold, or the version of a cursor, orders
    // them.
    pub(super) fn load(&self) -> Mark {
        Mark {
            position: self.position.load(Ordering::Relaxed),
            items: self.items.load(Ordering::Relaxed),
            segment: self.segment.load(Ordering::Relaxed),
        }
    }

    pub(super) fn store(&self, mark: Mark) {
        self.position.store(mark.position, Ordering::Relaxed);
        self.items.store(mark.items, Ordering::Relaxed);
        self.segment.store(mark.segment, Ordering::Relaxed);
    }
}

impl Cursor {
    #[expect(clippy::declare_interior_mutable_const, reason = "an initial value, always copied")]
    const ZERO: Cursor = Cursor { version: AtomicU64::new(0), copies: [Point::ZERO, Point::ZERO] };

    /// The mark, for who holds a lock that its publisher needs: it cannot change meanwhile.
    pub(super) fn read(&self) -> Mark {
        // Acquire: pairs with the Release in `publish`, made perhaps by another process.
        let version = self.version.load(Ordering::Acquire);
        self.copies[(version & 1) as usize].load()
    }

    /// The mark, for anybody; `gate` takes the lock under which it is published.
    ///
    /// # Errors
    /// Those of `gate`.
    pub(super) fn look<'a>(&self, gate: impl FnOnce() -> Result<RawLockGuard<'a>>) -> Result<Mark> {
        const TRIES: usize = 64;
        for _ in 0..TRIES {
            // Acquire: pairs with the Release in `publish`, so the copy, and the bytes of messages or
            // of space before it, are at least as new as the version.
            let version = self.version.load(Ordering::Acquire);
            let mark = self.copies[(version & 1) as usize].load();
            // The copy was overwritten meanwhile only if the version is another now: the fence pairs
            // with the one in `publish`.
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                return Ok(mark);
            }
            std::hint::spin_loop();
        }
        // It is published faster than it can be read: hold it still for once.
        let held = gate()?;
        let mark = self.read();
        drop(held);
        Ok(mark)
    }

    /// Makes `mark` the cursor's. The caller holds every lock that a publisher needs.
    pub(super) fn publish(&self, mark: Mark) {
        let next = self.version.load(Ordering::Relaxed).wrapping_add(1);
        // Whoever sees a word of the copy below sees the version before this one at least.
        fence(Ordering::Release);
        self.copies[(next & 1) as usize].store(mark);
        // Release: whoever sees the version sees the copy, and what was written before it.
        self.version.store(next, Ordering::Release);
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

    #[test]
    fn a_cursor_shows_the_last_mark_published() {
        let cursor = Cursor::ZERO;
        let lock = RawLock::new();
        for n in 1..5 {
            let mark = Mark { position: 16 * n, items: n, segment: 0 };
            cursor.publish(mark);
            assert_eq!(cursor.read(), mark);
            assert_eq!(cursor.look(|| lock.acquire()).unwrap(), mark);
        }
    }
}
