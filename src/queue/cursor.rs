//! Cursors: a place in the stream and who wants to hear of its change, in one word.

use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering, fence};

crate::shared! {
    /// A cursor that changes as one, also if its writer is killed at any instruction.
    ///
    /// The copy that the word's version names is the valid one. The writer, of whom a turn allows one,
    /// fills in the other and then makes the next version, in the same step in which it takes notice of who
    /// is to be woken: see [`publish`](Cursor::publish).
    #[repr(align(64))]
    pub(super) struct Cursor {
        word: AtomicU64,
        copies: [Point; 2],
    }

    /// The three numbers of a [`Mark`].
    pub(super) struct Point {
        position: AtomicU64,
        items: AtomicU64,
        segment: AtomicU64,
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

/// What a cursor's word says: 32 bits of version, 29 of epoch, whether the next mark is ready, whether it is
/// closed, whether it is armed.
///
/// Armed: somebody sleeps, or watches, until the cursor moves. Each arming is a new epoch, so that who
/// has rung for one and then finds another knows that its ring may have been heard before the cursor moved.
///
/// Ready: the copy of the next version is complete, and whoever was rung for may publish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Word(u64);

impl Word {
    const ARMED: u64 = 1;
    const CLOSED: u64 = 2;
    const READY: u64 = 4;
    const EPOCH: u64 = 8;
    const VERSION: u64 = 1 << 32;

    pub(super) fn is_armed(self) -> bool {
        self.0 & Self::ARMED != 0
    }

    #[inline]
    pub(super) fn is_closed(self) -> bool {
        self.0 & Self::CLOSED != 0
    }

    pub(super) fn is_ready(self) -> bool {
        self.0 & Self::READY != 0
    }

    /// Which of two bells the epoch is about.
    pub(super) fn bell(self) -> usize {
        ((self.0 / Self::EPOCH) & 1) as usize
    }

    #[inline]
    fn version(self) -> u64 {
        self.0 / Self::VERSION
    }

    #[inline]
    fn copy(self) -> usize {
        (self.version() & 1) as usize
    }

    /// The word after this one is published, armed as before or not at all.
    #[inline]
    pub(super) fn published(self, armed: bool) -> Word {
        let word = self.0.wrapping_add(Self::VERSION) & !(Self::ARMED | Self::READY);
        Word(word | u64::from(armed))
    }

    pub(super) fn ready(self) -> Word {
        Word(self.0 | Self::READY)
    }

    #[cfg(test)]
    pub(super) fn disarmed(self) -> Word {
        Word(self.0 & !Self::ARMED)
    }

    #[cfg(test)]
    pub(super) fn withdrawn(self) -> Word {
        Word(self.0 & !Self::READY)
    }

    /// Whether this word, found in place of `before`, tells that the next mark was published meanwhile.
    pub(super) fn is_next_to(self, before: Word) -> bool {
        self.version() == before.published(false).version()
    }

    /// Armed, some epochs later.
    pub(super) fn armed(self, epochs: u64) -> Word {
        let low = (self.0 as u32).wrapping_add((Self::EPOCH * epochs) as u32);
        Word(self.0 & !(Self::VERSION - 1) | u64::from(low) | Self::ARMED)
    }

    pub(super) fn closed(self) -> Word {
        Word((self.0 | Self::CLOSED) & !(Self::ARMED | Self::READY))
    }
}

/// How a mark is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Also if the cursor is closed.
    Always,
    /// Only if it is open.
    Open,
    /// Likewise, and who was rung for may do it in place of the caller: on the same processor the caller may
    /// have to wait until that one sleeps again.
    WithHelp,
}

impl Point {
    #[expect(clippy::declare_interior_mutable_const, reason = "an initial value, always copied")]
    pub(super) const ZERO: Point =
        Point { position: AtomicU64::new(0), items: AtomicU64::new(0), segment: AtomicU64::new(0) };

    // Relaxed, both: a turn that the reader and the writer hold, or the word of a cursor, orders them.
    #[inline]
    pub(super) fn load(&self) -> Mark {
        Mark {
            position: self.position.load(Ordering::Relaxed),
            items: self.items.load(Ordering::Relaxed),
            segment: self.segment.load(Ordering::Relaxed),
        }
    }

    #[inline]
    pub(super) fn store(&self, mark: Mark) {
        self.position.store(mark.position, Ordering::Relaxed);
        self.items.store(mark.items, Ordering::Relaxed);
        self.segment.store(mark.segment, Ordering::Relaxed);
    }
}

/// How often a word may change under somebody's hands before it is a scribbler who changes it: each
/// change that is none costs its maker a system call, or the moving of a message.
const TRIES: usize = 1 << 20;

fn scribbled() -> Error {
    Error::corrupt("a queue's cursor that never rests")
}

impl Cursor {
    #[expect(clippy::declare_interior_mutable_const, reason = "an initial value, always copied")]
    pub(super) const ZERO: Cursor = Cursor::with(0);

    /// One that is armed from the beginning.
    #[expect(clippy::declare_interior_mutable_const, reason = "an initial value, always copied")]
    pub(super) const ARMED: Cursor = Cursor::with(Word::ARMED);

    const fn with(word: u64) -> Cursor {
        Cursor { word: AtomicU64::new(word), copies: [Point::ZERO, Point::ZERO] }
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        // Acquire: who sees the word sees the mark that it stands for, and the bytes of messages or of
        // space before that.
        Word(self.word.load(Ordering::Acquire))
    }

    /// The mark, for who has the turn that its publisher needs: it cannot change meanwhile.
    #[inline]
    pub(super) fn read(&self) -> Mark {
        self.copies[self.word().copy()].load()
    }

    /// The mark, for anybody.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: it never rests.
    #[inline]
    pub(super) fn look(&self) -> Result<Mark> {
        for _ in 0..TRIES {
            let word = self.word();
            let mark = self.copies[word.copy()].load();
            // The copy was overwritten meanwhile only if the version is another now: the fence pairs
            // with the one in `publish`.
            fence(Ordering::Acquire);
            if Word(self.word.load(Ordering::Relaxed)).version() == word.version() {
                return Ok(mark);
            }
            std::hint::spin_loop();
        }
        Err(scribbled())
    }

    #[inline]
    fn replace(&self, old: Word, new: Word) -> std::result::Result<(), Word> {
        // Release: whoever sees the word sees the copy, and what was written before it. Acquire: so does
        // whoever goes on from what another has made of it.
        let (release, acquire) = (Ordering::AcqRel, Ordering::Acquire);
        self.word
            .compare_exchange(old.0, new.0, release, acquire)
            .map_or_else(|w| Err(Word(w)), |_| Ok(()))
    }

    /// Makes `mark` the cursor's; the caller has the turn for that. If the cursor is armed, `ring` is
    /// called first: it wakes who is to hear of this mark, and says whether the cursor is to stay armed.
    ///
    /// *Ring, then publish.* Killed before the word changes, the caller has done nothing, and a sleeper that it
    /// has rung for finds nothing, arms the cursor again and sleeps on. Killed after, everything is done. If the
    /// sleeper is quicker than the caller and has armed the cursor again before the word changes, then the word
    /// is another one, and the caller rings once more.
    ///
    /// With help, the word says before the ringing that the mark is ready, and a sleeper that is quicker than the
    /// caller [publishes](Self::help) it. Killed in between, the caller has left a mark that is ready: who
    /// has its turn next [withdraws](Self::withdraw) it, or it was published.
    ///
    /// # Errors
    /// * [`Error::Closed`]: the cursor is closed.
    /// * Those of `ring`; nothing is published then.
    #[inline]
    pub(super) fn publish(
        &self,
        mark: Mark,
        how: How,
        ring: impl Fn(Word) -> Result<bool>,
    ) -> Result<()> {
        let mut word = self.word();
        // Whoever sees a word of the copy below sees the version before this one at least.
        fence(Ordering::Release);
        self.copies[word.published(false).copy()].store(mark);
        for _ in 0..TRIES {
            if how != How::Always && word.is_closed() {
                return Err(Error::Closed);
            }
            let next = match word.is_armed() {
                false => word.published(false),
                true if how == How::WithHelp && !word.is_ready() => word.ready(),
                true => match ring(word) {
                    Ok(armed) => word.published(armed),
                    Err(_) if self.withdraw().is_next_to(word) => return Ok(()),
                    Err(error) => return Err(error),
                },
            };
            match self.replace(word, next) {
                Ok(()) if next.version() != word.version() => return Ok(()),
                Ok(()) => word = next,
                Err(other) if other.version() == word.version() => word = other,
                // Who was rung for has published it.
                Err(other) if word.is_ready() && other.is_next_to(word) => return Ok(()),
                // Nobody else publishes while this one has the turn.
                Err(_) => break,
            }
        }
        Err(scribbled())
    }

    /// Publishes the mark that is ready, in place of who has rung `bell` for it and perhaps waits for this
    /// processor. The caller has heard the bell, and sees to it that nobody makes it silent.
    pub(super) fn help(&self, bell: usize) {
        let word = self.word();
        if word.is_ready() && word.is_armed() && word.bell() == bell {
            // If the word is another by now, the caller finds out what it says.
            let _ = self.replace(word, word.published(false));
        }
    }

    /// Takes back that a mark is ready, and says what the word was; the caller has the turn to publish.
    pub(super) fn withdraw(&self) -> Word {
        // As in `replace`.
        Word(self.word.fetch_and(!Word::READY, Ordering::AcqRel))
    }

    /// Arms the cursor if it is not closed and `still` holds of its mark, for the other bell of two or to
    /// `keep` the one it has; says what the word is then.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: it never rests.
    pub(super) fn arm(&self, keep: bool, still: impl Fn(Mark) -> bool) -> Result<Option<Word>> {
        for _ in 0..TRIES {
            let word = self.word();
            // If the copy is overwritten while it is read, the word is another by then.
            if word.is_closed() || !still(self.copies[word.copy()].load()) {
                return Ok(None);
            }
            let armed = word.armed(if keep { 2 } else { 1 });
            if self.replace(word, armed).is_ok() {
                return Ok(Some(armed));
            }
        }
        Err(scribbled())
    }

    /// Takes the arming back.
    pub(super) fn disarm(&self) {
        // Relaxed: at worst somebody rings for nobody.
        self.word.fetch_and(!Word::ARMED, Ordering::Relaxed);
    }

    /// Closes the cursor, after `ring` for who is to hear of that.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: it never rests.
    /// * Those of `ring`; nothing is closed then.
    pub(super) fn close(&self, ring: impl Fn(Word) -> Result<()>) -> Result<()> {
        for _ in 0..TRIES {
            let word = self.word();
            if word.is_closed() {
                return Ok(());
            }
            if word.is_armed() {
                ring(word)?;
            }
            if self.replace(word, word.closed()).is_ok() {
                return Ok(());
            }
        }
        Err(scribbled())
    }

    /// The word of a cursor that is armed from the beginning.
    #[cfg(test)]
    pub(super) const fn first() -> Word {
        Word(Word::ARMED)
    }

    /// The word of a cursor that nobody has armed.
    #[cfg(test)]
    pub(super) const fn silent() -> Word {
        Word(0)
    }

    /// Stores any word, as a scribbler would.
    #[cfg(test)]
    pub(super) fn scribble(&self, word: u64) {
        self.word.store(word, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn mark(n: u64) -> Mark {
        Mark { position: 16 * n, items: n, segment: 0 }
    }

    #[test]
    fn a_cursor_shows_the_last_mark_published() {
        let cursor = Cursor::ZERO;
        for n in 1..5 {
            cursor.publish(mark(n), How::Open, |_| panic!("nobody is to be woken")).unwrap();
            assert_eq!(cursor.read(), mark(n));
            assert_eq!(cursor.look().unwrap(), mark(n));
        }
    }

    #[test]
    fn who_arms_a_cursor_is_rung_for_once() {
        let cursor = Cursor::ZERO;
        let armed = cursor.arm(false, |seen| seen == mark(0)).unwrap().unwrap();
        assert!(armed.is_armed() && armed.bell() == 1);
        let rings = Cell::new(0);
        for n in 1..3 {
            let ring = |word| {
                assert_eq!(word, armed);
                rings.set(rings.get() + 1);
                Ok(false)
            };
            cursor.publish(mark(n), How::Open, ring).unwrap();
        }
        assert_eq!(rings.get(), 1);
        assert_eq!(cursor.arm(false, |seen| seen == mark(0)).unwrap(), None);
    }

    #[test]
    fn a_sleeper_that_is_quicker_than_the_mark_it_was_woken_for_is_rung_for_again() {
        let cursor = Cursor::ZERO;
        cursor.arm(false, |_| true).unwrap();
        let rings = Cell::new(0);
        let ring = |_| {
            rings.set(rings.get() + 1);
            if rings.get() < 4 {
                cursor.arm(false, |seen| seen == mark(0))?;
            }
            Ok(false)
        };
        cursor.publish(mark(1), How::Open, ring).unwrap();
        assert_eq!((rings.get(), cursor.look().unwrap()), (4, mark(1)));
        assert!(!cursor.word().is_armed());
    }

    #[test]
    fn a_closed_cursor_moves_and_is_armed_no_more() {
        let cursor = Cursor::ARMED;
        let rings = Cell::new(0);
        let ring = |_| {
            rings.set(rings.get() + 1);
            Ok(())
        };
        cursor.close(ring).unwrap();
        cursor.close(ring).unwrap();
        assert_eq!(rings.get(), 1);
        assert!(matches!(cursor.publish(mark(1), How::Open, |_| Ok(false)), Err(Error::Closed)));
        assert_eq!(cursor.arm(true, |_| true).unwrap(), None);
        assert_eq!(cursor.read(), mark(0));
        cursor.publish(mark(1), How::Always, |_| Ok(false)).unwrap();
        assert!(cursor.word().is_closed());
    }

    #[test]
    fn epochs_go_round_without_touching_the_version() {
        let word = Word(u64::MAX);
        assert_eq!(word.armed(1).version(), word.version());
        assert!(word.armed(1).is_armed() && word.armed(1).is_closed());
        assert_ne!(word.armed(1).bell(), word.bell());
        assert_eq!(word.armed(2).bell(), word.bell());
    }
}
