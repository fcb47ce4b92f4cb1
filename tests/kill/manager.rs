//! Clients of a manager, killed at each instruction of their calls, with the server as survivor; and the
//! server, killed at each instruction of serving one.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use super::support::os::{self, Page, Pid, Sight, Status};
use super::support::{in_child_within, join};
use super::trace;
use multiproc::manager::{DictProxy, LockProxy, QueueProxy, SemaphoreProxy};
use multiproc::{Error, ExitStatus, Manager, StartMethod};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// A server and what is in it; and what its clients note where a kill cannot take it back.
struct Ground {
    manager: Manager,
    lock: LockProxy,
    semaphore: SemaphoreProxy,
    queue: QueueProxy<u32>,
    dict: DictProxy<u32, u32>,
    notes: Page,
}

impl Ground {
    fn new() -> Ground {
        let manager = Manager::builder().start_method(StartMethod::Fork).start().unwrap();
        let dict = manager.dict_from([(1, 0)]).unwrap();
        let queue = manager.queue(0).unwrap();
        (1..=3).for_each(|n| queue.put(n).unwrap());
        Ground {
            lock: manager.lock().unwrap(),
            semaphore: manager.bounded_semaphore(1).unwrap(),
            queue,
            dict,
            manager,
            notes: Page::new(),
        }
    }

    fn note(&self) -> &AtomicU32 {
        self.notes.word(0)
    }

    /// Waits until the server has seen that everybody but the harness and the caller is gone.
    fn until_alone(&self) {
        let alone = |text: &str| text.starts_with("sessions=2 ") && text.contains(" parked=0");
        while !alone(&self.manager.debug_info().unwrap()) {
            std::thread::yield_now();
        }
        assert_eq!(self.manager.number_of_objects().unwrap(), 4);
    }
}

/// What the victim does, and what must be afterwards.
struct Calls {
    sleepers: usize,
    /// In the sleepers: waits for what the victim has, and gives it back.
    sleep: fn(&Ground, &Tally),
    victim: fn(&Ground, Marker),
    /// In a survivor, when the victim's session is over.
    verify: fn(&Ground),
}

impl Scenario for Calls {
    type State = Ground;

    fn setup(&self) -> Ground {
        Ground::new()
    }

    fn sleepers(&self) -> usize {
        self.sleepers
    }

    fn sleep(&self, ground: &Ground, _index: usize, tally: &Tally) {
        (self.sleep)(ground, tally);
    }

    fn victim(&self, ground: &Ground, marker: Marker) {
        (self.victim)(ground, marker);
    }

    /// It sleeps until its reply comes, which needs nobody's help.
    fn unblock(&self, _ground: &Ground) -> bool {
        true
    }

    /// The server may be about to wake them. That they come to their end with nobody acting is what the
    /// round waits for.
    fn stuck(&self, _ground: &Ground, _after: &After) -> Option<String> {
        None
    }

    fn proceed(&self, _ground: &Ground, _after: &After, _tally: &Tally) {}

    fn verify(&self, ground: &Ground) {
        ground.until_alone();
        (self.verify)(ground);
    }
}

fn sweep_calls(name: &str, calls: &Calls) {
    sweep(&Config::from_env().shortened(4), name, calls).assert_clean();
}

pub(crate) fn a_lock_comes_back_from_every_instruction_of_its_holder() {
    sweep_calls(
        "manager's lock",
        &Calls {
            sleepers: 1,
            sleep: |ground, tally| {
                if ground.lock.acquire().unwrap().owner_died() {
                    tally.owner_died();
                }
            },
            victim: |ground, marker| {
                let guard = ground.lock.acquire().unwrap();
                marker.step_from_here();
                drop(guard);
                std::mem::forget(ground.lock.acquire().unwrap());
            },
            verify: |ground| drop(ground.lock.try_acquire().unwrap().unwrap()),
        },
    );
}

pub(crate) fn a_permit_comes_back_from_every_instruction_of_its_owner() {
    sweep_calls(
        "manager's permit",
        &Calls {
            sleepers: 1,
            sleep: |ground, _| drop(ground.semaphore.permit().unwrap()),
            victim: |ground, marker| {
                let permit = ground.semaphore.permit().unwrap();
                marker.step_from_here();
                drop(permit);
                std::mem::forget(ground.semaphore.permit().unwrap());
            },
            verify: |ground| assert_eq!(ground.semaphore.value().unwrap(), 1),
        },
    );
}

pub(crate) fn an_item_that_a_getter_has_not_read_is_put_back_from_every_instruction() {
    sweep_calls(
        "manager's queue, get",
        &Calls {
            sleepers: 0,
            sleep: |_, _| {},
            victim: |ground, marker| {
                assert_eq!(ground.queue.len().unwrap(), 3);
                marker.step_from_here();
                for _ in 0..2 {
                    let item = ground.queue.get().unwrap();
                    ground.note().store(item, SeqCst);
                }
            },
            verify: |ground| {
                let noted = ground.note().load(SeqCst);
                let rest: Vec<u32> = std::iter::from_fn(|| ground.queue.try_get().ok()).collect();
                // What was noted is gone; of the next, it may have been killed with it in its hands.
                let whole: Vec<u32> = (noted + 1..=3).collect();
                assert!(rest == whole || rest == whole[1..], "{rest:?} after {noted}");
            },
        },
    );
}

pub(crate) fn what_is_put_and_set_is_there_or_not_from_every_instruction() {
    sweep_calls(
        "manager's queue and dict, put and set",
        &Calls {
            sleepers: 0,
            sleep: |_, _| {},
            victim: |ground, marker| {
                assert_eq!(ground.dict.len().unwrap(), 1);
                marker.step_from_here();
                ground.dict.insert(1, 1).unwrap();
                ground.note().store(1, SeqCst);
                ground.queue.put(4).unwrap();
                ground.note().store(2, SeqCst);
            },
            verify: |ground| {
                let noted = ground.note().load(SeqCst);
                let value = ground.dict.get(&1).unwrap();
                let rest: Vec<u32> = std::iter::from_fn(|| ground.queue.try_get().ok()).collect();
                assert!(value == Some(1) || noted == 0 && value == Some(0), "{value:?}");
                assert!(rest == [1, 2, 3, 4] || noted < 2 && rest == [1, 2, 3], "{rest:?}");
                ground.dict.insert(1, 5).unwrap();
            },
        },
    );
}

/// How long a sweep of the server may take, however thorough.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

fn is_asleep(pid: Pid) -> bool {
    let first = os::look(pid);
    matches!(first, Sight::Asleep { .. }) && os::look(pid) == first
}

fn wait_until_asleep(pid: Pid) {
    while !is_asleep(pid) {
        std::thread::yield_now();
    }
}

/// Steps the stopped server; false if it fell asleep before it had made so many steps, of which there
/// were so many.
fn step(server: Pid, steps: u64) -> (bool, u64) {
    for stepped in 0..steps {
        trace::step(server, 0);
        loop {
            match os::wait_or_tick(server) {
                Some(Status::Stopped(_)) => break,
                None if !is_asleep(server) => {}
                _ => return (false, stepped),
            }
        }
    }
    (true, steps)
}

/// One round: the server asleep, a client that waits in it, another that calls; the server is killed after
/// so many instructions. False if it had served the call before, with how many it made.
fn kill_server(steps: u64) -> (bool, u64) {
    let ground = Ground::new();
    let empty = ground.manager.queue::<u32>(0).unwrap();
    let server = ground.manager.pid().unwrap() as Pid;
    let waiter = os::fork(|| {
        let outcome = empty.get();
        assert!(matches!(outcome, Err(Error::Disconnected)), "{outcome:?}");
    });
    let caller = os::fork(|| {
        assert_eq!(ground.dict.len().unwrap(), 1);
        ground.note().store(1, SeqCst);
        while ground.note().load(SeqCst) < 2 {
            os::futex_wait(ground.note(), 1);
        }
        let outcome = ground.dict.insert(1, 1);
        assert!(matches!(outcome, Ok(()) | Err(Error::Disconnected)), "{outcome:?}");
        while ground.note().load(SeqCst) < 3 {
            os::futex_wait(ground.note(), 2);
        }
        let refused = ground.dict.len();
        assert!(matches!(refused, Err(Error::Disconnected | Error::Os { .. })), "{refused:?}");
    });
    while ground.note().load(SeqCst) == 0
        || !ground.manager.debug_info().unwrap().contains(" parked=1")
    {
        std::thread::yield_now();
    }
    wait_until_asleep(server);
    trace::seize(server);
    while !matches!(os::wait_or_tick(server), Some(Status::Stopped(_))) {}
    wait_until_asleep(caller);
    ground.note().store(2, SeqCst);
    os::futex_wake(ground.note(), 1);
    // Its request is on its way when it sleeps again.
    wait_until_asleep(caller);
    let (midway, stepped) = step(server, steps);
    os::signal(server, libc::SIGKILL);
    assert_eq!(ground.manager.join().unwrap(), ExitStatus::Killed(libc::SIGKILL));
    ground.note().store(3, SeqCst);
    os::futex_wake(ground.note(), 1);
    join(waiter);
    join(caller);
    (midway, stepped)
}

pub(crate) fn a_server_killed_at_any_instruction_of_a_call_leaves_no_client_waiting() {
    in_child_within(PATIENCE, || {
        let _ticks = os::Ticks::every(Duration::from_millis(2));
        let (_, length) = kill_server(u64::MAX);
        let stride = Config::from_env().shortened(4).stride_for(length as usize) as u64;
        let mut steps = os::own_pid() as u64 % stride;
        let mut kills = 1;
        while kill_server(steps).0 {
            steps += stride;
            kills += 1;
        }
        os::complain(&format!(
            "  manager's server: {kills} kills over {length}, stride {stride}\n"
        ));
        assert!(kills > 1);
    });
}
