//! Listeners and accepted connections in other processes.

use super::ground::*;
use multiproc::{Client, Connection, Error, Listener, answer_challenge, pipe};
use std::thread;
use std::time::Instant;

#[test]
fn a_listener_works_in_another_process() {
    let _turn = turn();
    let folder = Folder::new();
    let listener = with_key(folder.socket());
    let (to_child, from_parent) = pipe().unwrap();
    to_child.send(&listener).unwrap();
    let child = os::fork(|| {
        let listener = from_parent.recv::<Listener>().unwrap();
        assert!(format!("{listener:?}").contains("authenticates: true"));
        listener.accept().unwrap().send_bytes(b"from the child").unwrap();
    });
    let client = Client::builder().authkey(KEY).connect(folder.socket()).unwrap();
    assert_eq!(client.recv_bytes().unwrap(), b"from the child");
    assert_eq!(os::wait_until(child, Instant::now() + PATIENCE), Some(os::Status::Exited(0)));
    // The file is still the first one's.
    assert_eq!(folder.names(), 1);
    drop(listener);
    assert_eq!(folder.names(), 0);
}

#[test]
fn a_forked_child_accepts_clients_of_its_own_beside_its_parent() {
    let _turn = turn();
    let listener = with_key(any_name());
    // Half a handshake, which is the parent's.
    let half = raw(&listener);
    assert!(matches!(listener.try_accept(), Err(Error::TimeoutError)));
    let child = os::fork(|| listener.accept().unwrap().send_bytes(b"child").unwrap());
    let client = Client::builder().authkey(KEY).connect(listener.address()).unwrap();
    assert_eq!(client.recv_bytes().unwrap(), b"child");
    assert_eq!(os::wait_until(child, Instant::now() + PATIENCE), Some(os::Status::Exited(0)));
    let half = Connection::from(half);
    thread::scope(|scope| {
        scope.spawn(|| {
            answer_challenge(&half, KEY).unwrap();
            multiproc::deliver_challenge(&half, KEY).unwrap();
            half.send_bytes(b"parent").unwrap();
        });
        assert_eq!(listener.accept().unwrap().recv_bytes().unwrap(), b"parent");
    });
}

#[test]
fn an_accepted_connection_can_be_sent_on() {
    let _turn = turn();
    for address in ["abstract:", "tcp:127.0.0.1:0"] {
        let listener = Listener::bind(address).unwrap();
        let client = Client::connect(listener.address()).unwrap();
        let (to_child, from_parent) = pipe().unwrap();
        to_child.send(&listener.accept().unwrap()).unwrap();
        let child = os::fork(|| {
            let connection = from_parent.recv::<Connection>().unwrap();
            connection.send_bytes(&connection.recv_bytes().unwrap().to_ascii_uppercase()).unwrap();
        });
        client.send_bytes(b"hello").unwrap();
        assert_eq!(client.recv_bytes().unwrap(), b"HELLO");
        assert_eq!(os::wait_until(child, Instant::now() + PATIENCE), Some(os::Status::Exited(0)));
    }
}
