//! Anonymous files in memory, their seals, and mappings.

use super::{errno_result, retry};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// The file may not shrink: no access below its size can ever be a SIGBUS.
pub(crate) const SEAL_SHRINK: i32 = libc::F_SEAL_SHRINK;
/// The file may not grow.
pub(crate) const SEAL_GROW: i32 = libc::F_SEAL_GROW;
/// Nobody may write it again, and no writable mapping exists.
pub(crate) const SEAL_WRITE: i32 = libc::F_SEAL_WRITE;
/// No further seals.
pub(crate) const SEAL_SEAL: i32 = libc::F_SEAL_SEAL;

/// `memfd_create(MFD_CLOEXEC | MFD_ALLOW_SEALING)`: an empty file that has no name anywhere.
pub(crate) fn memfd(name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // The system call itself: glibc has had the wrapper since 2.27 only, and it adds nothing.
    // SAFETY: `name` ends in NUL and outlives the call.
    let fd = errno_result(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) })?;
    // SAFETY: the call succeeded, so the descriptor is open, and nothing else has seen its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `ftruncate`: gives the file a size; new pages are holes until they are touched or reserved.
pub(crate) fn set_size(fd: BorrowedFd<'_>, size: u64) -> io::Result<()> {
    let size = i64::try_from(size).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: `fd` is open for the borrow's life; the call takes a number.
    retry(|| errno_result(unsafe { libc::ftruncate64(fd.as_raw_fd(), size) })).map(drop)
}

/// `fstat`: the file's size.
pub(crate) fn size(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::stat64>::uninit();
    // SAFETY: `stat` is writable for the one record the call fills in.
    errno_result(unsafe { libc::fstat64(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled in the whole record.
    Ok(unsafe { stat.assume_init() }.st_size as u64)
}

/// `fstat`: a number that no other file in memory has while this one lives.
pub(crate) fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::stat64>::uninit();
    // SAFETY: `stat` is writable for the one record the call fills in.
    errno_result(unsafe { libc::fstat64(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled in the whole record.
    Ok(unsafe { stat.assume_init() }.st_ino)
}

/// `sysinfo`: the bytes of all memory and swap there is, used or not.
pub(crate) fn installed() -> io::Result<u64> {
    let mut info = std::mem::MaybeUninit::<libc::sysinfo>::uninit();
    // SAFETY: `info` is writable for the one record the call fills in.
    errno_result(unsafe { libc::sysinfo(info.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled in the whole record.
    let info = unsafe { info.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "they are 32 bits wide on 32-bit machines")]
    let units = (info.totalram as u64).saturating_add(info.totalswap as u64);
    Ok(units.saturating_mul(info.mem_unit.into()))
}

/// `fallocate`: reserves the pages of a range, growing the file if the range ends beyond it, so that
/// a lack of memory is an error here and not a SIGBUS at some later touch.
pub(crate) fn reserve(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    retry(|| {
        // SAFETY: `fd` is open for the borrow's life; the call takes numbers.
        errno_result(unsafe { libc::fallocate64(fd.as_raw_fd(), 0, offset as i64, len as i64) })
    })
    .map(drop)
}

/// `fallocate(FALLOC_FL_PUNCH_HOLE)`: gives a range's pages back; it reads as zeros afterwards.
pub(crate) fn punch(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    retry(|| {
        // SAFETY: `fd` is open for the borrow's life; the call takes numbers.
        errno_result(unsafe { libc::fallocate64(fd.as_raw_fd(), mode, offset as i64, len as i64) })
    })
    .map(drop)
}

/// `fcntl(F_ADD_SEALS)`.
pub(crate) fn add_seals(fd: BorrowedFd<'_>, seals: i32) -> io::Result<()> {
    // SAFETY: `fd` is open for the borrow's life; the command takes a number.
    errno_result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

/// `fcntl(F_GET_SEALS)`; EINVAL for a file that cannot be sealed.
pub(crate) fn seals(fd: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: `fd` is open for the borrow's life; the command reads a number.
    errno_result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) })
}

/// The size of a page.
pub(crate) fn page_size() -> usize {
    // SAFETY: the call takes a number, and this name is known to every Linux.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Bytes of a file mapped into this process, shared with whoever else maps them.
///
/// The mapping says nothing of who may touch the bytes when: that is `region`'s concern.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to the thread that made it; the type gives out only
// a raw pointer, whose uses justify themselves.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; `&Mapping` gives a pointer and a length, neither of which changes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `mmap(MAP_SHARED)` of `len` bytes of `fd` from `offset`, a multiple of the page size.
    ///
    /// The range may lie beyond the end of the file; touching it there is a SIGBUS, so callers keep
    /// to the size they have checked.
    pub(crate) fn shared(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        writable: bool,
    ) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        Self::map(fd, offset, len, protection, libc::MAP_SHARED)
    }

    /// `mmap(MAP_PRIVATE, PROT_READ)` of the first `len` bytes: what a file sealed against writing can
    /// be mapped as on every kernel (before 6.7, the shared form is EPERM even for reading). Pages are
    /// the file's own, since nobody can write either.
    pub(crate) fn private_read_only(fd: BorrowedFd<'_>, len: usize) -> io::Result<Mapping> {
        Self::map(fd, 0, len, libc::PROT_READ, libc::MAP_PRIVATE)
    }

    fn map(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        protection: i32,
        flags: i32,
    ) -> io::Result<Mapping> {
        // SAFETY: no address is asked for, so the kernel picks one where nothing was mapped, and no
        // existing memory changes.
        let start = unsafe {
            libc::mmap64(
                std::ptr::null_mut(),
                len,
                protection,
                flags,
                fd.as_raw_fd(),
                offset as i64,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Mapping { start, len })
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are those of a mapping that this value alone owns; views into it
        // borrow the value, so none is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Writes zeros over `items` in a way that the compiler may not leave out: they held a secret.
pub(crate) fn wipe<T: Copy + Default>(items: &mut [T]) {
    for item in items {
        // SAFETY: `item` is a reference, so it may be written; its type has nothing to drop.
        unsafe { std::ptr::write_volatile(item, T::default()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn errno<T>(answer: io::Result<T>) -> Option<i32> {
        answer.err().and_then(|error| error.raw_os_error())
    }

    #[test]
    fn seals_refuse_what_they_seal() {
        let fd = memfd(c"multiproc-test").unwrap();
        set_size(fd.as_fd(), 8192).unwrap();
        add_seals(fd.as_fd(), SEAL_SHRINK | SEAL_SEAL).unwrap();
        assert_eq!(errno(set_size(fd.as_fd(), 4096)), Some(libc::EPERM));
        assert_eq!(errno(add_seals(fd.as_fd(), SEAL_GROW)), Some(libc::EPERM));
        assert_eq!(seals(fd.as_fd()).unwrap(), SEAL_SHRINK | SEAL_SEAL);
        reserve(fd.as_fd(), 8192, 4096).unwrap();
        assert_eq!(size(fd.as_fd()).unwrap(), 12288);
        punch(fd.as_fd(), 0, 4096).unwrap();
        assert_eq!(size(fd.as_fd()).unwrap(), 12288);
    }

    #[test]
    fn a_pipe_is_no_memory_file() {
        let (read, _write) = super::super::fd::pipe().unwrap();
        assert_eq!(errno(seals(read.as_fd())), Some(libc::EINVAL));
        assert_eq!(errno(set_size(read.as_fd(), 1)), Some(libc::EINVAL));
        assert!(errno(reserve(read.as_fd(), 0, 1)).is_some());
        assert!(errno(punch(read.as_fd(), 0, 1)).is_some());
        assert!(errno(Mapping::shared(read.as_fd(), 0, 4096, true)).is_some());
        assert!(errno(Mapping::private_read_only(read.as_fd(), 4096)).is_some());
        assert_eq!(size(read.as_fd()).unwrap(), 0);
        assert_eq!(
            errno(memfd(&std::ffi::CString::new(vec![b'n'; 4096]).unwrap())),
            Some(libc::EINVAL)
        );
    }

    #[test]
    fn two_mappings_show_the_same_bytes() {
        let fd = memfd(c"multiproc-test").unwrap();
        set_size(fd.as_fd(), 4096).unwrap();
        let writer = Mapping::shared(fd.as_fd(), 0, 4096, true).unwrap();
        let reader = Mapping::shared(fd.as_fd(), 0, 4096, false).unwrap();
        // SAFETY: both mappings are live and 4096 bytes long, and this thread alone touches them.
        unsafe { writer.as_ptr().wrapping_add(100).write(7) };
        // SAFETY: as above.
        assert_eq!(unsafe { reader.as_ptr().wrapping_add(100).read() }, 7);
        assert_eq!(reader.len(), 4096);
        assert!(page_size().is_power_of_two());
        assert!(installed().unwrap() > 4096);
        let other = memfd(c"multiproc-test").unwrap();
        assert_ne!(inode(fd.as_fd()).unwrap(), inode(other.as_fd()).unwrap());
    }

    #[test]
    fn what_was_wiped_is_zero() {
        let mut secret = *b"secret";
        wipe(&mut secret);
        assert_eq!(secret, [0; 6]);
    }
}
