//! The reading side, which believes nothing.

use super::MAX_EMPTY_ITEMS;
use crate::region::plain::{self, Plain};
use crate::{Error, Result};
use std::os::fd::OwnedFd;

/// A value that can be made from a message.
///
/// [`message!`](crate::message) implements it for the user's own types.
///
/// # Examples
/// ```
/// use multiproc::{Decode, Decoder, Result};
///
/// struct Celsius(f64);
///
/// impl Decode for Celsius {
///     fn decode(decoder: &mut Decoder<'_>) -> Result<Celsius> {
///         Ok(Celsius(f64::decode(decoder)?))
///     }
/// }
/// let bytes = multiproc::to_bytes(&21.5)?;
/// assert_eq!(multiproc::from_bytes::<Celsius>(&bytes)?.0, 21.5);
/// # Ok::<(), multiproc::Error>(())
/// ```
pub trait Decode: Sized {
    /// Takes one value from the front of what is left.
    ///
    /// # Errors
    /// * [`Error::Decode`]: the bytes are not those of a value of this type.
    /// * Whatever making the value can give, for handles: a mapping that is refused, for example.
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self>;

    /// Takes `len` values: types that are plain bytes copy them at once.
    #[doc(hidden)]
    fn decode_vec(len: usize, decoder: &mut Decoder<'_>) -> Result<Vec<Self>> {
        decoder.items(len)
    }

    /// Takes `N` values: types that are plain bytes copy them at once.
    #[doc(hidden)]
    fn decode_array<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[Self; N]> {
        decoder.item_array()
    }
}

/// Gives the bytes and descriptors of a message as it is decoded.
///
/// It believes no length: memory is set aside for no more items than the bytes that are left could fill,
/// and beyond that only as items prove to be there. Values nested deeper than
/// [`MAX_DEPTH`](Self::MAX_DEPTH) are refused, and so is a message with more than 65,536 items (of a
/// vector, a map...) that take no bytes at all, such as `()`: without that bound a few bytes could ask for
/// any amount of work.
///
/// # Examples
/// ```
/// use multiproc::{Decode, Decoder, Error, Result};
///
/// /// A name of at most 255 bytes, with its length in one.
/// #[derive(Debug, PartialEq)]
/// struct Short(String);
///
/// impl Decode for Short {
///     fn decode(decoder: &mut Decoder<'_>) -> Result<Short> {
///         let len = u8::decode(decoder)?;
///         let name = decoder.bytes(len.into())?.to_vec();
///         let name = String::from_utf8(name)
///             .map_err(|_| Error::Decode { reason: "name that is not UTF-8".into() })?;
///         Ok(Short(name))
///     }
/// }
/// assert_eq!(multiproc::from_bytes::<Short>(b"\x03bob")?, Short("bob".to_string()));
/// assert!(multiproc::from_bytes::<Short>(b"\x09bob").is_err());
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    /// Reversed, so that taking the next is a pop.
    fds: &'a mut Vec<OwnedFd>,
    depth: usize,
    /// How many items that take no bytes the message has had.
    empty_items: usize,
}

impl<'a> Decoder<'a> {
    /// How deep values may be nested in one another.
    pub const MAX_DEPTH: usize = 128;

    /// `fds` are taken from its front, in order; what is left stays in it, reversed.
    pub(crate) fn new(bytes: &'a [u8], fds: &'a mut Vec<OwnedFd>) -> Decoder<'a> {
        fds.reverse();
        Decoder { bytes, fds, depth: 0, empty_items: 0 }
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Takes `len` bytes.
    ///
    /// # Errors
    /// * [`Error::Decode`]: there are not as many.
    #[inline]
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.bytes.split_at_checked(len) else {
            return Err(self.too_few(len));
        };
        self.bytes = rest;
        Ok(taken)
    }

    #[cold]
    fn too_few(&self, wanted: usize) -> Error {
        Error::decode(format!("{wanted} bytes wanted where {} are left", self.bytes.len()))
    }

    /// Takes a length that [`Encoder::len`](crate::Encoder::len) wrote.
    ///
    /// # Errors
    /// * [`Error::Decode`]: there is none, or it does not fit this machine's `usize`.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // It takes a length, it has none.
    pub fn len(&mut self) -> Result<usize> {
        let len = self.array().map(u64::from_le_bytes)?;
        usize::try_from(len).map_err(|_| Error::decode(format!("a length of {len}")))
    }

    /// Takes the next descriptor.
    ///
    /// # Errors
    /// * [`Error::Decode`]: the message has no further one.
    pub fn fd(&mut self) -> Result<OwnedFd> {
        self.fds.pop().ok_or_else(|| Error::decode("a descriptor is missing"))
    }

    /// Decodes something one level deeper.
    ///
    /// A type can contain itself only behind a pointer: a box, a vector, a map... Those of std count a
    /// level each; a type with pointers of its own goes through this, and through
    /// [`Encoder::nested`](crate::Encoder::nested) on the other side.
    ///
    /// # Errors
    /// * [`Error::Decode`]: the value is nested deeper than [`MAX_DEPTH`](Self::MAX_DEPTH).
    /// * Whatever `decode` gives.
    pub fn nested<T>(&mut self, decode: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == Self::MAX_DEPTH {
            return Err(Error::decode(format!("nested deeper than {}", Self::MAX_DEPTH)));
        }
        self.depth += 1;
        let value = decode(self);
        self.depth -= 1;
        value
    }

    /// Takes `N` bytes as an array.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// Takes a value that lies in the message as it does in memory.
    #[doc(hidden)]
    pub fn plain<T: Plain>(&mut self) -> Result<T> {
        let bytes = self.bytes(size_of::<T>())?;
        plain::from_bytes(bytes).ok_or_else(|| Error::decode("bytes that make no value"))
    }

    /// Takes `N` values that lie in the message as they do in memory, in one copy.
    #[doc(hidden)]
    pub fn plain_array<T: Plain, const N: usize>(&mut self) -> Result<[T; N]> {
        if size_of::<T>() == 0 {
            self.count_empty(N)?;
        }
        self.plain()
    }

    /// Takes `len` values that lie in the message as they do in memory, in one copy.
    #[doc(hidden)]
    pub fn plain_vec<T: Plain>(&mut self, len: usize) -> Result<Vec<T>> {
        if size_of::<T>() == 0 {
            self.count_empty(len)?;
            return (0..len).map(|_| self.plain()).collect();
        }
        let bytes = len
            .checked_mul(size_of::<T>())
            .ok_or_else(|| Error::decode(format!("{len} items where there cannot be as many")))?;
        Ok(plain::vec_from_bytes(self.bytes(bytes)?))
    }

    /// Takes the length of a container of `T`s: the length, and how many items to set memory aside for.
    ///
    /// A length is refused at once if the items cannot all be there: each takes a byte, a descriptor or
    /// one of the places for items that take nothing.
    pub(crate) fn claim<T>(&mut self) -> Result<(usize, usize)> {
        let len = self.len()?;
        self.check_claim(len)?;
        Ok((len, self.justified::<T>(len)))
    }

    fn check_claim(&self, len: usize) -> Result<()> {
        let empty = MAX_EMPTY_ITEMS.saturating_sub(self.empty_items);
        if len > self.remaining().saturating_add(self.fds.len()).saturating_add(empty) {
            let left = self.remaining();
            return Err(Error::decode(format!("{len} items claimed where {left} bytes are left")));
        }
        Ok(())
    }

    fn justified<T>(&self, len: usize) -> usize {
        len.min(self.remaining() / size_of::<T>().max(1))
    }

    /// Takes `len` values one by one, into a vector that grows no faster than they prove to be there.
    pub(crate) fn items<T: Decode>(&mut self, len: usize) -> Result<Vec<T>> {
        self.check_claim(len)?;
        let mut items = Vec::with_capacity(self.justified::<T>(len));
        for _ in 0..len {
            items.push(self.item()?);
        }
        Ok(items)
    }

    /// Takes `N` values one by one.
    fn item_array<T: Decode, const N: usize>(&mut self) -> Result<[T; N]> {
        let mut items = [const { None }; N];
        for place in &mut items {
            *place = Some(self.item()?);
        }
        Ok(items.map(|item| item.expect("every place was filled")))
    }

    /// Takes one of many values; those that take no bytes are counted.
    #[inline]
    pub(crate) fn item<T: Decode>(&mut self) -> Result<T> {
        let before = (self.bytes.len(), self.fds.len());
        let item = T::decode(self)?;
        if before == (self.bytes.len(), self.fds.len()) {
            self.count_empty(1)?;
        }
        Ok(item)
    }

    fn count_empty(&mut self, items: usize) -> Result<()> {
        self.empty_items = self.empty_items.saturating_add(items);
        if self.empty_items > MAX_EMPTY_ITEMS {
            let reason = format!("more than {MAX_EMPTY_ITEMS} items that take no bytes");
            return Err(Error::decode(reason));
        }
        Ok(())
    }

    /// Takes the place of an enum's variant that [`message!`](crate::message) wrote.
    #[doc(hidden)]
    #[inline]
    pub fn variant(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The error for a variant that the enum `name` does not have.
    #[doc(hidden)]
    pub fn no_variant<T>(name: &str, tag: u32) -> Result<T> {
        Err(Error::decode(format!("{name} has no variant {tag}")))
    }

    /// The end of the message: nothing may be left.
    pub(crate) fn finish(self) -> Result<()> {
        match (self.bytes.len(), self.fds.len()) {
            (0, 0) => Ok(()),
            (bytes, fds) => {
                Err(Error::decode(format!("{bytes} bytes and {fds} descriptors are left over")))
            }
        }
    }
}
