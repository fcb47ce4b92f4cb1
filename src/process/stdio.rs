//! Standard input, output and error of a child.

use super::spawn;
use crate::{Error, Result, sys};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

/// What a standard stream of a child is.
///
/// # Examples
/// ```
/// use std::io::Read;
///
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let process = multiproc::Process::new(|| println!("hello"), ());
/// let mut child = process.stdout(multiproc::Stdio::Piped).start()?;
/// let mut text = String::new();
/// child.stdout.take().unwrap().read_to_string(&mut text)?;
/// assert_eq!(text, "hello\n");
/// child.join()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// This process's own.
    Inherit,
    /// /dev/null: at its end for who reads, and everything written is lost.
    Null,
    /// A pipe, whose other end is a field of [`Child`](crate::Child).
    Piped,
    /// This open file.
    Fd(OwnedFd),
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Stdio {
        Stdio::Fd(fd)
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        Stdio::Fd(file.into())
    }
}

impl From<ChildStdin> for Stdio {
    fn from(pipe: ChildStdin) -> Stdio {
        Stdio::Fd(pipe.into())
    }
}

impl From<ChildStdout> for Stdio {
    fn from(pipe: ChildStdout) -> Stdio {
        Stdio::Fd(pipe.into())
    }
}

impl From<ChildStderr> for Stdio {
    fn from(pipe: ChildStderr) -> Stdio {
        Stdio::Fd(pipe.into())
    }
}

/// The standard streams, by their numbers.
pub(crate) type Streams = [Option<OwnedFd>; 3];

/// The child's descriptors, and this process's ends of the pipes.
///
/// # Errors
/// * [`Error::Os`]: no descriptor (EMFILE), or a stream to inherit that is closed (EBADF).
pub(crate) fn open(streams: [Option<Stdio>; 3]) -> Result<(Streams, Streams)> {
    let (mut theirs, mut ours) = (Streams::default(), Streams::default());
    for (number, stream) in streams.into_iter().enumerate() {
        theirs[number] = match stream {
            None => None,
            // Output is inherited as it is; input is not, unless it is asked for.
            Some(Stdio::Inherit) if number > 0 => None,
            Some(Stdio::Inherit) => Some(dup(std::io::stdin().as_fd())?),
            Some(Stdio::Null) if number == 0 => Some(spawn::empty_input()?),
            Some(Stdio::Null) => {
                Some(above(sys::fd::open_sink().map_err(Error::os("open(/dev/null)"))?)?)
            }
            Some(Stdio::Fd(fd)) => Some(above(fd)?),
            Some(Stdio::Piped) => {
                let (reader, writer) = sys::fd::pipe().map_err(Error::os("pipe2"))?;
                let (mine, other) = if number == 0 { (writer, reader) } else { (reader, writer) };
                ours[number] = Some(above(mine)?);
                Some(above(other)?)
            }
        };
    }
    Ok((theirs, ours))
}

/// The descriptor at a number that is not a standard stream's. Where this process has closed one of
/// those its number is free for anything, and in a forked child would be replaced and closed again.
pub(crate) fn above(fd: OwnedFd) -> Result<OwnedFd> {
    sys::fd::above_stdio(fd).map_err(Error::os("fcntl(F_DUPFD_CLOEXEC)"))
}

/// [`above`], for what cannot be refused any more: where there is no other number it stays where it is.
pub(crate) fn above_if_possible(fd: OwnedFd) -> OwnedFd {
    match fd.as_raw_fd() {
        0..=2 => dup(fd.as_fd()).unwrap_or(fd),
        _ => fd,
    }
}

fn dup(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    sys::fd::dup(fd).map_err(Error::os("fcntl(F_DUPFD_CLOEXEC)"))
}
