//! The three ways to start a process.

use super::starter::{SPAWN, Starter};
use super::target::Location;
use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// How a process comes to be.
///
/// # Examples
/// ```
/// use multiproc::StartMethod;
///
/// assert_eq!("forkserver".parse::<StartMethod>()?, StartMethod::ForkServer);
/// assert_eq!(multiproc::start_method(), StartMethod::Spawn);
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartMethod {
    /// The program is executed anew and the child begins in [`init`](crate::init). It inherits
    /// nothing but its arguments, its environment and its working directory. Safe with threads, and
    /// its cost does not depend on the size of the parent. The default.
    Spawn,
    /// The child is a copy of this process, with everything in it. Refused while the process has
    /// other threads, whose locks the child would inherit for ever locked.
    Fork,
    /// A small process, started by Spawn at the first use, forks children on request: as quick as a
    /// fork, whatever the size of this process, and safe with threads.
    ForkServer,
}

impl StartMethod {
    /// Python's name of it.
    pub fn name(self) -> &'static str {
        match self {
            StartMethod::Spawn => "spawn",
            StartMethod::Fork => "fork",
            StartMethod::ForkServer => "forkserver",
        }
    }
}

impl fmt::Display for StartMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StartMethod {
    type Err = Error;

    fn from_str(name: &str) -> Result<StartMethod> {
        all_start_methods()
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| Error::invalid(format!("no start method {name:?}")))
    }
}

/// Read without a lock: a process that was forked beside other threads can be asked as well.
static CHOSEN: OnceLock<&'static Starter> = OnceLock::new();

/// The start methods, the default first.
#[doc(alias = "get_all_start_methods")]
pub fn all_start_methods() -> [StartMethod; 3] {
    [StartMethod::Spawn, StartMethod::Fork, StartMethod::ForkServer]
}

/// Chooses the start method of everything that does not name its own. Once in a program: libraries
/// can rely on it.
///
/// # Errors
/// * [`Error::InvalidArgument`]: another one was chosen before.
///
/// # Differences from Python
/// There is no `force`: what was started by a method stays so, and a [`Context`](crate::Context) has a
/// method of its own. Asking for the method, or starting a process, does not fix it.
pub fn set_start_method(method: StartMethod) -> Result<()> {
    match CHOSEN.get_or_init(|| Starter::of(method)).method {
        before if before != method => Err(Error::invalid("the start method was chosen already")),
        _ => Ok(()),
    }
}

/// What was chosen, as a child is told; one to whom a function in a shared library cannot be named is told
/// nothing.
pub(crate) fn chosen_entry() -> Option<Location> {
    CHOSEN.get()?.choice.locate().ok()
}

/// In a child that has just begun: takes up its parent's choice, of which there is one alone.
pub(crate) fn inherit(starter: &'static Starter) {
    let _ = CHOSEN.set(starter);
}

pub(crate) fn chosen_or_default() -> &'static Starter {
    CHOSEN.get().copied().unwrap_or(&SPAWN)
}

/// The start method of everything that does not name its own: Spawn, unless
/// [`set_start_method`] chose another.
#[doc(alias = "get_start_method")]
pub fn start_method() -> StartMethod {
    chosen_or_default().method
}
