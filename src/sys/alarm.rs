//! `timerfd`: a descriptor that is readable from some time on.

use super::time::timespec;
use super::{errno_result, fd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// A clock that rings once.
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    /// `timerfd_create(CLOCK_MONOTONIC)`: one that is not set.
    pub(crate) fn new() -> io::Result<Alarm> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: the call takes numbers alone.
        let fd = errno_result(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the call succeeded, so `fd` is open, and nothing else has seen its number.
        Ok(Alarm(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// `timerfd_settime`: it rings at `at` and not before, whatever it was set to.
    pub(crate) fn set(&self, at: Instant) -> io::Result<()> {
        // Zero would mean never.
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        set(self.as_fd(), left)
    }

    /// Takes note that it has rung.
    pub(crate) fn heard(&self) {
        // It fails where it was set anew meanwhile, and then rings again.
        let _ = fd::drain(self.as_fd());
    }
}

fn set(timer: BorrowedFd<'_>, left: Duration) -> io::Result<()> {
    let never = timespec(Duration::ZERO);
    let setting = libc::itimerspec { it_interval: never, it_value: timespec(left) };
    // SAFETY: `setting` is readable for one setting; the old one is not asked for.
    errno_result(unsafe {
        libc::timerfd_settime(timer.as_raw_fd(), 0, &setting, std::ptr::null_mut())
    })
    .map(drop)
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::poll;
    use super::super::time::Deadline;
    use super::*;

    #[test]
    fn it_rings_once_when_it_is_time_and_not_before() {
        let alarm = Alarm::new().unwrap();
        assert!(!poll::wait_readable(alarm.as_fd(), Deadline::now()).unwrap());
        alarm.set(Instant::now() + Duration::from_secs(3600)).unwrap();
        assert!(!poll::wait_readable(alarm.as_fd(), Deadline::now()).unwrap());
        let at = Instant::now() + Duration::from_millis(5);
        alarm.set(at).unwrap();
        assert!(poll::wait_readable(alarm.as_fd(), Deadline::NEVER).unwrap());
        assert!(Instant::now() >= at);
        alarm.heard();
        assert!(!poll::wait_readable(alarm.as_fd(), Deadline::now()).unwrap());
        alarm.set(at).unwrap();
        assert!(poll::wait_readable(alarm.as_fd(), Deadline::NEVER).unwrap(), "of the past");
    }

    #[test]
    fn what_is_no_alarm_is_refused() {
        let (read, _write) = fd::pipe().unwrap();
        let error = set(read.as_fd(), Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
