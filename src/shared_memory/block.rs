//! A block of memory that has a name.

use crate::sys::memory::Mapping;
use crate::sys::{self, memory, process, random, shm};
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::ffi::CString;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};

/// Where the names are, for those who look for ones that were left behind.
const PLACE: &str = "/dev/shm";

/// A block's permissions, as Python sets them.
const PRIVATE: u32 = 0o600;

/// Set (the "sticky" bit, which means nothing for files) while the block has an owner: if nobody has it
/// locked, the owner is dead. Blocks that others make have no such mark.
const OWNED: u32 = 0o1000;

/// How often a new name is tried, as in Python.
const TRIES: usize = 100;

/// A block of memory that other programs, Python's among them, find by its name.
///
/// A clone is the same block; what another process receives is attached to it by name. Bytes are
/// copied in and out by system calls, so that a block that some program makes shorter is an error and not
/// a crash; [`as_mut_slice`](Self::as_mut_slice) gives the memory itself.
///
/// # If a process dies
/// If the one that made the block is killed, the block is removed later:
/// see [the module](crate::shared_memory).
///
/// # Differences from Python
/// The name goes with the handle that made it, unless [`keep`](Self::keep) says otherwise; attaching never
/// removes it. No resource tracker is started, and none of Python's ever hears of blocks made here.
///
/// # Examples
/// ```
/// use multiproc::SharedMemory;
///
/// let block = SharedMemory::create(None, 10)?;
/// block.write_at(0, b"howdy")?;
/// let same = SharedMemory::attach(block.name())?; // perhaps in another program
/// let mut bytes = [0; 5];
/// same.read_at(0, &mut bytes)?;
/// assert_eq!(&bytes, b"howdy");
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedMemory {
    inner: Arc<Inner>,
}

struct Inner {
    file: File,
    /// Without the slash that the system wants before it.
    name: String,
    len: usize,
    mapping: OnceLock<Mapping>,
    /// The process that is to remove the name.
    owner: Option<u32>,
    kept: AtomicBool,
}

impl Inner {
    fn has_name(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.nlink() > 0)
    }

    fn unlink(&self) -> Result<()> {
        if !self.has_name() {
            return Err(Error::os("shm_unlink")(io::Error::from_raw_os_error(sys::ENOENT)));
        }
        shm::unlink(&system_name(&self.name)?).map_err(Error::os("shm_unlink"))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.owner == Some(process::id()) && !self.kept.load(Ordering::Relaxed) {
            // Whoever unlinked it before did what is to be done here.
            let _ = self.unlink();
        }
    }
}

/// `name` as the system wants it.
fn system_name(name: &str) -> Result<CString> {
    let name = name.strip_prefix('/').unwrap_or(name);
    if name.is_empty() || name.contains('/') {
        return Err(Error::invalid(format!("{name:?} as the name of a block")));
    }
    CString::new(format!("/{name}")).map_err(|_| Error::invalid("a name with a NUL in it"))
}

fn is_taken(error: &Error) -> bool {
    error.raw_os_error() == Some(sys::EEXIST)
}

fn taken() -> Error {
    Error::os("shm_open")(io::Error::from_raw_os_error(sys::EEXIST))
}

/// As Python makes them.
fn random_name() -> Result<String> {
    let number = random::u64().map_err(Error::os("getrandom"))?;
    Ok(format!("psm_{:08x}", number as u32))
}

impl SharedMemory {
    /// Makes a block of `len` zero bytes, with a random name if none is given.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: no bytes, or a name that cannot be one.
    /// * [`Error::Os`]: the name is taken (EEXIST), or the system refused memory (ENOSPC, ENOMEM), a
    ///   descriptor (EMFILE), or names altogether (ENOENT: nothing is mounted at /dev/shm).
    pub fn create(name: Option<&str>, len: usize) -> Result<SharedMemory> {
        static TIDY: Once = Once::new();
        if len == 0 {
            return Err(Error::invalid("a block of no bytes"));
        }
        TIDY.call_once(|| {
            // Where names cannot be listed, none is found.
            let _ = SharedMemory::reclaim();
        });
        match name {
            Some(name) => SharedMemory::create_as(name, len),
            None => SharedMemory::create_by_chance(random_name, len),
        }
    }

    /// Makes a block of that name, in the place of an abandoned one if need be.
    fn create_as(name: &str, len: usize) -> Result<SharedMemory> {
        for _ in 0..TRIES {
            match SharedMemory::try_create(name, len) {
                Err(error) if is_taken(&error) => {
                    if !remove_if_abandoned(&system_name(name)?)? {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
                Ok(Some(block)) => return Ok(block),
                Ok(None) => {}
            }
        }
        Err(taken())
    }

    /// Makes a block of the first of the names that `choose` gives that nobody has.
    fn create_by_chance(
        mut choose: impl FnMut() -> Result<String>,
        len: usize,
    ) -> Result<SharedMemory> {
        for _ in 0..TRIES {
            match SharedMemory::try_create(&choose()?, len) {
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(error),
                Ok(Some(block)) => return Ok(block),
                Ok(None) => {}
            }
        }
        Err(taken())
    }

    /// `None` if somebody has taken the new block for one that was left behind.
    fn try_create(name: &str, len: usize) -> Result<Option<SharedMemory>> {
        let system = system_name(name)?;
        let file = shm::open(&system, Some(PRIVATE | OWNED)).map_err(Error::os("shm_open"))?;
        let name = name.trim_start_matches('/').to_string();
        let (owner, kept) = (Some(process::id()), AtomicBool::new(false));
        let file = File::from(file);
        let inner = Inner { file, name, len, mapping: OnceLock::new(), owner, kept };
        let locked = shm::try_lock(inner.file.as_fd()).map_err(Error::os("flock"))?;
        if !locked || !inner.has_name() {
            inner.kept.store(true, Ordering::Relaxed); // its remover removes it
            return Ok(None);
        }
        let fd = inner.file.as_fd();
        memory::set_size(fd, len as u64).map_err(Error::os("ftruncate"))?;
        memory::reserve(fd, 0, len as u64).map_err(Error::os("fallocate"))?;
        Ok(Some(SharedMemory { inner: Arc::new(inner) }))
    }

    /// Attaches to the block of that name, of whatever length it has.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: a name that cannot be one, or a block without bytes.
    /// * [`Error::Os`]: there is none of that name (ENOENT), or the system refused a descriptor (EMFILE).
    pub fn attach(name: &str) -> Result<SharedMemory> {
        let file = shm::open(&system_name(name)?, None).map_err(Error::os("shm_open"))?;
        let len = memory::size(file.as_fd()).map_err(Error::os("fstat"))?;
        let len = usize::try_from(len).ok().filter(|&len| len > 0);
        let len = len.ok_or_else(|| Error::invalid("a block without bytes"))?;
        let name = name.trim_start_matches('/').to_string();
        let (mapping, kept) = (OnceLock::new(), AtomicBool::new(true));
        let inner = Inner { file: File::from(file), name, len, mapping, owner: None, kept };
        Ok(SharedMemory { inner: Arc::new(inner) })
    }

    /// Removes the blocks whose owners were killed, and says how many those were.
    ///
    /// Making the first block of a process does so too.
    ///
    /// # Errors
    /// * [`Error::Os`]: the names cannot be listed.
    pub fn reclaim() -> Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(PLACE).map_err(Error::os("opendir"))? {
            let Ok(entry) = entry else { continue };
            let Ok(found) = entry.metadata() else { continue };
            if !found.is_file() || found.mode() & OWNED == 0 {
                continue;
            }
            let Some(name) = entry.file_name().to_str().and_then(|name| system_name(name).ok())
            else {
                continue;
            };
            count += usize::from(remove_if_abandoned(&name).unwrap_or(false));
        }
        Ok(count)
    }

    /// The name, under which others attach.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The number of bytes.
    #[doc(alias = "size")]
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// False: there is no block without bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes out, from `at` on.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: they are not all inside.
    /// * [`Error::Corrupt`]: some program has made the block shorter.
    pub fn read_at(&self, at: usize, to: &mut [u8]) -> Result<()> {
        self.check(at, to.len())?;
        self.inner.file.read_exact_at(to, at as u64).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::corrupt("a block that was made shorter"),
            _ => Error::os("pread")(error),
        })
    }

    /// Copies bytes in, from `at` on.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: they would not all be inside.
    /// * [`Error::Os`]: the system refused (ENOSPC: some program has made the block shorter, and there
    ///   is no memory to make it longer again).
    pub fn write_at(&self, at: usize, from: &[u8]) -> Result<()> {
        self.check(at, from.len())?;
        self.inner.file.write_all_at(from, at as u64).map_err(Error::os("pwrite"))
    }

    fn check(&self, at: usize, len: usize) -> Result<()> {
        match at.checked_add(len) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(Error::invalid(format!("{len} bytes at {at} of a block of {}", self.len()))),
        }
    }

    /// Where the bytes are mapped; the mapping lives as long as the handle.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refused the mapping (ENOMEM).
    pub fn as_mut_ptr(&self) -> Result<*mut u8> {
        if let Some(mapping) = self.inner.mapping.get() {
            return Ok(mapping.as_ptr());
        }
        let fd = self.inner.file.as_fd();
        let mapping = Mapping::shared(fd, 0, self.len(), true).map_err(Error::os("mmap"))?;
        Ok(self.inner.mapping.get_or_init(|| mapping).as_ptr())
    }

    /// Whether this process made the block.
    pub(super) fn is_own(&self) -> bool {
        self.inner.owner == Some(process::id())
    }

    /// Removes the name. Those who are attached keep the memory; nobody can attach any more.
    ///
    /// # Errors
    /// * [`Error::Os`]: it has no name any more (ENOENT).
    pub fn unlink(&self) -> Result<()> {
        self.inner.unlink()
    }

    /// Has the name outlive its owner: from now on it is there until somebody calls
    /// [`unlink`](Self::unlink).
    ///
    /// # Errors
    /// * [`Error::Os`]: the block belongs to another user (EPERM).
    pub fn keep(&self) -> Result<()> {
        let private = Permissions::from_mode(PRIVATE);
        self.inner.file.set_permissions(private).map_err(Error::os("fchmod"))?;
        self.inner.kept.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Removes a name whose owner is dead, and says whether it was.
fn remove_if_abandoned(name: &CString) -> Result<bool> {
    let file = match shm::open(name, None) {
        Ok(file) => File::from(file),
        Err(error) if error.raw_os_error() == Some(sys::ENOENT) => return Ok(true),
        Err(error) => return Err(Error::os("shm_open")(error)),
    };
    let is_owned = file.metadata().is_ok_and(|found| found.mode() & OWNED != 0);
    if !is_owned || !shm::try_lock(file.as_fd()).map_err(Error::os("flock"))? {
        return Ok(false);
    }
    // The lock is ours, so no other remover is at work; the name may have gone before.
    if file.metadata().is_ok_and(|found| found.nlink() > 0) {
        shm::unlink(name).map_err(Error::os("shm_unlink"))?;
    }
    Ok(true)
}

impl PartialEq for SharedMemory {
    fn eq(&self, other: &SharedMemory) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedMemory({:?}, size={})", self.name(), self.len())
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.file.as_fd()
    }
}

/// By name: who receives it attaches to the block, if that is still there.
impl Encode for SharedMemory {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.inner.name.encode(encoder);
    }
}

impl Decode for SharedMemory {
    fn decode(decoder: &mut Decoder<'_>) -> Result<SharedMemory> {
        SharedMemory::attach(&String::decode(decoder)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_recreate() {
        let names = ["taken", "free"].map(|what| format!("psm_{what}_{}", process::id()));
        let block = SharedMemory::create(Some(&names[0]), 7).unwrap();
        let mut asked = 0;
        let choose = || {
            asked += 1;
            Ok(names[usize::from(asked > 3)].clone())
        };
        let other = SharedMemory::create_by_chance(choose, 8).unwrap();
        assert_eq!((other.name(), other.len(), asked), (&names[1][..], 8, 4));
        assert_eq!((block.name(), block.len()), (&names[0][..], 7), "the first is as it was");
        SharedMemory::attach(&names[0]).unwrap();

        let mut asked = 0;
        let choose = || {
            asked += 1;
            Ok(names[0].clone())
        };
        assert!(is_taken(&SharedMemory::create_by_chance(choose, 8).unwrap_err()));
        assert_eq!(asked, TRIES);
    }
}
