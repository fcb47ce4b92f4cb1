//! The socket between a process and its child: a few packets in a child's whole life.
//!
//! A packet is bytes and descriptors. Long ones go by a memory file, so that neither side ever waits
//! for the other to read: a parent can start a child with any arguments before it runs, and a child
//! can leave any result behind and exit, whether somebody joins it or not.

use crate::codec::Payload;
use crate::sys::memory;
use crate::sys::poll;
use crate::sys::socket::{self, MAX_FDS, Receive};
use crate::sys::time::Deadline;
use crate::{Error, Result, sys};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// What a packet is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Parent to child: what to run.
    Start = 1,
    /// Further descriptors of the packet before.
    More = 2,
    /// Child to parent: `init` runs here.
    Hello = 3,
    /// Child to parent: the exit code to be, and the result.
    Finished = 4,
    /// Child of a forkserver to parent: its pid, and a pidfd.
    Started = 5,
    /// Forkserver, or its child, to parent: why it does not start.
    Refused = 6,
    /// Forkserver to parent, by the child's socket: how it ended.
    Status = 7,
    /// Process to forkserver: fork a child that takes up this socket.
    Fork = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        [Start, More, Hello, Finished, Started, Refused, Status, Fork]
            .into_iter()
            .find(|&kind| kind as u8 == byte)
    }
}

/// A packet that has arrived.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) kind: Kind,
    pub(crate) payload: Payload,
}

/// What [`Control::receive`] found.
#[derive(Debug)]
pub(crate) enum Incoming {
    Packet(Packet),
    /// Nothing yet.
    Nothing,
    /// The other side is gone, and everything that it sent has been read.
    End,
}

/// How long the descriptors of a packet may take that is there in part: its sender has been killed, or
/// is about to send them.
const REST: Duration = Duration::from_secs(10);

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Control(OwnedFd);

/// The most bytes that travel in the socket itself; longer payloads go by a memory file.
const INLINE: usize = 32 << 10;

/// kind, whether a memory file comes first among the descriptors, the number of descriptors of the
/// payload (4 bytes), its length (8 bytes).
const HEADER: usize = 16;

impl Control {
    /// A new socket's two ends.
    pub(crate) fn pair() -> Result<(Control, Control)> {
        let (a, b) = socket::pair(socket::Kind::SeqPacket)
            .map_err(Error::os("socketpair(SOCK_SEQPACKET)"))?;
        // Where stdout is closed its number is free, but whoever prints there must not print here.
        let above = |fd| sys::fd::above_stdio(fd).map_err(Error::os("fcntl(F_DUPFD_CLOEXEC)"));
        Ok((Control(above(a)?), Control(above(b)?)))
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Control {
        Control(fd)
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: the other side is gone.
    /// * [`Error::Os`]: the system refused the send (EAGAIN where `wait` is false and the socket is
    ///   full, ETOOMANYREFS) or the memory file.
    #[inline]
    pub(crate) fn send(&self, kind: Kind, payload: &Payload, wait: bool) -> Result<()> {
        let file = if payload.bytes.len() > INLINE { Some(file_of(&payload.bytes)?) } else { None };
        let mut header = [0; HEADER];
        header[0] = kind as u8;
        header[1] = file.is_some().into();
        header[4..8].copy_from_slice(&(payload.fds.len() as u32).to_le_bytes());
        header[8..].copy_from_slice(&(payload.bytes.len() as u64).to_le_bytes());
        let body = if file.is_some() { &[] } else { &payload.bytes[..] };
        let fds: Vec<_> =
            file.iter().map(AsFd::as_fd).chain(payload.fds.iter().map(AsFd::as_fd)).collect();
        let (first, rest) = fds.split_at(fds.len().min(MAX_FDS));
        self.send_once(&[IoSlice::new(&header), IoSlice::new(body)], first, wait)?;
        header[0] = Kind::More as u8;
        rest.chunks(MAX_FDS).try_for_each(|fds| self.send_once(&[IoSlice::new(&header)], fds, wait))
    }

    #[inline]
    fn send_once(&self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], wait: bool) -> Result<()> {
        match socket::send(self.0.as_fd(), parts, fds, wait) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(sys::EPIPE | sys::ECONNRESET) => Err(Error::Disconnected),
                _ => Err(Error::os("sendmsg")(error)),
            },
        }
    }

    /// The next packet, if it arrives before the deadline.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused the receive, or had no number left for a descriptor
    ///   (EMFILE).
    /// * [`Error::Decode`]: what arrived is no packet.
    pub(crate) fn receive(&self, deadline: Deadline) -> Result<Incoming> {
        // A look first: a buffer for any packet would cost a new process more than the second call.
        let mut header = [0; HEADER];
        let look = Receive { peek: true, without_fds: true, ..Receive::default() };
        match self.receive_once(&mut header, &mut Vec::new(), look, deadline)? {
            None => return Ok(Incoming::Nothing),
            Some(0) => return Ok(Incoming::End),
            Some(_) => {}
        }
        let by_file = header[1] != 0;
        let body = number(&header[8..]);
        let inline = if by_file { 0 } else { body.min(INLINE as u64) as usize };
        let mut bytes = vec![0; HEADER + inline];
        let mut fds = Vec::new();
        let len = self.receive_once(&mut bytes, &mut fds, Receive::default(), deadline)?;
        let (Some(kind), Some(HEADER..)) = (Kind::from_byte(header[0]), len) else {
            return Err(Error::decode("no packet of this library"));
        };
        let count = number(&header[4..8]) as usize + usize::from(by_file);
        while fds.len() < count {
            let mut more = [0; HEADER];
            let before = fds.len();
            let rest = Deadline::after(REST);
            // What comes instead, if the sender was killed, is not to be lost.
            if !matches!(self.receive_once(&mut more, &mut Vec::new(), look, rest)?, Some(1..))
                || more[0] != Kind::More as u8
            {
                return Err(Error::decode("a packet that ends before its descriptors"));
            }
            match self.receive_once(&mut more, &mut fds, Receive::default(), rest)? {
                Some(HEADER) if more[0] == Kind::More as u8 && fds.len() > before => {}
                _ => return Err(Error::decode("a packet that ends before its descriptors")),
            }
        }
        if by_file {
            bytes = read_file(fds.remove(0), body)?;
        } else {
            bytes.truncate(len.unwrap_or_default());
            bytes.drain(..HEADER);
        }
        if bytes.len() as u64 != body || fds.len() + usize::from(by_file) != count {
            return Err(Error::decode("a packet of another length than announced"));
        }
        Ok(Incoming::Packet(Packet { kind, payload: Payload { bytes, fds } }))
    }

    /// One message of the socket: its length, zero at the end, `None` if the deadline passed.
    fn receive_once(
        &self,
        buffer: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        how: Receive,
        deadline: Deadline,
    ) -> Result<Option<usize>> {
        let how = Receive { dont_wait: deadline != Deadline::NEVER, ..how };
        loop {
            let parts = &mut [IoSliceMut::new(buffer)];
            match socket::receive(self.0.as_fd(), parts, fds, how) {
                Ok(received) if received.fds_lost => {
                    let source = std::io::Error::from_raw_os_error(sys::EMFILE);
                    return Err(Error::os("recvmsg(SCM_RIGHTS)")(source));
                }
                Ok(received) => return Ok(Some(received.len)),
                Err(error) => match error.raw_os_error() {
                    // Said once, and before what the other side has sent: it went without reading all
                    // of ours.
                    Some(sys::ECONNRESET) => {}
                    Some(sys::EAGAIN) if deadline.has_passed() => return Ok(None),
                    Some(sys::EAGAIN) => {
                        poll::wait_readable(self.0.as_fd(), deadline)
                            .map_err(Error::os("ppoll"))?;
                    }
                    _ => return Err(Error::os("recvmsg")(error)),
                },
            }
        }
    }

    /// Whether an error of [`receive`](Self::receive) has left the socket as it was, so that the next
    /// try would only repeat it.
    pub(crate) fn is_stuck(error: &Error) -> bool {
        matches!(error, Error::Os { call, .. } if call == "ppoll" || call == "recvmsg")
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn file_of(bytes: &[u8]) -> Result<OwnedFd> {
    let mut file: File =
        memory::memfd(c"multiproc-packet").map_err(Error::os("memfd_create"))?.into();
    file.write_all(bytes).map_err(Error::os("write"))?;
    Ok(file.into())
}

fn read_file(fd: OwnedFd, len: u64) -> Result<Vec<u8>> {
    if memory::size(fd.as_fd()).map_err(Error::os("fstat"))? != len {
        return Err(Error::decode("a packet's file of another length than announced"));
    }
    let len = usize::try_from(len).map_err(|_| Error::decode("a packet beyond memory"))?;
    let mut bytes = vec![0; len];
    File::from(fd).read_exact_at(&mut bytes, 0).map_err(Error::os("pread"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(incoming: Incoming) -> Packet {
        match incoming {
            Incoming::Packet(packet) => packet,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn packets_of_every_size_arrive_whole_and_without_a_reader() {
        let (a, b) = Control::pair().unwrap();
        for size in [0, 1, INLINE, INLINE + 1, 5 << 20] {
            let bytes = vec![7; size];
            a.send(Kind::Finished, &Payload { bytes: bytes.clone(), fds: vec![] }, false).unwrap();
            let packet = packet(b.receive(Deadline::NEVER).unwrap());
            assert_eq!(packet.kind, Kind::Finished);
            assert!(packet.payload.bytes == bytes);
        }
        assert!(matches!(b.receive(Deadline::now()).unwrap(), Incoming::Nothing));
        drop(a);
        assert!(matches!(b.receive(Deadline::NEVER).unwrap(), Incoming::End));
    }

    #[test]
    fn more_descriptors_than_one_message_takes_arrive_in_order() {
        let (a, b) = Control::pair().unwrap();
        let fds = (0..600)
            .map(|_| sys::fd::eventfd(true).map_err(Error::os("eventfd")))
            .collect::<Result<Vec<_>>>()
            .unwrap();
        sys::fd::ring(fds[599].as_fd()).unwrap();
        let bytes = vec![1; INLINE + 1];
        a.send(Kind::Start, &Payload { bytes, fds }, false).unwrap();
        let fds = packet(b.receive(Deadline::NEVER).unwrap()).payload.fds;
        assert_eq!(fds.len(), 600);
        assert_eq!(sys::fd::drain(fds[599].as_fd()).unwrap(), 1);
        assert_eq!(sys::fd::drain(fds[598].as_fd()).unwrap(), 0);
    }

    #[test]
    fn a_packet_cut_off_before_its_descriptors_leaves_the_next_one() {
        let (a, b) = Control::pair().unwrap();
        let mut header = [0; HEADER];
        header[0] = Kind::Finished as u8;
        header[4..8].copy_from_slice(&300u32.to_le_bytes());
        a.send_once(&[IoSlice::new(&header)], &[], false).unwrap();
        a.send(Kind::Status, &Payload { bytes: vec![7; 4], fds: vec![] }, false).unwrap();
        assert!(matches!(b.receive(Deadline::NEVER), Err(Error::Decode { .. })));
        let next = packet(b.receive(Deadline::now()).unwrap());
        assert_eq!((next.kind, next.payload.bytes), (Kind::Status, vec![7; 4]));
    }

    #[test]
    fn what_was_sent_by_one_who_left_without_reading_arrives() {
        let (a, b) = Control::pair().unwrap();
        a.send(Kind::Start, &Payload::default(), false).unwrap();
        b.send(Kind::Hello, &Payload::default(), false).unwrap();
        drop(b);
        assert_eq!(packet(a.receive(Deadline::now()).unwrap()).kind, Kind::Hello);
        assert!(matches!(a.receive(Deadline::now()).unwrap(), Incoming::End));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let (a, b) = Control::pair().unwrap();
        for bytes in [&b"x"[..], &[0; HEADER], &[1; HEADER], &[9; 100]] {
            a.send_once(&[IoSlice::new(bytes)], &[], false).unwrap();
            if bytes.len() == HEADER && bytes[0] == 1 {
                // It announces descriptors and a file: the next message must bring them.
                a.send_once(&[IoSlice::new(b"y")], &[], false).unwrap();
            }
            assert!(matches!(b.receive(Deadline::NEVER), Err(Error::Decode { .. })));
        }
    }
}
