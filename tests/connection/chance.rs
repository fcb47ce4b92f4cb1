//! Messages of every kind in orders that chance makes, received in ways that chance chooses.

use super::support::*;
use multiproc::{Connection, Error, pipe};
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

const SEEDS: u64 = 30;
const MESSAGES: usize = 80;

/// Numbers that look like chance (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) as usize % end
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Bytes(usize),
    Value(usize),
    OneHandle,
    ManyHandles,
    BareHandle,
    /// A value that announces a handle and has none.
    Liar,
}

fn plan(seed: u64) -> Vec<Kind> {
    let mut chance = Chance(seed * 2 + 1);
    let mut one = || {
        let len = match chance.below(4) {
            0 => chance.below(4),
            1 => chance.below(300),
            2 => BUFFER - 30 + chance.below(60),
            _ => chance.below(4 * BUFFER),
        };
        match chance.below(11) {
            0..4 => Kind::Bytes(len),
            4..7 => Kind::Value(len),
            7 => Kind::OneHandle,
            8 => Kind::ManyHandles,
            9 => Kind::BareHandle,
            _ => Kind::Liar,
        }
    };
    (0..MESSAGES).map(|_| one()).collect()
}

/// Sends what is planned, and gives the read ends of all pipes whose write ends were sent.
fn send_all(connection: &Connection, plan: &[Kind]) -> Vec<File> {
    let mut readers = Vec::new();
    for kind in plan {
        match *kind {
            Kind::Bytes(len) => {
                let bytes = pattern(len);
                let (one, two) = bytes.split_at(len / 3);
                connection.send_vectored(&[IoSlice::new(one), IoSlice::new(two)]).unwrap();
            }
            Kind::Value(len) => connection.send(&Text("v".repeat(len))).unwrap(),
            Kind::OneHandle => {
                let (value, more) = handles::<1>();
                connection.send(&value).unwrap();
                readers.extend(more);
            }
            Kind::ManyHandles => {
                let (value, more) = handles::<255>();
                connection.send(&value).unwrap();
                readers.extend(more);
            }
            Kind::BareHandle => {
                let (value, more) = handles::<1>();
                connection.send_fd(value.0[0].as_fd()).unwrap();
                readers.extend(more);
            }
            Kind::Liar => connection.send_bytes(&[1, 0, 0, 0]).unwrap(),
        }
    }
    readers
}

/// Repeats `receive` until the message is there.
fn insist<T>(mut receive: impl FnMut() -> multiproc::Result<T>) -> T {
    loop {
        match receive() {
            Err(Error::TimeoutError) => thread::yield_now(),
            done => return done.unwrap(),
        }
    }
}

fn receive_bytes(connection: &Connection, len: usize, chance: &mut Chance) -> Vec<u8> {
    let mut buffer = vec![0; len + chance.below(2) * 10];
    match chance.below(6) {
        0 => connection.recv_bytes().unwrap(),
        1 => insist(|| connection.try_recv_bytes()),
        2 => insist(|| connection.recv_bytes_timeout(Duration::from_micros(50))),
        3 => {
            buffer.truncate(len / 2);
            match connection.recv_bytes_into(&mut buffer) {
                Err(Error::BufferTooShort { message }) => message,
                done => buffer[..done.unwrap()].to_vec(),
            }
        }
        4 => {
            let len = connection.recv_bytes_into(&mut buffer).unwrap();
            buffer[..len].to_vec()
        }
        _ => {
            let len = insist(|| connection.try_recv_bytes_into(&mut buffer));
            buffer[..len].to_vec()
        }
    }
}

/// Passes the connection on as a value; also, maybe, in the middle of a message.
fn pass_on(connection: Connection, chance: &mut Chance) -> Connection {
    if chance.below(6) > 0 {
        return connection;
    }
    let (left, right) = pipe().unwrap();
    left.send(&connection).unwrap();
    drop(connection);
    right.recv().unwrap()
}

#[test]
fn every_mixture_of_messages_arrives_as_it_was_sent() {
    let _turn = turn();
    for seed in 0..SEEDS {
        let plan = plan(seed);
        let mut chance = Chance(seed + 77);
        let (left, right) = pipe().unwrap();
        if seed % 2 == 0 {
            // The kernel's least buffer, so that messages arrive in many parts.
            let least = 1i32;
            let (name, size) = (libc::SO_SNDBUF, size_of::<i32>() as libc::socklen_t);
            // SAFETY: `least` is readable for its size.
            unsafe {
                libc::setsockopt(
                    left.as_raw_fd(),
                    libc::SOL_SOCKET,
                    name,
                    (&raw const least).cast(),
                    size,
                )
            };
        }
        thread::scope(|scope| {
            let sender = scope.spawn(|| send_all(&left, &plan));
            let mut right = right;
            let mut received = Vec::new();
            for (i, kind) in plan.iter().enumerate() {
                right = pass_on(right, &mut chance);
                let context = format!("seed {seed}, message {i}, {kind:?}");
                match *kind {
                    Kind::Bytes(len) => {
                        let bytes = receive_bytes(&right, len, &mut chance);
                        assert!(bytes == pattern(len), "{context}");
                    }
                    Kind::Value(len) => {
                        let value = match chance.below(2) {
                            0 => right.recv::<Text>().unwrap(),
                            _ => insist(|| right.try_recv::<Text>()),
                        };
                        assert!(value == Text("v".repeat(len)), "{context}");
                    }
                    Kind::OneHandle => {
                        received.extend(right.recv::<Handles<1>>().expect(&context).0)
                    }
                    Kind::ManyHandles => {
                        let value = insist(|| right.try_recv::<Handles<255>>());
                        received.extend(value.0);
                    }
                    Kind::BareHandle => received.push(right.recv_fd().expect(&context)),
                    Kind::Liar => {
                        let refused = right.recv::<Handles<1>>();
                        assert!(matches!(refused, Err(Error::Decode { .. })), "{context}");
                    }
                }
            }
            let readers = sender.join().unwrap();
            assert!(matches!(right.try_recv_bytes(), Err(Error::TimeoutError)));
            assert_each_paired(received, readers);
        });
    }
}
