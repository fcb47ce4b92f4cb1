//! Queues between threads, forked processes and killed ones.

mod support;

use multiproc::{Error, Queue};
use std::time::{Duration, Instant};
use support::os::{self, Page};
use support::{in_child, in_child_within, join, turn, watchdog};

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn items_come_out_in_the_order_they_went_in() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::new().unwrap();
    for i in 0..1000u32 {
        queue.put(&i).unwrap();
    }
    assert_eq!(queue.len().unwrap(), 1000);
    for i in 0..1000 {
        assert_eq!(queue.get().unwrap(), i);
    }
    assert!(queue.is_empty().unwrap());
}

#[test]
fn put_returns_full_when_the_timeout_passes() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::bounded(6).unwrap();
    assert!(queue.is_empty().unwrap() && !queue.is_full().unwrap());
    for i in 0..6 {
        queue.put(&i).unwrap();
    }
    assert!(!queue.is_empty().unwrap() && queue.is_full().unwrap());
    assert_eq!((queue.len().unwrap(), queue.maxsize()), (6, Some(6)));
    assert!(matches!(queue.try_put(&7), Err(Error::Full)));
    let start = Instant::now();
    assert!(matches!(queue.put_timeout(&7, SHORT), Err(Error::Full)));
    assert!(start.elapsed() >= SHORT);
    assert_eq!(queue.get().unwrap(), 0);
    queue.try_put(&7).unwrap();
    assert!(queue.is_full().unwrap());
}

#[test]
fn get_returns_empty_when_the_timeout_passes() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::<u8>::new().unwrap();
    assert!(matches!(queue.try_get(), Err(Error::Empty)));
    let start = Instant::now();
    assert!(matches!(queue.get_timeout(SHORT), Err(Error::Empty)));
    assert!(start.elapsed() >= SHORT);
    assert!(matches!(queue.get_timeout(Duration::ZERO), Err(Error::Empty)));
    queue.put(&1).unwrap();
    assert_eq!(queue.get_timeout(Duration::MAX).unwrap(), 1);
}

#[test]
fn what_was_put_can_be_got_at_once() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::new().unwrap();
    for i in 0..10_000u64 {
        queue.put(&i).unwrap();
        assert_eq!(queue.try_get().unwrap(), i);
    }
}

#[test]
fn get_wakes_for_what_another_process_puts() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::<String>::new().unwrap();
        let getter = os::fork(|| assert_eq!(queue.get().unwrap(), "hello"));
        os::wait_until_asleep(getter);
        queue.put(&"hello".to_string()).unwrap();
        join(getter);
    });
}

#[test]
fn put_wakes_when_another_process_makes_room() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::bounded(2).unwrap();
        queue.put(&1u8).unwrap();
        queue.put(&2).unwrap();
        let putter = os::fork(|| queue.put(&3).unwrap());
        os::wait_until_asleep(putter);
        assert_eq!(queue.get().unwrap(), 1);
        join(putter);
        assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (2, 3));
    });
}

#[test]
fn one_deadline_covers_the_wait_behind_another_and_the_wait_for_room_or_an_item() {
    let _turn = turn();
    in_child(|| {
        let (full, empty) = (Queue::bounded(1).unwrap(), Queue::<u8>::new().unwrap());
        full.put(&1u8).unwrap();
        let putter = os::fork(|| full.put(&2).unwrap());
        let getter = os::fork(|| assert_eq!(empty.get().unwrap(), 3));
        [putter, getter].into_iter().for_each(os::wait_until_asleep);
        // Both have the turn, asleep, for longer than these wait.
        for timeout in [Duration::ZERO, SHORT] {
            let start = Instant::now();
            assert!(matches!(full.put_timeout(&4, timeout), Err(Error::Full)));
            assert!(matches!(full.put_many_timeout(&[4, 4], timeout), Err(Error::Full)));
            assert!(matches!(empty.get_timeout(timeout), Err(Error::Empty)));
            assert!(matches!(empty.get_many_timeout(2, timeout), Err(Error::Empty)));
            assert!(start.elapsed() >= 4 * timeout);
        }
        empty.put(&3).unwrap();
        assert_eq!((full.get().unwrap(), full.get().unwrap()), (1, 2));
        [putter, getter].into_iter().for_each(join);
    });
}

#[test]
fn messages_of_every_size_arrive_whole() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::<Vec<u8>>::new().unwrap();
    for size in [0, 1, 7, 8, 15, 16, 17, 4096, 32_700, 32_768, 65_536, 1 << 20, 100 << 20] {
        let item: Vec<u8> = (0..size).map(|i: usize| (i % 251) as u8).collect();
        queue.put(&item).unwrap();
        queue.put(&vec![7; 3]).unwrap();
        assert!(queue.get().unwrap() == item, "{size} bytes");
        assert_eq!(queue.get().unwrap(), [7; 3]);
    }
}

#[test]
fn a_message_that_no_queue_of_the_size_could_hold_is_refused() {
    let _turn = turn();
    let queue = Queue::<Vec<u8>>::builder().max_bytes(64 << 10).build().unwrap();
    let error = queue.put(&vec![0; 64 << 10]).unwrap_err();
    assert!(matches!(error, Error::MessageTooLong { len: 65_544, .. }), "{error:?}");
    assert!(queue.is_empty().unwrap());
    queue.put(&vec![0; 32 << 10]).unwrap();
    let error = Queue::<u8>::builder().max_bytes(0).build().unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }));
}

#[test]
fn an_item_that_cannot_be_encoded_fails_in_put_and_takes_no_slot() {
    let _turn = turn();
    struct Never;
    impl multiproc::Encode for Never {
        fn encode(&self, encoder: &mut multiproc::Encoder<'_>) {
            encoder.fail(Error::Encode { reason: "never".into() });
        }
    }
    let queue = Queue::<Never>::bounded(1).unwrap();
    for _ in 0..3 {
        assert!(matches!(queue.put(&Never), Err(Error::Encode { .. })));
    }
    assert!(queue.is_empty().unwrap());
}

#[test]
fn a_queue_grows_until_its_limit_and_then_says_full() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::<Vec<u8>>::builder().max_bytes(4 << 20).build().unwrap();
    let item = vec![1; 1000];
    let mut count = 0;
    while queue.try_put(&item).is_ok() {
        count += 1;
    }
    assert!(count > (4 << 20) * 9 / 10 / 1024, "{count}");
    assert!(matches!(queue.put_timeout(&item, SHORT), Err(Error::Full)));
    for i in 0..count {
        assert_eq!(queue.get().unwrap().len(), 1000, "{i}");
    }
    assert!(matches!(queue.try_get(), Err(Error::Empty)));
}

#[test]
fn items_keep_their_order_while_the_queue_grows_shrinks_and_goes_round() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::<(u64, Vec<u8>)>::builder().max_bytes(2 << 20).build().unwrap();
    let (mut put, mut got, mut random) = (0u64, 0u64, 1u64);
    while got < 20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let size = ((random >> 40) % 3000) as usize * if random >> 60 == 0 { 20 } else { 1 };
        let filling = (put / 997) % 2 == 0;
        let wanted = filling || put == got;
        if wanted && queue.try_put(&(put, vec![put as u8; size])).is_ok() {
            put += 1;
            continue;
        }
        for _ in 0..if filling { 1 } else { 3 } {
            if put > got {
                let (number, bytes) = queue.get().unwrap();
                assert_eq!(number, got);
                assert!(bytes.iter().all(|&byte| byte == got as u8));
                got += 1;
            }
        }
        if !filling {
            put += u64::from(queue.try_put(&(put, vec![put as u8; size])).is_ok());
        }
    }
}

#[test]
fn close_refuses_puts_keeps_what_is_in_and_ends_the_getters() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::<u32>::new().unwrap();
        let done = Page::new();
        let getters = [(); 3].map(|()| {
            os::fork(|| {
                while let Some(item) = queue.iter().next() {
                    done.counter(0)
                        .fetch_add(item.unwrap().into(), std::sync::atomic::Ordering::SeqCst);
                }
            })
        });
        getters.into_iter().for_each(os::wait_until_asleep);
        queue.put(&5).unwrap();
        queue.close().unwrap();
        queue.close().unwrap();
        assert!(queue.is_closed());
        assert!(matches!(queue.put(&6), Err(Error::Closed)));
        assert!(matches!(queue.try_put(&6), Err(Error::Closed)));
        getters.into_iter().for_each(join);
        assert_eq!(done.counter(0).load(std::sync::atomic::Ordering::SeqCst), 5);
        assert!(matches!(queue.get(), Err(Error::Closed)));
        assert!(matches!(queue.try_get(), Err(Error::Closed)));
    });
}

#[test]
fn close_ends_those_who_wait_to_put() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::bounded(1).unwrap();
        queue.put(&1u8).unwrap();
        let putters =
            [(); 3].map(|()| os::fork(|| assert!(matches!(queue.put(&2), Err(Error::Closed)))));
        putters.into_iter().for_each(os::wait_until_asleep);
        queue.close().unwrap();
        putters.into_iter().for_each(join);
        assert_eq!(queue.get().unwrap(), 1);
    });
}

#[test]
fn two_producers_and_two_consumers_keep_each_producers_order() {
    let _turn = turn();
    in_child_within(PATIENCE, || {
        const EACH: u64 = 20_000;
        for (maxsize, max_bytes) in [(0, 1 << 30), (10, 1 << 30), (0, 8192)] {
            let queue = Queue::<(u8, u64)>::builder();
            let queue = queue.maxsize(maxsize).max_bytes(max_bytes).build().unwrap();
            let sum = Page::new();
            let producers = [0u8, 1].map(|name| {
                let queue = &queue;
                os::fork(move || (0..EACH).for_each(|i| queue.put(&(name, i)).unwrap()))
            });
            let consumers = [(); 2].map(|()| {
                os::fork(|| {
                    let mut last = [None; 2];
                    for item in &queue {
                        let (name, i) = item.unwrap();
                        assert!(last[name as usize].is_none_or(|last| last < i));
                        last[name as usize] = Some(i);
                        sum.counter(0).fetch_add(i, std::sync::atomic::Ordering::SeqCst);
                        sum.counter(1).fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                })
            });
            producers.into_iter().for_each(join);
            queue.close().unwrap();
            consumers.into_iter().for_each(join);
            assert_eq!(sum.counter(1).load(std::sync::atomic::Ordering::SeqCst), 2 * EACH);
            assert_eq!(sum.counter(0).load(std::sync::atomic::Ordering::SeqCst), EACH * (EACH - 1));
        }
    });
}

#[test]
fn many_threads_share_one_handle() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::<u64>::bounded(5).unwrap();
    let sum = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for item in &queue {
                    sum.fetch_add(item.unwrap(), std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
        let putters =
            [(); 3].map(|()| scope.spawn(|| (0..5000).for_each(|i| queue.put(&i).unwrap())));
        putters.into_iter().for_each(|putter| putter.join().unwrap());
        queue.close().unwrap();
    });
    assert_eq!(sum.into_inner(), 3 * 4999 * 2500);
}

#[test]
fn a_queue_travels_through_a_queue() {
    let _turn = turn();
    in_child(|| {
        let outer = Queue::<Queue<u32>>::new().unwrap();
        let inner = Queue::new().unwrap();
        inner.put(&1).unwrap();
        outer.put(&inner).unwrap();
        let child = os::fork(|| {
            let inner = outer.get().unwrap();
            assert_eq!(inner.get().unwrap(), 1);
            inner.put(&2).unwrap();
        });
        join(child);
        assert_eq!(inner.get().unwrap(), 2);
        assert_eq!(inner.len().unwrap(), 0);
    });
}

#[test]
fn debug_shows_what_there_is() {
    let _turn = turn();
    let queue = Queue::bounded(3).unwrap();
    queue.put(&1).unwrap();
    assert_eq!(format!("{queue:?}"), "Queue { len: 1, maxsize: Some(3), closed: false }");
}

#[test]
fn what_a_killed_process_put_stays() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::<Vec<u8>>::new().unwrap();
        let putter = os::fork(|| {
            (0..3).for_each(|_| queue.put(&vec![9; 50_000]).unwrap());
            std::thread::sleep(PATIENCE);
        });
        while queue.len().unwrap() < 3 {
            std::thread::yield_now();
        }
        os::kill_and_reap(putter);
        (0..3).for_each(|_| assert_eq!(queue.get().unwrap(), vec![9; 50_000]));
    });
}

#[test]
fn a_getter_that_is_killed_asleep_leaves_its_place_to_the_next() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::<u8>::new().unwrap();
        let getters = [(); 3].map(|()| {
            let getter = os::fork(|| assert_eq!(queue.get().unwrap(), 1));
            os::wait_until_asleep(getter);
            getter
        });
        os::kill_and_reap(getters[0]);
        os::kill_and_reap(getters[1]);
        queue.put(&1).unwrap();
        join(getters[2]);
    });
}

#[test]
fn a_handle_that_came_as_a_message_is_the_same_queue() {
    let _turn = turn();
    // A second handle that came as a message maps the memory anew.
    in_child(|| {
        let through = Queue::<Queue<Vec<u8>>>::new().unwrap();
        let first = Queue::<Vec<u8>>::new().unwrap();
        through.put(&first).unwrap();
        let second = through.get().unwrap();
        for len in [10, 100_000, 3_000_000] {
            first.put(&vec![1; len]).unwrap();
            assert_eq!(second.get().unwrap().len(), len);
        }
        second.close().unwrap();
        assert!(first.is_closed());
    });
}

#[test]
fn batches_go_in_and_come_out_in_order_and_say_how_many() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::bounded(5).unwrap();
    assert_eq!(queue.try_put_many(&[1, 2, 3]).unwrap(), 3);
    assert_eq!(queue.try_put_many(&[4, 5, 6]).unwrap(), 2);
    assert!(matches!(queue.try_put_many(&[6]), Err(Error::Full)));
    assert!(matches!(queue.put_many_timeout(&[6], SHORT), Err(Error::Full)));
    assert_eq!(queue.get_many(2).unwrap(), [1, 2]);
    assert_eq!(queue.put_many(&[6, 7]).unwrap(), 2);
    assert_eq!(queue.get_many(100).unwrap(), [3, 4, 5, 6, 7]);
    assert!(matches!(queue.try_get_many(1), Err(Error::Empty)));
    assert!(matches!(queue.get_many_timeout(1, SHORT), Err(Error::Empty)));
    assert!(queue.get_many(0).unwrap().is_empty() && queue.put_many(&[]).unwrap() == 0);
    queue.close().unwrap();
    assert!(matches!(queue.get_many(1), Err(Error::Closed)));
    assert!(matches!(queue.put_many(&[1]), Err(Error::Closed)));
}

#[test]
fn a_batch_larger_than_the_queue_goes_through_it_whole() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::<String>::builder().max_bytes(96 << 10).build().unwrap();
    let items: Vec<String> = (0..2000).map(|i| format!("{i}{}", "x".repeat(i))).collect();
    let child = os::fork(|| assert_eq!(queue.put_many(&items).unwrap(), items.len()));
    let mut got = Vec::new();
    while got.len() < items.len() {
        got.extend(queue.get_many(300).unwrap());
    }
    assert!(got == items);
    join(child);
}

#[test]
fn an_item_of_a_batch_that_cannot_be_encoded_fails_it_before_any_is_in() {
    let _turn = turn();
    struct Picky(bool);
    impl multiproc::Encode for Picky {
        fn encode(&self, encoder: &mut multiproc::Encoder<'_>) {
            if !self.0 {
                encoder.fail(Error::Encode { reason: "picky".into() });
            }
        }
    }
    let queue = Queue::<Picky>::new().unwrap();
    assert!(matches!(queue.put_many(&[Picky(true), Picky(false)]), Err(Error::Encode { .. })));
    assert!(queue.is_empty().unwrap());
}

#[test]
fn any_number_of_pollers_wake_for_an_item_and_sleep_again_when_it_is_taken() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::<u32>::new().unwrap();
    let mut poll = os::Poll::of(queue.readiness().unwrap());
    assert!(matches!(queue.try_get(), Err(Error::Empty)));
    assert!(!poll.is_readable(0));
    let watchers: Vec<_> = (0..2)
        .map(|_| {
            os::fork(|| {
                let mut poll = os::Poll::of(queue.readiness().unwrap());
                assert!(poll.is_readable(-1));
            })
        })
        .collect();
    watchers.iter().for_each(|pid| os::wait_until_asleep(*pid));
    queue.put(&1).unwrap();
    watchers.into_iter().for_each(join);
    assert!(poll.is_readable(0));
    assert_eq!(queue.try_get().unwrap(), 1);
    assert!(matches!(queue.try_get(), Err(Error::Empty)));
    assert!(!poll.is_readable(0));
    queue.put(&2).unwrap();
    queue.put(&3).unwrap();
    assert_eq!(queue.get().unwrap(), 2);
    assert!(poll.is_readable(0), "an item is left");
    assert_eq!(queue.get().unwrap(), 3);
    queue.close().unwrap();
    assert!(poll.is_readable(0), "closed");
}

#[test]
fn a_poller_and_a_getter_wait_side_by_side() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = Queue::<u32>::new().unwrap();
    let getter = os::fork(|| assert_eq!(queue.get().unwrap(), 1));
    os::wait_until_asleep(getter);
    let watcher = os::fork(|| {
        let mut poll = os::Poll::of(queue.readiness().unwrap());
        loop {
            assert!(poll.is_readable(-1));
            match queue.try_get() {
                Ok(item) => return assert_eq!(item, 2),
                Err(error) => assert!(matches!(error, Error::Empty), "{error}"),
            }
        }
    });
    os::wait_until_asleep(watcher);
    queue.put(&1).unwrap();
    join(getter);
    queue.put(&2).unwrap();
    join(watcher);
}
