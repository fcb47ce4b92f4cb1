//! Values to bytes and back.
//!
//! Little-endian, length-prefixed, no description of itself: both sides know the type. A message is
//! bytes and, beside them, descriptors, so every handle of the crate can be (part of) a message.

mod decoder;
mod encoder;
#[macro_use]
mod message;
pub mod object;
mod std_types;

pub use decoder::{Decode, Decoder};
pub(crate) use encoder::Payload;
pub use encoder::{Encode, Encoder};

use crate::Result;

/// How many items that take no bytes a message may have.
const MAX_EMPTY_ITEMS: usize = 1 << 16;

/// Encodes a value that carries no descriptors.
///
/// # Errors
/// * [`Error::Encode`](crate::Error::Encode): the value carries descriptors, or says itself that it
///   cannot be encoded.
///
/// # Examples
/// ```
/// let bytes = multiproc::to_bytes(&(7u32, "seven"))?;
/// assert_eq!(multiproc::from_bytes::<(u32, String)>(&bytes)?, (7, "seven".to_string()));
/// # Ok::<(), multiproc::Error>(())
/// ```
pub fn to_bytes<T: Encode + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let payload = Payload::of(value)?;
    if payload.fds.is_empty() {
        Ok(payload.bytes)
    } else {
        Err(crate::Error::encode("a value with descriptors is more than bytes"))
    }
}

/// Decodes a value from exactly these bytes.
///
/// # Errors
/// * [`Error::Decode`](crate::Error::Decode): the bytes end too early, go on too long, or hold what no
///   value of the type encodes to.
pub fn from_bytes<T: Decode>(bytes: &[u8]) -> Result<T> {
    let mut fds = Vec::new();
    let mut decoder = Decoder::new(bytes, &mut fds);
    let value = T::decode(&mut decoder)?;
    decoder.finish()?;
    Ok(value)
}
