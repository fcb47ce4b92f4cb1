//! The receiving side: bytes and descriptors from the stream to whole messages.
//!
//! Small messages are read through a buffer, header and body (and often the next ones) in one call;
//! what does not fit it goes straight to where it is wanted. A wait that ends at its deadline loses
//! nothing: what has arrived stays here, and the next call goes on from it.

use super::arrivals::Arrivals;
use super::frame::{Header, LONG_HEADER, SHORT_HEADER};
use super::stream::Stream;
use crate::sys::time::Deadline;
use crate::{Error, Result};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

/// The size of the buffer: messages up to this, header included, need no memory of their own.
const BUFFER: usize = 16 << 10;
/// What is set aside at most for bytes that have only been announced.
const STEP: usize = 1 << 20;
/// The largest memory kept for the next large value.
const KEEP: usize = 2 << 20;

/// The state of the receiving side.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Empty until the first read.
    buffer: Vec<u8>,
    /// The bytes of `buffer` that arrived and were not consumed.
    held: Range<usize>,
    /// How many bytes of the stream were consumed before those.
    position: u64,
    /// The descriptors that came with them.
    arrivals: Arrivals,
    /// A message too large for the buffer, as far as it is there.
    pending: Option<Large>,
    /// Memory for the next large value.
    spare: Vec<u8>,
}

#[derive(Debug)]
struct Large {
    /// The position of its header.
    start: u64,
    header: Header,
    bytes: Vec<u8>,
    len: usize,
}

/// A message that was consumed.
#[derive(Debug)]
pub(super) struct Message {
    /// Where in the stream it was, header included.
    span: Range<u64>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// Still in the buffer, until the next read.
    Buffered(Range<usize>),
    Large(Vec<u8>),
}

impl Reader {
    /// A reader that finds `bytes` and `arrivals` before what the stream brings.
    pub(super) fn with(bytes: Vec<u8>, arrivals: Arrivals) -> Reader {
        Reader { held: 0..bytes.len(), buffer: bytes, arrivals, ..Reader::default() }
    }

    /// Whether part of a message, or more, was read and not consumed.
    pub(super) fn has_input(&self) -> bool {
        !self.held.is_empty() || self.pending.is_some()
    }

    /// Whether there is anything that a copy of this connection needs.
    pub(super) fn holds_anything(&self) -> bool {
        self.has_input() || self.arrivals.batches().len() > 0
    }

    /// Every byte that was read and not consumed, as if it were still to come from the stream.
    pub(super) fn unread(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(large) = &self.pending {
            let mut place = [0; LONG_HEADER];
            bytes.extend_from_slice(large.header.write(&mut place));
            bytes.extend_from_slice(&large.bytes);
        }
        bytes.extend_from_slice(&self.buffer[self.held.clone()]);
        bytes
    }

    /// The descriptors that were received and not consumed, and the position of the first byte of
    /// [`unread`](Self::unread).
    pub(super) fn unread_fds(&self) -> (&Arrivals, u64) {
        (&self.arrivals, self.pending.as_ref().map_or(self.position, |large| large.start))
    }

    /// Takes the next message, of at most `max` bytes, out of the stream.
    ///
    /// `reuse` puts a large one into memory that [`recycle`](Self::recycle) wants back.
    pub(super) fn next(
        &mut self,
        stream: &Stream,
        max: u64,
        reuse: bool,
        deadline: Deadline,
    ) -> Result<Message> {
        if self.pending.is_none() {
            let header = self.header(stream, max, deadline)?;
            if let Some(total) = fits_buffer(header) {
                while self.held.len() < total {
                    self.fill(stream, total, deadline)?;
                }
                return Ok(self.consume(header.size, total));
            }
            let memory = if reuse { std::mem::take(&mut self.spare) } else { Vec::new() };
            self.begin_large(header, memory, stream)?;
        }
        self.finish_large(stream, max, deadline)
    }

    /// Takes the next message out of the stream, into `buffer`, and gives its length.
    pub(super) fn next_into(
        &mut self,
        stream: &Stream,
        buffer: &mut [u8],
        deadline: Deadline,
    ) -> Result<usize> {
        if self.pending.is_none() {
            let header = self.header(stream, u64::MAX, deadline)?;
            if fits_buffer(header).is_none() && header.len <= buffer.len() as u64 {
                let buffer = &mut buffer[..header.len as usize];
                return self.large_into(stream, header, buffer, deadline);
            }
        }
        let message = self.next(stream, u64::MAX, true, deadline)?;
        self.discard_fds(&message);
        let body = self.body(&message);
        let len = body.len();
        let outcome = match buffer.get_mut(..len) {
            Some(place) => {
                place.copy_from_slice(body);
                Ok(len)
            }
            None => Err(Error::BufferTooShort { message: body.to_vec() }),
        };
        self.recycle(message);
        outcome
    }

    /// Takes one byte out of the stream, with the descriptor that came with it.
    pub(super) fn next_fd(&mut self, stream: &Stream, deadline: Deadline) -> Result<(u8, OwnedFd)> {
        if self.pending.is_some() {
            return Err(Error::invalid("a message is half received: finish it first"));
        }
        self.check(stream)?;
        while self.held.is_empty() {
            self.fill(stream, 1, deadline)?;
        }
        let byte = self.buffer[self.held.start];
        let span = self.position..self.position + 1;
        self.advance(1);
        let mut fds = self.arrivals.take(&span, 1)?;
        fds.pop().map(|fd| (byte, fd)).ok_or_else(|| Error::decode("a descriptor is missing"))
    }

    /// The bytes of a message that was the last to be consumed.
    pub(super) fn body<'a>(&'a self, message: &'a Message) -> &'a [u8] {
        match &message.body {
            Body::Buffered(range) => &self.buffer[range.clone()],
            Body::Large(bytes) => bytes,
        }
    }

    /// The bytes of a message that was the last to be consumed, to keep.
    pub(super) fn take_bytes(&mut self, message: Message) -> Vec<u8> {
        self.discard_fds(&message);
        match message.body {
            Body::Buffered(range) => self.buffer[range].to_vec(),
            Body::Large(bytes) => bytes,
        }
    }

    /// The `count` descriptors of a message that was the last to be consumed.
    pub(super) fn take_fds(&mut self, message: &Message, count: usize) -> Result<Vec<OwnedFd>> {
        self.arrivals.take(&message.span, count)
    }

    /// Closes the descriptors that came with a message which has none by its form.
    pub(super) fn discard_fds(&mut self, message: &Message) {
        self.arrivals.discard_before(message.span.end);
    }

    /// Takes the memory of a message back.
    pub(super) fn recycle(&mut self, message: Message) {
        if let Body::Large(mut bytes) = message.body {
            if bytes.capacity() <= KEEP && bytes.capacity() > self.spare.capacity() {
                bytes.clear();
                self.spare = bytes;
            }
        }
    }

    fn check(&self, stream: &Stream) -> Result<()> {
        if stream.input_is_lost() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Reads until the header of the next message is held, and leaves it there.
    fn header(&mut self, stream: &Stream, max: u64, deadline: Deadline) -> Result<Header> {
        self.check(stream)?;
        loop {
            let header = match Header::parse(&self.buffer[self.held.clone()]) {
                Ok(header) => header,
                Err(error) => return Err(self.give_up(stream, error)),
            };
            match header {
                Some(header) if header.len > max => {
                    let error = Error::MessageTooLong { len: header.len, max };
                    return Err(self.give_up(stream, error));
                }
                Some(header) => return Ok(header),
                None if self.held.len() < SHORT_HEADER && stream.is_strict() => {
                    self.fill(stream, SHORT_HEADER, deadline)?;
                }
                None => self.fill(stream, LONG_HEADER, deadline)?,
            }
        }
    }

    /// Where the next message begins is not known any more: nothing can be received after this.
    fn give_up(&mut self, stream: &Stream, error: Error) -> Error {
        stream.lose_input();
        *self = Reader::default();
        error
    }

    /// Reads once into the buffer, in which `total` bytes from the first one held shall have room.
    fn fill(&mut self, stream: &Stream, total: usize, deadline: Deadline) -> Result<()> {
        self.make_room(total);
        let before = self.position + self.held.len() as u64;
        let mut place = &mut self.buffer[self.held.end..];
        if stream.is_strict() {
            place = &mut place[..total - self.held.len()];
        }
        let received = stream.read(place, self.arrivals.incoming(), deadline)?;
        self.held.end += received.len;
        self.arrivals.note(before..before + received.len as u64, received.fds_lost);
        if received.len > 0 {
            return Ok(());
        }
        Err(if self.held.is_empty() { Error::Eof } else { Error::TruncatedMessage })
    }

    fn make_room(&mut self, total: usize) {
        if self.buffer.len() < BUFFER {
            self.buffer.resize(BUFFER, 0);
        }
        if self.held.is_empty() {
            self.held = 0..0;
        } else if self.held.start + total > self.buffer.len() || self.held.end == self.buffer.len()
        {
            self.buffer.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
    }

    fn advance(&mut self, len: usize) {
        self.held.start += len;
        self.position += len as u64;
    }

    /// Takes a message that is wholly in the buffer.
    fn consume(&mut self, header: usize, total: usize) -> Message {
        let body = self.held.start + header..self.held.start + total;
        let span = self.position..self.position + total as u64;
        self.advance(total);
        Message { span, body: Body::Buffered(body) }
    }

    /// Moves the header and what is held of a large message out of the buffer.
    fn begin_large(&mut self, header: Header, bytes: Vec<u8>, stream: &Stream) -> Result<()> {
        let Ok(len) = isize::try_from(header.len).map(isize::unsigned_abs) else {
            let error = Error::MessageTooLong { len: header.len, max: isize::MAX as u64 };
            return Err(self.give_up(stream, error));
        };
        let start = self.position;
        self.advance(header.size);
        let mut large = Large { start, header, bytes, len };
        let held = self.held.len().min(len);
        large.grow(held)?;
        large.bytes.extend_from_slice(&self.buffer[self.held.start..self.held.start + held]);
        self.advance(held);
        self.pending = Some(large);
        Ok(())
    }

    /// Reads the rest of the pending message.
    fn finish_large(&mut self, stream: &Stream, max: u64, deadline: Deadline) -> Result<Message> {
        let Some(mut large) = self.pending.take() else {
            return Err(Error::Closed);
        };
        if large.len as u64 > max {
            return Err(self.give_up(stream, Error::MessageTooLong { len: large.len as u64, max }));
        }
        while large.bytes.len() < large.len {
            match self.read_large(&mut large, stream, deadline) {
                Ok(0) => return Err(Error::TruncatedMessage),
                Ok(_) => {}
                Err(error) => {
                    self.pending = Some(large);
                    return Err(error);
                }
            }
        }
        Ok(Message { span: large.start..self.position, body: Body::Large(large.bytes) })
    }

    fn read_large(
        &mut self,
        large: &mut Large,
        stream: &Stream,
        deadline: Deadline,
    ) -> Result<usize> {
        large.grow(0)?;
        let most = large.len - large.bytes.len();
        let fds = self.arrivals.incoming();
        let received = stream.read_onto(&mut large.bytes, most, fds, deadline)?;
        Ok(self.note_large(received.len, received.fds_lost))
    }

    /// Counts bytes that went past the buffer.
    fn note_large(&mut self, len: usize, fds_lost: bool) -> usize {
        self.arrivals.note(self.position..self.position + len as u64, fds_lost);
        self.position += len as u64;
        len
    }

    /// Takes a large message straight into `place`, which has its length.
    fn large_into(
        &mut self,
        stream: &Stream,
        header: Header,
        place: &mut [u8],
        deadline: Deadline,
    ) -> Result<usize> {
        let start = self.position;
        self.advance(header.size);
        let mut filled = self.held.len().min(place.len());
        place[..filled].copy_from_slice(&self.buffer[self.held.start..self.held.start + filled]);
        self.advance(filled);
        while filled < place.len() {
            let fds = self.arrivals.incoming();
            match stream.read(&mut place[filled..], fds, deadline) {
                Ok(received) if received.len == 0 => return Err(Error::TruncatedMessage),
                Ok(received) => filled += self.note_large(received.len, received.fds_lost),
                Err(error) => {
                    let bytes = place[..filled].to_vec();
                    self.pending = Some(Large { start, header, bytes, len: place.len() });
                    return Err(error);
                }
            }
        }
        self.arrivals.discard_before(self.position);
        Ok(filled)
    }
}

impl Large {
    /// Makes room for `least` bytes, or for a step when there is none: never for more than has
    /// arrived so far, and a bounded step.
    fn grow(&mut self, least: usize) -> Result<()> {
        let have = self.bytes.len();
        if self.bytes.capacity() - have >= least.max(1) {
            return Ok(());
        }
        let more = have.max(STEP).min(self.len - have).max(least);
        self.bytes.try_reserve_exact(more).map_err(|_| {
            let source = io::Error::from_raw_os_error(crate::sys::ENOMEM);
            Error::os("allocate a message")(source)
        })
    }
}

/// The length of header and body, if the buffer has room for it.
fn fits_buffer(header: Header) -> Option<usize> {
    let total = header.len.checked_add(header.size as u64)?;
    (total <= BUFFER as u64).then_some(total as usize)
}
