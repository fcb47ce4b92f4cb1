//! Waiting for several things at once.

use super::Connection;
use crate::process::Child;
use crate::queue::{JoinableQueue, Queue, Receiver, Sender, SimpleQueue};
use crate::sys::poll::{self, PollFd};
use crate::sys::time::Deadline;
use crate::{Error, Result};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long to sleep where a wake-up may go to somebody else who waits for the same thing.
const SLICE: Duration = Duration::from_millis(20);

/// What [`wait`] can wait for.
///
/// That is this library's own things, the usual types of std, and through [`BorrowedFd`] whatever has a
/// descriptor: `&socket.as_fd()`. A type of the user's is made waitable by naming its descriptor.
///
/// # Examples
/// ```
/// use multiproc::{Waitable, Watch, wait};
/// use std::{io::Write, os::fd::AsFd, os::unix::net::UnixStream, time::Duration};
///
/// struct Link(UnixStream);
///
/// impl Waitable for Link {
///     fn watch(&self, watch: &mut Watch) -> multiproc::Result<()> {
///         watch.readable(self.0.as_fd());
///         Ok(())
///     }
/// }
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// theirs.write_all(b"x")?;
/// assert_eq!(wait(&[&Link(ours)], Some(Duration::from_secs(1)))?, [0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Waitable {
    /// Tells what to wait for, or that no wait is needed. It is called before every sleep.
    ///
    /// # Errors
    /// Whatever means that this will never be ready; it ends the wait.
    fn watch(&self, watch: &mut Watch) -> Result<()>;

    /// Whether it is ready indeed, after something it watches has happened.
    ///
    /// # Errors
    /// As for [`watch`](Self::watch).
    fn is_ready(&self) -> Result<bool> {
        Ok(true)
    }
}

/// What a [`Waitable`] fills in.
#[derive(Default)]
pub struct Watch {
    fds: Vec<PollFd>,
    ready: bool,
    look_again: bool,
}

impl Watch {
    /// Wakes when `fd` can be read, is at its end, or has an error.
    pub fn readable(&mut self, fd: BorrowedFd<'_>) {
        self.push(PollFd::new(fd.as_raw_fd(), poll::IN));
    }

    /// Wakes when `fd` can be written, or has an error.
    pub fn writable(&mut self, fd: BorrowedFd<'_>) {
        self.push(PollFd::new(fd.as_raw_fd(), poll::OUT));
    }

    /// Says that it is ready now, whatever its descriptors are.
    pub fn ready(&mut self) {
        self.ready = true;
    }

    /// Asks for another look after a short sleep at the latest: the descriptors do not tell everything.
    pub fn look_again(&mut self) {
        self.look_again = true;
    }

    pub(super) fn push(&mut self, fd: PollFd) {
        self.fds.push(fd);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("descriptors", &self.fds.len())
            .field("ready", &self.ready)
            .finish()
    }
}

/// Waits until at least one of `things` is ready, and gives the places of all that are, in order.
///
/// A [`Connection`] is ready when there is something to receive, or the end of the stream; a
/// [`Queue`] when it has an item, or is closed; a [`Child`] when it has ended; a
/// [`Listener`](crate::Listener) when a client could be accepted. Nothing is taken: who is ready stays so
/// until somebody receives. The same thing may be there twice, and is reported twice then. There may be
/// as many as the process has descriptors.
///
/// # Blocking
/// Waits up to `timeout`, without limit if it is `None`, and not at all if it is zero; signals do not end
/// the wait. After the timeout the answer is empty.
///
/// What several processes or threads wait for wakes them all, and one of them gets it: the others should
/// use `try_` calls. While somebody else receives from the same queue or connection, a waiter may learn of
/// a message up to 20 milliseconds late.
///
/// # If a process dies
/// Connections to it, its channel ends and its [`Child`] become ready.
///
/// # Errors
/// * [`Error::InvalidArgument`]: there is nothing to wait for, and no timeout; or a connection only sends.
/// * [`Error::Closed`]: nothing can be received from one of the connections any more.
/// * [`Error::Corrupt`]: the memory of a queue was scribbled over.
/// * [`Error::Os`] (`ppoll`).
///
/// # Differences from Python
/// It gives places, not objects, and the wait for an empty list without a timeout is refused, where
/// Python's never ends.
///
/// # Examples
/// ```
/// use multiproc::{Queue, pipe, wait};
/// use std::time::Duration;
///
/// let (left, right) = pipe()?;
/// let queue = Queue::<u32>::new()?;
/// assert!(wait(&[&right, &queue], Some(Duration::ZERO))?.is_empty());
/// queue.put(&1)?;
/// assert_eq!(wait(&[&right, &queue], None)?, [1]);
/// left.send_bytes(b"")?;
/// assert_eq!(wait(&[&right, &queue], None)?, [0, 1]);
/// # Ok::<(), multiproc::Error>(())
/// ```
pub fn wait(things: &[&dyn Waitable], timeout: Option<Duration>) -> Result<Vec<usize>> {
    let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
    if things.is_empty() && deadline == Deadline::NEVER {
        return Err(Error::invalid("a wait for nothing would never end"));
    }
    let mut round = Round::default();
    loop {
        let last = deadline.has_passed();
        let ready = round.look(things, deadline)?;
        if !ready.is_empty() || last {
            return Ok(ready);
        }
    }
}

/// The memory of one look at everything, kept for the next.
#[derive(Default)]
struct Round {
    watch: Watch,
    /// For each thing how far its descriptors go, and whether it said that it is ready.
    parts: Vec<(usize, bool)>,
}

impl Round {
    /// Sleeps, unless something is ready or the deadline has passed, and says what is ready.
    fn look(&mut self, things: &[&dyn Waitable], deadline: Deadline) -> Result<Vec<usize>> {
        let watch = &mut self.watch;
        watch.fds.clear();
        watch.look_again = false;
        self.parts.clear();
        let mut none_ready = true;
        for thing in things {
            watch.ready = false;
            thing.watch(watch)?;
            none_ready &= !watch.ready;
            self.parts.push((watch.fds.len(), watch.ready));
        }
        let until = match (none_ready, watch.look_again) {
            (false, _) => Deadline::now(),
            (true, true) => deadline.min(Deadline::after(SLICE)),
            (true, false) => deadline,
        };
        poll::poll(&mut watch.fds, until).map_err(Error::os("ppoll"))?;
        self.ready(things)
    }

    fn ready(&self, things: &[&dyn Waitable]) -> Result<Vec<usize>> {
        let mut ready = Vec::new();
        let mut start = 0;
        for (place, (end, said_so)) in self.parts.iter().enumerate() {
            let fds = &self.watch.fds[start..*end];
            start = *end;
            if *said_so || (fds.iter().any(PollFd::is_ready) && things[place].is_ready()?) {
                ready.push(place);
            }
        }
        Ok(ready)
    }
}

impl Waitable for Connection {
    fn watch(&self, watch: &mut Watch) -> Result<()> {
        let input = self.input()?;
        if input.stream.input_is_lost() {
            return Err(Error::Closed);
        }
        match input.reader.take(Deadline::now()) {
            Some(reader) if reader.has_input() => watch.ready(),
            Some(_) => {}
            // Another thread is receiving, and may leave something that it has read ahead.
            None => watch.look_again(),
        }
        watch.readable(self.as_fd());
        Ok(())
    }
}

impl<T> Waitable for Queue<T> {
    fn watch(&self, watch: &mut Watch) -> Result<()> {
        if self.ring().prepare_sleep()? {
            watch.readable(self.ring().bell()?);
        } else {
            watch.ready();
        }
        Ok(())
    }

    fn is_ready(&self) -> Result<bool> {
        Ok(!self.is_empty()? || self.ring().is_closed())
    }
}

impl<T> Waitable for JoinableQueue<T> {
    fn watch(&self, watch: &mut Watch) -> Result<()> {
        self.queue().watch(watch)
    }

    fn is_ready(&self) -> Result<bool> {
        self.queue().is_ready()
    }
}

/// Ready also when no sender is left.
impl<T> Waitable for Receiver<T> {
    fn watch(&self, watch: &mut Watch) -> Result<()> {
        self.queue().watch(watch)
    }

    fn is_ready(&self) -> Result<bool> {
        Ok(self.queue().is_ready()? || self.queue().ring().has_lost_its_senders()?)
    }
}

/// Ready when no receiver is left.
impl<T> Waitable for Sender<T> {
    fn watch(&self, watch: &mut Watch) -> Result<()> {
        watch.readable(self.hang_up());
        Ok(())
    }

    fn is_ready(&self) -> Result<bool> {
        self.is_disconnected()
    }
}

impl<T> Waitable for SimpleQueue<T> {
    fn watch(&self, watch: &mut Watch) -> Result<()> {
        watch.readable(self.as_fd());
        Ok(())
    }
}

impl<R> Waitable for Child<R> {
    fn watch(&self, watch: &mut Watch) -> Result<()> {
        watch.readable(self.as_fd());
        Ok(())
    }
}

/// Whatever `watch` calls readable is.
macro_rules! readable {
    ($($type:ty),+ $(,)?) => {$(
        impl Waitable for $type {
            fn watch(&self, watch: &mut Watch) -> Result<()> {
                watch.readable(self.as_fd());
                Ok(())
            }
        }
    )+};
}

readable! {
    OwnedFd, BorrowedFd<'_>, std::fs::File, std::io::Stdin,
    std::net::TcpStream, std::net::TcpListener, std::net::UdpSocket,
    std::os::unix::net::UnixStream, std::os::unix::net::UnixListener,
    std::os::unix::net::UnixDatagram, std::process::ChildStdout, std::process::ChildStderr,
}

impl<T: Waitable + ?Sized> Waitable for &T {
    fn watch(&self, watch: &mut Watch) -> Result<()> {
        (**self).watch(watch)
    }

    fn is_ready(&self) -> Result<bool> {
        (**self).is_ready()
    }
}
