//! Bells: how who sleeps is woken.

use super::cursor::Word;
use super::ring::Inner;
use crate::sys::poll::{self, PollFd};
use crate::sys::time::Deadline;
use crate::{Error, Result, sys};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// What ended a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    ByBell,
    /// Of the last at the other end.
    ByLeaving,
    TooLate,
}

impl Inner {
    /// Rings the bell that the tail's word is about.
    pub(super) fn ring_for_items(&self, word: Word) -> Result<()> {
        sys::fd::ring(self.items_bells[word.bell()].as_fd()).map_err(Error::os("write"))
    }

    /// Rings for the producer that sleeps.
    pub(super) fn ring_for_space(&self) -> Result<()> {
        match &self.space_bell {
            Some(bell) => sys::fd::ring(bell.as_fd()).map_err(Error::os("write")),
            None => {
                let (word, op) = (&self.state().space.rung, sys::futex::Op::Set);
                sys::futex::wake_op(word, op, 1, 1).map(drop).map_err(Error::os("futex"))
            }
        }
    }

    /// Sleeps until the bell for space rings, the last reader leaves, or the deadline passes. The caller has
    /// the producers' turn, so that nobody else sleeps there.
    pub(super) fn sleep_until_space_bell(&self, deadline: Deadline) -> Result<Woken> {
        if let Some(bell) = &self.space_bell {
            return self.sleep(bell.as_fd(), &self.readers, deadline);
        }
        let rung = &self.state().space.rung;
        // Acquire: pairs with the system call of who rings.
        while rung.load(Ordering::Acquire) == 0 {
            if !sys::futex::wait(rung, 0, deadline).map_err(Error::os("futex"))? {
                return Ok(Woken::TooLate);
            }
        }
        Ok(Woken::ByBell)
    }

    /// Makes the bell for space silent; the caller has the producers' turn.
    pub(super) fn silence_space_bell(&self) -> Result<()> {
        match &self.space_bell {
            Some(bell) => sys::fd::drain(bell.as_fd()).map(drop).map_err(Error::os("read")),
            None => {
                // Relaxed: who rings once more finds the head armed again, and that orders the two.
                self.state().space.rung.store(0, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Closes the tail, which is what closes the ring.
    pub(super) fn close_tail(&self) -> Result<()> {
        /// What one call can add.
        const MOST: u32 = 2047;
        if !self.crowd {
            return self.state().tail.close(|word| self.ring_for_items(word));
        }
        self.state().tail.close(|_| Ok(()))?;
        // As in `wake_in_crowd`.
        fence(Ordering::SeqCst);
        let sleepers = self.state().items.sleepers.load(Ordering::Relaxed);
        self.add_tokens(sleepers.min(MOST), i32::MAX)
    }

    /// Whether the last process at the other end is gone, where there is such a thing as ends.
    #[inline]
    pub(super) fn is_left(&self, end: &Option<OwnedFd>) -> Result<bool> {
        let Some(end) = end else { return Ok(false) };
        poll::wait_hang_up(end.as_fd(), Deadline::now()).map_err(Error::os("ppoll"))
    }

    /// Sleeps until `bell` rings, the other end is left, or the deadline passes.
    pub(super) fn sleep(
        &self,
        bell: BorrowedFd<'_>,
        end: &Option<OwnedFd>,
        deadline: Deadline,
    ) -> Result<Woken> {
        let mut fds = [PollFd::new(bell.as_raw_fd(), poll::IN); 2];
        let mut count = 1;
        if let Some(end) = end {
            // No event is asked for: hang-up is told of always.
            fds[1] = PollFd::new(end.as_raw_fd(), 0);
            count = 2;
        }
        let ready = poll::poll(&mut fds[..count], deadline).map_err(Error::os("ppoll"))?;
        Ok(match (ready, fds[0].is_ready()) {
            (0, _) => Woken::TooLate,
            (_, true) => Woken::ByBell,
            (_, false) => Woken::ByLeaving,
        })
    }

    /// Looks for what the bell has announced, for a moment: whoever rang is about to publish it. The more
    /// `rings` came to nothing, the longer, so that a publisher who is slower than this sleeper is not woken
    /// for again and again; one who was killed has cost no more than that.
    pub(super) fn linger(&self, rings: &mut u32, found: impl Fn() -> Result<bool>) -> Result<()> {
        const LOOKS: usize = 100;
        const MOST: u32 = 12;
        if found()? {
            return Ok(());
        }
        // On the same processor the publisher cannot go on before this one lets it.
        std::thread::yield_now();
        for _ in 0..LOOKS {
            if found()? {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
        // Each pause is as long as those before it together: none is much longer than need be.
        for pause in 0..(*rings).min(MOST) {
            if found()? {
                break;
            }
            std::thread::sleep(Duration::from_micros(10 << pause));
        }
        *rings += 1;
        Ok(())
    }
}
