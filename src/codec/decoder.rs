//! The reading side, which believes nothing.

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
}

/// Gives the bytes and descriptors of a message as it is decoded.
///
/// It never allocates more than the bytes at hand can justify, and refuses values nested deeper than
/// [`MAX_DEPTH`](Self::MAX_DEPTH).
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    /// Reversed, so that taking the next is a pop.
    fds: &'a mut Vec<OwnedFd>,
    depth: usize,
}

impl<'a> Decoder<'a> {
    /// How deep values may be nested in one another.
    pub const MAX_DEPTH: usize = 128;

    /// `fds` are taken from its front, in order; what is left stays in it, reversed.
    pub(crate) fn new(bytes: &'a [u8], fds: &'a mut Vec<OwnedFd>) -> Decoder<'a> {
        fds.reverse();
        Decoder { bytes, fds, depth: 0 }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Takes `len` bytes.
    ///
    /// # Errors
    /// * [`Error::Decode`]: there are not as many.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or_else(|| {
            Error::decode(format!("{len} bytes wanted where {} are left", self.bytes.len()))
        })?;
        self.bytes = rest;
        Ok(taken)
    }

    /// Takes a length that [`Encoder::len`](crate::Encoder::len) wrote.
    ///
    /// # Errors
    /// * [`Error::Decode`]: there is none, or it does not fit this machine's `usize`.
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

    /// Decodes something one level deeper; every type that can contain itself goes through this.
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
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// Takes `len` values one by one, into a vector that grows no faster than they prove to be there.
    pub(crate) fn items<T: Decode>(&mut self, len: usize) -> Result<Vec<T>> {
        let _ = (len, self.remaining());
        Err(Error::decode("not written yet"))
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
