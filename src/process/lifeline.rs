//! What lets a daemon die with its parent.
//!
//! Parent and daemon hold one end each of a socket on which nothing is ever sent. The daemon has asked
//! the kernel for SIGKILL when something happens on its end, and all that can happen is the hang-up
//! when the parent is gone, however it went. No thread watches, nothing is polled, and a daemon that is
//! stopped or blocks its signals dies too.

use super::stdio;
use crate::sys::poll;
use crate::sys::time::Deadline;
use crate::{Error, Result, sys};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// A lifeline's ends: the parent's, the daemon's.
pub(crate) fn new() -> Result<(OwnedFd, OwnedFd)> {
    let ends = sys::socket::pair(sys::socket::Kind::Stream).map_err(Error::os("socketpair"))?;
    let (ours, theirs) = (stdio::above(ends.0)?, stdio::above(ends.1)?);
    arm(theirs.as_fd())?;
    Ok((ours, theirs))
}

/// Has SIGKILL raised by whatever happens on the daemon's `end`, in the process that it is tied to. It is of all
/// copies of that end.
pub(crate) fn arm(end: BorrowedFd<'_>) -> Result<()> {
    sys::signal::raise_on_event(end, sys::signal::SIGKILL).map_err(Error::os("fcntl(F_SETSIG)"))
}

/// The end of this process's own lifeline, kept open for its life.
static END: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Takes this file's lock, for a fork.
pub(crate) fn hold() -> impl Sized {
    END.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In a child that has just begun: ties it to the other end, if it has a lifeline, and lets go of the
/// copy that a forked child has of its parent's. Does not return if the other end is closed already.
#[inline]
pub(crate) fn become_child(end: Option<OwnedFd>) -> Result<()> {
    if let Some(end) = &end {
        tie_me(end.as_fd())?;
    }
    let mut mine = END.lock().unwrap_or_else(PoisonError::into_inner);
    *mine = end;
    Ok(())
}

/// Ties this process to the other end of `end`, or ends it if nobody has that any more.
#[inline]
pub(crate) fn tie_me(end: BorrowedFd<'_>) -> Result<()> {
    tie(end, sys::process::id())?;
    // A hang-up before that raised nothing.
    if poll::wait_hang_up(end, Deadline::now()).map_err(Error::os("ppoll"))? {
        sys::process::raise(sys::signal::SIGKILL);
    }
    Ok(())
}

/// Has the kernel kill process `pid` when the other end of `end`, its end, is closed.
///
/// The parent calls it as soon as there is a process, so that also one dies that is stopped, or stuck,
/// before it gets to [`become_child`]. The child does for the case that its parent did not get so far.
pub(crate) fn tie(end: BorrowedFd<'_>, pid: u32) -> Result<()> {
    sys::signal::set_owner(end, pid).map_err(Error::os("fcntl(F_SETOWN)"))
}
