//! Wrong keys, and peers that know MD5 alone.

use super::ground::*;
use multiproc::{Address, Client, Error, Listener};
use std::thread;
use std::time::Duration;

#[test]
fn a_python_client_with_another_key_is_refused_and_the_next_one_is_not() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let mut wrong = python.start("connect_refused", &[&at, &hex(Some("wrong"))]);
        let right = thread::scope(|scope| {
            let accepts = scope.spawn(|| listener.accept().unwrap());
            let line = wrong.line();
            assert!(line.starts_with("AuthenticationError"), "{line:?}");
            let right = python.start("connect_and_echo", &[&at, &hex(Some(KEY))]);
            assert_echoes(&accepts.join().unwrap(), &[5]);
            right
        });
        assert_eq!(listener.refused(), 1);
        wrong.finish();
        right.finish();
    });
}

#[test]
fn our_client_with_another_key_is_refused_by_a_python_listener() {
    let _turn = turn();
    each(|python| {
        let mut peer = python.start("listen_refused", &["tcp:0", &hex(Some("wrong"))]);
        let at = Address::parse(&peer.line()).unwrap();
        let error = python.client(Some(KEY)).connect(at).unwrap_err();
        assert!(matches!(error, Error::AuthenticationError { .. }), "{error}");
        assert!(peer.line().starts_with("AuthenticationError"));
        peer.finish();
    });
}

#[test]
fn a_python_that_knows_md5_alone_is_let_in_only_if_that_was_asked_for() {
    let _turn = turn();
    each(|python| {
        if !python.is_old() {
            return;
        }
        let listener = Listener::builder().authkey(KEY).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let mut peer = python.start("connect_refused", &[&at, &hex(Some(KEY))]);
        while listener.refused() == 0 {
            let outcome = listener.accept_timeout(Duration::from_millis(20));
            assert!(matches!(outcome, Err(Error::TimeoutError)));
        }
        assert!(listener.last_refusal().unwrap().reason.contains("MD5"));
        assert!(peer.line().starts_with("AuthenticationError"));
        peer.finish();

        let mut peer = python.start("listen_refused", &["tcp:0", &hex(Some(KEY))]);
        let at = Address::parse(&peer.line()).unwrap();
        let error = Client::builder().authkey(KEY).connect(at).unwrap_err();
        assert!(error.to_string().contains("MD5"), "{error}");
        assert!(peer.line().starts_with("dropped"));
        peer.finish();
    });
}
