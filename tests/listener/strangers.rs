//! Clients that have the wrong key or none, are slow, silent, hostile or somebody else's.

use super::ground::*;
use multiproc::{Client, Connection, Error, Listener, Peers, answer_challenge, pipe};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

#[test]
fn a_wrong_key_is_refused_on_both_sides_and_the_listener_goes_on() {
    let _turn = turn();
    for address in ["abstract:", "tcp:127.0.0.1:0"] {
        let listener = Listener::builder().authkey(KEY).bind(address).unwrap();
        for (before, wrong) in [&b"another"[..], b"", &KEY[1..]].into_iter().enumerate() {
            thread::scope(|scope| {
                let at = listener.address();
                let refused = scope.spawn(move || Client::builder().authkey(wrong).connect(at));
                while listener.refused() == before as u64 {
                    assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
                }
                let error = refused.join().unwrap().unwrap_err();
                assert!(matches!(error, Error::AuthenticationError { .. }), "{error}");
            });
            let why = listener.last_refusal().unwrap();
            assert!(why.reason.contains("another one"), "{why:?}");
            assert!(listener.last_refusal().is_none());
        }
        meet(&listener, KEY, |connection| drop(connection.unwrap()));
    }
}

#[test]
fn silent_slow_and_hostile_clients_keep_nobody_out() {
    let _turn = turn();
    let listener = with_key(any_name());
    let silent: Vec<_> = (0..20).map(|_| raw(&listener)).collect();
    let mut slow = raw(&listener);
    slow.write_all(&[0, 0, 0]).unwrap();
    let mut endless = raw(&listener);
    endless.write_all(&[0x7f, 0xff, 0xff, 0xff]).unwrap();
    let mut long_form = raw(&listener);
    long_form.write_all(&[0xff; 12]).unwrap();
    let mut nonsense = raw(&listener);
    nonsense.write_all(&[0x80, 0, 0, 0]).unwrap();
    let mut flood = raw(&listener);
    flood.write_all(&[0; 4000]).unwrap();
    drop(raw(&listener));
    for _ in 0..3 {
        meet(&listener, KEY, |connection| connection.unwrap().send_bytes(b"in").unwrap());
    }
    assert_eq!(listener.refused(), 5, "{:?}", listener.last_refusal());
    drop(silent);
}

#[test]
fn a_client_that_takes_too_long_is_dropped() {
    let _turn = turn();
    let listener =
        Listener::builder().authkey(KEY).handshake_timeout(SHORT).bind("abstract:").unwrap();
    let mut silent = raw(&listener);
    while listener.refused() == 0 {
        assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
    }
    let mut heard = Vec::new();
    silent.read_to_end(&mut heard).unwrap();
    assert!(heard[4..].starts_with(b"#CHALLENGE#{sha256}"), "{heard:?}");
    assert_eq!(heard.len(), 4 + 11 + 48);
}

#[test]
fn more_silent_clients_than_are_kept_do_not_keep_others_out() {
    let _turn = turn();
    // A thousand sockets, and then some.
    let listener = Listener::builder().authkey(KEY).backlog(4096).bind("abstract:").unwrap();
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(raw(&listener));
        if silent.len() % 50 == 0 {
            assert!(matches!(listener.try_accept(), Err(Error::TimeoutError)));
        }
    }
    meet(&listener, KEY, |connection| drop(connection.unwrap()));
    assert!(listener.refused() >= 100);
}

#[test]
fn descriptors_of_strangers_are_not_taken() {
    let _turn = turn();
    let listener = with_key(any_name());
    // As a connection the raw socket can send descriptors, which here come with an unfinished answer.
    let stranger = Connection::from(raw(&listener));
    let file = std::fs::File::open("/dev/null").unwrap();
    for _ in 0..50 {
        stranger.send_fd(file.as_fd()).unwrap();
    }
    let before = descriptors();
    assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
    assert!(descriptors() <= before + 1);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_client_that_is_killed_in_its_handshake_is_forgotten() {
    let _turn = turn();
    let listener = with_key(any_name());
    let child = os::fork(|| {
        // It answers, and then asks nothing.
        let connection = Connection::from(raw(&listener));
        answer_challenge(&connection, KEY).unwrap();
        os::exit_now(0);
    });
    while listener.refused() == 0 {
        assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
    }
    os::kill_and_reap(child);
    meet(&listener, KEY, |connection| drop(connection.unwrap()));
}

#[test]
fn only_the_users_that_were_named_may_connect() {
    let _turn = turn();
    let me = pipe().unwrap().0.peer().unwrap().credentials.unwrap().uid;
    let listener = Listener::builder().peers(Peers::Users(vec![me ^ 1])).bind("abstract:").unwrap();
    let client = Client::connect(listener.address()).unwrap();
    assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
    assert_eq!(listener.refused(), 1);
    assert_eq!(listener.last_refusal().unwrap().peer.credentials.unwrap().uid, me);
    assert!(matches!(client.recv_bytes(), Err(Error::Eof)));
    for peers in [Peers::Anybody, Peers::SameUser, Peers::Users(vec![1, me])] {
        let listener = Listener::builder().peers(peers).bind("abstract:").unwrap();
        let _client = Client::connect(listener.address()).unwrap();
        listener.accept().unwrap();
    }
}

#[test]
fn a_client_that_dribbles_has_no_more_time_than_a_silent_one() {
    let _turn = turn();
    let listener =
        Listener::builder().authkey(KEY).handshake_timeout(2 * SHORT).bind("abstract:").unwrap();
    let mut slow = raw(&listener);
    // One byte every millisecond at most: all of the frame would take five times as long as it may.
    slow.write_all(&[0, 0, 0, 200]).unwrap();
    while listener.refused() == 0 {
        assert!(matches!(listener.accept_timeout(SHORT / 20), Err(Error::TimeoutError)));
        // It fails once the listener has dropped the connection.
        let _ = slow.write_all(b"x");
    }
    let why = listener.last_refusal().unwrap().reason;
    assert!(why.contains("time"), "{why}");
}

#[test]
fn a_strangers_message_may_have_256_bytes_and_no_more() {
    let _turn = turn();
    let listener = with_key(any_name());
    for (len, expected) in [(256usize, "digest"), (257, "256")] {
        let mut stranger = raw(&listener);
        stranger.write_all(&(len as u32).to_be_bytes()).unwrap();
        stranger.write_all(&vec![b'x'; len]).unwrap();
        let before = listener.refused();
        while listener.refused() == before {
            assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
        }
        let why = listener.last_refusal().unwrap().reason;
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn another_users_process_is_refused_unless_it_was_named() {
    let _turn = turn();
    const SOMEBODY: u32 = 54321;
    let me = pipe().unwrap().0.peer().unwrap().credentials.unwrap().uid;
    if me != 0 {
        println!("skipped: only root can act as somebody else");
        return;
    }
    for (peers, comes_in) in [
        (Peers::SameUser, false),
        (Peers::Users(vec![0, SOMEBODY + 1]), false),
        (Peers::Users(vec![SOMEBODY]), true),
        (Peers::Anybody, true),
    ] {
        let listener = Listener::builder().authkey(KEY).peers(peers).bind("abstract:").unwrap();
        let child = os::fork(|| {
            become_user(SOMEBODY);
            let outcome = Client::builder().authkey(KEY).connect(listener.address());
            assert_eq!(outcome.is_ok(), comes_in, "{outcome:?}");
        });
        if comes_in {
            drop(listener.accept().unwrap());
            assert_eq!(listener.last_accepted().unwrap().credentials.unwrap().uid, SOMEBODY);
        } else {
            while listener.refused() == 0 {
                assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
            }
            let refusal = listener.last_refusal().unwrap();
            assert_eq!(refusal.peer.credentials.unwrap().uid, SOMEBODY);
            assert!(refusal.reason.contains("user"), "{refusal:?}");
        }
        let end = os::wait_until(child, Instant::now() + PATIENCE);
        assert_eq!(end, Some(os::Status::Exited(0)));
    }
}

#[allow(unsafe_code)]
fn become_user(user: u32) {
    // SAFETY: takes numbers alone.
    assert_eq!(unsafe { libc::setresuid(user, user, user) }, 0);
}
