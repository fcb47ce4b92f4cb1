//! What the kernel allows a process: `getrlimit(2)` and its like.

use super::errno_result;
use std::io;

/// A resource that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Address space, in bytes.
    Memory = libc::RLIMIT_AS as isize,
    /// Processor time, in seconds.
    CpuTime = libc::RLIMIT_CPU as isize,
    /// The number above which no descriptor is made.
    OpenFiles = libc::RLIMIT_NOFILE as isize,
}

/// The limit that counts, and the one up to which it may be raised again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) soft: libc::rlim_t,
    pub(crate) hard: libc::rlim_t,
}

/// `getrlimit`.
pub(crate) fn limit(resource: Resource) -> io::Result<Limit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable for the one record the call fills in.
    errno_result(unsafe { libc::getrlimit(resource as _, &mut limit) })?;
    Ok(Limit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// `setrlimit`.
pub(crate) fn set_limit(resource: Resource, limit: Limit) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: `limit` is one record, which is only read.
    errno_result(unsafe { libc::setrlimit(resource as _, &limit) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_set_as_it_was_and_not_above_its_own_bound() {
        let now = limit(Resource::CpuTime).unwrap();
        set_limit(Resource::CpuTime, now).unwrap();
        assert_eq!(limit(Resource::CpuTime).unwrap(), now);
        let wrong = Limit { soft: 2, hard: 1 };
        let error = set_limit(Resource::Memory, wrong).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
