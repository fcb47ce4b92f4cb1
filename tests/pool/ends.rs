//! How pools begin and end.

use super::support::{in_child, os};
use super::{
    FOR_EVER, PATIENCE, accounted, builder, everywhere, method_of, pool, square, stay, turn,
};
use multiproc::{Error, Pool, Process, Queue, StartMethod};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[test]
fn a_pool_has_the_workers_that_were_asked_for() {
    everywhere(|method| {
        let pool = pool(method, 3);
        assert_eq!((pool.processes(), pool.snapshot().workers.len()), (3, 3));
        assert_eq!(format!("{pool:?}"), "<Pool state=RUN pool_size=3>");
    });
    assert!(matches!(Pool::new(0), Err(Error::InvalidArgument { .. })));
    assert!(Pool::builder().build().unwrap().processes() >= 1);
}

#[test]
fn close_has_everything_done_and_join_waits_for_it() {
    everywhere(|method| {
        let pool = pool(method, 2);
        assert!(matches!(pool.join(), Err(Error::InvalidArgument { .. })));
        let all = pool.map_async(square, 0..500).unwrap();
        let loose: Vec<_> = (0..100).map(|n| pool.apply_async(square, (n,)).unwrap()).collect();
        pool.close();
        assert!(matches!(pool.apply(square, (1,)), Err(Error::PoolClosed)));
        assert!(matches!(pool.map(square, 0..3), Err(Error::PoolClosed)));
        assert!(matches!(pool.map_async(square, 0..3), Err(Error::PoolClosed)));
        let mut none = pool.imap(square, 0..);
        assert!(matches!(none.next(), Some(Err(Error::PoolClosed))));
        assert!(none.next().is_none());
        pool.join().unwrap();
        assert_eq!(all.get().unwrap().len(), 500);
        for (n, result) in loose.into_iter().enumerate() {
            assert_eq!(result.get().unwrap(), (n * n) as u64);
        }
        pool.join().unwrap();
        assert!(pool.snapshot().workers.is_empty());
        assert_eq!(format!("{pool:?}"), "<Pool state=CLOSE pool_size=2>");
    });
}

#[test]
fn terminate_is_quick_and_fails_what_is_outstanding() {
    everywhere(|method| {
        let pool = pool(method, 2);
        let at = Queue::new().unwrap();
        let mut queued = vec![pool.apply_async(stay, (at.clone(),)).unwrap()];
        let sleep = || std::thread::sleep(FOR_EVER);
        queued.extend((1..10_000).map(|_| pool.apply_async(sleep, ()).unwrap()));
        at.get().unwrap();
        pool.terminate();
        pool.join().unwrap();
        for result in queued {
            assert!(matches!(result.get(), Err(Error::PoolClosed)));
        }
        pool.terminate();
        assert_eq!(format!("{pool:?}"), "<Pool state=TERMINATE pool_size=2>");
        assert!(matches!(pool.apply(square, (1,)), Err(Error::PoolClosed)));
        let counters = pool.snapshot().counters;
        assert!((1..=2).contains(&counters.abandoned), "{counters:?}");
        assert_eq!(accounted(&pool), (10_000, 10_000));
    });
}

#[test]
fn who_waits_is_woken_when_another_thread_terminates_the_pool() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    let at = Queue::new().unwrap();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| pool.apply(stay, (at.clone(),))))
            .chain([scope.spawn(|| pool.map(stay, vec![at.clone(); 9]).map(drop))])
            .collect();
        at.get().unwrap();
        pool.terminate();
        for waiting in waiting {
            assert!(matches!(waiting.join().unwrap(), Err(Error::PoolClosed)));
        }
    });
    assert_eq!(accounted(&pool).0, accounted(&pool).1);
}

#[test]
fn results_outlive_a_pool_that_was_dropped() {
    let _turn = turn();
    let pool = Pool::new(1).unwrap();
    let done = pool.apply_async(square, (3,)).unwrap();
    done.wait().unwrap();
    let lost = pool.apply_async(|| std::thread::sleep(FOR_EVER), ()).unwrap();
    drop(pool);
    assert_eq!(done.get().unwrap(), 9);
    assert!(matches!(lost.get(), Err(Error::PoolClosed)));
    assert!(lost.ready() && !lost.successful().is_ok_and(|success| success));
}

#[test]
fn workers_that_do_not_mind_sigterm_are_killed() {
    let _turn = turn();
    let pool = Pool::new(1).unwrap();
    let at = Queue::new().unwrap();
    let lost = pool.apply_async(ignore_sigterm_and_stay, (at.clone(),)).unwrap();
    at.get().unwrap();
    pool.terminate();
    assert!(matches!(lost.get(), Err(Error::PoolClosed)));
    pool.join().unwrap();
}

fn ignore_sigterm_and_stay(at: Queue<u32>) {
    os::ignore(libc::SIGTERM);
    stay(at);
}

#[test]
fn a_program_may_end_with_a_pool_that_lives() {
    let _turn = turn();
    {
        fn forget_a_pool(method: String) {
            let pool = pool(method_of(&method), 2);
            assert_eq!(pool.apply(square, (2,)).unwrap(), 4);
            let running = pool.apply_async(|| std::thread::sleep(FOR_EVER), ()).unwrap();
            std::mem::forget((pool, running));
        }
        for method in multiproc::all_start_methods() {
            let program = Process::new(forget_a_pool, (method.to_string(),));
            program.start_method(StartMethod::Spawn).start().unwrap().join().unwrap();
        }
    }
}

#[test]
fn an_initializer_runs_once_in_every_worker() {
    everywhere(|method| {
        let ran = Queue::new().unwrap();
        let note = |ran: Queue<u32>| ran.put(&std::process::id()).unwrap();
        let pool = builder(method, 3).initializer(note, (ran.clone(),)).build().unwrap();
        let mut pids: Vec<u32> = (0..3).map(|_| ran.get().unwrap()).collect();
        pool.map(square, 0..100).unwrap();
        let mut known: Vec<u32> = pool.snapshot().workers.iter().map(|w| w.pid).collect();
        pids.sort();
        known.sort();
        assert_eq!(pids, known);
        for pid in known {
            pool.kill_worker(pid);
        }
        let new = pool.apply(std::process::id, ()).unwrap();
        assert!((0..3).any(|_| ran.get().unwrap() == new));
    });
}

#[test]
fn an_initializer_that_panics_fails_the_pool_with_its_words() {
    everywhere(|method| {
        let pool = builder(method, 2).initializer(|| panic!("no licence"), ()).build().unwrap();
        let outcome = pool.apply(square, (2,));
        let Err(Error::Remote { message }) = outcome else { panic!("{outcome:?}") };
        assert!(message.contains("initializer") && message.contains("no licence"), "{message}");
        // And whoever comes later is told the same.
        assert!(matches!(pool.map(square, 0..3), Err(Error::Remote { .. })));
        assert_eq!(accounted(&pool), (1, 1));
    });
}

#[test]
fn workers_that_end_in_their_initializer_are_not_started_for_ever() {
    everywhere(|method| {
        let pool =
            builder(method, 2).initializer(|| -> () { multiproc::exit(3) }, ()).build().unwrap();
        let outcome = pool.apply(square, (2,));
        assert!(matches!(outcome, Err(Error::Remote { .. })), "{outcome:?}");
    });
}

#[test]
fn a_pool_of_fifty_workers_adds_up() {
    everywhere(|method| {
        let pool = pool(method, 50);
        let sum: u64 = pool.imap_unordered(square, 0..1000).map(Result::unwrap).sum();
        assert_eq!(sum, (0..1000).map(square).sum());
        assert_eq!(pool.snapshot().workers.len(), 50);
        pool.close();
        pool.join().unwrap();
    });
}

#[test]
fn two_hundred_workers_add_up_and_say_nothing() {
    let _turn = turn();
    fn add_up() -> u64 {
        let pool = pool(StartMethod::ForkServer, 200);
        let sum = pool.imap_unordered(square, 0..2000).map(Result::unwrap).sum();
        assert_eq!(pool.snapshot().workers.len(), 200);
        pool.close();
        pool.join().unwrap();
        sum
    }
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let program = Process::new(add_up, ()).start_method(StartMethod::Spawn);
    let program = program.stderr(OwnedFd::from(writer)).start().unwrap();
    assert_eq!(program.join().unwrap(), (0..2000).map(square).sum());
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn a_pool_in_a_static_ends_with_its_program() {
    let _turn = turn();
    fn use_a_static_pool(at: Queue<u32>, _hold: OwnedFd) -> u64 {
        static POOL: OnceLock<Pool> = OnceLock::new();
        let pool = POOL.get_or_init(|| Pool::new(2).unwrap());
        std::mem::forget(pool.apply_async(stay, (at.clone(),)).unwrap());
        at.get().unwrap();
        pool.apply(square, (3,)).unwrap()
    }
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let arguments = (Queue::new().unwrap(), OwnedFd::from(writer));
    let program = Process::new(use_a_static_pool, arguments).start_method(StartMethod::Spawn);
    assert_eq!(program.start().unwrap().join().unwrap(), 9);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn descriptors_run_out_with_an_error_and_nothing_is_left() {
    let _turn = turn();
    in_child(|| {
        let before = os::count_descriptors();
        os::limit_descriptors(before as u64 + 60);
        let many = builder(StartMethod::Fork, 100).build();
        let Err(Error::Os { source, .. }) = many else { panic!("{many:?}") };
        assert_eq!(source.raw_os_error(), Some(libc::EMFILE));
        assert_eq!(os::count_descriptors(), before);
        assert!(!os::has_children());
        let pool = pool(StartMethod::Fork, 2);
        assert_eq!(pool.map(square, 0..9).unwrap().len(), 9);
    });
}

#[test]
fn a_worker_that_cannot_be_replaced_at_once_is_replaced_later() {
    let _turn = turn();
    in_child(|| {
        let pool = builder(StartMethod::Fork, 2).retries(1).build().unwrap();
        assert_eq!(pool.map(square, 0..9).unwrap().len(), 9);
        let pids: Vec<u32> = pool.snapshot().workers.iter().map(|worker| worker.pid).collect();
        // The pool's own are the numbers up to there, and those of its workers come after them.
        os::limit_descriptors(10);
        assert!(pool.kill_worker(pids[0]));
        let start = Instant::now();
        while pool.snapshot().workers.iter().any(|worker| worker.pid == pids[0]) {
            assert_eq!(pool.apply(square, (2,)).unwrap(), 4);
        }
        assert_eq!(pool.apply(square, (2,)).unwrap(), 4);
        assert_eq!(pool.snapshot().workers.len(), 1, "there is no descriptor for the second");
        os::limit_descriptors(1000);
        while pool.snapshot().workers.len() < 2 && start.elapsed() < PATIENCE {
            let nap = pool.apply(|| std::thread::sleep(Duration::from_millis(10)), ());
            nap.unwrap();
        }
        assert_eq!(pool.snapshot().workers.len(), 2);
    });
}
