//! Descriptors over a connection, and sockets that are inherited.

use super::ground::*;
use multiproc::{Connection, Error, Object, pipe};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};

#[test]
fn descriptors_travel_as_pythons_send_handle_and_recv_handle_have_them() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("takes_descriptor", &[&at, &hex(Some(KEY))]);
        let connection = listener.accept().unwrap();
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        connection.send_fd(theirs.as_fd()).unwrap();
        drop(theirs);
        let mut heard = String::new();
        ours.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "from Python");
        let mut pipe = std::fs::File::from(connection.recv_fd().unwrap());
        let mut heard = [0; 7];
        pipe.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"to Rust");
        connection.send_bytes(b"thanks").unwrap();
        drop(connection);
        peer.finish();
    });
}

#[test]
fn a_python_process_talks_over_a_socket_it_inherits() {
    let _turn = turn();
    each(|python| {
        let (ours, theirs) = pipe().unwrap();
        os::set_inherited(theirs.as_raw_fd());
        let peer = python.start("inherited", &[&theirs.as_raw_fd().to_string()]);
        drop(theirs);
        ours.send_bytes(b"abc").unwrap();
        assert_eq!(ours.recv_bytes().unwrap(), b"cba");
        assert!(matches!(ours.recv_bytes(), Err(Error::Eof)));
        peer.finish();
    });
}

/// How a process that Python has started is told the number of the socket it inherits.
const INHERITED: &str = "MULTIPROC_TEST_INHERITED";

#[test]
fn a_process_of_python_talks_to_a_rust_program_over_a_pair_that_python_made() {
    let _turn = turn();
    each(|python| {
        let program = std::env::current_exe().unwrap();
        let program = program.to_str().unwrap();
        python
            .start(
                "process_beside_rust",
                &[program, "handed_over::the_rust_program_beside_a_process"],
            )
            .finish();
    });
}

/// No test by itself: the Rust side of the one before, when Python has started it.
#[test]
fn the_rust_program_beside_a_process() {
    let Some(number) = std::env::var_os(INHERITED) else { return };
    let _turn = turn();
    let number = number.to_str().unwrap().parse().unwrap();
    let connection = Connection::try_from(os::inherited(number)).unwrap();
    let list = Object::list([42.into(), Object::None, "hello".into()]);
    assert_eq!(connection.recv_object().unwrap(), list);
    let answer = Object::tuple([42.into(), "hello".into()]);
    connection.send_object(&Object::dict([("answer".into(), answer)])).unwrap();
    assert_echoes(&connection, &LENS);
}
