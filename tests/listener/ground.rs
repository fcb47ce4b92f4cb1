//! What the tests stand on.
#![allow(unreachable_pub)]

use crate::support::{Watchdog, watchdog};
pub(crate) use crate::support::{in_child, os};
use multiproc::{Address, Client, Connection, Listener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub const PATIENCE: Duration = Duration::from_secs(60);
pub const SHORT: Duration = Duration::from_millis(20);
pub const KEY: &[u8] = b"a key among friends";

/// Tests that fork, and those that a copy of their descriptors would disturb, take turns.
static TURN: Mutex<()> = Mutex::new(());

pub fn turn() -> (MutexGuard<'static, ()>, Watchdog) {
    (TURN.lock().unwrap_or_else(PoisonError::into_inner), watchdog(PATIENCE))
}

/// A folder of the test's own, removed with all that is in it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("multiproc-listener-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    pub fn names(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

pub fn with_key(address: impl Into<Address>) -> Listener {
    Listener::builder().authkey(KEY).bind(address.into()).unwrap()
}

pub fn any_name() -> Address {
    Address::parse("abstract:").unwrap()
}

/// A client's socket that knows nothing of messages.
pub fn raw(listener: &Listener) -> UnixStream {
    let Address::Abstract(name) = listener.address() else { panic!("an abstract name is wanted") };
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    UnixStream::connect_addr(&address).unwrap()
}

/// Connects with the key in a thread of its own, and hands what the accepting side gets to `then`.
pub fn meet(listener: &Listener, key: &[u8], then: impl FnOnce(multiproc::Result<Connection>)) {
    thread::scope(|scope| {
        let address = listener.address();
        let client = scope.spawn(move || Client::builder().authkey(key).connect(address));
        then(listener.accept());
        drop(client.join().unwrap());
    });
}
