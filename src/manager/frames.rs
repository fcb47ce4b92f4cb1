//! Frames on their way through a socket: what has arrived, and what is still to go.

use super::protocol::{LENGTH, frame_length};
use crate::codec::Payload;
use crate::sys::socket::{self, MAX_FDS, Receive};
use crate::{Error, Result, sys};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is read at once at least.
const STEP: usize = 16 << 10;
/// What is set aside at most for bytes that have only been announced.
const AHEAD: usize = 1 << 20;
/// The largest memory that an empty buffer keeps.
const KEEP: usize = 256 << 10;

/// What a read has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    Some,
    /// Nothing is there now.
    Nothing,
    /// The other side is gone, in good order.
    End,
    /// The other side is gone, and has left unread what was sent to it; or its network is.
    Lost,
}

/// What has arrived and was not consumed.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    fds: Vec<OwnedFd>,
}

impl Inbox {
    /// Reads once.
    pub(super) fn fill(&mut self, socket: BorrowedFd<'_>, dont_wait: bool) -> Result<Filled> {
        self.make_room();
        let how = Receive { dont_wait, ..Receive::default() };
        let most = self.bytes.capacity() - self.bytes.len();
        match socket::receive_onto(socket, &mut self.bytes, most, &mut self.fds, how) {
            Ok(received) if received.fds_lost => {
                Err(Error::os("recvmsg(SCM_RIGHTS)")(io::Error::from_raw_os_error(sys::EMFILE)))
            }
            Ok(received) if received.len == 0 => Ok(Filled::End),
            Ok(_) => Ok(Filled::Some),
            Err(error) => match error.raw_os_error() {
                Some(sys::EAGAIN) if dont_wait => Ok(Filled::Nothing),
                Some(number) if socket::is_lost(number) => Ok(Filled::Lost),
                _ => Err(Error::os("recvmsg")(error)),
            },
        }
    }

    /// Room for the next read: more than a step only for a frame that has shown as much.
    fn make_room(&mut self) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            if self.bytes.capacity() > KEEP {
                self.bytes = Vec::new();
            }
        }
        if self.bytes.capacity() - self.bytes.len() >= STEP / 2 {
            return;
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        let wanted = match frame_length(&self.bytes) {
            Some(Ok(len)) => (len + LENGTH).saturating_sub(self.bytes.len()).min(AHEAD),
            _ => 0,
        };
        self.bytes.reserve(wanted.max(STEP));
    }

    /// Consumes a whole frame of at most `max` bytes, if there is one, and says where its body is.
    pub(super) fn frame(&mut self, max: usize) -> Result<Option<Range<usize>>> {
        let rest = &self.bytes[self.start..];
        let Some(len) = frame_length(rest) else { return Ok(None) };
        let len = len?;
        if len > max {
            return Err(Error::MessageTooLong { len: len as u64, max: max as u64 });
        }
        if rest.len() < LENGTH + len {
            return Ok(None);
        }
        let body = self.start + LENGTH;
        self.start = body + len;
        Ok(Some(body..body + len))
    }

    /// What a frame holds; until the next [`fill`](Self::fill).
    pub(super) fn body(&self, frame: Range<usize>) -> &[u8] {
        &self.bytes[frame]
    }

    /// Takes the descriptors of a frame.
    pub(super) fn take_fds(&mut self, count: u16) -> Result<Vec<OwnedFd>> {
        let count = usize::from(count);
        if count == 0 {
            return Ok(Vec::new());
        }
        if count > self.fds.len() {
            return Err(Error::decode("descriptors are missing"));
        }
        Ok(self.fds.drain(..count).collect())
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// How many descriptors wait.
    pub(super) fn fds(&self) -> usize {
        self.fds.len()
    }
}

/// What is still to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    payload: Payload,
    sent: usize,
    /// Where frames with descriptors begin, and how many they have.
    marks: VecDeque<(usize, usize)>,
}

impl Outbox {
    /// Appends frames, which `push` writes.
    pub(super) fn push<T>(&mut self, push: impl FnOnce(&mut Payload) -> T) -> T {
        let (start, fds) = (self.payload.bytes.len(), self.payload.fds.len());
        let value = push(&mut self.payload);
        if self.payload.fds.len() > fds {
            self.marks.push_back((start, self.payload.fds.len() - fds));
        }
        value
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.payload.bytes.len() - self.sent
    }

    pub(super) fn clear(&mut self) {
        self.payload.bytes.clear();
        self.payload.fds.clear();
        self.marks.clear();
        self.sent = 0;
        if self.payload.bytes.capacity() > KEEP {
            self.payload.bytes = Vec::new();
        }
    }

    /// Sends; false if the socket does not take all of it without waiting.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>, wait: bool) -> Result<bool> {
        while self.sent < self.payload.bytes.len() {
            let (end, fds) = self.next_part();
            let part = &self.payload.bytes[self.sent..end];
            let sent = if fds == 0 {
                socket::send_bytes(socket, part, wait)
            } else {
                let fds: Vec<_> = self.payload.fds[..fds].iter().map(AsFd::as_fd).collect();
                socket::send(socket, &[IoSlice::new(part)], &fds, wait)
            };
            match sent {
                Ok(len) => self.sent += len,
                Err(error) => match error.raw_os_error() {
                    Some(sys::EAGAIN) if !wait => return Ok(false),
                    Some(number) if socket::is_lost(number) => return Err(Error::Disconnected),
                    _ => return Err(Error::os("sendmsg")(error)),
                },
            }
            if fds > 0 {
                drop(self.payload.fds.drain(..fds));
                let left = self.marks.front_mut().map_or(0, |mark| {
                    mark.1 -= fds;
                    mark.0 = self.sent;
                    mark.1
                });
                if left == 0 {
                    self.marks.pop_front();
                }
            }
        }
        self.clear();
        Ok(true)
    }

    /// How far the next call may go, and how many descriptors go with it. Those beyond what one call
    /// carries go with a byte each of their frame.
    #[inline]
    fn next_part(&self) -> (usize, usize) {
        match self.marks.front() {
            Some(&(start, count)) if start <= self.sent => {
                let end = match self.marks.get(1) {
                    _ if count > MAX_FDS => self.sent + 1,
                    Some(&(next, _)) => next,
                    None => self.payload.bytes.len(),
                };
                (end, count.min(MAX_FDS))
            }
            Some(&(start, _)) => (start, 0),
            None => (self.payload.bytes.len(), 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{self, Kind, Request};
    use super::*;

    fn request(out: &mut Payload, fds: &[&OwnedFd]) {
        let fds: Vec<_> = fds.iter().map(|fd| sys::fd::dup(fd.as_fd()).unwrap()).collect();
        protocol::push_request(out, Request::new(Kind::Count, 0), &fds).unwrap();
    }

    #[test]
    fn frames_and_descriptors_arrive_as_they_were_sent() {
        let (a, b) = socket::pair(socket::Kind::Stream).unwrap();
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
        outbox.push(|out| request(out, &[]));
        outbox.push(|out| request(out, &[&a, &b]));
        outbox.push(|out| request(out, &[&a]));
        assert!(outbox.flush(a.as_fd(), false).unwrap());
        let mut counts = Vec::new();
        while counts.len() < 3 {
            match inbox.frame(1000).unwrap() {
                Some(frame) => {
                    let (request, _) = Request::parse(inbox.body(frame)).unwrap();
                    counts.push(inbox.take_fds(request.fds).unwrap().len());
                }
                None => assert_eq!(inbox.fill(b.as_fd(), true).unwrap(), Filled::Some),
            }
        }
        assert_eq!((counts, inbox.len(), inbox.fds()), (vec![0, 2, 1], 0, 0));
        assert_eq!(inbox.fill(b.as_fd(), true).unwrap(), Filled::Nothing);
        drop(a);
        assert_eq!(inbox.fill(b.as_fd(), true).unwrap(), Filled::End);
    }

    #[test]
    fn a_frame_longer_than_allowed_is_refused_by_its_length_alone() {
        let (a, b) = socket::pair(socket::Kind::Stream).unwrap();
        sys::fd::write(a.as_fd(), &0x7fff_ffffu32.to_be_bytes()).unwrap();
        let mut inbox = Inbox::default();
        inbox.fill(b.as_fd(), true).unwrap();
        let refused = inbox.frame(1 << 20);
        assert!(matches!(refused, Err(Error::MessageTooLong { len: 0x7fff_ffff, .. })));
    }

    #[test]
    fn a_large_frame_goes_in_pieces() {
        let (a, b) = socket::pair(socket::Kind::Stream).unwrap();
        let body = vec![7u8; 3 << 20];
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
        outbox.push(|out| protocol::push_value(out, &body)).unwrap();
        let frame = loop {
            outbox.flush(a.as_fd(), false).unwrap();
            if let Some(frame) = inbox.frame(4 << 20).unwrap() {
                break frame;
            }
            inbox.fill(b.as_fd(), true).unwrap();
        };
        assert_eq!(inbox.body(frame)[16..], body);
    }
}
