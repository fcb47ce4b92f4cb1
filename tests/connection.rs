//! Connections: messages, framing, descriptors, ends and errors.
#![allow(unsafe_code)]

use multiproc::{Connection, Decode, Decoder, Encode, Encoder, Error, Result, pipe, pipe_one_way};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ZERO: Duration = Duration::ZERO;
const SHORT: Duration = Duration::from_millis(20);
/// The size of the buffer messages are read through; what is tested is its surroundings.
const BUFFER: usize = 16 << 10;

// What the tests stand on ------------------------------------------------------------------------

/// Ends the whole test program if it hangs, and lets it open descriptors enough.
fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: takes a number.
        unsafe { libc::alarm(240) };
        let mut limit = nofile();
        limit.rlim_cur = limit.rlim_max.min(65536);
        set_limit(libc::RLIMIT_NOFILE, limit);
    });
}

fn nofile() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit
}

fn set_limit(which: libc::__rlimit_resource_t, limit: libc::rlimit) {
    // SAFETY: `limit` is readable.
    assert_eq!(unsafe { libc::setrlimit(which, &limit) }, 0);
}

/// Runs `body` in a child of its own, where limits and counts of descriptors are nobody else's.
fn alone(body: impl FnOnce() + std::panic::UnwindSafe) {
    set_up();
    // SAFETY: the child runs `body`, which takes no lock that a thread of the parent could hold.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: takes a number.
            unsafe { libc::alarm(60) };
            let code = i32::from(std::panic::catch_unwind(body).is_err());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: `pid` is our child, not yet waited for.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert_eq!(status, 0, "the child failed, see above");
        }
    }
}

/// The open descriptors, but for the one that lists them.
fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Opens files until only `free` more can be opened.
fn fill_table(free: usize) -> Vec<File> {
    set_limit(libc::RLIMIT_NOFILE, libc::rlimit { rlim_cur: 256, ..nofile() });
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.truncate(files.len() - free);
    files
}

/// Some bytes that differ with the length and from place to place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16) ^ len) as u8).collect()
}

/// A value that is text.
#[derive(Debug, PartialEq)]
struct Text(String);

impl Encode for Text {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.len(self.0.len());
        encoder.bytes(self.0.as_bytes());
    }
}

impl Decode for Text {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Text> {
        let len = decoder.len()?;
        Ok(Text(String::from_utf8_lossy(decoder.bytes(len)?).into_owned()))
    }
}

fn text(text: &str) -> Text {
    Text(text.to_string())
}

/// A value that is descriptors and nothing else, as many as both sides know.
#[derive(Debug)]
struct Handles<const N: usize>(Vec<OwnedFd>);

impl<const N: usize> Encode for Handles<N> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.0.iter().for_each(|fd| encoder.fd(fd.as_fd()));
    }
}

impl<const N: usize> Decode for Handles<N> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Handles<N>> {
        (0..N).map(|_| decoder.fd()).collect::<Result<_>>().map(Handles)
    }
}

/// The read end and the write end of a new pipe.
fn os_pipe() -> (File, OwnedFd) {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is writable for two numbers.
    assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: the call has just made both, and nothing else knows them.
    let [read, write] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    (read.into(), write)
}

/// The write ends of `N` pipes in a value, and their read ends.
fn handles<const N: usize>() -> (Handles<N>, Vec<File>) {
    let (readers, writers) = (0..N).map(|_| os_pipe()).unzip();
    (Handles(writers), readers)
}

/// Whether each of `handles` is the other end of the reader at its place, and the only one.
fn assert_paired<const N: usize>(handles: Handles<N>, readers: Vec<File>) {
    assert_eq!(handles.0.len(), readers.len());
    for (i, fd) in handles.0.into_iter().enumerate() {
        File::from(fd).write_all(&(i as u32).to_le_bytes()).unwrap();
    }
    for (i, mut reader) in readers.into_iter().enumerate() {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, (i as u32).to_le_bytes());
    }
}

fn connection_and_socket() -> (Connection, UnixStream) {
    set_up();
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::from(ours), theirs)
}

// Bytes on the wire ------------------------------------------------------------------------------

#[test]
fn frames_are_those_of_cpython_byte_for_byte() {
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
    let (connection, raw) = connection_and_socket();
    let whole = pattern(3000);
    let parts: Vec<IoSlice<'_>> = whole.chunks(1).map(IoSlice::new).collect();
    connection.send_vectored(&parts).unwrap();
    assert_eq!(Connection::from(raw).recv_bytes().unwrap(), whole);
}

#[test]
fn hand_written_frames_are_received_also_byte_by_byte_and_in_the_long_form() {
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
    set_up();
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
    let (connection, mut raw) = connection_and_socket();
    raw.write_all(&[0xff; 12]).unwrap();
    let refused = connection.recv_bytes();
    assert!(matches!(refused, Err(Error::MessageTooLong { len: u64::MAX, .. })), "{refused:?}");
}

// Values -----------------------------------------------------------------------------------------

#[test]
fn values_and_bytes_share_a_connection() {
    set_up();
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
    set_up();
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
    struct Never;
    impl Encode for Never {
        fn encode(&self, encoder: &mut Encoder<'_>) {
            encoder.bytes(b"half");
            encoder.fail(Error::Encode { reason: "never".into() });
        }
    }
    set_up();
    let (left, right) = pipe().unwrap();
    assert!(matches!(left.send(&Never), Err(Error::Encode { .. })));
    assert!(!right.poll(ZERO).unwrap());
    left.send(&text("fine")).unwrap();
    assert_eq!(right.recv::<Text>().unwrap(), text("fine"));
}

// Buffers and limits -----------------------------------------------------------------------------

#[test]
fn a_buffer_too_short_gets_its_message_with_the_error() {
    set_up();
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
    set_up();
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

// Polling ----------------------------------------------------------------------------------------

#[test]
fn poll_sees_an_empty_message_again_and_again_until_it_is_received() {
    set_up();
    let (left, right) = pipe().unwrap();
    assert!(!right.poll(ZERO).unwrap());
    left.send_bytes(b"").unwrap();
    assert!(right.poll(ZERO).unwrap());
    assert!(right.poll(Duration::from_secs(100)).unwrap());
    right.poll_forever().unwrap();
    assert_eq!(right.recv_bytes().unwrap(), b"");
    assert!(!right.poll(ZERO).unwrap());
}

#[test]
fn messages_that_were_read_ahead_are_seen_by_poll_one_by_one() {
    set_up();
    let (left, right) = pipe().unwrap();
    let strings: [&[u8]; 5] = [b"hello", b"", b"a", b"b", b""];
    strings.iter().for_each(|bytes| left.send_bytes(bytes).unwrap());
    for bytes in strings {
        assert!(right.poll(ZERO).unwrap());
        assert!(right.poll(ZERO).unwrap());
        assert_eq!(right.recv_bytes().unwrap(), bytes);
    }
    assert!(!right.poll(ZERO).unwrap());
}

#[test]
fn poll_takes_part_of_a_message_for_input_and_consumes_nothing() {
    let (connection, mut raw) = connection_and_socket();
    raw.write_all(b"\0\0").unwrap();
    assert!(connection.poll(ZERO).unwrap());
    assert!(matches!(connection.try_recv_bytes(), Err(Error::TimeoutError)));
    assert!(connection.poll(ZERO).unwrap());
    raw.write_all(b"\0\x02ab").unwrap();
    assert_eq!(connection.try_recv_bytes().unwrap(), b"ab");
    assert!(!connection.poll(ZERO).unwrap());
}

#[test]
fn poll_waits_as_long_as_it_is_told() {
    set_up();
    let (left, right) = pipe().unwrap();
    let start = Instant::now();
    assert!(!right.poll(SHORT).unwrap());
    assert!(start.elapsed() >= SHORT);
    left.send_bytes(b"before the end").unwrap();
    drop(left);
    assert!(right.poll(ZERO).unwrap());
    assert_eq!(right.recv_bytes().unwrap(), b"before the end");
    assert!(right.poll(ZERO).unwrap(), "the end of the stream is input");
    assert!(matches!(right.recv_bytes(), Err(Error::Eof)));
}

// Timeouts ---------------------------------------------------------------------------------------

#[test]
fn a_timeout_inside_a_message_loses_nothing() {
    let body = pattern(BUFFER * 3);
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    for cut in [2, 4, 100, BUFFER, BUFFER + 5, BUFFER * 2] {
        let (connection, mut raw) = connection_and_socket();
        raw.write_all(&frame[..cut]).unwrap();
        let start = Instant::now();
        assert!(matches!(connection.recv_bytes_timeout(SHORT), Err(Error::TimeoutError)));
        assert!(start.elapsed() >= SHORT);
        let mut buffer = vec![0; body.len()];
        assert!(matches!(connection.try_recv_bytes_into(&mut buffer), Err(Error::TimeoutError)));
        assert!(matches!(connection.try_recv::<Text>(), Err(Error::TimeoutError)));
        raw.write_all(&frame[cut..]).unwrap();
        if cut % 2 == 0 {
            assert!(connection.recv_bytes().unwrap() == body);
        } else {
            assert_eq!(connection.recv_bytes_into(&mut buffer).unwrap(), body.len());
            assert!(buffer == body);
        }
        raw.write_all(b"\0\0\0\x01z").unwrap();
        assert_eq!(connection.try_recv_bytes().unwrap(), b"z");
    }
}

#[test]
fn a_message_that_could_not_begin_in_time_leaves_the_stream_as_it_was() {
    set_up();
    let (left, right) = pipe().unwrap();
    let mut sent = 0;
    let refused = loop {
        match left.try_send_bytes(&pattern(1000)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::TimeoutError) && left.writable());
    let start = Instant::now();
    assert!(matches!(left.send_timeout(&text("x"), SHORT), Err(Error::TimeoutError)));
    assert!(start.elapsed() >= SHORT && left.writable());
    for _ in 0..sent {
        assert!(right.recv_bytes().unwrap() == pattern(1000));
    }
    left.try_send(&text("again")).unwrap();
    assert_eq!(right.recv::<Text>().unwrap(), text("again"));
}

#[test]
fn a_message_cut_off_by_its_deadline_ends_sending_and_is_truncated_for_the_peer() {
    set_up();
    let (left, right) = pipe().unwrap();
    left.send_bytes(b"whole").unwrap();
    let cut = left.send_bytes_timeout(&pattern(8 << 20), SHORT);
    assert!(matches!(cut, Err(Error::TimeoutError)), "{cut:?}");
    assert!(!left.writable() && left.readable());
    assert!(matches!(left.send_bytes(b"x"), Err(Error::Closed)));
    assert_eq!(right.recv_bytes().unwrap(), b"whole");
    assert!(matches!(right.recv_bytes(), Err(Error::TruncatedMessage)));
    right.send_bytes(b"the other way goes on").unwrap();
    assert_eq!(left.recv_bytes().unwrap(), b"the other way goes on");
}

#[test]
fn a_thread_that_receives_does_not_hold_up_another_ones_deadline() {
    set_up();
    let (left, right) = pipe().unwrap();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| right.recv_bytes().unwrap());
        while !matches!(right.try_recv_bytes(), Err(Error::TimeoutError)) {}
        assert!(matches!(right.recv_bytes_timeout(SHORT), Err(Error::TimeoutError)));
        assert!(!right.poll(SHORT).unwrap());
        left.send_bytes(b"done").unwrap();
        assert_eq!(receiver.join().unwrap(), b"done");
    });
}

// Ends and directions ----------------------------------------------------------------------------

#[test]
fn one_way_ends_refuse_the_wrong_direction() {
    set_up();
    let (reader, writer) = pipe_one_way().unwrap();
    assert!(reader.readable() && !reader.writable());
    assert!(!writer.readable() && writer.writable());
    assert!(matches!(reader.send_bytes(b"x"), Err(Error::InvalidArgument { .. })));
    assert!(matches!(reader.send(&text("x")), Err(Error::InvalidArgument { .. })));
    assert!(matches!(writer.recv_bytes(), Err(Error::InvalidArgument { .. })));
    assert!(matches!(writer.recv::<Text>(), Err(Error::InvalidArgument { .. })));
    assert!(matches!(writer.poll(ZERO), Err(Error::InvalidArgument { .. })));
    writer.send(&text("right way")).unwrap();
    assert_eq!(reader.recv::<Text>().unwrap(), text("right way"));
    drop(reader);
    assert!(matches!(writer.send_bytes(b"x"), Err(Error::Disconnected)));
    let (reader, writer) = pipe_one_way().unwrap();
    writer.close();
    assert!(matches!(reader.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn a_peer_that_left_without_reading_is_still_heard_to_the_end() {
    set_up();
    let (left, right) = pipe().unwrap();
    right.send_bytes(b"never read").unwrap();
    left.send_bytes(b"last words").unwrap();
    drop(left);
    assert!(matches!(right.send_bytes(b"x"), Err(Error::Disconnected)));
    assert_eq!(right.recv_bytes().unwrap(), b"last words");
    assert!(matches!(right.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn halves_of_a_connection_work_in_threads_of_their_own() {
    set_up();
    let (left, right) = pipe().unwrap();
    let (receiving, sending) = left.split().unwrap();
    assert!(receiving.send_bytes(b"x").is_err() && sending.recv_bytes().is_err());
    let echo = thread::spawn(move || {
        while let Ok(message) = right.recv_bytes() {
            right.send_bytes(&message).unwrap();
            if message.is_empty() {
                break;
            }
        }
    });
    let sender = thread::spawn(move || {
        (1..200).for_each(|len| sending.send_bytes(&pattern(len * 100)).unwrap());
        sending.send_bytes(b"").unwrap();
    });
    (1..200).for_each(|len| assert!(receiving.recv_bytes().unwrap() == pattern(len * 100)));
    assert_eq!(receiving.recv_bytes().unwrap(), b"");
    sender.join().unwrap();
    echo.join().unwrap();
    let (reader, _writer) = pipe_one_way().unwrap();
    assert!(matches!(reader.split(), Err(Error::InvalidArgument { .. })));
}

#[test]
fn threads_sharing_both_ends_never_mix_messages() {
    const THREADS: u8 = 4;
    const EACH: usize = 100;
    set_up();
    let (left, right) = pipe().unwrap();
    thread::scope(|scope| {
        for me in 0..THREADS {
            let left = &left;
            scope.spawn(move || {
                (0..EACH).for_each(|i| left.send_bytes(&vec![me; i * 700]).unwrap());
            });
        }
        let receivers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let take = || right.recv_bytes().unwrap();
                    (0..EACH)
                        .map(|_| take())
                        .inspect(|m| assert!(m.windows(2).all(|w| w[0] == w[1])))
                        .map(|m| m.len())
                        .sum::<usize>()
                })
            })
            .collect();
        let total: usize = receivers.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(total, (0..EACH).sum::<usize>() * 700 * THREADS as usize);
    });
}

#[test]
fn a_connection_works_on_both_sides_of_a_fork() {
    set_up();
    let (left, right) = pipe().unwrap();
    alone(std::panic::AssertUnwindSafe(|| {
        right.send(&text("from the child")).unwrap();
    }));
    assert_eq!(left.recv::<Text>().unwrap(), text("from the child"));
}

// Other streams ----------------------------------------------------------------------------------

#[test]
fn a_pair_of_pipes_makes_a_connection() {
    set_up();
    let (read_a, write_a) = os_pipe();
    let (read_b, write_b) = os_pipe();
    let left = Connection::try_from((OwnedFd::from(read_a), write_b)).unwrap();
    let right = Connection::try_from((OwnedFd::from(read_b), write_a)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| left.send_bytes(&pattern(1 << 20)).unwrap());
        assert!(right.recv_bytes().unwrap() == pattern(1 << 20));
        scope.spawn(|| {
            left.send_bytes_timeout(&pattern(1 << 20), Duration::from_secs(100)).unwrap()
        });
        assert!(right.recv_bytes_timeout(Duration::from_secs(100)).unwrap() == pattern(1 << 20));
    });
    assert!(matches!(left.recv_bytes_timeout(SHORT), Err(Error::TimeoutError)));
    let refused = left.send_fd(std::io::stdout().as_fd());
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{refused:?}");
    assert!(left.into_fd().is_err());
    assert!(matches!(right.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn a_tcp_connection_carries_messages_and_no_descriptors() {
    set_up();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let left = Connection::from(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let right = Connection::from(listener.accept().unwrap().0);
    thread::scope(|scope| {
        scope.spawn(|| left.send_bytes(&pattern(3 << 20)).unwrap());
        assert!(right.recv_bytes().unwrap() == pattern(3 << 20));
    });
    let (value, _readers) = handles::<1>();
    assert!(matches!(left.send(&value), Err(Error::InvalidArgument { .. })));
    left.send(&text("after that")).unwrap();
    assert_eq!(right.recv::<Text>().unwrap(), text("after that"));
    drop(left);
    assert!(matches!(right.recv_bytes(), Err(Error::Eof)));
}

#[test]
fn a_nonblocking_socket_is_waited_for_all_the_same() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let (left, right) = (Connection::from(ours), Connection::from(theirs));
    thread::scope(|scope| {
        scope.spawn(|| left.send_bytes(&pattern(2 << 20)).unwrap());
        assert!(right.recv_bytes().unwrap() == pattern(2 << 20));
    });
}

#[test]
fn a_datagram_socket_is_refused() {
    let (socket, _) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let refused = Connection::try_from(OwnedFd::from(socket));
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })));
}

#[test]
fn the_descriptor_comes_back_when_nothing_would_be_lost() {
    set_up();
    let (left, right) = pipe().unwrap();
    left.send_bytes(b"one").unwrap();
    left.send_bytes(b"two").unwrap();
    assert_eq!(right.recv_bytes().unwrap(), b"one");
    let right = right.into_fd().expect_err("the second message was read ahead");
    assert_eq!(right.recv_bytes().unwrap(), b"two");
    let number = right.as_raw_fd();
    let fd = right.into_fd().unwrap();
    assert_eq!(fd.as_raw_fd(), number);
    let right = Connection::try_from(fd).unwrap();
    left.send_bytes(b"three").unwrap();
    assert_eq!(right.recv_bytes().unwrap(), b"three");
    let (half, other) = right.split().unwrap();
    let half = half.into_fd().unwrap_err();
    drop(other);
    half.into_fd().unwrap();
}

// Descriptors ------------------------------------------------------------------------------------

fn descriptors_cross<const N: usize>() {
    set_up();
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
    set_up();
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
    set_up();
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
    let (connection, mut raw) = connection_and_socket();
    raw.write_all(b"\0").unwrap();
    assert!(matches!(connection.recv_fd(), Err(Error::Decode { .. })));
    raw.write_all(b"\x01").unwrap();
    assert!(matches!(connection.recv_fd(), Err(Error::Decode { .. })));
    raw.write_all(b"\0\0\0\x04\x01\0\0\0").unwrap();
    assert!(matches!(connection.recv::<Handles<1>>(), Err(Error::Decode { .. })));
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

// Connections as messages ------------------------------------------------------------------------

#[test]
fn a_connection_sent_over_a_connection_works_there() {
    set_up();
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
    set_up();
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
    set_up();
    let (left, right) = pipe().unwrap();
    left.send(&left).unwrap();
    let copy: Connection = right.recv().unwrap();
    copy.send_bytes(b"from the copy").unwrap();
    assert_eq!(right.recv_bytes().unwrap(), b"from the copy");
}

// Signals ----------------------------------------------------------------------------------------

#[test]
fn signals_interrupt_nothing() {
    extern "C" fn ignore(_: libc::c_int) {}
    set_up();
    // SAFETY: zeros are a valid record: no flags, so that interrupted calls are not restarted.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ignore as *const () as usize;
    // SAFETY: the handler does nothing.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) }, 0);
    let (left, right) = pipe().unwrap();
    let done = AtomicBool::new(false);
    let (itself, whom) = std::sync::mpsc::sync_channel(1);
    thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: cannot fail.
            itself.send(unsafe { libc::pthread_self() }).unwrap();
            left.send_bytes(&pattern(8 << 20)).unwrap();
            left.send_bytes_timeout(&pattern(8 << 20), Duration::from_secs(100)).unwrap();
            let start = Instant::now();
            assert!(!left.poll(SHORT * 3).unwrap());
            assert!(matches!(left.recv_bytes_timeout(SHORT), Err(Error::TimeoutError)));
            assert!(start.elapsed() >= SHORT * 4);
            assert_eq!(left.recv_bytes().unwrap(), b"answer");
            done.store(true, Ordering::Release);
        });
        let target = whom.recv().unwrap();
        let interrupt = || {
            // SAFETY: the thread is not joined before the scope ends.
            unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
        };
        for _ in 0..2 {
            (0..200).for_each(|_| interrupt());
            assert!(right.recv_bytes().unwrap() == pattern(8 << 20));
        }
        let until = Instant::now() + SHORT * 5;
        while Instant::now() < until {
            interrupt();
            thread::sleep(Duration::from_millis(1));
        }
        right.send_bytes(b"answer").unwrap();
        while !done.load(Ordering::Acquire) {
            interrupt();
            thread::yield_now();
        }
    });
}

// CPython at the other end -----------------------------------------------------------------------

const ECHO: &str = r"
import sys
from multiprocessing.connection import Connection
from multiprocessing import reduction
with Connection(int(sys.argv[1])) as c:
    c.send_bytes(b'ready')
    while True:
        m = c.recv_bytes()
        c.send_bytes(m)
        if m == b'fd': break
    fd = reduction.recv_handle(c)
    reduction.send_handle(c, fd, None)
    c.send_bytes(b'bye')
";

#[test]
fn cpython_speaks_the_same_frames_and_takes_the_same_descriptors() {
    set_up();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let number = theirs.as_raw_fd();
    let mut command = std::process::Command::new("python3");
    command.args(["-c", ECHO, &number.to_string()]);
    // SAFETY: between fork and exec it makes one system call, on a number that is open there.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
            libc::fcntl(number, libc::F_SETFD, 0);
            Ok(())
        });
    }
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: there is no python3");
        return;
    };
    drop((command, theirs));
    let connection = Connection::from(ours);
    assert_eq!(connection.recv_bytes().unwrap(), b"ready");
    for len in [0, 1, 2, 255, 256, 4095, 4096, 16383, 16384, 16385, 32768, 65535, 65536] {
        connection.send_bytes(&pattern(len)).unwrap();
        assert!(connection.recv_bytes().unwrap() == pattern(len), "{len} bytes");
    }
    let (value, readers) = handles::<1>();
    connection.send_bytes(b"fd").unwrap();
    connection.send_fd(value.0[0].as_fd()).unwrap();
    drop(value);
    assert_eq!(connection.recv_bytes().unwrap(), b"fd");
    let fd = connection.recv_fd().unwrap();
    assert_eq!(connection.recv_bytes().unwrap(), b"bye");
    assert!(matches!(connection.recv_bytes(), Err(Error::Eof)));
    assert!(child.wait().unwrap().success());
    assert_paired(Handles::<1>(vec![fd]), readers);
}
