//! What is put: bytes and descriptors, wherever they lie.

use crate::codec::Payload;
use std::os::fd::OwnedFd;

/// A message to be put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel<'a> {
    /// A number that stands before the bytes, in eight bytes of its own.
    pub(super) len: Option<u64>,
    pub(super) bytes: &'a [u8],
    pub(super) fds: &'a [OwnedFd],
}

impl<'a> Parcel<'a> {
    /// The bytes of a value that need no encoding, with their number before them if that is part of it.
    #[inline]
    pub(crate) fn plain(len: Option<u64>, bytes: &'a [u8]) -> Parcel<'a> {
        Parcel { len, bytes, fds: &[] }
    }

    /// The messages that follow each other in `payload`, given where each ends in bytes and descriptors.
    pub(crate) fn each(
        payload: &'a Payload,
        ends: &'a [(usize, usize)],
    ) -> impl Iterator<Item = Parcel<'a>> + Clone {
        let starts = std::iter::once(&(0, 0)).chain(ends);
        starts.zip(ends).map(|(start, end)| Parcel {
            len: None,
            bytes: &payload.bytes[start.0..end.0],
            fds: &payload.fds[start.1..end.1],
        })
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + if self.len.is_some() { 8 } else { 0 }
    }
}

impl<'a> From<&'a Payload> for Parcel<'a> {
    #[inline]
    fn from(payload: &'a Payload) -> Parcel<'a> {
        Parcel { len: None, bytes: &payload.bytes, fds: &payload.fds }
    }
}
