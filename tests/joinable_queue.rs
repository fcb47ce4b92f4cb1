//! Joinable queues whose consumers finish, and are killed.

mod support;

use multiproc::{Error, JoinableQueue, Queue};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::os::{self, Page};
use support::{in_child, join, turn, watchdog};

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn join_waits_until_every_item_is_done() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = JoinableQueue::new().unwrap();
    queue.join().unwrap();
    queue.put_many(&[1, 2]).unwrap();
    assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (1, 2));
    assert!(matches!(queue.try_join(), Err(Error::TimeoutError)));
    queue.task_done().unwrap();
    assert_eq!(queue.unfinished().unwrap(), 1);
    assert!(matches!(queue.join_timeout(SHORT), Err(Error::TimeoutError)));
    queue.task_done().unwrap();
    queue.join().unwrap();
    assert!(matches!(queue.task_done(), Err(Error::InvalidArgument { .. })));
}

#[test]
fn workers_in_other_processes_wake_the_join() {
    let _turn = turn();
    in_child(|| {
        let queue = JoinableQueue::bounded(10).unwrap();
        let work = || {
            while queue.get().unwrap() {
                queue.task_done().unwrap();
            }
            queue.task_done().unwrap();
        };
        let workers: Vec<_> = (0..4).map(|_| os::fork(work)).collect();
        for _ in 0..100 {
            queue.put(&true).unwrap();
        }
        queue.join().unwrap();
        assert!(queue.is_empty().unwrap() && queue.unfinished().unwrap() == 0);
        workers.iter().for_each(|_| queue.put(&false).unwrap());
        queue.join().unwrap();
        workers.into_iter().for_each(join);
    });
}

#[test]
fn join_reports_the_items_of_a_killed_consumer_once() {
    let _turn = turn();
    in_child(|| {
        let queue = JoinableQueue::new().unwrap();
        let page = Page::new();
        queue.put_many(&[1, 2, 3, 4]).unwrap();
        let consumer = os::fork(|| {
            for _ in 0..3 {
                queue.get().unwrap();
            }
            queue.task_done().unwrap();
            page.word(0).store(1, SeqCst);
            os::futex_wait(page.word(1), 0);
        });
        while page.word(0).load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        os::wait_until_asleep(consumer);
        assert!(matches!(queue.join_timeout(SHORT), Err(Error::TimeoutError)));
        os::kill_and_reap(consumer);
        assert!(matches!(queue.join(), Err(Error::ItemsLost { items: 2 })));
        assert_eq!(queue.get().unwrap(), 4);
        assert!(matches!(queue.try_join(), Err(Error::TimeoutError)));
        queue.task_done().unwrap();
        queue.join().unwrap();
    });
}

#[test]
fn an_item_may_be_done_by_another_than_its_consumer() {
    let _turn = turn();
    in_child(|| {
        let queue = JoinableQueue::new().unwrap();
        queue.put(&1).unwrap();
        join(os::fork(|| assert_eq!(queue.get().unwrap(), 1)));
        queue.task_done().unwrap();
        queue.join().unwrap();
    });
}

#[test]
fn a_joinable_queue_travels_through_a_queue() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = JoinableQueue::<u32>::new().unwrap();
    let post = Queue::new().unwrap();
    post.put(&queue).unwrap();
    let other = post.get().unwrap();
    other.put(&1).unwrap();
    assert_eq!(queue.get().unwrap(), 1);
    assert!(matches!(other.try_join(), Err(Error::TimeoutError)));
    queue.task_done().unwrap();
    other.join().unwrap();
}

#[test]
fn every_form_of_put_and_get_counts() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::builder().maxsize(8).build_joinable().unwrap();
    assert_eq!(queue.put_many(&[1, 2]).unwrap(), 2);
    assert_eq!(queue.try_put_many(&[3, 4]).unwrap(), 2);
    assert_eq!(queue.put_many_timeout(&[5, 6], SHORT).unwrap(), 2);
    queue.try_put(&7).unwrap();
    queue.put_timeout(&8, SHORT).unwrap();
    assert!(queue.is_full().unwrap() && queue.maxsize() == Some(8));
    assert!(matches!(queue.put_timeout(&9, SHORT), Err(Error::Full)));
    assert_eq!((queue.get().unwrap(), queue.try_get().unwrap()), (1, 2));
    assert_eq!(queue.get_timeout(SHORT).unwrap(), 3);
    assert_eq!(queue.get_many(2).unwrap(), [4, 5]);
    assert_eq!(queue.try_get_many(2).unwrap(), [6, 7]);
    assert_eq!(queue.get_many_timeout(2, SHORT).unwrap(), [8]);
    assert!(matches!(queue.get_many_timeout(2, SHORT), Err(Error::Empty)));
    (0..8).for_each(|_| queue.task_done().unwrap());
    queue.join().unwrap();
    queue.close().unwrap();
    assert_eq!(queue.iter().count(), 0);
}

#[test]
fn join_reports_the_batch_that_a_killed_consumer_took() {
    let _turn = turn();
    in_child(|| {
        let queue = JoinableQueue::new().unwrap();
        let page = Page::new();
        queue.put_many(&[1, 2, 3, 4, 5]).unwrap();
        let consumer = os::fork(|| {
            assert_eq!(queue.get_many(3).unwrap(), [1, 2, 3]);
            assert_eq!(queue.get().unwrap(), 4);
            page.word(0).store(1, SeqCst);
            os::futex_wait(page.word(1), 0);
        });
        while page.word(0).load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        os::kill_and_reap(consumer);
        assert!(matches!(queue.join_timeout(PATIENCE), Err(Error::ItemsLost { items: 4 })));
        assert_eq!(queue.get().unwrap(), 5);
        queue.task_done().unwrap();
        queue.join().unwrap();
    });
}
