//! Binding sockets to addresses: files of their own mode, taken over from the dead and left by nobody.

use super::Address;
use crate::sys::{self, listen};
use crate::{Error, Result};
use std::fs::{self, File, Permissions};
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another process may take to do what this one wants to do.
const PATIENCE: Duration = Duration::from_secs(1);

/// A socket's file, removed when it is dropped by the process that made it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    identity: (u64, u64),
    maker: u32,
}

impl SocketFile {
    fn at(path: &Path) -> Result<SocketFile> {
        // The working directory may be another one when it is removed.
        let path = std::path::absolute(path).map_err(Error::os("getcwd"))?;
        let identity = identity(&path).map_err(Error::os("lstat"))?;
        Ok(SocketFile { path, identity, maker: sys::process::id() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = self.maker == sys::process::id()
            && identity(&self.path).is_ok_and(|identity| identity == self.identity);
        if ours {
            // If it cannot be removed, the next listener finds it without a socket behind it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// A socket that listens, and where.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) socket: OwnedFd,
    pub(crate) address: Address,
    pub(crate) file: Option<SocketFile>,
}

/// Makes a socket that listens at `address`.
pub(crate) fn bind(address: Address, backlog: i32) -> Result<Bound> {
    let bound = match address {
        Address::Unix(path) => bind_path(path)?,
        Address::Abstract(name) if name.is_empty() => bind_any_name()?,
        Address::Abstract(_) => Bound { socket: bind_unix(&address)?, address, file: None },
        Address::Tcp { host, port } => bind_tcp(&host, port)?,
    };
    listen::listen(bound.socket.as_fd(), backlog).map_err(Error::os("listen"))?;
    sys::fd::set_nonblocking(bound.socket.as_fd(), true).map_err(Error::os("fcntl"))?;
    Ok(bound)
}

fn bind_unix(address: &Address) -> Result<OwnedFd> {
    let name = address.unix_name()?;
    let socket = listen::unix_socket(listen::STREAM).map_err(Error::os("socket"))?;
    // The file that `bind` makes takes its mode from the socket, so that at no time others can connect.
    let socket = File::from(socket);
    socket.set_permissions(Permissions::from_mode(0o600)).map_err(Error::os("fchmod"))?;
    listen::bind(socket.as_fd(), &name).map_err(Error::os("bind"))?;
    Ok(socket.into())
}

fn bind_path(path: PathBuf) -> Result<Bound> {
    let address = Address::Unix(path.clone());
    let socket = match bind_unix(&address) {
        Err(error) if error.raw_os_error() == Some(sys::EADDRINUSE) => {
            // Who else would take the place over waits here, or its `bind` fails.
            let _lock = lock_folder(&path);
            if !is_left_over(&address, &path) {
                return Err(error);
            }
            fs::remove_file(&path).map_err(Error::os("unlink"))?;
            bind_unix(&address)?
        }
        bound => bound?,
    };
    Ok(Bound { file: Some(SocketFile::at(&path)?), socket, address })
}

/// Whether the file is a socket's which nobody has open any more.
///
/// It is asked in another kind than the one it has, which a living socket refuses, so that its owner never
/// sees a connection.
fn is_left_over(address: &Address, path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let (Ok(name), Ok(asks)) = (address.unix_name(), listen::unix_socket(listen::DATAGRAM)) else {
        return false;
    };
    let answer = listen::connect(asks.as_fd(), &name, sys::time::Deadline::NEVER);
    is_socket && answer.is_err_and(|error| error.raw_os_error() == Some(sys::ECONNREFUSED))
}

/// The folder of `path`, locked against others who come to take a socket's place over; `None` if it
/// cannot be.
fn lock_folder(path: &Path) -> Option<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new("."))).ok()?;
    let deadline = sys::time::Deadline::after(PATIENCE);
    while listen::try_lock_file(folder.as_fd()).is_err() {
        if deadline.has_passed() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(folder)
}

/// Binds a name that nobody else has and nobody can guess.
fn bind_any_name() -> Result<Bound> {
    let random = || sys::random::u64().map_err(Error::os("getrandom"));
    let name = format!("multiproc-{}-{:016x}{:016x}", sys::process::id(), random()?, random()?);
    let address = Address::Abstract(name.into_bytes());
    Ok(Bound { socket: bind_unix(&address)?, address, file: None })
}

/// The standard library sets `SO_REUSEADDR`, and tries every address of the host.
fn bind_tcp(host: &str, port: u16) -> Result<Bound> {
    let addresses = resolve(host, port)?;
    let socket = TcpListener::bind(&addresses[..]).map_err(Error::os("bind"))?;
    let bound = socket.local_addr().map_err(Error::os("getsockname"))?;
    Ok(Bound { socket: socket.into(), address: bound.into(), file: None })
}

/// All addresses of a host.
pub(super) fn resolve(host: &str, port: u16) -> Result<Vec<std::net::SocketAddr>> {
    Ok((host, port).to_socket_addrs().map_err(Error::os("getaddrinfo"))?.collect())
}
