//! The writing side.

use crate::sys;
use crate::{Error, Result};
use std::os::fd::{BorrowedFd, OwnedFd};

/// A value that can be a message, an argument, a task or a result.
///
/// [`message!`](crate::message) implements it for the user's own types.
///
/// # Examples
/// ```
/// use multiproc::{Encode, Encoder};
///
/// struct Celsius(f64);
///
/// impl Encode for Celsius {
///     fn encode(&self, encoder: &mut Encoder<'_>) {
///         self.0.encode(encoder);
///     }
/// }
/// assert_eq!(multiproc::to_bytes(&Celsius(1.0))?, 1.0f64.to_le_bytes());
/// # Ok::<(), multiproc::Error>(())
/// ```
pub trait Encode {
    /// Appends the value. A value that cannot be encoded says so with [`Encoder::fail`].
    fn encode(&self, encoder: &mut Encoder<'_>);

    /// Appends many values, without their number: types that are plain bytes copy them at once.
    #[doc(hidden)]
    fn encode_slice(items: &[Self], encoder: &mut Encoder<'_>)
    where
        Self: Sized,
    {
        for item in items {
            item.encode(encoder);
        }
    }
}

/// Takes the bytes and descriptors of a message as it is encoded.
#[derive(Debug)]
pub struct Encoder<'a> {
    bytes: &'a mut Vec<u8>,
    fds: &'a mut Vec<OwnedFd>,
    failure: Option<Error>,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(bytes: &'a mut Vec<u8>, fds: &'a mut Vec<OwnedFd>) -> Encoder<'a> {
        Encoder { bytes, fds, failure: None }
    }

    /// Appends bytes as they are, without their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a length, as eight bytes.
    pub fn len(&mut self, len: usize) {
        self.bytes(&(len as u64).to_le_bytes());
    }

    /// Appends a copy of a descriptor, which the message then owns.
    ///
    /// A copy that the system refuses (EMFILE) fails the whole message.
    pub fn fd(&mut self, fd: BorrowedFd<'_>) {
        match sys::fd::dup(fd) {
            Ok(fd) => self.fds.push(fd),
            Err(source) => self.fail(Error::os("fcntl(F_DUPFD_CLOEXEC)")(source)),
        }
    }

    /// Says that the value cannot be encoded; the first reason given is the one reported.
    pub fn fail(&mut self, reason: Error) {
        self.failure.get_or_insert(reason);
    }

    /// The end of the message: whether everything in it could be encoded.
    pub(crate) fn finish(self) -> Result<()> {
        self.failure.map_or(Ok(()), Err)
    }
}

/// An encoded message: its bytes, and copies of its descriptors.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Payload {
    /// Encodes `value`.
    pub(crate) fn of<T: Encode + ?Sized>(value: &T) -> Result<Payload> {
        let mut payload = Payload::default();
        payload.push(value)?;
        Ok(payload)
    }

    /// Appends `value`; if that fails, the payload is what it was.
    pub(crate) fn push<T: Encode + ?Sized>(&mut self, value: &T) -> Result<()> {
        let (bytes, fds) = (self.bytes.len(), self.fds.len());
        let mut encoder = Encoder::new(&mut self.bytes, &mut self.fds);
        value.encode(&mut encoder);
        let outcome = encoder.finish();
        if outcome.is_err() {
            self.bytes.truncate(bytes);
            self.fds.truncate(fds);
        }
        outcome
    }
}
