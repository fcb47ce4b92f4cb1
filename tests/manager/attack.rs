//! Clients that die, crowds, and clients that send what no client would.

use super::PATIENCE;
use super::support::watchdog;
use multiproc::manager::{DictProxy, EventProxy, LockProxy, QueueProxy, object_id};
use multiproc::{Client, Error, Manager, Process};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const KEY: &[u8] = b"known here";

/// A socket to the server that has done the handshake, and nothing more.
/// Also where it is a TCP socket: the calls are the same.
fn dial(manager: &Manager) -> UnixStream {
    let connection = Client::builder().authkey(KEY).connect(manager.address()).unwrap();
    connection.into_fd().unwrap().into()
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes(), body].concat()
}

fn greeting() -> Vec<u8> {
    frame(&[&b"mp-mngr\n"[..], &1u32.to_le_bytes(), &[9; 16]].concat())
}

/// A request: kind, flags, object, method, arguments.
fn request(kind: u8, flags: u8, object: u64, method: u64, arguments: &[u8]) -> Vec<u8> {
    let head = [kind, flags, 0, 0, 0, 0, 0, 0];
    frame(&[&head, &object.to_le_bytes()[..], &method.to_le_bytes(), arguments].concat())
}

/// A reply: whether it is a value, and the rest; nothing at the end of the stream.
fn reply(socket: &mut UnixStream) -> Option<(bool, Vec<u8>)> {
    let mut len = [0; 4];
    socket.read_exact(&mut len).ok()?;
    let mut body = vec![0; i32::from_be_bytes(len) as usize];
    socket.read_exact(&mut body).ok()?;
    Some((body[0] == 0, body[8..].to_vec()))
}

fn known() -> Manager {
    Manager::builder().authkey(KEY).handshake_timeout(PATIENCE).start().unwrap()
}

#[test]
fn a_request_for_a_freed_object_is_an_error() {
    let _watchdog = watchdog(PATIENCE);
    let manager = known();
    let list = manager.list([1]).unwrap();
    let (id, method) = (object_id(&list), multiproc::manager::method_number("len"));
    let mut socket = dial(&manager);
    socket.write_all(&greeting()).unwrap();
    assert!(reply(&mut socket).unwrap().0);
    socket.write_all(&request(1, 0, id, method, &[])).unwrap();
    let (is_value, len) = reply(&mut socket).unwrap();
    assert!(is_value && len == 1u64.to_le_bytes());
    drop(list);
    assert_eq!(manager.number_of_objects().unwrap(), 0);
    socket.write_all(&request(1, 0, id, method, &[])).unwrap();
    let (is_value, error) = reply(&mut socket).unwrap();
    assert!(!is_value);
    assert!(matches!(multiproc::from_bytes::<Error>(&error).unwrap(), Error::NoSuchObject));
    // A reference that this session never had cannot be given back.
    socket.write_all(&request(5, 0, id, 0, &[])).unwrap();
    assert!(!reply(&mut socket).unwrap().0);
}

#[test]
fn a_method_that_is_not_exported_is_an_error() {
    let _watchdog = watchdog(PATIENCE);
    let manager = known();
    let list = manager.list([1]).unwrap();
    let mut socket = dial(&manager);
    socket.write_all(&greeting()).unwrap();
    reply(&mut socket).unwrap();
    socket.write_all(&request(1, 0, object_id(&list), 0x1234, &[])).unwrap();
    let (_, error) = reply(&mut socket).unwrap();
    let error = multiproc::from_bytes::<Error>(&error).unwrap();
    assert_eq!(error.to_string(), "list exports no such method");
}

#[test]
fn a_length_of_two_gibibytes_ends_that_connection_alone() {
    let _watchdog = watchdog(PATIENCE);
    let manager = known();
    let list = manager.list([1]).unwrap();
    let mut socket = dial(&manager);
    socket.write_all(&greeting()).unwrap();
    reply(&mut socket).unwrap();
    socket.write_all(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3]).unwrap();
    let (is_value, error) = reply(&mut socket).unwrap();
    let error = multiproc::from_bytes::<Error>(&error).unwrap();
    assert!(!is_value && matches!(error, Error::MessageTooLong { len: 0x7fff_ffff, .. }));
    assert!(reply(&mut socket).is_none());
    assert_eq!(list.len().unwrap(), 1);
    let small = Manager::builder().max_message(1000).start().unwrap();
    let list = small.list([0u8; 10]).unwrap();
    assert!(matches!(list.extend(vec![0; 2000]), Err(Error::MessageTooLong { max: 1000, .. })));
    assert_eq!(list.len().unwrap(), 10);
}

#[test]
fn bytes_without_sense_end_that_connection_alone() {
    let _watchdog = watchdog(PATIENCE);
    let manager = known();
    let list = manager.list([1, 2]).unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..300 {
        let mut socket = dial(&manager);
        if round % 3 > 0 {
            socket.write_all(&greeting()).unwrap();
            reply(&mut socket).unwrap();
        }
        let mut body: Vec<u8> = (0..next() % 100).map(|_| next() as u8).collect();
        if round % 3 == 2 {
            // A request of a real kind, sometimes for a real object.
            let object = if next() % 2 == 0 { object_id(&list) } else { next() };
            let method =
                multiproc::manager::method_number(["set_slice", "item", "slice"][round % 3]);
            body = request(1 + (next() % 10) as u8, 0, object, method, &body);
        } else {
            body = frame(&body);
        }
        let _ = socket.write_all(&body);
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        while reply(&mut socket).is_some() {}
    }
    list.append(3).unwrap();
    assert!(list.len().unwrap() > 0);
}

#[test]
fn strangers_that_stay_silent_keep_nobody_out() {
    let _watchdog = watchdog(PATIENCE);
    let manager =
        Manager::builder().authkey(KEY).handshake_timeout(Duration::from_secs(3600)).start();
    let manager = manager.unwrap();
    let list = manager.list([1]).unwrap();
    let name = manager.address().to_string();
    let connect = || Client::builder().connect(&name[..]).unwrap();
    let mut silent = std::collections::VecDeque::new();
    for _ in 0..10_000 {
        silent.push_back(connect());
        if silent.len() > 500 {
            silent.pop_front();
        }
    }
    assert_eq!(list.len().unwrap(), 1);
    let other = Manager::connect(&name[..], KEY).unwrap();
    other.list([2]).unwrap();
    drop(silent);
}

#[test]
fn a_stranger_that_is_too_slow_is_sent_away() {
    let _watchdog = watchdog(PATIENCE);
    let manager =
        Manager::builder().authkey(KEY).handshake_timeout(Duration::from_millis(10)).start();
    let manager = manager.unwrap();
    let silent = Client::builder().connect(manager.address()).unwrap();
    silent.recv_bytes().unwrap();
    assert!(matches!(silent.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let _watchdog = watchdog(PATIENCE);
    let manager = known();
    let list = manager.list(vec![7u8; 1 << 20]).unwrap();
    let mut socket = dial(&manager);
    socket.write_all(&greeting()).unwrap();
    reply(&mut socket).unwrap();
    let items = request(1, 0, object_id(&list), multiproc::manager::method_number("items"), &[]);
    for _ in 0..100 {
        socket.write_all(&items).unwrap();
    }
    for _ in 0..100 {
        assert_eq!(list.item(0).unwrap(), 7);
    }
    // It gets all its replies when it reads at last.
    for _ in 0..100 {
        assert_eq!(reply(&mut socket).unwrap().1.len(), 8 + (1 << 20));
    }
}

#[test]
fn only_so_many_calls_wait() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::builder().max_parked_calls(2).start().unwrap();
    let event = manager.event().unwrap();
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            let event = event.clone();
            std::thread::spawn(move || event.wait().unwrap())
        })
        .collect();
    while !manager.debug_info().unwrap().contains("parked=2") {
        std::thread::yield_now();
    }
    assert!(matches!(event.wait(), Err(Error::Remote { .. })));
    event.set().unwrap();
    waiters.into_iter().for_each(|waiter| assert!(waiter.join().unwrap()));
}

#[test]
fn a_thousand_clients_are_served() {
    let _watchdog = watchdog(PATIENCE);
    let manager = known();
    let list = manager.list(Vec::<u32>::new()).unwrap();
    let append = multiproc::manager::method_number("append");
    let mut clients: Vec<_> = (0..1000).map(|_| dial(&manager)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.write_all(&greeting()).unwrap();
        let request = request(1, 0, object_id(&list), append, &(n as u32).to_le_bytes());
        client.write_all(&request).unwrap();
    }
    for client in &mut clients {
        assert!(reply(client).unwrap().0 && reply(client).unwrap().0);
    }
    assert_eq!(list.len().unwrap(), 1000);
    assert!(manager.debug_info().unwrap().contains("channels=1001"));
}

fn be_busy(
    dict: DictProxy<u32, u64>,
    lock: LockProxy,
    queue: QueueProxy<u64>,
    started: EventProxy,
) -> multiproc::Result<()> {
    started.set()?;
    loop {
        let guard = lock.acquire()?;
        let count = dict.get(&0)?.unwrap_or(0);
        dict.insert(0, count + 1)?;
        queue.put(count)?;
        queue.get()?;
        drop(guard);
    }
}

#[test]
fn clients_killed_at_random_leave_nothing_behind() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (dict, lock) = (manager.dict().unwrap(), manager.lock().unwrap());
    let (queue, started) = (manager.queue(0).unwrap(), manager.event().unwrap());
    let start = || {
        started.clear().unwrap();
        let arguments = (dict.clone(), lock.clone(), queue.clone(), started.clone());
        let child = Process::new(be_busy, arguments).start().unwrap();
        started.wait().unwrap();
        child
    };
    let mut children = vec![start(), start(), start()];
    for round in 0..60u32 {
        // A few calls go by meanwhile, of a number that differs.
        (0..round * 7 % 23).for_each(|_| assert!(dict.len().is_ok()));
        let child = children.remove(0);
        child.kill().unwrap();
        child.wait().unwrap();
        children.push(start());
    }
    for child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    drop(lock.acquire().unwrap());
    assert!(dict.get(&0).unwrap().unwrap() > 0);
    while !manager.debug_info().unwrap().starts_with("sessions=1 ") {
        std::thread::yield_now();
    }
    assert!(manager.debug_info().unwrap().contains("parked=0"));
    assert_eq!(manager.number_of_objects().unwrap(), 4);
    drop((dict, lock, queue, started));
    assert_eq!(manager.number_of_objects().unwrap(), 0);
}

/// Getters that the test plays itself, so that it knows what they have read.
fn getter(manager: &Manager, queue: &QueueProxy<u32>, gets: usize) -> UnixStream {
    let mut socket = dial(manager);
    socket.write_all(&greeting()).unwrap();
    assert!(reply(&mut socket).unwrap().0);
    let method = multiproc::manager::method_number("get_within");
    // No timeout; sent before any reply was read.
    let get = request(1, 0, object_id(queue), method, &[0]);
    socket.write_all(&get.repeat(gets)).unwrap();
    socket
}

#[test]
fn items_that_a_getter_has_not_read_come_back_to_the_front_when_it_is_gone() {
    let _watchdog = watchdog(PATIENCE);
    for address in ["abstract:", "tcp:127.0.0.1:0"] {
        let manager = Manager::builder().authkey(KEY).address(address).start().unwrap();
        let queue = manager.queue(0).unwrap();
        let gone = || {
            while !manager.debug_info().unwrap().starts_with("sessions=1 ") {
                std::thread::yield_now();
            }
        };
        // One that waited, and is gone when the item comes or soon after.
        let waiting = getter(&manager, &queue, 1);
        while !manager.debug_info().unwrap().contains("parked=1") {
            std::thread::yield_now();
        }
        queue.put(1).unwrap();
        queue.put(2).unwrap();
        drop(waiting);
        gone();
        assert_eq!(queue.len().unwrap(), 2);

        // Several items under way to one getter keep their order.
        let many = getter(&manager, &queue, 2);
        while queue.len().unwrap() > 0 {
            std::thread::yield_now();
        }
        queue.put(3).unwrap();
        drop(many);
        gone();
        assert_eq!([queue.get().unwrap(), queue.get().unwrap(), queue.get().unwrap()], [1, 2, 3]);

        // What was read is the getter's.
        queue.put(4).unwrap();
        let mut reader = getter(&manager, &queue, 1);
        assert!(reply(&mut reader).unwrap().0);
        drop(reader);
        gone();
        assert!(queue.is_empty().unwrap());

        // It goes to who waits already.
        let silent = getter(&manager, &queue, 1);
        while !manager.debug_info().unwrap().contains("parked=1") {
            std::thread::yield_now();
        }
        queue.put(5).unwrap();
        let other = queue.clone();
        let waiter = std::thread::spawn(move || other.get().unwrap());
        while !manager.debug_info().unwrap().contains("parked=1") {
            std::thread::yield_now();
        }
        drop(silent);
        assert_eq!(waiter.join().unwrap(), 5);
    }
}

fn get_for_ever(queue: QueueProxy<u64>, taken: multiproc::Queue<u64>) -> multiproc::Result<()> {
    loop {
        taken.put(&queue.get()?)?;
    }
}

#[test]
fn getters_killed_at_random_lose_at_most_the_item_in_their_hands() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let queue = manager.queue(100).unwrap();
    let taken = multiproc::Queue::new().unwrap();
    let start = || Process::new(get_for_ever, (queue.clone(), taken.clone())).start().unwrap();
    let mut children = vec![start(), start()];
    let (mut next, mut kills) = (0u64, 0usize);
    for round in 0..20u64 {
        (0..100 + round * 7 % 31).for_each(|_| {
            queue.put(next).unwrap();
            next += 1;
        });
        let child = children.remove(0);
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        children.push(start());
    }
    for child in children {
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    while !manager.debug_info().unwrap().starts_with("sessions=1 ") {
        std::thread::yield_now();
    }
    let mut seen: Vec<u64> = std::iter::from_fn(|| queue.try_get().ok()).collect();
    seen.extend(std::iter::from_fn(|| taken.try_get().ok()));
    seen.sort_unstable();
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "an item came twice");
    // One that was killed may have read an item and not passed it on.
    assert!(next as usize - seen.len() <= kills, "{} of {next}", seen.len());
}

#[test]
fn a_client_cut_off_after_any_byte_leaves_nothing_behind() {
    let _watchdog = watchdog(PATIENCE);
    let manager = known();
    let (lock, queue) = (manager.lock().unwrap(), manager.queue::<u32>(0).unwrap());
    let (lock_id, queue_id) = (object_id(&lock), object_id(&queue));
    let number = multiproc::manager::method_number;
    let thread = 1u64.to_le_bytes();
    // To a server, a client that is killed at some instruction is one that has sent so many bytes.
    let put = [&7u32.to_le_bytes()[..], &[0]].concat();
    let requests = [
        greeting(),
        request(1, 0, lock_id, number("acquire_within"), &[&thread[..], &[0]].concat()),
        request(6, 0, queue_id, 0, &[]),
        request(1, 0, queue_id, number("put_within"), &put),
        request(1, 0, queue_id, number("get_within"), &[0]),
        request(1, 0, queue_id, number("get_within"), &[0]),
    ];
    let all = requests.concat();
    let with_put = requests[..4].concat().len();
    for cut in 0..=all.len() {
        let mut socket = dial(&manager);
        socket.write_all(&all[..cut]).unwrap();
        drop(socket);
        let nobody = "sessions=1 channels=1 strangers=0 parked=0";
        while !manager.debug_info().unwrap().starts_with(nobody) {
            std::thread::yield_now();
        }
        assert!(lock.try_acquire().unwrap().is_some(), "cut at {cut}");
        // Nobody has read the replies: what was put, whole, is there.
        assert_eq!(queue.try_get().ok(), (cut >= with_put).then_some(7), "cut at {cut}");
        assert!(queue.is_empty().unwrap());
    }
    assert_eq!(manager.number_of_objects().unwrap(), 2);
}

#[test]
fn clients_get_an_error_at_once_whenever_the_server_is_killed() {
    let _watchdog = watchdog(PATIENCE);
    for calls in [0, 1, 3, 10, 40] {
        let manager = Manager::start().unwrap();
        let (dict, queue) = (manager.dict::<u32, u32>().unwrap(), manager.queue(1).unwrap());
        let pid = manager.pid().unwrap();
        let caller = {
            let (dict, queue) = (dict.clone(), queue.clone());
            std::thread::spawn(move || {
                loop {
                    let outcome = dict.insert(1, 2).and_then(|()| queue.put(3));
                    let outcome = outcome.and_then(|()| queue.get()).and_then(|_| dict.get(&1));
                    if let Err(error) = outcome {
                        return error;
                    }
                }
            })
        };
        (0..calls).for_each(|_| assert!(dict.len().is_ok()));
        super::support::os::signal(pid as _, libc::SIGKILL);
        let error = caller.join().unwrap();
        assert!(matches!(error, Error::Disconnected | Error::Os { .. }), "{error:?}");
        assert!(dict.len().is_err());
    }
}
