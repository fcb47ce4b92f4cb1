//! Queues given to children of every start method.

#[path = "support/alone.rs"]
mod alone;
mod support;

use alone::alone;
use multiproc::{
    Child, Error, Event, JoinableQueue, Process, Queue, Receiver, Sender, SimpleQueue, StartMethod,
    Target, all_start_methods, bounded_channel, channel,
};
use std::time::{Duration, Instant};

multiproc::init_before_main!();

const SHORT: Duration = Duration::from_millis(20);

fn start<A, R, F: Target<A, R>>(method: StartMethod, work: F, arguments: A) -> Child<R>
where
    A: multiproc::Encode + multiproc::Decode + 'static,
    R: multiproc::Encode + multiproc::Decode + 'static,
{
    Process::new(work, arguments).start_method(method).start().unwrap()
}

fn sleep() {
    loop {
        std::thread::park();
    }
}

#[test]
fn a_bounded_queue_refuses_every_form_of_put_until_a_child_has_emptied_it() {
    alone(|| {
        for method in all_start_methods() {
            let queue = Queue::bounded(6).unwrap();
            let (go, gone) = (Event::new().unwrap(), Event::new().unwrap());
            let drain = |queue: Queue<u32>, go: Event, gone: Event| {
                go.wait().unwrap();
                let all: Vec<u32> = (0..6).map(|_| queue.get().unwrap()).collect();
                gone.set().unwrap();
                all
            };
            let child = start(method, drain, (queue.clone(), go.clone(), gone.clone()));
            assert!(queue.is_empty().unwrap() && !queue.is_full().unwrap());
            queue.put(&1).unwrap();
            queue.put_timeout(&2, Duration::MAX).unwrap();
            queue.put_timeout(&3, Duration::ZERO).unwrap();
            queue.try_put(&4).unwrap();
            assert_eq!(queue.put_many(&[5, 6]).unwrap(), 2);
            assert!(!queue.is_empty().unwrap() && queue.is_full().unwrap());
            assert!(matches!(queue.try_put(&7), Err(Error::Full)));
            assert!(matches!(queue.put_timeout(&7, Duration::ZERO), Err(Error::Full)));
            let begin = Instant::now();
            assert!(matches!(queue.put_timeout(&7, SHORT), Err(Error::Full)));
            assert!(begin.elapsed() >= SHORT);
            go.set().unwrap();
            gone.wait().unwrap();
            assert!(queue.is_empty().unwrap() && !queue.is_full().unwrap());
            assert_eq!(child.join().unwrap(), [1, 2, 3, 4, 5, 6], "{method}");
        }
    });
}

#[test]
fn every_form_of_get_finds_what_a_child_has_put_and_then_nothing() {
    alone(|| {
        for method in all_start_methods() {
            let queue = Queue::new().unwrap();
            let put = |queue: Queue<u32>| (2..6).for_each(|i| queue.put(&i).unwrap());
            start(method, put, (queue.clone(),)).join().unwrap();
            // The child has ended, and its items are there all the same.
            assert_eq!(queue.len().unwrap(), 4, "{method}");
            assert_eq!(queue.get().unwrap(), 2);
            assert_eq!(queue.get_timeout(Duration::MAX).unwrap(), 3);
            assert_eq!(queue.get_timeout(Duration::ZERO).unwrap(), 4);
            assert_eq!(queue.try_get().unwrap(), 5);
            assert!(queue.is_empty().unwrap());
            assert!(matches!(queue.try_get(), Err(Error::Empty)));
            assert!(matches!(queue.get_timeout(Duration::ZERO), Err(Error::Empty)));
            let begin = Instant::now();
            assert!(matches!(queue.get_timeout(10 * SHORT), Err(Error::Empty)));
            assert!(begin.elapsed() >= 10 * SHORT);
        }
    });
}

#[test]
fn what_the_parent_put_before_it_started_a_child_is_there_once_and_before_the_childs() {
    alone(|| {
        for method in all_start_methods() {
            let queue = Queue::new().unwrap();
            (0..10).for_each(|i| queue.put(&i).unwrap());
            assert_eq!(queue.len().unwrap(), 10);
            let more = |queue: Queue<u32>| (10..20).for_each(|i| queue.put(&i).unwrap());
            start(method, more, (queue.clone(),)).join().unwrap();
            let all: Vec<u32> = (0..20).map(|_| queue.get().unwrap()).collect();
            assert!(all.into_iter().eq(0..20), "{method}");
            assert!(matches!(queue.try_get(), Err(Error::Empty)));
            assert_eq!(queue.len().unwrap(), 0);
        }
    });
}

#[test]
fn join_returns_once_four_workers_have_done_ten_items() {
    alone(|| {
        for method in all_start_methods() {
            let queue = JoinableQueue::new().unwrap();
            let work = |queue: JoinableQueue<u32>| {
                let mut count = 0u32;
                for item in queue.iter() {
                    item.unwrap();
                    queue.task_done().unwrap();
                    count += 1;
                }
                count
            };
            let workers: Vec<_> = (0..4).map(|_| start(method, work, (queue.clone(),))).collect();
            (0..10).for_each(|i| queue.put(&i).unwrap());
            queue.join().unwrap();
            assert_eq!(queue.unfinished().unwrap(), 0);
            queue.close().unwrap();
            let counts = workers.into_iter().map(|worker| worker.join().unwrap());
            assert_eq!(counts.sum::<u32>(), 10, "{method}");
        }
    });
}

#[test]
fn a_closed_queue_is_closed_for_children_too() {
    alone(|| {
        for method in all_start_methods() {
            let (queue, joinable) = (Queue::new().unwrap(), JoinableQueue::new().unwrap());
            queue.put(&1).unwrap();
            queue.close().unwrap();
            joinable.close().unwrap();
            let look = |queue: Queue<u32>, joinable: JoinableQueue<u32>| {
                assert!(matches!(queue.put(&2), Err(Error::Closed)));
                assert_eq!(queue.get().unwrap(), 1);
                assert!(matches!(queue.get(), Err(Error::Closed)));
                assert!(queue.is_empty().unwrap() && queue.is_closed());
                assert!(matches!(joinable.put(&2), Err(Error::Closed)));
                assert!(matches!(joinable.try_get(), Err(Error::Closed)));
                assert!(joinable.is_empty().unwrap());
            };
            start(method, look, (queue, joinable)).join().unwrap();
        }
    });
}

#[test]
fn a_simple_queue_is_empty_until_a_child_puts_and_after_it_was_drained() {
    alone(|| {
        for method in all_start_methods() {
            let queue = SimpleQueue::new().unwrap();
            let go = Event::new().unwrap();
            let put = |queue: SimpleQueue<Option<String>>, go: Event| {
                go.wait().unwrap();
                queue.put(&Some("text".to_string())).unwrap();
                queue.put(&None).unwrap();
            };
            let child = start(method, put, (queue.clone(), go.clone()));
            assert!(queue.is_empty().unwrap());
            go.set().unwrap();
            child.join().unwrap();
            assert!(!queue.is_empty().unwrap());
            assert_eq!(queue.get().unwrap().as_deref(), Some("text"), "{method}");
            assert_eq!(queue.get().unwrap(), None);
            assert!(queue.is_empty().unwrap());
            queue.close().unwrap();
            queue.close().unwrap();
            assert!(matches!(queue.try_get(), Err(Error::Closed)));
        }
    });
}

#[test]
fn a_child_passes_its_queue_on_to_a_grandchild_of_every_method() {
    alone(|| {
        for method in all_start_methods() {
            let queue = Queue::new().unwrap();
            let pass_on = |queue: Queue<u32>, numbers: Queue<u32>| {
                for (method, n) in all_start_methods().into_iter().zip(0..) {
                    let put = |queue: Queue<u32>, n: u32| queue.put(&n).unwrap();
                    start(method, put, (queue.clone(), n)).join().unwrap();
                    numbers.put(&n).unwrap();
                }
            };
            let numbers = Queue::new().unwrap();
            start(method, pass_on, (queue.clone(), numbers.clone())).join().unwrap();
            assert_eq!(queue.get_many(9).unwrap(), [0, 1, 2], "{method}");
            assert_eq!(numbers.get_many(9).unwrap(), [0, 1, 2], "{method}");
        }
    });
}

#[test]
fn the_last_sender_leaves_when_its_process_ends_or_is_killed() {
    alone(|| {
        for method in all_start_methods() {
            for kill in [false, true] {
                let (sender, receiver) = channel::<u32>().unwrap();
                let send = |sender: Sender<u32>, kill: bool| {
                    sender.send(&7).unwrap();
                    if kill {
                        sleep();
                    }
                };
                let child = start(method, send, (sender, kill));
                assert_eq!(receiver.recv().unwrap(), 7, "{method}");
                if kill {
                    child.kill().unwrap();
                }
                assert!(matches!(receiver.recv(), Err(Error::Disconnected)), "{method} {kill}");
                assert_eq!(child.join().is_ok(), !kill);
            }
        }
    });
}

#[test]
fn the_last_receiver_leaves_when_its_process_ends_or_is_killed() {
    alone(|| {
        for method in all_start_methods() {
            for kill in [false, true] {
                let (sender, receiver) = bounded_channel::<u32>(1).unwrap();
                let receive = |receiver: Receiver<u32>, kill: bool| {
                    assert_eq!(receiver.recv().unwrap(), 7);
                    if kill {
                        sleep();
                    }
                };
                let child = start(method, receive, (receiver, kill));
                sender.send(&7).unwrap();
                // Fills the channel once the child has taken the other.
                let second = sender.send(&8);
                if kill {
                    second.unwrap();
                    child.kill().unwrap();
                }
                assert!(matches!(sender.send(&9), Err(Error::Disconnected)), "{method} {kill}");
                assert_eq!(child.join().is_ok(), !kill);
            }
        }
    });
}
