//! Pools in a manager.

use super::PATIENCE;
use super::support::{os, watchdog};
use multiproc::manager::{AsyncResultProxy, EventProxy, List, PoolProxy, ResultsProxy};
use multiproc::{Decode, Encode, Error, Manager, Process};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);

fn square(n: u64) -> u64 {
    n * n
}

fn use_pool(pool: PoolProxy) -> u64 {
    pool.map(square, 0..100).unwrap().into_iter().sum()
}

#[test]
fn a_pool_is_shared_and_the_server_goes_on_meanwhile() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let pool = manager.pool(2).unwrap();
    assert_eq!(pool.processes().unwrap(), 2);
    let event = manager.event().unwrap();
    // The task waits for what only a server that goes on can give.
    let other = (pool.clone(), event.clone());
    let waiter = std::thread::spawn(move || {
        other.0.run(|event: EventProxy| event.wait().unwrap(), (other.1,))
    });
    let child = Process::new(use_pool, (pool.clone(),)).start().unwrap();
    assert_eq!(child.join().unwrap(), (0..100).map(square).sum());
    event.set().unwrap();
    assert!(waiter.join().unwrap().unwrap());
    let failed = pool.map(|n: i32| assert!(n != 2, "not two"), 0..4);
    assert!(matches!(failed, Err(Error::Panicked { message, .. }) if message == "not two"));
    assert_eq!(pool.starmap(|a: u8, b: u8| a + b, [(1, 2), (3, 4)]).unwrap(), [3, 7]);
    pool.close().unwrap();
    assert!(matches!(pool.run(square, (1,)), Err(Error::PoolClosed)));
    pool.join().unwrap();

    let pool = manager.pool(1).unwrap();
    pool.terminate().unwrap();
    pool.join().unwrap();
    assert!(manager.try_create(|| Ok::<_, Error>(List::from(vec![1])), ()).is_ok());
}

#[test]
fn results_are_got_later_again_and_elsewhere() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let pool = manager.pool(2).unwrap();
    let sum = pool.apply_async(|a: u32, b: u32| a + b, (1, 2)).unwrap();
    let squares = pool.map_async(square, 0..50).unwrap();
    let sums = pool.starmap_async(|a: u8, b: u8| a + b, [(1, 2), (3, 4)]).unwrap();
    assert_eq!((sum.get().unwrap(), sum.get().unwrap()), (3, 3));
    let get = |squares: AsyncResultProxy<Vec<u64>>| squares.get().unwrap().len();
    assert_eq!(Process::new(get, (squares.clone(),)).start().unwrap().join().unwrap(), 50);
    assert_eq!(squares.get().unwrap(), (0..50).map(square).collect::<Vec<_>>());
    assert_eq!(sums.get().unwrap(), [3, 7]);
    assert!(sums.ready().unwrap() && sums.successful().unwrap());
    // What was got stays, with the pool gone too.
    drop(pool);
    assert_eq!(sums.try_get().unwrap(), [3, 7]);
    assert_eq!(manager.number_of_objects().unwrap(), 3);
    drop((sum, squares, sums));
    assert_eq!(manager.number_of_objects().unwrap(), 0);
}

#[test]
fn a_result_that_is_not_there_can_be_waited_for() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (pool, event) = (manager.pool(1).unwrap(), manager.event().unwrap());
    let wait = |event: EventProxy| event.wait().unwrap();
    let result = pool.apply_async(wait, (event.clone(),)).unwrap();
    assert!(!result.ready().unwrap() && !result.wait_timeout(SHORT).unwrap());
    assert!(matches!(result.try_get(), Err(Error::TimeoutError)));
    assert!(matches!(result.successful(), Err(Error::TimeoutError)));
    let start = Instant::now();
    assert!(matches!(result.get_timeout(SHORT), Err(Error::TimeoutError)));
    assert!(start.elapsed() >= SHORT);
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let result = result.clone();
            std::thread::spawn(move || result.get().unwrap())
        })
        .collect();
    while !manager.debug_info().unwrap().contains("parked=4") {
        std::thread::yield_now();
    }
    event.set().unwrap();
    assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
    result.wait().unwrap();
    assert!(result.get_timeout(Duration::ZERO).unwrap());
}

#[test]
fn a_task_that_fails_has_its_error_for_a_result() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let pool = manager.pool(1).unwrap();
    let fail = |n: u32| assert!(n != 2, "not two");
    let failed = pool.map_async(fail, 0..4).unwrap();
    for _ in 0..2 {
        let outcome = failed.get();
        assert!(matches!(outcome, Err(Error::Panicked { message, .. }) if message == "not two"));
    }
    assert!(!failed.successful().unwrap());
    let died = pool.apply_async(|| os::signal(os::own_pid(), libc::SIGKILL), ()).unwrap();
    assert!(matches!(died.get(), Err(Error::WorkerDied { .. })));
    let results = pool.imap(fail, 1..4).unwrap();
    let outcomes: Vec<bool> = results.iter().map(|result| result.is_ok()).collect();
    assert_eq!(outcomes, [true, false, true]);
    pool.close().unwrap();
    assert!(matches!(pool.apply_async(square, (1,)), Err(Error::PoolClosed)));
    pool.join().unwrap();
}

#[test]
fn results_come_one_by_one_in_order_or_as_they_come() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (pool, event) = (manager.pool(2).unwrap(), manager.event().unwrap());
    let squares = pool.imap(square, 0..300).unwrap();
    assert_eq!(squares.next_result().unwrap(), Some(0));
    let rest: Result<Vec<u64>, _> = squares.iter().collect();
    assert_eq!(rest.unwrap(), (1..300).map(square).collect::<Vec<_>>());
    assert_eq!((squares.next_result().unwrap(), squares.try_next_result().unwrap()), (None, None));

    let first_waits = |(n, event): (u32, EventProxy)| {
        assert!(n > 0 || event.wait().unwrap());
        n
    };
    let items = || (0..3).map(|n| (n, event.clone()));
    let unordered = pool.imap_unordered(first_waits, items()).unwrap();
    let mut first_two = [(); 2].map(|()| unordered.next_result().unwrap().unwrap());
    first_two.sort_unstable();
    assert_eq!(first_two, [1, 2]);
    let ordered = pool.imap(first_waits, items()).unwrap();
    assert!(matches!(ordered.try_next_result(), Err(Error::TimeoutError)));
    assert!(matches!(ordered.next_result_timeout(SHORT), Err(Error::TimeoutError)));
    event.set().unwrap();
    assert_eq!(unordered.next_result().unwrap(), Some(0));
    let all: Result<Vec<u32>, _> = ordered.iter().collect();
    assert_eq!(all.unwrap(), [0, 1, 2]);
}

#[test]
fn each_result_goes_to_one_of_those_who_ask() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let pool = manager.pool(2).unwrap();
    let squares = pool.imap_unordered(square, 0..200).unwrap();
    let take = |squares: ResultsProxy<u64>| squares.iter().collect::<Result<Vec<u64>, _>>();
    let child = Process::new(take, (squares.clone(),)).start().unwrap();
    let other = squares.clone();
    let thread = std::thread::spawn(move || take(other).unwrap());
    let mut all = take(squares).unwrap();
    all.extend(thread.join().unwrap());
    all.extend(child.join().unwrap().unwrap());
    all.sort_unstable();
    assert_eq!(all, (0..200).map(square).collect::<Vec<_>>());
}

/// Has a process wait for the next result beside the task that runs, and kills it there.
fn kill_a_client_that_waits_for<T>(results: &ResultsProxy<T>, manager: &Manager)
where
    T: Encode + Decode + Send + 'static,
{
    let parked = |calls: &str| {
        while !manager.debug_info().unwrap().contains(calls) {
            std::thread::yield_now();
        }
    };
    let wait = |results: ResultsProxy<T>| results.next_result();
    let child = Process::new(wait, (results.clone(),)).start().unwrap();
    parked("parked=2");
    child.kill().unwrap();
    child.wait().unwrap();
    parked("parked=1");
}

#[test]
fn a_result_that_a_killed_client_waited_for_goes_to_another() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (pool, event) = (manager.pool(1).unwrap(), manager.event().unwrap());
    let wait = |event: EventProxy| event.wait().unwrap();
    let results = pool.imap(wait, [event.clone()]).unwrap();
    kill_a_client_that_waits_for(&results, &manager);
    event.set().unwrap();
    assert_eq!(results.next_result().unwrap(), Some(true));
    assert_eq!(results.next_result().unwrap(), None);
}

/// Leaves a pool that is made afterwards little memory for what is in line: half of what a file may have.
#[allow(unsafe_code)]
fn allow_small_files() {
    let limit = libc::rlimit { rlim_cur: 512 << 10, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is readable for one limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
}

#[test]
fn a_pool_whose_memory_is_full_holds_nobody_up() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::builder().initializer(allow_small_files, ()).start().unwrap();
    let (pool, event) = (manager.pool(1).unwrap(), manager.event().unwrap());
    let first = pool.apply_async(|event: EventProxy| event.wait().unwrap(), (event.clone(),));
    let blocks = || (0..200).map(|_| vec![7u8; 8 << 10]);
    let lengths = pool.map_async(|block: Vec<u8>| block.len(), blocks()).unwrap();
    let one_by_one = pool.imap(|block: Vec<u8>| block.len(), blocks()).unwrap();
    let asked = std::thread::spawn(move || one_by_one.iter().collect::<Result<Vec<_>, _>>());
    // Neither has room for all of it before this is served.
    assert!(!lengths.ready().unwrap());
    event.set().unwrap();
    assert!(first.unwrap().get().unwrap());
    assert_eq!(lengths.get().unwrap(), [8 << 10; 200]);
    assert_eq!(asked.join().unwrap().unwrap(), [8 << 10; 200]);
    let last = pool.map_async(|block: Vec<u8>| block.len(), blocks()).unwrap();
    pool.close().unwrap();
    assert!(matches!(pool.apply_async(square, (1,)), Err(Error::PoolClosed)));
    assert_eq!(last.get().unwrap().len(), 200);
    pool.join().unwrap();
}

#[test]
fn an_error_that_a_killed_client_waited_for_goes_to_another() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (pool, event) = (manager.pool(1).unwrap(), manager.event().unwrap());
    let fail = |event: EventProxy| assert!(!event.wait().unwrap(), "as it should");
    let results = pool.imap(fail, [event.clone()]).unwrap();
    kill_a_client_that_waits_for(&results, &manager);
    event.set().unwrap();
    let failed = results.next_result();
    assert!(matches!(&failed, Err(Error::Panicked { message, .. }) if message == "as it should"));
    assert_eq!(results.next_result().unwrap(), None);
}
