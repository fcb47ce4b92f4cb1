//! The writing side.

use super::MAX_EMPTY_ITEMS;
use crate::region::plain::{self, Plain};
use crate::sys;
use crate::{Decoder, Error, Result};
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

    /// With what code a process leaves whose function has returned this.
    #[doc(hidden)]
    fn exit_code(&self) -> i32 {
        0
    }

    /// Appends many values, without their number: types that are plain bytes copy them at once.
    #[doc(hidden)]
    fn encode_slice(items: &[Self], encoder: &mut Encoder<'_>)
    where
        Self: Sized,
    {
        for item in items {
            encoder.item(item);
            if encoder.failure.is_some() {
                return;
            }
        }
    }

    /// What `encode_slice` would append, if it lies in memory already.
    #[doc(hidden)]
    #[inline]
    fn slice_at_hand(_items: &[Self]) -> Option<&[u8]>
    where
        Self: Sized,
    {
        None
    }

    /// What `encode` would append, if it lies in memory already: bytes, and before them perhaps a length.
    ///
    /// Who has it can copy it to where the message goes, without a buffer in between.
    #[doc(hidden)]
    #[inline]
    fn at_hand(&self) -> Option<(Option<u64>, &[u8])> {
        None
    }
}

/// Takes the bytes and descriptors of a message as it is encoded.
///
/// # Examples
/// ```
/// use multiproc::{Encode, Encoder, Error};
///
/// /// A name of at most 255 bytes, with its length in one.
/// struct Short(String);
///
/// impl Encode for Short {
///     fn encode(&self, encoder: &mut Encoder<'_>) {
///         match u8::try_from(self.0.len()) {
///             Ok(len) => encoder.bytes(&[len]),
///             Err(_) => encoder.fail(Error::Encode { reason: "name too long".into() }),
///         }
///         encoder.bytes(self.0.as_bytes());
///     }
/// }
/// assert_eq!(multiproc::to_bytes(&Short("bob".to_string()))?, b"\x03bob");
/// assert!(multiproc::to_bytes(&Short("x".repeat(256))).is_err());
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Encoder<'a> {
    bytes: &'a mut Vec<u8>,
    fds: &'a mut Vec<OwnedFd>,
    depth: usize,
    /// How many items that take no bytes the message has had.
    empty_items: usize,
    failure: Option<Error>,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(bytes: &'a mut Vec<u8>, fds: &'a mut Vec<OwnedFd>) -> Encoder<'a> {
        Encoder { bytes, fds, depth: 0, empty_items: 0, failure: None }
    }

    /// Appends bytes as they are, without their number.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a length, as eight bytes.
    #[inline]
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

    /// Encodes something one level deeper, as [`Decoder::nested`] will read it.
    ///
    /// A value nested deeper than [`Decoder::MAX_DEPTH`] fails the message, and `encode` is not called:
    /// nobody could read it.
    pub fn nested(&mut self, encode: impl FnOnce(&mut Self)) {
        if self.depth == Decoder::MAX_DEPTH {
            return self.fail(too_deep());
        }
        self.depth += 1;
        encode(self);
        self.depth -= 1;
    }

    /// Appends a plain value as it lies in memory.
    #[doc(hidden)]
    pub fn plain<T: Plain>(&mut self, value: &T) {
        self.bytes(plain::as_bytes(std::slice::from_ref(value)));
    }

    /// Appends plain values as they lie in memory.
    #[doc(hidden)]
    pub fn plain_slice<T: Plain>(&mut self, items: &[T]) {
        if size_of::<T>() == 0 {
            self.count_empty(items.len());
        }
        self.bytes(plain::as_bytes(items));
    }

    /// Appends these bytes, made one by one.
    pub(crate) fn extend(&mut self, bytes: impl ExactSizeIterator<Item = u8>) {
        self.bytes.extend(bytes);
    }

    /// Appends one of many values; those that take no bytes are counted, as the decoder counts them.
    #[inline]
    pub(crate) fn item<T: Encode + ?Sized>(&mut self, item: &T) {
        let before = (self.bytes.len(), self.fds.len());
        item.encode(self);
        if before == (self.bytes.len(), self.fds.len()) {
            self.count_empty(1);
        }
    }

    fn count_empty(&mut self, items: usize) {
        self.empty_items = self.empty_items.saturating_add(items);
        if self.empty_items > MAX_EMPTY_ITEMS {
            self.fail(Error::encode(format!(
                "more than {MAX_EMPTY_ITEMS} items that take no bytes"
            )));
        }
    }

    /// The end of the message: whether everything in it could be encoded.
    pub(crate) fn finish(self) -> Result<()> {
        self.failure.map_or(Ok(()), Err)
    }
}

fn too_deep() -> Error {
    Error::encode(format!("nested deeper than {}", Decoder::MAX_DEPTH))
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
            self.cut(bytes, fds);
        }
        outcome
    }

    /// Makes it as long as it was.
    #[cold]
    pub(crate) fn cut(&mut self, bytes: usize, fds: usize) {
        self.bytes.truncate(bytes);
        self.fds.truncate(fds);
    }
}
