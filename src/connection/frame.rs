//! The bytes of a message on the wire, which are CPython's.
//!
//! A message of up to `0x7fff_ffff` bytes is four bytes of length, big-endian and signed, and the
//! bytes. A longer one is -1 in those four, eight bytes of length, unsigned, and the bytes; the long
//! form is accepted for any length.
//!
//! The bytes of a *value* are this library's own: its encoding, between a head of four bytes
//! (little-endian) that says how many descriptors belong to it, and a tail of zeros that is there only
//! when these are more than one system call carries: each further call needs a byte of its own.

use crate::sys::socket::MAX_FDS;
use crate::{Error, Result};

/// The length of a header in the long form.
pub(super) const LONG_HEADER: usize = 12;
/// The length of a header in the short form.
pub(super) const SHORT_HEADER: usize = 4;
/// What announces the long form.
const LONG_FORM: i32 = -1;

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// How many bytes the header itself has.
    pub(super) size: usize,
    /// How many bytes follow it.
    pub(super) len: u64,
}

impl Header {
    /// Reads a header from the front of `bytes`; `None` while they are too few.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>> {
        let Some((short, rest)) = bytes.split_first_chunk::<SHORT_HEADER>() else {
            return Ok(None);
        };
        match i32::from_be_bytes(*short) {
            LONG_FORM => Ok(rest
                .first_chunk()
                .map(|long| Header { size: LONG_HEADER, len: u64::from_be_bytes(*long) })),
            len => match u64::try_from(len) {
                Ok(len) => Ok(Some(Header { size: SHORT_HEADER, len })),
                Err(_) => Err(Error::decode(format!("a message header of {len}"))),
            },
        }
    }

    /// The header of a message of `len` bytes.
    pub(super) fn of(len: usize) -> Header {
        let size = if i32::try_from(len).is_ok() { SHORT_HEADER } else { LONG_HEADER };
        Header { size, len: len as u64 }
    }

    /// Writes the header to the end of `place`, and gives its bytes.
    pub(super) fn write(self, place: &mut [u8; LONG_HEADER]) -> &[u8] {
        let start = LONG_HEADER - self.size;
        if self.size == SHORT_HEADER {
            place[start..].copy_from_slice(&(self.len as i32).to_be_bytes());
        } else {
            place[..SHORT_HEADER].copy_from_slice(&LONG_FORM.to_be_bytes());
            place[SHORT_HEADER..].copy_from_slice(&self.len.to_be_bytes());
        }
        &place[start..]
    }
}

/// The length of a value's head.
pub(super) const VALUE_HEAD: usize = 4;

/// The length of the tail of a value with `fds` descriptors.
pub(super) fn value_tail(fds: usize) -> usize {
    fds.div_ceil(MAX_FDS).saturating_sub(1)
}

/// Splits a value's message into the number of its descriptors and its encoding.
pub(super) fn split_value(message: &[u8]) -> Result<(usize, &[u8])> {
    let no_value = || Error::decode("the message is no value: its head or tail is wrong");
    let (head, rest) = message.split_first_chunk::<VALUE_HEAD>().ok_or_else(no_value)?;
    let fds = u32::from_le_bytes(*head) as usize;
    let len = rest.len().checked_sub(value_tail(fds)).ok_or_else(no_value)?;
    let (encoding, tail) = rest.split_at(len);
    if tail.iter().any(|&byte| byte != 0) {
        return Err(no_value());
    }
    Ok((fds, encoding))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(len: usize) -> Vec<u8> {
        Header::of(len).write(&mut [0xee; LONG_HEADER]).to_vec()
    }

    #[test]
    fn headers_are_cpythons_byte_for_byte() {
        assert_eq!(header(0), [0, 0, 0, 0]);
        assert_eq!(header(20), [0, 0, 0, 0x14]);
        assert_eq!(header(0x7fff_ffff), [0x7f, 0xff, 0xff, 0xff]);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_message_of_two_gibibytes_takes_the_long_form() {
        let long = header(0x8000_0000);
        assert_eq!(long, [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0]);
        let parsed = Header::parse(&long).unwrap();
        assert_eq!(parsed, Some(Header { size: 12, len: 0x8000_0000 }));
    }

    #[test]
    fn the_long_form_is_accepted_for_any_length_and_waits_for_all_its_bytes() {
        let long = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 3, b'x'];
        assert_eq!(Header::parse(&long).unwrap(), Some(Header { size: 12, len: 3 }));
        for short in 0..12 {
            assert_eq!(Header::parse(&long[..short]).unwrap(), None);
        }
    }

    #[test]
    fn a_header_below_minus_one_is_an_error() {
        assert!(matches!(Header::parse(&[0xff, 0xff, 0xff, 0xfe]), Err(Error::Decode { .. })));
        assert!(matches!(Header::parse(&[0x80, 0, 0, 0, 9]), Err(Error::Decode { .. })));
    }

    #[test]
    fn a_value_says_how_many_descriptors_it_has() {
        assert_eq!(split_value(&[2, 0, 0, 0, b'x']).unwrap(), (2, &b"x"[..]));
        assert_eq!(split_value(&[254, 0, 0, 0, b'x', 0]).unwrap(), (254, &b"x"[..]));
        assert!(split_value(&[254, 0, 0, 0]).is_err());
        assert!(split_value(&[254, 0, 0, 0, 1]).is_err());
        assert!(split_value(&[0, 0, 0]).is_err());
    }
}
