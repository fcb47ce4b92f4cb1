//! Descriptors and connections in messages.

use super::support::*;
use multiproc::{Connection, Error, pipe, pipe_one_way};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

fn descriptors_cross<const N: usize>() {
    let (writer_side, reader_side) = pipe_one_way().map(|(r, w)| (w, r)).unwrap();
    let (value, readers) = handles::<N>();
    writer_side.send(&text("before")).unwrap();
    writer_side.send(&value).unwrap();
    writer_side.send(&text("after")).unwrap();
    // The sender leaves at once, and closes its own.
    drop((writer_side, value));
    assert_eq!(reader_side.recv::<Text>().unwrap(), text("before"));
    assert_paired(reader_side.recv::<Handles<N>>().unwrap(), readers);
    assert_eq!(reader_side.recv::<Text>().unwrap(), text("after"));
    assert!(matches!(reader_side.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn any_number_of_descriptors_crosses_in_one_message() {
    let _turn = turn();
    descriptors_cross::<0>();
    descriptors_cross::<1>();
    descriptors_cross::<2>();
    descriptors_cross::<253>();
    descriptors_cross::<254>();
    descriptors_cross::<506>();
    descriptors_cross::<507>();
    descriptors_cross::<1000>();
}

#[test]
fn messages_with_and_without_descriptors_take_turns() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let (one, one_readers) = handles::<1>();
    let (three, three_readers) = handles::<3>();
    left.send(&one).unwrap();
    left.send_bytes(b"plain").unwrap();
    left.send_bytes(b"plain").unwrap();
    left.send(&three).unwrap();
    left.send(&text("value")).unwrap();
    drop((one, three));
    assert_paired(right.recv::<Handles<1>>().unwrap(), one_readers);
    assert_eq!(right.recv_bytes().unwrap(), b"plain");
    assert_eq!(right.recv_bytes().unwrap(), b"plain");
    assert_paired(right.recv::<Handles<3>>().unwrap(), three_readers);
    assert_eq!(right.recv::<Text>().unwrap(), text("value"));
}

#[test]
fn bare_descriptors_arrive_one_by_one_among_messages() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let (value, readers) = handles::<3>();
    left.send_bytes(b"three come").unwrap();
    value.0.iter().for_each(|fd| left.send_fd(fd.as_fd()).unwrap());
    left.send_bytes(b"done").unwrap();
    drop(value);
    assert_eq!(right.recv_bytes().unwrap(), b"three come");
    let got = (0..3).map(|_| right.recv_fd().unwrap()).collect();
    assert_paired(Handles::<3>(got), readers);
    assert_eq!(right.recv_bytes().unwrap(), b"done");
    assert!(matches!(right.try_recv_fd(), Err(Error::TimeoutError)));
    assert!(matches!(right.recv_fd_timeout(SHORT), Err(Error::TimeoutError)));
    drop(left);
    assert!(matches!(right.recv_fd(), Err(Error::Eof)));
}

#[test]
fn a_byte_without_its_descriptor_is_an_error() {
    let _turn = turn();
    let (connection, mut raw) = connection_and_socket();
    raw.write_all(b"\0").unwrap();
    assert!(matches!(connection.recv_fd(), Err(Error::Decode { .. })));
    raw.write_all(b"\x01").unwrap();
    assert!(matches!(connection.recv_fd(), Err(Error::Decode { .. })));
    raw.write_all(b"\0\0\0\x04\x01\0\0\0").unwrap();
    assert!(matches!(connection.recv::<Handles<1>>(), Err(Error::Decode { .. })));
}

/// What a value with `count` descriptors and nothing else looks like as bytes.
fn announces(count: u8) -> [u8; 4] {
    [count, 0, 0, 0]
}

#[test]
fn a_message_without_the_descriptors_it_announces_takes_none_of_the_next_one() {
    let _turn = turn();
    for liars in 1..=3 {
        let (left, right) = pipe().unwrap();
        let (two, readers) = handles::<2>();
        // They wait together, so that one read brings the liars and the honest message.
        (0..liars).for_each(|_| left.send_bytes(&announces(2)).unwrap());
        left.send(&two).unwrap();
        left.send_bytes(&announces(2)).unwrap();
        drop(two);
        for _ in 0..liars {
            assert!(matches!(right.recv::<Handles<2>>(), Err(Error::Decode { .. })));
        }
        assert_paired(right.recv::<Handles<2>>().unwrap(), readers);
        assert!(matches!(right.recv::<Handles<2>>(), Err(Error::Decode { .. })));
    }
}

#[test]
fn a_message_takes_none_of_the_descriptors_that_the_one_before_it_left() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let (two, mut readers) = handles::<2>();
    let (one, one_readers) = handles::<1>();
    // Received as bytes, as a value with fewer, and not announced at all.
    for _ in 0..3 {
        left.send(&two).unwrap();
        left.send_bytes(&announces(2)).unwrap();
    }
    left.send(&one).unwrap();
    drop((two, one));
    assert_eq!(right.recv_bytes().unwrap(), announces(2));
    assert!(matches!(right.recv::<Handles<2>>(), Err(Error::Decode { .. })));
    assert!(matches!(right.recv::<Handles<1>>(), Err(Error::Decode { .. })));
    assert!(matches!(right.recv::<Handles<2>>(), Err(Error::Decode { .. })));
    assert_eq!(right.recv_bytes_into(&mut [0; 9]).unwrap(), 4);
    assert!(matches!(right.recv::<Handles<2>>(), Err(Error::Decode { .. })));
    assert_paired(right.recv::<Handles<1>>().unwrap(), one_readers);
    assert_eq!(readers.remove(0).read(&mut [0]).unwrap(), 0, "a write end is still open");
}

#[test]
fn a_bare_descriptor_stays_with_its_byte_when_a_message_before_it_announces_one() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let (one, readers) = handles::<1>();
    left.send_bytes(&announces(1)).unwrap();
    left.send_fd(one.0[0].as_fd()).unwrap();
    drop(one);
    assert!(matches!(right.recv::<Handles<1>>(), Err(Error::Decode { .. })));
    assert_paired(Handles::<1>(vec![right.recv_fd().unwrap()]), readers);
}

#[test]
fn what_was_read_ahead_keeps_its_descriptors_apart_on_the_way_to_another_process() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let (near, far) = pipe().unwrap();
    let (two, readers) = handles::<2>();
    near.send_bytes(b"first").unwrap();
    near.send_bytes(&announces(2)).unwrap();
    near.send(&two).unwrap();
    drop(two);
    assert_eq!(far.recv_bytes().unwrap(), b"first");
    left.send(&far).unwrap();
    drop(far);
    let far: Connection = right.recv().unwrap();
    assert!(matches!(far.recv::<Handles<2>>(), Err(Error::Decode { .. })));
    assert_paired(far.recv::<Handles<2>>().unwrap(), readers);
}

#[test]
fn descriptors_that_nobody_takes_are_closed() {
    alone(|| {
        let before = open_fds();
        let (left, right) = pipe().unwrap();
        let (value, mut readers) = handles::<254>();
        left.send(&value).unwrap();
        assert!(right.recv_bytes().is_ok(), "raw bytes of a value");
        left.send(&value).unwrap();
        assert!(right.recv::<Handles<253>>().is_err(), "one too few");
        left.send(&value).unwrap();
        assert!(right.recv::<Handles<255>>().is_err(), "one too many");
        left.send(&value).unwrap();
        assert!(matches!(right.recv_bytes_max(3), Err(Error::MessageTooLong { .. })));
        right.send(&value).unwrap();
        right.send(&value).unwrap();
        assert!(left.recv::<Handles<254>>().is_ok());
        drop(value);
        drop((left, right));
        assert_eq!(readers.remove(0).read(&mut [0]).unwrap(), 0, "a write end is still open");
        drop(readers);
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn a_full_descriptor_table_fails_the_message_by_name_and_leaks_nothing() {
    alone(|| {
        let (left, right) = pipe().unwrap();
        let (value, _readers) = handles::<8>();
        left.send(&text("plain before")).unwrap();
        left.send(&value).unwrap();
        left.send(&text("plain after")).unwrap();
        let used = open_fds();
        let filling = fill_table(3);
        let before = right.recv::<Text>();
        let refused = right.recv::<Handles<8>>();
        let after = right.recv::<Text>();
        drop(filling);
        assert_eq!(before.unwrap(), text("plain before"));
        match refused {
            Err(Error::Os { call, source }) => {
                assert_eq!(source.raw_os_error(), Some(libc::EMFILE));
                assert!(call.contains("SCM_RIGHTS"), "{call}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(after.unwrap(), text("plain after"));
        assert_eq!(open_fds(), used);
        left.send(&value).unwrap();
        assert!(right.recv::<Handles<8>>().is_ok());
        assert_eq!(open_fds(), used);
    });
}

#[test]
fn a_full_descriptor_table_fails_pipe_and_send_by_name() {
    alone(|| {
        let (left, right) = pipe().unwrap();
        let (value, _readers) = handles::<8>();
        let used = open_fds();
        let filling = fill_table(1);
        let pair = pipe();
        let sent = left.send(&value);
        drop(filling);
        assert_eq!(pair.unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert_eq!(sent.unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert!(!right.poll(ZERO).unwrap());
        assert_eq!(open_fds(), used);
    });
}

#[test]
fn a_connection_sent_over_a_connection_works_there() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let (reader, writer) = pipe_one_way().unwrap();
    let (one, other) = pipe().unwrap();
    left.send(&reader).unwrap();
    left.send(&writer).unwrap();
    left.send(&one).unwrap();
    drop((reader, writer, one));
    let reader: Connection = right.recv().unwrap();
    let writer: Connection = right.recv().unwrap();
    let one: Connection = right.recv().unwrap();
    assert!(reader.readable() && !reader.writable());
    assert!(!writer.readable() && writer.writable());
    assert!(one.readable() && one.writable());
    writer.send(&text("through")).unwrap();
    assert_eq!(reader.recv::<Text>().unwrap(), text("through"));
    one.send(&text("there")).unwrap();
    other.send(&text("and back")).unwrap();
    assert_eq!(other.recv::<Text>().unwrap(), text("there"));
    assert_eq!(one.recv::<Text>().unwrap(), text("and back"));
    drop(writer);
    assert!(matches!(reader.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn a_connection_brings_along_what_was_read_ahead_on_it() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    let (near, far) = pipe().unwrap();
    let (value, readers) = handles::<300>();
    near.send_bytes(b"first").unwrap();
    near.send_bytes(b"second").unwrap();
    near.send(&value).unwrap();
    near.send_bytes(b"last").unwrap();
    drop(value);
    assert_eq!(far.recv_bytes().unwrap(), b"first");
    left.send(&far).unwrap();
    drop(far);
    let far: Connection = right.recv().unwrap();
    assert!(far.poll(ZERO).unwrap());
    assert_eq!(far.recv_bytes().unwrap(), b"second");
    assert_paired(far.recv::<Handles<300>>().unwrap(), readers);
    assert_eq!(far.recv_bytes().unwrap(), b"last");
}

#[test]
fn a_connection_with_half_a_message_goes_on_in_its_new_place() {
    let _turn = turn();
    let body = pattern(BUFFER * 3);
    let mut frame = b"\xff\xff\xff\xff".to_vec();
    frame.extend_from_slice(&(body.len() as u64).to_be_bytes());
    frame.extend_from_slice(&body);
    for cut in [3, 100, BUFFER + 1, BUFFER * 2] {
        let (far, mut near) = connection_and_socket();
        let (left, right) = pipe().unwrap();
        near.write_all(&frame[..cut]).unwrap();
        assert!(matches!(far.try_recv_bytes(), Err(Error::TimeoutError)));
        left.send(&far).unwrap();
        drop(far);
        let far: Connection = right.recv().unwrap();
        near.write_all(&frame[cut..]).unwrap();
        near.write_all(b"\0\0\0\x01z").unwrap();
        assert!(far.recv_bytes().unwrap() == body);
        assert_eq!(far.recv_bytes().unwrap(), b"z");
    }
}

#[test]
fn a_connection_may_travel_over_itself() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    left.send(&left).unwrap();
    let copy: Connection = right.recv().unwrap();
    copy.send_bytes(b"from the copy").unwrap();
    assert_eq!(right.recv_bytes().unwrap(), b"from the copy");
}

#[test]
fn a_message_that_never_ends_takes_no_more_than_half_of_the_descriptors() {
    alone(|| {
        let (left, right) = pipe().unwrap();
        set_limit(libc::RLIMIT_NOFILE, libc::rlimit { rlim_cur: 2048, ..nofile() });
        let before = open_fds();
        // A header that announces much, and then bytes with a descriptor each.
        let mut raw = UnixStream::from(left.into_fd().unwrap());
        raw.write_all(&[0x7f, 0xff, 0xff, 0xff]).unwrap();
        let left = Connection::from(raw);
        let file = File::open("/dev/null").unwrap();
        for _ in 0..100 {
            for _ in 0..40 {
                left.send_fd(file.as_fd()).unwrap();
            }
            assert!(matches!(right.try_recv_bytes(), Err(Error::TimeoutError)));
        }
        let held = open_fds() - before;
        assert!((900..=1100).contains(&held), "{held}");
        File::open("/dev/null").unwrap();
        drop((left, file));
        assert!(matches!(right.recv_bytes(), Err(Error::TruncatedMessage)));
    });
}
