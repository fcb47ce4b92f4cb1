//! Objects in the managers of CPython programs, used from here.

use crate::connection::ClientBuilder;
use crate::{Address, Connection, Error, Object, Result};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A manager that a CPython program serves: a `SyncManager`, or any `BaseManager`.
///
/// Values are [`Object`]s, which are pickled; what is no plain data cannot come back.
///
/// # Examples
/// ```no_run
/// use multiproc::{Client, Object, PythonManager};
///
/// // In Python: m = SyncManager(('127.0.0.1', 4000), b'key'); m.start()
/// let client = Client::builder().authkey(&b"key"[..]);
/// let manager = PythonManager::connect("tcp:127.0.0.1:4000", client)?;
/// let list = manager.create("list", [Object::list([1.into(), 2.into()])])?;
/// list.call("append", [3.into()])?;
/// assert_eq!(list.to_string(), "[1, 2, 3]");
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct PythonManager {
    server: Arc<Server>,
}

struct Server {
    address: Address,
    client: ClientBuilder,
}

impl Server {
    fn dial(&self) -> Result<Connection> {
        self.client.connect(&self.address)
    }

    /// A request about objects, on a connection of its own.
    fn ask(&self, function: &str, arguments: Vec<Object>) -> Result<Object> {
        let connection = self.dial()?;
        exchange(&connection, Object::None, function, arguments)
    }
}

/// Sends a request and waits for its reply.
fn exchange(
    connection: &Connection,
    id: Object,
    function: &str,
    arguments: Vec<Object>,
) -> Result<Object> {
    let request = [id, function.into(), Object::Tuple(arguments), Object::dict([])];
    connection.send_object(&Object::tuple(request))?;
    let reply = connection.recv_object().map_err(|error| match error {
        Error::Eof => Error::Disconnected,
        Error::Decode { reason } => raised(&reason),
        other => other,
    })?;
    let (word, value) = <(String, Object)>::try_from(reply)?;
    match &word[..] {
        "#RETURN" => Ok(value),
        // A server's own trouble, as text.
        _ => Err(Error::Remote { message: value.to_string() }),
    }
}

/// The error that was raised, of which the pickle's reader tells the class alone.
fn raised(reason: &str) -> Error {
    if reason.contains("queue.Empty") {
        Error::Empty
    } else if reason.contains("queue.Full") {
        Error::Full
    } else {
        Error::Remote { message: format!("the Python program answered {reason}") }
    }
}

impl PythonManager {
    /// Uses the manager at `address`. For CPython before 3.12 the client must allow
    /// [`legacy_md5`](ClientBuilder::legacy_md5).
    ///
    /// # Errors
    /// * As [`ClientBuilder::connect`].
    /// * [`Error::Remote`]: it is no manager.
    pub fn connect<A>(address: A, client: ClientBuilder) -> Result<PythonManager>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let server = Server { address: address.try_into()?, client };
        server.ask("dummy", Vec::new())?;
        Ok(PythonManager { server: Arc::new(server) })
    }

    /// Makes an object of a registered type, or finds one: `list`, `dict`, `Queue`, `Event`, `Lock`,
    /// `Namespace`, `Value` of a `SyncManager`, and whatever the program has registered.
    ///
    /// # Errors
    /// * [`Error::Remote`]: the type is not registered, or making the object failed.
    /// * [`Error::Disconnected`]: the program is gone.
    pub fn create(
        &self,
        type_name: &str,
        arguments: impl IntoIterator<Item = Object>,
    ) -> Result<PythonProxy> {
        let mut all = vec![Object::from(type_name)];
        all.extend(arguments);
        let made = self.server.ask("create", all)?;
        let (id, _exposed) = <(String, Object)>::try_from(made)?;
        Ok(PythonProxy { server: Arc::clone(&self.server), id, channel: Mutex::new(None) })
    }

    /// How many objects the manager has.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: the program is gone.
    pub fn number_of_objects(&self) -> Result<usize> {
        usize::try_from(self.server.ask("number_of_objects", Vec::new())?)
    }
}

impl fmt::Debug for PythonManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PythonManager").field("address", &self.server.address).finish()
    }
}

/// An object in a CPython program's manager.
///
/// Threads that share a proxy call one after the other; a call that waits keeps the others waiting. Each
/// can have its own by [`try_clone`](Self::try_clone).
pub struct PythonProxy {
    server: Arc<Server>,
    id: String,
    /// None until the first call, and after one that failed on the way.
    channel: Mutex<Option<Connection>>,
}

impl PythonProxy {
    /// Calls a method, by Python's name of it: `append`, `__getitem__`, `put`...
    ///
    /// # Blocking
    /// As long as the method.
    ///
    /// # Errors
    /// * [`Error::Empty`], [`Error::Full`]: Python's.
    /// * [`Error::Remote`]: the method raised another error, is not exposed, or its result is no plain
    ///   data; the error names the class.
    /// * [`Error::Disconnected`]: the program is gone.
    pub fn call(
        &self,
        method: &str,
        arguments: impl IntoIterator<Item = Object>,
    ) -> Result<Object> {
        let arguments = arguments.into_iter().collect();
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match channel.take() {
            Some(connection) => connection,
            None => {
                let connection = self.server.dial()?;
                let name = vec![format!("multiproc-{}", std::process::id()).into()];
                exchange(&connection, Object::None, "accept_connection", name)?;
                connection
            }
        };
        let reply = exchange(&connection, self.id[..].into(), method, arguments);
        if !matches!(reply, Err(Error::Disconnected | Error::Os { .. } | Error::TruncatedMessage)) {
            *channel = Some(connection);
        }
        reply
    }

    /// A copy of the object.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn value(&self) -> Result<Object> {
        self.call("#GETVALUE", [])
    }

    /// An attribute of a `Namespace`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn attribute(&self, name: &str) -> Result<Object> {
        self.call("__getattribute__", [name.into()])
    }

    /// Sets an attribute of a `Namespace`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn set_attribute(&self, name: &str, value: Object) -> Result<()> {
        self.call("__setattr__", [name.into(), value]).map(drop)
    }

    /// Another proxy of the same object, with a connection of its own.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: the program is gone.
    pub fn try_clone(&self) -> Result<PythonProxy> {
        self.server.ask("incref", vec![self.id[..].into()])?;
        let server = Arc::clone(&self.server);
        Ok(PythonProxy { server, id: self.id.clone(), channel: Mutex::new(None) })
    }
}

impl Drop for PythonProxy {
    /// Gives the reference back.
    fn drop(&mut self) {
        let _ = self.server.ask("decref", vec![self.id[..].into()]);
    }
}

impl fmt::Display for PythonProxy {
    /// What Python's `str` of the object gives.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.call("__str__", []) {
            Ok(Object::Str(text)) => f.write_str(&text),
            Ok(other) => write!(f, "{other}"),
            Err(error) => write!(f, "<{error}>"),
        }
    }
}

impl fmt::Debug for PythonProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PythonProxy").field("id", &self.id).finish_non_exhaustive()
    }
}
