//! What the fuzzers and the tests that replay their seeds have in common.
#![allow(dead_code, unreachable_pub)]

use multiproc::shared_memory::SharedMemory;
use multiproc::{
    Address, Connection, Encode, Encoder, Error, Listener, Object, Result, ShareableList,
    answer_challenge, deliver_challenge, pipe,
};
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

/// The seeds of a fuzzer, and what is known to have gone wrong once.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&folder).unwrap();
    let seeds: Vec<_> =
        entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!seeds.is_empty(), "{}", folder.display());
    seeds
}

/// A connection whose peer has sent these bytes and left; `None` if they are more than a socket holds.
pub fn after(bytes: &[u8]) -> Option<(Connection, UnixStream)> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    theirs.write_all(bytes).ok()?;
    theirs.shutdown(Shutdown::Write).unwrap();
    Some((ours.into(), theirs))
}

const KEY: &[u8] = b"a key that no stranger has";

/// Bytes from a peer without the key, who is asked to prove itself: it is not believed.
pub fn ask(bytes: &[u8]) {
    let Some((connection, _theirs)) = after(bytes) else { return };
    refused(deliver_challenge(&connection, KEY).expect_err("a stranger was believed"));
}

/// The same, where it is the peer who asks; it may be content with any answer, but then it said so.
pub fn answer(bytes: &[u8]) {
    let Some((connection, _theirs)) = after(bytes) else { return };
    match answer_challenge(&connection, KEY) {
        Ok(()) => assert!(bytes.windows(9).any(|window| window == b"#WELCOME#")),
        Err(error) => refused(error),
    }
}

fn refused(error: Error) {
    match error {
        Error::AuthenticationError { .. }
        | Error::MessageTooLong { .. }
        | Error::Decode { .. }
        | Error::Eof
        | Error::TruncatedMessage => {}
        error => panic!("{error}"),
    }
}

/// Any bytes as a stream of messages: each reader finds the same messages, and the same end.
pub fn check_frames(bytes: &[u8]) {
    let mut found = Vec::new();
    for reader in [by_bytes as fn(&Connection) -> Result<Vec<u8>>, into_a_buffer, by_bits] {
        let Some((connection, _theirs)) = after(bytes) else { return };
        let mut messages = Vec::new();
        let end = loop {
            match reader(&connection) {
                Ok(message) => messages.push(message),
                Err(error) => break error,
            }
        };
        let end = match end {
            Error::Eof => {
                let len: usize = messages.iter().map(|message| message.len() + 4).sum();
                assert!(len <= bytes.len());
                "end"
            }
            Error::TruncatedMessage => "truncated",
            Error::Decode { .. } | Error::MessageTooLong { .. } => "refused",
            error => panic!("{error}"),
        };
        found.push((messages, end));
    }
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
}

fn by_bytes(connection: &Connection) -> Result<Vec<u8>> {
    connection.recv_bytes()
}

fn into_a_buffer(connection: &Connection) -> Result<Vec<u8>> {
    let mut buffer = [0; 300];
    match connection.recv_bytes_into(&mut buffer) {
        Ok(len) => Ok(buffer[..len].to_vec()),
        Err(Error::BufferTooShort { message }) => Ok(message),
        Err(error) => Err(error),
    }
}

fn by_bits(connection: &Connection) -> Result<Vec<u8>> {
    assert!(connection.poll(std::time::Duration::ZERO)?);
    connection.try_recv_bytes()
}

/// Bytes and descriptors that somebody has put together.
struct Forged<'a>(&'a [u8], Vec<BorrowedFd<'a>>);

impl Encode for Forged<'_> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.bytes(self.0);
        self.1.iter().for_each(|fd| encoder.fd(*fd));
    }
}

/// Any bytes, with descriptors of several kinds, as a connection or a listener: it is an error, or it can
/// be used. The first byte says as what, and which descriptors there are.
pub fn check_handles(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let (stream, mut other) = UnixStream::pair().unwrap();
    other.write_all(b"\0\0\0\x02hi").unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    let name = SocketAddr::from_abstract_name(format!("multiproc-forged-{}", std::process::id()));
    let listener = UnixListener::bind_addr(&name.unwrap()).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let mut fds = vec![stream.as_fd(), listener.as_fd(), file.as_fd(), stream.as_fd()];
    fds.rotate_left(usize::from(choice >> 1 & 3));
    fds.truncate(usize::from(choice >> 3 & 3));
    let (left, right) = pipe().unwrap();
    left.send(&Forged(bytes, fds)).unwrap();
    if choice & 1 == 1 {
        let _ = right.recv::<Listener>().map(|listener| listener.try_accept());
    } else if let Ok(connection) = right.recv::<Connection>() {
        let _ = connection.try_recv_fd();
        while connection.try_recv::<(u8, Option<Connection>)>().is_ok() {}
        while connection.try_recv_bytes().is_ok() {}
        let _ = connection.try_send_bytes(b"still there");
    }
}

const LONGEST_READ_AGAIN: usize = 1 << 16;

/// Any bytes as a pickle: what comes of it survives a journey by our own.
pub fn check_pickle(bytes: &[u8]) {
    match Object::from_pickle(bytes) {
        Ok(object) => {
            let pickle = object.to_pickle().unwrap();
            // One byte may be a value, which takes fifty: what has grown by references to the limit is a message
            // of a mebibyte here, and would meet the fuzzer's own limit.
            if pickle.len() > LONGEST_READ_AGAIN {
                return;
            }
            let again = Object::from_pickle(&pickle).unwrap();
            assert_eq!(again, object);
            assert_eq!(again.to_string(), object.to_string());
        }
        Err(Error::Decode { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Any text as an address: it is the one that its own text makes.
pub fn check_address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Address::parse(text) {
        Ok(address) => assert_eq!(Address::parse(&address.to_string()).unwrap(), address),
        Err(Error::InvalidArgument { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Any bytes as a list in named memory, whose items are read and changed; whether it is one.
pub fn check_list(bytes: &[u8]) -> bool {
    let block = SharedMemory::create(None, bytes.len().max(1)).unwrap();
    block.write_at(0, bytes).unwrap();
    let attached = ShareableList::attach(block.name());
    let answers = attached.as_ref().map(read_and_change);
    block.unlink().unwrap();
    match answers {
        Ok(()) => true,
        Err(Error::Corrupt { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn read_and_change(list: &ShareableList) {
    let known =
        |error: &Error| matches!(error, Error::Corrupt { .. } | Error::InvalidArgument { .. });
    let items: Vec<Result<Object>> = list.iter().collect();
    assert_eq!(items.len(), list.len());
    for (at, item) in items.iter().enumerate() {
        match item {
            Ok(item) => {
                let _ = (list.count(item), list.index(item));
                // What fits a place stays what it is.
                if list.set(at, item).is_ok() {
                    assert_eq!(list.get(at).unwrap().to_string(), item.to_string());
                }
            }
            Err(error) => assert!(known(error), "{error}"),
        }
        for other in [Object::None, 7.into(), 0.5.into(), "text".into(), vec![0u8, 1].into()] {
            if list.set(at, &other).is_ok() {
                assert_eq!(list.get(at).unwrap().to_string(), other.to_string());
            }
        }
    }
    let _ = (list.format(), list.get(items.len()).unwrap_err());
}
