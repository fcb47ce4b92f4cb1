//! The workers of a pool: starting, watching and replacing them.

use super::revoked::Revoked;
use super::worker::{self, Call, Package, SLOTS, Slot, Slots, work, work_at};
use crate::process::{BURST, Burst, Child, ExitStatus, Process, Starter, Starting};
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
    pub(crate) revoked: Revoked,
    pub(crate) starter: &'static Starter,
    pub(crate) name: String,
    /// Tasks after which a worker is replaced; zero for never.
    pub(crate) limit: u64,
    /// Bytes of address space for each worker.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) initializer: Option<Call>,
}

impl Plan {
    /// The life of a worker whose memory is a copy of this process's.
    fn work_at(&self, slot: &Slot) {
        let Plan { tasks, results, revoked, limit, .. } = self;
        // A copy, since it is used up, and this one belongs to workers to come.
        let initializer = self.initializer.as_ref().map(Call::copy).transpose();
        let limit = *limit;
        work_at(worker::Place { tasks, results, revoked, slot, limit, initializer });
    }
}

/// A worker that is alive, or whose death has not been dealt with.
pub(crate) struct Worker {
    child: Child<()>,
    page: Shared<Slots>,
    place: Place,
    /// What epoll calls it.
    key: u64,
}

/// Where a worker notes what it does.
#[derive(Clone, Copy, Debug)]
struct Place {
    page: usize,
    slot: usize,
    /// How many workers had it before.
    restarts: u64,
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
        self.place.restarts
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.page[self.place.slot]
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
    free: Vec<Place>,
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

    /// Starts so many workers and has `epoll` watch them.
    ///
    /// # Errors
    /// Why one could not be started; others may have been.
    pub(crate) fn start(&mut self, count: usize, plan: &Plan, epoll: &Epoll) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let burst = left.min(BURST);
            match plan.starter.burst {
                Some(fork_all) => self.fork(fork_all, burst, plan, epoll)?,
                None => self.ask_for(burst, plan, epoll)?,
            }
            left -= burst;
        }
        Ok(())
    }

    /// Starts workers by Fork: a copy of this process has mapped and knows all that they need.
    fn fork(&mut self, fork_all: Burst, count: usize, plan: &Plan, epoll: &Epoll) -> Result<()> {
        let places = self.free_places(count)?;
        let processes = places.iter().map(|_| self.process(plan, Process::new(|| (), ())));
        let processes = processes.collect();
        let work_there = |at: usize| {
            let Place { page, slot, .. } = places[at];
            plan.work_at(&self.pages[page][slot]);
        };
        let (children, mut outcome) = fork_all(processes, &work_there);
        let mut places: Vec<_> = places.into_iter().map(Some).collect();
        for (at, child) in children {
            if let Some(place) = places[at].take() {
                outcome = outcome.and(self.watch(place, child, epoll));
            }
        }
        self.free.extend(places.into_iter().flatten());
        outcome
    }

    /// Starts workers by another method, which takes a while: all are asked for before the first is awaited.
    fn ask_for(&mut self, count: usize, plan: &Plan, epoll: &Epoll) -> Result<()> {
        let places = self.free_places(count)?;
        let begun: Vec<_> =
            places.into_iter().map(|place| (place, self.set_out(plan, place))).collect();
        let mut outcome = Ok(());
        // All of them, whatever becomes of one: what was begun is a process.
        for (place, starting) in begun {
            let watched = match starting.and_then(Starting::arrive) {
                Ok(child) => self.watch(place, child, epoll),
                Err(error) => {
                    self.free.push(place);
                    Err(error)
                }
            };
            outcome = outcome.and(watched);
        }
        outcome
    }

    fn set_out(&mut self, plan: &Plan, place: Place) -> Result<Starting<()>> {
        let package = Package {
            tasks: plan.tasks.clone(),
            results: plan.results.clone(),
            revoked: plan.revoked.clone(),
            slots: self.pages[place.page].clone(),
            slot: place.slot as u32,
            limit: plan.limit,
            initializer: plan.initializer.as_ref().map(Call::copy).transpose()?,
        };
        let process = self.process(plan, Process::new(work, (package,)));
        process.started_by(plan.starter).set_out_hidden()
    }

    /// What the next worker is as a process.
    fn process(&mut self, plan: &Plan, process: Process<()>) -> Process<()> {
        self.started += 1;
        let process = process.name(format!("{}-{}", plan.name, self.started));
        match plan.memory_limit {
            Some(bytes) => process.memory_limit(bytes),
            None => process,
        }
    }

    /// Has `epoll` watch a new worker.
    fn watch(&mut self, place: Place, child: Child<()>, epoll: &Epoll) -> Result<()> {
        let key = self.next_key;
        self.next_key += 1;
        if let Err(error) = epoll.add(child.as_fd(), key) {
            let _ = child.kill();
            let _ = child.wait();
            self.free.push(place);
            return Err(Error::os("epoll_ctl")(error));
        }
        let page = self.pages[place.page].clone();
        self.workers.push(Worker { child, page, place, key });
        Ok(())
    }

    /// Places for so many workers, as if nobody had been there before.
    fn free_places(&mut self, count: usize) -> Result<Vec<Place>> {
        let mut places = Vec::with_capacity(count);
        while places.len() < count {
            match self.free_place() {
                Ok(place) => {
                    self.pages[place.page][place.slot].reset();
                    places.push(place);
                }
                Err(error) => {
                    self.free.extend(places);
                    return Err(error);
                }
            }
        }
        Ok(places)
    }

    fn free_place(&mut self) -> Result<Place> {
        if self.free.is_empty() {
            let page = self.pages.len();
            self.pages.push(Shared::new([const { Slot::new() }; SLOTS])?);
            self.free.extend((0..SLOTS).rev().map(|slot| Place { page, slot, restarts: 0 }));
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
        let restarts = worker.place.restarts + 1;
        self.free.push(Place { restarts, ..worker.place });
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
