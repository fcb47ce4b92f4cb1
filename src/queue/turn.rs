//! Taking a turn: the robust lock of the one that puts, or of the one that gets.

use crate::region::{RawLock, RawLockGuard};
use crate::sys::time::Deadline;
use crate::{Error, Result};
use std::time::Duration;

/// How long somebody who does not want to wait still waits for another to finish what it does: the copying of
/// a message, and that the system has not taken the processor away for longer than it usually does.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// Takes a turn within the time allowed; `None` once that is over and `hopeless` says that who has the
/// turn cannot go on, either.
///
/// A holder that can go on is about to: a caller who does not want to wait still waits for it, since
/// what it asked for is there.
pub(super) fn take_turn<'a>(
    turn: &'a RawLock,
    deadline: Deadline,
    hopeless: impl Fn() -> Result<bool>,
) -> Result<Option<RawLockGuard<'a>>> {
    const SLICE: Duration = Duration::from_millis(1);
    if let Some(guard) = turn.try_acquire().map_err(scribbled)? {
        return Ok(Some(guard));
    }
    if !hopeless()? {
        spin(turn);
    }
    if let Some(guard) = turn.acquire_until(deadline).map_err(scribbled)? {
        return Ok(Some(guard));
    }
    let grace = Deadline::after(GRACE);
    while !hopeless()? && !grace.has_passed() {
        if let Some(guard) = turn.acquire_until(Deadline::after(SLICE)).map_err(scribbled)? {
            return Ok(Some(guard));
        }
    }
    Ok(None)
}

/// A queue's locks are in shared memory from the first: one that looks as if it never was had its bytes
/// overwritten by zeros.
fn scribbled(error: Error) -> Error {
    match error {
        Error::InvalidArgument { .. } => Error::corrupt("a queue's lock"),
        error => error,
    }
}

/// Waits for a holder that is at work to finish, for about as long as that takes: sleeping costs more.
fn spin(turn: &RawLock) {
    const LOOKS: usize = 100;
    for _ in 0..LOOKS {
        if !turn.locked() {
            break;
        }
        std::hint::spin_loop();
    }
}
