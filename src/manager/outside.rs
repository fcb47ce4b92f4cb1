//! Answers from other threads of the server's process, for what cannot but block a thread.

use super::protocol;
use super::served::{Answer, Ticket};
use crate::codec::Payload;
use crate::{Encode, Error, Result, sys};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// Where other threads leave answers to calls that wait, and the bell that wakes the server.
#[derive(Debug)]
pub(super) struct Outside {
    answers: Mutex<Vec<Answer>>,
    bell: OwnedFd,
}

impl Outside {
    pub(super) fn new() -> Result<Outside> {
        let bell = sys::fd::eventfd(true).map_err(Error::os("eventfd"))?;
        Ok(Outside { answers: Mutex::default(), bell })
    }

    /// Answers a call with what another thread has found.
    pub(super) fn answer<R: Encode>(&self, ticket: Ticket, outcome: Result<&R, &Error>) {
        let mut payload = Payload::default();
        match outcome {
            Ok(value) => {
                if let Err(error) = protocol::push_value(&mut payload, value) {
                    protocol::push_error(&mut payload, &error);
                }
            }
            Err(error) => protocol::push_error(&mut payload, error),
        }
        self.deliver(Answer { ticket, payload, lent: false });
    }

    /// As [`answer`](Self::answer), with something that stays the object's, an error too: it is settled
    /// later, if this is true. Otherwise it cannot be encoded, and the call was answered so.
    pub(super) fn lend<R: Encode>(&self, ticket: Ticket, outcome: Result<R, &Error>) -> bool {
        let mut payload = Payload::default();
        let pushed = match outcome {
            Ok(value) => protocol::push_value(&mut payload, &value),
            Err(error) => {
                protocol::push_error(&mut payload, error);
                Ok(())
            }
        };
        if let Err(error) = &pushed {
            protocol::push_error(&mut payload, error);
        }
        self.deliver(Answer { ticket, payload, lent: pushed.is_ok() });
        pushed.is_ok()
    }

    fn deliver(&self, answer: Answer) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        // It fails where the counter is full: then it rings already.
        let _ = sys::fd::ring(self.bell.as_fd());
    }

    pub(super) fn take(&self) -> Vec<Answer> {
        // The bell first: what is left after that rings again.
        let _ = sys::fd::drain(self.bell.as_fd());
        std::mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsFd for Outside {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
