//! Python's pickles of plain data, for connections to Python processes.

mod build;
mod opcode;
mod read;
mod write;

pub(crate) use write::Term;

use super::Connection;
use crate::sys::time::Deadline;
use crate::{Object, Result};
use std::io::IoSlice;
use std::time::Duration;

/// As Python pickles it.
impl Object {
    /// Gives the bytes that Python's `pickle.loads` makes the same value of (protocol 4).
    ///
    /// # Errors
    /// * [`Error::Encode`](crate::Error::Encode): it is nested more than 128 deep, or a text, bytes or
    ///   integer in it is too long for the format.
    ///
    /// # Examples
    /// ```
    /// use multiproc::Object;
    ///
    /// assert_eq!(Object::from(true).to_pickle()?, b"\x80\x04\x88.");
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    #[doc(alias = "dumps")]
    pub fn to_pickle(&self) -> Result<Vec<u8>> {
        write::write(self)
    }

    /// Reads what Python's `pickle.dumps` has made of plain data, in protocols 2 to 5.
    ///
    /// That is `None`, `bool`, `int` of any size, `float`, `str`, `bytes`, `bytearray` (which becomes
    /// [`Bytes`](Object::Bytes)), `list`, `tuple`, `dict`, `set` and `frozenset` (which becomes
    /// [`Set`](Object::Set)). Nothing else can come of it: no function is looked up and none is called,
    /// whatever the bytes are. What is referred to twice is there twice afterwards.
    ///
    /// # Errors
    /// * [`Error::Decode`](crate::Error::Decode): the pickle has something else in it (the error names the
    ///   class or the opcode); it is no pickle; it refers to itself, is nested more than 128 deep, or
    ///   would grow by its references to more than 16 times its length and a mebibyte.
    ///
    /// # Examples
    /// ```
    /// use multiproc::Object;
    ///
    /// // pickle.dumps((1, 'a'))
    /// let bytes = b"\x80\x04\x95\x09\0\0\0\0\0\0\0K\x01\x8c\x01a\x94\x86\x94.";
    /// assert_eq!(Object::from_pickle(bytes)?.to_string(), "(1, 'a')");
    ///
    /// let refused = Object::from_pickle(b"cos\nsystem\n(X\x02\0\0\0lstR.").unwrap_err();
    /// assert_eq!(refused.to_string(), "cannot decode: a pickle of os.system, which is no plain data");
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    #[doc(alias = "loads")]
    pub fn from_pickle(bytes: &[u8]) -> Result<Object> {
        read::read(bytes)
    }
}

/// Reads a request to a manager: as [`Object::from_pickle`], and a `slice` is the tuple of its parts.
pub(crate) fn request_from_pickle(bytes: &[u8]) -> Result<Object> {
    read::read_request(bytes)
}

/// Values for Python and from it.
impl Connection {
    /// Sends a value as a pickle, as Python's `Connection.recv` expects it.
    ///
    /// # Errors
    /// * As for [`Object::to_pickle`] and [`send_bytes`](Self::send_bytes).
    ///
    /// # Examples
    /// ```
    /// use multiproc::Object;
    ///
    /// let (left, right) = multiproc::pipe()?;
    /// left.send_object(&Object::list([42.into(), Object::None, "hello".into()]))?;
    /// assert_eq!(right.recv_object()?.to_string(), "[42, None, 'hello']");
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn send_object(&self, object: &Object) -> Result<()> {
        self.send_object_within(object, Deadline::NEVER)
    }

    /// Sends a value as a pickle if the stream takes it without waiting.
    ///
    /// # Errors
    /// As for [`send_object_timeout`](Self::send_object_timeout).
    pub fn try_send_object(&self, object: &Object) -> Result<()> {
        self.send_object_within(object, Deadline::now())
    }

    /// Sends a value as a pickle, and waits no longer than `timeout` for the stream to take it.
    ///
    /// # Errors
    /// As for [`Object::to_pickle`] and [`send_bytes_timeout`](Self::send_bytes_timeout).
    pub fn send_object_timeout(&self, object: &Object, timeout: Duration) -> Result<()> {
        self.send_object_within(object, Deadline::after(timeout))
    }

    fn send_object_within(&self, object: &Object, deadline: Deadline) -> Result<()> {
        let pickle = object.to_pickle()?;
        self.output()?.send_parts(&[IoSlice::new(&pickle)], deadline)
    }

    /// Receives a value that Python's `Connection.send` has sent, if it is plain data.
    ///
    /// # Errors
    /// * As for [`Object::from_pickle`]: the message was taken from the stream, and the next one can be
    ///   received.
    /// * As for [`recv_bytes`](Self::recv_bytes).
    pub fn recv_object(&self) -> Result<Object> {
        self.recv_object_within(Deadline::NEVER)
    }

    /// Receives a pickled value if a whole message is there already.
    ///
    /// # Errors
    /// As for [`recv_object_timeout`](Self::recv_object_timeout).
    pub fn try_recv_object(&self) -> Result<Object> {
        self.recv_object_within(Deadline::now())
    }

    /// Receives a pickled value, and waits no longer than `timeout` for all of its message.
    ///
    /// # Errors
    /// As for [`recv_object`](Self::recv_object) and [`recv_bytes_timeout`](Self::recv_bytes_timeout).
    pub fn recv_object_timeout(&self, timeout: Duration) -> Result<Object> {
        self.recv_object_within(Deadline::after(timeout))
    }

    fn recv_object_within(&self, deadline: Deadline) -> Result<Object> {
        Object::from_pickle(&self.recv_bytes_within(u64::MAX, deadline)?)
    }
}
