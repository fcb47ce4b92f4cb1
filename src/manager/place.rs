//! Where a server is, how to get in, and who is at the door.

use crate::connection::{Bound, Handshake, Key, Peers, Secret, bind};
use crate::sys::time::Deadline;
use crate::sys::{self, listen, socket};
use crate::{Address, Client, Connection, Error, Result};
use std::fmt;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A server: its number, its address and its key.
pub(crate) struct Place {
    /// Random: no two servers have the same. Zero where it is not known yet.
    pub(super) server: u64,
    pub(super) address: Address,
    pub(super) key: Key,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Place {
    /// Connects, and does the handshake.
    pub(super) fn dial(&self) -> Result<OwnedFd> {
        let client = Client::builder().authkey(self.key.bytes());
        let socket = client
            .connect(&self.address)
            .map_err(|error| match error {
                Error::Eof | Error::TruncatedMessage => Error::Disconnected,
                other => other,
            })?
            .into_fd()
            .map_err(|_| Error::authentication("the peer sent more than the handshake"))?;
        if let Address::Tcp { .. } = self.address {
            socket::keep_alive(socket.as_fd(), KEEPALIVE)
                .map_err(Error::os("setsockopt(SO_KEEPALIVE)"))?;
        }
        Ok(socket)
    }
}

/// How long a peer over a network may be silent when asked whether it is there.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(30);

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A socket that takes a server's clients.
#[derive(Debug)]
pub(super) struct Door {
    bound: Bound,
    /// How long a silent client over a network is believed to be there.
    keepalive: Duration,
}

impl Door {
    /// Listens at `address`.
    pub(super) fn open(address: Address, keepalive: Duration) -> Result<Door> {
        bind(address, BACKLOG).map(|bound| Door { bound, keepalive })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &Address {
        &self.bound.address
    }

    /// Who has connected; none if nobody waits. The kernel says whose process it is, on a Unix socket:
    /// other users do not get as far as the handshake.
    pub(super) fn accept(&self, secret: &Secret) -> io::Result<Option<Stranger>> {
        loop {
            let socket = match listen::accept(self.bound.socket.as_fd()) {
                Ok(socket) => socket,
                Err(error) if error.raw_os_error() == Some(sys::EAGAIN) => return Ok(None),
                Err(error) if listen::is_clients_fault(error.raw_os_error()) => continue,
                Err(error) => return Err(error),
            };
            if let Some(stranger) = self.receive(socket, secret) {
                return Ok(Some(stranger));
            }
        }
    }

    /// A client that may come as far as the handshake.
    fn receive(&self, socket: OwnedFd, secret: &Secret) -> Option<Stranger> {
        let connection = if let Address::Tcp { .. } = self.bound.address {
            let stream = TcpStream::from(socket);
            stream.set_nodelay(true).ok()?;
            socket::keep_alive(stream.as_fd(), self.keepalive).ok()?;
            Connection::from(stream)
        } else {
            Connection::from(UnixStream::from(socket))
        };
        let allowed = connection.peer().is_ok_and(|peer| Peers::SameUser.allow(&peer));
        allowed.then(|| Stranger { connection, handshake: Handshake::accepting(secret.clone()) })
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bound.socket.as_fd()
    }
}

/// A client that has not proved yet that it holds the key.
#[derive(Debug)]
pub(super) struct Stranger {
    connection: Connection,
    handshake: Handshake,
}

impl Stranger {
    /// Goes as far as it can go without waiting; whether the handshake is done.
    pub(super) fn advance(&mut self) -> Result<bool> {
        match self.handshake.advance(&self.connection, Deadline::now()) {
            Ok(()) => Ok(true),
            Err(Error::TimeoutError) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The socket of a client that is none any more.
    pub(super) fn into_socket(self) -> Option<OwnedFd> {
        self.connection.into_fd().ok()
    }
}

impl AsFd for Stranger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sockets of both ends of a connection to a door.
    fn meet(address: &str, keepalive: Duration) -> (OwnedFd, OwnedFd) {
        let door = Door::open(address.try_into().unwrap(), keepalive).unwrap();
        let key = Key::new(*b"key");
        let place = Place { server: 0, address: door.address().clone(), key: key.clone() };
        let client = std::thread::spawn(move || place.dial().unwrap());
        let secret = Secret { key, legacy_md5: false };
        let mut stranger = loop {
            match door.accept(&secret).unwrap() {
                Some(stranger) => break stranger,
                None => std::thread::yield_now(),
            }
        };
        while !stranger.advance().unwrap() {
            std::thread::yield_now();
        }
        (client.join().unwrap(), stranger.into_socket().unwrap())
    }

    #[test]
    fn both_ends_of_a_connection_over_tcp_ask_whether_the_other_is_there() {
        let (client, server) = meet("tcp:127.0.0.1:0", Duration::from_secs(6));
        assert_eq!(socket::kept_alive(client.as_fd()).unwrap(), [1, 15, 5, 3, 30_000]);
        assert_eq!(socket::kept_alive(server.as_fd()).unwrap(), [1, 3, 1, 3, 6000]);
        let (client, server) = meet("abstract:", KEEPALIVE);
        assert!(
            socket::is_unix(client.as_fd()).unwrap() && socket::is_unix(server.as_fd()).unwrap()
        );
    }
}
