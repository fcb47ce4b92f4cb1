//! The result of a task that was handed in.

use super::care::Begun;
use super::core::Core;
use super::job::{Job, Single};
use crate::sys::time::Deadline;
use crate::{Error, Result};
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
    answer: Arc<Single<R>>,
    /// What the tasks belong to: the answer itself, or what collects it.
    job: Arc<dyn Job>,
}

impl<R> AsyncResult<R> {
    pub(crate) fn new(
        core: Arc<Core>,
        answer: Arc<Single<R>>,
        job: Arc<dyn Job>,
    ) -> AsyncResult<R> {
        AsyncResult { core, answer, job }
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

    /// Blocks until one of these results of one pool is there, and says which: the first of them that is.
    ///
    /// A result that was taken counts as there, so take it out of the list too. For very many tasks of one
    /// function, [`imap_unordered`](crate::Pool::imap_unordered) does less work.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: no results, or results of several pools.
    /// * As [`wait`](Self::wait).
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// use multiproc::AsyncResult;
    ///
    /// let pool = multiproc::Pool::new(2)?;
    /// let double = |n: u32| 2 * n;
    /// let mut open = (0..5).map(|n| pool.apply_async(double, (n,))).collect::<Result<Vec<_>, _>>()?;
    /// let mut sum = 0;
    /// while !open.is_empty() {
    ///     let next = AsyncResult::wait_any(&open)?;
    ///     sum += open.swap_remove(next).get()?;
    /// }
    /// assert_eq!(sum, 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_any(results: &[AsyncResult<R>]) -> Result<usize> {
        let any = AsyncResult::wait_any_until(results, Deadline::NEVER)?;
        any.ok_or(Error::PoolClosed)
    }

    /// [`wait_any`](Self::wait_any) for so long: `None` once the time is over.
    ///
    /// # Errors
    /// As [`wait_any`](Self::wait_any).
    pub fn wait_any_timeout(
        results: &[AsyncResult<R>],
        timeout: Duration,
    ) -> Result<Option<usize>> {
        AsyncResult::wait_any_until(results, Deadline::after(timeout))
    }

    fn wait_any_until(results: &[AsyncResult<R>], deadline: Deadline) -> Result<Option<usize>> {
        let Some(first) = results.first() else {
            return Err(Error::invalid("no results to wait for"));
        };
        if results.iter().any(|result| !Arc::ptr_eq(&result.core, &first.core)) {
            return Err(Error::invalid("results of several pools"));
        }
        let ready = || results.iter().position(|result| result.answer.is_here());
        first.core.attend(deadline, || ready().is_some())?;
        Ok(ready())
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

    /// Has `f` called with the value when it comes, before anybody can take it; at once, if it is there.
    ///
    /// It is called by the thread that looks after the pool just then, whichever waits for a result. It
    /// should not take long. If it panics, nobody but the panic hook hears of it. It is called also if
    /// this handle is dropped meanwhile.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// let pool = multiproc::Pool::new(1)?;
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// pool.apply_async(|n: u32| n + 1, (1,))?.callback(move |n| sender.send(*n).unwrap());
    /// pool.close();
    /// pool.join()?;
    /// assert_eq!(receiver.recv(), Ok(2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Differences from Python
    /// A callback that raises ends the thread that delivers results there, and the pool hangs.
    pub fn callback(self, f: impl FnOnce(&R) + Send + 'static) -> AsyncResult<R> {
        self.answer.add_callback(Box::new(|result| {
            if let Ok(value) = result {
                f(value);
            }
        }));
        self
    }

    /// Likewise with the error, if that is what comes.
    pub fn error_callback(self, f: impl FnOnce(&Error) + Send + 'static) -> AsyncResult<R> {
        self.answer.add_callback(Box::new(|result| {
            if let Err(error) = result {
                f(error);
            }
        }));
        self
    }

    /// Takes the task back, or all those of a `map`, as far as no worker has begun with it: true if that
    /// concerned any. It then fails with [`Error::Cancelled`].
    ///
    /// A few thousand tasks may be taken back and still be in line at a time; of more, some run.
    ///
    /// # Errors
    /// * [`Error::ForeignProcess`]: this process is a fork of the one that owns the pool.
    /// * [`Error::Corrupt`]: the pool's memory was scribbled over.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// use multiproc::Error;
    ///
    /// let pool = multiproc::Pool::new(1)?;
    /// let first = pool.apply_async(|| std::thread::sleep(std::time::Duration::MAX), ())?;
    /// let second = pool.apply_async(|| 2, ())?;
    /// assert!(second.cancel()?);
    /// assert!(matches!(second.get(), Err(Error::Cancelled)));
    /// first.kill()?;
    /// assert!(matches!(first.get(), Err(Error::Cancelled)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel(&self) -> Result<bool> {
        Ok(self.core.cancel(Some(&self.job), Begun::Finish)? > 0)
    }

    /// [`cancel`](Self::cancel) that also sends SIGTERM to the workers that have begun with it, and SIGKILL
    /// to those that are not done `grace` later. They are replaced. A task that gives its result in time
    /// has done so; SIGTERM ends one that has no handler for it.
    ///
    /// That time is watched by whoever looks after the pool: somebody has to wait for a result.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub fn terminate(&self, grace: Duration) -> Result<bool> {
        Ok(self.core.cancel(Some(&self.job), Begun::Terminate(grace))? > 0)
    }

    /// [`cancel`](Self::cancel) that also kills the workers that have begun with it. They are replaced.
    /// True if any task was taken back or any worker killed.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub fn kill(&self) -> Result<bool> {
        Ok(self.core.cancel(Some(&self.job), Begun::Kill)? > 0)
    }
}

impl<R> Drop for AsyncResult<R> {
    fn drop(&mut self) {
        self.answer.abandon();
    }
}

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("ready", &self.answer.is_here()).finish()
    }
}
