//! The workers of a pool: starting, watching and replacing them.

use super::revoked::Revoked;
use super::worker::{Call, Package, SLOTS, Slot, Slots, work};
use crate::process::{Child, ExitStatus, Process, StartMethod};
use crate::queue::Ring;
use crate::sys::poll::Epoll;
use crate::sys::signal::{SIGKILL, SIGTERM};
use crate::sys::time::Deadline;
use crate::{Error, Result, Shared, sys};
use std::os::fd::AsFd;
use std::time::Duration;

/// What all workers of a pool have in common.
pub(crate) struct Plan {
    pub(crate) tasks: Ring,
    pub(crate) results: Ring,
    pub(crate) revoked: Shared<Revoked>,
    pub(crate) method: StartMethod,
    pub(crate) name: String,
    /// Tasks after which a worker is replaced; zero for never.
    pub(crate) limit: u64,
    /// Bytes of address space for each worker.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) initializer: Option<Call>,
}

/// A worker that is alive, or whose death has not been dealt with.
pub(crate) struct Worker {
    child: Child<()>,
    page: Shared<Slots>,
    slot: usize,
    /// How many workers had that slot before.
    restarts: u64,
    /// What epoll calls it.
    key: u64,
}

impl Worker {
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Sends SIGKILL, through the pidfd: never to another process that was given the same pid.
    pub(crate) fn kill(&self) -> Result<()> {
        self.child.kill()
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.page[self.slot]
    }

    /// Signals it, if it still lives.
    pub(crate) fn signal(&self, signal: i32) {
        let _ = self.child.signal(signal);
    }
}

/// The workers that are alive, and where those that come will note what they do.
pub(crate) struct Crew {
    workers: Vec<Worker>,
    pages: Vec<Shared<Slots>>,
    /// Page and slot of those that are free, and how many workers they have had.
    free: Vec<(usize, usize, u64)>,
    next_key: u64,
    started: u64,
}

impl Crew {
    pub(crate) fn new() -> Crew {
        Crew { workers: Vec::new(), pages: Vec::new(), free: Vec::new(), next_key: 1, started: 0 }
    }

    pub(crate) fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Starts a worker and has `epoll` watch it.
    pub(crate) fn start(&mut self, plan: &Plan, epoll: &Epoll) -> Result<()> {
        let (page, slot, restarts) = self.free_slot()?;
        match self.start_at(plan, epoll, page, slot, restarts) {
            Ok(worker) => {
                self.workers.push(worker);
                self.started += 1;
                Ok(())
            }
            Err(error) => {
                self.free.push((page, slot, restarts));
                Err(error)
            }
        }
    }

    fn start_at(
        &mut self,
        plan: &Plan,
        epoll: &Epoll,
        page: usize,
        slot: usize,
        restarts: u64,
    ) -> Result<Worker> {
        let page = self.pages[page].clone();
        page[slot].reset();
        let package = Package {
            tasks: plan.tasks.clone(),
            results: plan.results.clone(),
            revoked: plan.revoked.clone(),
            slots: page.clone(),
            slot: slot as u32,
            limit: plan.limit,
            initializer: plan.initializer.as_ref().map(Call::copy).transpose()?,
        };
        let mut process = Process::new(work, (package,))
            .name(format!("{}-{}", plan.name, self.started + 1))
            .start_method(plan.method);
        if let Some(bytes) = plan.memory_limit {
            process = process.memory_limit(bytes);
        }
        let child = process.start_hidden()?;
        let key = self.next_key;
        self.next_key += 1;
        if let Err(error) = epoll.add(child.as_fd(), key) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::os("epoll_ctl")(error));
        }
        Ok(Worker { child, page, slot, restarts, key })
    }

    fn free_slot(&mut self) -> Result<(usize, usize, u64)> {
        if self.free.is_empty() {
            let page = self.pages.len();
            self.pages.push(Shared::new([const { Slot::new() }; SLOTS])?);
            self.free.extend((0..SLOTS).rev().map(|slot| (page, slot, 0)));
        }
        self.free.pop().ok_or_else(|| Error::corrupt("a page without slots"))
    }

    /// Takes out the worker that epoll calls `key`, if it has ended; says how.
    pub(crate) fn bury(&mut self, key: u64, epoll: &Epoll) -> Result<Option<(Worker, ExitStatus)>> {
        let Some(at) = self.workers.iter().position(|worker| worker.key == key) else {
            return Ok(None);
        };
        let Some(status) = self.workers[at].child.try_wait()? else { return Ok(None) };
        let worker = self.workers.swap_remove(at);
        let _ = epoll.remove(worker.child.as_fd());
        if let Some(page) = self.pages.iter().position(|page| std::ptr::eq(&**page, &*worker.page))
        {
            self.free.push((page, worker.slot, worker.restarts + 1));
        }
        Ok(Some((worker, status)))
    }

    /// Ends all workers, by SIGTERM first.
    pub(crate) fn terminate(&mut self) {
        const GRACE: Duration = Duration::from_secs(1);
        self.signal_all(SIGTERM);
        let grace = Deadline::after(GRACE);
        for worker in &self.workers {
            let left = grace.remaining().unwrap_or_default();
            if !matches!(worker.child.wait_timeout(left), Ok(Some(_))) {
                let _ = worker.child.signal(SIGKILL);
                let _ = worker.child.wait();
            }
        }
        self.workers.clear();
    }

    /// Waits for all workers, which have been told that there is nothing more to do.
    pub(crate) fn dismiss(&mut self) -> Result<()> {
        while let Some(worker) = self.workers.last() {
            worker.child.wait()?;
            self.workers.pop();
        }
        Ok(())
    }

    fn signal_all(&self, signal: i32) {
        for worker in &self.workers {
            worker.signal(signal);
        }
    }
}

impl Call {
    /// The same call once more: its descriptors are copied.
    fn copy(&self) -> Result<Call> {
        let fds = self
            .fds
            .iter()
            .map(|fd| sys::fd::dup(fd.as_fd()).map_err(Error::os("fcntl(F_DUPFD_CLOEXEC)")))
            .collect::<Result<_>>()?;
        Ok(Call { entry: self.entry, bytes: self.bytes.clone(), fds })
    }
}
