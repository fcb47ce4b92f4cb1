//! Clients that come in: of every family, with and without a key, early, late and many at once.

use super::ground::*;
use multiproc::{Address, Client, Connection, Error, Listener, pipe};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn every_family_connects_sends_and_ends() {
    let _turn = turn();
    let folder = Folder::new();
    let tcp6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    let mut addresses = vec![
        Address::from(folder.socket()),
        any_name(),
        Address::parse("tcp:127.0.0.1:0").unwrap(),
        Address::parse("tcp:localhost:0").unwrap(),
    ];
    if tcp6 {
        addresses.push(Address::parse("tcp:[::1]:0").unwrap());
    } else {
        println!("skipped: IPv6, which is not there");
    }
    for address in addresses {
        for key in [None, Some(KEY), Some(&b""[..])] {
            let mut builder = Listener::builder();
            let mut client = Client::builder();
            if let Some(key) = key {
                (builder, client) = (builder.authkey(key), client.authkey(key));
            }
            let listener = builder.bind(&address).unwrap();
            assert!(listener.last_accepted().is_none());
            let at = listener.address().clone();
            let sends = thread::spawn(move || client.connect(&at)?.send("hello"));
            let connection = listener.accept().unwrap();
            assert_eq!(connection.recv::<String>().unwrap(), "hello");
            assert!(matches!(connection.recv::<String>(), Err(Error::Eof)));
            sends.join().unwrap().unwrap();
            let peer = listener.last_accepted().unwrap();
            match address {
                Address::Tcp { .. } => {
                    let Some(Address::Tcp { port, .. }) = peer.address else { panic!("{peer:?}") };
                    assert_ne!(port, 0);
                }
                _ => assert_eq!(peer.credentials.unwrap().pid, std::process::id()),
            }
            assert_eq!(listener.refused(), 0);
        }
    }
    assert_eq!(folder.names(), 0);
}

#[test]
fn a_client_that_sent_and_left_before_it_was_accepted_is_heard() {
    let _turn = turn();
    for address in ["abstract:", "tcp:127.0.0.1:0"] {
        let listener = Listener::bind(address).unwrap();
        let client = Client::connect(listener.address()).unwrap();
        client.send("here I was").unwrap();
        drop(client);
        let connection = listener.accept().unwrap();
        assert!(connection.poll(Duration::ZERO).unwrap());
        assert_eq!(connection.recv::<String>().unwrap(), "here I was");
    }
}

#[test]
fn accept_waits_as_long_as_it_is_told() {
    let _turn = turn();
    for listener in [Listener::bind("abstract:").unwrap(), with_key(any_name())] {
        assert!(matches!(listener.try_accept(), Err(Error::TimeoutError)));
        let start = Instant::now();
        assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
        assert!(start.elapsed() >= SHORT);
    }
}

#[test]
fn try_accept_brings_a_handshake_to_its_end_bit_by_bit() {
    let _turn = turn();
    let listener = with_key(any_name());
    thread::scope(|scope| {
        let client = scope.spawn(|| Client::builder().authkey(KEY).connect(listener.address()));
        let connection = loop {
            match listener.try_accept() {
                Ok(connection) => break connection,
                Err(Error::TimeoutError) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        connection.send_bytes(b"done").unwrap();
        assert_eq!(client.join().unwrap().unwrap().recv_bytes().unwrap(), b"done");
    });
}

#[test]
fn what_a_client_sends_at_once_after_the_handshake_arrives_with_its_descriptors() {
    let _turn = turn();
    let listener = with_key(any_name());
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let connection = Client::builder().authkey(KEY).connect(listener.address()).unwrap();
            let (read, write) = pipe().unwrap();
            connection.send(&("take this", read)).unwrap();
            write.send_bytes(b"through it").unwrap();
        });
        let connection = listener.accept().unwrap();
        client.join().unwrap();
        let (text, handle) = connection.recv::<(String, Connection)>().unwrap();
        assert_eq!(text, "take this");
        assert_eq!(handle.recv_bytes().unwrap(), b"through it");
    });
}

#[test]
fn many_clients_come_in_at_once() {
    let _turn = turn();
    for address in ["abstract:", "tcp:127.0.0.1:0"] {
        let listener = Listener::builder().authkey(KEY).bind(address).unwrap();
        thread::scope(|scope| {
            for i in 0..40u32 {
                let listener = &listener;
                scope.spawn(move || {
                    let client = Client::builder().authkey(KEY);
                    let connection = client.connect(listener.address()).unwrap();
                    connection.send(&i).unwrap();
                    assert_eq!(connection.recv::<u32>().unwrap(), i + 1);
                });
            }
            // Two accept, as two threads of a server would.
            for _ in 0..2 {
                scope.spawn(|| {
                    for connection in listener.incoming().take(20) {
                        let connection = connection.unwrap();
                        let i = connection.recv::<u32>().unwrap();
                        connection.send(&(i + 1)).unwrap();
                    }
                });
            }
        });
        assert_eq!(listener.refused(), 0);
    }
}

#[test]
fn without_a_descriptor_left_accept_says_so_and_with_one_the_client_comes_in() {
    let _turn = turn();
    for address in ["abstract:", "tcp:127.0.0.1:0"] {
        in_child(|| {
            let listener = Listener::bind(address).unwrap();
            let client = Client::connect(listener.address()).unwrap();
            client.send_bytes(b"patient").unwrap();
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            limit_files(&mut limit, 64);
            let mut files: Vec<_> =
                std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
            let error = listener.accept().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            files.pop();
            assert_eq!(listener.accept().unwrap().recv_bytes().unwrap(), b"patient");
        });
    }
}

#[allow(unsafe_code)]
fn limit_files(limit: &mut libc::rlimit, most: libc::rlim_t) {
    // SAFETY: `limit` is writable.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit) }, 0);
    limit.rlim_cur = most;
    // SAFETY: `limit` is readable.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) }, 0);
}

#[test]
fn signals_do_not_end_an_accept() {
    let _turn = turn();
    let listener = with_key(any_name());
    let _ticks = os::Ticks::every(Duration::from_millis(1));
    let start = Instant::now();
    assert!(matches!(listener.accept_timeout(5 * SHORT), Err(Error::TimeoutError)));
    assert!(start.elapsed() >= 5 * SHORT);
    meet(&listener, KEY, |connection| drop(connection.unwrap()));
}

#[test]
fn a_client_gives_up_on_a_listener_that_says_nothing() {
    let _turn = turn();
    // Without a key on the other side the handshake never begins.
    let listener = Listener::bind("abstract:").unwrap();
    let start = Instant::now();
    let client = Client::builder().authkey(KEY);
    let outcome = client.connect_timeout(listener.address(), SHORT);
    assert!(matches!(outcome, Err(Error::TimeoutError)));
    assert!(start.elapsed() >= SHORT);
    // Where the queue is full, not even the connection comes about.
    let listener = Listener::builder().backlog(0).bind("abstract:").unwrap();
    let mut clients = Vec::new();
    let outcome = loop {
        match Client::connect_timeout(listener.address(), SHORT) {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() < 10);
    };
    assert!(matches!(outcome, Error::TimeoutError), "{outcome}");
}

#[test]
fn tcp_connections_do_not_wait_to_fill_their_packets() {
    let _turn = turn();
    let listener = Listener::bind("tcp:127.0.0.1:0").unwrap();
    let client = Client::connect(listener.address()).unwrap();
    let accepted = listener.accept().unwrap();
    for end in [client, accepted] {
        let socket = TcpStream::from(end.into_fd().unwrap());
        assert!(socket.nodelay().unwrap());
    }
}
