//! `Listener`: the side that is connected to.

use super::auth::{Key, Secret};
use super::door::Door;
use super::peer::{Peer, Peers};
use super::place::{self, Bound, SocketFile};
use super::turn::Turn;
use super::wait::{Waitable, Watch};
use super::{Address, Connection};
use crate::sys::{self, time::Deadline};
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a client may take for its handshake, unless something else is said.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many clients the kernel keeps waiting, unless something else is said.
const BACKLOG: u32 = 128;

/// Waits for clients at an [`Address`].
///
/// With a key, both sides prove to each other that they hold it before [`accept`](Self::accept) returns
/// a connection. Until then a client is a stranger: it has ten seconds, its messages 256 bytes, and
/// what it does or leaves is no other client's matter. The handshakes of several clients go on side by
/// side while somebody is in `accept`; there is no thread behind it.
///
/// A listener on a Unix socket takes clients of its own user alone; [`ListenerBuilder::peers`] changes
/// that. Its file can be opened by its user alone (mode 0600), is removed when the listener is dropped,
/// and one that a killed listener left behind is replaced.
///
/// TCP connections are authenticated, but not encrypted: whoever can listen on the line reads along, and
/// can take a connection over. Between hosts, send them through a tunnel that encrypts, such as
/// `ssh -L 4000:localhost:4000 HOST`, or `ssh -L 4000:/path/of/socket HOST` for a Unix socket.
///
/// A listener is a message itself: another process can accept at the same address. It is given the key
/// along. The socket's file stays the first process's, and goes with it.
///
/// # If a process dies
/// A client that is killed in its handshake is dropped, and later its connection is at its end. What it
/// had sent before can be received, also when it was gone before it was accepted.
///
/// # Differences from Python
/// A client that fails the handshake is no error of `accept`, which Python's raises
/// `AuthenticationError` for: here it goes on to wait for the next one. [`refused`](Self::refused) counts
/// those clients, and [`last_refusal`](Self::last_refusal) tells who it was and why. Python handles one
/// client after the other, so that a silent one keeps all others out. A key may be empty.
/// [`bind`](Self::bind) wants an address; `abstract:` and `tcp:127.0.0.1:0` choose a free one.
///
/// # Examples
/// ```
/// use multiproc::{Client, Listener};
///
/// let listener = Listener::bind("abstract:")?;
/// let client = Client::connect(listener.address())?;
/// client.send_bytes(b"hello")?;
/// let connection = listener.accept()?;
/// assert_eq!(connection.recv_bytes()?, b"hello");
/// # Ok::<(), multiproc::Error>(())
/// ```
pub struct Listener {
    socket: OwnedFd,
    address: Address,
    options: ListenerBuilder,
    door: Turn<Door>,
    last: Mutex<Last>,
    /// Removes the file when it is dropped.
    file: Option<SocketFile>,
}

/// What [`Listener::last_accepted`] and its like tell.
#[derive(Debug, Default)]
pub(super) struct Last {
    accepted: Option<Peer>,
    pub(super) refused: u64,
    pub(super) refusal: Option<Refusal>,
}

/// A client that was not let in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// Who it was, as far as is known.
    pub peer: Peer,
    /// What was wrong with it.
    pub reason: String,
}

/// How to listen; made by [`Listener::builder`].
///
/// # Examples
/// ```
/// use multiproc::{Listener, Peers};
/// use std::time::Duration;
///
/// let listener = Listener::builder()
///     .authkey(*b"secret")
///     .backlog(16)
///     .handshake_timeout(Duration::from_secs(2))
///     .peers(Peers::Anybody)
///     .bind("abstract:")?;
/// assert!(!format!("{listener:?}").contains("secret"));
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ListenerBuilder {
    pub(super) key: Option<Key>,
    pub(super) legacy_md5: bool,
    pub(super) handshake_timeout: Duration,
    pub(super) peers: Peers,
    backlog: u32,
}

impl Default for ListenerBuilder {
    fn default() -> ListenerBuilder {
        ListenerBuilder {
            key: None,
            legacy_md5: false,
            handshake_timeout: HANDSHAKE,
            peers: Peers::SameUser,
            backlog: BACKLOG,
        }
    }
}

impl ListenerBuilder {
    /// Sets the key, of any length, which every client must hold, and which is proved to it.
    pub fn authkey(mut self, key: impl Into<Vec<u8>>) -> ListenerBuilder {
        self.key = Some(Key::new(key));
        self
    }

    /// Sets how many clients that were not accepted yet the kernel keeps (128 unless said; the system has
    /// a maximum of its own).
    pub fn backlog(mut self, clients: u32) -> ListenerBuilder {
        self.backlog = clients;
        self
    }

    /// Sets how long a client may take for its handshake (10 seconds unless said).
    pub fn handshake_timeout(mut self, timeout: Duration) -> ListenerBuilder {
        self.handshake_timeout = timeout;
        self
    }

    /// Also lets clients in that know MD5 alone: CPython before 3.12.
    pub fn legacy_md5(mut self, allowed: bool) -> ListenerBuilder {
        self.legacy_md5 = allowed;
        self
    }

    /// Sets whose processes may connect over a Unix socket (this user's unless said). Others are dropped
    /// before a word is exchanged.
    ///
    /// A socket's file has mode 0600 in any case: let others open it with `std::fs::set_permissions`.
    pub fn peers(mut self, peers: Peers) -> ListenerBuilder {
        self.peers = peers;
        self
    }

    /// Listens at `address`.
    ///
    /// # Errors
    /// * [`Error::Os`] (`bind`): `EADDRINUSE` when somebody listens there, or the file is no socket's;
    ///   `ENOENT`, `EACCES` for a folder that is not there or may not be written.
    /// * [`Error::Os`] (`getaddrinfo`): the host is not known.
    /// * [`Error::InvalidArgument`]: the address is none, or its name is too long.
    pub fn bind<A>(self, address: A) -> Result<Listener>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let backlog = self.backlog.try_into().unwrap_or(i32::MAX);
        Ok(Listener::over(place::bind(address.try_into()?, backlog)?, self))
    }

    pub(super) fn secret(&self) -> Option<Secret> {
        let legacy_md5 = self.legacy_md5;
        self.key.clone().map(|key| Secret { key, legacy_md5 })
    }
}

impl Listener {
    fn over(bound: Bound, options: ListenerBuilder) -> Listener {
        let Bound { socket, address, file } = bound;
        let (door, last) = (Turn::new(Door::default()), Mutex::default());
        Listener { socket, address, options, door, last, file }
    }

    /// Listens at `address`, without a key.
    ///
    /// # Errors
    /// As for [`ListenerBuilder::bind`].
    pub fn bind<A>(address: A) -> Result<Listener>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        Listener::builder().bind(address)
    }

    /// Begins a listener of which more is to be said.
    pub fn builder() -> ListenerBuilder {
        ListenerBuilder::default()
    }

    /// Where it listens: with the port, or the name, that was chosen for it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for a client, and gives the connection to it.
    ///
    /// # Blocking
    /// Waits without limit for a client that holds the key. Signals do not end the wait.
    ///
    /// # Errors
    /// * [`Error::Os`] (`accept4`): `EMFILE`, `ENFILE` or `ENOMEM`: the system has nothing to accept a
    ///   client with. The client stays in the queue.
    ///
    /// What a client does is never an error here.
    pub fn accept(&self) -> Result<Connection> {
        self.accept_within(Deadline::NEVER)
    }

    /// Gives the connection to a client, if there is one that needs no more waiting.
    ///
    /// Handshakes go on with every call.
    ///
    /// # Errors
    /// As for [`accept_timeout`](Self::accept_timeout).
    pub fn try_accept(&self) -> Result<Connection> {
        self.accept_within(Deadline::now())
    }

    /// Waits no longer than `timeout` for a client.
    ///
    /// A handshake that was begun goes on in the next call.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: the time is up.
    /// * Otherwise as for [`accept`](Self::accept).
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Connection> {
        self.accept_within(Deadline::after(timeout))
    }

    fn accept_within(&self, deadline: Deadline) -> Result<Connection> {
        let mut door = self.door.take(deadline).ok_or(Error::TimeoutError)?;
        loop {
            if let Some((connection, peer)) = door.attend(self)? {
                self.last(|last| last.accepted = Some(peer));
                return Ok(connection);
            }
            if deadline.has_passed() {
                return Err(Error::TimeoutError);
            }
            door.wait(self.socket.as_fd(), deadline)?;
        }
    }

    /// Gives the clients one after the other, without end.
    pub fn incoming(&self) -> impl Iterator<Item = Result<Connection>> + '_ {
        std::iter::repeat_with(|| self.accept())
    }

    /// Who the last connection came from that was accepted here; `None` before the first.
    pub fn last_accepted(&self) -> Option<Peer> {
        self.last(|last| last.accepted.clone())
    }

    /// How many clients were not let in: with another key, too slow, of another user.
    pub fn refused(&self) -> u64 {
        self.last(|last| last.refused)
    }

    /// Takes what is known of the last client that was not let in.
    pub fn last_refusal(&self) -> Option<Refusal> {
        self.last(|last| last.refusal.take())
    }

    /// Stops listening; dropping the listener does the same.
    ///
    /// Clients that were not accepted find their connection at its end.
    pub fn close(self) {}

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn options(&self) -> &ListenerBuilder {
        &self.options
    }

    /// No code of a caller runs under this mutex, so a poisoned one is as good as a clean one.
    pub(super) fn last<T>(&self, with: impl FnOnce(&mut Last) -> T) -> T {
        with(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// It is ready when `accept` would return a connection at once. While nothing else is ready, the
/// handshakes go on.
impl Waitable for Listener {
    fn watch(&self, watch: &mut Watch) -> Result<()> {
        watch.readable(self.socket.as_fd());
        match self.door.take(Deadline::now()) {
            Some(door) => door.watch(watch),
            // Whoever is in `accept` may let somebody in and leave somebody else standing.
            None => watch.look_again(),
        }
        Ok(())
    }

    fn is_ready(&self) -> Result<bool> {
        match self.door.take(Deadline::now()) {
            Some(mut door) => door.is_ready(self),
            None => Ok(false),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &format_args!("{}", self.address))
            .field("fd", &self.socket.as_raw_fd())
            .field("authenticates", &self.options.key.is_some())
            .field("removes_file", &self.file.is_some())
            .field("refused", &self.refused())
            .finish()
    }
}

impl Encode for Listener {
    /// Appends the socket, with the key and the other options. The message must stay among those who may
    /// know the key.
    fn encode(&self, encoder: &mut Encoder<'_>) {
        let ListenerBuilder { key, legacy_md5, handshake_timeout, peers, backlog } = &self.options;
        encoder.fd(self.socket.as_fd());
        self.address.encode(encoder);
        key.as_ref().map(Key::bytes).encode(encoder);
        (*legacy_md5, *handshake_timeout, *backlog).encode(encoder);
        peers.encode(encoder);
    }
}

impl Decode for Listener {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Listener> {
        let socket = decoder.fd()?;
        let listens = sys::listen::is_listening(socket.as_fd());
        if !listens.map_err(Error::os("getsockopt(SO_ACCEPTCONN)"))? {
            return Err(Error::decode("the socket of a listener does not listen"));
        }
        let address = Decode::decode(decoder)?;
        let key = Option::<Vec<u8>>::decode(decoder)?.map(Key::new);
        let (legacy_md5, handshake_timeout, backlog) = Decode::decode(decoder)?;
        let peers = Decode::decode(decoder)?;
        let options = ListenerBuilder { key, legacy_md5, handshake_timeout, peers, backlog };
        // `accept` counts on it, whatever the sender says.
        sys::fd::set_nonblocking(socket.as_fd(), true).map_err(Error::os("fcntl"))?;
        Ok(Listener::over(Bound { socket, address, file: None }, options))
    }
}
