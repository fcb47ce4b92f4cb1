//! Connections: messages over pipes and sockets, in CPython's framing.

mod adapters;
mod address;
mod arrivals;
mod auth;
mod client;
mod digest;
mod door;
mod frame;
mod listener;
mod messages;
mod peer;
mod pickle;
mod place;
mod reader;
mod stream;
mod transfer;
mod turn;
mod wait;
mod writer;

use crate::sys::{socket, time::Deadline};
use crate::{Error, Result};
pub use adapters::{MessageReader, MessageWriter};
pub use address::Address;
pub(crate) use auth::{Handshake, Key, Secret};
pub use auth::{answer_challenge, deliver_challenge};
pub use client::{Client, ClientBuilder};
pub use listener::{Listener, ListenerBuilder, Refusal};
pub use peer::{Credentials, Peer, Peers};
pub(crate) use pickle::{Term, request_from_pickle};
pub(crate) use place::{Bound, bind};
use reader::Reader;
use std::fmt;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use stream::{Kind, Stream};
use turn::{Taken, Turn};
pub use wait::{Waitable, Watch, wait};
use writer::Writer;

/// One end of a connection, which sends and receives messages: values, bytes and descriptors.
///
/// Every method takes `&self`: threads may share a connection, also to send and receive at once, and
/// messages never mix. Two *processes* that hold the same end (after fork, or because it was sent to
/// one of them) can both use it for sending only if their messages are small, and should not both
/// receive: what one of them has read, the other does not see.
///
/// The bytes on the wire are those of CPython's `multiprocessing.connection`: a Python process can be
/// at the other end of [`send_bytes`](Self::send_bytes) and [`recv_bytes`](Self::recv_bytes).
///
/// A connection is a message itself: sent to another process, as a value or inside one, it works
/// there, and brings along what was received on it and not yet taken. As after fork, the original
/// has that too; the usual thing is to drop it.
///
/// # If a process dies
/// What it sent before can be received; then comes [`Error::Eof`], or [`Error::TruncatedMessage`] when
/// it died while it sent. Sending to it is [`Error::Disconnected`].
///
/// Over a network a machine may go without a word, or the network itself. Whoever sends is then told
/// [`Error::Disconnected`] once the kernel has given up sending it again (after some minutes), or as soon
/// as it hears that there is no way there, and so is whoever receives then. Who only receives is told if
/// the socket was made to ask whether its peer is there (`SO_KEEPALIVE`) before it became a connection;
/// otherwise it waits on: use a timeout.
///
/// # Differences from Python
/// Python's connection has no lock, so that threads sharing an end mix their messages. One end of
/// `Pipe(False)` is a pipe there; here both are sockets, so that descriptors can travel through.
///
/// # Examples
/// ```
/// let (left, right) = multiproc::pipe()?;
/// left.send_bytes(b"hello")?;
/// assert_eq!(right.recv_bytes()?, b"hello");
/// drop(left);
/// assert!(matches!(right.recv_bytes(), Err(multiproc::Error::Eof)));
/// # Ok::<(), multiproc::Error>(())
/// ```
#[doc(alias = "Pipe")]
pub struct Connection {
    /// At least one of the two is there.
    input: Option<Box<Input>>,
    output: Option<Box<Writer>>,
}

struct Input {
    stream: Arc<Stream>,
    reader: Turn<Reader>,
}

/// Makes two connections, each the other's peer; both send and receive.
///
/// # Errors
/// * [`Error::Os`] (`socketpair`): `EMFILE` when the process has no descriptor free, for example.
///
/// # Examples
/// ```
/// let (left, right) = multiproc::pipe()?;
/// left.send_bytes(b"ping")?;
/// right.send_bytes(b"pong")?;
/// assert_eq!((right.recv_bytes()?, left.recv_bytes()?), (b"ping".to_vec(), b"pong".to_vec()));
/// # Ok::<(), multiproc::Error>(())
/// ```
#[doc(alias = "Pipe")]
pub fn pipe() -> Result<(Connection, Connection)> {
    let (left, right) = socket::pair(socket::Kind::Stream).map_err(Error::os("socketpair"))?;
    let both = |fd| Connection::both(Stream::new(fd, Kind::Unix));
    Ok((both(left), both(right)))
}

/// Makes two connections, of which the first only receives and the second only sends.
///
/// Underneath it is a pair of sockets with one direction shut, not a pipe: descriptors can travel
/// through a socket alone.
///
/// # Errors
/// * [`Error::Os`] (`socketpair`): `EMFILE` when the process has no descriptor free, for example.
///
/// # Examples
/// ```
/// let (reader, writer) = multiproc::pipe_one_way()?;
/// writer.send_bytes(b"one way")?;
/// assert_eq!(reader.recv_bytes()?, b"one way");
/// assert!(reader.send_bytes(b"back").is_err());
/// # Ok::<(), multiproc::Error>(())
/// ```
#[doc(alias = "Pipe")]
pub fn pipe_one_way() -> Result<(Connection, Connection)> {
    let (reader, writer) = socket::pair(socket::Kind::Stream).map_err(Error::os("socketpair"))?;
    socket::shutdown_write(reader.as_fd()).map_err(Error::os("shutdown"))?;
    Ok((
        Connection::receiving(Stream::new(reader, Kind::Unix)),
        Connection::sending(Arc::new(Stream::new(writer, Kind::Unix))),
    ))
}

impl Connection {
    fn both(stream: Stream) -> Connection {
        let stream = Arc::new(stream);
        let output = Some(Box::new(Writer::new(Arc::clone(&stream))));
        Connection { input: Some(Box::new(Input::new(stream))), output }
    }

    fn receiving(stream: Stream) -> Connection {
        let stream = Arc::new(stream.receiving_only());
        Connection { input: Some(Box::new(Input::new(stream))), output: None }
    }

    fn sending(stream: Arc<Stream>) -> Connection {
        Connection { input: None, output: Some(Box::new(Writer::new(stream))) }
    }

    /// Makes a connection that only receives, from any stream that can be read.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: `fd` is a socket, but not a stream.
    pub fn from_reader(fd: OwnedFd) -> Result<Connection> {
        Stream::identify(fd).map(Connection::receiving)
    }

    /// Makes a connection that only sends, to any stream that can be written.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: `fd` is a socket, but not a stream.
    pub fn from_writer(fd: OwnedFd) -> Result<Connection> {
        Stream::identify(fd).map(|stream| Connection::sending(Arc::new(stream)))
    }

    /// Whether messages can be received.
    ///
    /// A message that was refused for its length or its header ends it for good.
    pub fn readable(&self) -> bool {
        self.input.as_ref().is_some_and(|input| !input.stream.input_is_lost())
    }

    /// Whether messages can be sent.
    ///
    /// A message of which only a part could be sent ends it for good.
    pub fn writable(&self) -> bool {
        self.output.as_ref().is_some_and(|output| !output.stream().output_is_lost())
    }

    /// Closes this end; dropping it does the same.
    pub fn close(self) {}

    /// Splits the connection into one that only receives and one that only sends.
    ///
    /// They share the descriptor, which is closed when both are gone. Threads need not split a
    /// connection in order to share it; this is for handing each direction to its own owner.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: the connection has one direction only.
    pub fn split(self) -> Result<(Connection, Connection)> {
        if self.input.is_none() || self.output.is_none() {
            return Err(Error::invalid("the connection has one direction only"));
        }
        let Connection { input, output } = self;
        Ok((Connection { input, output: None }, Connection { input: None, output }))
    }

    /// Gives the descriptor back, if there is exactly one and nothing was received that would be lost.
    ///
    /// # Errors
    /// The connection itself, when it is one half of a split one, has two descriptors, or holds input
    /// that was not taken yet.
    pub fn into_fd(self) -> Result<OwnedFd, Connection> {
        if self.shares_its_stream() || self.holds_input() {
            return Err(self);
        }
        let stream = match (self.input, self.output) {
            (Some(input), output) => {
                drop(output);
                input.stream
            }
            (None, Some(output)) => output.into_stream(),
            (None, None) => unreachable!("a connection has at least one direction"),
        };
        Ok(Arc::into_inner(stream).expect("no other reference was left").into_fd())
    }

    /// Whether there is more than this connection's one stream, or another user of it.
    fn shares_its_stream(&self) -> bool {
        match (&self.input, &self.output) {
            (Some(input), Some(output)) => {
                let one = Arc::ptr_eq(&input.stream, output.stream());
                !one || Arc::strong_count(&input.stream) > 2
            }
            (Some(input), None) => Arc::strong_count(&input.stream) > 1,
            (None, Some(output)) => Arc::strong_count(output.stream()) > 1,
            (None, None) => true,
        }
    }

    /// Whether something was received and not taken.
    fn holds_input(&self) -> bool {
        self.input.as_ref().is_some_and(|input| {
            let reader = input.reader.take(Deadline::now());
            reader.is_none_or(|reader| reader.has_input())
        })
    }

    /// Whether nothing is to be read ahead, and no descriptor taken.
    fn set_strict(&self, strict: bool) {
        if let Some(input) = &self.input {
            input.stream.set_strict(strict);
        }
    }

    fn input(&self) -> Result<&Input> {
        self.input.as_deref().ok_or_else(|| Error::invalid("the connection only sends"))
    }

    fn output(&self) -> Result<&Writer> {
        self.output.as_deref().ok_or_else(|| Error::invalid("the connection only receives"))
    }
}

impl Input {
    fn new(stream: Arc<Stream>) -> Input {
        Input { stream, reader: Turn::new(Reader::default()) }
    }

    /// The reader, when no other thread is receiving any more.
    fn take(&self, deadline: Deadline) -> Result<Taken<'_, Reader>> {
        self.reader.take(deadline).ok_or(Error::TimeoutError)
    }
}

impl AsFd for Connection {
    /// The descriptor, to be waited for: the receiving one, where there are two.
    ///
    /// Messages that this process has read ahead do not make it readable:
    /// [`poll`](Connection::poll) knows them too.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match (&self.input, &self.output) {
            (Some(input), _) => input.stream.as_fd(),
            (None, Some(output)) => output.stream().as_fd(),
            (None, None) => unreachable!("a connection has at least one direction"),
        }
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("fd", &self.as_raw_fd())
            .field("readable", &self.readable())
            .field("writable", &self.writable())
            .finish()
    }
}

impl From<UnixStream> for Connection {
    fn from(socket: UnixStream) -> Connection {
        Connection::both(Stream::new(socket.into(), Kind::Unix))
    }
}

impl From<TcpStream> for Connection {
    fn from(socket: TcpStream) -> Connection {
        Connection::both(Stream::new(socket.into(), Kind::Socket))
    }
}

impl TryFrom<OwnedFd> for Connection {
    type Error = Error;

    /// Makes a connection from a stream that can be read and written.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: it is a socket, but not a stream.
    fn try_from(fd: OwnedFd) -> Result<Connection> {
        Stream::identify(fd).map(Connection::both)
    }
}

impl TryFrom<(OwnedFd, OwnedFd)> for Connection {
    type Error = Error;

    /// Makes a connection that receives from the first and sends to the second.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: one is a socket, but not a stream.
    fn try_from((reader, writer): (OwnedFd, OwnedFd)) -> Result<Connection> {
        let input = Connection::from_reader(reader)?.input;
        let output = Connection::from_writer(writer)?.output;
        Ok(Connection { input, output })
    }
}
