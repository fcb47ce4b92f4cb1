//! Connections as `std::io` streams.

use super::Connection;
use crate::Error;
use std::io::{self, BufRead, Read, Write};

/// Reads the messages of a connection as one stream of bytes; see [`Connection::as_read`].
#[derive(Debug)]
pub struct MessageReader<'a> {
    connection: &'a Connection,
    message: Vec<u8>,
    /// How much of `message` was read.
    taken: usize,
}

/// Writes bytes to a connection, each write as one message; see [`Connection::as_write`].
#[derive(Debug)]
pub struct MessageWriter<'a> {
    connection: &'a Connection,
}

/// As streams of `std::io`.
impl Connection {
    /// Gives a reader for which the messages that are received make one stream of bytes.
    ///
    /// It ends where the stream of messages does. What it has of a message when it is dropped is lost.
    ///
    /// # Examples
    /// ```
    /// use std::io::BufRead;
    ///
    /// let (reader, writer) = multiproc::pipe_one_way()?;
    /// writer.send_bytes(b"one\ntw")?;
    /// writer.send_bytes(b"o\n")?;
    /// drop(writer);
    /// let lines: Vec<String> = reader.as_read().lines().collect::<Result<_, _>>()?;
    /// assert_eq!(lines, ["one", "two"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_read(&self) -> MessageReader<'_> {
        MessageReader { connection: self, message: Vec::new(), taken: 0 }
    }

    /// Gives a writer that sends what each call writes as one message; many small writes want a
    /// [`BufWriter`](std::io::BufWriter) around it.
    ///
    /// # Examples
    /// ```
    /// use std::io::Write;
    ///
    /// let (left, right) = multiproc::pipe()?;
    /// left.as_write().write_all(b"one message")?;
    /// assert_eq!(right.recv_bytes()?, b"one message");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_write(&self) -> MessageWriter<'_> {
        MessageWriter { connection: self }
    }
}

impl BufRead for MessageReader<'_> {
    /// Receives the next message once the last one was read; empty ones are no end of the stream.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.taken == self.message.len() {
            self.message = match self.connection.recv_bytes() {
                Ok(message) => message,
                Err(Error::Eof) => break,
                Err(error) => return Err(error.into()),
            };
            self.taken = 0;
        }
        Ok(&self.message[self.taken..])
    }

    fn consume(&mut self, len: usize) {
        self.taken = self.message.len().min(self.taken + len);
    }
}

impl Read for MessageReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let len = self.fill_buf()?.read(buffer)?;
        self.consume(len);
        Ok(len)
    }
}

impl Write for MessageWriter<'_> {
    /// Sends all of `bytes`; no bytes are no message.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.connection.send_bytes(bytes)?;
        }
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let len = parts.iter().map(|part| part.len()).sum();
        if len > 0 {
            self.connection.send_vectored(parts)?;
        }
        Ok(len)
    }

    /// Does nothing: what was written is sent.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
