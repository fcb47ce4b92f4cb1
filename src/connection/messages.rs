//! Sending and receiving.

use super::reader::{Message, Reader};
use super::stream::Stream;
use super::{Connection, frame};
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Error, Result};
use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// Values.
impl Connection {
    /// Sends a value, with the descriptors in it, as one message.
    ///
    /// A small value is one system call. The descriptors are copies: the caller may close its own as
    /// soon as this returns.
    ///
    /// # Blocking
    /// Waits while the stream is full, until the peer takes something or is gone.
    /// [`send_timeout`](Self::send_timeout) bounds the wait.
    ///
    /// # Errors
    /// * [`Error::Encode`]: the value cannot be encoded; nothing was sent.
    /// * [`Error::Disconnected`]: nobody is at the other end.
    /// * [`Error::InvalidArgument`]: the connection only receives, or is not a Unix socket while the
    ///   value holds descriptors; nothing was sent.
    /// * [`Error::Closed`]: an earlier message was cut off, so that the stream ended with it.
    /// * [`Error::Os`] (`sendmsg`): `ETOOMANYREFS` when more descriptors of this user are on their way
    ///   than the process may open. It can cut off a message with more than 253 of them.
    ///
    /// # Differences from Python
    /// The bytes are this library's encoding, not a pickle.
    ///
    /// # Examples
    /// ```
    /// let (left, right) = multiproc::pipe()?;
    /// left.send(&(1u32, "one"))?;
    /// assert_eq!(right.recv::<(u32, String)>()?, (1, "one".to_string()));
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn send<T: Encode + ?Sized>(&self, value: &T) -> Result<()> {
        self.output()?.send_value(value, Deadline::NEVER)
    }

    /// Sends a value if the stream takes it without waiting.
    ///
    /// A message that a Unix socket has no room for now is not begun. One that is larger than the
    /// socket's whole buffer (some 200 KiB) can therefore not be sent like this. Through other streams
    /// a large message may be cut off, as told at [`send_timeout`](Self::send_timeout).
    ///
    /// # Errors
    /// As for [`send_timeout`](Self::send_timeout).
    pub fn try_send<T: Encode + ?Sized>(&self, value: &T) -> Result<()> {
        self.output()?.send_value(value, Deadline::now())
    }

    /// Sends a value, and waits no longer than `timeout` for the stream to take it.
    ///
    /// A message that has begun when the time is up cannot be taken back, and nothing may follow its
    /// first part: the connection then sends no more ([`writable`](Self::writable) is false), and the
    /// peer finds [`Error::TruncatedMessage`]. It happens to messages larger than the free part of the
    /// stream's buffer; those of up to 4,000 bytes without descriptors go whole or not at all.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: the time is up. If the connection is still
    ///   [`writable`](Self::writable), nothing was sent, and all is as it was.
    /// * Otherwise as for [`send`](Self::send).
    pub fn send_timeout<T: Encode + ?Sized>(&self, value: &T, timeout: Duration) -> Result<()> {
        self.output()?.send_value(value, Deadline::after(timeout))
    }

    /// Receives a value, with the descriptors in it.
    ///
    /// # Blocking
    /// Waits without limit for a whole message; [`recv_timeout`](Self::recv_timeout) bounds the wait.
    ///
    /// # If a process dies
    /// What the peer had sent can be received; then comes [`Error::Eof`], or
    /// [`Error::TruncatedMessage`] if it died inside a message.
    ///
    /// # Errors
    /// * [`Error::Eof`]: the peer closed the connection or is gone.
    /// * [`Error::TruncatedMessage`]: the stream ended inside a message.
    /// * [`Error::Disconnected`]: the peer at the other end of a TCP connection left without having
    ///   received all, or its machine or network is gone; what it sent may be lost too.
    /// * [`Error::Decode`]: the message is no value of this type, or was sent without the descriptors that
    ///   it announces (those of another message are never taken for its own); it was taken from the
    ///   stream, and the next one can be received. After a header that means nothing none can.
    /// * [`Error::Os`] (`recvmsg(SCM_RIGHTS)`, `EMFILE`): this process has no numbers free for the
    ///   message's descriptors. It was taken from the stream; those that did arrive were closed.
    /// * [`Error::InvalidArgument`]: the connection only sends.
    /// * [`Error::Closed`]: an earlier message was refused, so that the beginning of the next is lost.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = multiproc::pipe_one_way()?;
    /// writer.send("text")?;
    /// assert_eq!(reader.recv::<String>()?, "text");
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn recv<T: Decode>(&self) -> Result<T> {
        self.recv_within(Deadline::NEVER)
    }

    /// Receives a value if a whole message is there already.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn try_recv<T: Decode>(&self) -> Result<T> {
        self.recv_within(Deadline::now())
    }

    /// Receives a value, and waits no longer than `timeout` for all of its message.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: the time is up. What has arrived of a message is kept, and the next
    ///   call, of whatever kind, goes on from there.
    /// * Otherwise as for [`recv`](Self::recv).
    pub fn recv_timeout<T: Decode>(&self, timeout: Duration) -> Result<T> {
        self.recv_within(Deadline::after(timeout))
    }

    fn recv_within<T: Decode>(&self, deadline: Deadline) -> Result<T> {
        let input = self.input()?;
        let mut reader = input.take(deadline)?;
        let message = reader.next(&input.stream, u64::MAX, true, deadline)?;
        let value = decode(&mut reader, &message);
        reader.recycle(message);
        value
    }
}

/// Decodes the value of a message that was just consumed.
fn decode<T: Decode>(reader: &mut Reader, message: &Message) -> Result<T> {
    let (count, _) = match frame::split_value(reader.body(message)) {
        Ok(split) => split,
        Err(error) => {
            reader.discard_fds(message);
            return Err(error);
        }
    };
    let mut fds = reader.take_fds(message, count)?;
    let (_, encoding) = frame::split_value(reader.body(message))?;
    let mut decoder = Decoder::new(encoding, &mut fds);
    let value = T::decode(&mut decoder)?;
    decoder.finish()?;
    Ok(value)
}

/// Bytes.
impl Connection {
    /// Sends bytes as one message, which may be empty.
    ///
    /// # Blocking
    /// Waits while the stream is full, until the peer takes something or is gone.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: nobody is at the other end.
    /// * [`Error::InvalidArgument`]: the connection only receives.
    /// * [`Error::Closed`]: an earlier message was cut off, so that the stream ended with it.
    ///
    /// # Differences from Python
    /// Python's offset and size are a slice here: `send_bytes(&bytes[offset..][..size])`.
    ///
    /// # Examples
    /// ```
    /// let (left, right) = multiproc::pipe()?;
    /// left.send_bytes(&b"0123456789"[2..5])?;
    /// assert_eq!(right.recv_bytes()?, b"234");
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.output()?.send_parts(&[IoSlice::new(bytes)], Deadline::NEVER)
    }

    /// Sends bytes if the stream takes them without waiting; more is told at
    /// [`try_send`](Self::try_send).
    ///
    /// # Errors
    /// As for [`send_bytes_timeout`](Self::send_bytes_timeout).
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.output()?.send_parts(&[IoSlice::new(bytes)], Deadline::now())
    }

    /// Sends bytes, and waits no longer than `timeout` for the stream to take them.
    ///
    /// What happens to a message that has begun is told at [`send_timeout`](Self::send_timeout).
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: the time is up. If the connection is still
    ///   [`writable`](Self::writable), nothing was sent, and all is as it was.
    /// * Otherwise as for [`send_bytes`](Self::send_bytes).
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<()> {
        self.output()?.send_parts(&[IoSlice::new(bytes)], Deadline::after(timeout))
    }

    /// Sends several pieces as one message, straight from where they are.
    ///
    /// # Errors
    /// As for [`send_bytes`](Self::send_bytes).
    ///
    /// # Examples
    /// ```
    /// use std::io::IoSlice;
    ///
    /// let (left, right) = multiproc::pipe()?;
    /// left.send_vectored(&[IoSlice::new(b"head "), IoSlice::new(b"body")])?;
    /// assert_eq!(right.recv_bytes()?, b"head body");
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn send_vectored(&self, parts: &[IoSlice<'_>]) -> Result<()> {
        self.output()?.send_parts(parts, Deadline::NEVER)
    }

    /// Sends several pieces as one message if the stream takes them without waiting; more is told at
    /// [`try_send`](Self::try_send).
    ///
    /// # Errors
    /// As for [`send_bytes_timeout`](Self::send_bytes_timeout).
    pub fn try_send_vectored(&self, parts: &[IoSlice<'_>]) -> Result<()> {
        self.output()?.send_parts(parts, Deadline::now())
    }

    /// Sends several pieces as one message, and waits no longer than `timeout` for the stream to take
    /// them.
    ///
    /// # Errors
    /// As for [`send_bytes_timeout`](Self::send_bytes_timeout).
    pub fn send_vectored_timeout(&self, parts: &[IoSlice<'_>], timeout: Duration) -> Result<()> {
        self.output()?.send_parts(parts, Deadline::after(timeout))
    }

    /// Receives a message as bytes.
    ///
    /// Memory is taken for what has arrived and a bounded step, whatever length is announced.
    /// Descriptors that came with the message are closed.
    ///
    /// # Blocking
    /// Waits without limit for a whole message.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv), but for those of decoding.
    pub fn recv_bytes(&self) -> Result<Vec<u8>> {
        self.recv_bytes_within(u64::MAX, Deadline::NEVER)
    }

    /// Receives a message as bytes if a whole one is there already.
    ///
    /// # Errors
    /// As for [`recv_bytes_timeout`](Self::recv_bytes_timeout).
    pub fn try_recv_bytes(&self) -> Result<Vec<u8>> {
        self.recv_bytes_within(u64::MAX, Deadline::now())
    }

    /// Receives a message as bytes, and waits no longer than `timeout` for all of it.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: the time is up; what has arrived is kept for the next call.
    /// * Otherwise as for [`recv_bytes`](Self::recv_bytes).
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>> {
        self.recv_bytes_within(u64::MAX, Deadline::after(timeout))
    }

    /// Receives a message of at most `max` bytes.
    ///
    /// # Errors
    /// * [`Error::MessageTooLong`]: it is longer. It was not read, so nothing more can be received;
    ///   sending goes on. The peer of a connection that only receives is told by
    ///   [`Error::Disconnected`] if it sends more.
    /// * Otherwise as for [`recv_bytes`](Self::recv_bytes).
    ///
    /// # Examples
    /// ```
    /// let (left, right) = multiproc::pipe()?;
    /// left.send_bytes(b"too long")?;
    /// let refused = right.recv_bytes_max(4);
    /// assert!(matches!(refused, Err(multiproc::Error::MessageTooLong { len: 8, max: 4 })));
    /// assert!(!right.readable() && right.writable());
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn recv_bytes_max(&self, max: usize) -> Result<Vec<u8>> {
        self.recv_bytes_within(max as u64, Deadline::NEVER)
    }

    /// Receives a message of at most `max` bytes if a whole one is there already.
    ///
    /// # Errors
    /// As for [`recv_bytes_max_timeout`](Self::recv_bytes_max_timeout).
    pub fn try_recv_bytes_max(&self, max: usize) -> Result<Vec<u8>> {
        self.recv_bytes_within(max as u64, Deadline::now())
    }

    /// Receives a message of at most `max` bytes, and waits no longer than `timeout` for all of it.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: the time is up; what has arrived is kept for the next call.
    /// * Otherwise as for [`recv_bytes_max`](Self::recv_bytes_max).
    pub fn recv_bytes_max_timeout(&self, max: usize, timeout: Duration) -> Result<Vec<u8>> {
        self.recv_bytes_within(max as u64, Deadline::after(timeout))
    }

    pub(super) fn recv_bytes_within(&self, max: u64, deadline: Deadline) -> Result<Vec<u8>> {
        let input = self.input()?;
        let mut reader = input.take(deadline)?;
        let message = reader.next(&input.stream, max, false, deadline)?;
        Ok(reader.take_bytes(message))
    }

    /// Receives a message into `buffer`, and gives its length.
    ///
    /// A large message is read straight into the buffer.
    ///
    /// # Errors
    /// * [`Error::BufferTooShort`]: the message is longer than the buffer; it comes with the error.
    /// * Otherwise as for [`recv_bytes`](Self::recv_bytes). The buffer may have been written to.
    ///
    /// # Differences from Python
    /// Python's offset is a slice here: `recv_bytes_into(&mut buffer[offset..])`.
    ///
    /// # Examples
    /// ```
    /// let (left, right) = multiproc::pipe()?;
    /// left.send_bytes(b"hello")?;
    /// let mut buffer = [0; 16];
    /// let len = right.recv_bytes_into(&mut buffer)?;
    /// assert_eq!(&buffer[..len], b"hello");
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize> {
        self.recv_bytes_into_within(buffer, Deadline::NEVER)
    }

    /// Receives a message into `buffer` if a whole one is there already.
    ///
    /// # Errors
    /// As for [`recv_bytes_into_timeout`](Self::recv_bytes_into_timeout).
    pub fn try_recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize> {
        self.recv_bytes_into_within(buffer, Deadline::now())
    }

    /// Receives a message into `buffer`, and waits no longer than `timeout` for all of it.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: the time is up; what has arrived is kept for the next call.
    /// * Otherwise as for [`recv_bytes_into`](Self::recv_bytes_into).
    pub fn recv_bytes_into_timeout(&self, buffer: &mut [u8], timeout: Duration) -> Result<usize> {
        self.recv_bytes_into_within(buffer, Deadline::after(timeout))
    }

    fn recv_bytes_into_within(&self, buffer: &mut [u8], deadline: Deadline) -> Result<usize> {
        let input = self.input()?;
        let mut reader = input.take(deadline)?;
        reader.next_into(&input.stream, buffer, deadline)
    }
}

/// The byte that a bare descriptor travels with: the number of descriptors, as in CPython.
const ONE_FD: u8 = 1;

/// Bare descriptors.
impl Connection {
    /// Sends a copy of a descriptor, outside of any message.
    ///
    /// The bytes are those of CPython's `multiprocessing.reduction.send_handle`, so that a Python peer
    /// can take it with `recv_handle`; [`recv_fd`](Self::recv_fd) does here. A descriptor may also be
    /// (part of) a value that is sent.
    ///
    /// # Errors
    /// As for [`send`](Self::send), but for those of encoding.
    ///
    /// # Examples
    /// ```
    /// use std::os::fd::AsFd;
    ///
    /// let (left, right) = multiproc::pipe()?;
    /// left.send_fd(std::io::stdout().as_fd())?;
    /// let stdout = right.recv_fd()?;
    /// # drop(stdout);
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    #[doc(alias = "send_handle")]
    pub fn send_fd(&self, fd: BorrowedFd<'_>) -> Result<()> {
        self.output()?.send_fd(ONE_FD, fd, Deadline::NEVER)
    }

    /// Sends a copy of a descriptor if the stream takes it without waiting.
    ///
    /// # Errors
    /// As for [`send_fd_timeout`](Self::send_fd_timeout).
    pub fn try_send_fd(&self, fd: BorrowedFd<'_>) -> Result<()> {
        self.output()?.send_fd(ONE_FD, fd, Deadline::now())
    }

    /// Sends a copy of a descriptor, and waits no longer than `timeout` for the stream to take it.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: the time is up; nothing was sent.
    /// * Otherwise as for [`send_fd`](Self::send_fd).
    pub fn send_fd_timeout(&self, fd: BorrowedFd<'_>, timeout: Duration) -> Result<()> {
        self.output()?.send_fd(ONE_FD, fd, Deadline::after(timeout))
    }

    /// Receives a descriptor that was sent by [`send_fd`](Self::send_fd).
    ///
    /// # Blocking
    /// Waits without limit; [`recv_fd_timeout`](Self::recv_fd_timeout) bounds the wait.
    ///
    /// # Errors
    /// * [`Error::Eof`]: the peer closed the connection or is gone.
    /// * [`Error::Decode`]: what comes next is not a single descriptor; a byte of it was taken.
    /// * [`Error::Os`] (`recvmsg(SCM_RIGHTS)`, `EMFILE`): this process has no number free for it.
    /// * [`Error::InvalidArgument`]: the connection only sends, or holds half a message.
    #[doc(alias = "recv_handle")]
    pub fn recv_fd(&self) -> Result<OwnedFd> {
        self.recv_fd_within(Deadline::NEVER)
    }

    /// Receives a descriptor if one is there already.
    ///
    /// # Errors
    /// As for [`recv_fd_timeout`](Self::recv_fd_timeout).
    pub fn try_recv_fd(&self) -> Result<OwnedFd> {
        self.recv_fd_within(Deadline::now())
    }

    /// Receives a descriptor, and waits no longer than `timeout` for it.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: the time is up.
    /// * Otherwise as for [`recv_fd`](Self::recv_fd).
    pub fn recv_fd_timeout(&self, timeout: Duration) -> Result<OwnedFd> {
        self.recv_fd_within(Deadline::after(timeout))
    }

    fn recv_fd_within(&self, deadline: Deadline) -> Result<OwnedFd> {
        let input = self.input()?;
        let (byte, fd) = input.take(deadline)?.next_fd(&input.stream, deadline)?;
        if byte == ONE_FD { Ok(fd) } else { Err(Error::decode(format!("{byte} descriptors"))) }
    }
}

/// Waiting.
impl Connection {
    /// Waits up to `timeout` for input, and says whether there is some.
    ///
    /// It is true for the beginning of a message and for the end of the stream too, as the next
    /// call that receives would find something out.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: the connection only sends.
    /// * [`Error::Closed`]: nothing can be received any more.
    ///
    /// # Differences from Python
    /// The timeout is always said: [`Duration::ZERO`] is Python's default, and `poll(None)` is
    /// [`poll_forever`](Self::poll_forever).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let (left, right) = multiproc::pipe()?;
    /// assert!(!right.poll(Duration::ZERO)?);
    /// left.send_bytes(b"")?;
    /// assert!(right.poll(Duration::ZERO)?);
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn poll(&self, timeout: Duration) -> Result<bool> {
        self.poll_within(Deadline::after(timeout))
    }

    /// Waits without limit for input.
    ///
    /// # Errors
    /// As for [`poll`](Self::poll).
    pub fn poll_forever(&self) -> Result<()> {
        self.poll_within(Deadline::NEVER).map(drop)
    }

    /// The reader is not kept meanwhile: another thread may receive what this one waits for.
    fn poll_within(&self, deadline: Deadline) -> Result<bool> {
        let input = self.input()?;
        let stream: &Stream = &input.stream;
        let Some(reader) = input.reader.take(deadline) else {
            return Ok(false);
        };
        let has_input = reader.has_input();
        drop(reader);
        match (stream.input_is_lost(), has_input) {
            (true, _) => Err(Error::Closed),
            (false, true) => Ok(true),
            (false, false) => stream.poll(deadline),
        }
    }
}
