//! The result of a task that was handed in.

use super::core::Core;
use super::job::Single;
use crate::sys::time::Deadline;
use crate::{Decode, Error, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A result that is, or will be, there: what [`Pool::apply_async`](crate::Pool::apply_async) and the
/// other asynchronous forms give.
///
/// Dropping it leaves the task alone; its result is thrown away when it comes.
///
/// # Examples
/// ```
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// let pool = multiproc::Pool::new(1)?;
/// let result = pool.apply_async(|n: u32| n + 1, (41,))?;
/// assert_eq!(result.get()?, 42);
/// # Ok(())
/// # }
/// ```
pub struct AsyncResult<R> {
    core: Arc<Core>,
    answer: Arc<dyn Answer<R>>,
}

/// What an asynchronous result is taken from.
pub(crate) trait Answer<R>: Send + Sync {
    /// Whether everything has arrived.
    fn is_here(&self) -> bool;
    /// Whether it is a success; `None` while it is not here.
    fn is_success(&self) -> Option<bool>;
    /// Takes it.
    fn take(&self) -> Result<R>;
}

impl<R: Decode + Send> Answer<R> for Single<R> {
    fn is_here(&self) -> bool {
        Single::is_here(self)
    }

    fn is_success(&self) -> Option<bool> {
        Single::is_success(self)
    }

    fn take(&self) -> Result<R> {
        Single::take(self)
    }
}

impl<R> AsyncResult<R> {
    pub(crate) fn new(core: Arc<Core>, answer: Arc<dyn Answer<R>>) -> AsyncResult<R> {
        AsyncResult { core, answer }
    }

    fn get_until(&self, deadline: Deadline) -> Result<R> {
        if self.core.attend(deadline, || self.answer.is_here())? {
            self.answer.take()
        } else {
            Err(Error::TimeoutError)
        }
    }

    /// Blocks until the result is there, and takes it.
    ///
    /// # Blocking
    /// While it waits, the calling thread looks after the pool: it receives the results of other calls
    /// too, and replaces workers that died.
    ///
    /// # If a process dies
    /// A worker that is killed while it runs the task makes this [`Error::WorkerDied`], unless the pool
    /// was told to retry.
    ///
    /// # Errors
    /// * [`Error::Panicked`], or what else became of the task.
    /// * [`Error::WorkerDied`], [`Error::PoolClosed`].
    /// * [`Error::Taken`]: the result was taken before.
    /// * [`Error::ForeignProcess`]: this process is a fork of the one that owns the pool.
    pub fn get(&self) -> Result<R> {
        self.get_until(Deadline::NEVER)
    }

    /// Takes the result if it is there.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: it is not.
    /// * As [`get`](Self::get).
    pub fn try_get(&self) -> Result<R> {
        self.get_until(Deadline::now())
    }

    /// Blocks until the result is there, and takes it, unless the time is over first.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: the time is over; the task goes on, and its result can be taken later.
    /// * As [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<R> {
        self.get_until(Deadline::after(timeout))
    }

    /// Blocks until the result is there, and leaves it.
    ///
    /// # Errors
    /// * [`Error::ForeignProcess`]: this process is a fork of the one that owns the pool.
    /// * [`Error::Os`]: the system refused to wait.
    pub fn wait(&self) -> Result<()> {
        self.core.attend(Deadline::NEVER, || self.answer.is_here()).map(drop)
    }

    /// Blocks until the result is there (true) or the time is over (false).
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        self.core.attend(Deadline::after(timeout), || self.answer.is_here())
    }

    /// Whether the result is there. It takes in what has arrived.
    pub fn ready(&self) -> bool {
        // One look that is not over before it has begun.
        let _ = self.core.collect();
        self.answer.is_here()
    }

    /// Whether the task went well: false if an error is what is there.
    ///
    /// # Errors
    /// * [`Error::TimeoutError`]: nothing is there yet.
    pub fn successful(&self) -> Result<bool> {
        let _ = self.core.collect();
        self.answer.is_success().ok_or(Error::TimeoutError)
    }
}

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("ready", &self.answer.is_here()).finish()
    }
}
