//! What this process may use: memory, address space, file sizes.

use super::errno_result;
use std::io;
use std::mem::MaybeUninit;

/// A resource that `getrlimit` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `RLIMIT_AS`: bytes of address space.
    AddressSpace = libc::RLIMIT_AS as isize,
    /// `RLIMIT_FSIZE`: bytes of a file, those in memory included; beyond it is SIGXFSZ.
    FileSize = libc::RLIMIT_FSIZE as isize,
}

/// `getrlimit`: the soft limit; `None` if there is none.
pub(crate) fn soft_limit(resource: Resource) -> io::Result<Option<u64>> {
    get(resource as i32)
}

fn get(resource: i32) -> io::Result<Option<u64>> {
    let mut limit = MaybeUninit::<libc::rlimit64>::uninit();
    // SAFETY: `limit` is writable for the one record the call fills in.
    errno_result(unsafe { libc::getrlimit64(resource as _, limit.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled in the whole record.
    let soft = unsafe { limit.assume_init() }.rlim_cur;
    Ok((soft != libc::RLIM64_INFINITY).then_some(soft))
}

/// `setrlimit(RLIMIT_NOFILE)`: raises the soft limit of open descriptors to the hard one.
pub(crate) fn raise_open_files() -> io::Result<()> {
    raise(libc::RLIMIT_NOFILE as i32)
}

fn raise(resource: i32) -> io::Result<()> {
    let mut limit = MaybeUninit::<libc::rlimit64>::uninit();
    // SAFETY: `limit` is writable for the one record the call fills in.
    errno_result(unsafe { libc::getrlimit64(resource as _, limit.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled in the whole record.
    let mut limit = unsafe { limit.assume_init() };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is readable for the one record.
    errno_result(unsafe { libc::setrlimit64(resource as _, &limit) }).map(drop)
}

/// `sysconf(_SC_PHYS_PAGES)` in bytes.
pub(crate) fn physical_memory() -> u64 {
    // SAFETY: the call takes a number, and this name is known to every Linux.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    u64::try_from(pages).unwrap_or(0).saturating_mul(super::memory::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_can_be_read_and_an_unknown_one_is_einval() {
        soft_limit(Resource::AddressSpace).unwrap();
        soft_limit(Resource::FileSize).unwrap();
        assert_eq!(get(i32::MAX).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(raise(i32::MAX).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(physical_memory() > 1 << 20);
    }
}
