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
