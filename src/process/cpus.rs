//! How many processors there are.

use crate::sys;

/// How many processors the system has online, whether this process may use them or not.
///
/// # Examples
/// ```
/// assert!(multiproc::cpu_count() >= 1);
/// ```
pub fn cpu_count() -> usize {
    sys::process::online_cpus().max(1)
}

/// How many processors this process can keep busy: those that its affinity mask allows, or fewer
/// where a control group (version 2 or 1) limits its time, rounded down, but at least one.
///
/// # Differences from Python
/// `os.process_cpu_count` does not look at control groups.
///
/// # Examples
/// ```
/// assert!(multiproc::available_cpus() >= 1);
/// ```
#[doc(alias = "process_cpu_count")]
pub fn available_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
