//! What a pool will be.

use super::Pool;
use super::core::{Core, Terms};
use super::crew::Plan;
use super::revoked::Revoked;
use super::worker::Call;
use crate::codec::Payload;
use crate::process::target::{CallOnce, EntryPoint, Target};
use crate::process::{StartMethod, Starter, chosen_or_default};
use crate::queue::{Options, Ring, default_max_bytes};
use crate::{Decode, Encode, Error, Result, Shared};
use std::sync::Arc;
use std::time::Duration;

/// A pool that is yet to be built.
///
/// # Examples
/// ```
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// let pool = multiproc::Pool::builder()
///     .processes(2)
///     .retries(3)
///     .max_tasks_per_child(100)
///     .initializer(|level: u8| println!("ready at level {level}"), (1,))
///     .build()?;
/// assert_eq!(pool.apply(|n: i32| -n, (5,))?, -5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "there is no pool until `build` is called"]
pub struct PoolBuilder {
    processes: Option<usize>,
    initializer: Option<Result<Call>>,
    limit: Option<u64>,
    method: Option<&'static Starter>,
    retries: u32,
    soft_timeout: Option<Duration>,
    task_timeout: Option<Duration>,
    max_bytes: Option<u64>,
    memory_limit: Option<u64>,
}

impl PoolBuilder {
    pub(super) fn new() -> PoolBuilder {
        PoolBuilder {
            processes: None,
            initializer: None,
            limit: None,
            method: None,
            retries: 0,
            soft_timeout: None,
            task_timeout: None,
            max_bytes: None,
            memory_limit: None,
        }
    }

    /// How many workers; by default as many as there are CPUs that this process may use.
    pub fn processes(mut self, processes: usize) -> PoolBuilder {
        self.processes = Some(processes);
        self
    }

    /// Calls `f` with `arguments`, a tuple, in every worker before its first task. If it panics, the
    /// pool fails: every task gets an error that says so.
    pub fn initializer<F, A>(mut self, f: F, arguments: A) -> PoolBuilder
    where
        F: Target<A, ()>,
        A: Encode + Decode + 'static,
    {
        let _ = f;
        let call = || {
            let entry = EntryPoint::of::<CallOnce<F, A, ()>>().locate()?;
            let Payload { bytes, fds } = Payload::of(&arguments)?;
            Ok(Call { entry, bytes, fds })
        };
        self.initializer = Some(call());
        self
    }

    /// Replaces a worker after so many tasks (chunks count as one).
    pub fn max_tasks_per_child(mut self, tasks: u64) -> PoolBuilder {
        self.limit = Some(tasks);
        self
    }

    /// How the workers come to be. By default, what [`start_method`](crate::start_method) says.
    pub fn start_method(mut self, method: StartMethod) -> PoolBuilder {
        self.method = Some(Starter::of(method));
        self
    }

    /// Marks the tasks of this pool as repeatable: one whose worker dies is run again, in another worker,
    /// up to so many times. By default none is: only the program knows whether running a task twice
    /// does harm. Those that may and those that may not go to a pool each.
    ///
    /// A task that costs one worker more than that fails with [`Error::Poison`].
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// let pool = multiproc::Pool::builder().processes(1).retries(2).build()?;
    /// let outcome = pool.apply(|| -> u32 { std::process::abort() }, ());
    /// assert!(matches!(outcome, Err(multiproc::Error::Poison { deaths: 3, .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.retries = retries;
        self
    }

    /// Ends the worker of a task that takes longer, with SIGKILL. The task fails with
    /// [`Error::TaskTimeout`] and is not tried again; the worker is replaced.
    ///
    /// The time is that of the whole chunk where tasks go out in chunks. It is watched by whoever looks
    /// after the pool: a task that nobody waits for may take longer.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// use std::time::Duration;
    ///
    /// let pool = multiproc::Pool::builder()
    ///     .processes(1)
    ///     .task_timeout(Duration::from_millis(100))
    ///     .build()?;
    /// let endless = pool.apply(|| std::thread::sleep(Duration::MAX), ());
    /// assert!(matches!(endless, Err(multiproc::Error::TaskTimeout)));
    /// assert_eq!(pool.apply(|| 1, ())?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn task_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.task_timeout = Some(timeout);
        self
    }

    /// Like [`task_timeout`](Self::task_timeout) with SIGTERM, which a task may have a handler for: if it
    /// then gives a result in time, that counts. Its worker is replaced in any case.
    pub fn soft_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.soft_timeout = Some(timeout);
        self
    }

    /// The most bytes of tasks, and of results, that wait in memory. By default a quarter of what the
    /// machine or the process's limits allow.
    pub fn max_bytes(mut self, bytes: u64) -> PoolBuilder {
        self.max_bytes = Some(bytes);
        self
    }

    /// How many bytes of address space each worker may have (`RLIMIT_AS`): what is mapped but not used
    /// counts too, and in a forked worker all that this process has mapped.
    ///
    /// A task that needs more finds allocation refused, which in Rust ends the worker by an abort
    /// unless the task allocates with care ([`Vec::try_reserve`]).
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> Result<(), multiproc::Error> {
    /// let pool = multiproc::Pool::builder().processes(1).memory_limit(1 << 30).build()?;
    /// let fits = |bytes: usize| Vec::<u8>::new().try_reserve_exact(bytes).is_ok();
    /// assert!(pool.apply(fits, (1 << 20,))?);
    /// assert!(!pool.apply(fits, (1 << 30,))?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn memory_limit(mut self, bytes: u64) -> PoolBuilder {
        self.memory_limit = Some(bytes);
        self
    }

    /// Starts the workers. It does not wait until they are ready: tasks are taken at once.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: no processes, or no tasks per child.
    /// * [`Error::NotInitialized`]: [`multiproc::init`](crate::init) has not run.
    /// * [`Error::Encode`]: the initializer's arguments cannot make the journey.
    /// * [`Error::ThreadsRunning`]: Fork, while this process has other threads.
    /// * [`Error::Os`]: the system refused memory, descriptors or processes. Those that were started
    ///   are gone again.
    pub fn build(self) -> Result<Pool> {
        let processes = self
            .processes
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        if processes == 0 {
            return Err(Error::invalid("a pool of no processes"));
        }
        if self.limit == Some(0) {
            return Err(Error::invalid("no tasks per child"));
        }
        let max_bytes = self.max_bytes.unwrap_or_else(default_max_bytes);
        let plan = Plan {
            tasks: Ring::new(Options { maxsize: 0, max_bytes, crowd: true })?,
            results: Ring::tended(max_bytes)?,
            revoked: Shared::new(Revoked::new())?,
            starter: self.method.unwrap_or_else(chosen_or_default),
            name: "PoolWorker".to_owned(),
            limit: self.limit.unwrap_or(0),
            memory_limit: self.memory_limit,
            initializer: self.initializer.transpose()?,
        };
        let terms = Terms {
            processes,
            retries: self.retries,
            soft_timeout: self.soft_timeout,
            task_timeout: self.task_timeout,
        };
        Ok(Pool { core: Arc::new(Core::new(plan, terms)?) })
    }
}
