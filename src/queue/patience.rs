//! Giving the processor away for a moment before sleeping, where that has paid.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Whether it has paid in this process to give the processor away once before a sleep.
///
/// Who puts may be ready to run on the same processor. If it runs while the consumer only stands back, it rings for
/// nobody and puts one message behind the other; beside a consumer that sleeps it rings for each, and is as
/// a rule interrupted by the one it has woken. But a third process may be ready as well, and keep the
/// processor for milliseconds. Which of the two it is shows in how it ended: after one in vain the next
/// sleeps begin at once, twice as many each time. So do the first of every process.
pub(super) struct Patience {
    /// How many sleeps still begin at once.
    rest: AtomicU32,
    /// How many do after one in vain.
    pause: AtomicU32,
}

impl Patience {
    const FIRST: u32 = 4;
    const LONGEST: u32 = 256;

    /// What comes later is not worth having waited for: being woken takes less.
    pub(super) const MOMENT: Duration = Duration::from_micros(200);

    pub(super) const fn new() -> Patience {
        Patience { rest: AtomicU32::new(Self::FIRST), pause: AtomicU32::new(Self::FIRST) }
    }

    /// Whether this sleep is one before which to try; [`note`](Self::note) hears how that ended.
    pub(super) fn is_due(&self) -> bool {
        // Relaxed, all of them: threads that miscount each other try once too often or too seldom.
        let rest = self.rest.load(Ordering::Relaxed);
        self.rest.store(rest.saturating_sub(1), Ordering::Relaxed);
        rest == 0
    }

    pub(super) fn note(&self, paid: bool) {
        let pause = self.pause.load(Ordering::Relaxed);
        let (rest, pause) = if paid { (0, Self::FIRST) } else { (pause, pause * 2) };
        self.rest.store(rest, Ordering::Relaxed);
        self.pause.store(pause.min(Self::LONGEST), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_vain_becomes_rarer_until_it_pays() {
        let patience = Patience::new();
        let sleeps_until_due = |paid: bool| {
            let sleeps = (0..).take_while(|_| !patience.is_due()).count();
            patience.note(paid);
            sleeps
        };
        assert_eq!([false, false, false, true].map(sleeps_until_due), [4, 4, 8, 16]);
        assert_eq!([true, false, false].map(sleeps_until_due), [0, 0, 4]);
        let sleeps: Vec<_> = (0..8).map(|_| sleeps_until_due(false)).collect();
        assert_eq!(sleeps, [8, 16, 32, 64, 128, 256, 256, 256]);
    }
}
