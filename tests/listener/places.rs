//! Who may listen where, and what is left on disk.

use super::ground::*;
use multiproc::{Address, Client, Error, Listener, pipe};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::thread;

#[test]
fn a_second_listener_at_the_same_address_is_refused() {
    let _turn = turn();
    let folder = Folder::new();
    let tcp = Address::parse("tcp:127.0.0.1:0").unwrap();
    for address in [Address::from(folder.socket()), any_name(), tcp] {
        let first = Listener::bind(address).unwrap();
        let error = Listener::bind(first.address()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{first:?}");
        // The first one has noticed nothing.
        assert!(matches!(first.try_accept(), Err(Error::TimeoutError)));
        let at = first.address().clone();
        first.close();
        drop(Listener::bind(at).unwrap());
    }
}

#[test]
fn a_port_can_be_listened_at_again_while_old_connections_linger() {
    let _turn = turn();
    let first = Listener::bind("tcp:127.0.0.1:0").unwrap();
    let at = first.address().clone();
    let client = Client::connect(&at).unwrap();
    // The side that closes first lingers.
    drop(first.accept().unwrap());
    assert!(matches!(client.recv_bytes(), Err(Error::Eof)));
    drop(client);
    drop(first);
    Listener::bind(at).unwrap();
}

#[test]
fn a_socket_file_is_its_users_alone_and_goes_with_the_listener() {
    let _turn = turn();
    let folder = Folder::new();
    let listener = Listener::bind(folder.socket()).unwrap();
    let file = std::fs::symlink_metadata(folder.socket()).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    // A copy in a forked child goes without the file.
    let mut listener = Some(listener);
    in_child(|| drop(listener.take()));
    let listener = Listener::bind(folder.socket());
    assert_eq!(listener.unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
}

#[test]
fn a_file_that_is_another_ones_by_now_is_left_alone() {
    let _turn = turn();
    let folder = Folder::new();
    let first = Listener::bind(folder.socket()).unwrap();
    std::fs::remove_file(folder.socket()).unwrap();
    let second = Listener::bind(folder.socket()).unwrap();
    drop(first);
    assert_eq!(folder.names(), 1);
    drop(Client::connect(folder.socket()).unwrap());
    drop(second);
    assert_eq!(folder.names(), 0);
}

#[test]
fn the_socket_of_a_killed_listener_is_replaced() {
    let _turn = turn();
    let folder = Folder::new();
    let path = folder.socket();
    let (ready, told) = pipe().unwrap();
    let child = os::fork(|| {
        let _listener = Listener::bind(&path).unwrap();
        ready.send_bytes(b"").unwrap();
        thread::sleep(PATIENCE);
    });
    told.recv_bytes().unwrap();
    let living = Listener::bind(&path).unwrap_err();
    os::kill_and_reap(child);
    assert_eq!(living.raw_os_error(), Some(libc::EADDRINUSE));
    let listener = Listener::bind(&path).unwrap();
    Client::connect(&path).unwrap().send_bytes(b"x").unwrap();
    assert_eq!(listener.accept().unwrap().recv_bytes().unwrap(), b"x");
}

#[test]
fn of_many_who_replace_a_dead_socket_one_listens() {
    let _turn = turn();
    let folder = Folder::new();
    for _ in 0..20 {
        drop(std::os::unix::net::UnixListener::bind(folder.socket()).unwrap());
        let results: Vec<_> = thread::scope(|scope| {
            let bind = || Listener::bind(folder.socket());
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(bind)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        // And the file is the one of the one who does.
        drop(Client::connect(folder.socket()).unwrap());
    }
}

#[test]
fn what_is_no_socket_is_not_replaced() {
    let _turn = turn();
    let folder = Folder::new();
    std::fs::write(folder.socket(), "precious").unwrap();
    let error = Listener::bind(folder.socket()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    assert_eq!(std::fs::read(folder.socket()).unwrap(), b"precious");
    let nowhere = folder.0.join("no folder").join("socket");
    assert_eq!(Listener::bind(nowhere).unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn nobody_there_is_an_error_at_once() {
    let _turn = turn();
    let folder = Folder::new();
    let errno = |address: Address| Client::connect(address).unwrap_err().raw_os_error();
    assert_eq!(errno(folder.socket().into()), Some(libc::ENOENT));
    assert_eq!(errno(Address::Abstract(b"nobody here".to_vec())), Some(libc::ECONNREFUSED));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(errno(port.into()), Some(libc::ECONNREFUSED));
    let within = Client::connect_timeout(port, PATIENCE);
    assert_eq!(within.unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
}
