//! Polling, timeouts and signals.

use super::support::*;
use multiproc::{Error, pipe};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn poll_sees_an_empty_message_again_and_again_until_it_is_received() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    assert!(!right.poll(ZERO).unwrap());
    left.send_bytes(b"").unwrap();
    assert!(right.poll(ZERO).unwrap());
    assert!(right.poll(Duration::from_secs(100)).unwrap());
    right.poll_forever().unwrap();
    assert_eq!(right.recv_bytes().unwrap(), b"");
    assert!(!right.poll(ZERO).unwrap());
}

#[test]
fn messages_that_were_read_ahead_are_seen_by_poll_one_by_one() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let strings: [&[u8]; 5] = [b"hello", b"", b"a", b"b", b""];
    strings.iter().for_each(|bytes| left.send_bytes(bytes).unwrap());
    for bytes in strings {
        assert!(right.poll(ZERO).unwrap());
        assert!(right.poll(ZERO).unwrap());
        assert_eq!(right.recv_bytes().unwrap(), bytes);
    }
    assert!(!right.poll(ZERO).unwrap());
}

#[test]
fn poll_takes_part_of_a_message_for_input_and_consumes_nothing() {
    let _turn = turn();
    let (connection, mut raw) = connection_and_socket();
    raw.write_all(b"\0\0").unwrap();
    assert!(connection.poll(ZERO).unwrap());
    assert!(matches!(connection.try_recv_bytes(), Err(Error::TimeoutError)));
    assert!(connection.poll(ZERO).unwrap());
    raw.write_all(b"\0\x02ab").unwrap();
    assert_eq!(connection.try_recv_bytes().unwrap(), b"ab");
    assert!(!connection.poll(ZERO).unwrap());
}

#[test]
fn poll_waits_as_long_as_it_is_told() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let start = Instant::now();
    assert!(!right.poll(SHORT).unwrap());
    assert!(start.elapsed() >= SHORT);
    left.send_bytes(b"before the end").unwrap();
    drop(left);
    assert!(right.poll(ZERO).unwrap());
    assert_eq!(right.recv_bytes().unwrap(), b"before the end");
    assert!(right.poll(ZERO).unwrap(), "the end of the stream is input");
    assert!(matches!(right.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn a_timeout_inside_a_message_loses_nothing() {
    let _turn = turn();
    let body = pattern(BUFFER * 3);
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    for cut in [2, 4, 100, BUFFER, BUFFER + 5, BUFFER * 2] {
        let (connection, mut raw) = connection_and_socket();
        raw.write_all(&frame[..cut]).unwrap();
        let start = Instant::now();
        assert!(matches!(connection.recv_bytes_timeout(SHORT), Err(Error::TimeoutError)));
        assert!(start.elapsed() >= SHORT);
        let mut buffer = vec![0; body.len()];
        assert!(matches!(connection.try_recv_bytes_into(&mut buffer), Err(Error::TimeoutError)));
        assert!(matches!(connection.try_recv::<Text>(), Err(Error::TimeoutError)));
        raw.write_all(&frame[cut..]).unwrap();
        if cut % 2 == 0 {
            assert!(connection.recv_bytes().unwrap() == body);
        } else {
            assert_eq!(connection.recv_bytes_into(&mut buffer).unwrap(), body.len());
            assert!(buffer == body);
        }
        raw.write_all(b"\0\0\0\x01z").unwrap();
        assert_eq!(connection.try_recv_bytes().unwrap(), b"z");
    }
}

#[test]
fn a_message_that_could_not_begin_in_time_leaves_the_stream_as_it_was() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let mut sent = 0;
    let refused = loop {
        match left.try_send_bytes(&pattern(1000)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::TimeoutError) && left.writable());
    let start = Instant::now();
    assert!(matches!(left.send_timeout(&text("x"), SHORT), Err(Error::TimeoutError)));
    assert!(start.elapsed() >= SHORT && left.writable());
    for _ in 0..sent {
        assert!(right.recv_bytes().unwrap() == pattern(1000));
    }
    left.try_send(&text("again")).unwrap();
    assert_eq!(right.recv::<Text>().unwrap(), text("again"));
}

#[test]
fn a_message_with_no_room_in_the_socket_is_not_begun_without_waiting() {
    let _turn = turn();
    let mut refused = 0;
    for len in (1..40).map(|i| i * 10_000) {
        let (left, right) = pipe().unwrap();
        let mut sent = 0;
        while left.try_send_bytes(&pattern(len)).is_ok() {
            sent += 1;
        }
        assert!(left.writable(), "{len} bytes, after {sent} messages");
        assert!(sent > 0 || len > 100_000, "{len} bytes");
        refused += usize::from(sent == 0);
        (0..sent).for_each(|_| assert!(right.try_recv_bytes().unwrap() == pattern(len)));
    }
    assert!(refused > 0);
}

#[test]
fn a_message_cut_off_by_its_deadline_ends_sending_and_is_truncated_for_the_peer() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    left.send_bytes(b"whole").unwrap();
    let cut = left.send_bytes_timeout(&pattern(8 << 20), SHORT);
    assert!(matches!(cut, Err(Error::TimeoutError)), "{cut:?}");
    assert!(!left.writable() && left.readable());
    assert!(matches!(left.send_bytes(b"x"), Err(Error::Closed)));
    assert_eq!(right.recv_bytes().unwrap(), b"whole");
    assert!(matches!(right.recv_bytes(), Err(Error::TruncatedMessage)));
    right.send_bytes(b"the other way goes on").unwrap();
    assert_eq!(left.recv_bytes().unwrap(), b"the other way goes on");
}

#[test]
fn a_thread_that_receives_does_not_hold_up_another_ones_deadline() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| right.recv_bytes().unwrap());
        while !matches!(right.try_recv_bytes(), Err(Error::TimeoutError)) {}
        assert!(matches!(right.recv_bytes_timeout(SHORT), Err(Error::TimeoutError)));
        assert!(!right.poll(SHORT).unwrap());
        left.send_bytes(b"done").unwrap();
        assert_eq!(receiver.join().unwrap(), b"done");
    });
}

#[test]
fn signals_interrupt_nothing() {
    let _turn = turn();
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: zeros are a valid record: no flags, so that interrupted calls are not restarted.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ignore as *const () as usize;
    // SAFETY: the handler does nothing.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) }, 0);
    let (left, right) = pipe().unwrap();
    let waited = AtomicBool::new(false);
    let (itself, whom) = std::sync::mpsc::sync_channel(1);
    thread::scope(|scope| {
        let interrupted = scope.spawn(|| {
            // SAFETY: cannot fail.
            itself.send(unsafe { libc::pthread_self() }).unwrap();
            left.send_bytes(&pattern(8 << 20)).unwrap();
            left.send_bytes_timeout(&pattern(8 << 20), Duration::from_secs(100)).unwrap();
            let start = Instant::now();
            assert!(!left.poll(SHORT * 3).unwrap());
            assert!(matches!(left.recv_bytes_timeout(SHORT), Err(Error::TimeoutError)));
            assert!(start.elapsed() >= SHORT * 4);
            waited.store(true, Ordering::Release);
            assert_eq!(left.recv_bytes().unwrap(), b"answer");
        });
        let target = whom.recv().unwrap();
        let interrupt = || {
            // SAFETY: the thread is not joined yet, nor its handle dropped.
            unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
        };
        for _ in 0..2 {
            (0..200).for_each(|_| interrupt());
            assert!(right.recv_bytes().unwrap() == pattern(8 << 20));
        }
        while !waited.load(Ordering::Acquire) && !interrupted.is_finished() {
            interrupt();
            thread::sleep(Duration::from_millis(1));
        }
        (0..200).for_each(|_| interrupt());
        right.send_bytes(b"answer").unwrap();
        while !interrupted.is_finished() {
            interrupt();
            thread::yield_now();
        }
        interrupted.join().unwrap();
    });
}
