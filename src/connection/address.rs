//! Where a listener can be found.

use crate::sys::listen::UnixName;
use crate::{Error, Result};
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a [`Listener`](crate::Listener) can be found.
///
/// As text it is `unix:/path`, `abstract:name` or `tcp:host:port`, with an IPv6 address in brackets.
/// Bytes that are no printable text are written `\xNN`, and a backslash twice, so that every address
/// is the one that its text makes.
///
/// # Differences from Python
/// Python tells the families apart by the shape of the value; an abstract name has a zero byte in front
/// there, and is named without it here. Instead of `arbitrary_address`, a listener chooses a free place
/// itself when it is given `abstract:` or a port of 0. Windows' pipes are refused by their form.
///
/// # Examples
/// ```
/// use multiproc::Address;
///
/// let address = Address::parse("tcp:[::1]:4000")?;
/// assert_eq!(address, Address::Tcp { host: "::1".into(), port: 4000 });
/// assert_eq!(address.to_string(), "tcp:[::1]:4000");
/// assert!(Address::parse(r"\\.\pipe\name").is_err());
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A Unix socket in the file system; its path has at most 107 bytes.
    Unix(PathBuf),
    /// A Unix socket with a name outside of any file system, of at most 107 bytes; a listener with an
    /// empty one chooses its own. It is gone with its listener, and no file's mode guards it.
    Abstract(Vec<u8>),
    /// A host, by name or number, and a port; a listener with port 0 is given a free one.
    Tcp {
        /// Its name or number.
        host: String,
        /// The port.
        port: u16,
    },
}

crate::__message! {
    @implement enum Address [[] [] []] [] {
        Unix(PathBuf),
        Abstract(Vec<u8>),
        Tcp { host: String, port: u16 },
    }
}

impl Address {
    /// Reads an address from its text.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: the text is none, or the name in it is too long.
    pub fn parse(text: &str) -> Result<Address> {
        let no_address = || {
            Error::invalid(format!("{text:?} is none of unix:PATH, abstract:NAME, tcp:HOST:PORT"))
        };
        let (family, rest) = text.split_once(':').ok_or_else(no_address)?;
        let address = match family {
            "unix" => Address::Unix(PathBuf::from(OsString::from_vec(unescape(rest)))),
            "abstract" => Address::Abstract(unescape(rest)),
            "tcp" => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(no_address)?;
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse().ok().filter(|_| digits).ok_or_else(no_address)?;
                Address::Tcp { host: bare.unwrap_or(host).to_owned(), port }
            }
            _ => return Err(no_address()),
        };
        address.check()?;
        Ok(address)
    }

    /// Whether any socket could have it.
    fn check(&self) -> Result<()> {
        match self {
            Address::Abstract(name) if name.is_empty() => Ok(()),
            Address::Unix(_) | Address::Abstract(_) => self.unix_name().map(drop),
            Address::Tcp { host, .. } if host.is_empty() || host.contains(['[', ']', '\0']) => {
                Err(Error::invalid("the address names no host"))
            }
            Address::Tcp { .. } => Ok(()),
        }
    }

    /// The name for the kernel of an address that is a Unix socket's.
    pub(super) fn unix_name(&self) -> Result<UnixName> {
        let name = match self {
            Address::Unix(path) => UnixName::path(path.as_os_str().as_bytes()),
            Address::Abstract(name) => UnixName::outside(name),
            Address::Tcp { .. } => None,
        };
        name.ok_or_else(|| {
            Error::invalid(format!("the name of a Unix socket has 1 to {} bytes", UnixName::MAX))
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", escape(path.as_os_str().as_bytes())),
            Address::Abstract(name) => write!(f, "abstract:{}", escape(name)),
            Address::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

/// The bytes as text, from which [`unescape`] makes them again.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str(r"\\"),
                control if control.is_control() => {
                    let mut place = [0; 4];
                    let bytes = control.encode_utf8(&mut place).bytes();
                    bytes.for_each(|byte| text.push_str(&format!(r"\x{byte:02x}")));
                }
                character => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!(r"\x{byte:02x}")));
    }
    text
}

/// A backslash before anything else stands for itself.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let (byte, left) = match (first, behind) {
            (b'\\', [b'\\', left @ ..]) => (b'\\', left),
            (b'\\', [b'x', high, low, left @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, left),
                _ => (b'\\', behind),
            },
            _ => (*first, behind),
        };
        bytes.push(byte);
        rest = left;
    }
    bytes
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address> {
        Address::parse(text)
    }
}

impl TryFrom<&str> for Address {
    type Error = Error;

    fn try_from(text: &str) -> Result<Address> {
        Address::parse(text)
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Address> {
        Address::parse(&text)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        let host = match address {
            // The zone of a link-local address, which only the whole has.
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            _ => address.ip().to_string(),
        };
        Address::Tcp { host, port: address.port() }
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Address {
        Address::Unix(path.to_owned())
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Address {
        Address::Unix(path)
    }
}

impl From<&PathBuf> for Address {
    fn from(path: &PathBuf) -> Address {
        Address::Unix(path.clone())
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Address {
        address.clone()
    }
}
