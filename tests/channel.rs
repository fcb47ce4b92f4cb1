//! Channels whose ends are dropped, end and are killed.

mod support;

use multiproc::{
    Error, JoinableQueue, Queue, Receiver, Sender, SimpleQueue, Waitable, bounded_channel, channel,
    wait,
};
use std::time::Duration;
use support::os::{self, Page};
use support::{in_child, join, turn, watchdog};

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn what_was_sent_is_received_before_the_disconnection() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let (sender, receiver) = channel::<u32>().unwrap();
    assert!(matches!(receiver.try_recv(), Err(Error::Empty)));
    assert!(matches!(receiver.recv_timeout(SHORT), Err(Error::Empty)));
    let other = sender.clone();
    sender.send(&1).unwrap();
    drop(sender);
    other.send(&2).unwrap();
    assert_eq!(receiver.len().unwrap(), 2);
    drop(other);
    assert_eq!(receiver.recv().unwrap(), 1);
    assert_eq!(receiver.try_recv().unwrap(), 2);
    assert!(matches!(receiver.try_recv(), Err(Error::Disconnected)));
    assert!(matches!(receiver.recv_timeout(SHORT), Err(Error::Disconnected)));
    assert!(matches!(receiver.recv(), Err(Error::Disconnected)));
}

#[test]
fn send_fails_once_the_last_receiver_is_dropped() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let (sender, receiver) = channel::<u32>().unwrap();
    let other = receiver.clone();
    drop(receiver);
    sender.send(&1).unwrap();
    drop(other);
    assert!(matches!(sender.send(&2), Err(Error::Disconnected)));
    assert!(matches!(sender.try_send(&2), Err(Error::Disconnected)));
    assert!(matches!(sender.send_many(&[2]), Err(Error::Disconnected)));
    assert_eq!(sender.len().unwrap(), 1);
}

#[test]
fn receivers_that_sleep_wake_when_the_last_sender_is_killed() {
    let _turn = turn();
    in_child(|| {
        let (sender, receiver) = channel::<u32>().unwrap();
        let page = Page::new();
        let holder = os::fork(|| {
            // Holds the only sender as soon as the parent has dropped its own.
            page.word(0).store(1, std::sync::atomic::Ordering::SeqCst);
            os::futex_wait(page.word(1), 0);
            let _ = &sender;
        });
        drop(sender);
        let receivers: Vec<_> = (0..2)
            .map(|_| os::fork(|| assert!(matches!(receiver.recv(), Err(Error::Disconnected)))))
            .collect();
        receivers.iter().for_each(|pid| os::wait_until_asleep(*pid));
        os::kill_and_reap(holder);
        receivers.into_iter().for_each(join);
    });
}

#[test]
fn senders_that_wait_for_room_wake_when_the_last_receiver_is_killed() {
    let _turn = turn();
    in_child(|| {
        let (sender, receiver) = bounded_channel::<u32>(1).unwrap();
        let page = Page::new();
        let holder = os::fork(|| os::futex_wait(page.word(0), 0));
        drop(receiver);
        sender.send(&1).unwrap();
        let senders: Vec<_> = (0..2)
            .map(|_| os::fork(|| assert!(matches!(sender.send(&2), Err(Error::Disconnected)))))
            .collect();
        senders.iter().for_each(|pid| os::wait_until_asleep(*pid));
        os::kill_and_reap(holder);
        senders.into_iter().for_each(join);
    });
}

#[test]
fn a_sender_killed_in_the_middle_of_a_large_item_disturbs_nobody() {
    let _turn = turn();
    in_child(|| {
        let (sender, receiver) = channel::<Vec<u8>>().unwrap();
        let item = vec![7; 8 << 20];
        for round in 0..40 {
            let victim = os::fork(|| while sender.send(&item).is_ok() {});
            std::thread::sleep(Duration::from_micros(300 * round));
            os::kill_and_reap(victim);
            sender.send(&vec![1]).unwrap();
            loop {
                match receiver.recv().unwrap() {
                    bytes if bytes == [1] => break,
                    bytes => assert!(bytes == item, "a broken item"),
                }
            }
        }
        drop(sender);
        assert!(matches!(receiver.recv(), Err(Error::Disconnected)));
    });
}

#[test]
fn ends_travel_as_messages_and_keep_their_side_in_being() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let (sender, receiver) = channel::<u32>().unwrap();
    let post = Queue::<(Sender<u32>, Receiver<u32>)>::new().unwrap();
    post.put(&(sender.clone(), receiver.clone())).unwrap();
    drop((sender, receiver));
    let (sender, receiver) = post.get().unwrap();
    sender.send(&5).unwrap();
    assert_eq!(receiver.recv().unwrap(), 5);
    drop(receiver);
    assert!(matches!(sender.send(&6), Err(Error::Disconnected)));
}

#[test]
fn a_poller_sees_items_and_the_disconnection() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let (sender, receiver) = channel::<u32>().unwrap();
    let mut poll = os::Poll::of(receiver.readiness().unwrap());
    assert!(matches!(receiver.try_recv(), Err(Error::Empty)));
    assert!(!poll.is_readable(0));
    sender.send(&1).unwrap();
    assert!(poll.is_readable(-1));
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(matches!(receiver.try_recv(), Err(Error::Empty)));
    assert!(!poll.is_readable(0));
    drop(sender);
    assert!(poll.is_readable(-1));
}

#[test]
fn wait_tells_of_items_and_of_the_disconnection() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let (sender, receiver) = channel::<u32>().unwrap();
    let (simple, joinable) = (SimpleQueue::<u32>::new().unwrap(), JoinableQueue::new().unwrap());
    let all: [&dyn Waitable; 3] = [&receiver, &simple, &joinable];
    assert!(wait(&all, Some(SHORT)).unwrap().is_empty());
    joinable.put(&1).unwrap();
    assert_eq!(wait(&all, None).unwrap(), [2]);
    simple.put(&1).unwrap();
    sender.send(&1).unwrap();
    assert_eq!(wait(&all, None).unwrap(), [0, 1, 2]);
    assert_eq!((receiver.recv().unwrap(), simple.get().unwrap()), (1, 1));
    assert_eq!(wait(&all, None).unwrap(), [2]);
    assert_eq!(joinable.get().unwrap(), 1);
    assert!(wait(&all, Some(SHORT)).unwrap().is_empty());
    drop(sender);
    assert_eq!(wait(&all, None).unwrap(), [0]);
}

#[test]
fn every_form_of_send_and_receive_keeps_the_order() {
    let _turn = turn();
    let _watchdog = watchdog(PATIENCE);
    let (sender, receiver) = bounded_channel(6).unwrap();
    sender.send(&1).unwrap();
    sender.try_send(&2).unwrap();
    sender.send_timeout(&3, SHORT).unwrap();
    assert_eq!(sender.try_send_many(&[4, 5]).unwrap(), 2);
    assert_eq!(sender.send_many_timeout(&[6, 7], SHORT).unwrap(), 1);
    assert!(sender.is_full().unwrap());
    assert!(matches!(sender.try_send_many(&[7]), Err(Error::Full)));
    assert!(matches!(sender.send_timeout(&7, SHORT), Err(Error::Full)));
    assert_eq!(receiver.recv().unwrap(), 1);
    assert_eq!(receiver.recv_timeout(SHORT).unwrap(), 2);
    assert_eq!(receiver.recv_many(2).unwrap(), [3, 4]);
    assert_eq!(receiver.try_recv_many(1).unwrap(), [5]);
    assert_eq!(receiver.recv_many_timeout(9, SHORT).unwrap(), [6]);
    assert!(matches!(receiver.try_recv_many(9), Err(Error::Empty)));
    assert!(matches!(receiver.recv_many_timeout(9, SHORT), Err(Error::Empty)));
    drop(sender);
    assert!(matches!(receiver.recv_many(9), Err(Error::Disconnected)));
}

#[test]
fn a_sender_can_be_waited_for_until_the_last_receiver_is_killed() {
    let _turn = turn();
    in_child(|| {
        let (sender, receiver) = channel::<u32>().unwrap();
        let page = Page::new();
        let holder = os::fork(|| os::futex_wait(page.word(0), 0));
        drop(receiver);
        assert!(wait(&[&sender], Some(SHORT)).unwrap().is_empty());
        assert!(!sender.is_disconnected().unwrap());
        let waiter = os::fork(|| assert_eq!(wait(&[&sender], None).unwrap(), [0]));
        os::wait_until_asleep(waiter);
        os::kill_and_reap(holder);
        join(waiter);
        assert!(sender.is_disconnected().unwrap());
    });
}
