//! Managers: objects in a server process, which any number of processes use through proxies, here and
//! over a network.
//!
//! # The wire
//!
//! Version 1. Numbers are little-endian where nothing else is said. A *frame* is four bytes of length
//! (big-endian, signed, never negative; the length itself not counted) and as many bytes.
//!
//! A client connects, both sides prove that they hold the key by the handshake of CPython's
//! `multiprocessing.connection`, and the client greets:
//!
//! | bytes | greeting |
//! |---|---|
//! | 8 | `mp-mngr\n` |
//! | 4 | the version |
//! | 16 | the session's secret, chosen by the client at random |
//!
//! A session is a client process. Connections with the same secret are of one session: what it refers
//! to and holds is given back when the last of them is closed. The reply's value is three numbers of
//! eight bytes: the server's number, the session's, and the longest request.
//!
//! | bytes | request | | bytes | reply |
//! |---|---|---|---|---|
//! | 1 | kind, see below | | 1 | 0: a value follows; 1: an error does |
//! | 1 | flags, see below | | 1 | 0 |
//! | 2 | number of descriptors | | 2 | number of descriptors |
//! | 4 | 0 | | 4 | 0 |
//! | 8 | object | | | the value, or an [`Error`], encoded |
//! | 8 | method | | | |
//! | | arguments, encoded | | | |
//!
//! Requests of one connection are served in order, each after the reply to the one before, and replies
//! come in that order; a client need not wait for one before it sends the next request. Flag 1: no reply
//! is wanted. Flag 2: all replies to earlier requests of this connection were read. Descriptors
//! travel (by `SCM_RIGHTS`, on Unix sockets) with the first byte of their frame.
//!
//! | kind | what it does | arguments | value |
//! |---|---|---|---|
//! | 1 | calls a method, whose number is the FNV-1a hash of its name | a tuple | the method's |
//! | 2 | makes an object by a function of the program | the function, its arguments | object |
//! | 3 | finds the object of a name | name, interface | object |
//! | 4 | takes a reference that travelled in a message | the session that lent it | |
//! | 5 | gives a reference back | | |
//! | 6 | makes a reference that will travel in a message | | |
//! | 7 | counts the objects | | number |
//! | 8 | describes the objects | | text |
//! | 9 | asks for the first error of requests that wanted no reply | | |
//! | 10 | runs a function of the program on an object | the function, its arguments | the function's |

//!
//! A server that lets Python programs in also takes what CPython's managers take, in their pickles: a
//! connection whose first frame begins with a pickle's first byte (0x80) is such a program's.
//!
//! # When a getter is gone
//!
//! An item of a queue stays with the server until it is known that the getter has read the reply: by flag
//! 2 of a later request, or by the end of its connection. A socket that is closed with something unread
//! tells its peer so (`ECONNRESET`), and what was sent to a closed one is refused; the item then goes back
//! to the front. So a killed getter loses an item only if its own kernel had handed it over before: as
//! for a [`Queue`](crate::Queue), from that moment it was the getter's. A client that reads replies by
//! itself, at once with others' (a pipeline), and is gone with some unread, gives all of them back.

mod builder;
mod client;
mod dispatch;
mod frames;
mod home;
mod managed;
mod objects;
mod outside;
mod pipeline;
mod place;
mod protocol;
mod proxy;
mod python;
mod served;
mod server;
mod session;
mod types;

pub use builder::{ManagerBuilder, ManagerServer};
pub use objects::*;
pub use pipeline::{Batch, Later, Mode, Now, Pending, Posted};
pub use protocol::method_number;
pub use proxy::{Handle, Proxy, object_id};
pub use python::{PythonManager, PythonProxy};
pub use served::{Call, Managed, Served, Ticket, Waiting, Waits};

use crate::connection::Key;
use crate::process::Child;
use crate::process::target::{EntryPoint, Target};
use crate::{Address, Connection, Decode, Encode, Error, ExitStatus, Result, sys};
use client::Client;
use home::{Home, Make, TryMake};
use place::Place;
use protocol::{Kind, Request};
use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// A server process that holds objects, and the right to make more of them.
///
/// Its methods make objects and give proxies, which can be cloned, sent to other processes, and put
/// into other managed objects. An object lives as long as any proxy of it.
///
/// Dropping the manager ends the server, if this process has started it.
///
/// # If a process dies
/// A client that dies gives back its references, its locks and its permits, and the calls of it that
/// wait are withdrawn. When the server dies, calls fail with [`Error::Disconnected`] at once. When the
/// process that started the server dies, the server dies too.
///
/// # Examples
/// ```
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// use multiproc::manager::{DictProxy, ListProxy};
/// use multiproc::{Manager, Object, Process};
///
/// fn work(dict: DictProxy<Object, Object>, list: ListProxy<i32>) -> multiproc::Result<()> {
///     dict.insert(0.25.into(), Object::None)?;
///     dict.insert(1.into(), "1".into())?;
///     dict.insert("2".into(), 2.into())?;
///     list.reverse()
/// }
///
/// let manager = Manager::start()?;
/// let (dict, list) = (manager.dict()?, manager.list(0..10)?);
/// Process::new(work, (dict.clone(), list.clone())).start()?.join()??;
/// assert_eq!(dict.to_string(), "{0.25: None, 1: '1', '2': 2}");
/// assert_eq!(list.to_string(), "[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "SyncManager", alias = "BaseManager")]
pub struct Manager {
    client: Arc<Client>,
    owner: Option<Owner>,
}

/// What the process that started a server has beside its clients.
struct Owner {
    child: Child<Result<()>>,
    control: Connection,
    shutdown_timeout: Duration,
}

impl Manager {
    /// Starts a server process with the default settings.
    ///
    /// # Blocking
    /// Returns when the server listens.
    ///
    /// # Errors
    /// As [`ManagerBuilder::start`].
    pub fn start() -> Result<Manager> {
        Manager::builder().start()
    }

    /// A manager that is yet to be started, to be given an address, a key, limits and names.
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::new()
    }

    /// Uses a server that another process has started.
    ///
    /// # Errors
    /// * [`Error::Os`] (`connect`): nobody listens there.
    /// * [`Error::AuthenticationError`]: the server's key is another one.
    /// * [`Error::Disconnected`]: the server has no place for another client.
    /// * [`Error::InvalidArgument`]: the address is none.
    pub fn connect<A>(address: A, authkey: &[u8]) -> Result<Manager>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let place = Place { server: 0, address: address.try_into()?, key: Key::new(authkey) };
        Ok(Manager { client: Client::of(&Arc::new(place))?, owner: None })
    }

    /// The server that runs the method which calls this: there, objects can be made and proxies given
    /// out. None elsewhere.
    pub fn current() -> Option<HostManager> {
        Home::current().map(HostManager)
    }

    /// Where the server listens.
    pub fn address(&self) -> &Address {
        &self.client.place.address
    }

    /// This process's session: another one if this process was forked from the one that connected.
    fn client(&self) -> Result<Arc<Client>> {
        if self.client.is_ours() {
            return Ok(Arc::clone(&self.client));
        }
        Client::of(&self.client.place)
    }

    /// Makes an object by calling `f` with `arguments`, a tuple, in the server, and gives its proxy.
    ///
    /// # Errors
    /// * [`Error::Panicked`]: the function did.
    /// * [`Error::DifferentExecutable`]: the server is another program, or another build.
    /// * [`Error::Encode`], [`Error::Decode`]: the arguments cannot make the journey.
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn create<F, A, R>(&self, f: F, arguments: A) -> Result<R::Proxy>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Managed,
    {
        let _ = f;
        let entry = EntryPoint::of::<Make<F, A, R>>().locate()?;
        let client = self.client()?;
        let id = client.exchange(Request::new(Kind::Create, 0), &(entry, arguments))?;
        Ok(R::Proxy::from_handle(Handle::of_client(client, id)))
    }

    /// As [`create`](Self::create), of a function that may fail: its error is the call's.
    ///
    /// # Errors
    /// * The function's, by `Into<Error>`.
    /// * As [`create`](Self::create).
    pub fn try_create<F, A, R, E>(&self, f: F, arguments: A) -> Result<R::Proxy>
    where
        F: Target<A, std::result::Result<R, E>>,
        A: Encode + Decode + 'static,
        R: Managed,
        E: Into<Error> + 'static,
    {
        let _ = f;
        let entry = EntryPoint::of::<TryMake<F, A, R, E>>().locate()?;
        let client = self.client()?;
        let id = client.exchange(Request::new(Kind::Create, 0), &(entry, arguments))?;
        Ok(R::Proxy::from_handle(Handle::of_client(client, id)))
    }

    /// Gives a proxy of the object that was registered under a name.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: nothing was.
    /// * [`Error::InterfaceMismatch`]: the object is of another kind, or exports other methods, than the
    ///   proxy is declared with.
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn get<P: Proxy>(&self, name: &str) -> Result<P> {
        let client = self.client()?;
        let wanted = (name, P::interface());
        let id = client.exchange(Request::new(Kind::Get, 0), &wanted)?;
        Ok(P::from_handle(Handle::of_client(client, id)))
    }

    /// Waits until all calls that this process has posted were served.
    ///
    /// # Errors
    /// * The first error of a posted call since the last time.
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn sync(&self) -> Result<()> {
        self.client()?.exchange(Request::new(Kind::Sync, 0), &())
    }

    /// How many objects the server has.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn number_of_objects(&self) -> Result<usize> {
        let count: u64 = self.client()?.exchange(Request::new(Kind::Count, 0), &())?;
        usize::try_from(count).map_err(|_| Error::decode("a count"))
    }

    /// A text about the server's objects, for people.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: the server is gone.
    pub fn debug_info(&self) -> Result<String> {
        self.client()?.exchange(Request::new(Kind::Debug, 0), &())
    }

    /// Ends the server: it is asked to, after a while told by SIGTERM, and after another killed. Once it
    /// has ended this does nothing.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: this process has not started the server.
    /// * [`Error::ForeignProcess`]: this process is a fork of the one that has.
    /// * [`Error::Os`]: a system call was refused.
    pub fn shutdown(&self) -> Result<()> {
        let Owner { child, control, shutdown_timeout } = self.owner()?;
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        let _ = sys::fd::write(control.as_fd(), &[0]);
        if child.wait_timeout(*shutdown_timeout)?.is_none() {
            child.terminate()?;
            if child.wait_timeout(*shutdown_timeout)?.is_none() {
                child.kill()?;
                child.wait()?;
            }
        }
        Ok(())
    }

    /// Blocks until the server process has ended, and says how.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown).
    pub fn join(&self) -> Result<ExitStatus> {
        self.owner()?.child.wait()
    }

    /// Blocks until the server process has ended or the time is over, which gives `None`.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown).
    pub fn join_timeout(&self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.owner()?.child.wait_timeout(timeout)
    }

    /// The server's pid.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: this process has not started the server.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.owner()?.child.pid())
    }

    fn owner(&self) -> Result<&Owner> {
        self.owner.as_ref().ok_or_else(|| Error::invalid("the server was started elsewhere"))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // In a fork of the process that started it, the server is not its to end.
        let Some(owner) = self.owner.as_ref().filter(|_| self.client.is_ours()) else { return };
        if self.shutdown().is_err() && owner.child.kill().is_ok() {
            let _ = owner.child.wait();
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("address", self.address())
            .field("pid", &self.owner.as_ref().map(|owner| owner.child.pid()))
            .finish()
    }
}

/// A server as its own objects' methods see it.
pub struct HostManager(std::rc::Rc<Home>);

impl HostManager {
    /// Puts an object into the server and gives its proxy.
    ///
    /// # Errors
    /// * [`Error::Os`] (`getrandom`): there is no id to be had.
    pub fn add<R: Managed>(&self, object: R) -> Result<R::Proxy> {
        let id = self.0.add(Box::new(object))?;
        Ok(R::Proxy::from_handle(Handle::of_server(&self.0, id)))
    }
}

impl fmt::Debug for HostManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostManager").finish_non_exhaustive()
    }
}
