//! Every handle of the crate, and those of std, through a connection whose sender leaves at once; and
//! connections and descriptors as arguments of children.

mod support;

use multiproc::manager::{DictProxy, ListProxy};
use multiproc::{
    Address, Array, Barrier, BoundedSemaphore, Client, Condition, Connection, Event, JoinableQueue,
    Listener, Lock, Manager, Object, Process, Queue, RLock, RawArray, RawValue, Receiver, Region,
    Semaphore, Sender, ShareableList, Shared, SharedBytes, SharedMemory, SimpleQueue, StartMethod,
    Value, channel, pipe, pipe_one_way,
};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use support::{Watchdog, in_child, os, watchdog};

multiproc::init_before_main!();

const PATIENCE: Duration = Duration::from_secs(60);

/// Tests that fork take turns with those whose descriptors a child would keep open.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> (MutexGuard<'static, ()>, Watchdog) {
    (TURN.lock().unwrap_or_else(PoisonError::into_inner), watchdog(PATIENCE))
}

/// What a process sent that has ended since: it made a value and sent it as its last deed.
fn left_by<T: multiproc::Encode + multiproc::Decode>(make: impl FnOnce() -> T) -> T {
    let (ours, theirs) = pipe().unwrap();
    let child = os::fork(|| {
        theirs.send(&make()).unwrap();
        os::exit_now(0);
    });
    drop(theirs);
    assert_eq!(os::wait_until(child, Instant::now() + PATIENCE), Some(os::Status::Exited(0)));
    ours.recv().unwrap()
}

#[test]
fn queues_outlive_the_process_that_sent_them() {
    let _turn = turn();
    type Queues = (
        Queue<u32>,
        JoinableQueue<u32>,
        SimpleQueue<u32>,
        (Sender<u32>, Receiver<u32>),
        Queue<File>,
    );
    let (queue, joinable, simple, (sender, receiver), files): Queues = left_by(|| {
        let (queue, joinable) = (Queue::new().unwrap(), JoinableQueue::new().unwrap());
        let (simple, ends) = (SimpleQueue::new().unwrap(), channel().unwrap());
        let files = Queue::new().unwrap();
        queue.put(&1).unwrap();
        joinable.put(&2).unwrap();
        simple.put(&3).unwrap();
        ends.0.send(&4).unwrap();
        files.put(&File::open("/dev/null").unwrap()).unwrap();
        (queue, joinable, simple, ends, files)
    });
    assert_eq!((queue.get().unwrap(), joinable.get().unwrap()), (1, 2));
    joinable.task_done().unwrap();
    joinable.join().unwrap();
    assert_eq!((simple.get().unwrap(), receiver.recv().unwrap()), (3, 4));
    sender.send(&5).unwrap();
    assert_eq!(receiver.recv().unwrap(), 5);
    assert_eq!(files.get().unwrap().read(&mut [0]).unwrap(), 0);
}

#[test]
fn locks_and_their_like_outlive_the_process_that_sent_them() {
    let _turn = turn();
    type Turns = (Lock, RLock, Semaphore, BoundedSemaphore, Condition, Event, Barrier);
    let (lock, rlock, semaphore, bounded, condition, event, barrier): Turns = left_by(|| {
        let event = Event::new().unwrap();
        event.set().unwrap();
        (
            Lock::new().unwrap(),
            RLock::new().unwrap(),
            Semaphore::new(2).unwrap(),
            BoundedSemaphore::new(1).unwrap(),
            Condition::new().unwrap(),
            event,
            Barrier::new(1).unwrap(),
        )
    });
    drop((lock.acquire().unwrap(), rlock.acquire().unwrap()));
    semaphore.acquire().unwrap();
    bounded.acquire().unwrap();
    assert_eq!((semaphore.value(), bounded.value()), (1, 0));
    condition.acquire().unwrap().notify_all().unwrap();
    assert!(event.is_set());
    assert_eq!(barrier.wait().unwrap(), 0);
}

#[test]
fn shared_memory_outlives_the_process_that_sent_it() {
    let _turn = turn();
    type Typed = (Value<i32>, Array<i32>, RawValue<i32>, RawArray<i32>, Shared<AtomicU32>);
    type Bytes = (Region, SharedBytes);
    let (typed, bytes): (Typed, Bytes) = left_by(|| {
        let typed = (
            Value::new(1).unwrap(),
            Array::from_slice(&[2]).unwrap(),
            RawValue::new(3).unwrap(),
            RawArray::from_slice(&[4]).unwrap(),
            Shared::new(AtomicU32::new(5)).unwrap(),
        );
        let region = Region::new(9).unwrap();
        region.write_at(1, b"region").unwrap();
        (typed, (region, SharedBytes::new(b"bytes").unwrap()))
    });
    let (value, array, raw_value, raw_array, shared) = typed;
    assert_eq!((value.get().unwrap(), array.to_vec().unwrap()), (1, vec![2]));
    assert_eq!((raw_value.get(), raw_array.to_vec()), (3, vec![4]));
    assert_eq!(shared.load(Ordering::Relaxed), 5);
    assert_eq!(bytes.0.read_at(1, 6).unwrap(), b"region");
    assert_eq!(&bytes.1[..], b"bytes");
}

#[test]
fn named_memory_and_proxies_are_the_same_ones_at_the_other_end() {
    let _turn = turn();
    let (ours, theirs) = pipe().unwrap();
    let block = SharedMemory::create(None, 4).unwrap();
    let list = ShareableList::new(&[1.into(), "two".into()]).unwrap();
    ours.send(&block).unwrap();
    ours.send(&list).unwrap();
    let same = theirs.recv::<SharedMemory>().unwrap();
    same.write_at(0, b"same").unwrap();
    let mut bytes = [0; 4];
    block.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"same");
    assert_eq!(theirs.recv::<ShareableList>().unwrap().get(1).unwrap(), Object::from("two"));

    let manager = Manager::start().unwrap();
    let (dict, list) = (manager.dict::<String, i32>().unwrap(), manager.list([1, 2]).unwrap());
    ours.send(&(&dict, &list)).unwrap();
    let (same_dict, same_list) = theirs.recv::<(DictProxy<String, i32>, ListProxy<i32>)>().unwrap();
    same_dict.insert("three".into(), 3).unwrap();
    same_list.append(3).unwrap();
    assert_eq!(dict.get(&"three".into()).unwrap(), Some(3));
    assert_eq!(list.to_string(), "[1, 2, 3]");
}

#[test]
fn connections_and_listeners_outlive_the_process_that_sent_them() {
    let _turn = turn();
    type Ends = ((Connection, Connection), (Connection, Connection), Listener, Address);
    let (duplex, one_way, listener, address): Ends = left_by(|| {
        let (near, far) = pipe().unwrap();
        let (reader, writer) = pipe_one_way().unwrap();
        let listener = Listener::builder().authkey("key").bind("abstract:").unwrap();
        let address = listener.address().clone();
        near.send("sent before").unwrap();
        writer.send("this way").unwrap();
        ((near, far), (reader, writer), listener, address)
    });
    assert_eq!(duplex.1.recv::<String>().unwrap(), "sent before");
    duplex.1.send("and back").unwrap();
    assert_eq!(duplex.0.recv::<String>().unwrap(), "and back");
    assert_eq!(one_way.0.recv::<String>().unwrap(), "this way");
    std::thread::scope(|scope| {
        let client = scope.spawn(|| Client::builder().authkey("key").connect(&address));
        listener.accept().unwrap().send("welcome").unwrap();
        assert_eq!(client.join().unwrap().unwrap().recv::<String>().unwrap(), "welcome");
    });
}

#[test]
fn files_and_sockets_of_std_outlive_the_process_that_sent_them() {
    let _turn = turn();
    type Tcp = (TcpListener, TcpStream, TcpStream, UdpSocket);
    type Unix = (UnixListener, UnixStream, UnixStream, UnixDatagram, UnixDatagram);
    let (mut file, owned, tcp, unix): (File, OwnedFd, Tcp, Unix) = left_by(|| {
        let folder = std::env::temp_dir().join(format!("multiproc-handles-{}", os::own_pid()));
        let file = File::options().create_new(true).read(true).write(true).open(&folder).unwrap();
        std::fs::remove_file(&folder).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = listener.accept().unwrap().0;
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = UnixListener::bind(&folder).unwrap();
        std::fs::remove_file(&folder).unwrap();
        let ((a, b), (c, d)) = (UnixStream::pair().unwrap(), UnixDatagram::pair().unwrap());
        (&file).write_all(b"in a file").unwrap();
        (
            file.try_clone().unwrap(),
            file.into(),
            (listener, stream, accepted, udp),
            (local, a, b, c, d),
        )
    });
    let mut text = String::new();
    file.rewind().unwrap();
    // They share one place in the file.
    File::from(owned).read_to_string(&mut text).unwrap();
    assert_eq!(text, "in a file");
    let (mut bytes, (listener, mut stream, mut accepted, udp)) = ([0; 3], tcp);
    stream.write_all(b"tcp").unwrap();
    accepted.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"tcp");
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    udp.send_to(b"udp", udp.local_addr().unwrap()).unwrap();
    assert_eq!(udp.recv(&mut bytes).unwrap(), 3);
    let (local, mut a, mut b, c, d) = unix;
    a.write_all(b"a-b").unwrap();
    b.read_exact(&mut bytes).unwrap();
    c.send(b"c-d").unwrap();
    assert_eq!(d.recv(&mut bytes).unwrap(), 3);
    assert!(local.local_addr().unwrap().as_pathname().is_some());
}

#[test]
fn more_descriptors_than_one_system_call_carries_outlive_the_process_that_sent_them() {
    let _turn = turn();
    let (sockets, others): (Vec<UnixStream>, Vec<UnixStream>) =
        left_by(|| (0..300).map(|_| UnixStream::pair().unwrap()).unzip());
    for (i, (mut socket, mut other)) in sockets.into_iter().zip(others).enumerate() {
        socket.write_all(&(i as u32).to_le_bytes()).unwrap();
        drop(socket);
        let mut bytes = Vec::new();
        other.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, (i as u32).to_le_bytes());
    }
}

fn sends_and_receives(connection: Connection) {
    connection.send("child").unwrap();
    assert_eq!(connection.recv::<String>().unwrap(), "parent");
}

#[test]
fn a_parent_may_drop_its_copy_of_a_childs_end_right_after_the_start() {
    let _turn = turn();
    for method in [StartMethod::Spawn, StartMethod::ForkServer] {
        let (ours, theirs) = pipe().unwrap();
        let process = Process::new(sends_and_receives, (theirs,));
        let child = process.start_method(method).start().unwrap();
        assert_eq!(ours.recv::<String>().unwrap(), "child");
        ours.send("parent").unwrap();
        child.join().unwrap();
        // Nobody holds the other end any more.
        assert!(matches!(ours.recv_bytes(), Err(multiproc::Error::Eof)));
    }
}

fn writes_to(file: File, sends_another: Connection) {
    (&file).write_all(b"argument, ").unwrap();
    let mut another = File::from(sends_another.recv_fd().unwrap());
    another.write_all(b"bare, ").unwrap();
    sends_another.recv::<File>().unwrap().write_all(b"message").unwrap();
}

#[test]
fn descriptors_with_numbers_over_256_are_writable_in_a_child() {
    let _turn = turn();
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let high = File::from(numbered_from(writer.into(), 300));
    assert!(high.as_raw_fd() >= 300);
    let (ours, theirs) = pipe().unwrap();
    let child = Process::new(writes_to, (high.try_clone().unwrap(), theirs)).start().unwrap();
    ours.send_fd(high.as_fd()).unwrap();
    ours.send(&high).unwrap();
    drop(high);
    child.join().unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "argument, bare, message");
}

#[allow(unsafe_code)]
fn numbered_from(fd: OwnedFd, least: i32) -> OwnedFd {
    // SAFETY: takes numbers.
    let number = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    assert!(number >= least);
    // SAFETY: the call has just made it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[test]
fn polling_in_another_process_takes_nothing() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let (go, gone) = pipe().unwrap();
    let child = os::fork(|| {
        for _ in 0..100 {
            assert!(right.poll(PATIENCE).unwrap());
        }
        go.send_bytes(b"").unwrap();
    });
    left.send_bytes(b"a").unwrap();
    left.send_bytes(b"").unwrap();
    left.send_bytes(b"bc").unwrap();
    gone.recv_bytes().unwrap();
    for expected in [&b"a"[..], b"", b"bc"] {
        assert!(right.poll(Duration::ZERO).unwrap() && right.poll(Duration::ZERO).unwrap());
        assert_eq!(right.recv_bytes().unwrap(), expected);
    }
    assert!(!right.poll(Duration::ZERO).unwrap());
    assert_eq!(os::wait_until(child, Instant::now() + PATIENCE), Some(os::Status::Exited(0)));
}

#[test]
fn a_descriptor_closed_behind_a_connection_is_an_error_and_nothing_worse() {
    let _turn = turn();
    in_child(|| {
        let (left, right) = pipe().unwrap();
        os::close(right.as_raw_fd());
        let _ = right.poll(Duration::from_millis(1));
        let _ = multiproc::wait(&[&right], Some(Duration::ZERO));
        for error in [right.recv_bytes().unwrap_err(), right.send_bytes(b"x").unwrap_err()] {
            assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{error}");
        }
        assert!(left.poll(Duration::ZERO).unwrap());
        // Its number is nobody's to close.
        std::mem::forget(right);
    });
}
