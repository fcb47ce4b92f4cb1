//! `Client`: the side that connects.

use super::auth::{Handshake, Key, Secret};
use super::place::resolve;
use super::{Address, Connection};
use crate::sys::{self, listen, time::Deadline};
use crate::{Error, Result};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Connects to a [`Listener`](crate::Listener), or to one of Python's `multiprocessing.connection`.
///
/// # Examples
/// ```
/// use multiproc::{Client, Listener};
///
/// let listener = Listener::builder().authkey(*b"secret").bind("abstract:")?;
/// let address = listener.address().clone();
/// let client = std::thread::spawn(move || -> multiproc::Result<()> {
///     Client::builder().authkey(*b"secret").connect(&address)?.send("hello")
/// });
/// assert_eq!(listener.accept()?.recv::<String>()?, "hello");
/// client.join().unwrap()?;
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Debug)]
pub struct Client(());

/// How to connect; made by [`Client::builder`].
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let client = multiproc::Client::builder().authkey(*b"secret");
/// let nobody = client.connect_timeout("abstract:nobody is here", Duration::from_secs(1));
/// assert_eq!(nobody.unwrap_err().raw_os_error(), Some(111)); // ECONNREFUSED
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ClientBuilder {
    key: Option<Key>,
    legacy_md5: bool,
}

impl Client {
    /// Connects to the listener at `address`, without a handshake.
    ///
    /// # Blocking
    /// Waits until the listener's queue takes the connection, not until it is accepted.
    ///
    /// # Errors
    /// As for [`ClientBuilder::connect`].
    ///
    /// # Examples
    /// ```
    /// use multiproc::{Client, Listener};
    ///
    /// let listener = Listener::bind("tcp:127.0.0.1:0")?;
    /// let client = Client::connect(listener.address())?;
    /// client.send(&1u8)?;
    /// assert_eq!(listener.accept()?.recv::<u8>()?, 1);
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn connect<A>(address: A) -> Result<Connection>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        Client::builder().connect(address)
    }

    /// Connects to the listener at `address`, and waits no longer than `timeout` for it.
    ///
    /// # Errors
    /// As for [`ClientBuilder::connect_timeout`].
    pub fn connect_timeout<A>(address: A, timeout: Duration) -> Result<Connection>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        Client::builder().connect_timeout(address, timeout)
    }

    /// Begins a client of which more is to be said.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }
}

impl ClientBuilder {
    /// Sets the key, of any length, which both sides must hold; each proves it to the other.
    pub fn authkey(mut self, key: impl Into<Vec<u8>>) -> ClientBuilder {
        self.key = Some(Key::new(key));
        self
    }

    /// Also answers listeners that know MD5 alone: CPython before 3.12.
    pub fn legacy_md5(mut self, allowed: bool) -> ClientBuilder {
        self.legacy_md5 = allowed;
        self
    }

    /// Connects to the listener at `address`, and does the handshake if there is a key.
    ///
    /// Of a host with several addresses the first that answers is taken.
    ///
    /// # Blocking
    /// Waits without limit for a listener that does not answer: if one side has a key and the other has
    /// none, neither can know that.
    ///
    /// # Errors
    /// * [`Error::Os`] (`connect`): `ECONNREFUSED` or `ENOENT` when nobody listens there;
    ///   (`getaddrinfo`): the host is not known.
    /// * [`Error::AuthenticationError`]: the keys differ, or the listener does not speak the handshake.
    /// * [`Error::Eof`], [`Error::Disconnected`]: the listener has dropped the connection.
    /// * [`Error::InvalidArgument`]: the address is none.
    pub fn connect<A>(&self, address: A) -> Result<Connection>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        self.connect_within(&address.try_into()?, Deadline::NEVER)
    }

    /// Connects to the listener at `address`, and waits no longer than `timeout` for it and for the
    /// handshake. To find out the addresses of a host's name may take longer.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: the time is up.
    /// * Otherwise as for [`connect`](Self::connect).
    pub fn connect_timeout<A>(&self, address: A, timeout: Duration) -> Result<Connection>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        self.connect_within(&address.try_into()?, Deadline::after(timeout))
    }

    fn connect_within(&self, address: &Address, deadline: Deadline) -> Result<Connection> {
        let connection: Connection = match address {
            Address::Tcp { host, port } => connect_tcp(host, *port, deadline)?.into(),
            _ => connect_unix(address, deadline)?.into(),
        };
        if let Some(key) = &self.key {
            let secret = Secret { key: key.clone(), legacy_md5: self.legacy_md5 };
            Handshake::connecting(secret).advance(&connection, deadline)?;
        }
        Ok(connection)
    }
}

fn connect_unix(address: &Address, deadline: Deadline) -> Result<UnixStream> {
    let name = address.unix_name()?;
    let socket = listen::unix_socket(listen::STREAM).map_err(Error::os("socket"))?;
    match listen::connect(socket.as_fd(), &name, deadline) {
        Ok(()) => Ok(socket.into()),
        Err(error) if error.raw_os_error() == Some(sys::EAGAIN) => Err(Error::TimeoutError),
        Err(error) => Err(Error::os("connect")(error)),
    }
}

fn connect_tcp(host: &str, port: u16, deadline: Deadline) -> Result<TcpStream> {
    let mut refusal = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in resolve(host, port)? {
        match connect_to(&address, deadline) {
            Ok(socket) => {
                socket.set_nodelay(true).map_err(Error::os("setsockopt(TCP_NODELAY)"))?;
                return Ok(socket);
            }
            Err(error) => refusal = error,
        }
    }
    match refusal.kind() {
        io::ErrorKind::TimedOut if deadline.has_passed() => Err(Error::TimeoutError),
        _ => Err(Error::os("connect")(refusal)),
    }
}

fn connect_to(address: &SocketAddr, deadline: Deadline) -> io::Result<TcpStream> {
    match deadline.remaining() {
        None => TcpStream::connect(address),
        Some(left) if left.is_zero() => Err(io::ErrorKind::TimedOut.into()),
        Some(left) => TcpStream::connect_timeout(address, left),
    }
}
