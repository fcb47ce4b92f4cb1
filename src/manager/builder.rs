//! What a manager will be.

use super::client::Client;
use super::home::{Home, Make};
use super::place::{Door, Place};
use super::server::{Server, allow_many_descriptors};
use super::types::{Limits, Names};
use super::{Managed, Manager, Owner};
use crate::codec::Payload;
use crate::connection::Key;
use crate::process::panics::{self, Report};
use crate::process::target::{CallOnce, EntryPoint, Location, Target};
use crate::process::{Process, StartMethod, start_method};
use crate::{Address, Connection, Decode, Decoder, Encode, Error, Result, pipe, sys};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a server may take to say where it is.
const START_TIMEOUT: Duration = Duration::from_secs(60);

crate::message! {
    /// A function to be run in the server before it serves.
    pub(super) struct Task {
        entry: Location,
        bytes: Vec<u8>,
        fds: Vec<OwnedFd>,
    }

    /// What a server process is told.
    struct Plan {
        control: Connection,
        address: Address,
        key: Vec<u8>,
        limits: Limits,
        names: Vec<(String, Location)>,
        initializer: Option<Task>,
    }
}

/// A manager that is yet to be started.
///
/// # Examples
/// ```
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// let manager = multiproc::Manager::builder()
///     .initializer(|level: u8| println!("ready at level {level}"), (1,))
///     .start()?;
/// let list = manager.list([1, 2, 3])?;
/// assert_eq!(list.len()?, 3);
/// # Ok(())
/// # }
/// ```
#[must_use = "there is no manager until `start` is called"]
pub struct ManagerBuilder {
    address: Option<Result<Address>>,
    key: Option<Vec<u8>>,
    method: Option<StartMethod>,
    shutdown_timeout: Duration,
    limits: Limits,
    names: Vec<(String, Result<Location>)>,
    initializer: Option<Result<Task>>,
}

impl ManagerBuilder {
    pub(super) fn new() -> ManagerBuilder {
        ManagerBuilder {
            address: None,
            key: None,
            method: None,
            shutdown_timeout: Duration::from_secs(1),
            limits: Limits::default(),
            names: Vec::new(),
            initializer: None,
        }
    }

    /// Where the server listens. By default on a Unix socket without a file, for the processes of this
    /// program alone.
    pub fn address<A>(mut self, address: A) -> ManagerBuilder
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        self.address = Some(address.try_into().map_err(Error::from));
        self
    }

    /// The key that clients must hold. By default a random one, which proxies carry with them.
    pub fn authkey(mut self, key: impl Into<Vec<u8>>) -> ManagerBuilder {
        self.key = Some(key.into());
        self
    }

    /// How the server process comes to be. By default, what [`start_method`](crate::start_method) says.
    pub fn start_method(mut self, method: StartMethod) -> ManagerBuilder {
        self.method = Some(method);
        self
    }

    /// How long [`shutdown`](Manager::shutdown) waits for the server to end before it sends SIGTERM, and
    /// then again before it sends SIGKILL. By default a second.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> ManagerBuilder {
        self.shutdown_timeout = timeout;
        self
    }

    /// The longest request, in bytes. By default 256 MiB.
    pub fn max_message(mut self, bytes: usize) -> ManagerBuilder {
        self.limits.max_message = bytes.min(i32::MAX as usize);
        self
    }

    /// How many connections the server has at most; a process needs one for each of its threads that
    /// call at the same time. By default 65,536.
    pub fn max_connections(mut self, connections: usize) -> ManagerBuilder {
        self.limits.connections = connections;
        self
    }

    /// How many calls wait in the server at most. By default 65,536.
    pub fn max_parked_calls(mut self, calls: usize) -> ManagerBuilder {
        self.limits.parked_calls = calls;
        self
    }

    /// How long a client may take to prove that it holds the key. By default ten seconds.
    pub fn handshake_timeout(mut self, timeout: Duration) -> ManagerBuilder {
        self.limits.handshake_timeout = timeout;
        self
    }

    /// How long a client over a network may be silent, also when it is asked whether it is there, before it
    /// is given up: its machine may have lost its power, or its network. What it held comes back then, as that
    /// of a client that died. Counted in seconds, two at least; by default thirty. A client gives the server
    /// up after thirty.
    #[doc(alias = "SO_KEEPALIVE")]
    pub fn keepalive(mut self, patience: Duration) -> ManagerBuilder {
        self.limits.keepalive = patience;
        self
    }

    /// Whether CPython programs may be clients too, by `BaseManager.connect`. By default not.
    ///
    /// They make and use lists, dicts, sets, namespaces, queues, events, locks, semaphores, conditions,
    /// barriers, values and arrays under the names that a `SyncManager` has for them, and what was
    /// [registered](Self::register) under a name. Of those that they can use, the type parameters are
    /// [`Object`](crate::Object). Arguments and results are plain data; a `slice` is an argument too.
    ///
    /// # If a process dies
    /// Each thread of a Python program is a client of its own: when it ends it gives back the locks that
    /// it holds, and its waiting calls are withdrawn. The references of a Python program that was killed
    /// stay, for nothing in the protocol tells whose they were.
    ///
    /// # Differences from Python
    /// A client cannot shut the server down. Functions, proxies and other instances of classes cannot be
    /// arguments. `True`, `1` and `1.0` are three keys.
    ///
    /// # Examples
    /// ```no_run
    /// # use multiproc::{Manager, Object};
    /// use multiproc::manager::Queue;
    ///
    /// let manager = Manager::builder()
    ///     .address("tcp:127.0.0.1:4000")
    ///     .authkey("key")
    ///     .python(true)
    ///     .register("jobs", Queue::<Object>::unbounded)
    ///     .start()?;
    /// // In Python:
    /// //   class Jobs(BaseManager): pass
    /// //   Jobs.register('jobs')
    /// //   manager = Jobs(('127.0.0.1', 4000), b'key')
    /// //   manager.connect()
    /// //   manager.jobs().put('from Python')
    /// # Ok::<(), multiproc::Error>(())
    /// ```
    pub fn python(mut self, allowed: bool) -> ManagerBuilder {
        self.limits.python = allowed;
        self
    }

    /// Whether clients may prove that they hold the key by MD5, which is all that CPython before 3.12 can.
    /// By default not.
    pub fn legacy_md5(mut self, allowed: bool) -> ManagerBuilder {
        self.limits.legacy_md5 = allowed;
        self
    }

    /// Calls `f` with `arguments`, a tuple, in the server before it serves. If it panics, the start fails.
    pub fn initializer<F, A>(mut self, f: F, arguments: A) -> ManagerBuilder
    where
        F: Target<A, ()>,
        A: Encode + Decode + 'static,
    {
        let _ = f;
        let task = || {
            let entry = EntryPoint::of::<CallOnce<F, A, ()>>().locate()?;
            let Payload { bytes, fds } = Payload::of(&arguments)?;
            Ok(Task { entry, bytes, fds })
        };
        self.initializer = Some(task());
        self
    }

    /// Gives the object that `f` makes a name, by which [`Manager::get`] finds it, also from another
    /// program. It is made when it is asked for the first time, and stays until the server ends.
    pub fn register<F, R>(mut self, name: impl Into<String>, f: F) -> ManagerBuilder
    where
        F: Target<(), R>,
        R: Managed,
    {
        let _ = f;
        self.names.push((name.into(), EntryPoint::of::<Make<F, (), R>>().locate()));
        self
    }

    /// Starts the server process.
    ///
    /// # Blocking
    /// Returns when the server listens.
    ///
    /// # Errors
    /// * [`Error::NotInitialized`]: [`multiproc::init`](crate::init) has not run.
    /// * [`Error::Panicked`]: the initializer did.
    /// * [`Error::Os`]: the system refused a process, or the address (`bind`, EADDRINUSE).
    /// * [`Error::NotInExecutable`]: a function is in a shared library.
    pub fn start(self) -> Result<Manager> {
        let key = self.key_or_random()?;
        let (ours, theirs) = pipe()?;
        let plan = Plan {
            control: theirs,
            address: self.address.unwrap_or(Ok(Address::Abstract(Vec::new())))?,
            key: key.bytes().to_vec(),
            limits: self.limits,
            names: located(self.names)?,
            initializer: self.initializer.transpose()?,
        };
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let child = Process::new(serve_child, (plan,))
            .name(format!("Manager-{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
            .start_method(self.method.unwrap_or_else(start_method))
            .start_hidden()?;
        let begun = match ours.recv_timeout::<Result<Address>>(START_TIMEOUT) {
            Ok(Ok(address)) => Client::of(&Arc::new(Place { server: 0, address, key })),
            Ok(Err(error)) => Err(error),
            Err(Error::TimeoutError) => Err(Error::StartTimeout),
            // It ended before it could say anything: how, it tells who joins it.
            Err(error @ Error::Eof) => return child.join()?.and(Err(error)),
            Err(error) => Err(error),
        };
        match begun {
            Ok(client) => {
                let owner = Owner { child, control: ours, shutdown_timeout: self.shutdown_timeout };
                Ok(Manager { client, owner: Some(owner) })
            }
            Err(error) => {
                // Nobody would ever use it. If it cannot be killed, it goes because its owner has.
                drop(ours);
                if child.kill().is_ok() {
                    child.wait()?;
                }
                Err(error)
            }
        }
    }

    /// Makes a server to be run by the calling process itself.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    #[doc(alias = "get_server")]
    pub fn server(self) -> Result<ManagerServer> {
        let key = self.key_or_random()?;
        if let Some(task) = self.initializer.transpose()? {
            task.run()?;
        }
        let address = self.address.unwrap_or(Ok(Address::Abstract(Vec::new())))?;
        let names = Names::new(located(self.names)?);
        let (server, address) = open(address, key, self.limits, names, None)?;
        Ok(ManagerServer { server, address })
    }

    fn key_or_random(&self) -> Result<Key> {
        match &self.key {
            Some(key) => Ok(Key::new(&key[..])),
            None => {
                let mut key = vec![0; 32];
                sys::random::fill(&mut key).map_err(Error::os("getrandom"))?;
                Ok(Key::new(key))
            }
        }
    }
}

fn located(names: Vec<(String, Result<Location>)>) -> Result<Vec<(String, Location)>> {
    names.into_iter().map(|(name, location)| Ok((name, location?))).collect()
}

impl fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerBuilder")
            .field("address", &self.address)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Task {
    fn run(mut self) -> Result<()> {
        let mut decoder = Decoder::new(&self.bytes, &mut self.fds);
        let entry = self.entry.resolve()?;
        panics::catch(|| entry.run(&mut decoder, &mut Payload::default()))?
    }
}

/// A server that the calling process runs itself.
#[derive(Debug)]
pub struct ManagerServer {
    server: Server,
    address: Address,
}

impl ManagerServer {
    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Serves, until the process ends.
    ///
    /// # Errors
    /// * [`Error::Os`]: `epoll_wait` was refused.
    pub fn serve_forever(mut self) -> Result<()> {
        panics::remember(Report::OnStderr);
        self.server.run()
    }
}

fn open(
    address: Address,
    key: Key,
    limits: Limits,
    names: Names,
    owner: Option<OwnedFd>,
) -> Result<(Server, Address)> {
    allow_many_descriptors();
    let door = Door::open(address, limits.keepalive)?;
    let address = door.address().clone();
    let server = sys::random::u64().map_err(Error::os("getrandom"))? | 1;
    let place = Arc::new(Place { server, address: address.clone(), key });
    Server::new(Home::new(place), door, owner, limits, names).map(|server| (server, address))
}

/// The life of a server process.
fn serve_child(plan: Plan) -> Result<()> {
    let Plan { control, address, key, limits, names, initializer } = plan;
    let _ = sys::signal::ignore(sys::signal::SIGINT);
    // A panic reaches whose call it was, and nobody else.
    panics::remember(Report::Silently);
    if let Some(task) = initializer {
        task.run()?;
    }
    let owner = sys::fd::dup(std::os::fd::AsFd::as_fd(&control))
        .map_err(Error::os("fcntl(F_DUPFD_CLOEXEC)"))?;
    match open(address, Key::new(key), limits, Names::new(names), Some(owner)) {
        Ok((mut server, address)) => {
            control.send(&Ok::<Address, Error>(address))?;
            server.run()
        }
        Err(error) => control.send(&Err::<Address, Error>(error)),
    }
}
