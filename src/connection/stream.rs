//! The descriptor under a connection: reads and writes with a deadline, and what rides on them.

use crate::sys::socket::{self, Receive, Received};
use crate::sys::{self, time::Deadline};
use crate::{Error, Result};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a pipe takes without waiting once it is writable at all (`PIPE_BUF`).
const PIPE_STEP: usize = 4096;
/// The most pieces one gathered write may have (`UIO_MAXIOV`).
const MAX_PARTS: usize = 1024;

/// What kind of file the descriptor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A Unix socket, the one kind that carries descriptors.
    Unix,
    /// Another stream socket.
    Socket,
    /// A pipe, a terminal or whatever else can be read and written.
    File,
}

/// A stream of bytes, shared by the two directions of a connection.
#[derive(Debug)]
pub(super) struct Stream {
    fd: OwnedFd,
    kind: Kind,
    /// Whether the connection only receives.
    receives_only: bool,
    /// Whether nothing can be received any more: the place where messages begin is lost.
    input_lost: AtomicBool,
    /// Whether nothing can be sent any more: half a message went out.
    output_lost: AtomicBool,
    /// Whether the peer is still a stranger: nothing is read ahead, and no descriptor is taken.
    strict: AtomicBool,
}

impl Stream {
    pub(super) fn new(fd: OwnedFd, kind: Kind) -> Stream {
        let no = || AtomicBool::new(false);
        let (input_lost, output_lost, strict) = (no(), no(), no());
        Stream { fd, kind, receives_only: false, input_lost, output_lost, strict }
    }

    pub(super) fn receiving_only(self) -> Stream {
        Stream { receives_only: true, ..self }
    }

    /// Looks what `fd` is; a socket that keeps the boundaries of messages is refused.
    pub(super) fn identify(fd: OwnedFd) -> Result<Stream> {
        let kind = match socket::kind(fd.as_fd()) {
            Ok(libc_kind) if libc_kind != socket::Kind::Stream as i32 => {
                return Err(Error::invalid("the socket is not a stream"));
            }
            Ok(_) => match socket::is_unix(fd.as_fd()) {
                Ok(true) => Kind::Unix,
                Ok(false) => Kind::Socket,
                Err(source) => return Err(Error::os("getsockopt(SO_DOMAIN)")(source)),
            },
            Err(_) => Kind::File,
        };
        Ok(Stream::new(fd, kind))
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    // The flags are relaxed: who decides by them holds the turn of that direction, which orders
    // them, and who only asks gets an answer that may change anyway.

    pub(super) fn input_is_lost(&self) -> bool {
        self.input_lost.load(Ordering::Relaxed)
    }

    pub(super) fn output_is_lost(&self) -> bool {
        self.output_lost.load(Ordering::Relaxed)
    }

    pub(super) fn is_strict(&self) -> bool {
        self.strict.load(Ordering::Relaxed)
    }

    pub(super) fn set_strict(&self, strict: bool) {
        self.strict.store(strict, Ordering::Relaxed);
    }

    /// Gives the input up; a peer that could only send is told by EPIPE if it goes on.
    pub(super) fn lose_input(&self) {
        self.input_lost.store(true, Ordering::Relaxed);
        if self.receives_only && self.kind == Kind::Unix {
            // It fails only if the peer is gone already.
            let _ = socket::shutdown_read(self.fd.as_fd());
        }
    }

    /// Gives the output up; the peer finds the end of the stream inside the message.
    pub(super) fn lose_output(&self) {
        self.output_lost.store(true, Ordering::Relaxed);
        if self.kind != Kind::File {
            // It fails only if the peer is gone already.
            let _ = socket::shutdown_write(self.fd.as_fd());
        }
    }

    /// Reads once into `buffer`, which is not empty; zero bytes are the end of the stream.
    pub(super) fn read(
        &self,
        buffer: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        deadline: Deadline,
    ) -> Result<Received> {
        self.attempt(deadline, |how| match self.kind {
            Kind::File => sys::fd::read(self.fd.as_fd(), buffer).map(without_fds),
            _ => socket::receive(self.fd.as_fd(), &mut [IoSliceMut::new(buffer)], fds, how),
        })
    }

    /// Reads once, up to `most` bytes, into spare capacity of `bytes`, of which there is some.
    pub(super) fn read_onto(
        &self,
        bytes: &mut Vec<u8>,
        most: usize,
        fds: &mut Vec<OwnedFd>,
        deadline: Deadline,
    ) -> Result<Received> {
        self.attempt(deadline, |how| match self.kind {
            Kind::File => sys::fd::read_onto(self.fd.as_fd(), bytes, most).map(without_fds),
            _ => socket::receive_onto(self.fd.as_fd(), bytes, most, fds, how),
        })
    }

    /// Reads as soon as something can be read.
    fn attempt(
        &self,
        deadline: Deadline,
        mut read: impl FnMut(Receive) -> io::Result<Received>,
    ) -> Result<Received> {
        let timed = deadline != Deadline::NEVER;
        let how = Receive {
            dont_wait: timed,
            without_fds: self.kind != Kind::Unix || self.is_strict(),
            ..Receive::default()
        };
        if timed && self.kind == Kind::File {
            self.wait_readable(deadline)?;
        }
        loop {
            match read(how) {
                Ok(received) => return Ok(received),
                Err(error) => match error.raw_os_error() {
                    Some(sys::EAGAIN) => self.wait_readable(deadline)?,
                    _ => return not_read(self.kind, error),
                },
            }
        }
    }

    fn wait_readable(&self, deadline: Deadline) -> Result<()> {
        if self.poll(deadline)? { Ok(()) } else { Err(Error::TimeoutError) }
    }

    /// Whether there is input, or the end of it, before the deadline.
    pub(super) fn poll(&self, deadline: Deadline) -> Result<bool> {
        sys::poll::wait_readable(self.fd.as_fd(), deadline).map_err(Error::os("ppoll"))
    }

    /// Whether a write of `len` bytes would go whole, as far as can be told.
    ///
    /// A sixth is set aside for what the kernel counts beside the bytes. Who else writes to the same
    /// socket meanwhile can take the room away.
    pub(super) fn has_room_for(&self, len: usize) -> bool {
        self.kind != Kind::Unix
            || len <= PIPE_STEP
            || socket::send_room(self.fd.as_fd())
                .is_ok_and(|room| len.saturating_add(len / 6 + PIPE_STEP) <= room)
    }

    /// Writes once, `fds` with the first byte, and says how many bytes went: at least one.
    pub(super) fn write(
        &self,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<usize> {
        let timed = deadline != Deadline::NEVER;
        if timed && self.kind == Kind::File {
            self.wait_writable(deadline)?;
        }
        let parts = &parts[..parts.len().min(MAX_PARTS)];
        loop {
            let written = match self.kind {
                Kind::File if timed => write_step(self.fd.as_fd(), parts),
                Kind::File => sys::fd::write_vectored(self.fd.as_fd(), parts),
                _ => socket::send(self.fd.as_fd(), parts, fds, !timed),
            };
            match written {
                Ok(written) => return Ok(written),
                Err(error) => match error.raw_os_error() {
                    Some(sys::EAGAIN) => self.wait_writable(deadline)?,
                    _ => return Err(not_written(self.kind, error)),
                },
            }
        }
    }

    fn wait_writable(&self, deadline: Deadline) -> Result<()> {
        match sys::poll::wait_writable(self.fd.as_fd(), deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::TimeoutError),
            Err(source) => Err(Error::os("ppoll")(source)),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What it means that nothing could be read.
fn not_read(kind: Kind, error: io::Error) -> Result<Received> {
    match error.raw_os_error() {
        // The peer left without reading all that was sent to it. On a Unix socket what it sent has been
        // read by now; elsewhere some of it may be lost.
        Some(sys::ECONNRESET) if kind == Kind::Unix => Ok(without_fds(0)),
        Some(number) if kind != Kind::File && socket::is_lost(number) => Err(Error::Disconnected),
        _ if kind == Kind::File => Err(Error::os("read")(error)),
        _ => Err(Error::os("recvmsg")(error)),
    }
}

/// What it means that nothing could be written.
fn not_written(kind: Kind, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(sys::EPIPE) => Error::Disconnected,
        Some(number) if kind != Kind::File && socket::is_lost(number) => Error::Disconnected,
        _ if kind == Kind::File => Error::os("writev")(error),
        _ => Error::os("sendmsg")(error),
    }
}

fn without_fds(len: usize) -> Received {
    Received { len, truncated: false, fds_lost: false }
}

/// Writes what a writable pipe takes without waiting: all, if it is little, or a piece.
fn write_step(pipe: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    if parts.iter().map(|part| part.len()).sum::<usize>() <= PIPE_STEP {
        return sys::fd::write_vectored(pipe, parts);
    }
    let first: &[u8] = parts.iter().find(|part| !part.is_empty()).map_or(&[], |part| part);
    sys::fd::write(pipe, &first[..first.len().min(PIPE_STEP)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn a_peer_whose_network_died_is_gone_and_other_errors_stay_what_they_are() {
        use sys::{ECONNRESET, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ETIMEDOUT};
        for number in [ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ENETDOWN] {
            let read = not_read(Kind::Socket, error(number));
            assert!(matches!(read, Err(Error::Disconnected)), "{number}");
            let written = not_written(Kind::Socket, error(number));
            assert!(matches!(written, Error::Disconnected), "{number}");
            // A file on a server of files may fail so, and nobody is gone.
            let read = not_read(Kind::File, error(number));
            assert!(matches!(read, Err(Error::Os { call, .. }) if call == "read"), "{number}");
        }
        assert_eq!(not_read(Kind::Unix, error(ECONNRESET)).unwrap().len, 0);
        for kind in [Kind::Unix, Kind::Socket, Kind::File] {
            assert!(matches!(not_written(kind, error(sys::EPIPE)), Error::Disconnected));
        }
        let read = not_read(Kind::Socket, error(sys::ENOMEM));
        assert!(matches!(read, Err(Error::Os { call, .. }) if call == "recvmsg"));
        let written = not_written(Kind::Socket, error(sys::ENOMEM));
        assert!(matches!(written, Error::Os { call, .. } if call == "sendmsg"));
    }
}
