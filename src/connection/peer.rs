//! Who is at the other end.

use super::{Address, Connection};
use crate::sys::{listen, socket};
use crate::{Error, Result};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Who made the other end of a Unix socket, as the kernel saw it at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The process; its number may belong to another one by now.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// Who a connection came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The client's address, over TCP, unless it is gone.
    pub address: Option<Address>,
    /// The client's process and user, over a Unix socket.
    pub credentials: Option<Credentials>,
}

impl Peer {
    fn of(socket: BorrowedFd<'_>) -> Result<Peer> {
        if let Some(credentials) = Credentials::of(socket)? {
            return Ok(Peer { credentials: Some(credentials), address: None });
        }
        let copy = socket.try_clone_to_owned().map_err(Error::os("fcntl(F_DUPFD_CLOEXEC)"))?;
        Ok(Peer::over_network(&TcpStream::from(copy)))
    }

    /// The same of a socket that was just accepted, and the socket: no further descriptor is needed.
    pub(super) fn met(socket: OwnedFd) -> Result<(OwnedFd, Peer)> {
        if let Some(credentials) = Credentials::of(socket.as_fd())? {
            return Ok((socket, Peer { credentials: Some(credentials), address: None }));
        }
        let socket = TcpStream::from(socket);
        let peer = Peer::over_network(&socket);
        Ok((socket.into(), peer))
    }

    fn over_network(socket: &TcpStream) -> Peer {
        // A client that is gone has no address any more.
        Peer { address: socket.peer_addr().ok().map(Address::from), credentials: None }
    }
}

impl Credentials {
    /// Those of a Unix socket's peer; `None` for another socket.
    fn of(socket: BorrowedFd<'_>) -> Result<Option<Credentials>> {
        if !socket::is_unix(socket).map_err(Error::os("getsockopt(SO_DOMAIN)"))? {
            return Ok(None);
        }
        let (pid, uid, gid) =
            listen::peer_credentials(socket).map_err(Error::os("getsockopt(SO_PEERCRED)"))?;
        Ok(Some(Credentials { pid, uid, gid }))
    }
}

/// Which users may connect to a listener on a Unix socket; see
/// [`ListenerBuilder::peers`](crate::ListenerBuilder::peers).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peers {
    /// The listener's own user (the effective one).
    #[default]
    SameUser,
    /// These users, by number.
    Users(Vec<u32>),
    /// Everybody who gets as far as the socket.
    Anybody,
}

crate::__message! {
    @implement enum Peers [[] [] []] [] { SameUser, Users(Vec<u32>), Anybody }
}

impl Peers {
    /// Whether `peer` may come in; one without credentials came over TCP, where no user is known.
    pub(crate) fn allow(&self, peer: &Peer) -> bool {
        let Some(credentials) = peer.credentials else { return true };
        match self {
            Peers::SameUser => credentials.uid == listen::effective_user(),
            Peers::Users(users) => users.contains(&credentials.uid),
            Peers::Anybody => true,
        }
    }
}

impl Connection {
    /// Says who made the other end.
    ///
    /// # Errors
    /// * [`Error::Os`] (`getsockopt`, `ENOTSOCK`): the connection is no socket.
    ///
    /// # Examples
    /// ```
    /// let (left, _right) = multiproc::pipe()?;
    /// assert_eq!(left.peer()?.credentials.unwrap().pid, std::process::id());
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn peer(&self) -> Result<Peer> {
        Peer::of(self.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_allowed_are_those_that_were_named() {
        let from =
            |uid| Peer { credentials: Some(Credentials { pid: 1, uid, gid: 1 }), address: None };
        let me = listen::effective_user();
        assert!(Peers::SameUser.allow(&from(me)) && !Peers::SameUser.allow(&from(me ^ 1)));
        assert!(Peers::Users(vec![4, 5]).allow(&from(5)) && !Peers::Users(vec![]).allow(&from(me)));
        assert!(Peers::Anybody.allow(&from(77)) && Peers::SameUser.allow(&Peer::default()));
    }
}
