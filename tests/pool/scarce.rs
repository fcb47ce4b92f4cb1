//! Memory that runs out, and memory that must not be used.

use super::support::{in_child, os};
use super::{accounted, builder, everywhere, pool, square, turn};
use multiproc::{Error, Pool, Queue, StartMethod};

/// The pages that this process really uses, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn results_that_nobody_takes_cost_nothing_once_their_handles_are_dropped() {
    let _turn = turn();
    in_child(|| {
        const LEN: usize = 20_000;
        let pool = pool(StartMethod::Fork, 2);
        let hand_in = |count: usize| {
            for _ in 0..count {
                drop(pool.apply_async(|| vec![1u8; LEN], ()).unwrap());
            }
            pool.apply(square, (1,)).unwrap()
        };
        hand_in(200);
        let before = resident();
        hand_in(5000);
        let more = resident().saturating_sub(before);
        assert!(more < 1000 * LEN, "{more} bytes for 5000 results of {LEN} that nobody wants");
        // The last of the dropped ones may still run when the one behind it has come back.
        pool.close();
        pool.join().unwrap();
        assert_eq!(accounted(&pool), (5202, 5202));
    });
}

#[test]
fn a_result_that_the_ring_has_no_memory_for_is_an_error_and_costs_no_worker() {
    everywhere(|method| {
        fn too_much() -> Vec<u8> {
            let bytes = vec![1; 5 << 19];
            // Enough for its encoded form, but not for the part of the ring that could take it.
            os::limit_memory(7 << 19);
            bytes
        }
        let pool = pool(method, 1);
        let pid = pool.apply(std::process::id, ()).unwrap();
        let outcome = pool.apply(too_much, ());
        let outcome = outcome.map(|bytes| bytes.len());
        let Err(Error::Os { source, .. }) = &outcome else { panic!("{outcome:?}") };
        assert_eq!(source.raw_os_error(), Some(libc::ENOMEM));
        assert_eq!(pool.apply(std::process::id, ()).unwrap(), pid);
    });
}

#[test]
fn a_task_that_the_ring_has_no_memory_for_is_refused_and_the_pool_goes_on() {
    let _turn = turn();
    in_child(|| {
        let pool = pool(StartMethod::Fork, 1);
        assert_eq!(pool.apply(square, (2,)).unwrap(), 4);
        let large = vec![1u8; 5 << 19];
        os::limit_memory(7 << 19);
        let refused = pool.apply(|bytes: Vec<u8>| bytes.len(), (large,));
        let Err(Error::Os { source, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!(source.raw_os_error(), Some(libc::ENOMEM));
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
        assert_eq!(accounted(&pool).0, accounted(&pool).1);
    });
}

#[test]
fn a_pool_that_there_is_no_memory_for_is_refused_and_leaves_nothing() {
    let _turn = turn();
    in_child(|| {
        let before = os::count_descriptors();
        os::limit_memory(0);
        let refused = builder(StartMethod::Fork, 2).build();
        os::limit_memory(1 << 40);
        let Err(Error::Os { source, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!(source.raw_os_error(), Some(libc::ENOMEM));
        assert_eq!(os::count_descriptors(), before);
        assert!(!os::has_children());
        assert_eq!(pool(StartMethod::Fork, 2).map(square, 0..9).unwrap().len(), 9);
    });
}

#[test]
fn workers_without_the_memory_to_begin_fail_the_pool() {
    let _turn = turn();
    for method in [StartMethod::Spawn, StartMethod::ForkServer] {
        let outcome = builder(method, 2)
            .memory_limit(1 << 20)
            .build()
            .and_then(|pool| pool.apply(square, (2,)));
        assert!(outcome.is_err(), "{method}: {outcome:?}");
    }
}

#[test]
fn arguments_and_results_are_let_go_of_when_they_have_served() {
    let _turn = turn();
    let pool = Pool::new(1).unwrap();
    let kept = Queue::<u32>::new().unwrap();
    let before = os::count_descriptors();
    for _ in 0..50 {
        let back = pool.apply(|queue: Queue<u32>| queue, (kept.clone(),)).unwrap();
        back.put(&1).unwrap();
    }
    let seen = pool.apply(os::count_descriptors, ()).unwrap();
    assert_eq!(os::count_descriptors(), before);
    assert_eq!(pool.apply(os::count_descriptors, ()).unwrap(), seen);
    assert_eq!(kept.len().unwrap(), 50);
}
