//! Who this process is, whose child it is, and which children it has.

use super::authkey::{self, AuthKey};
use super::bootstrap;
use super::child::{Child, Progress};
use super::control::{Control, Kind};
use crate::codec::Payload;
use crate::sys::poll::{self, IN, PollFd};
use crate::sys::time::Deadline;
use crate::{Error, Result, sys};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// What a process is told of itself when it starts.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    /// The ordinal of each ancestor among its parent's children, the root's left out; then our own.
    pub(crate) numbers: Vec<u32>,
    pub(crate) daemon: bool,
    /// The parent's pid and name; none in the root.
    pub(crate) parent: Option<(u32, String)>,
}

impl Identity {
    fn root() -> Identity {
        Identity { name: "MainProcess".into(), numbers: Vec::new(), daemon: false, parent: None }
    }
}

struct Me {
    /// The process that this is about: a process forked by other means than ours is nobody's child
    /// here and has no children.
    pid: u32,
    identity: Arc<Identity>,
    /// None in the root.
    link: Option<Arc<Link>>,
}

/// A child's end of its control socket, which hangs up when the parent is gone.
///
/// A process forked from this one has copies of everything that holds a link: the socket in it is
/// closed there, or the parent would take that process for its child.
#[derive(Debug)]
pub(crate) struct Link(Mutex<Option<Control>>);

impl Link {
    pub(crate) fn new(control: Control) -> Link {
        Link(Mutex::new(Some(control)))
    }

    #[inline]
    fn control(&self) -> MutexGuard<'_, Option<Control>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the parent.
    ///
    /// # Errors
    /// * [`Error::Disconnected`]: it is gone.
    /// * [`Error::Os`]: the system refused the journey.
    #[inline]
    pub(crate) fn send(&self, kind: Kind, payload: &Payload) -> Result<()> {
        match &*self.control() {
            Some(control) => control.send(kind, payload, true),
            None => Err(Error::Disconnected),
        }
    }

    /// Runs `f` on the socket, if it is open.
    #[inline]
    pub(crate) fn with_socket<T>(&self, f: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        self.control().as_ref().map(|control| f(control.as_fd()))
    }

    fn close(&self) {
        *self.control() = None;
    }

    /// Waits until the parent is gone, without holding the lock.
    fn wait_hang_up(&self, deadline: Deadline) -> Result<bool> {
        let control = self.control().as_ref().map(|control| control.as_fd().as_raw_fd());
        // Only a forked child closes it, and that child has nobody else who waits.
        let fd = control.ok_or(Error::ForeignProcess)?;
        let mut fds = [PollFd::new(fd, 0)];
        poll::poll(&mut fds, deadline).map_err(Error::os("ppoll"))?;
        Ok(fds[0].is_hung_up())
    }
}

static ME: RwLock<Option<Me>> = RwLock::new(None);

/// The children that are not known to be dead and reaped.
static CHILDREN: Mutex<Vec<Arc<Progress>>> = Mutex::new(Vec::new());

/// How many children this process has named so far.
static ORDINAL: AtomicU32 = AtomicU32::new(0);

/// Who this process is.
pub(crate) fn identity() -> Arc<Identity> {
    let me = ME.read().unwrap_or_else(PoisonError::into_inner);
    match &*me {
        Some(me) => me.identity.clone(),
        None => {
            drop(me);
            let mut me = ME.write().unwrap_or_else(PoisonError::into_inner);
            me.get_or_insert_with(|| Me {
                pid: sys::process::id(),
                identity: Arc::new(Identity::root()),
                link: None,
            })
            .identity
            .clone()
        }
    }
}

/// In a child that has just begun: takes up its identity, and forgets its parent's children, whose
/// descriptors a forked child has copies of.
#[inline]
pub(crate) fn become_child(identity: Arc<Identity>, link: Arc<Link>) {
    let pid = sys::process::id();
    let me = Me { pid, identity, link: Some(link) };
    let before = ME.write().unwrap_or_else(PoisonError::into_inner).replace(me);
    if let Some(before) = before {
        before.link.iter().for_each(|inherited| inherited.close());
        // What the parent was stays where it is: to free it would cost pages that it shares with us.
        std::mem::forget(before);
    }
    ORDINAL.store(0, Ordering::Relaxed);
    let mut children = children();
    if !children.is_empty() {
        abandon(std::mem::take(&mut *children));
    }
}

fn abandon(inherited: Vec<Arc<Progress>>) {
    let mut fds: Vec<_> = inherited.iter().flat_map(|child| child.abandon()).collect();
    fds.extend(inherited.into_iter().filter_map(Arc::into_inner).map(Progress::into_pidfd));
    sys::fd::close_all(fds);
}

/// Runs `f`, a fork, while this thread holds this file's locks and those of the children's states: a
/// forked child takes all of them in [`become_child`].
pub(crate) fn with_locks_held<T>(f: impl FnOnce() -> T) -> T {
    let me = ME.write().unwrap_or_else(PoisonError::into_inner);
    let _link = me.as_ref().and_then(|me| me.link.as_ref()).map(|link| link.control());
    let children = children();
    let _states: Vec<_> = children.iter().map(|child| child.hold()).collect();
    f()
}

/// In a child that a panic is about to abort: tells its parent.
pub(crate) fn tell_panic(error: &Error) {
    let me = ME.read().unwrap_or_else(PoisonError::into_inner);
    let link = me.as_ref().filter(|me| me.pid == sys::process::id()).and_then(|me| me.link.clone());
    if let (Some(link), Ok(payload)) = (link, bootstrap::failure(error)) {
        let _ = link.send(Kind::Finished, &payload);
    }
}

/// The numbers of a process that is nobody's child by number: this process's own.
pub(crate) fn own_numbers() -> Vec<u32> {
    identity().numbers.clone()
}

/// The numbers of the next child.
pub(crate) fn next_numbers() -> Vec<u32> {
    let mut numbers = identity().numbers.clone();
    numbers.push(ORDINAL.fetch_add(1, Ordering::Relaxed) + 1);
    numbers
}

#[inline]
fn children() -> MutexGuard<'static, Vec<Arc<Progress>>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[inline]
pub(crate) fn adopt(child: Arc<Progress>) {
    children().push(child);
}

pub(crate) fn forget(child: &Progress) {
    children().retain(|known| !std::ptr::eq(Arc::as_ptr(known), child));
}

/// The children not known to be dead, after those that have ended were reaped.
#[inline]
pub(crate) fn living() -> Vec<Arc<Progress>> {
    let known = children().clone();
    known.into_iter().filter(|child| matches!(child.wait(Deadline::now()), Ok(None))).collect()
}

/// Reaps the children that have ended, so that a program which joins nobody gathers no zombies.
pub(crate) fn reap_ended() {
    let known = children().clone();
    if known.is_empty() {
        return;
    }
    let mut fds: Vec<_> = known.iter().map(|child| PollFd::new(child.raw_fd(), IN)).collect();
    // One system call, whatever their number; a refusal leaves them for the next time.
    if matches!(poll::poll(&mut fds, Deadline::now()), Ok(1..)) {
        let ended = known.iter().zip(&fds).filter(|(_, fd)| fd.is_ready());
        ended.for_each(|(child, _)| drop(child.wait(Deadline::now())));
    }
}

/// A child that is alive, whatever its function returns.
///
/// # Examples
/// ```
/// for child in multiproc::active_children() {
///     println!("{} {}", child.pid(), child.name());
/// }
/// ```
pub type ActiveChild = Child<Never>;

/// The result that nobody but the child's own handle can take.
#[derive(Debug)]
pub enum Never {}

/// The children of this process that are alive. Those that have ended are reaped by this.
pub fn active_children() -> Vec<ActiveChild> {
    living().into_iter().filter(|child| !child.hidden).map(Child::new).collect()
}

/// The calling process, as this library knows it: what [`current_process`] gives.
///
/// # Examples
/// ```
/// let me = multiproc::current_process();
/// assert!(!me.is_daemon() && !me.authkey()?.as_bytes().is_empty());
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct CurrentProcess(Arc<Identity>);

/// The calling process: its name, its pid, whether it is a daemon.
///
/// # Examples
/// ```
/// let me = multiproc::current_process();
/// assert_eq!((me.name(), me.pid()), ("MainProcess", std::process::id()));
/// ```
pub fn current_process() -> CurrentProcess {
    CurrentProcess(identity())
}

impl CurrentProcess {
    /// The name it was given, or `Process-1:2` by default: the second child of the first child of
    /// the root, which is called `MainProcess`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        sys::process::id()
    }

    /// Whether it is terminated when its parent exits, and dies when its parent is killed.
    pub fn is_daemon(&self) -> bool {
        self.0.daemon
    }

    /// The key that it shares with its family.
    ///
    /// # Errors
    /// * [`Error::Os`]: `getrandom` was refused, in the root.
    pub fn authkey(&self) -> Result<AuthKey> {
        authkey::own()
    }

    /// Gives it another key, which those that it starts from now on have too.
    pub fn set_authkey(&self, key: impl Into<AuthKey>) {
        authkey::set(key.into());
    }
}

impl fmt::Debug for CurrentProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = self.0.parent.as_ref().map(|(pid, _)| *pid);
        write!(f, "<Process name='{}' pid={} parent=", self.name(), self.pid())?;
        match parent {
            Some(pid) => write!(f, "{pid}")?,
            None => f.write_str("None")?,
        }
        write!(f, " started{}>", if self.is_daemon() { " daemon" } else { "" })
    }
}

/// The process that started this one: what [`parent_process`] gives.
///
/// It is known by the socket that ties the two together, and so is noticed when it dies, however that
/// happens and whatever becomes of its pid.
///
/// # Examples
/// ```
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// assert!(multiproc::parent_process().is_none(), "this is the root");
/// let ask = || multiproc::parent_process().filter(|parent| parent.is_alive()).map(|p| p.pid());
/// let child = multiproc::Process::new(ask, ()).start()?;
/// assert_eq!(child.join()?, Some(std::process::id()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ParentProcess {
    pid: u32,
    name: String,
    link: Arc<Link>,
}

/// The process that started this one with this library; none in the root, and none in a process that
/// was forked by other means.
pub fn parent_process() -> Option<ParentProcess> {
    let me = ME.read().unwrap_or_else(PoisonError::into_inner);
    let me = me.as_ref().filter(|me| me.pid == sys::process::id())?;
    let (pid, name) = me.identity.parent.clone()?;
    Some(ParentProcess { pid, name, link: me.link.clone()? })
}

impl ParentProcess {
    /// Its pid, which may be another process's once it is dead.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        matches!(self.link.wait_hang_up(Deadline::now()), Ok(false))
    }

    /// Blocks until it is gone. How it ended cannot be known here.
    ///
    /// # Blocking
    /// Waits without limit; signals do not end the wait.
    ///
    /// # Errors
    /// * [`Error::ForeignProcess`]: this process is a fork of the one that asked for its parent.
    /// * [`Error::Os`]: `ppoll` was refused (ENOMEM).
    pub fn join(&self) -> Result<()> {
        self.link.wait_hang_up(Deadline::NEVER).map(drop)
    }

    /// Blocks until it is gone (true) or the time is over (false).
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        self.link.wait_hang_up(Deadline::after(timeout))
    }
}

impl fmt::Debug for ParentProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_alive() { "started" } else { "stopped" };
        write!(f, "<ParentProcess name='{}' pid={} {state}>", self.name, self.pid)
    }
}
