//! The protocol of the tail as a state machine, every interleaving of which is tried, with deaths.
//!
//! Each process is at one step of the code in `cursor.rs`, `producer.rs` or `consumer.rs`; a step reads or
//! writes one shared thing. The words are the real ones.

use super::cursor::{Cursor, Word};
use std::collections::HashSet;

/// What everybody shares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Shared {
    tail: Word,
    put: u8,
    taken: u8,
    bells: [bool; 2],
    producers_turn: bool,
    consumers_turn: bool,
}

/// Where a process is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    /// Has so many items to put.
    Producer(u8, Put),
    /// Has so many items to get.
    Consumer(u8, Get),
    Closer(Close),
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Put {
    Turn,
    Look,
    Ring(Word),
    Publish(Word),
    Leave,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Get {
    Turn,
    Look,
    Load,
    Arm(Word),
    Drain(usize),
    LookAgain(usize),
    Sleep(usize),
    Take,
    Leave,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Close {
    Look,
    Ring(Word),
    Set(Word),
}

/// Whether the order is the one of the code, or one of two that are known to be wrong.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    RingThenPublish,
    PublishThenRing,
    /// The bell is made silent before the other one is armed.
    DrainThenArm,
}

impl Shared {
    /// One step of a process; `None` if it has to wait.
    fn step(&mut self, at: At, order: Order) -> Option<At> {
        Some(match at {
            At::Producer(left, put) => self.put_step(left, put, order)?,
            At::Consumer(left, get) => self.get_step(left, get, order)?,
            At::Closer(close) => match close {
                Close::Look if self.tail.is_closed() => At::Gone,
                Close::Look if self.tail.is_armed() => At::Closer(Close::Ring(self.tail)),
                Close::Look => At::Closer(Close::Set(self.tail)),
                Close::Ring(word) => {
                    self.bells[word.bell()] = true;
                    At::Closer(Close::Set(word))
                }
                Close::Set(word) if word == self.tail => {
                    self.tail = word.closed();
                    At::Gone
                }
                Close::Set(_) => At::Closer(Close::Look),
            },
            At::Gone => return None,
        })
    }

    fn put_step(&mut self, left: u8, put: Put, order: Order) -> Option<At> {
        let next = match put {
            Put::Turn if left == 0 => return Some(At::Gone),
            Put::Turn if self.producers_turn => return None,
            Put::Turn => {
                self.producers_turn = true;
                Put::Look
            }
            Put::Look if self.tail.is_closed() => {
                self.producers_turn = false;
                return Some(At::Gone);
            }
            Put::Look if self.tail.is_armed() && order != Order::PublishThenRing => {
                Put::Ring(self.tail)
            }
            Put::Look => Put::Publish(self.tail),
            Put::Ring(word) => {
                self.bells[word.bell()] = true;
                if order == Order::PublishThenRing { Put::Leave } else { Put::Publish(word) }
            }
            Put::Publish(word) if word == self.tail => {
                self.tail = word.published(false);
                self.put += 1;
                let late = order == Order::PublishThenRing && word.is_armed();
                if late { Put::Ring(word) } else { Put::Leave }
            }
            Put::Publish(_) => Put::Look,
            Put::Leave => {
                self.producers_turn = false;
                return Some(At::Producer(left - 1, Put::Turn));
            }
        };
        Some(At::Producer(left, next))
    }

    fn get_step(&mut self, left: u8, get: Get, order: Order) -> Option<At> {
        let next = match get {
            Get::Turn if left == 0 => return Some(At::Gone),
            Get::Turn if self.consumers_turn => return None,
            Get::Turn => {
                self.consumers_turn = true;
                Get::Look
            }
            Get::Look if self.put > self.taken => Get::Take,
            Get::Look if self.tail.is_closed() => {
                self.consumers_turn = false;
                return Some(At::Gone);
            }
            Get::Look => Get::Load,
            Get::Load if self.put > self.taken || self.tail.is_closed() => Get::Look,
            Get::Load => {
                if order == Order::DrainThenArm {
                    self.bells[self.tail.bell()] = false;
                }
                Get::Arm(self.tail)
            }
            Get::Arm(word) if word == self.tail => {
                self.tail = word.armed(1);
                Get::Drain(self.tail.bell())
            }
            Get::Arm(_) => Get::Load,
            Get::Drain(bell) => {
                self.bells[1 - bell] = false;
                Get::LookAgain(bell)
            }
            Get::LookAgain(_) if self.put > self.taken => Get::Take,
            Get::LookAgain(bell) => Get::Sleep(bell),
            Get::Sleep(bell) if !self.bells[bell] => return None,
            Get::Sleep(_) => Get::Look,
            Get::Take => {
                self.taken += 1;
                Get::Leave
            }
            Get::Leave => {
                self.consumers_turn = false;
                return Some(At::Consumer(left - 1, Get::Turn));
            }
        };
        Some(At::Consumer(left, next))
    }

    /// The kernel hands on the turn that the dead one had.
    fn bury(&mut self, at: At) {
        match at {
            At::Producer(_, Put::Turn) | At::Consumer(_, Get::Turn) => {}
            At::Producer(..) => self.producers_turn = false,
            At::Consumer(..) => self.consumers_turn = false,
            At::Closer(_) | At::Gone => {}
        }
    }

    /// What must hold at every moment, also for somebody who only polls the bells.
    fn wrong(&self) -> Option<&'static str> {
        let silent = self.bells == [false, false];
        (silent && self.put > self.taken)
            .then_some("an item, and no bell to be heard")
            .or((silent && self.tail.is_closed()).then_some("closed, and no bell to be heard"))
            .or((silent && !self.tail.is_armed()).then_some("no bell to be heard, and none armed"))
            .or((self.taken > self.put).then_some("an item taken that was never put"))
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    shared: Shared,
    all: Vec<At>,
    deaths: u8,
    rearmed: u8,
}

/// Tries everything and says what went wrong, if anything did, and how many states there are.
fn explore(all: Vec<At>, deaths: u8, order: Order) -> (Option<&'static str>, usize) {
    let shared = Shared {
        tail: Cursor::first(),
        put: 0,
        taken: 0,
        bells: [false; 2],
        producers_turn: false,
        consumers_turn: false,
    };
    let first = World { shared, all, deaths, rearmed: 0 };
    let (mut seen, mut todo) = (HashSet::from([first.clone()]), vec![first]);
    while let Some(world) = todo.pop() {
        if let Some(wrong) = world.shared.wrong() {
            return (Some(wrong), seen.len());
        }
        let mut still = true;
        for (who, &at) in world.all.iter().enumerate() {
            let mut next = world.clone();
            if let Some(then) = next.shared.step(at, order) {
                still = false;
                next.all[who] = then;
                let armed = matches!(then, At::Consumer(_, Get::Drain(_)));
                next.rearmed += u8::from(armed);
                // A sleeper and a publisher may chase each other as long as they like: not here.
                const CHASE: u8 = 7;
                if next.rearmed <= CHASE && seen.insert(next.clone()) {
                    todo.push(next);
                }
            }
            if world.deaths > 0 && at != At::Gone {
                let mut next = world.clone();
                next.shared.bury(at);
                (next.all[who], next.deaths) = (At::Gone, world.deaths - 1);
                if seen.insert(next.clone()) {
                    todo.push(next);
                }
            }
        }
        let sleeps = |at: &At| matches!(at, At::Consumer(_, Get::Sleep(_)));
        let there = world.shared.put > world.shared.taken || world.shared.tail.is_closed();
        if still && there && world.all.iter().any(sleeps) {
            return (Some("a sleeper without a waker"), seen.len());
        }
        if still && world.all.iter().any(|at| matches!(at, At::Producer(..))) {
            return (Some("a producer that waits for ever"), seen.len());
        }
    }
    (None, seen.len())
}

fn two_and_two() -> Vec<At> {
    let (producer, consumer) = (At::Producer(1, Put::Turn), At::Consumer(1, Get::Turn));
    vec![producer, producer, consumer, consumer]
}

#[test]
fn no_interleaving_of_two_and_two_with_deaths_leaves_a_sleeper_beside_an_item() {
    let (wrong, states) = explore(two_and_two(), 2, Order::RingThenPublish);
    assert_eq!(wrong, None);
    assert!(states > 10_000, "{states} states");
}

#[test]
fn no_interleaving_of_more_items_than_consumers_does_either() {
    let all =
        vec![At::Producer(2, Put::Turn), At::Consumer(1, Get::Turn), At::Consumer(2, Get::Turn)];
    assert_eq!(explore(all, 2, Order::RingThenPublish).0, None);
}

#[test]
fn closing_wakes_everybody_in_any_interleaving() {
    let mut all = two_and_two();
    all[1] = At::Closer(Close::Look);
    assert_eq!(explore(all, 2, Order::RingThenPublish).0, None);
}

#[test]
fn the_explorer_finds_the_orders_that_are_wrong() {
    let (wrong, _) = explore(two_and_two(), 1, Order::PublishThenRing);
    assert!(wrong.is_some(), "a death between publishing and ringing went unnoticed");
    let (wrong, _) = explore(two_and_two(), 1, Order::DrainThenArm);
    assert!(wrong.is_some(), "a death between silencing and arming went unnoticed");
}
