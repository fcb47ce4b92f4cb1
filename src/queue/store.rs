//! The bytes of a ring: classes of places in one sealed file.
//!
//! The file is as large as the ring may ever become, but sparse: a class has its pages from when the
//! stream enters it until the stream has left it, and a process maps a class when it first touches it.

use super::state::State;
use crate::region::{Area, Shared};
use crate::sys::memory::page_size;
use crate::{Error, Result};
use std::ops::Range;
use std::sync::OnceLock;

/// The smallest class, with which every ring begins.
const FIRST: u64 = 32 << 10;

/// Classes up to this length are entered without waiting for room in the one before.
pub(super) const EAGER: u64 = 1 << 20;

/// Classes up to this length are kept when the ring is empty.
pub(super) const SMALL: u64 = 256 << 10;

pub(super) struct Store {
    state: Shared<State>,
    classes: Vec<Class>,
}

struct Class {
    offset: u64,
    len: u64,
    area: OnceLock<Area>,
}

/// The lengths of the classes that share `total` bytes: each twice the one before, and the last takes
/// the rest, which is half of the total at least.
fn class_lens(total: u64) -> Vec<u64> {
    let mut lens = Vec::new();
    let mut len = FIRST.max(page_size() as u64);
    let mut left = total;
    while left / 3 >= len {
        lens.push(len);
        left -= len;
        len *= 2;
    }
    lens.push(left);
    lens
}

impl Store {
    /// The control block, in a file with room for `max_bytes` of ring behind it.
    pub(super) fn new(state: State, max_bytes: u64) -> Result<Store> {
        let page = page_size() as u64;
        let room = (max_bytes.max(page) / page) * page;
        let store = Store::over(Shared::with_room(state, room)?)?;
        store.reserve(0)?;
        Ok(store)
    }

    /// The view on what [`new`](Self::new) made, here or in another process.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the file has no room for a ring.
    pub(super) fn over(state: Shared<State>) -> Result<Store> {
        // The file's size is sealed, so the layout that follows from it alone cannot change.
        let Range { start, end } = state.room();
        let room = end - start;
        if room < page_size() as u64 || room % page_size() as u64 != 0 {
            return Err(Error::corrupt("a queue's memory that is too short"));
        }
        let mut offset = start;
        let classes = class_lens(room)
            .into_iter()
            .map(|len| {
                let class = Class { offset, len, area: OnceLock::new() };
                offset += len;
                class
            })
            .collect();
        Ok(Store { state, classes })
    }

    pub(super) fn state(&self) -> &Shared<State> {
        &self.state
    }

    /// The longest message with its frame that some class can hold.
    pub(super) fn longest(&self) -> u64 {
        self.classes.last().map_or(0, |class| class.len)
    }

    /// The length of a class whose number was read from shared memory.
    pub(super) fn len(&self, class: u64) -> Result<u64> {
        self.class(class).map(|class| class.len)
    }

    #[inline]
    fn class(&self, class: u64) -> Result<&Class> {
        usize::try_from(class)
            .ok()
            .and_then(|class| self.classes.get(class))
            .ok_or_else(|| Error::corrupt("a queue's segment"))
    }

    /// The class to go on in behind `current`, among those whose bit in `taken` is not set: the next
    /// larger one, or else the largest, as long as it holds `need` bytes.
    pub(super) fn next_class(&self, current: u64, taken: u64, need: u64) -> Option<u64> {
        let free = |class: &usize| taken & 1 << *class == 0 && self.classes[*class].len >= need;
        let mut larger = current as usize + 1..self.classes.len();
        larger.find(free).or_else(|| (0..self.classes.len()).rev().find(free)).map(|c| c as u64)
    }

    /// The place in `class` of what is `distance` behind its segment's beginning.
    #[inline]
    pub(super) fn place(&self, class: u64, distance: u64) -> Result<u64> {
        let len = self.class(class)?.len;
        // Most classes have a length that is a power of two, and a division is dear.
        Ok(if len.is_power_of_two() { distance & (len - 1) } else { distance % len })
    }

    pub(super) fn count(&self) -> u64 {
        self.classes.len() as u64
    }

    /// Gives a class its pages.
    pub(super) fn reserve(&self, class: u64) -> Result<()> {
        let class = self.class(class)?;
        self.state.memory().reserve(class.offset, class.len)
    }

    /// Takes a class's pages back, as far as the system lets us.
    pub(super) fn give_back(&self, class: u64) -> Result<()> {
        let class = self.class(class)?;
        // A refusal costs memory, not messages; the class is punched again when it is left next.
        let _ = self.state.memory().punch(class.offset, class.len);
        Ok(())
    }

    /// The memory of a class, mapped.
    #[inline]
    pub(super) fn stretch(&self, class: u64) -> Result<Stretch<'_>> {
        let class = self.class(class)?;
        match class.area.get() {
            Some(area) => Ok(Stretch(area)),
            None => self.map(class),
        }
    }

    #[cold]
    fn map<'a>(&'a self, class: &'a Class) -> Result<Stretch<'a>> {
        let len = usize::try_from(class.len).map_err(|_| Error::invalid("a queue too large"))?;
        let area = Area::map(self.state.memory(), class.offset, len)?;
        // Another thread may have been faster; its mapping is as good.
        Ok(Stretch(class.area.get_or_init(|| area)))
    }
}

/// The memory of a class, which goes round.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'a>(&'a Area);

impl Stretch<'_> {
    /// Calls `copy` for the one or two pieces of `len` bytes from `at`: with the place and the range of
    /// the bytes.
    #[inline]
    fn pieces(
        self,
        at: u64,
        len: usize,
        mut copy: impl FnMut(&Area, usize, Range<usize>),
    ) -> Result<()> {
        let Stretch(area) = self;
        // Most callers come with a place that has gone round already, and a division is dear.
        let end = area.len() as u64;
        let at = if at < end { at } else { at % end } as usize;
        if len > area.len() {
            return Err(Error::corrupt("a queue's message"));
        }
        let first = len.min(area.len() - at);
        copy(area, at, 0..first);
        if first < len {
            copy(area, 0, first..len);
        }
        Ok(())
    }

    #[inline]
    pub(super) fn write(self, at: u64, bytes: &[u8]) -> Result<()> {
        self.pieces(at, bytes.len(), |area, at, range| area.write(at, &bytes[range]))
    }

    #[inline]
    pub(super) fn read(self, at: u64, bytes: &mut [u8]) -> Result<()> {
        self.pieces(at, bytes.len(), |area, at, range| area.read(at, &mut bytes[range]))
    }

    #[inline]
    pub(super) fn append_to(self, at: u64, len: usize, bytes: &mut Vec<u8>) -> Result<()> {
        if len > self.0.len() {
            return Err(Error::corrupt("a queue's message"));
        }
        bytes.reserve(len);
        self.pieces(at, len, |area, at, range| area.append_to(at, range.len(), bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_share_all_of_the_room_and_the_last_has_half() {
        for total in [4096, 32 << 10, 95 << 10, 96 << 10, 100 << 20, 3 << 40] {
            let lens = class_lens(total);
            assert_eq!(lens.iter().sum::<u64>(), total);
            assert!(lens.last().unwrap() * 2 >= total, "{lens:?}");
            assert!(lens.len() < super::super::state::SEGMENTS);
        }
        assert_eq!(class_lens(96 << 10), [32 << 10, 64 << 10]);
    }

    #[test]
    fn bytes_go_round_the_end_of_a_class() {
        let store = Store::new(State::new(0, false), 4096).unwrap();
        let stretch = store.stretch(0).unwrap();
        stretch.write(4096 * 3 - 4, b"around").unwrap();
        let mut bytes = Vec::new();
        stretch.append_to(4096 - 4, 6, &mut bytes).unwrap();
        assert_eq!(bytes, b"around");
        let mut two = [0; 2];
        stretch.read(0, &mut two).unwrap();
        assert_eq!(&two, b"nd");
        assert!(store.len(1).is_err() && store.stretch(1).is_err());
        assert!(stretch.append_to(0, 4097, &mut bytes).is_err());
    }
}
