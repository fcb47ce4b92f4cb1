//! A lock whose wait can end at a deadline, and which is not held by who is asleep on it for good.

use crate::sys::time::Deadline;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A value that threads use one after the other, each for as long as it likes.
///
/// The mutex is held only while the value is taken out or put back, so a thread that wants the value
/// with a deadline waits on the condition, which has a timeout where std's mutex has none.
#[derive(Debug)]
pub(super) struct Turn<T> {
    state: Mutex<State<T>>,
    freed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// `None` while somebody has it.
    value: Option<T>,
    /// How many threads sleep on `freed`.
    waiting: usize,
}

impl<T> Turn<T> {
    pub(super) fn new(value: T) -> Turn<T> {
        let state = Mutex::new(State { value: Some(value), waiting: 0 });
        Turn { state, freed: Condvar::new() }
    }

    /// Waits until the value is free, and takes it; `None` once the deadline has passed.
    pub(super) fn take(&self, deadline: Deadline) -> Option<Taken<'_, T>> {
        let mut state = self.state();
        loop {
            if let Some(value) = state.value.take() {
                return Some(Taken { turn: self, value: Some(value) });
            }
            let left = deadline.remaining();
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            state.waiting += 1;
            state = match left {
                None => self.freed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.freed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.waiting -= 1;
        }
    }

    /// No code of a caller runs under the mutex, so a poisoned one holds what a clean one would.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value, put back when this is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a, T> {
    turn: &'a Turn<T>,
    /// `Some` until the drop.
    value: Option<T>,
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("a turn holds its value until it is dropped")
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("a turn holds its value until it is dropped")
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        let mut state = self.turn.state();
        state.value = self.value.take();
        let somebody_waits = state.waiting > 0;
        drop(state);
        if somebody_waits {
            self.turn.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_value_in_use_is_waited_for_until_the_deadline() {
        let turn = Turn::new(1);
        let mut taken = turn.take(Deadline::NEVER).unwrap();
        *taken += 1;
        assert!(turn.take(Deadline::now()).is_none());
        assert!(turn.take(Deadline::after(Duration::from_millis(3))).is_none());
        drop(taken);
        assert_eq!(*turn.take(Deadline::now()).unwrap(), 2);
    }

    #[test]
    fn a_sleeping_thread_gets_the_value_when_it_is_put_back() {
        let turn = Turn::new(0);
        std::thread::scope(|scope| {
            let taken = turn.take(Deadline::NEVER).unwrap();
            for _ in 0..3 {
                scope.spawn(|| *turn.take(Deadline::NEVER).unwrap() += 1);
            }
            drop(taken);
        });
        assert_eq!(*turn.take(Deadline::now()).unwrap(), 3);
    }
}
