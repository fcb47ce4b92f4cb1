//! Rings whose memory somebody scribbles over: errors or sane values, never a panic or a hang.

use super::cursor::{How, Mark};
use super::ring::{Options, Ring};
use crate::codec::Payload;
use crate::sys::time::Deadline;
use crate::{Error, Result};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Pseudo-random numbers: xorshift64*.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 33) % limit
    }

    /// A number as a scribbler likes them: anything, or close to `true_one`, or to an end.
    fn number(&mut self, true_one: u64) -> u64 {
        match self.below(6) {
            0 => self.next(),
            1 => u64::MAX - self.below(40),
            2 => self.below(40),
            3 => true_one.wrapping_add(16 * self.below(5)),
            4 => true_one.wrapping_sub(16 * self.below(5)),
            _ => true_one ^ 1 << self.below(64),
        }
    }

    fn mark(&mut self, true_one: Mark) -> Mark {
        let mut mark = true_one;
        for number in [&mut mark.position, &mut mark.items, &mut mark.segment] {
            if self.below(2) == 0 {
                *number = self.number(*number);
            }
        }
        mark
    }
}

fn scribble(ring: &Ring, dice: &mut Dice) {
    let state = ring.inner.state();
    match dice.below(12) {
        0 => state.tail.publish(dice.mark(state.tail.read()), How::Always, |_| Ok(true)).unwrap(),
        1 => state.head.publish(dice.mark(state.head.read()), How::Always, |_| Ok(true)).unwrap(),
        2 => state.producer.seen.store(dice.mark(state.head.read())),
        3 => state.consumer.seen.store(dice.mark(state.tail.read())),
        4 => state.space.wanted.store(dice.mark(state.head.read())),
        5 => {
            let cursor = if dice.below(2) == 0 { &state.head } else { &state.tail };
            // All but closed, which would be the end of the test.
            cursor.scribble(dice.next() & !2);
        }
        6 => state.items.sleepers.store(dice.next() as u32, Relaxed),
        7 => state.items.tokens.store(dice.next() as u32, Relaxed),
        8 => state.producer.ticket.store(dice.next(), Relaxed),
        9 => {
            let segment = state.segment(dice.below(4));
            let start = segment.start.load(Relaxed);
            segment.start.store(dice.number(start), Relaxed);
        }
        10 => {
            let segment = state.segment(dice.below(4));
            segment.class.store(dice.number(0), Relaxed);
        }
        _ => {
            let bytes = dice.next().to_le_bytes();
            let at = 8 * dice.below(40);
            ring.inner.store.stretch(dice.below(2)).unwrap().write(at, &bytes).unwrap();
        }
    }
}

/// One of the ring's operations, none of which may wait for long.
fn operate(ring: &Ring, dice: &mut Dice) -> Result<()> {
    let deadline = match dice.below(50) {
        0 => Deadline::after(Duration::from_millis(1)),
        _ => Deadline::now(),
    };
    let mut message = Payload::default();
    match dice.below(8) {
        0..3 => {
            let small = dice.below(200);
            let len = if dice.below(9) == 0 { 200 * small } else { small };
            message.bytes.resize(len as usize, 7);
            if dice.below(9) == 0 {
                message.fds.push(crate::sys::fd::eventfd(true).unwrap());
            }
            ring.put(&message, deadline).map(drop)
        }
        3..6 => ring.get(&mut message, deadline, drop).map(drop),
        6 => ring.len().map(drop),
        _ => ring.prepare_sleep().map(drop),
    }
}

#[test]
fn a_scribbled_ring_gives_errors_and_goes_on_giving_them() {
    let rounds = std::env::var("MULTIPROC_ROUNDS").map_or(500, |text| text.parse().unwrap());
    for seed in 1..=rounds {
        let mut dice = Dice(seed * 0x9e37_79b9);
        let options = Options {
            maxsize: if seed % 3 == 0 { 10 } else { 0 },
            max_bytes: 200 << 10,
            crowd: seed % 5 == 0,
        };
        let ring = Ring::new(options).unwrap();
        for _ in 0..dice.below(30) {
            operate(&ring, &mut dice).ok();
        }
        for _ in 0..20 {
            scribble(&ring, &mut dice);
            match operate(&ring, &mut dice) {
                Ok(()) | Err(Error::Full | Error::Empty | Error::Corrupt { .. }) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        ring.close().unwrap();
    }
}
