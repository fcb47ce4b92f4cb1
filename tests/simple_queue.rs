//! Simple queues between forked processes.

mod support;

use multiproc::{Error, Queue, SimpleQueue};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use support::os;
use support::{in_child, join, turn, watchdog};

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn it_is_empty_until_something_is_put_and_after_it_was_got() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = SimpleQueue::new().unwrap();
    assert!(queue.is_empty().unwrap());
    for i in 0..10 {
        queue.put(&i).unwrap();
    }
    assert!(!queue.is_empty().unwrap());
    for i in 0..10 {
        assert_eq!(queue.get().unwrap(), i);
    }
    assert!(queue.is_empty().unwrap());
    assert!(matches!(queue.try_get(), Err(Error::Empty)));
    assert!(matches!(queue.get_timeout(SHORT), Err(Error::Empty)));
}

#[test]
fn items_of_every_size_arrive_whole_and_in_order() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = SimpleQueue::<Vec<u8>>::new().unwrap();
    for len in [0, 1, 16 << 10, (16 << 10) - 8, (16 << 10) - 7, 100_000, 5 << 20] {
        let item: Vec<u8> = (0..len).map(|i| i as u8).collect();
        queue.put(&item).unwrap();
        queue.put(&vec![1]).unwrap();
        assert!(queue.get().unwrap() == item, "{len} bytes");
        assert_eq!(queue.get().unwrap(), [1]);
    }
}

#[test]
fn a_full_queue_is_full_and_its_putter_wakes_for_room() {
    let _turn = turn();
    in_child(|| {
        let queue = SimpleQueue::<[u8; 1000]>::new().unwrap();
        let mut count = 0;
        while queue.try_put(&[1; 1000]).is_ok() {
            count += 1;
        }
        assert!(count > 10);
        assert!(matches!(queue.try_put(&[1; 1000]), Err(Error::Full)));
        assert!(matches!(queue.put_timeout(&[1; 1000], SHORT), Err(Error::Full)));
        let putter = os::fork(|| queue.put(&[2; 1000]).unwrap());
        os::wait_until_asleep(putter);
        (0..count).for_each(|_| assert_eq!(queue.get().unwrap(), [1; 1000]));
        assert_eq!(queue.get().unwrap(), [2; 1000]);
        join(putter);
    });
}

#[test]
fn close_keeps_what_is_in_and_wakes_the_getters() {
    let _turn = turn();
    in_child(|| {
        let queue = SimpleQueue::<u32>::new().unwrap();
        let getters: Vec<_> = (0..2).map(|_| os::fork(|| while queue.get().is_ok() {})).collect();
        getters.iter().for_each(|pid| os::wait_until_asleep(*pid));
        queue.close().unwrap();
        getters.into_iter().for_each(join);
        assert!(matches!(queue.put(&1), Err(Error::Closed)));
        assert!(matches!(queue.get(), Err(Error::Closed)));
        assert!(queue.is_empty().unwrap());
        let queue = SimpleQueue::<u32>::new().unwrap();
        queue.put(&7).unwrap();
        queue.close().unwrap();
        assert_eq!(queue.get().unwrap(), 7);
        assert!(matches!(queue.try_get(), Err(Error::Closed)));
    });
}

#[test]
fn descriptors_travel_with_small_and_large_items() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = SimpleQueue::<(Vec<u8>, File, File)>::new().unwrap();
    let open = || File::open("/proc/self/cmdline").unwrap();
    for len in [3, 200_000] {
        queue.put(&(vec![9; len], open(), open())).unwrap();
        let (bytes, mut first, second) = queue.get().unwrap();
        assert!(bytes == vec![9; len]);
        assert!(first.read(&mut [0]).unwrap() == 1 && second.metadata().is_ok());
    }
}

#[test]
fn two_putters_and_two_getters_lose_nothing() {
    let _turn = turn();
    in_child(|| {
        let queue = SimpleQueue::<u32>::new().unwrap();
        let sums = Queue::new().unwrap();
        let putters: Vec<_> =
            (0..2).map(|_| os::fork(|| (1..=1000).for_each(|i| queue.put(&i).unwrap()))).collect();
        let getters: Vec<_> = (0..2)
            .map(|_| {
                os::fork(|| {
                    let sum: u32 = std::iter::from_fn(|| queue.get().ok()).sum();
                    sums.put(&sum).unwrap();
                })
            })
            .collect();
        putters.into_iter().for_each(join);
        queue.close().unwrap();
        getters.into_iter().for_each(join);
        assert_eq!(sums.get().unwrap() + sums.get().unwrap(), 1000 * 1001);
    });
}

#[test]
fn it_can_be_polled_and_sent() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let queue = SimpleQueue::<u32>::new().unwrap();
    let post = SimpleQueue::new().unwrap();
    post.put(&queue).unwrap();
    let other: SimpleQueue<u32> = post.get().unwrap();
    let mut poll = os::Poll::of(queue.as_fd());
    assert!(!poll.is_readable(0));
    other.put(&1).unwrap();
    assert!(poll.is_readable(-1));
    assert_eq!(queue.get().unwrap(), 1);
}

#[test]
fn get_without_free_descriptors_fails_and_loses_nothing() {
    let _turn = turn();
    in_child(|| {
        for len in [3, 200_000] {
            let queue = SimpleQueue::<(Vec<u8>, Vec<OwnedFd>)>::new().unwrap();
            let open = || OwnedFd::from(File::open("/dev/null").unwrap());
            queue.put(&(vec![9; len], (0..100).map(|_| open()).collect())).unwrap();
            queue.put(&(vec![8], vec![])).unwrap();
            os::limit_descriptors(60);
            for error in [queue.get(), queue.try_get(), queue.get_timeout(SHORT)] {
                let error = error.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
            }
            assert!(!queue.is_empty().unwrap());
            os::limit_descriptors(500);
            let (bytes, fds) = queue.get().unwrap();
            assert!(bytes == vec![9; len] && fds.len() == 100);
            assert_eq!(queue.get().unwrap().0, [8]);
        }
    });
}

#[test]
fn a_getter_that_is_killed_asleep_leaves_its_place_to_the_next() {
    let _turn = turn();
    in_child(|| {
        let queue = SimpleQueue::<u32>::new().unwrap();
        let getters: Vec<_> = (0..3)
            .map(|_| {
                let getter = os::fork(|| assert_eq!(queue.get().unwrap(), 1));
                os::wait_until_asleep(getter);
                getter
            })
            .collect();
        // One that does not want to wait is not held up by those who do.
        assert!(matches!(queue.try_get(), Err(Error::Empty)));
        assert!(matches!(queue.get_timeout(SHORT), Err(Error::Empty)));
        os::kill_and_reap(getters[0]);
        os::kill_and_reap(getters[1]);
        queue.put(&1).unwrap();
        join(getters[2]);
    });
}
