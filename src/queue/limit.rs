//! How much a queue may hold if nobody says.

use crate::sys::limits::{Resource, physical_memory, soft_limit};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// A quarter of the memory that this process may use, but not more than half of what its limits leave
/// for one file or one mapping.
pub(crate) fn default_max_bytes() -> u64 {
    const LEAST: u64 = 64 << 10;
    let fits = |resource| soft_limit(resource).ok().flatten().map_or(u64::MAX, |n| n / 2);
    let limits = fits(Resource::AddressSpace).min(fits(Resource::FileSize));
    // Positions are within what a mapping can be, on machines of 32 bits too.
    (usable_memory() / 4).min(limits).min(isize::MAX as u64 / 2).max(LEAST)
}

/// The memory of the machine, or of the control group.
fn usable_memory() -> u64 {
    // No lock that a forked child could find held; two threads that come first both look.
    static KNOWN: AtomicU64 = AtomicU64::new(0);
    let mut memory = KNOWN.load(Ordering::Relaxed);
    if memory == 0 {
        memory = cgroup_limit().unwrap_or(u64::MAX).min(physical_memory());
        KNOWN.store(memory, Ordering::Relaxed);
    }
    memory
}

/// The lowest memory limit of the control groups this process is in, where `/proc` and `/sys` show them.
fn cgroup_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        match controllers {
            "" => lowest(Path::new("/sys/fs/cgroup"), path, "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                lowest(Path::new("/sys/fs/cgroup/memory"), path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.min()
}

/// The lowest number in the files called `name` from `root` down to `path` in it.
fn lowest(root: &Path, path: &str, name: &str) -> Option<u64> {
    let group = root.join(path);
    let groups = group.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(|group| fs::read_to_string(group.join(name)).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_is_within_the_memory_there_is() {
        let limit = super::default_max_bytes();
        assert!(limit >= 64 << 10 && limit <= crate::sys::limits::physical_memory());
    }
}
