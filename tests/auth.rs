//! The handshake, against peers that keep to it and peers that do not.

mod hostile_peers;
mod support;

use hostile_peers::{answer, ask};
use multiproc::{Connection, Error, answer_challenge, deliver_challenge, pipe};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;
use support::watchdog;

const PATIENCE: Duration = Duration::from_secs(60);

fn connection_and_socket() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours.into(), theirs)
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

/// What the peer was sent until the connection ended.
fn rest(mut socket: UnixStream) -> Vec<u8> {
    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).unwrap();
    heard
}

#[test]
fn both_halves_succeed_with_the_same_key_of_any_length() {
    let _watchdog = watchdog(PATIENCE);
    for key in [&b""[..], b"k", &[7; 64], &[7; 65], &[7; 1000]] {
        let (left, right) = pipe().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                deliver_challenge(&left, key).unwrap();
                answer_challenge(&left, key).unwrap();
            });
            answer_challenge(&right, key).unwrap();
            deliver_challenge(&right, key).unwrap();
        });
        left.send(&1u8).unwrap();
        assert_eq!(right.recv::<u8>().unwrap(), 1);
    }
}

#[test]
fn another_key_fails_on_both_sides() {
    let _watchdog = watchdog(PATIENCE);
    for (one, other) in [(&b"a"[..], &b"b"[..]), (b"", b"\0"), (&[0; 65], &[0; 64])] {
        let (left, right) = pipe().unwrap();
        let same = one.len() < 64 && one == &other[..one.len()] && other.iter().all(|b| *b == 0);
        let outcomes = thread::scope(|scope| {
            let answer = scope.spawn(|| answer_challenge(&right, other));
            (deliver_challenge(&left, one), answer.join().unwrap())
        });
        match outcomes {
            // HMAC fills short keys up with zeros, which is how these two are one.
            (Ok(()), Ok(())) => assert!(same),
            (Err(delivered), Err(answered)) => {
                assert!(matches!(delivered, Error::AuthenticationError { .. }), "{delivered}");
                assert!(matches!(answered, Error::AuthenticationError { .. }), "{answered}");
            }
            outcomes => panic!("{outcomes:?}"),
        }
    }
}

#[test]
fn a_bogus_answer_is_an_authentication_error_and_the_peer_is_told() {
    let _watchdog = watchdog(PATIENCE);
    for bogus in
        [&b""[..], b"something bogus", &[0; 16], &[0; 20], &[0; 40], b"{sha256}", b"{md4}x"]
    {
        let (connection, mut socket) = connection_and_socket();
        socket.write_all(&frame(bogus)).unwrap();
        let error = deliver_challenge(&connection, b"key").unwrap_err();
        assert!(matches!(error, Error::AuthenticationError { .. }), "{bogus:?}: {error}");
        drop(connection);
        let heard = rest(socket);
        assert!(heard[4..].starts_with(b"#CHALLENGE#{sha256}"));
        assert!(heard.ends_with(&frame(b"#FAILURE#")));
    }
}

#[test]
fn a_bogus_challenge_or_verdict_is_an_authentication_error() {
    let _watchdog = watchdog(PATIENCE);
    let modern = [&b"#CHALLENGE#{sha256}"[..], &[1; 40]].concat();
    for (challenge, verdict) in [
        (&b"nonsense"[..], &b"#WELCOME#"[..]),
        (b"", b"#WELCOME#"),
        (b"#CHALLENGE#", b"#WELCOME#"),
        (b"#CHALLENGE#{sha999}0123456789012345678901234567890", b"#WELCOME#"),
        (&modern, b"something bogus"),
        (&modern, b"#FAILURE#"),
        (&modern, b"#WELCOME#."),
        (&modern, b""),
    ] {
        let (connection, mut socket) = connection_and_socket();
        socket.write_all(&[frame(challenge), frame(verdict)].concat()).unwrap();
        let error = answer_challenge(&connection, b"key").unwrap_err();
        assert!(matches!(error, Error::AuthenticationError { .. }), "{challenge:?}: {error}");
    }
}

#[test]
fn a_message_of_more_than_256_bytes_is_refused_before_it_is_read() {
    let _watchdog = watchdog(PATIENCE);
    for half in [deliver_challenge, answer_challenge] {
        let (connection, mut socket) = connection_and_socket();
        socket.write_all(&257u32.to_be_bytes()).unwrap();
        let error = half(&connection, b"key").unwrap_err();
        assert!(matches!(error, Error::MessageTooLong { len: 257, max: 256 }), "{error}");
        assert!(!connection.readable());
    }
}

#[test]
fn a_peer_that_leaves_in_the_middle_is_told_apart() {
    let _watchdog = watchdog(PATIENCE);
    for half in [deliver_challenge, answer_challenge] {
        let (connection, socket) = connection_and_socket();
        drop(socket);
        let error = half(&connection, b"key").unwrap_err();
        assert!(matches!(error, Error::Eof | Error::Disconnected), "{error}");
        let (connection, mut socket) = connection_and_socket();
        socket.write_all(&[0, 0, 0, 9, b'#']).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let error = half(&connection, b"key").unwrap_err();
        assert!(matches!(error, Error::TruncatedMessage), "{error}");
    }
}

#[test]
fn any_bytes_end_a_half_of_the_handshake_without_harm() {
    let _watchdog = watchdog(PATIENCE);
    for seed in hostile_peers::seeds("handshake") {
        ask(&seed);
        answer(&seed);
    }
    let mut state = 1u32;
    for len in 0..400 {
        let bytes: Vec<u8> = (0..len).map(|_| next(&mut state)).collect();
        ask(&bytes);
        answer(&bytes);
    }
}

fn next(state: &mut u32) -> u8 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    // Headers of small messages are worth more than those of large ones.
    if *state >> 30 == 0 { 0 } else { (*state >> 16) as u8 }
}
