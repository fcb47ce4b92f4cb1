//! Clients and listeners of either side, alone and many at once, with every length of message.

use super::ground::*;
use multiproc::{Address, Error};
use std::thread;

#[test]
fn a_python_client_talks_to_our_listener() {
    let _turn = turn();
    each(|python| {
        let [_, _, path] = places("server");
        let mut listeners = Vec::new();
        let mut arguments = Vec::new();
        for address in ["tcp:127.0.0.1:0", "abstract:", &path] {
            for key in [None, Some(KEY), Some("")] {
                let address = match address.strip_prefix("unix:") {
                    Some(path) => format!("unix:{path}-{}", hex(key)),
                    None => address.to_string(),
                };
                let listener = python.listener(key).bind(&address[..]).unwrap();
                arguments.extend([listener.address().to_string(), hex(key)]);
                listeners.push(listener);
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let peer = python.start("connect_and_echo", &arguments);
        for listener in listeners {
            let connection = listener.accept().unwrap();
            assert_echoes(&connection, &LENS);
            assert_eq!(listener.refused(), 0);
        }
        peer.finish();
    });
}

#[test]
fn our_client_talks_to_a_python_listener() {
    let _turn = turn();
    each(|python| {
        let keys = [None, Some(KEY), Some("")];
        let keys = &keys[..if python.skips_empty_keys() { 2 } else { 3 }];
        let mut arguments = Vec::new();
        for place in places("client") {
            keys.iter().for_each(|key| arguments.extend([place.clone(), hex(*key)]));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut peer = python.start("listen_and_echo_at", &arguments);
        for key in keys.iter().cycle().take(arguments.len() / 2) {
            let at = Address::parse(&peer.line()).unwrap();
            let connection = python.client(*key).connect(at).unwrap();
            assert_echoes(&connection, &LENS);
        }
        peer.finish();
    });
}

#[test]
fn a_python_client_may_be_there_before_our_listener() {
    let _turn = turn();
    each(|python| {
        let [_, _, place] = places("later");
        let mut peer = python.start("connect_when_there", &[&place, &hex(Some(KEY))]);
        assert_eq!(peer.line(), "nobody is there yet");
        let listener = python.listener(Some(KEY)).bind(&place[..]).unwrap();
        assert_echoes(&listener.accept().unwrap(), &[3]);
        peer.finish();
    });
}

#[test]
fn our_client_may_be_there_before_a_python_listener() {
    let _turn = turn();
    each(|python| {
        let [_, _, place] = places("sooner");
        thread::scope(|scope| {
            let client = scope.spawn(|| {
                loop {
                    match python.client(Some(KEY)).connect(&place[..]) {
                        Ok(connection) => break connection,
                        Err(Error::Os { call, .. }) if call == "connect" => thread::sleep(TICK),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            let peer = python.start("listen_and_echo", &[&place, &hex(Some(KEY))]);
            let connection = client.join().unwrap();
            assert_echoes(&connection, &[3]);
            drop(connection);
            peer.finish();
        });
    });
}

#[test]
fn messages_of_64_mebibytes_go_both_ways() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("connect_and_echo", &[&at, &hex(Some(KEY))]);
        let connection = listener.accept().unwrap();
        assert_echoes(&connection, &[64 << 20]);
        drop(connection);
        peer.finish();
    });
}

#[test]
fn many_python_clients_come_at_once() {
    let _turn = turn();
    each(|python| {
        const COUNT: usize = 30;
        let listener = python.listener(Some(KEY)).bind("tcp:127.0.0.1:0").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("many_clients", &[&at, &hex(Some(KEY)), &COUNT.to_string()]);
        for connection in listener.incoming().take(COUNT) {
            let connection = connection.unwrap();
            let number: u32 =
                String::from_utf8(connection.recv_bytes().unwrap()).unwrap().parse().unwrap();
            connection.send_bytes((number + 1).to_string().as_bytes()).unwrap();
        }
        peer.finish();
    });
}

#[test]
fn many_of_our_clients_talk_to_one_python_listener() {
    let _turn = turn();
    each(|python| {
        const COUNT: usize = 12;
        let [place, ..] = places("many");
        let mut peer =
            python.start("listen_and_echo", &[&place, &hex(Some(KEY)), &COUNT.to_string()]);
        let at = Address::parse(&peer.line()).unwrap();
        thread::scope(|scope| {
            for _ in 0..COUNT {
                scope.spawn(|| {
                    let connection = python.client(Some(KEY)).connect(&at).unwrap();
                    assert_echoes(&connection, &[0, 10, 100_000]);
                });
            }
        });
        peer.finish();
    });
}

#[test]
fn connection_wait_in_python_finds_our_messages() {
    let _turn = turn();
    each(|python| {
        const COUNT: usize = 5;
        let mut peer =
            python.start("wait_for_all", &["tcp:0", &hex(Some(KEY)), &COUNT.to_string()]);
        let at = Address::parse(&peer.line()).unwrap();
        let connections: Vec<_> =
            (0..COUNT).map(|_| python.client(Some(KEY)).connect(&at).unwrap()).collect();
        for number in 1..=20 {
            let connection = &connections[number % COUNT];
            connection.send_bytes(number.to_string().as_bytes()).unwrap();
        }
        drop(connections);
        assert_eq!(peer.line(), "210");
        peer.finish();
    });
}

#[test]
fn a_python_client_that_comes_before_accept_is_called_waits() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(None).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("connect_and_echo", &[&at, "-"]);
        // It has connected once the listener is ready.
        assert_eq!(multiproc::wait(&[&listener], None).unwrap(), [0]);
        assert_echoes(&listener.try_accept().unwrap(), &[3]);
        peer.finish();
    });
}
