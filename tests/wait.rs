//! Waiting for several things at once.

mod support;

use multiproc::{
    Client, Connection, Error, Listener, Process, Queue, Waitable, Watch, pipe, pipe_one_way, wait,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use support::{Watchdog, in_child, os, watchdog};

multiproc::init_before_main!();

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);
const ZERO: Option<Duration> = Some(Duration::ZERO);

/// Tests that fork take turns with those whose descriptors a child would keep open.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> (MutexGuard<'static, ()>, Watchdog) {
    (TURN.lock().unwrap_or_else(PoisonError::into_inner), watchdog(PATIENCE))
}

fn refs<T: Waitable>(things: &[T]) -> Vec<&dyn Waitable> {
    things.iter().map(|thing| thing as &dyn Waitable).collect()
}

/// Four processes write ten messages each, slowly or not, and leave; all of them arrive.
fn collect_from_writers(slowly: bool) {
    let mut children = Vec::new();
    let mut readers = Vec::new();
    for i in 0..4u32 {
        let (reader, writer) = pipe_one_way().unwrap();
        let (mut reader, mut writer) = (Some(reader), Some(writer));
        children.push(os::fork(|| {
            drop(reader.take());
            let writer = writer.take().unwrap();
            for j in 0..10u32 {
                if slowly {
                    thread::sleep(Duration::from_micros(u64::from((i * 7 + j * 13) % 5) * 300));
                }
                writer.send(&(j, i)).unwrap();
            }
        }));
        readers.push(reader.take().unwrap());
    }
    let mut messages = Vec::new();
    while !readers.is_empty() {
        let ready = wait(&refs(&readers), None).unwrap();
        assert!(!ready.is_empty());
        // From the back, so that the places stay right.
        for place in ready.into_iter().rev() {
            match readers[place].recv::<(u32, u32)>() {
                Ok(message) => messages.push(message),
                Err(Error::Eof) => drop(readers.remove(place)),
                Err(error) => panic!("{error}"),
            }
        }
    }
    messages.sort();
    let expected: Vec<_> = (0..10).flat_map(|j| (0..4).map(move |i| (j, i))).collect();
    assert_eq!(messages, expected);
    for child in children {
        assert_eq!(os::wait_until(child, Instant::now() + PATIENCE), Some(os::Status::Exited(0)));
    }
}

#[test]
fn all_messages_of_four_writers_arrive() {
    let _turn = turn();
    collect_from_writers(false);
}

#[test]
fn all_messages_of_four_slow_writers_arrive() {
    let _turn = turn();
    collect_from_writers(true);
}

#[test]
fn all_bytes_of_four_sockets_arrive() {
    let _turn = turn();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    for slowly in [false, true] {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut socket = TcpStream::connect(at).unwrap();
                    for j in 0..10u8 {
                        if slowly {
                            thread::sleep(Duration::from_micros(500));
                        }
                        socket.write_all(&[j]).unwrap();
                    }
                });
            }
            let mut sockets = Vec::new();
            let (mut total, mut open) = (0, 4);
            while open > 0 {
                let mut things = refs(&sockets);
                things.push(&listener);
                let ready = wait(&things, None).unwrap();
                for place in ready.into_iter().rev() {
                    if place == sockets.len() {
                        sockets.push(listener.accept().unwrap().0);
                        continue;
                    }
                    let mut bytes = [0; 4];
                    match sockets[place].read(&mut bytes).unwrap() {
                        0 => {
                            drop(sockets.remove(place));
                            open -= 1;
                        }
                        len => total += bytes[..len].iter().map(|b| u32::from(*b)).sum::<u32>(),
                    }
                }
            }
            assert_eq!(total, 4 * 45);
        });
    }
}

#[test]
fn the_answer_is_empty_after_the_timeout_and_not_before() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let queue = Queue::<u8>::new().unwrap();
    let start = Instant::now();
    assert!(wait(&[&left, &right, &queue], Some(5 * SHORT)).unwrap().is_empty());
    assert!(start.elapsed() >= 5 * SHORT);
    assert!(wait(&[&left, &right, &queue], ZERO).unwrap().is_empty());
    right.send_bytes(b"").unwrap();
    assert_eq!(wait(&[&left, &right, &queue], Some(PATIENCE)).unwrap(), [0]);
    assert_eq!(wait(&[&left], Some(Duration::MAX)).unwrap(), [0]);
}

#[test]
fn nothing_is_waited_for_as_long_as_said_but_not_for_ever() {
    let start = Instant::now();
    assert!(wait(&[], Some(SHORT)).unwrap().is_empty());
    assert!(start.elapsed() >= SHORT);
    assert!(matches!(wait(&[], None), Err(Error::InvalidArgument { .. })));
}

#[test]
fn everything_that_is_ready_is_reported_at_once_and_twice_if_it_is_there_twice() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let (idle, _other) = pipe().unwrap();
    let queue = Queue::<u8>::new().unwrap();
    let (mut socket, theirs) = UnixStream::pair().unwrap();
    let fd = OwnedFd::from(theirs.try_clone().unwrap());
    let child = Process::new(returns_at_once, ()).start().unwrap();
    child.wait().unwrap();
    left.send_bytes(b"x").unwrap();
    queue.put(&1).unwrap();
    socket.write_all(b"x").unwrap();
    let borrowed = theirs.as_fd();
    let things: [&dyn Waitable; 9] =
        [&right, &idle, &queue, &theirs, &fd, &borrowed, &child, &right, &&queue];
    assert_eq!(wait(&things, None).unwrap(), [0, 2, 3, 4, 5, 6, 7, 8]);
}

fn returns_at_once() {}

fn says_so_and_waits(connection: Connection) {
    connection.send_bytes(b"here").unwrap();
    let _ = connection.recv_bytes();
}

#[test]
fn a_child_is_ready_when_it_has_ended() {
    let _turn = turn();
    let (ours, theirs) = pipe().unwrap();
    let child = Process::new(says_so_and_waits, (theirs,)).start().unwrap();
    assert_eq!(wait(&[&child, &ours], None).unwrap(), [1]);
    ours.recv_bytes().unwrap();
    assert!(wait(&[&child, &ours], ZERO).unwrap().is_empty());
    ours.send_bytes(b"go").unwrap();
    assert_eq!(wait(&[&child], None).unwrap(), [0]);
    child.join().unwrap();

    let (ours, theirs) = pipe().unwrap();
    let child = Process::new(says_so_and_waits, (theirs,)).start().unwrap();
    ours.recv_bytes().unwrap();
    child.kill().unwrap();
    assert_eq!(wait(&[&child], None).unwrap(), [0]);
    let end = child.join();
    assert!(matches!(end, Err(Error::Killed { signal: libc::SIGKILL })), "{end:?}");
}

#[test]
fn what_was_read_ahead_counts() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    (0..3).for_each(|_| left.send_bytes(b"one of three").unwrap());
    for _ in 0..3 {
        assert_eq!(wait(&[&right], None).unwrap(), [0]);
        right.recv_bytes().unwrap();
    }
    assert!(wait(&[&right], ZERO).unwrap().is_empty());
}

#[test]
fn what_another_thread_has_read_ahead_and_left_is_found() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    thread::scope(|scope| {
        // It may get two messages in one read, and takes the first.
        let receives = scope.spawn(|| right.recv_bytes().unwrap());
        let waits = scope.spawn(|| wait(&[&right], None).unwrap());
        left.as_write().write_all(b"first").unwrap();
        left.send_bytes(b"second").unwrap();
        receives.join().unwrap();
        assert_eq!(waits.join().unwrap(), [0]);
    });
}

#[test]
fn a_connection_that_only_sends_or_is_lost_is_an_error() {
    let _turn = turn();
    let (reader, writer) = pipe_one_way().unwrap();
    assert!(matches!(wait(&[&reader, &writer], ZERO), Err(Error::InvalidArgument { .. })));
    writer.send_bytes(b"too long").unwrap();
    reader.recv_bytes_max(1).unwrap_err();
    assert!(matches!(wait(&[&reader], ZERO), Err(Error::Closed)));
    let (left, right) = pipe().unwrap();
    drop(left);
    assert_eq!(wait(&[&right], None).unwrap(), [0]);
}

#[test]
fn a_queue_is_ready_when_it_has_an_item_or_is_closed() {
    let _turn = turn();
    let queue = Queue::<u32>::new().unwrap();
    for i in 0..200 {
        let putter = {
            let queue = queue.clone();
            thread::spawn(move || queue.put(&i).unwrap())
        };
        assert_eq!(wait(&[&queue], None).unwrap(), [0]);
        assert_eq!(queue.try_get().unwrap(), i);
        assert!(wait(&[&queue], ZERO).unwrap().is_empty());
        putter.join().unwrap();
    }
    queue.close().unwrap();
    assert_eq!(wait(&[&queue], None).unwrap(), [0]);
}

#[test]
fn nobody_who_waits_for_a_queue_is_left_asleep_beside_an_item() {
    let _turn = turn();
    const ITEMS: u32 = 3000;
    let queue = Queue::<u32>::new().unwrap();
    let (stop, stopped) = pipe().unwrap();
    let mut children = Vec::new();
    // Two wait, two get: they take one another's rings.
    for waits in [true, true, false, false] {
        children.push(os::fork(|| {
            loop {
                if waits {
                    let ready = wait(&[&queue, &stopped], None).unwrap();
                    if ready == [1] {
                        break;
                    }
                    let _ = queue.try_get();
                } else {
                    match queue.get_timeout(SHORT) {
                        Ok(_) => {}
                        Err(Error::Empty) => {
                            if !wait(&[&stopped], ZERO).unwrap().is_empty() {
                                break;
                            }
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }));
    }
    for item in 0..ITEMS {
        queue.put(&item).unwrap();
        if item % 100 == 0 {
            while !queue.is_empty().unwrap() {
                thread::yield_now();
            }
        }
    }
    while !queue.is_empty().unwrap() {
        thread::yield_now();
    }
    stop.send_bytes(b"").unwrap();
    for child in children {
        assert_eq!(os::wait_until(child, Instant::now() + PATIENCE), Some(os::Status::Exited(0)));
    }
}

#[test]
fn a_queue_wakes_its_waiter_whose_fellow_was_killed() {
    let _turn = turn();
    let queue = Queue::<u32>::new().unwrap();
    for _ in 0..10 {
        let victim = os::fork(|| drop(wait(&[&queue], None)));
        while !matches!(os::look(victim), os::Sight::Asleep { .. }) {
            thread::yield_now();
        }
        let survivor = os::fork(|| {
            wait(&[&queue], None).unwrap();
            queue.try_get().unwrap();
        });
        os::kill_and_reap(victim);
        queue.put(&1).unwrap();
        let end = os::wait_until(survivor, Instant::now() + PATIENCE);
        assert_eq!(end, Some(os::Status::Exited(0)));
    }
}

#[test]
fn a_listener_is_ready_when_a_client_could_be_accepted() {
    let _turn = turn();
    for key in [None, Some("key")] {
        let (mut builder, mut client) = (Listener::builder(), Client::builder());
        if let Some(key) = key {
            (builder, client) = (builder.authkey(key), client.authkey(key));
        }
        let listener = builder.bind("abstract:").unwrap();
        assert!(wait(&[&listener], Some(SHORT)).unwrap().is_empty());
        thread::scope(|scope| {
            let connected = scope.spawn(|| client.connect(listener.address()).unwrap());
            assert_eq!(wait(&[&listener], None).unwrap(), [0]);
            assert_eq!(wait(&[&listener], ZERO).unwrap(), [0]);
            listener.try_accept().unwrap().send_bytes(b"in").unwrap();
            assert_eq!(connected.join().unwrap().recv_bytes().unwrap(), b"in");
        });
        assert!(wait(&[&listener], ZERO).unwrap().is_empty());
    }
}

#[test]
fn a_wait_for_a_listener_carries_its_handshakes_on() {
    let _turn = turn();
    let listener = Listener::builder().authkey("key").bind("abstract:").unwrap();
    let queue = Queue::<u8>::new().unwrap();
    thread::scope(|scope| {
        let wrong = scope.spawn(|| {
            let client = Client::builder().authkey("wrong").connect(listener.address());
            queue.put(&1).unwrap();
            client
        });
        // Nobody comes in, but the wrong one learns of it.
        assert_eq!(wait(&[&listener, &queue], None).unwrap(), [1]);
        assert!(matches!(wrong.join().unwrap(), Err(Error::AuthenticationError { .. })));
    });
    assert_eq!(listener.refused(), 1);
}

#[test]
fn more_than_a_thousand_descriptors_are_waited_for() {
    let _watchdog = watchdog(PATIENCE);
    in_child(|| {
        raise_limit();
        let pairs: Vec<_> = (0..1500).map(|_| pipe().unwrap()).collect();
        let ends: Vec<&dyn Waitable> = pairs.iter().map(|(end, _)| end as _).collect();
        assert!(wait(&ends, ZERO).unwrap().is_empty());
        for place in [0, 700, 1499] {
            pairs[place].1.send_bytes(b"x").unwrap();
        }
        assert_eq!(wait(&ends, None).unwrap(), [0, 700, 1499]);
        pairs.iter().for_each(|(_, end)| end.send_bytes(b"x").unwrap());
        assert_eq!(wait(&ends, None).unwrap().len(), 1500);
    });
}

#[test]
fn hundreds_of_things_of_every_kind_are_waited_for_together() {
    let _turn = turn();
    raise_limit();
    const EACH: usize = 150;
    let pipes: Vec<_> = (0..EACH).map(|_| pipe().unwrap()).collect();
    let queues: Vec<_> = (0..EACH).map(|_| Queue::<u32>::new().unwrap()).collect();
    let listeners: Vec<_> = (0..EACH).map(|_| Listener::bind("abstract:").unwrap()).collect();
    let sockets: Vec<_> = (0..EACH).map(|_| UnixStream::pair().unwrap()).collect();
    let ends = pipes.iter().map(|(end, _)| end as &dyn Waitable);
    let mut things: Vec<_> = ends.chain(refs(&queues)).chain(refs(&listeners)).collect();
    things.extend(sockets.iter().map(|(end, _)| end as &dyn Waitable));
    assert!(wait(&things, ZERO).unwrap().is_empty());
    let mut clients = Vec::new();
    let mut expected = Vec::new();
    for i in (0..EACH).step_by(7) {
        pipes[i].1.send_bytes(b"x").unwrap();
        queues[i].put(&1).unwrap();
        clients.push(Client::connect(listeners[i].address()).unwrap());
        (&sockets[i].1).write_all(b"x").unwrap();
        expected.extend((0..4).map(|kind| kind * EACH + i));
    }
    expected.sort();
    assert_eq!(wait(&things, None).unwrap(), expected);
}

#[test]
fn one_that_is_always_ready_hides_nobody() {
    let _turn = turn();
    let (busy_left, busy) = pipe().unwrap();
    let (quiet_left, quiet) = pipe().unwrap();
    let queue = Queue::<u32>::new().unwrap();
    (0..50).for_each(|_| busy_left.send_bytes(b"more").unwrap());
    for round in 0..40 {
        assert_eq!(wait(&[&busy, &quiet, &queue], None).unwrap(), [0]);
        quiet_left.send_bytes(b"at last").unwrap();
        queue.put(&round).unwrap();
        assert_eq!(wait(&[&busy, &quiet, &queue], None).unwrap(), [0, 1, 2]);
        busy.recv_bytes().unwrap();
        quiet.recv_bytes().unwrap();
        assert_eq!(queue.get().unwrap(), round);
    }
}

#[test]
fn those_that_have_ended_are_ready_together_and_stay_so() {
    let _turn = turn();
    let ends: Vec<Connection> = (0..10).map(|_| pipe().unwrap().0).collect();
    let (_open, open) = pipe().unwrap();
    let mut things = refs(&ends);
    things.push(&open);
    for _ in 0..2 {
        assert_eq!(wait(&things, None).unwrap(), (0..10).collect::<Vec<_>>());
        ends.iter().for_each(|end| assert!(matches!(end.recv_bytes(), Err(Error::Eof))));
    }
}

#[allow(unsafe_code)]
fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit.rlim_cur = limit.rlim_max.min(65536);
    // SAFETY: `limit` is readable.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

#[test]
fn signals_do_not_end_a_wait() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let _ticks = os::Ticks::every(Duration::from_millis(1));
    let start = Instant::now();
    assert!(wait(&[&left, &right], Some(5 * SHORT)).unwrap().is_empty());
    assert!(start.elapsed() >= 5 * SHORT);
}

/// A thing of the user's own: writable rather than readable.
struct HasRoom(UnixStream);

impl Waitable for HasRoom {
    fn watch(&self, watch: &mut Watch) -> multiproc::Result<()> {
        watch.writable(self.0.as_fd());
        Ok(())
    }
}

#[test]
fn a_type_of_the_users_own_can_be_waited_for() {
    let _turn = turn();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    while ours.write(&[0; 4096]).is_ok() {}
    let room = HasRoom(ours);
    assert!(wait(&[&room], Some(SHORT)).unwrap().is_empty());
    theirs.set_nonblocking(true).unwrap();
    while theirs.read(&mut [0; 4096]).is_ok() {}
    assert_eq!(wait(&[&room], None).unwrap(), [0]);
}
