//! The one error type of the crate.

use crate::process::ExitStatus;
use crate::sync::BarrierBreak;
use std::borrow::Cow;
use std::fmt;
use std::io;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed; each variant is something else that the caller can do next.
///
/// It borrows nothing, so `?` carries it across rooms and into `Box<dyn std::error::Error>`, and it
/// can be a message itself: a task or a target may return `multiproc::Result`. What only few look at is in
/// boxes: every result has room for an error.
///
/// # Examples
/// ```
/// use multiproc::{Error, Queue};
///
/// let queue = Queue::<u32>::new()?;
/// assert!(matches!(queue.try_get(), Err(Error::Empty)));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system refused a call.
    Os {
        /// The call by name, such as `memfd_create`.
        call: Cow<'static, str>,
        /// What it answered.
        source: io::Error,
    },
    /// The time allowed ran out before the operation could begin to have an effect.
    TimeoutError,
    /// The queue has no room (now, or within the time allowed).
    Full,
    /// The queue has nothing to give (now, or within the time allowed).
    Empty,
    /// The queue, connection or pool was closed on purpose.
    Closed,
    /// The last process at the other end is gone.
    Disconnected,
    /// The stream ended between two messages: the other side closed it or is gone.
    Eof,
    /// The stream ended inside a message: the other side died while it sent.
    TruncatedMessage,
    /// The message is longer than the buffer given for it; here it is, whole.
    BufferTooShort {
        /// The message, which has been taken from the stream.
        message: Vec<u8>,
    },
    /// A message is longer than the receiver allows.
    MessageTooLong {
        /// Its length in bytes, as announced.
        len: u64,
        /// What is allowed.
        max: u64,
    },
    /// A value cannot be put into bytes.
    Encode {
        /// What stands in the way.
        reason: Cow<'static, str>,
    },
    /// Bytes do not make the value that they should.
    Decode {
        /// What is wrong with them.
        reason: Cow<'static, str>,
    },
    /// Memory shared with other processes holds what this library never writes there.
    Corrupt {
        /// What was looked at.
        what: Cow<'static, str>,
    },
    /// An argument has no meaning here.
    InvalidArgument {
        /// What is wrong with it.
        reason: Cow<'static, str>,
    },
    /// This thread holds the lock already, so waiting for it would never end.
    Deadlock,
    /// [`multiproc::init()`](crate::init) has not run in this process.
    NotInitialized,
    /// A function was named by another executable, or by another build of this one.
    DifferentExecutable,
    /// The function is in a shared library, not in the program itself, where children look for it.
    NotInExecutable {
        /// The function's name.
        function: Cow<'static, str>,
    },
    /// The process has other threads, whose locks a forked child would inherit for ever locked.
    ThreadsRunning,
    /// The handle belongs to another process: this one was forked with a copy of it.
    ForeignProcess,
    /// The child ended before it took up its work.
    NotStarted {
        /// How it ended.
        status: ExitStatus,
    },
    /// The child has not taken up its work within the time a start may take, and was killed.
    StartTimeout,
    /// The process ended with this exit code instead of a result.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// The process was killed by this signal.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The function panicked in the other process.
    Panicked {
        /// What it said.
        message: String,
        /// Where, as `file:line:column`; empty where not known.
        location: Box<str>,
        /// By which calls it came there; empty unless the other process has `RUST_BACKTRACE` in its
        /// environment.
        backtrace: Box<str>,
    },
    /// The function returned an error, or something failed in the other process.
    Remote {
        /// What was reported.
        message: String,
    },
    /// The worker that ran the task died.
    WorkerDied {
        /// The worker's process.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
    },
    /// The task ran longer than a task may, and its worker was replaced.
    TaskTimeout,
    /// The task was cancelled.
    Cancelled,
    /// The pool takes no more tasks, or was terminated before this one could end.
    PoolClosed,
    /// The result was taken already.
    Taken,
    /// A count is as high as it may be.
    Overflow {
        /// Of what.
        what: Cow<'static, str>,
    },
    /// The barrier broke while this party waited, or was broken before.
    BrokenBarrierError {
        /// What broke it.
        cause: BarrierBreak,
    },
    /// The peer does not hold the same key, or does not speak the handshake at all.
    AuthenticationError {
        /// What it did.
        reason: Cow<'static, str>,
    },
    /// The manager has no such object (any more): its last reference was given back.
    NoSuchObject,
    /// The manager's object has no method that is exported under this name.
    NotExported {
        /// The object's type.
        object: Cow<'static, str>,
    },
    /// The proxy is of another interface than the manager's object.
    InterfaceMismatch {
        /// What the proxy was made for.
        expected: Box<str>,
        /// What the object has.
        found: Box<str>,
    },
    /// Processes that have ended since took items and never said that these are done.
    ItemsLost {
        /// How many items.
        items: u64,
    },
    /// The task was tried as often as the pool tries a task, and every time its worker died.
    Poison {
        /// How many workers it has cost.
        deaths: u32,
        /// The last one's process.
        pid: u32,
        /// How the last one ended.
        status: ExitStatus,
    },
}

/// What every result has room for, and every `?` moves.
const _: () = assert!(size_of::<Error>() <= 56);

impl Error {
    /// The last part of `map_err` for a system call.
    pub(crate) fn os(call: &'static str) -> impl Fn(io::Error) -> Error {
        move |source| Error::Os { call: Cow::Borrowed(call), source }
    }

    pub(crate) fn decode(reason: impl Into<Cow<'static, str>>) -> Error {
        Error::Decode { reason: reason.into() }
    }

    pub(crate) fn encode(reason: impl Into<Cow<'static, str>>) -> Error {
        Error::Encode { reason: reason.into() }
    }

    pub(crate) fn corrupt(what: impl Into<Cow<'static, str>>) -> Error {
        Error::Corrupt { what: what.into() }
    }

    pub(crate) fn overflow(what: impl Into<Cow<'static, str>>) -> Error {
        Error::Overflow { what: what.into() }
    }

    pub(crate) fn invalid(reason: impl Into<Cow<'static, str>>) -> Error {
        Error::InvalidArgument { reason: reason.into() }
    }

    pub(crate) fn authentication(reason: impl Into<Cow<'static, str>>) -> Error {
        Error::AuthenticationError { reason: reason.into() }
    }

    /// The same error once more, where it consists of few words; [`Error::Remote`] with its text for others.
    pub(crate) fn again(&self) -> Error {
        match self {
            Error::NotInExecutable { function } => {
                Error::NotInExecutable { function: function.clone() }
            }
            Error::PoolClosed => Error::PoolClosed,
            &Error::WorkerDied { pid, status } => Error::WorkerDied { pid, status },
            &Error::Poison { deaths, pid, status } => Error::Poison { deaths, pid, status },
            other => Error::Remote { message: other.to_string() },
        }
    }

    /// The system's error number, if it was the system that refused.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Error::Os { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Os { call, source } => write!(f, "{call}: {source}"),
            Error::TimeoutError => f.write_str("timed out"),
            Error::Full => f.write_str("queue is full"),
            Error::Empty => f.write_str("queue is empty"),
            Error::Closed => f.write_str("closed"),
            Error::Disconnected => f.write_str("the last process at the other end is gone"),
            Error::Eof => f.write_str("end of stream"),
            Error::TruncatedMessage => f.write_str("end of stream inside a message"),
            Error::BufferTooShort { message } => {
                write!(f, "buffer too short for a message of {} bytes", message.len())
            }
            Error::MessageTooLong { len, max } => {
                write!(f, "message of {len} bytes where {max} are allowed")
            }
            Error::Encode { reason } => write!(f, "cannot encode: {reason}"),
            Error::Decode { reason } => write!(f, "cannot decode: {reason}"),
            Error::Corrupt { what } => write!(f, "corrupt shared memory: {what}"),
            Error::InvalidArgument { reason } => write!(f, "invalid argument: {reason}"),
            Error::Deadlock => f.write_str("this thread holds the lock already"),
            Error::NotInitialized => f.write_str(
                "multiproc is not initialised: make `multiproc::init();` the first line of main",
            ),
            Error::DifferentExecutable => {
                f.write_str("the function belongs to another executable or another build")
            }
            Error::NotInExecutable { function } => {
                write!(f, "{function} is in a shared library, not in the program itself")
            }
            Error::ThreadsRunning => f.write_str("cannot fork while the process has other threads"),
            Error::ForeignProcess => f.write_str("the handle belongs to another process"),
            Error::NotStarted { status } => {
                write!(f, "child {status} before multiproc::init ran in it")
            }
            Error::StartTimeout => f.write_str("child did not take up its work in time"),
            Error::Exited { code } => write!(f, "process exited with code {code}"),
            Error::Killed { signal } => write!(f, "process was killed by signal {signal}"),
            Error::Panicked { message, location, .. } if location.is_empty() => {
                write!(f, "panicked: {message}")
            }
            Error::Panicked { message, location, .. } => {
                write!(f, "panicked at {location}: {message}")
            }
            Error::Remote { message } => f.write_str(message),
            Error::WorkerDied { pid, status } => write!(f, "worker {pid} {status} during the task"),
            Error::TaskTimeout => f.write_str("task ran out of time"),
            Error::Cancelled => f.write_str("task was cancelled"),
            Error::PoolClosed => f.write_str("pool is closed"),
            Error::Taken => f.write_str("result was taken already"),
            Error::Overflow { what } => write!(f, "too many {what}"),
            Error::BrokenBarrierError { cause } => write!(f, "barrier is broken: {cause}"),
            Error::AuthenticationError { reason } => write!(f, "authentication failed: {reason}"),
            Error::NoSuchObject => f.write_str("the manager has no such object"),
            Error::NotExported { object } => write!(f, "{object} exports no such method"),
            Error::InterfaceMismatch { expected, found } => {
                write!(f, "the proxy is for {expected}, the object is {found}")
            }
            Error::ItemsLost { items } => {
                write!(f, "{items} items were taken by processes that ended before these were done")
            }
            Error::Poison { deaths, pid, status } => {
                write!(f, "task has cost {deaths} workers, the last of which, {pid}, {status}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    /// The system's own error where there is one; else the kind that fits, with this error inside.
    fn from(error: Error) -> io::Error {
        let kind = match error {
            Error::Os { source, .. } => return source,
            Error::TimeoutError | Error::StartTimeout | Error::TaskTimeout => {
                io::ErrorKind::TimedOut
            }
            Error::Full | Error::Empty => io::ErrorKind::WouldBlock,
            Error::Eof | Error::TruncatedMessage => io::ErrorKind::UnexpectedEof,
            Error::Disconnected | Error::Closed => io::ErrorKind::BrokenPipe,
            Error::AuthenticationError { .. } => io::ErrorKind::PermissionDenied,
            Error::Encode { .. } | Error::InvalidArgument { .. } => io::ErrorKind::InvalidInput,
            Error::Decode { .. } | Error::Corrupt { .. } | Error::MessageTooLong { .. } => {
                io::ErrorKind::InvalidData
            }
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
