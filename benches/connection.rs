//! Connections against the same frames written and read by hand on the same kind of socket.
//!
//! Two processes. Ping-pong: a message there and the same back. One way: the time of a message in a
//! stream of them, ended by an answer. The hand-made side gathers header and body in one `writev`, reads
//! small messages through a buffer, and large ones straight to their place, as whoever knows the sizes
//! would.

mod support;

use multiproc::{Connection, pipe};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::unix::net::UnixStream;
use support::{compare, fork, per_operation, print_head, repeats, scaled, wait_for};

/// What a connection may cost, measured by the hand-made frames.
const TARGET: f64 = 1.15;
/// Up to this, the hand-made side reads through a buffer.
const BUFFER: usize = 16 << 10;
/// Name and length of a message, how many make a ping-pong measurement, how many a one-way one.
const SIZES: [(&str, usize, usize, usize); 5] = [
    ("8 B", 8, 10_000, 50_000),
    ("64 B", 64, 10_000, 50_000),
    ("4 KiB", 4 << 10, 10_000, 30_000),
    ("64 KiB", 64 << 10, 1_000, 2_000),
    ("1 MiB", 1 << 20, 100, 200),
];

/// One end of either kind.
trait End: Sized {
    fn both() -> (Self, Self);
    fn send(&mut self, bytes: &[u8]);
    /// False at the end of the stream.
    fn receive(&mut self, bytes: &mut [u8]) -> bool;
}

impl End for Connection {
    fn both() -> (Connection, Connection) {
        pipe().expect("a pair of connections")
    }

    fn send(&mut self, bytes: &[u8]) {
        self.send_bytes(bytes).expect("the peer is there");
    }

    fn receive(&mut self, bytes: &mut [u8]) -> bool {
        self.recv_bytes_into(bytes).is_ok_and(|len| len == bytes.len())
    }
}

/// Frames by hand: what was read beyond a small message waits in `held`.
struct ByHand {
    socket: UnixStream,
    held: Vec<u8>,
    start: usize,
    end: usize,
}

impl End for ByHand {
    fn both() -> (ByHand, ByHand) {
        let (a, b) = UnixStream::pair().expect("a pair of sockets");
        let end = |socket| ByHand { socket, held: vec![0; BUFFER], start: 0, end: 0 };
        (end(a), end(b))
    }

    fn send(&mut self, bytes: &[u8]) {
        let header = (bytes.len() as i32).to_be_bytes();
        let sent = self.socket.write_vectored(&[IoSlice::new(&header), IoSlice::new(bytes)]);
        let sent = sent.expect("the peer is there");
        self.socket.write_all(&bytes[sent - 4..]).expect("the peer is there");
    }

    fn receive(&mut self, bytes: &mut [u8]) -> bool {
        let total = bytes.len() + 4;
        if total > BUFFER {
            return self.receive_large(bytes);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start + total > self.held.len() {
            self.held.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < total {
            match self.socket.read(&mut self.held[self.end..]) {
                Ok(len @ 1..) => self.end += len,
                _ => return false,
            }
        }
        let (header, body) = self.held[self.start..self.start + total].split_at(4);
        assert_eq!(header, (bytes.len() as i32).to_be_bytes());
        bytes.copy_from_slice(body);
        self.start += total;
        true
    }
}

impl ByHand {
    fn receive_large(&mut self, bytes: &mut [u8]) -> bool {
        let mut header = [0; 4];
        let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(bytes)];
        let mut parts = &mut parts[..];
        while !parts.is_empty() {
            match self.socket.read_vectored(parts) {
                Ok(len @ 1..) => IoSliceMut::advance_slices(&mut parts, len),
                _ => return false,
            }
        }
        assert_eq!(header, (bytes.len() as i32).to_be_bytes());
        true
    }
}

/// A child that answers each message with itself, or each `every`th of them if told so.
struct Echo<E> {
    end: E,
    child: libc::pid_t,
    message: Vec<u8>,
    answer: Vec<u8>,
}

impl<E: End> Echo<E> {
    fn new(len: usize, every: usize) -> Echo<E> {
        let (end, mut theirs) = E::both();
        let mut end = Some(end);
        let child = fork(|| {
            drop(end.take());
            let mut bytes = vec![0; len];
            let mut received = 0;
            while theirs.receive(&mut bytes) {
                received += 1;
                if received % every == 0 {
                    theirs.send(&bytes);
                }
            }
        });
        let end = end.expect("only the child takes it");
        let message = (0..len).map(|i| (i * 31 + 7) as u8).collect();
        Echo { end, child, message, answer: vec![0; len] }
    }

    fn round(&mut self, count: usize) {
        (0..count).for_each(|_| self.end.send(&self.message));
        self.answer.fill(0);
        assert!(self.end.receive(&mut self.answer) && self.answer == self.message);
    }

    fn finish(self) {
        drop(self.end);
        wait_for(self.child);
    }
}

fn main() {
    print_head();
    for (name, len, there_and_back, one_way) in SIZES {
        // What is done in a moment is done more often: too few rounds tell of the scheduler alone.
        let rounds = scaled(there_and_back).max(there_and_back.min(500));
        measure(&format!("ping-pong, {name}"), len, rounds, 1);
        measure(&format!("one way, {name}"), len, 1, scaled(one_way));
    }
}

/// `rounds` rounds of `count` messages and one answer.
fn measure(name: &str, len: usize, rounds: usize, count: usize) {
    let mut by_hand = Echo::<ByHand>::new(len, count);
    let mut ours = Echo::<Connection>::new(len, count);
    compare(
        name,
        TARGET,
        || per_operation(rounds * count, || (0..rounds).for_each(|_| ours.round(count))),
        || per_operation(rounds * count, || (0..rounds).for_each(|_| by_hand.round(count))),
        repeats(),
    );
    ours.finish();
    by_hand.finish();
}
