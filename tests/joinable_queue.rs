//! Joinable queues whose consumers finish, and are killed.

mod support;

use multiproc::{Error, JoinableQueue, Queue};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use support::os::{self, Page, Status};
use support::{in_child, watchdog};

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

/// Waits for a forked child and asserts that it ended well.
fn join(pid: os::Pid) {
    let status = os::wait_until(pid, Instant::now() + PATIENCE);
    assert_eq!(status, Some(Status::Exited(0)), "{:?}", os::look(pid));
}

/// One test at a time: a fork must not find the library's locks held by another test's thread.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

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
