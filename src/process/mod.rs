//! Processes: starting them, talking to them, waiting for them, leaving.

mod authkey;
mod bootstrap;
mod builder;
mod child;
mod control;
mod cpus;
mod exit;
mod family;
mod fork;
mod forkserver;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod lifeline;
mod method;
pub(crate) mod panics;
mod settings;
mod spawn;
mod starter;
mod stdio;
mod surroundings;
pub(crate) mod target;

pub use authkey::AuthKey;
pub use bootstrap::init;
pub use builder::Process;
pub(crate) use builder::Starting;
pub use child::Child;
pub use cpus::{available_cpus, cpu_count};
pub use exit::{at_exit, exit};
pub use family::{
    ActiveChild, CurrentProcess, Never, ParentProcess, active_children, current_process,
    parent_process,
};
pub use fork::at_fork_child;
pub use forkserver::set_forkserver_preload;
pub(crate) use method::chosen_or_default;
pub use method::{StartMethod, all_start_methods, set_start_method, start_method};
pub(crate) use starter::Starter;
pub use stdio::Stdio;
pub use target::Target;

use crate::{Error, Result};
use std::fmt;

/// How a process ended.
///
/// # Examples
/// ```
/// use multiproc::{ExitStatus, Process};
///
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// let child = Process::<()>::new(|| multiproc::exit(3), ()).start()?;
/// assert_eq!(child.wait()?, ExitStatus::Exited(3));
/// let child = Process::<()>::new(|| std::thread::park(), ()).start()?;
/// child.kill()?;
/// assert_eq!(child.wait()?.to_number(), -9);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl ExitStatus {
    /// Whether it exited with code 0.
    pub fn success(self) -> bool {
        self == ExitStatus::Exited(0)
    }

    /// The exit code, if it exited.
    pub fn code(self) -> Option<i32> {
        match self {
            ExitStatus::Exited(code) => Some(code),
            ExitStatus::Killed(_) => None,
        }
    }

    /// The signal, if one killed it.
    pub fn signal(self) -> Option<i32> {
        match self {
            ExitStatus::Exited(_) => None,
            ExitStatus::Killed(signal) => Some(signal),
        }
    }

    /// Python's `exitcode`: the exit code, or minus the signal.
    #[doc(alias = "exitcode")]
    pub fn to_number(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => code,
            ExitStatus::Killed(signal) => -signal,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Exited(code) => write!(f, "exited with code {code}"),
            ExitStatus::Killed(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// A status as the forkserver sends it.
fn status_to_bytes(status: ExitStatus) -> [u8; 4] {
    status.to_number().to_le_bytes()
}

fn status_from_bytes(bytes: &[u8]) -> Result<ExitStatus> {
    let number = bytes.try_into().map(i32::from_le_bytes);
    match number.map_err(|_| Error::decode("no exit status"))? {
        number @ 0.. => Ok(ExitStatus::Exited(number)),
        number => Ok(ExitStatus::Killed(number.saturating_neg())),
    }
}
