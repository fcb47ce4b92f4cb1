//! A list of values of several types in a named block, as Python lays it out.
//!
//! ```text
//! 0            the number of items, n
//! 8            n + 1 offsets into the data; the last is its length
//! 8 (n + 2)    the data
//!              n formats, 8 bytes each: q, d, xxxxxxx?, xxxxxx?x, or a width and s
//!              n codes, 1 byte each: 0 number or bool, 1 str, 2 bytes, 3 None
//! ```
//! Numbers are 8 bytes in the machine's order. An item's place and room never change; its type may.

use super::SharedMemory;
use crate::{Decode, Decoder, Encode, Encoder, Error, Object, Result};
use std::fmt;
use std::sync::Arc;

const WORD: usize = 8;

const INT: &[u8] = b"q";
const FLOAT: &[u8] = b"d";
const BOOL: &[u8] = b"xxxxxxx?";
const NONE: &[u8] = b"xxxxxx?x";

/// What an item becomes in memory.
struct Packed {
    format: Vec<u8>,
    code: u8,
    /// A multiple of 8 long when new.
    data: Vec<u8>,
}

impl Packed {
    fn of(item: &Object) -> Result<Packed> {
        let packed = |format: &[u8], code, data: &[u8]| {
            Ok(Packed { format: format.to_vec(), code, data: data.to_vec() })
        };
        match item {
            Object::Int(n) => packed(INT, 0, &n.to_ne_bytes()),
            Object::Float(x) => packed(FLOAT, 0, &x.to_ne_bytes()),
            Object::Bool(yes) => packed(BOOL, 0, &[0, 0, 0, 0, 0, 0, 0, (*yes).into()]),
            Object::None => packed(NONE, 3, &[0; WORD]),
            Object::Str(text) => packed(b"", 1, text.as_bytes()),
            Object::Bytes(bytes) => packed(b"", 2, bytes),
            other => Err(Error::invalid(format!("{other:?} in a shareable list"))),
        }
    }

    fn is_text(&self) -> bool {
        matches!(self.code, 1 | 2)
    }

    /// Fills text up to the room it has.
    fn padded_to(mut self, room: usize) -> Packed {
        if self.is_text() {
            self.format = format!("{room}s").into_bytes();
            self.data.resize(room, 0);
        }
        self
    }

    /// The room that a new text gets: always a NUL more than it needs, in whole words.
    fn new_room(&self) -> usize {
        if self.is_text() { WORD * (self.data.len() / WORD + 1) } else { WORD }
    }
}

/// A list of `None`, booleans, integers of 64 bits, floats, text and bytes in memory that has a name.
///
/// Python's `ShareableList` of the same name is the same list. Its length never changes. An item may be
/// replaced by one of another type; text and bytes have as much room as their first value took, rounded
/// up to the next multiple of eight bytes.
///
/// Nothing orders accesses of several processes: a lock beside the list does.
///
/// # Differences from Python
/// Room is counted in bytes, not in characters, so that text of many bytes per character fits where it is
/// first put. As there, NULs at the end of text and bytes are lost.
///
/// # Examples
/// ```
/// use multiproc::{Object, ShareableList};
///
/// let items = ["howdy".into(), Object::Bytes(b"HoWdY".to_vec()), (-273.154).into(), 100.into()];
/// let list = ShareableList::new(&items)?;
/// let same = ShareableList::attach(list.block().name())?;
/// same.set(0, &Object::from(12345))?;
/// assert_eq!(list.get(0)?, Object::from(12345));
/// assert_eq!(list.index(&Object::from(100))?, Some(3));
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct ShareableList {
    block: SharedMemory,
    /// Where each item's data is in the block, and behind the last the formats. Checked once.
    places: Arc<[usize]>,
}

impl ShareableList {
    /// Puts a list into a new block with a random name.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: an item of a type that a list cannot hold.
    /// * Those of [`SharedMemory::create`].
    pub fn new(items: &[Object]) -> Result<ShareableList> {
        ShareableList::create(None, items)
    }

    /// Puts a list into a new block of that name.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn create(name: Option<&str>, items: &[Object]) -> Result<ShareableList> {
        let packed = items.iter().map(Packed::of).collect::<Result<Vec<_>>>()?;
        let (mut offsets, mut data) = (vec![0_i64], Vec::new());
        let (mut formats, mut codes) = (Vec::new(), Vec::new());
        for item in packed {
            let room = item.new_room();
            let item = item.padded_to(room);
            data.extend(&item.data);
            offsets.push(data.len() as i64);
            let mut format = item.format;
            format.resize(WORD, 0);
            formats.extend(format);
            codes.push(item.code);
        }
        let mut bytes = (items.len() as i64).to_ne_bytes().to_vec();
        bytes.extend(offsets.iter().flat_map(|offset| offset.to_ne_bytes()));
        [data, formats, codes].into_iter().for_each(|part| bytes.extend(part));
        let block = SharedMemory::create(name, bytes.len())?;
        block.write_at(0, &bytes)?;
        ShareableList::in_block(block)
    }

    /// Attaches to the list of that name.
    ///
    /// # Errors
    /// * [`Error::Corrupt`]: the block holds no list.
    /// * Those of [`SharedMemory::attach`].
    pub fn attach(name: &str) -> Result<ShareableList> {
        ShareableList::in_block(SharedMemory::attach(name)?)
    }

    fn in_block(block: SharedMemory) -> Result<ShareableList> {
        let broken = || Error::corrupt("a block that holds no shareable list");
        let number = |at| -> Result<usize> {
            let mut bytes = [0; WORD];
            block.read_at(at, &mut bytes).map_err(|_| broken())?;
            usize::try_from(i64::from_ne_bytes(bytes)).map_err(|_| broken())
        };
        let len = number(0)?;
        // Each item takes 17 bytes at the least, so a length that lies is found out before it is believed.
        if len > block.len() / 17 {
            return Err(broken());
        }
        let start = WORD * (len + 2);
        let mut places = Vec::with_capacity(len + 1);
        for i in 0..=len {
            let place = number(WORD * (i + 1))?.checked_add(start).ok_or_else(broken)?;
            let room = places.last().map_or(WORD, |&last: &usize| place.saturating_sub(last));
            if room < WORD || place > block.len() || (i == 0 && place != start) {
                return Err(broken());
            }
            places.push(place);
        }
        if places[len] + (WORD + 1) * len > block.len() {
            return Err(broken());
        }
        Ok(ShareableList { block, places: places.into() })
    }

    /// The block that holds the list.
    #[doc(alias = "shm")]
    pub fn block(&self) -> &SharedMemory {
        &self.block
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.places.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check(&self, index: usize) -> Result<()> {
        if index < self.len() {
            return Ok(());
        }
        Err(Error::invalid(format!("index {index} of a list of {}", self.len())))
    }

    fn format_place(&self, index: usize) -> usize {
        self.places[self.len()] + WORD * index
    }

    fn code_place(&self, index: usize) -> usize {
        self.places[self.len()] + WORD * self.len() + index
    }

    /// An item's format, without the NULs behind it.
    fn format_of(&self, index: usize) -> Result<Vec<u8>> {
        let mut format = [0; WORD];
        self.block.read_at(self.format_place(index), &mut format)?;
        Ok(without_nuls(&format).to_vec())
    }

    /// The item at `index`.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: there is no such item.
    /// * [`Error::Corrupt`]: what is there is no item; another process may have been writing it.
    pub fn get(&self, index: usize) -> Result<Object> {
        self.check(index)?;
        let format = self.format_of(index)?;
        let mut code = [0];
        self.block.read_at(self.code_place(index), &mut code)?;
        let mut data = vec![0; self.places[index + 1] - self.places[index]];
        self.block.read_at(self.places[index], &mut data)?;
        let word: [u8; WORD] = data[..WORD].try_into().expect("an item has 8 bytes at least");
        let item = match (&format[..], code[0]) {
            (INT, 0) => Object::Int(i64::from_ne_bytes(word)),
            (FLOAT, 0) => Object::Float(f64::from_ne_bytes(word)),
            (BOOL, 0) => Object::Bool(word[WORD - 1] != 0),
            (NONE, 3) => Object::None,
            ([width @ .., b's'], code @ (1 | 2)) => {
                let width = std::str::from_utf8(width).ok().and_then(|width| width.parse().ok());
                let bytes = width.and_then(|width: usize| data.get(..width));
                let bytes = without_nuls(bytes.ok_or_else(no_item)?).to_vec();
                match code {
                    1 => Object::Str(String::from_utf8(bytes).map_err(|_| no_item())?),
                    _ => Object::Bytes(bytes),
                }
            }
            _ => return Err(no_item()),
        };
        Ok(item)
    }

    /// Replaces the item at `index`, perhaps by one of another type.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: there is no such item, its place has not room enough for the text or
    ///   bytes, or the type is none that a list can hold. The old item stays.
    pub fn set(&self, index: usize, item: &Object) -> Result<()> {
        self.check(index)?;
        let room = self.places[index + 1] - self.places[index];
        let packed = Packed::of(item)?;
        if packed.data.len() > room {
            let len = packed.data.len();
            return Err(Error::invalid(format!("{len} bytes where there is room for {room}")));
        }
        let Packed { mut format, code, data } = packed.padded_to(room);
        format.resize(WORD, 0);
        self.block.write_at(self.format_place(index), &format)?;
        self.block.write_at(self.code_place(index), &[code])?;
        self.block.write_at(self.places[index], &data)
    }

    /// Goes through the items, each as it is when its turn comes.
    pub fn iter(&self) -> ShareableIter<'_> {
        ShareableIter { list: self, next: 0 }
    }

    /// How many items equal `item`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn count(&self, item: &Object) -> Result<usize> {
        let mut count = 0;
        for found in self {
            count += usize::from(found? == *item);
        }
        Ok(count)
    }

    /// The place of the first item that equals `item`, if one does.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn index(&self, item: &Object) -> Result<Option<usize>> {
        for (index, found) in self.iter().enumerate() {
            if found? == *item {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// The items' formats, one after the other, as Python's `struct` has them.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn format(&self) -> Result<String> {
        let mut text = String::new();
        for index in 0..self.len() {
            text += std::str::from_utf8(&self.format_of(index)?).map_err(|_| no_item())?;
        }
        Ok(text)
    }
}

fn no_item() -> Error {
    Error::corrupt("an item of a shareable list")
}

fn without_nuls(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Goes through the items of a [`ShareableList`].
#[derive(Debug)]
pub struct ShareableIter<'a> {
    list: &'a ShareableList,
    next: usize,
}

impl Iterator for ShareableIter<'_> {
    type Item = Result<Object>;

    fn next(&mut self) -> Option<Result<Object>> {
        let index = self.next;
        self.next += 1;
        (index < self.list.len()).then(|| self.list.get(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.list.len().saturating_sub(self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for ShareableIter<'_> {}

impl<'a> IntoIterator for &'a ShareableList {
    type Item = Result<Object>;
    type IntoIter = ShareableIter<'a>;

    fn into_iter(self) -> ShareableIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for ShareableList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShareableList([")?;
        for (index, item) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match item {
                Ok(item) => write!(f, "{item}")?,
                Err(error) => write!(f, "<{error}>")?,
            }
        }
        write!(f, "], name={:?})", self.block.name())
    }
}

/// By name, whatever the length.
impl Encode for ShareableList {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.block.encode(encoder);
    }
}

impl Decode for ShareableList {
    fn decode(decoder: &mut Decoder<'_>) -> Result<ShareableList> {
        ShareableList::in_block(SharedMemory::decode(decoder)?)
    }
}
