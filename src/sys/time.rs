//! Deadlines on `CLOCK_MONOTONIC`.

use std::time::{Duration, Instant};

/// The instant at which a blocking call gives up.
///
/// `Instant` is `CLOCK_MONOTONIC` on Linux: a stepped wall clock does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(When);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Never,
    At(Instant),
    /// It has passed, whatever the clock says: who only looks need not ask for the time, which costs a
    /// new process its first page faults in the kernel's clock.
    Passed,
}

impl Deadline {
    /// No deadline: wait for ever.
    pub(crate) const NEVER: Deadline = Deadline(When::Never);

    /// The deadline `timeout` from now; a timeout too long to represent means never.
    pub(crate) fn after(timeout: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(timeout).map_or(When::Never, When::At))
    }

    /// A deadline that has passed: look once, do not wait.
    pub(crate) fn now() -> Deadline {
        Deadline(When::Passed)
    }

    /// What is left: `None` without a deadline, zero once it has passed.
    pub(crate) fn remaining(self) -> Option<Duration> {
        match self.0 {
            When::Never => None,
            When::At(at) => Some(at.saturating_duration_since(Instant::now())),
            When::Passed => Some(Duration::ZERO),
        }
    }

    /// The deadline at `instant`.
    pub(crate) fn at(instant: Instant) -> Deadline {
        Deadline(When::At(instant))
    }

    /// When it passes, if ever.
    pub(crate) fn instant(self) -> Option<Instant> {
        match self.0 {
            When::Never => None,
            When::At(at) => Some(at),
            When::Passed => Some(Instant::now()),
        }
    }

    pub(crate) fn has_passed(self) -> bool {
        match self.0 {
            When::Never => false,
            When::At(at) => at <= Instant::now(),
            When::Passed => true,
        }
    }

    /// The earlier of the two.
    pub(crate) fn min(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (When::Never, other) | (other, When::Never) => Deadline(other),
            (When::At(a), When::At(b)) => Deadline(When::At(a.min(b))),
            _ => Deadline(When::Passed),
        }
    }
}

/// `duration` as the kernel's pair of seconds and nanoseconds, capped at what the pair can hold.
// libc warns that the type's width will change with musl's: whatever it is, its maximum is meant.
#[allow(deprecated)]
pub(crate) fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos() as _,
    }
}

/// `clock_gettime(CLOCK)` as a duration since that clock's zero.
pub(crate) fn clock(clock: libc::clockid_t) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable for the one `timespec` the call fills in; the two clocks asked for
    // here (monotonic, realtime) exist on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(clock, &mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The monotonic clock: the same in every process of the machine.
pub(crate) fn monotonic() -> Duration {
    clock(libc::CLOCK_MONOTONIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflowing_timeout_means_no_deadline() {
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
        assert_eq!(Deadline::NEVER.remaining(), None);
        assert!(!Deadline::NEVER.has_passed());
    }

    #[test]
    fn a_passed_deadline_leaves_nothing() {
        assert_eq!(Deadline::now().remaining(), Some(Duration::ZERO));
        assert!(Deadline::now().has_passed());
        assert_eq!(Deadline::NEVER.min(Deadline::now()).remaining(), Some(Duration::ZERO));
    }

    #[test]
    fn the_monotonic_clock_moves_forward() {
        let first = clock(libc::CLOCK_MONOTONIC);
        assert!(clock(libc::CLOCK_MONOTONIC) >= first);
    }
}
