//! The library bound to one start method.

use crate::manager::{Manager, ManagerBuilder};
use crate::pool::{Pool, PoolBuilder};
use crate::{Decode, Encode, Process, StartMethod, Target};

/// The library bound to one start method: what it makes is started by that, whatever the program has
/// chosen with [`set_start_method`](crate::set_start_method).
///
/// What needs no process (queues, locks, connections, values) is the same in every context, and may go
/// to the processes of any.
///
/// # Differences from Python
/// `get_context()` without a name is `Context::default()`, the program's choice at that time.
///
/// # Examples
/// ```
/// use multiproc::{Context, StartMethod};
///
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// let context = Context::new(StartMethod::ForkServer);
/// let child = context.process(|n: u64| n * n, (12,)).start()?;
/// assert_eq!(child.join()?, 144);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    method: StartMethod,
}

impl Context {
    /// The context of this start method.
    #[doc(alias = "get_context")]
    pub fn new(method: StartMethod) -> Context {
        Context { method }
    }

    /// The start method of what this context makes.
    #[doc(alias = "get_start_method")]
    pub fn start_method(self) -> StartMethod {
        self.method
    }

    /// As [`Process::new`], to be started by this context's method.
    pub fn process<F, A, R>(self, f: F, arguments: A) -> Process<R>
    where
        F: Target<A, R>,
        A: Encode + Decode + 'static,
        R: Encode + Decode + 'static,
    {
        Process::new(f, arguments).start_method(self.method)
    }

    /// As [`Manager::builder`], for a server that is started by this context's method.
    pub fn manager(self) -> ManagerBuilder {
        Manager::builder().start_method(self.method)
    }

    /// As [`Pool::builder`], for workers that are started by this context's method.
    pub fn pool(self) -> PoolBuilder {
        Pool::builder().start_method(self.method)
    }
}

impl Default for Context {
    /// The context of the method that the program has chosen.
    fn default() -> Context {
        Context::new(crate::start_method())
    }
}

impl From<StartMethod> for Context {
    fn from(method: StartMethod) -> Context {
        Context::new(method)
    }
}
