//! Calls that wait in the server.

use super::PATIENCE;
use super::support::watchdog;
use multiproc::manager::{
    BarrierProxy, ConditionProxy, EventProxy, LockProxy, QueueProxy, RLockProxy, SemaphoreProxy,
};
use multiproc::{BarrierBreak, Error, Manager, Process};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);

/// Says that it has got so far, and waits to be killed.
fn linger(event: &EventProxy) -> multiproc::Result<()> {
    event.set()?;
    loop {
        std::thread::park();
    }
}

fn take_lock_and_linger(lock: LockProxy, event: EventProxy) -> multiproc::Result<()> {
    std::mem::forget(lock.acquire()?);
    linger(&event)
}

#[test]
fn a_lock_is_taken_in_a_child_and_released_here() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (lock, event) = (manager.lock().unwrap(), manager.event().unwrap());
    let child = Process::new(take_lock_and_linger, (lock.clone(), event.clone())).start().unwrap();
    event.wait().unwrap();
    assert!(lock.locked().unwrap() && lock.try_acquire().unwrap().is_none());
    lock.release().unwrap();
    assert!(lock.release().is_err());
    assert!(!lock.acquire().unwrap().owner_died());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_lock_whose_holder_is_killed_goes_to_the_next() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (lock, event) = (manager.lock().unwrap(), manager.event().unwrap());
    let child = Process::new(take_lock_and_linger, (lock.clone(), event.clone())).start().unwrap();
    event.wait().unwrap();
    let other = lock.clone();
    let waiter = std::thread::spawn(move || other.acquire().unwrap().owner_died());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(waiter.join().unwrap());
    assert!(!lock.acquire().unwrap().owner_died());
}

#[test]
fn acquiring_gives_up_when_the_time_is_up() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let lock = manager.lock().unwrap();
    let guard = lock.acquire().unwrap();
    let start = Instant::now();
    assert!(lock.acquire_timeout(SHORT).unwrap().is_none());
    assert!(start.elapsed() >= SHORT);
    drop(guard);
    assert!(lock.acquire_timeout(Duration::MAX).unwrap().is_some());
}

fn use_rlock(lock: RLockProxy) -> multiproc::Result<bool> {
    let outer = lock.acquire()?;
    let inner = lock.acquire()?;
    drop(inner);
    let held = lock.locked()?;
    drop(outer);
    Ok(held)
}

#[test]
fn an_rlock_is_its_threads_until_the_last_release() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let lock = manager.rlock().unwrap();
    assert!(Process::new(use_rlock, (lock.clone(),)).start().unwrap().join().unwrap().unwrap());
    let guard = lock.acquire().unwrap();
    let _again = lock.try_acquire().unwrap().unwrap();
    let other = lock.clone();
    std::thread::spawn(move || {
        assert!(other.try_acquire().unwrap().is_none());
        assert!(other.release().is_err());
    })
    .join()
    .unwrap();
    drop(guard);
    assert!(lock.locked().unwrap());
}

fn take_permit_and_linger(semaphore: SemaphoreProxy, event: EventProxy) -> multiproc::Result<()> {
    std::mem::forget(semaphore.permit()?);
    semaphore.acquire()?;
    linger(&event)
}

#[test]
fn permits_of_a_killed_process_come_back_and_bare_ones_do_not() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (semaphore, event) = (manager.bounded_semaphore(2).unwrap(), manager.event().unwrap());
    let arguments = (semaphore.clone(), event.clone());
    let child = Process::new(take_permit_and_linger, arguments).start().unwrap();
    event.wait().unwrap();
    assert_eq!(semaphore.value().unwrap(), 0);
    assert!(!semaphore.try_acquire().unwrap() && semaphore.locked().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    let permit = semaphore.permit().unwrap();
    assert!(!semaphore.acquire_timeout(SHORT).unwrap());
    drop(permit);
    semaphore.release().unwrap();
    assert_eq!(semaphore.value().unwrap(), 2);
    assert!(semaphore.release().is_err());
}

fn wait_for_number(
    condition: ConditionProxy,
    number: multiproc::manager::ValueProxy<u32>,
) -> multiproc::Result<bool> {
    let _guard = condition.acquire()?;
    condition.wait_for(|| number.get().is_ok_and(|number| number == 4))
}

#[test]
fn a_condition_wakes_who_waits_for_what_has_become_true() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (condition, number) = (manager.condition().unwrap(), manager.value(0u32).unwrap());
    let child = Process::new(wait_for_number, (condition.clone(), number.clone())).start().unwrap();
    for value in 1..=4 {
        let _guard = condition.acquire().unwrap();
        number.set(value).unwrap();
        condition.notify_all().unwrap();
    }
    assert!(child.join().unwrap().unwrap());
    assert!(condition.notify(1).is_err(), "the lock is not held");
    let _guard = condition.acquire().unwrap();
    let _again = condition.acquire().unwrap();
    assert!(!condition.wait_timeout(SHORT).unwrap());
    assert!(!condition.wait_for_timeout(|| false, SHORT).unwrap());
}

#[test]
fn an_event_wakes_all_who_wait() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let event = manager.event().unwrap();
    assert!(!event.wait_timeout(SHORT).unwrap() && !event.is_set().unwrap());
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let event = event.clone();
            std::thread::spawn(move || event.wait().unwrap())
        })
        .collect();
    event.set().unwrap();
    assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
    event.clear().unwrap();
    assert!(!event.is_set().unwrap());
}

fn pass(barrier: BarrierProxy) -> multiproc::Result<usize> {
    barrier.wait()
}

#[test]
fn a_barrier_lets_all_parties_go_together() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let barrier = manager.barrier(3).unwrap();
    assert_eq!(barrier.parties().unwrap(), 3);
    for _ in 0..2 {
        let start = || Process::new(pass, (barrier.clone(),)).start().unwrap();
        let (a, b) = (start(), start());
        let mine = barrier.wait().unwrap();
        let mut all = [mine, a.join().unwrap().unwrap(), b.join().unwrap().unwrap()];
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
    }
    let cause = |error| match error {
        Err(Error::BrokenBarrierError { cause }) => cause,
        other => panic!("{other:?}"),
    };
    assert_eq!(cause(barrier.wait_timeout(SHORT)), BarrierBreak::TimedOut);
    assert!(barrier.is_broken().unwrap());
    barrier.reset().unwrap();
    assert!(!barrier.is_broken().unwrap());
    barrier.abort().unwrap();
    assert_eq!(cause(barrier.wait()), BarrierBreak::Aborted);
}

#[test]
fn a_barrier_breaks_when_a_party_is_killed() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let barrier = manager.barrier(3).unwrap();
    let child = Process::new(pass, (barrier.clone(),)).start().unwrap();
    while barrier.waiting().unwrap() == 0 {
        std::thread::yield_now();
    }
    let mine = barrier.clone();
    let waiter = std::thread::spawn(move || mine.wait());
    while barrier.waiting().unwrap() < 2 {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let broken = waiter.join().unwrap();
    assert!(matches!(broken, Err(Error::BrokenBarrierError { .. })), "{broken:?}");
}

#[test]
fn a_queue_has_size_order_and_limits() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let queue = manager.queue(2).unwrap();
    assert!(queue.is_empty().unwrap() && matches!(queue.try_get(), Err(Error::Empty)));
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    assert!(queue.is_full().unwrap());
    assert_eq!((queue.len().unwrap(), queue.maxsize().unwrap()), (2, 2));
    assert!(matches!(queue.try_put(3), Err(Error::Full)));
    let start = Instant::now();
    assert!(matches!(queue.put_timeout(3, SHORT), Err(Error::Full)));
    assert!(start.elapsed() >= SHORT);
    assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (1, 2));
    assert!(matches!(queue.get_timeout(SHORT), Err(Error::Empty)));
}

fn work(queue: QueueProxy<u32>, done: QueueProxy<u32>) -> multiproc::Result<()> {
    loop {
        let item = queue.get()?;
        if item == 0 {
            return Ok(());
        }
        done.put(item * 2)?;
        queue.task_done()?;
    }
}

#[test]
fn a_queue_is_joined_when_all_its_items_are_done() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (queue, done) = (manager.joinable_queue(3).unwrap(), manager.queue(0).unwrap());
    let children: Vec<_> = (0..2)
        .map(|_| Process::new(work, (queue.clone(), done.clone())).start().unwrap())
        .collect();
    (1..=50).for_each(|n| queue.put(n).unwrap());
    queue.join().unwrap();
    assert!(queue.task_done().is_err());
    let mut results: Vec<_> = (0..50).map(|_| done.try_get().unwrap()).collect();
    results.sort_unstable();
    assert_eq!(results, (1..=50).map(|n| n * 2).collect::<Vec<_>>());
    queue.put(0).unwrap();
    queue.put(0).unwrap();
    children.into_iter().for_each(|child| child.join().unwrap().unwrap());
    assert!(!queue.join_timeout(SHORT).unwrap());
}

fn get_one(queue: QueueProxy<u32>, event: EventProxy) -> multiproc::Result<u32> {
    event.set()?;
    queue.get()
}

#[test]
fn what_a_killed_getter_waited_for_goes_to_another() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (queue, event) = (manager.queue(0).unwrap(), manager.event().unwrap());
    let child = Process::new(get_one, (queue.clone(), event.clone())).start().unwrap();
    event.wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Its sockets were closed before this could be answered.
    while manager.debug_info().unwrap().contains("sessions=2") {
        std::thread::yield_now();
    }
    queue.put(7).unwrap();
    assert_eq!(queue.get().unwrap(), 7);
}

fn get_two(queue: QueueProxy<u32>, done: QueueProxy<u32>) -> multiproc::Result<()> {
    done.put(queue.get()?)?;
    done.put(queue.get()?)?;
    loop {
        std::thread::park();
    }
}

#[test]
fn what_a_getter_has_got_before_it_was_killed_does_not_come_back() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (queue, done) = (manager.queue(0).unwrap(), manager.queue(0).unwrap());
    (1..=3).for_each(|n| queue.put(n).unwrap());
    let child = Process::new(get_two, (queue.clone(), done.clone())).start().unwrap();
    assert_eq!((done.get().unwrap(), done.get().unwrap()), (1, 2));
    child.kill().unwrap();
    child.wait().unwrap();
    while manager.debug_info().unwrap().contains("sessions=2") {
        std::thread::yield_now();
    }
    assert_eq!((queue.get().unwrap(), queue.len().unwrap()), (3, 0));
}

fn wait_in_vain(
    condition: ConditionProxy,
    queue: QueueProxy<u32>,
    event: EventProxy,
) -> multiproc::Result<()> {
    let waiting = condition.clone();
    std::thread::spawn(move || {
        let _guard = waiting.acquire()?;
        waiting.wait()
    });
    let putting = queue.clone();
    std::thread::spawn(move || putting.put(2));
    let joining = queue.clone();
    std::thread::spawn(move || joining.join());
    event.wait().map(drop)
}

#[test]
fn what_a_killed_process_waited_for_goes_on_without_it() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (condition, queue) = (manager.condition().unwrap(), manager.queue(1).unwrap());
    let event = manager.event().unwrap();
    queue.put(1).unwrap();
    let arguments = (condition.clone(), queue.clone(), event.clone());
    let child = Process::new(wait_in_vain, arguments).start().unwrap();
    while !manager.debug_info().unwrap().contains("parked=4") {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    while !manager.debug_info().unwrap().contains("sessions=1 ") {
        std::thread::yield_now();
    }
    assert!(manager.debug_info().unwrap().contains("parked=0"));
    // The item that it was about to put went with it, and so did its place among the sleepers.
    assert_eq!(queue.get().unwrap(), 1);
    assert!(queue.is_empty().unwrap());
    let other = condition.clone();
    let waiter = std::thread::spawn(move || {
        let _guard = other.acquire().unwrap();
        other.wait().unwrap()
    });
    while !manager.debug_info().unwrap().contains("parked=1") {
        std::thread::yield_now();
    }
    let _guard = condition.acquire().unwrap();
    condition.notify(1).unwrap();
    drop(_guard);
    assert!(waiter.join().unwrap());
}

fn hold_and_wait(lock: LockProxy, condition: ConditionProxy) -> multiproc::Result<bool> {
    let _guard = lock.acquire()?;
    condition.wait()
}

#[test]
fn a_condition_may_have_a_lock_that_is_there_already() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (lock, rlock) = (manager.lock().unwrap(), manager.rlock().unwrap());
    let conditions: Vec<_> = (0..2).map(|_| manager.condition_with_lock(&lock).unwrap()).collect();
    let arguments = (lock.clone(), conditions[0].clone());
    let child = Process::new(hold_and_wait, arguments).start().unwrap();
    while !manager.debug_info().unwrap().contains("parked=1") {
        std::thread::yield_now();
    }
    assert!(conditions[0].notify(1).is_err(), "the lock is not held");
    let guard = lock.acquire().unwrap();
    assert!(conditions[1].locked().unwrap() && conditions[1].try_acquire().unwrap().is_none());
    conditions[1].notify_all().unwrap();
    conditions[0].notify_all().unwrap();
    drop(guard);
    assert!(child.join().unwrap().unwrap());

    // Killed in the wait, it leaves the lock to others.
    let arguments = (lock.clone(), conditions[0].clone());
    let child = Process::new(hold_and_wait, arguments).start().unwrap();
    while !manager.debug_info().unwrap().contains("parked=1") {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lock);
    drop(conditions[0].acquire().unwrap());

    let condition = manager.condition_with_rlock(&rlock).unwrap();
    let (_outer, _inner) = (rlock.acquire().unwrap(), condition.acquire().unwrap());
    assert!(!condition.wait_timeout(SHORT).unwrap());
    let elsewhere = Manager::start().unwrap().rlock().unwrap();
    assert!(manager.condition_with_rlock(&elsewhere).is_err());
}

static ROUNDS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

fn count_round() {
    ROUNDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

fn refuse_the_second_round() {
    count_round();
    assert!(ROUNDS.load(std::sync::atomic::Ordering::Relaxed) < 2, "no second round");
}

#[test]
fn a_barrier_acts_before_anybody_leaves_and_breaks_when_the_action_panics() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let barrier = manager.barrier_with(2, None, refuse_the_second_round).unwrap();
    let number = manager.value(0u32).unwrap();
    let rounds = || {
        let see = |number: &mut multiproc::manager::Value<u32>, ()| {
            **number = ROUNDS.load(std::sync::atomic::Ordering::Relaxed);
            **number
        };
        number.apply(see, ()).unwrap()
    };
    let other = barrier.clone();
    let thread = std::thread::spawn(move || (other.wait(), other.wait()));
    barrier.wait().unwrap();
    assert_eq!(rounds(), 1);
    let mine = barrier.wait();
    let (first, second) = thread.join().unwrap();
    first.unwrap();
    let outcomes = [mine, second].map(|outcome| match outcome {
        Err(Error::Panicked { message, .. }) => message,
        Err(Error::BrokenBarrierError { cause: BarrierBreak::ActionPanicked }) => String::new(),
        other => panic!("{other:?}"),
    });
    assert!(outcomes.contains(&"no second round".to_string()), "{outcomes:?}");
    assert!(barrier.is_broken().unwrap());
    assert_eq!(rounds(), 2);
}

#[test]
fn a_barrier_has_a_timeout_of_its_own() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let barrier = manager.barrier_timeout(2, SHORT).unwrap();
    let start = Instant::now();
    let broken = barrier.wait();
    let timed_out = BarrierBreak::TimedOut;
    assert!(matches!(broken, Err(Error::BrokenBarrierError { cause }) if cause == timed_out));
    assert!(start.elapsed() >= SHORT);
    let alone = manager.barrier(1).unwrap();
    assert_eq!((alone.wait().unwrap(), alone.wait().unwrap()), (0, 0));
}

/// Threads that wait for a condition, each for so long; what each has got.
fn sleepers(
    condition: &ConditionProxy,
    count: usize,
    timeout: Duration,
) -> Vec<std::thread::JoinHandle<bool>> {
    let sleep = |condition: ConditionProxy| {
        move || {
            let _guard = condition.acquire().unwrap();
            condition.wait_timeout(timeout).unwrap()
        }
    };
    (0..count).map(|_| std::thread::spawn(sleep(condition.clone()))).collect()
}

fn until_parked(manager: &Manager, count: usize) {
    while !manager.debug_info().unwrap().contains(&format!("parked={count}")) {
        std::thread::yield_now();
    }
}

#[test]
fn a_condition_wakes_as_many_as_it_was_told() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let condition = manager.condition().unwrap();
    for sleeper in sleepers(&condition, 6, SHORT) {
        assert!(!sleeper.join().unwrap(), "nobody notified");
    }
    let waiting = sleepers(&condition, 6, Duration::MAX);
    until_parked(&manager, 6);
    let notify = |count| {
        let _guard = condition.acquire().unwrap();
        condition.notify(count).unwrap();
    };
    notify(2);
    until_parked(&manager, 4);
    notify(9);
    assert!(waiting.into_iter().all(|sleeper| sleeper.join().unwrap()));
    // What nobody waited for is not kept for later.
    notify(1);
    assert!(!sleepers(&condition, 1, SHORT).remove(0).join().unwrap());
}

#[test]
fn a_barrier_is_used_again_after_rounds_an_abort_and_a_reset() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let barrier = manager.barrier(3).unwrap();
    let wait = |rounds: usize| -> Vec<_> {
        (0..2)
            .map(|_| {
                let barrier = barrier.clone();
                let rounds = move || (0..rounds).map(|_| barrier.wait()).collect::<Vec<_>>();
                std::thread::spawn(rounds)
            })
            .collect()
    };
    let others = wait(10);
    let mut mine: Vec<_> = (0..10).map(|_| barrier.wait().unwrap()).collect();
    for other in others {
        let theirs = other.join().unwrap().into_iter().map(Result::unwrap);
        mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
    }
    assert_eq!(mine, [3; 10], "each round has 0, 1 and 2");
    assert_eq!((barrier.waiting().unwrap(), barrier.is_broken().unwrap()), (0, false));

    for abort in [true, false] {
        let others = wait(1);
        until_parked(&manager, 2);
        if abort {
            barrier.abort().unwrap()
        } else {
            barrier.reset().unwrap()
        }
        let wanted = if abort { BarrierBreak::Aborted } else { BarrierBreak::Reset };
        for other in others {
            let outcome = other.join().unwrap().remove(0);
            assert!(matches!(outcome, Err(Error::BrokenBarrierError { cause }) if cause == wanted));
        }
        assert_eq!(barrier.is_broken().unwrap(), abort);
        barrier.reset().unwrap();
        let others = wait(1);
        barrier.wait().unwrap();
        others.into_iter().for_each(|other| assert!(other.join().unwrap().remove(0).is_ok()));
    }
}

#[test]
fn a_semaphore_counts_beyond_its_first_value_unless_it_is_bounded() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let semaphore = manager.semaphore(2).unwrap();
    semaphore.release().unwrap();
    assert_eq!(semaphore.value().unwrap(), 3);
    (0..3).for_each(|_| semaphore.acquire().unwrap());
    assert!(!semaphore.try_acquire().unwrap() && !semaphore.acquire_timeout(SHORT).unwrap());
    let bounded = manager.bounded_semaphore(1).unwrap();
    assert!(bounded.release().is_err());
    assert!(bounded.try_permit().unwrap().is_some() && bounded.try_permit().unwrap().is_some());
}

#[test]
fn an_rlock_wants_as_many_releases_as_it_was_acquired() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let lock = manager.rlock().unwrap();
    (0..3).for_each(|_| std::mem::forget(lock.acquire().unwrap()));
    for _ in 0..3 {
        assert!(lock.locked().unwrap());
        lock.release().unwrap();
    }
    assert!(!lock.locked().unwrap() && lock.release().is_err());
}

#[test]
fn what_is_waited_for_prints_its_state() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (lock, event) = (manager.lock().unwrap(), manager.event().unwrap());
    let (queue, barrier) = (manager.queue::<u8>(0).unwrap(), manager.barrier(2).unwrap());
    assert_eq!(format!("{lock} {event}"), "<Lock: unlocked> <Event: unset>");
    let _guard = lock.acquire().unwrap();
    event.set().unwrap();
    assert_eq!(format!("{lock} {event}"), "<Lock: locked> <Event: set>");
    queue.put(1).unwrap();
    assert_eq!(format!("{queue} {barrier}"), "<Queue: 1 items> <Barrier: waiters=0/2>");
    barrier.abort().unwrap();
    let semaphore = manager.semaphore(3).unwrap();
    assert_eq!(
        format!("{semaphore} {barrier}"),
        "<Semaphore: value=3> <Barrier: waiters=0/2, broken>"
    );
    let (rlock, condition) = (manager.rlock().unwrap(), manager.condition().unwrap());
    assert_eq!(format!("{rlock} {condition}"), "<RLock: unlocked> <Condition: unlocked>");
    manager.shutdown().unwrap();
    assert!(lock.to_string().starts_with('<'), "an error");
}
