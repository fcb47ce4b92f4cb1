//! Directions, halves, threads, other kinds of streams, and CPython at the other end.

use super::support::*;
use multiproc::{Connection, Error, pipe, pipe_one_way};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

#[test]
fn one_way_ends_refuse_the_wrong_direction() {
    let _turn = turn();
    let (reader, writer) = pipe_one_way().unwrap();
    assert!(reader.readable() && !reader.writable());
    assert!(!writer.readable() && writer.writable());
    assert!(matches!(reader.send_bytes(b"x"), Err(Error::InvalidArgument { .. })));
    assert!(matches!(reader.send(&text("x")), Err(Error::InvalidArgument { .. })));
    assert!(matches!(writer.recv_bytes(), Err(Error::InvalidArgument { .. })));
    assert!(matches!(writer.recv::<Text>(), Err(Error::InvalidArgument { .. })));
    assert!(matches!(writer.poll(ZERO), Err(Error::InvalidArgument { .. })));
    writer.send(&text("right way")).unwrap();
    assert_eq!(reader.recv::<Text>().unwrap(), text("right way"));
    drop(reader);
    assert!(matches!(writer.send_bytes(b"x"), Err(Error::Disconnected)));
    let (reader, writer) = pipe_one_way().unwrap();
    writer.close();
    assert!(matches!(reader.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn a_peer_that_left_without_reading_is_still_heard_to_the_end() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    right.send_bytes(b"never read").unwrap();
    left.send_bytes(b"last words").unwrap();
    drop(left);
    assert!(matches!(right.send_bytes(b"x"), Err(Error::Disconnected)));
    assert_eq!(right.recv_bytes().unwrap(), b"last words");
    assert!(matches!(right.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn a_peer_killed_inside_a_message_leaves_a_truncated_one() {
    let _turn = turn_to_fork();
    let (left, right) = pipe().unwrap();
    // SAFETY: no other test runs, and the child does nothing but send.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(left);
        let _ = right.send_bytes(b"whole");
        let _ = right.send_bytes(&[7; 8 << 20]);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(1) };
    }
    drop(right);
    assert_eq!(left.recv_bytes().unwrap(), b"whole");
    left.poll_forever().unwrap();
    // SAFETY: the child is ours, and not waited for yet.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    let mut status = 0;
    // SAFETY: `status` is writable.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFSIGNALED(status), "it was done before it was killed");
    assert!(matches!(left.recv_bytes(), Err(Error::TruncatedMessage)));
    assert!(matches!(left.recv_bytes(), Err(Error::Eof)));
    assert!(matches!(left.send_bytes(b"x"), Err(Error::Disconnected)));
}

#[test]
fn empty_messages_are_no_end_for_a_reader_and_no_message_for_a_writer() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    left.send_bytes(b"ab").unwrap();
    left.send_bytes(b"").unwrap();
    left.as_write().write_all(b"").unwrap();
    left.as_write().write_all(b"cde").unwrap();
    drop(left);
    let mut reader = right.as_read();
    let mut three = [0; 3];
    reader.read_exact(&mut three).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!((&three, rest.as_str()), (b"abc", "de"));
    assert_eq!(reader.read(&mut three).unwrap(), 0);
}

#[test]
fn halves_of_a_connection_work_in_threads_of_their_own() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let (receiving, sending) = left.split().unwrap();
    assert!(receiving.send_bytes(b"x").is_err() && sending.recv_bytes().is_err());
    let echo = thread::spawn(move || {
        while let Ok(message) = right.recv_bytes() {
            right.send_bytes(&message).unwrap();
            if message.is_empty() {
                break;
            }
        }
    });
    let sender = thread::spawn(move || {
        (1..200).for_each(|len| sending.send_bytes(&pattern(len * 100)).unwrap());
        sending.send_bytes(b"").unwrap();
    });
    (1..200).for_each(|len| assert!(receiving.recv_bytes().unwrap() == pattern(len * 100)));
    assert_eq!(receiving.recv_bytes().unwrap(), b"");
    sender.join().unwrap();
    echo.join().unwrap();
    let (reader, _writer) = pipe_one_way().unwrap();
    assert!(matches!(reader.split(), Err(Error::InvalidArgument { .. })));
}

#[test]
fn threads_sharing_both_ends_never_mix_messages() {
    let _turn = turn();
    const THREADS: u8 = 4;
    const EACH: usize = 100;
    let (left, right) = pipe().unwrap();
    thread::scope(|scope| {
        for me in 0..THREADS {
            let left = &left;
            scope.spawn(move || {
                (0..EACH).for_each(|i| left.send_bytes(&vec![me; i * 700]).unwrap());
            });
        }
        let receivers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let take = || right.recv_bytes().unwrap();
                    (0..EACH)
                        .map(|_| take())
                        .inspect(|m| assert!(m.windows(2).all(|w| w[0] == w[1])))
                        .map(|m| m.len())
                        .sum::<usize>()
                })
            })
            .collect();
        let total: usize = receivers.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(total, (0..EACH).sum::<usize>() * 700 * THREADS as usize);
    });
}

#[test]
fn a_connection_works_on_both_sides_of_a_fork() {
    let (left, right) = pipe().unwrap();
    alone(std::panic::AssertUnwindSafe(|| {
        right.send(&text("from the child")).unwrap();
    }));
    assert_eq!(left.recv::<Text>().unwrap(), text("from the child"));
}

#[test]
fn a_pair_of_pipes_makes_a_connection() {
    let _turn = turn();
    let (read_a, write_a) = os_pipe();
    let (read_b, write_b) = os_pipe();
    let left = Connection::try_from((OwnedFd::from(read_a), write_b)).unwrap();
    let right = Connection::try_from((OwnedFd::from(read_b), write_a)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| left.send_bytes(&pattern(1 << 20)).unwrap());
        assert!(right.recv_bytes().unwrap() == pattern(1 << 20));
        scope.spawn(|| {
            left.send_bytes_timeout(&pattern(1 << 20), Duration::from_secs(100)).unwrap()
        });
        assert!(right.recv_bytes_timeout(Duration::from_secs(100)).unwrap() == pattern(1 << 20));
    });
    assert!(matches!(left.recv_bytes_timeout(SHORT), Err(Error::TimeoutError)));
    let refused = left.send_fd(std::io::stdout().as_fd());
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{refused:?}");
    assert!(left.into_fd().is_err());
    assert!(matches!(right.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn a_small_message_goes_into_a_full_pipe_whole_or_not_at_all() {
    let _turn = turn();
    let (read, write) = os_pipe();
    let left = Connection::from_writer(write).unwrap();
    let right = Connection::from_reader(read.into()).unwrap();
    assert!(!left.readable() && !right.writable());
    let mut sent = 0;
    while left.try_send_bytes(&pattern(4000)).is_ok() {
        sent += 1;
    }
    assert!(left.writable() && sent > 1);
    assert!(matches!(left.send_bytes_timeout(b"", SHORT), Err(Error::TimeoutError)));
    drop(left);
    (0..sent).for_each(|_| assert!(right.recv_bytes().unwrap() == pattern(4000)));
    assert!(matches!(right.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn a_tcp_connection_carries_messages_and_no_descriptors() {
    let _turn = turn();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let left = Connection::from(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let right = Connection::from(listener.accept().unwrap().0);
    thread::scope(|scope| {
        scope.spawn(|| left.send_bytes(&pattern(3 << 20)).unwrap());
        assert!(right.recv_bytes().unwrap() == pattern(3 << 20));
    });
    let (value, _readers) = handles::<1>();
    assert!(matches!(left.send(&value), Err(Error::InvalidArgument { .. })));
    left.send(&text("after that")).unwrap();
    assert_eq!(right.recv::<Text>().unwrap(), text("after that"));
    left.send_bytes(b"never received").unwrap();
    right.poll_forever().unwrap();
    drop(right);
    assert!(matches!(left.recv_bytes(), Err(Error::Disconnected)));
}

#[test]
fn a_nonblocking_socket_is_waited_for_all_the_same() {
    let _turn = turn();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let (left, right) = (Connection::from(ours), Connection::from(theirs));
    thread::scope(|scope| {
        scope.spawn(|| left.send_bytes(&pattern(2 << 20)).unwrap());
        assert!(right.recv_bytes().unwrap() == pattern(2 << 20));
    });
}

#[test]
fn a_datagram_socket_is_refused() {
    let _turn = turn();
    let (socket, _) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let refused = Connection::try_from(OwnedFd::from(socket));
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })));
}

#[test]
fn the_descriptor_comes_back_when_nothing_would_be_lost() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    left.send_bytes(b"one").unwrap();
    left.send_bytes(b"two").unwrap();
    assert_eq!(right.recv_bytes().unwrap(), b"one");
    let right = right.into_fd().expect_err("the second message was read ahead");
    assert_eq!(right.recv_bytes().unwrap(), b"two");
    let number = right.as_raw_fd();
    let fd = right.into_fd().unwrap();
    assert_eq!(fd.as_raw_fd(), number);
    let right = Connection::try_from(fd).unwrap();
    left.send_bytes(b"three").unwrap();
    assert_eq!(right.recv_bytes().unwrap(), b"three");
    let (half, other) = right.split().unwrap();
    let half = half.into_fd().unwrap_err();
    drop(other);
    half.into_fd().unwrap();
}

const ECHO: &str = r"
from multiprocessing.connection import Connection
from multiprocessing import reduction
with Connection(0) as c:
    c.send_bytes(b'ready')
    while True:
        m = c.recv_bytes()
        c.send_bytes(m)
        if m == b'fd': break
    fd = reduction.recv_handle(c)
    reduction.send_handle(c, fd, None)
    c.send_bytes(b'bye')
";

#[test]
fn cpython_speaks_the_same_frames_and_takes_the_same_descriptors() {
    let _turn = turn_to_fork();
    let (ours, theirs) = UnixStream::pair().unwrap();
    // The socket is its standard input.
    let mut command = std::process::Command::new("python3");
    command.args(["-c", ECHO]).stdin(OwnedFd::from(theirs));
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: there is no python3");
        return;
    };
    drop(command);
    let connection = Connection::from(ours);
    assert_eq!(connection.recv_bytes().unwrap(), b"ready");
    for len in [0, 1, 2, 255, 256, 4095, 4096, 16383, 16384, 16385, 32768, 65535, 65536] {
        connection.send_bytes(&pattern(len)).unwrap();
        assert!(connection.recv_bytes().unwrap() == pattern(len), "{len} bytes");
    }
    let (value, readers) = handles::<1>();
    connection.send_bytes(b"fd").unwrap();
    connection.send_fd(value.0[0].as_fd()).unwrap();
    drop(value);
    assert_eq!(connection.recv_bytes().unwrap(), b"fd");
    let fd = connection.recv_fd().unwrap();
    assert_eq!(connection.recv_bytes().unwrap(), b"bye");
    assert!(matches!(connection.recv_bytes(), Err(Error::Eof)));
    assert!(child.wait().unwrap().success());
    assert_paired(Handles::<1>(vec![fd]), readers);
}
