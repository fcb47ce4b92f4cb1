//! Input that is drawn as results are taken: how far, and what if it is infinite, blocks or panics.

use super::{pool, put_all, square, stay, turn, wait_for};
use multiproc::{Error, Pool, Queue, StartMethod};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn no_more_is_drawn_than_so_many_bytes_of_arguments() {
    let _turn = turn();
    const PAGE: usize = 10_000;
    let (at, gate) = (Queue::<u32>::new().unwrap(), Queue::<u32>::new().unwrap());
    let drawn = AtomicUsize::new(0);
    let (ats, gates) = (at.clone(), gate.clone());
    let pages = (0..).map(|_| {
        drawn.fetch_add(1, SeqCst);
        (vec![0u8; PAGE], ats.clone(), gates.clone())
    });
    let pool = Pool::new(2).unwrap();
    let held = |(page, at, gate): (Vec<u8>, Queue<u32>, Queue<u32>)| {
        wait_for(at, gate);
        page.len()
    };
    let mut lengths = pool.imap(held, pages).lookahead(1000).lookahead_bytes(5 * PAGE);
    let first = lengths.try_next();
    assert!(matches!(first, Some(Err(Error::TimeoutError))), "{first:?}");
    assert_eq!(drawn.load(SeqCst), 5, "as many as reach the limit");
    put_all(&gate, &[0; 20]);
    for _ in 0..8 {
        assert_eq!(lengths.next().unwrap().unwrap(), PAGE);
    }
    // Every task says when it begins.
    let drawn = drawn.load(SeqCst);
    assert!(drawn <= at.len().unwrap() + 5, "{drawn}");
    drop(lengths);
    // One that is larger than the limit still goes out.
    let mut lengths = pool.imap(|page: Vec<u8>| page.len(), [vec![0; PAGE]]).lookahead_bytes(1);
    assert_eq!(lengths.next().unwrap().unwrap(), PAGE);
    put_all(&gate, &[0; 20]);
}

#[test]
fn an_iterator_says_how_many_results_are_to_come() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    for (lookahead, chunksize) in [(1, 1), (5, 1), (20, 3), (100, 40)] {
        let fail_at_four = |n: u64| assert_ne!(n, 4);
        let results = pool.imap(fail_at_four, 0..30).lookahead(lookahead);
        let mut results = results.chunksize(chunksize);
        for left in (0..30).rev() {
            let result = results.next().unwrap();
            assert_eq!(result.is_err(), left == 25);
            assert_eq!(results.size_hint(), (left, Some(left)));
        }
        assert!(results.next().is_none());
        assert_eq!(results.size_hint(), (0, Some(0)));
    }
}

#[test]
fn a_result_that_does_not_come_in_time_can_be_taken_later() {
    let _turn = turn();
    let pool = Pool::new(1).unwrap();
    let (at, gate) = (Queue::new().unwrap(), Queue::new().unwrap());
    let arguments = (0..2).map(|_| (at.clone(), gate.clone()));
    let mut results = pool.imap(|(at, gate)| wait_for(at, gate), arguments);
    let soon = Duration::from_millis(20);
    assert!(matches!(results.next_timeout(soon), Some(Err(Error::TimeoutError))));
    assert!(matches!(results.try_next(), Some(Err(Error::TimeoutError))));
    gate.put(&5).unwrap();
    assert_eq!(results.next().unwrap().unwrap(), 5);
    assert!(matches!(results.next_timeout(soon), Some(Err(Error::TimeoutError))));
    gate.put(&6).unwrap();
    assert_eq!(results.next_timeout(super::PATIENCE).unwrap().unwrap(), 6);
    assert!(results.next_timeout(soon).is_none() && results.try_next().is_none());
}

#[test]
fn input_may_wait_for_the_result_before_if_nothing_is_drawn_ahead() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    let (sender, receiver) = mpsc::channel();
    sender.send(2).unwrap();
    // Each item is the result before it.
    let mut results = pool.imap(square, receiver).lookahead(1);
    for expected in [4, 16, 256] {
        let result = results.next().unwrap().unwrap();
        assert_eq!(result, expected);
        sender.send(result).unwrap();
    }
    drop(sender);
    assert_eq!(results.next().unwrap().unwrap(), 256 * 256);
    assert!(results.next().is_none());
}

#[test]
fn input_that_blocks_holds_no_other_caller_up() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    let (sender, receiver) = mpsc::channel::<u64>();
    std::thread::scope(|scope| {
        let results = scope.spawn(|| pool.imap(square, receiver).map(Result::unwrap).sum::<u64>());
        sender.send(3).unwrap();
        for n in 0..100 {
            assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
        }
        sender.send(4).unwrap();
        drop(sender);
        assert_eq!(results.join().unwrap(), 25);
    });
}

#[test]
fn an_iterator_dropped_while_tasks_run_leaves_the_pool_usable() {
    let _turn = turn();
    let pool = pool(StartMethod::Spawn, 2);
    let at = Queue::new().unwrap();
    let ats = at.clone();
    let mut endless = pool.imap_unordered(stay, std::iter::repeat_with(move || ats.clone()));
    assert!(matches!(endless.try_next(), Some(Err(Error::TimeoutError))));
    let running = [at.get().unwrap(), at.get().unwrap()];
    drop(endless);
    for pid in running {
        assert!(pool.kill_worker(pid));
    }
    assert_eq!(pool.map(square, 0..4).unwrap(), [0, 1, 4, 9]);
}
