//! Where a server is, and how to get in.

use super::address::Address;
use crate::{Error, Result, sys};
use std::fmt;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;

/// A server: its number, its address and its key.
pub(crate) struct Place {
    /// Random: no two servers have the same.
    pub(super) server: u64,
    pub(super) address: Address,
    pub(super) key: Vec<u8>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A socket that takes a server's clients.
#[derive(Debug)]
pub(super) enum Door {
    Unix(UnixListener, Option<PathBuf>),
    Tcp(TcpListener),
}

impl Door {
    /// Listens at `address`, and says where that is.
    pub(super) fn open(address: &Address) -> Result<(Door, Address)> {
        match address {
            Address::Unix(path) => {
                let listener = UnixListener::bind(path).map_err(Error::os("bind"))?;
                Ok((Door::Unix(listener, Some(path.clone())).nonblocking()?, address.clone()))
            }
            Address::Abstract(name) => {
                let name = match &name[..] {
                    b"" => {
                        let number = sys::random::u64().map_err(Error::os("getrandom"))?;
                        format!("multiproc-{number:016x}").into_bytes()
                    }
                    name => name.to_vec(),
                };
                let place = SocketAddr::from_abstract_name(&name).map_err(Error::os("bind"))?;
                let listener = UnixListener::bind_addr(&place).map_err(Error::os("bind"))?;
                Ok((Door::Unix(listener, None).nonblocking()?, Address::Abstract(name)))
            }
            Address::Tcp { host, port } => {
                let listener = TcpListener::bind((&host[..], *port)).map_err(Error::os("bind"))?;
                let port = listener.local_addr().map_err(Error::os("getsockname"))?.port();
                Ok((Door::Tcp(listener).nonblocking()?, Address::Tcp { host: host.clone(), port }))
            }
        }
    }
}

impl Door {
    /// Who has connected; none if nobody waits.
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        let accepted = match self {
            Door::Unix(listener, _) => listener.accept().map(|(socket, _)| socket.into()),
            Door::Tcp(listener) => listener.accept().map(|(socket, _)| {
                let _ = socket.set_nodelay(true);
                socket.into()
            }),
        };
        match accepted {
            Ok(socket) => Ok(Some(socket)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// The file of a socket that has one goes with its listener.
    pub(super) fn remove(&self) {
        if let Door::Unix(_, Some(path)) = self {
            let _ = std::fs::remove_file(path);
        }
    }

    fn nonblocking(self) -> Result<Door> {
        match &self {
            Door::Unix(listener, _) => listener.set_nonblocking(true),
            Door::Tcp(listener) => listener.set_nonblocking(true),
        }
        .map_err(Error::os("fcntl(O_NONBLOCK)"))?;
        Ok(self)
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Door::Unix(listener, _) => listener.as_fd(),
            Door::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// Connects to `address`.
pub(super) fn dial(address: &Address) -> Result<OwnedFd> {
    match address {
        Address::Unix(path) => Ok(UnixStream::connect(path).map_err(Error::os("connect"))?.into()),
        Address::Abstract(name) => {
            let place = SocketAddr::from_abstract_name(name).map_err(Error::os("connect"))?;
            Ok(UnixStream::connect_addr(&place).map_err(Error::os("connect"))?.into())
        }
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((&host[..], *port)).map_err(Error::os("connect"))?;
            stream.set_nodelay(true).map_err(Error::os("setsockopt(TCP_NODELAY)"))?;
            Ok(stream.into())
        }
    }
}
