//! Frames, values, and buffers to receive into.

use super::support::*;
use multiproc::{Connection, Encode, Encoder, Error, pipe, pipe_one_way};
use std::io::{IoSlice, Read, Write};
use std::thread;

#[test]
fn frames_are_those_of_cpython_byte_for_byte() {
    let _turn = turn_to_fork();
    let (connection, mut raw) = connection_and_socket();
    connection.send_bytes(b"").unwrap();
    connection.send_bytes(b"abc").unwrap();
    connection
        .send_vectored(&[IoSlice::new(b"x"), IoSlice::new(b""), IoSlice::new(b"yz")])
        .unwrap();
    connection.send_vectored(&[]).unwrap();
    drop(connection);
    let mut bytes = Vec::new();
    raw.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"\0\0\0\0\0\0\0\x03abc\0\0\0\x03xyz\0\0\0\0");
}

#[test]
fn a_thousand_and_more_pieces_are_one_message() {
    let _turn = turn();
    let (connection, raw) = connection_and_socket();
    let whole = pattern(3000);
    let parts: Vec<IoSlice<'_>> = whole.chunks(1).map(IoSlice::new).collect();
    connection.send_vectored(&parts).unwrap();
    assert_eq!(Connection::from(raw).recv_bytes().unwrap(), whole);
}

#[test]
fn hand_written_frames_are_received_also_byte_by_byte_and_in_the_long_form() {
    let _turn = turn();
    let (connection, mut raw) = connection_and_socket();
    let frames = b"\0\0\0\x03abc\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\x02de\xff\xff\xff\xff\0\0\0\0\0\0\0\0";
    let expected: [&[u8]; 4] = [b"abc", b"", b"de", b""];
    raw.write_all(frames).unwrap();
    for message in expected {
        assert_eq!(connection.recv_bytes().unwrap(), message);
    }
    let receiver = thread::spawn(move || {
        for message in expected {
            assert_eq!(connection.recv_bytes().unwrap(), message);
        }
        assert!(matches!(connection.recv_bytes(), Err(Error::Eof)));
    });
    for byte in frames {
        raw.write_all(&[*byte]).unwrap();
        thread::yield_now();
    }
    drop(raw);
    receiver.join().unwrap();
}

#[test]
fn the_end_of_the_stream_is_clean_only_between_messages() {
    let _turn = turn();
    for (sent, clean) in [
        (&b""[..], true),
        (b"\0\0\0\x01x", true),
        (b"\0", false),
        (b"\0\0\0", false),
        (b"\0\0\0\x02x", false),
        (b"\0\0\0\x02", false),
        (b"\xff\xff\xff\xff\0\0\0\0", false),
        (b"\0\x01\0\0large but not all there", false),
    ] {
        let (connection, mut raw) = connection_and_socket();
        raw.write_all(sent).unwrap();
        drop(raw);
        if clean && !sent.is_empty() {
            connection.recv_bytes().unwrap();
        }
        assert!(connection.poll(ZERO).unwrap(), "the end is input");
        match connection.recv_bytes() {
            Err(Error::Eof) => assert!(clean, "{sent:?}"),
            Err(Error::TruncatedMessage) => assert!(!clean, "{sent:?}"),
            other => panic!("{sent:?}: {other:?}"),
        }
        assert!(matches!(connection.recv_bytes(), Err(Error::Eof | Error::TruncatedMessage)));
    }
}

#[test]
fn a_negative_header_ends_receiving_and_not_sending() {
    let _turn = turn();
    let (connection, mut raw) = connection_and_socket();
    raw.write_all(b"\xff\xff\xff\xfe\0\0\0\x01x").unwrap();
    assert!(matches!(connection.recv_bytes(), Err(Error::Decode { .. })));
    assert!(matches!(connection.recv_bytes(), Err(Error::Closed)));
    assert!(matches!(connection.poll(ZERO), Err(Error::Closed)));
    assert!(!connection.readable() && connection.writable());
    connection.send_bytes(b"still").unwrap();
    let mut bytes = [0; 9];
    raw.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"\0\0\0\x05still");
}

#[test]
fn messages_of_every_size_arrive_whole_and_in_order() {
    let _turn = turn();
    let sizes =
        [0, 1, 4095, 4096, 16379, 16380, 16381, 16384, 16385, 65536, 1 << 20, 0, 16 << 20, 7];
    let (left, right) = pipe().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| sizes.iter().for_each(|&len| left.send_bytes(&pattern(len)).unwrap()));
        for len in sizes {
            assert!(right.recv_bytes().unwrap() == pattern(len), "{len} bytes");
        }
        scope.spawn(|| sizes.iter().for_each(|&len| left.send_bytes(&pattern(len)).unwrap()));
        let mut buffer = vec![0; 16 << 20];
        for len in sizes {
            assert_eq!(right.recv_bytes_into(&mut buffer).unwrap(), len);
            assert!(buffer[..len] == pattern(len), "{len} bytes");
        }
    });
}

#[test]
fn an_announced_length_takes_no_memory_before_its_bytes_are_there() {
    alone(|| {
        let (connection, mut raw) = connection_and_socket();
        let most = 512 << 20;
        set_limit(libc::RLIMIT_AS, libc::rlimit { rlim_cur: most, rlim_max: most });
        raw.write_all(b"\xff\xff\xff\xff\x3f\xff\xff\xff\xff\xff\xff\xff and little more").unwrap();
        drop(raw);
        assert!(matches!(connection.recv_bytes(), Err(Error::TruncatedMessage)));
    });
    let _turn = turn();
    let (connection, mut raw) = connection_and_socket();
    raw.write_all(&[0xff; 12]).unwrap();
    let refused = connection.recv_bytes();
    assert!(matches!(refused, Err(Error::MessageTooLong { len: u64::MAX, .. })), "{refused:?}");
}

#[test]
fn values_and_bytes_share_a_connection() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    left.send(&text("first")).unwrap();
    left.send_bytes(b"second").unwrap();
    left.send(&text("third")).unwrap();
    assert_eq!(right.recv::<Text>().unwrap(), text("first"));
    assert_eq!(right.recv_bytes().unwrap(), b"second");
    assert_eq!(right.recv::<Text>().unwrap(), text("third"));
    let large = Text("x".repeat(3 << 20));
    thread::scope(|scope| {
        scope.spawn(|| left.send(&large).unwrap());
        assert!(right.recv::<Text>().unwrap() == large);
    });
}

#[test]
fn a_message_that_is_no_value_is_an_error_and_the_next_one_arrives() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    left.send_bytes(b"").unwrap();
    left.send_bytes(b"\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff").unwrap();
    left.send_bytes(b"\xff\xff\xff\xff").unwrap();
    left.send_bytes(b"\x01\0\0\0").unwrap();
    left.send(&text("good")).unwrap();
    for _ in 0..4 {
        assert!(matches!(right.recv::<Text>(), Err(Error::Decode { .. })));
    }
    assert_eq!(right.recv::<Text>().unwrap(), text("good"));
}

#[test]
fn a_value_that_cannot_be_encoded_sends_nothing() {
    let _turn = turn();
    struct Never;
    impl Encode for Never {
        fn encode(&self, encoder: &mut Encoder<'_>) {
            encoder.bytes(b"half");
            encoder.fail(Error::Encode { reason: "never".into() });
        }
    }
    let (left, right) = pipe().unwrap();
    assert!(matches!(left.send(&Never), Err(Error::Encode { .. })));
    assert!(!right.poll(ZERO).unwrap());
    left.send(&text("fine")).unwrap();
    assert_eq!(right.recv::<Text>().unwrap(), text("fine"));
}

#[test]
fn a_buffer_too_short_gets_its_message_with_the_error() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    for len in [11, BUFFER + 100] {
        thread::scope(|scope| {
            scope.spawn(|| {
                left.send_bytes(&pattern(len)).unwrap();
                left.send_bytes(b"next").unwrap();
            });
            let mut buffer = [0; 10];
            match right.recv_bytes_into(&mut buffer) {
                Err(Error::BufferTooShort { message }) => assert!(message == pattern(len)),
                other => panic!("{other:?}"),
            }
            assert_eq!(right.recv_bytes_into(&mut buffer).unwrap(), 4);
            assert_eq!(&buffer[..4], b"next");
        });
    }
}

#[test]
fn a_message_over_the_limit_ends_receiving() {
    let _turn = turn();
    let (left, right) = pipe().unwrap();
    left.send_bytes(b"12345").unwrap();
    left.send_bytes(b"123456").unwrap();
    assert_eq!(right.recv_bytes_max(5).unwrap(), b"12345");
    let refused = right.recv_bytes_max(5);
    assert!(matches!(refused, Err(Error::MessageTooLong { len: 6, max: 5 })), "{refused:?}");
    assert!(!right.readable() && right.writable());
    assert!(matches!(right.recv_bytes(), Err(Error::Closed)));
    right.send_bytes(b"a duplex end keeps sending").unwrap();
    assert_eq!(left.recv_bytes().unwrap(), b"a duplex end keeps sending");

    let (reader, writer) = pipe_one_way().unwrap();
    writer.send_bytes(b"123456").unwrap();
    assert!(matches!(reader.recv_bytes_max(5), Err(Error::MessageTooLong { .. })));
    assert!(matches!(writer.send_bytes(b"x"), Err(Error::Disconnected)));
}

#[test]
#[cfg(target_pointer_width = "64")]
fn a_message_of_more_than_two_gibibytes_begins_with_the_long_header() {
    let _turn = turn();
    const LEN: u64 = (1 << 31) + 7;
    let mut header = vec![0xff; 4];
    header.extend_from_slice(&LEN.to_be_bytes());
    // One piece of memory, again and again.
    let piece = pattern(1 << 20);
    let mut parts = vec![IoSlice::new(&piece); 2048];
    parts.push(IoSlice::new(&piece[..7]));
    let (connection, mut raw) = connection_and_socket();
    thread::scope(|scope| {
        let sends = scope.spawn(|| connection.send_vectored(&parts));
        let mut begin = vec![0; 12 + 1000];
        raw.read_exact(&mut begin).unwrap();
        assert_eq!((&begin[..12], &begin[12..]), (&header[..], &piece[..1000]));
        raw.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(matches!(sends.join().unwrap(), Err(Error::Disconnected)));
    });
    assert!(!connection.writable());

    // The other way, all that is there of such a message is asked for, and its length believed.
    let (connection, mut raw) = connection_and_socket();
    raw.write_all(&header).unwrap();
    raw.write_all(&piece[..1000]).unwrap();
    assert!(matches!(connection.try_recv_bytes(), Err(Error::TimeoutError)));
    let refused = connection.recv_bytes_max(LEN as usize - 1);
    assert!(matches!(refused, Err(Error::MessageTooLong { len: LEN, .. })), "{refused:?}");
    let (connection, mut raw) = connection_and_socket();
    raw.write_all(&header).unwrap();
    drop(raw);
    assert!(matches!(connection.recv_bytes(), Err(Error::TruncatedMessage)));
}

/// It takes 4 GiB of memory, so it is only run when asked for.
#[test]
#[ignore = "takes 4 GiB of memory: cargo test --release --test connection -- --ignored"]
#[cfg(target_pointer_width = "64")]
fn a_message_of_more_than_two_gibibytes_arrives() {
    let _turn = turn();
    const LEN: usize = (1 << 31) + 7;
    let (left, right) = pipe().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut message = vec![0; LEN];
            message[0] = 1;
            message[LEN - 1] = 2;
            left.send_bytes(&message).unwrap();
        });
        let message = right.recv_bytes().unwrap();
        assert_eq!((message.len(), message[0], message[LEN - 1]), (LEN, 1, 2));
        assert!(message[1..LEN - 1].iter().step_by(4093).all(|byte| *byte == 0));
    });
}
