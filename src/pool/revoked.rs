//! Tasks that were cancelled while they waited on the ring: whoever takes one throws it away.

use crate::{Result, Shared};
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// How many can be noted at a time.
const ROOM: usize = 4088;

crate::message! {
    /// The numbers of cancelled tasks, written by the pool and wiped by the worker that takes the task.
    ///
    /// Each number has one place, which those that share it may occupy: then a task cannot be cancelled
    /// any more.
    #[derive(Clone)]
    pub(crate) struct Revoked {
        /// One more than the number; zero in a free place.
        places: Shared<[AtomicU64; ROOM]>,
    }
}

impl Revoked {
    /// # Errors
    /// * [`Error::Os`](crate::Error::Os): the system refused memory (ENOMEM, ENOSPC) or a descriptor (EMFILE).
    pub(crate) fn new() -> Result<Revoked> {
        Ok(Revoked { places: Shared::zeroed()? })
    }

    fn place(&self, task: u64) -> &AtomicU64 {
        &self.places[task as usize % ROOM]
    }

    /// Revokes `task` unless a worker has it, or had; `taken` tells the first number that nobody took.
    ///
    /// True: it is not run. False: it runs, or did, or there is no room to note that it should not.
    pub(crate) fn revoke(&self, task: u64, taken: impl FnOnce() -> Result<u64>) -> Result<bool> {
        let place = self.place(task);
        let note = task.wrapping_add(1);
        if place.compare_exchange(0, note, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return Ok(false);
        }
        // Pairs with the fence in `is_revoked`: either the task is seen taken here, or the note there.
        fence(Ordering::SeqCst);
        let withdraw =
            || place.compare_exchange(note, 0, Ordering::SeqCst, Ordering::Relaxed).is_err();
        match taken() {
            Ok(taken) if task >= taken => Ok(true),
            // Somebody took it. Whoever wipes the note decides whether it runs.
            Ok(_) => Ok(withdraw()),
            Err(error) => {
                withdraw();
                Err(error)
            }
        }
    }

    /// Whether `task`, which the caller has just taken, was revoked.
    pub(crate) fn is_revoked(&self, task: u64) -> bool {
        fence(Ordering::SeqCst);
        let (place, note) = (self.place(task), task.wrapping_add(1));
        place.load(Ordering::Relaxed) == note
            && place.compare_exchange(note, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_revoked_before_it_is_taken_and_not_after() {
        let revoked = Revoked::new().unwrap();
        assert!(revoked.revoke(5, || Ok(5)).unwrap());
        assert!(!revoked.revoke(5 + ROOM as u64, || Ok(5)).unwrap(), "its place is occupied");
        assert!(revoked.is_revoked(5) && !revoked.is_revoked(5));
        assert!(!revoked.revoke(5, || Ok(6)).unwrap());
        assert!(!revoked.is_revoked(5));
    }
}
