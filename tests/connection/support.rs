//! What the tests stand on.
#![allow(unreachable_pub)]

use multiproc::{Connection, Decode, Decoder, Encode, Encoder, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Once, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

pub const ZERO: Duration = Duration::ZERO;
pub const SHORT: Duration = Duration::from_millis(20);
/// The size of the buffer messages are read through; what is tested is its surroundings.
pub const BUFFER: usize = 16 << 10;

/// Held shared by every test that forks nothing, and alone by one that does: a forked child has a copy
/// of every descriptor, and would keep the connections of other tests open.
static TURN: RwLock<()> = RwLock::new(());

/// The right to run while nothing is forked.
pub fn turn() -> RwLockReadGuard<'static, ()> {
    set_up();
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

/// The right to run, and to fork, while no other test does.
pub fn turn_to_fork() -> RwLockWriteGuard<'static, ()> {
    set_up();
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the whole test program if it hangs, and lets it open descriptors enough.
fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: takes a number.
        unsafe { libc::alarm(240) };
        let mut limit = nofile();
        limit.rlim_cur = limit.rlim_max.min(65536);
        set_limit(libc::RLIMIT_NOFILE, limit);
    });
}

pub fn nofile() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit
}

pub fn set_limit(which: libc::__rlimit_resource_t, limit: libc::rlimit) {
    // SAFETY: `limit` is readable.
    assert_eq!(unsafe { libc::setrlimit(which, &limit) }, 0);
}

/// Runs `body` in a child of its own, where limits and counts of descriptors are nobody else's.
pub fn alone(body: impl FnOnce() + std::panic::UnwindSafe) {
    let _turn = turn_to_fork();
    // SAFETY: the child runs `body`, which takes no lock that a thread of the parent could hold.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: takes a number.
            unsafe { libc::alarm(60) };
            // Not captured, unlike what the macros print.
            std::panic::set_hook(Box::new(|info| drop(writeln!(std::io::stderr(), "{info}"))));
            let code = i32::from(std::panic::catch_unwind(body).is_err());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: `pid` is our child, not yet waited for.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert_eq!(status, 0, "the child failed, see above");
        }
    }
}

/// The open descriptors, but for the one that lists them.
pub fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Opens files until only `free` more can be opened.
pub fn fill_table(free: usize) -> Vec<File> {
    set_limit(libc::RLIMIT_NOFILE, libc::rlimit { rlim_cur: 8192, ..nofile() });
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.truncate(files.len() - free);
    files
}

/// Some bytes that differ with the length and from place to place.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16) ^ len) as u8).collect()
}

/// A value that is text.
#[derive(Debug, PartialEq)]
pub struct Text(pub String);

impl Encode for Text {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.len(self.0.len());
        encoder.bytes(self.0.as_bytes());
    }
}

impl Decode for Text {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Text> {
        let len = decoder.len()?;
        Ok(Text(String::from_utf8_lossy(decoder.bytes(len)?).into_owned()))
    }
}

pub fn text(text: &str) -> Text {
    Text(text.to_string())
}

/// A value that is descriptors and nothing else, as many as both sides know.
#[derive(Debug)]
pub struct Handles<const N: usize>(pub Vec<OwnedFd>);

impl<const N: usize> Encode for Handles<N> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.0.iter().for_each(|fd| encoder.fd(fd.as_fd()));
    }
}

impl<const N: usize> Decode for Handles<N> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Handles<N>> {
        (0..N).map(|_| decoder.fd()).collect::<Result<_>>().map(Handles)
    }
}

/// The read end and the write end of a new pipe.
pub fn os_pipe() -> (File, OwnedFd) {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is writable for two numbers.
    assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: the call has just made both, and nothing else knows them.
    let [read, write] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    (read.into(), write)
}

/// The write ends of `N` pipes in a value, and their read ends.
pub fn handles<const N: usize>() -> (Handles<N>, Vec<File>) {
    let (readers, writers) = (0..N).map(|_| os_pipe()).unzip();
    (Handles(writers), readers)
}

/// Whether each of `handles` is the other end of the reader at its place, and the only one.
pub fn assert_paired<const N: usize>(handles: Handles<N>, readers: Vec<File>) {
    assert_each_paired(handles.0, readers);
}

/// The same for descriptors that need not be of one value.
pub fn assert_each_paired(fds: Vec<OwnedFd>, readers: Vec<File>) {
    assert_eq!(fds.len(), readers.len());
    for (i, fd) in fds.into_iter().enumerate() {
        File::from(fd).write_all(&(i as u32).to_le_bytes()).unwrap();
    }
    for (i, mut reader) in readers.into_iter().enumerate() {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, (i as u32).to_le_bytes());
    }
}

pub fn connection_and_socket() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::from(ours), theirs)
}
