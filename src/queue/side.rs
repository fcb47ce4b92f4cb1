//! The side socket, on which the descriptors of messages travel.
//!
//! A datagram says whose descriptors it carries: the message's ticket, a number used once, and which
//! part they are, since the kernel takes no more than 253 in one. All of them are sent before their
//! message is published, in the order of their messages, so a datagram in front with an older ticket
//! than the message at hand is the orphan of a producer that was killed before it published.

use super::batch::Batch;
use crate::sys::socket::{self, MAX_FDS, Receive};
use crate::sys::time::Deadline;
use crate::sys::{self, poll};
use crate::{Error, Result};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub(super) struct Side(OwnedFd);

/// Datagrams of one message, at most: far fewer than the socket holds.
const MOST_PARTS: usize = 64;

/// How long to wait for the socket before it is tried again: the kernel tells of room only when three
/// quarters of it are free.
const SLICE: Duration = Duration::from_millis(5);

/// What a datagram says of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tag {
    ticket: u64,
    part: u64,
}

impl Tag {
    const LEN: usize = 16;

    fn to_bytes(self) -> [u8; Tag::LEN] {
        (u128::from(self.ticket) | u128::from(self.part) << 64).to_le_bytes()
    }

    fn from_bytes(bytes: [u8; Tag::LEN]) -> Tag {
        let both = u128::from_le_bytes(bytes);
        Tag { ticket: both as u64, part: (both >> 64) as u64 }
    }
}

impl Side {
    /// The most descriptors of one message.
    pub(super) const MOST: usize = MOST_PARTS * MAX_FDS;

    pub(super) fn new() -> Result<Side> {
        socket::loopback().map(Side).map_err(Error::os("socket"))
    }

    /// Takes up a side socket that another process made.
    pub(super) fn adopt(fd: OwnedFd) -> Result<Side> {
        match socket::kind(fd.as_fd()) {
            Ok(_) => Ok(Side(fd)),
            Err(_) => Err(Error::corrupt("a queue's side socket")),
        }
    }

    /// Sends copies of `fds`; calls `on_full` whenever the socket has no room.
    ///
    /// # Errors
    /// * [`Error::Full`]: no room within the time allowed.
    /// * [`Error::Os`] (`ETOOMANYREFS`): the user has more descriptors in flight than the system allows.
    pub(super) fn send(
        &self,
        ticket: u64,
        fds: &[OwnedFd],
        deadline: Deadline,
        mut on_full: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        for (part, fds) in fds.chunks(MAX_FDS).enumerate() {
            let tag = Tag { ticket, part: part as u64 }.to_bytes();
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            loop {
                match socket::send(self.as_fd(), &[IoSlice::new(&tag)], &fds, false) {
                    Ok(_) => break,
                    Err(error) if error.raw_os_error() == Some(sys::EAGAIN) => on_full()?,
                    Err(error) => return Err(Error::os("sendmsg")(error)),
                }
                if deadline.has_passed() {
                    return Err(Error::Full);
                }
                let slice = deadline.min(Deadline::after(SLICE));
                poll::wait_writable(self.as_fd(), slice).map_err(Error::os("ppoll"))?;
            }
        }
        Ok(())
    }

    /// Takes copies of a message's descriptors onto the end of `fds` and leaves the originals where
    /// they are; [`forget`](Self::forget) takes them away.
    ///
    /// # Errors
    /// * [`Error::Os`] (`EMFILE`): this process has no free numbers for them; nothing is lost.
    /// * [`Error::Corrupt`]: they are not there.
    pub(super) fn copy(&self, ticket: u64, count: usize, fds: &mut Vec<OwnedFd>) -> Result<()> {
        self.sweep(ticket)?;
        let before = fds.len();
        for part in 0..count.div_ceil(MAX_FDS) {
            let held = fds.len();
            let (tag, lost) = match self.peek(part * Tag::LEN, Some(fds))? {
                Some(found) => found,
                None => return Err(Error::corrupt("a queue's descriptors")),
            };
            if lost {
                let full = io::Error::from_raw_os_error(sys::EMFILE);
                return Err(Error::os("recvmsg")(full));
            }
            let wanted = (count - (held - before)).min(MAX_FDS);
            if tag != (Tag { ticket, part: part as u64 }) || fds.len() - held != wanted {
                return Err(Error::corrupt("a queue's descriptors"));
            }
        }
        Ok(())
    }

    /// Takes away the descriptors of a message, which has been taken.
    pub(super) fn forget(&self, count: usize) -> Result<()> {
        (0..count.div_ceil(MAX_FDS)).try_for_each(|_| self.discard())
    }

    /// Takes away the descriptors of a batch, of which the first message alone can have any.
    pub(super) fn forget_many(&self, batch: &Batch) -> Result<()> {
        self.forget(batch.fds())
    }

    /// Takes away every datagram in front whose ticket is older than `ticket`: orphans. Says whether
    /// another one is left.
    pub(super) fn sweep(&self, ticket: u64) -> Result<bool> {
        while let Some((tag, _)) = self.peek(0, None)? {
            if tag.ticket >= ticket {
                return Ok(true);
            }
            self.discard()?;
        }
        Ok(false)
    }

    /// The tag of the datagram at `offset`, and with `fds` copies of its descriptors; also whether some
    /// of them found no number.
    fn peek(&self, offset: usize, fds: Option<&mut Vec<OwnedFd>>) -> Result<Option<(Tag, bool)>> {
        socket::set_peek_offset(self.as_fd(), offset as i32).map_err(Error::os("setsockopt"))?;
        let how = Receive { dont_wait: true, peek: true, without_fds: fds.is_none() };
        let mut tag = [0; Tag::LEN];
        let mut none = Vec::new();
        let fds = fds.unwrap_or(&mut none);
        match socket::receive(self.as_fd(), &mut [IoSliceMut::new(&mut tag)], fds, how) {
            Ok(received) if received.len == Tag::LEN && !received.truncated => {
                Ok(Some((Tag::from_bytes(tag), received.fds_lost)))
            }
            Ok(_) => Err(Error::corrupt("a queue's descriptors")),
            Err(error) if error.raw_os_error() == Some(sys::EAGAIN) => Ok(None),
            Err(error) => Err(Error::os("recvmsg")(error)),
        }
    }

    /// Takes the datagram in front away; the kernel closes its descriptors.
    fn discard(&self) -> Result<()> {
        let how = Receive { dont_wait: true, peek: false, without_fds: true };
        match socket::receive(self.as_fd(), &mut [], &mut Vec::new(), how) {
            Err(error) if error.raw_os_error() != Some(sys::EAGAIN) => {
                Err(Error::os("recvmsg")(error))
            }
            _ => Ok(()),
        }
    }
}

impl AsFd for Side {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd;

    fn copies(count: usize) -> (OwnedFd, Vec<OwnedFd>) {
        let (read, write) = fd::pipe().unwrap();
        (read, (0..count).map(|_| fd::dup(write.as_fd()).unwrap()).collect())
    }

    #[test]
    fn three_hundred_descriptors_stay_until_they_are_forgotten() {
        let side = Side::new().unwrap();
        let (read, sent) = copies(300);
        side.send(1, &sent[..2], Deadline::now(), || Ok(())).unwrap();
        side.send(2, &sent, Deadline::now(), || Ok(())).unwrap();
        drop(sent);
        for _ in 0..2 {
            let mut fds = Vec::new();
            side.copy(2, 300, &mut fds).unwrap();
            assert_eq!(fds.len(), 300);
        }
        side.forget(300).unwrap();
        assert_eq!(fd::read(read.as_fd(), &mut [0]).unwrap(), 0, "a write end is still open");
        assert!(matches!(side.copy(2, 1, &mut Vec::new()), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn a_full_socket_is_full_after_the_deadline() {
        let side = Side::new().unwrap();
        let (_read, sent) = copies(1);
        let mut full = 0;
        let refused = (1..100_000).find_map(|ticket| {
            let on_full = || {
                full += 1;
                Ok(())
            };
            side.send(ticket, &sent, Deadline::now(), on_full).err()
        });
        assert!(matches!(refused, Some(Error::Full)), "{refused:?}");
        assert_eq!(full, 1);
        side.sweep(u64::MAX).unwrap();
        side.send(1, &sent, Deadline::now(), || Ok(())).unwrap();
    }
}
