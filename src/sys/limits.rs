//! What the kernel allows a process: `getrlimit(2)` and its like.

use super::errno_result;
use std::io;
use std::mem::MaybeUninit;

/// A resource that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Address space, in bytes.
    AddressSpace = libc::RLIMIT_AS as isize,
    /// Bytes of a file, those in memory included; beyond it is SIGXFSZ.
    FileSize = libc::RLIMIT_FSIZE as isize,
    /// Processor time, in seconds.
    CpuTime = libc::RLIMIT_CPU as isize,
    /// The number above which no descriptor is made.
    OpenFiles = libc::RLIMIT_NOFILE as isize,
}

/// The limit that counts, and the one up to which it may be raised again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// `getrlimit`.
pub(crate) fn limit(resource: Resource) -> io::Result<Limit> {
    get(resource as i32)
}

fn get(resource: i32) -> io::Result<Limit> {
    let mut limit = MaybeUninit::<libc::rlimit64>::uninit();
    // SAFETY: `limit` is writable for the one record the call fills in.
    errno_result(unsafe { libc::getrlimit64(resource as _, limit.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled in the whole record.
    let limit = unsafe { limit.assume_init() };
    Ok(Limit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// `getrlimit`: the soft limit; `None` if there is none.
pub(crate) fn soft_limit(resource: Resource) -> io::Result<Option<u64>> {
    let soft = limit(resource)?.soft;
    Ok((soft != libc::RLIM64_INFINITY).then_some(soft))
}

/// `setrlimit`.
pub(crate) fn set_limit(resource: Resource, limit: Limit) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: `limit` is one record, which is only read.
    errno_result(unsafe { libc::setrlimit64(resource as _, &limit) }).map(drop)
}

/// `sysconf(_SC_PHYS_PAGES)` in bytes.
pub(crate) fn physical_memory() -> u64 {
    // SAFETY: the call takes a number, and this name is known to every Linux.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    u64::try_from(pages).unwrap_or(0).saturating_mul(super::memory::page_size() as u64)
}

/// `setpriority(PRIO_PROCESS)`: the niceness of the calling process.
pub(crate) fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: the call takes numbers.
    errno_result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// `sched_setaffinity`: the processors that the calling thread may run on; EINVAL if none of them is
/// there.
pub(crate) fn set_affinity(cpus: &[usize]) -> io::Result<()> {
    const WORD: usize = u64::BITS as usize;
    // As many as the kernel can be built for.
    let mut mask = [0u64; 8192 / WORD];
    for &cpu in cpus {
        let Some(word) = mask.get_mut(cpu / WORD) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        *word |= 1 << (cpu % WORD);
    }
    // SAFETY: `mask` is readable for its size, a multiple of a word's, which is all that the kernel asks.
    errno_result(unsafe { libc::sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast()) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_can_be_read_and_an_unknown_one_is_einval() {
        soft_limit(Resource::AddressSpace).unwrap();
        soft_limit(Resource::FileSize).unwrap();
        assert_eq!(get(i32::MAX).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(physical_memory() > 1 << 20);
    }

    #[test]
    fn processors_that_are_not_there_are_refused() {
        for cpus in [&[][..], &[8191], &[1 << 20]] {
            let error = set_affinity(cpus).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{cpus:?}");
        }
    }

    #[test]
    fn a_limit_is_set_as_it_was_and_not_above_its_own_bound() {
        let now = limit(Resource::CpuTime).unwrap();
        set_limit(Resource::CpuTime, now).unwrap();
        assert_eq!(limit(Resource::CpuTime).unwrap(), now);
        let wrong = Limit { soft: 2, hard: 1 };
        let error = set_limit(Resource::OpenFiles, wrong).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
