//! `ppoll(2)` and `epoll(7)`.

use super::time::{Deadline, timespec};
use super::{errno_result, retry};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Readable, or at the end of the stream.
pub(crate) const IN: i16 = libc::POLLIN;
/// Writable without waiting.
pub(crate) const OUT: i16 = libc::POLLOUT;

/// One descriptor and what is waited for on it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct PollFd(libc::pollfd);

impl PollFd {
    /// The descriptor must stay open until the poll returns; a closed number is reported as ready.
    pub(crate) fn new(fd: RawFd, events: i16) -> PollFd {
        PollFd(libc::pollfd { fd, events, revents: 0 })
    }

    /// Whether anything happened, hang-up and error included.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.revents != 0
    }

    /// Whether the other side is gone.
    pub(crate) fn is_hung_up(&self) -> bool {
        self.0.revents & (libc::POLLHUP | libc::POLLERR) != 0
    }
}

/// Waits until at least one of `fds` is ready, or the deadline passes, and says how many are.
pub(crate) fn poll(fds: &mut [PollFd], deadline: Deadline) -> io::Result<usize> {
    retry(|| {
        let left = deadline.remaining().map(timespec);
        let timeout = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `PollFd` is a transparent `pollfd` and `fds` holds as many as its length says;
        // `timeout` is null or points at `left`, which outlives the call; no mask is passed.
        errno_result(unsafe {
            libc::ppoll(fds.as_mut_ptr().cast(), fds.len() as _, timeout, std::ptr::null())
        })
    })
    .map(|n| n as usize)
}

/// Waits until `fd` can be read, or is at its end; false once the deadline has passed.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    poll(&mut [PollFd::new(fd.as_raw_fd(), IN)], deadline).map(|n| n > 0)
}

/// Waits until the other side of `fd` is gone; false once the deadline has passed.
pub(crate) fn wait_hang_up(fd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    poll(&mut [PollFd::new(fd.as_raw_fd(), 0)], deadline).map(|n| n > 0)
}

/// Waits until `fd` can be written; false once the deadline has passed.
pub(crate) fn wait_writable(fd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    poll(&mut [PollFd::new(fd.as_raw_fd(), OUT)], deadline).map(|n| n > 0)
}

/// A set of descriptors to wait for, kept in the kernel.
#[derive(Debug)]
pub(crate) struct Epoll(OwnedFd);

impl Epoll {
    /// `epoll_create1(EPOLL_CLOEXEC)`.
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: the call takes a flag alone.
        let fd = errno_result(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call succeeded, so `fd` is open, and nothing else has seen its number.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds `fd`, to be reported as `key` while it is readable or hung up.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
        self.control(libc::EPOLL_CTL_ADD, fd, &mut event)
    }

    /// What `fd`, which was added, is reported for from now on; a hang-up it is reported for always.
    pub(crate) fn modify(
        &self,
        fd: BorrowedFd<'_>,
        key: u64,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        let readable = if readable { libc::EPOLLIN } else { 0 };
        let writable = if writable { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: (readable | writable) as u32, u64: key };
        self.control(libc::EPOLL_CTL_MOD, fd, &mut event)
    }

    /// Adds `fd`, to be reported as `key` once for each time it is written to or becomes readable.
    pub(crate) fn add_edge(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
        let mut event = libc::epoll_event { events, u64: key };
        self.control(libc::EPOLL_CTL_ADD, fd, &mut event)
    }

    /// Adds `fd`, to be reported as `key` once its other side is gone.
    pub(crate) fn add_hang_up(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: key };
        self.control(libc::EPOLL_CTL_ADD, fd, &mut event)
    }

    /// Takes `fd` out.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        self.control(libc::EPOLL_CTL_DEL, fd, &mut event)
    }

    fn control(
        &self,
        op: i32,
        fd: BorrowedFd<'_>,
        event: &mut libc::epoll_event,
    ) -> io::Result<()> {
        // SAFETY: both descriptors are open for their borrows' lives and `event` is one event.
        errno_result(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), op, fd.as_raw_fd(), event) })?;
        Ok(())
    }

    /// Waits until something is ready or the deadline passes, and gives the keys of what is.
    pub(crate) fn wait(&self, deadline: Deadline, ready: &mut Vec<u64>) -> io::Result<()> {
        const MOST: usize = 64;
        let mut events = [const { MaybeUninit::<libc::epoll_event>::uninit() }; MOST];
        let count = retry(|| {
            // The call counts in milliseconds: round up, so that it never returns early.
            let left = deadline.remaining().map_or(-1, |left| {
                i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
            });
            // SAFETY: `events` is writable for `MOST` events.
            errno_result(unsafe {
                libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr().cast(), MOST as i32, left)
            })
        })?;
        ready.clear();
        ready.extend(events[..count as usize].iter().map(|event| {
            // SAFETY: the call has filled in the first `count` of them.
            unsafe { event.assume_init() }.u64
        }));
        Ok(())
    }
}

impl AsFd for Epoll {
    /// Readable while one of the set is ready.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fd;
    use super::*;
    use std::time::Duration;

    #[test]
    fn poll_reports_data_the_deadline_and_a_closed_number() {
        let (read, write) = fd::pipe().unwrap();
        assert!(!wait_readable(read.as_fd(), Deadline::now()).unwrap());
        assert!(!wait_readable(read.as_fd(), Deadline::after(Duration::from_millis(5))).unwrap());
        assert!(wait_writable(write.as_fd(), Deadline::NEVER).unwrap());
        fd::write(write.as_fd(), b"x").unwrap();
        assert!(wait_readable(read.as_fd(), Deadline::NEVER).unwrap());
        let mut closed = [PollFd::new(i32::MAX, IN)];
        assert_eq!(poll(&mut closed, Deadline::now()).unwrap(), 1);
        assert!(closed[0].is_ready() && closed[0].0.revents & libc::POLLNVAL != 0);
    }

    #[test]
    fn epoll_gives_the_keys_of_what_is_ready_and_refuses_twice_the_same() {
        let set = Epoll::new().unwrap();
        let (read, write) = fd::pipe().unwrap();
        set.add(read.as_fd(), 7).unwrap();
        assert_eq!(set.add(read.as_fd(), 8).unwrap_err().raw_os_error(), Some(libc::EEXIST));
        let mut ready = Vec::new();
        set.wait(Deadline::now(), &mut ready).unwrap();
        assert!(ready.is_empty());
        fd::write(write.as_fd(), b"x").unwrap();
        set.wait(Deadline::NEVER, &mut ready).unwrap();
        assert_eq!(ready, [7]);
        set.modify(read.as_fd(), 7, false, false).unwrap();
        set.wait(Deadline::now(), &mut ready).unwrap();
        assert!(ready.is_empty());
        let error = set.modify(write.as_fd(), 9, false, true).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        set.remove(read.as_fd()).unwrap();
        assert_eq!(set.remove(read.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn hang_up_is_told_apart_from_data() {
        let (read, write) = fd::pipe().unwrap();
        drop(write);
        let mut fds = [PollFd::new(read.as_raw_fd(), IN)];
        poll(&mut fds, Deadline::NEVER).unwrap();
        assert!(fds[0].is_hung_up());
        assert!(wait_hang_up(read.as_fd(), Deadline::NEVER).unwrap());
    }
}
