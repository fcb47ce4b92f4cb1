//! Tasks out, results in: every form, and what a task may be given and give.

use super::support::{in_child, os};
use super::{FOR_EVER, accounted, everywhere, pool, put_all, square, turn, wait_for};
use multiproc::{
    AsyncResult, Connection, Encode, Encoder, Error, Event, Lock, Pool, Process, Queue,
    StartMethod, Value, pipe,
};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Duration;

fn fail_at_seven(n: u64) -> u64 {
    assert_ne!(n, 7, "seven");
    n
}

#[test]
fn every_form_gives_the_results_of_its_tasks() {
    everywhere(|method| {
        let pool = pool(method, 3);
        let squares: Vec<u64> = (0..100).map(square).collect();
        assert_eq!(pool.map(square, 0..100).unwrap(), squares);
        assert_eq!(pool.map_chunks(square, 0..100, 20).unwrap(), squares);
        assert_eq!(pool.map_async(square, 0..100).unwrap().get().unwrap(), squares);
        let one_by_one: Vec<u64> = pool.imap(square, 0..100).map(Result::unwrap).collect();
        assert_eq!(one_by_one, squares);
        let chunked = pool.imap(square, 0..100).chunksize(7).map(Result::unwrap);
        assert_eq!(chunked.collect::<Vec<_>>(), squares);
        let mut loose: Vec<u64> = pool.imap_unordered(square, 0..100).map(Result::unwrap).collect();
        loose.sort();
        assert_eq!(loose, squares);
        assert_eq!(pool.starmap(|a: i32, b: i32| a - b, [(5, 3), (9, 2)]).unwrap(), [2, 7]);
        let pending = pool.starmap_async(|a: i32, b: i32| a * b, [(5, 3), (9, 2)]).unwrap();
        assert_eq!(pending.get().unwrap(), [15, 18]);
        assert_eq!(pool.apply(square, (9,)).unwrap(), 81);
        assert_eq!(pool.apply_async(square, (8,)).unwrap().get().unwrap(), 64);
        let (handed_in, ended) = accounted(&pool);
        assert_eq!(handed_in, ended);
    });
}

#[test]
fn tasks_run_in_the_workers() {
    everywhere(|method| {
        let pool = pool(method, 3);
        let (at, gate) = (Queue::new().unwrap(), Queue::new().unwrap());
        let arguments = (0..3).map(|_| (at.clone(), gate.clone()));
        let waiting = pool.starmap_async(wait_for, arguments).unwrap();
        let mut pids: Vec<u32> = (0..3).map(|_| at.get().unwrap()).collect();
        let snapshot = pool.snapshot();
        assert!(snapshot.workers.iter().all(|worker| worker.task.is_some()));
        let mut known: Vec<u32> = snapshot.workers.iter().map(|worker| worker.pid).collect();
        pids.sort();
        known.sort();
        assert_eq!(pids, known);
        put_all(&gate, &[1, 2, 3]);
        assert_eq!(waiting.get().unwrap().iter().sum::<u32>(), 6);
    });
}

#[test]
fn nothing_gives_nothing() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    let none = || std::iter::empty::<u64>();
    assert!(pool.map(square, none()).unwrap().is_empty());
    assert!(pool.map_chunks(square, none(), 5).unwrap().is_empty());
    assert!(pool.map_chunks(square, none(), 0).unwrap().is_empty());
    assert!(pool.map_async(square, none()).unwrap().get().unwrap().is_empty());
    assert_eq!(pool.imap(square, none()).count(), 0);
    assert_eq!(pool.imap_unordered(square, none()).count(), 0);
}

#[test]
fn a_thousand_tasks_may_give_nothing_each() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(|_: u32| (), 0..1000).unwrap().len(), 1000);
    assert_eq!(pool.map_chunks(|()| (), [(); 100], 10).unwrap().len(), 100);
}

#[test]
fn a_panic_is_that_tasks_error_with_its_message_and_place() {
    everywhere(|method| {
        let pool = pool(method, 2);
        let Err(Error::Panicked { message, location, .. }) = pool.apply(fail_at_seven, (7,)) else {
            panic!("no panic")
        };
        assert!(message.contains("seven"), "{message}");
        assert!(location.contains("forms.rs"), "{location}");
        for chunksize in [1, 4] {
            let results: Vec<_> = pool.imap(fail_at_seven, 0..12).chunksize(chunksize).collect();
            for (n, result) in results.iter().enumerate() {
                assert_eq!(result.is_err(), n == 7, "{n}: {result:?}");
            }
        }
        let unordered = pool.imap_unordered(fail_at_seven, 0..12);
        assert_eq!(unordered.filter(Result::is_err).count(), 1);
        assert!(matches!(pool.map(fail_at_seven, 0..12), Err(Error::Panicked { .. })));
        assert_eq!(pool.map(fail_at_seven, 0..7).unwrap().len(), 7);
        assert!(pool.snapshot().counters.replaced == 0, "no worker is lost by a panic");
    });
}

#[test]
fn a_panic_carries_its_backtrace_if_the_environment_asks_for_one() {
    let _turn = turn();
    fn backtrace_of_a_panic() -> String {
        match Pool::new(1).unwrap().apply(fail_at_seven, (7,)) {
            Err(Error::Panicked { backtrace, .. }) => backtrace.into(),
            other => panic!("{other:?}"),
        }
    }
    for (asked, value) in [(true, "1"), (false, "0")] {
        let program = Process::new(backtrace_of_a_panic, ()).start_method(StartMethod::Spawn);
        let program = program.env("RUST_BACKTRACE", value).start().unwrap();
        let backtrace = program.join().unwrap();
        assert_eq!(backtrace.contains("fail_at_seven"), asked, "{backtrace}");
        assert_eq!(backtrace.is_empty(), !asked);
    }
}

#[test]
fn an_error_that_cannot_be_rebuilt_is_another_error_and_harms_nobody_else() {
    let _turn = turn();
    let pool = Pool::new(1).unwrap();
    let fail = |n: u32| -> Result<u32, Shy> { Err(Shy(n)) };
    assert_eq!(pool.apply(fail, (5,)).unwrap(), Err(Shy(5)));
    // The first cannot be encoded, the second not be decoded.
    assert!(pool.apply(fail, (0,)).is_err());
    assert!(matches!(pool.apply(fail, (666,)), Err(Error::Panicked { .. })));
    assert!(pool.map(fail, [5, 0, 666]).is_err());
    assert_eq!(pool.apply(square, (6,)).unwrap(), 36);
}

#[test]
fn every_form_takes_chunks_of_a_given_size() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    let pids = |pairs: Vec<(u64, u32)>| {
        assert!(pairs.iter().enumerate().all(|(n, &(item, _))| n as u64 == item));
        pairs.chunks(5).all(|chunk| chunk.iter().all(|&(_, pid)| pid == chunk[0].1))
    };
    let note = |n: u64| (n, std::process::id());
    assert!(pids(pool.map_chunks(note, 0..20, 5).unwrap()));
    assert!(pids(pool.map_async_chunks(note, 0..20, 5).unwrap().get().unwrap()));
    let (tuples, note) = (|| (0..20).map(|n| (n, ())), |n: u64, ()| (n, std::process::id()));
    assert!(pids(pool.starmap_chunks(note, tuples(), 5).unwrap()));
    assert!(pids(pool.starmap_async_chunks(note, tuples(), 5).unwrap().get().unwrap()));
    assert_eq!(pool.snapshot().counters.submitted, 16);
}

#[test]
fn the_first_error_in_order_is_what_map_gives_when_all_are_done() {
    let _turn = turn();
    fn fail(n: u32, done: Queue<u32>) -> Vec<u8> {
        done.put(&n).unwrap();
        if n == 0 { vec![0; 100_000] } else { panic!("{n}") }
    }
    let pool = Pool::new(3).unwrap();
    let done = Queue::new().unwrap();
    let outcome = pool.starmap(fail, (0..20).map(|n| (n, done.clone())));
    let Err(Error::Panicked { message, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(message, "1");
    assert_eq!(done.len().unwrap(), 20);
}

/// Encodes unless it is zero.
#[derive(Debug, PartialEq)]
struct Shy(u32);

impl Encode for Shy {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        if self.0 == 0 {
            encoder.fail(Error::Encode { reason: "shy".into() });
        }
        self.0.encode(encoder);
    }
}

impl multiproc::Decode for Shy {
    fn decode(decoder: &mut multiproc::Decoder<'_>) -> multiproc::Result<Shy> {
        let number = u32::decode(decoder)?;
        // One that the worker can read and the pool cannot.
        assert_ne!(number, 666, "unreadable");
        Ok(Shy(number))
    }
}

#[test]
fn an_argument_that_cannot_be_encoded_fails_in_its_place_alone() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    for chunksize in [1, 3] {
        let items = [5, 4, 0, 3, 0, 2].map(Shy);
        let results: Vec<_> = pool.imap(|n: Shy| n.0, items).chunksize(chunksize).collect();
        let bad: Vec<usize> = (0..6).filter(|&at| results[at].is_err()).collect();
        assert_eq!(bad, [2, 4], "{results:?}");
        assert_eq!(*results[5].as_ref().unwrap(), 2);
    }
    assert!(matches!(pool.apply(|n: Shy| n.0, (Shy(0),)), Err(Error::Encode { .. })));
    assert!(matches!(pool.map(|n: Shy| n.0, [Shy(1), Shy(0)]), Err(Error::Encode { .. })));
}

#[test]
fn results_that_cannot_be_encoded_are_errors_and_cost_no_worker() {
    let _turn = turn();
    let pool = Pool::new(1).unwrap();
    let before = pool.snapshot().workers[0].pid;
    for _ in 0..20 {
        assert!(pool.apply(|| Shy(0), ()).is_err());
        let mixed: Vec<_> = pool.imap(Shy, [1, 0, 2]).chunksize(3).collect();
        assert_eq!(mixed.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }
    assert_eq!(pool.snapshot().workers[0].pid, before);
}

#[test]
fn a_result_whose_decoding_panics_is_an_error_and_harms_nobody_else() {
    let _turn = turn();
    let pool = Pool::new(1).unwrap();
    let bad = pool.apply_async(|| Shy(666), ()).unwrap();
    assert_eq!(pool.apply(square, (2,)).unwrap(), 4);
    assert!(matches!(bad.get(), Err(Error::Panicked { .. })));
    // A result of nobody is not even decoded.
    drop(pool.apply_async(|| Shy(666), ()).unwrap());
    assert_eq!(pool.map(Shy, [1, 2]).unwrap(), [Shy(1), Shy(2)]);
}

#[test]
fn infinite_input_is_drawn_as_far_as_it_is_needed() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    let drawn = AtomicU64::new(0);
    let numbers = (0..).inspect(|_| {
        drawn.fetch_add(1, SeqCst);
    });
    let mut squares = pool.imap(square, numbers).lookahead(10);
    assert_eq!(drawn.load(SeqCst), 0, "nothing runs before the first result is asked for");
    for n in 0..50 {
        assert_eq!(squares.next().unwrap().unwrap(), n * n);
        assert!(drawn.load(SeqCst) <= n + 1 + 10);
    }
    assert_eq!(squares.size_hint().1, None);
    drop(squares);
    let twice = pool.imap_unordered(square, 0..).take(1000).map(Result::unwrap);
    assert_eq!(twice.count(), 1000);
    assert_eq!(pool.imap(square, 0..70).size_hint(), (70, Some(70)));
}

#[test]
fn input_that_panics_does_so_after_the_results_before_it() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    let broken = || (0..10).inspect(|n| assert!(*n < 6, "broken input"));
    for chunksize in [1, 4] {
        let mut results = Vec::new();
        let iterate = || {
            for result in pool.imap(square, broken()).chunksize(chunksize) {
                results.push(result.unwrap());
            }
        };
        assert!(catch_unwind(AssertUnwindSafe(iterate)).is_err());
        assert_eq!(results, [0, 1, 4, 9, 16, 25]);
    }
    let unordered = || pool.imap_unordered(square, broken()).count();
    assert!(catch_unwind(AssertUnwindSafe(unordered)).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| pool.map(square, broken()))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| pool.map_async(square, broken()))).is_err());
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
}

#[test]
fn handles_travel_as_arguments_and_as_results() {
    everywhere(|method| {
        let pool = pool(method, 2);
        let lock = Lock::new().unwrap();
        let guard = lock.acquire().unwrap();
        let taken = pool.apply(|lock: Lock| lock.try_acquire().unwrap().is_some(), (lock.clone(),));
        assert!(!taken.unwrap(), "it is the same lock");
        drop(guard);
        let (near, far) = pipe().unwrap();
        pool.apply(|far: Connection| far.send(&42u32).unwrap(), (far,)).unwrap();
        assert_eq!(near.recv::<u32>().unwrap(), 42);
        let fd: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        pool.apply(drop::<OwnedFd>, (fd,)).unwrap();
        let queue = pool
            .apply(
                || {
                    let queue = Queue::new().unwrap();
                    queue.put(&String::from("from within")).unwrap();
                    queue
                },
                (),
            )
            .unwrap();
        assert_eq!(queue.get().unwrap(), "from within");
        let queues = pool.map_chunks(|n: u32| queue_of(n), 0..10, 3).unwrap();
        for (n, queue) in queues.iter().enumerate() {
            assert_eq!(queue.get().unwrap(), n as u32);
        }
    });
}

fn queue_of(n: u32) -> Queue<u32> {
    let queue = Queue::new().unwrap();
    queue.put(&n).unwrap();
    queue
}

#[test]
fn results_are_whatever_handle_a_task_has_made() {
    type Made = (Connection, OwnedFd, Event, Value<u32>, Lock);
    fn make() -> Made {
        let (near, far) = pipe().unwrap();
        far.send(&7u32).unwrap();
        let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let (event, value) = (Event::new().unwrap(), Value::new(8).unwrap());
        event.set().unwrap();
        (near, null, event, value, Lock::new().unwrap())
    }
    everywhere(|method| {
        let pool = pool(method, 1);
        let (near, null, event, value, lock): Made = pool.apply(make, ()).unwrap();
        assert_eq!(near.recv::<u32>().unwrap(), 7);
        assert_eq!(std::fs::File::from(null).read(&mut [0]).unwrap(), 0);
        assert!(event.is_set());
        assert_eq!(value.get().unwrap(), 8);
        let guard = lock.acquire().unwrap();
        assert!(!guard.owner_died());
        let is_free = |lock: Lock| lock.try_acquire().unwrap().is_some();
        assert!(!pool.apply(is_free, (lock.clone(),)).unwrap());
    });
}

#[test]
fn threads_share_a_pool() {
    let _turn = turn();
    let pool = Pool::new(3).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..30 {
                    let n = thread * 1000 + round;
                    assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
                    let sum: u64 = pool.imap_unordered(square, n..n + 20).map(Result::unwrap).sum();
                    assert_eq!(sum, (n..n + 20).map(square).sum::<u64>());
                    assert_eq!(pool.map(square, [n, n]).unwrap(), [n * n, n * n]);
                }
            });
        }
    });
    assert_eq!(accounted(&pool).0, accounted(&pool).1);
}

#[test]
fn the_second_of_two_results_can_be_taken_first() {
    everywhere(|method| {
        let pool = pool(method, 1);
        let first = pool.apply_async(square, (3,)).unwrap();
        let second = pool.apply_async(square, (4,)).unwrap();
        assert_eq!(second.get().unwrap(), 16);
        assert!(first.ready() && first.successful().unwrap());
        assert_eq!(first.get().unwrap(), 9);
        assert!(matches!(first.get(), Err(Error::Taken)));
        assert!(first.successful().unwrap());
    });
}

#[test]
fn a_large_argument_does_not_wait_for_a_busy_worker() {
    let _turn = turn();
    let pool = Pool::new(1).unwrap();
    let (at, gate) = (Queue::new().unwrap(), Queue::new().unwrap());
    let busy = pool.apply_async(wait_for, (at.clone(), gate.clone())).unwrap();
    at.get().unwrap();
    let large = vec![7u8; 4 << 20];
    let sum = |bytes: Vec<u8>| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    let result = pool.apply_async(sum, (large,)).unwrap();
    assert!(!result.ready());
    assert!(matches!(result.successful(), Err(Error::TimeoutError)));
    gate.put(&1).unwrap();
    assert_eq!(result.get().unwrap(), 7 * (4 << 20));
    assert_eq!(busy.get().unwrap(), 1);
}

#[test]
fn get_returns_a_timeout_error_and_the_result_later() {
    everywhere(|method| {
        let pool = pool(method, 1);
        let (at, gate) = (Queue::new().unwrap(), Queue::new().unwrap());
        let result = pool.apply_async(wait_for, (at, gate.clone())).unwrap();
        let short = Duration::from_millis(30);
        assert!(matches!(result.get_timeout(short), Err(Error::TimeoutError)));
        assert!(matches!(result.try_get(), Err(Error::TimeoutError)));
        assert!(!result.wait_timeout(short).unwrap());
        gate.put(&5).unwrap();
        result.wait().unwrap();
        assert!(result.wait_timeout(short).unwrap());
        assert_eq!(result.get().unwrap(), 5);
    });
}

#[test]
fn one_of_several_results_can_be_waited_for() {
    everywhere(|method| {
        let pool = pool(method, 2);
        let (at, gate) = (Queue::new().unwrap(), Queue::new().unwrap());
        let held = pool.apply_async(wait_for, (at, gate.clone())).unwrap();
        let quick = pool.apply_async(|| 3u32, ()).unwrap();
        let mut open = vec![held, quick];
        assert_eq!(AsyncResult::wait_any(&open).unwrap(), 1);
        assert_eq!(open.pop().unwrap().get().unwrap(), 3);
        let soon = Duration::from_millis(20);
        assert_eq!(AsyncResult::wait_any_timeout(&open, soon).unwrap(), None);
        put_all(&gate, &[9]);
        assert_eq!(AsyncResult::wait_any(&open).unwrap(), 0);
        let other = super::pool(method, 1);
        open.push(other.apply_async(|| 1u32, ()).unwrap());
        let mixed = AsyncResult::wait_any(&open);
        assert!(matches!(mixed, Err(Error::InvalidArgument { .. })), "{mixed:?}");
    });
    let none: &[AsyncResult<u32>] = &[];
    assert!(matches!(AsyncResult::wait_any(none), Err(Error::InvalidArgument { .. })));
}

#[test]
fn a_full_ring_makes_the_submitter_look_after_the_pool() {
    let _turn = turn();
    let pool = Pool::builder().processes(2).max_bytes(128 << 10).build().unwrap();
    let echo = |bytes: Vec<u8>| bytes;
    let pending: Vec<_> =
        (0..200u8).map(|n| pool.apply_async(echo, (vec![n; 5000],)).unwrap()).collect();
    for (n, result) in pending.into_iter().enumerate() {
        assert_eq!(result.get().unwrap(), vec![n as u8; 5000]);
    }
    let too_long = pool.apply(echo, (vec![0; 1 << 20],));
    assert!(matches!(too_long, Err(Error::MessageTooLong { .. })), "{too_long:?}");
    let too_long = pool.apply(|len: usize| vec![0u8; len], (1 << 20,));
    assert!(matches!(too_long, Err(Error::MessageTooLong { .. })), "{too_long:?}");
    let fits_not = pool.map(echo, [vec![1], vec![0; 1 << 20], vec![2]]);
    assert!(matches!(fits_not, Err(Error::MessageTooLong { .. })), "{fits_not:?}");
}

#[test]
fn callbacks_are_called_once_and_may_panic_and_use_the_pool() {
    let _turn = turn();
    let pool = std::sync::Arc::new(Pool::new(1).unwrap());
    let (sender, said) = mpsc::channel();
    let (values, errors) = (sender.clone(), sender);
    let again = pool.clone();
    let result = pool
        .apply_async(square, (3,))
        .unwrap()
        .callback(|_| panic!("a callback that panics"))
        .callback(move |n| {
            let more = again.apply(square, (*n,)).unwrap();
            values.send(format!("{n} {more}")).unwrap();
        })
        .error_callback(|_| unreachable!("no error"));
    assert_eq!(result.get().unwrap(), 9);
    assert_eq!(said.recv().unwrap(), "9 81");
    let failed = pool.apply_async(fail_at_seven, (7,)).unwrap();
    failed.wait().unwrap();
    let late = errors.clone();
    let failed = failed
        .callback(|_| unreachable!("no value"))
        .error_callback(move |error| late.send(error.to_string()).unwrap());
    assert!(said.try_recv().unwrap().contains("seven"));
    drop(failed);
    let all = pool.map_async(square, 0..10).unwrap();
    drop(all.callback(move |all: &Vec<u64>| errors.send(format!("{}", all.len())).unwrap()));
    pool.close();
    pool.join().unwrap();
    assert_eq!(said.recv().unwrap(), "10");
    assert!(said.recv().is_err(), "every callback is gone");
}

#[test]
fn an_iterator_dropped_early_takes_its_tasks_back() {
    let _turn = turn();
    fn note(n: u32, gate: Queue<u32>, noted: Queue<u32>) {
        if n == 1 {
            gate.get().unwrap();
        }
        noted.put(&n).unwrap();
    }
    let pool = Pool::new(1).unwrap();
    let (gate, noted) = (Queue::new().unwrap(), Queue::new().unwrap());
    let (gates, notes) = (gate.clone(), noted.clone());
    let items = (0..100).map(move |n| (n, gates.clone(), notes.clone()));
    let mut results = pool.imap(|(n, gate, noted)| note(n, gate, noted), items).lookahead(50);
    results.next().unwrap().unwrap();
    drop(results);
    gate.put(&0).unwrap();
    assert_eq!(pool.apply(square, (2,)).unwrap(), 4);
    assert!(noted.len().unwrap() <= 2, "{}", noted.len().unwrap());
    let counters = pool.snapshot().counters;
    assert!(counters.cancelled >= 48, "{counters:?}");
    assert_eq!(counters.submitted, counters.done + counters.cancelled);
}

#[test]
fn a_pool_in_a_task_is_a_pool() {
    everywhere(|method| {
        fn sum_of_squares(n: u64) -> u64 {
            let inner = Pool::new(2).unwrap();
            inner.map(square, 0..n).unwrap().iter().sum()
        }
        let pool = pool(method, 2);
        assert_eq!(pool.map(sum_of_squares, [3, 4]).unwrap(), [5, 14]);
    });
}

#[test]
fn another_process_cannot_use_the_pool() {
    let _turn = turn();
    in_child(|| {
        let pool = super::pool(StartMethod::Fork, 1);
        let pending = pool.apply_async(square, (2,)).unwrap();
        let child = os::fork(|| {
            assert!(matches!(pool.apply(square, (1,)), Err(Error::ForeignProcess)));
            assert!(matches!(pending.get(), Err(Error::ForeignProcess)));
            pool.close();
            assert!(matches!(pool.join(), Err(Error::ForeignProcess)));
            drop(pool);
        });
        let deadline = std::time::Instant::now() + FOR_EVER;
        assert_eq!(os::wait_until(child, deadline), Some(os::Status::Exited(0)));
    });
}
