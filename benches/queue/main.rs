//! Queues between processes against a ring of slots made by hand, and against std's channel between threads.
//!
//! The last line shows what a queue costs that nobody uses. Words on the command line pick rows.
//!
//! What stands in the way where a row is over its target: on a machine so busy that consumers sleep between
//! messages, whoever puts makes a system call for each. Large messages are copied within a turn, of which there
//! is one for producers and one for consumers, where the hand-made ring copies side by side.
//!
//! One message of 64 bytes takes 65 ns of processor time on each side: three atomic steps, for the turn, the
//! publishing and the turn's end. With both processors free a row of one producer and one consumer comes to 1.5
//! to 2.0 times the hand-made ring; with other work beside it the ratio tells who slept how often. One of 4 KiB
//! is copied twice on each side, where the ring copies once: it is encoded before the turn is taken, and decoded
//! after it, so that nothing of the caller's runs in between.
//!
//! A consumer that finds nothing gives the processor away once before it sleeps, for as long as that pays.
//! Where both share one processor with other work this takes messages of 4 KiB from 3.8 us to 0.5 us, and a
//! wake-up from 1.4 times the hand-made to 0.9: nobody rings, and nobody is interrupted by the one it has woken.
//! Looking for some microseconds instead changes nothing.
//!
//! Whoever puts rings before it publishes, so that its death leaves nobody asleep beside a message. A sleeper
//! on the same processor then runs at once, finds the message ready and publishes it itself: measured at 1.4
//! times the hand-made wake-up, and at 3.3 times when it gave the processor back to have that done, both without
//! the standing back before it.

mod by_hand;
mod idle;
#[path = "../support/mod.rs"]
mod support;

use by_hand::ByHand;
use multiproc::Queue;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};
use support::{compare, fork, print_head, repeats, scaled, wait_for};

/// What a queue may cost, measured by the hand-made ring.
const TARGET: f64 = 2.0;

/// Where there is something to compare with, but nothing to reach.
const NONE: f64 = f64::INFINITY;

const MIB: usize = 1 << 20;

/// What all kinds can do.
trait Carrier {
    #[allow(clippy::ptr_arg, reason = "a queue of vectors takes vectors")]
    fn put(&self, message: &Vec<u8>);
    /// Gets a message, in place of what was there.
    fn get(&self, message: &mut Vec<u8>);
}

/// A queue of arrays.
struct Arrays<const N: usize>(Queue<[u8; N]>);

impl<const N: usize> Carrier for Arrays<N> {
    fn put(&self, message: &Vec<u8>) {
        let message = message.as_slice().try_into().expect("the right length");
        self.0.put(message).expect("there is memory");
    }

    fn get(&self, message: &mut Vec<u8>) {
        message.clear();
        message.extend_from_slice(&self.0.get().expect("the queue is open"));
    }
}

/// A queue of vectors, for messages too large for the stack.
struct Vectors(Queue<Vec<u8>>);

impl Carrier for Vectors {
    fn put(&self, message: &Vec<u8>) {
        self.0.put(message).expect("there is memory");
    }

    fn get(&self, message: &mut Vec<u8>) {
        *message = self.0.get().expect("the queue is open");
    }
}

/// How many put, how many get, and how many messages of which length.
#[derive(Clone, Copy)]
struct Work {
    producers: usize,
    consumers: usize,
    messages: usize,
    len: usize,
}

impl Work {
    fn message(self, i: usize) -> Vec<u8> {
        let mut message = vec![7; self.len];
        message[self.len / 2] = i as u8;
        message
    }

    fn check(self, message: &[u8]) {
        let len = self.len;
        assert!(message.len() == len && message[0] == 7 && message[len - 1] == 7);
    }

    fn get_all(self, carrier: &impl Carrier) {
        let mut message = Vec::new();
        for _ in 0..self.messages / self.consumers {
            carrier.get(&mut message);
            self.check(&message);
        }
    }

    fn put_all(self, carrier: &impl Carrier) {
        let mut message = self.message(0);
        for i in 0..self.messages / self.producers {
            message[self.len / 2] = i as u8;
            carrier.put(&message);
        }
    }

    /// The time of one message between processes.
    fn run(self, carrier: &impl Carrier) -> Duration {
        let consumers = (0..self.consumers).map(|_| fork(|| self.get_all(carrier)));
        let consumers: Vec<_> = consumers.collect();
        let start = Instant::now();
        let producers: Vec<_> =
            (1..self.producers).map(|_| fork(|| self.put_all(carrier))).collect();
        self.put_all(carrier);
        consumers.into_iter().chain(producers).for_each(wait_for);
        start.elapsed() / self.messages as u32
    }

    /// The time of one message through std's channel between threads, which moves it.
    fn run_in_threads(self) -> Duration {
        const ROOM: usize = 256;
        let (sender, receiver) = sync_channel(if self.len > 4096 { 8 } else { ROOM });
        let put_all = |sender: SyncSender<Vec<u8>>| {
            (0..self.messages / self.producers)
                .for_each(|i| sender.send(self.message(i)).expect("a receiver"));
        };
        let start = Instant::now();
        std::thread::scope(|scope| {
            (0..self.producers).for_each(|_| {
                let sender = sender.clone();
                scope.spawn(move || put_all(sender));
            });
            drop(sender);
            receiver.iter().for_each(|message| self.check(&message));
        });
        start.elapsed() / self.messages as u32
    }
}

/// Whether the command line asks for a row of this name.
fn is_wanted(name: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    words.all(|word| name.contains(word.as_str()))
}

/// Rows for messages of `N` bytes, beside a ring of `S` slots.
fn rows<const N: usize, const S: usize>(text: &str, messages: usize, ours: &impl Carrier) {
    for (producers, consumers) in [(1, 1), (2, 2), (4, 1), (1, 4)] {
        let messages = scaled(messages) / 4 * 4;
        let work = Work { producers, consumers, messages: messages.max(4), len: N };
        let name = format!("queue {producers}p{consumers}c {text}");
        if is_wanted(&name) {
            let by_hand = ByHand::<N, S>::new();
            compare(&name, TARGET, || work.run(ours), || work.run(&by_hand), repeats());
        }
        let name = format!("{producers}p{consumers}c {text}, std's in threads");
        if consumers == 1 && is_wanted(&name) {
            compare(&name, NONE, || work.run(ours), || work.run_in_threads(), repeats());
        }
    }
}

/// Batches of 64, beside single messages in the hand-made ring.
fn batches() {
    const MANY: usize = 64;
    let name = "queue 1p1c 64 B, by 64";
    if !is_wanted(name) {
        return;
    }
    let work = Work { producers: 1, consumers: 1, messages: scaled(800_000), len: 64 };
    let work = Work { messages: work.messages / MANY * MANY, ..work };
    let (queue, by_hand) = (Queue::<[u8; 64]>::new().expect("a queue"), ByHand::<64, 256>::new());
    let ours = || {
        let start = Instant::now();
        let consumer = fork(|| {
            let mut left = work.messages;
            while left > 0 {
                let messages = queue.get_many(MANY).expect("the queue is open");
                messages.iter().for_each(|message| work.check(message));
                left -= messages.len();
            }
        });
        let batch = [[7; 64]; MANY];
        for _ in 0..work.messages / MANY {
            assert_eq!(queue.put_many(&batch).expect("there is memory"), MANY);
        }
        wait_for(consumer);
        start.elapsed() / work.messages as u32
    };
    compare(name, TARGET, ours, || work.run(&by_hand), repeats());
}

fn main() {
    print_head();
    rows::<64, 256>("64 B", 400_000, &Arrays::<64>(Queue::new().expect("a queue")));
    rows::<4096, 256>("4 KiB", 100_000, &Arrays::<4096>(Queue::new().expect("a queue")));
    rows::<MIB, 8>("1 MiB", 1000, &Vectors(Queue::new().expect("a queue")));
    batches();
    idle::wake_latency();
    idle::memory();
}
