//! The tail: who puts rings for who gets, by the code in `cursor.rs`, `producer.rs` and `consumer.rs`.

use super::super::cursor::{Cursor, Word};
use super::{Protocol, explore};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shared {
    tail: Word,
    /// Whether the copy that the next version names is a whole one.
    whole: bool,
    put: u8,
    taken: u8,
    bells: [bool; 2],
    producers_turn: bool,
    /// Whether the last who had it died in it.
    producer_died: bool,
    consumers_turn: bool,
    /// Whether the consumer of a tended ring has yet to hear of a death.
    news: bool,
    /// How often the tail was armed.
    armed: u8,
    torn: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    /// Has so many items to put.
    Producer(u8, Put),
    /// Has so many items to get.
    Consumer(u8, Get),
    Closer(Close),
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Put {
    Turn,
    Withdraw,
    Copy,
    EndCopy,
    Look,
    Ready(Word),
    Ring(Word),
    Publish(Word),
    Leave,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Get {
    Turn,
    Look,
    Load,
    Arm(Word),
    Drain(usize),
    LookAgain(usize),
    Sleep(usize),
    Help(usize),
    HelpWith(usize, Word),
    Take,
    Leave,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Close {
    Look,
    Ring(Word),
    Set(Word),
}

/// The order of things: that of the code, or one that is known to be wrong.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    RingThenPublish,
    /// Right where the consumer hears of deaths.
    Tended,
    PublishThenRing,
    /// The bell is made silent before the other one is armed.
    DrainThenArm,
    /// A consumer publishes what is ready also if it has heard no bell for it.
    HelpUnheard,
    /// Who follows a dead producer does not take back what that had ready.
    NoWithdrawal,
}

impl Order {
    fn publishes_first(self) -> bool {
        matches!(self, Order::Tended | Order::PublishThenRing)
    }
}

impl Shared {
    const NEW: Shared = Shared {
        tail: Cursor::first(),
        whole: true,
        put: 0,
        taken: 0,
        bells: [false; 2],
        producers_turn: false,
        producer_died: false,
        consumers_turn: false,
        news: false,
        armed: 0,
        torn: false,
    };

    fn step(&mut self, at: At, order: Order) -> Option<At> {
        match at {
            At::Producer(left, put) => self.put_step(left, put, order),
            At::Consumer(left, get) => self.get_step(left, get, order),
            At::Closer(close) => Some(self.close_step(close)),
            At::Gone => None,
        }
    }

    fn publish(&mut self, word: Word) {
        self.tail = word.published(false);
        self.torn |= !self.whole;
        self.put += 1;
    }

    fn put_step(&mut self, left: u8, put: Put, order: Order) -> Option<At> {
        let next = match put {
            Put::Turn if left == 0 => return Some(At::Gone),
            Put::Turn if self.producers_turn => return None,
            Put::Turn => {
                self.producers_turn = true;
                if self.producer_died { Put::Withdraw } else { Put::Copy }
            }
            Put::Withdraw => {
                self.producer_died = false;
                if order != Order::NoWithdrawal {
                    self.tail = self.tail.withdrawn();
                }
                Put::Copy
            }
            Put::Copy => {
                self.whole = false;
                Put::EndCopy
            }
            Put::EndCopy => {
                self.whole = true;
                Put::Look
            }
            Put::Look if self.tail.is_closed() => {
                self.producers_turn = false;
                return Some(At::Gone);
            }
            Put::Look if !self.tail.is_armed() || order.publishes_first() => {
                Put::Publish(self.tail)
            }
            Put::Look if self.tail.is_ready() => Put::Ring(self.tail),
            Put::Look => Put::Ready(self.tail),
            Put::Ready(word) if word == self.tail => {
                self.tail = word.ready();
                Put::Ring(self.tail)
            }
            Put::Ready(_) => Put::Look,
            Put::Ring(word) => {
                self.bells[word.bell()] = true;
                if order.publishes_first() { Put::Leave } else { Put::Publish(word) }
            }
            Put::Publish(word) if word == self.tail => {
                self.publish(word);
                let late = order.publishes_first() && word.is_armed();
                if late { Put::Ring(word) } else { Put::Leave }
            }
            Put::Publish(word) if word.is_ready() && self.tail.is_next_to(word) => Put::Leave,
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
                self.armed += 1;
                Get::Drain(self.tail.bell())
            }
            Get::Arm(_) => Get::Load,
            Get::Drain(bell) => {
                self.bells[1 - bell] = false;
                if order == Order::HelpUnheard { Get::Help(bell) } else { Get::LookAgain(bell) }
            }
            Get::LookAgain(_) if self.put > self.taken => Get::Take,
            Get::LookAgain(bell) => Get::Sleep(bell),
            Get::Sleep(bell) if self.bells[bell] => Get::Help(bell),
            Get::Sleep(_) if self.news => {
                self.news = false;
                Get::Look
            }
            Get::Sleep(_) => return None,
            Get::Help(bell) => Get::HelpWith(bell, self.tail),
            Get::HelpWith(bell, word) => {
                let mine = word.is_ready() && word.is_armed() && word.bell() == bell;
                if mine && word == self.tail {
                    self.publish(word);
                }
                if self.bells[bell] { Get::Look } else { Get::LookAgain(bell) }
            }
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

    fn close_step(&mut self, close: Close) -> At {
        match close {
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
        }
    }
}

impl Protocol for Order {
    type Shared = Shared;
    type At = At;

    const GONE: At = At::Gone;

    fn steps(&self, mut shared: Shared, _who: usize, at: At) -> Vec<(Shared, At)> {
        // A sleeper and a publisher may chase each other as long as they like: not here.
        const CHASE: u8 = 7;
        let then = shared.step(at, *self);
        then.filter(|_| shared.armed <= CHASE).map(|then| (shared, then)).into_iter().collect()
    }

    fn bury(&self, shared: &mut Shared, _who: usize, at: At) -> bool {
        match at {
            At::Producer(_, Put::Turn) | At::Consumer(_, Get::Turn) => {}
            At::Producer(..) => (shared.producers_turn, shared.producer_died) = (false, true),
            At::Consumer(..) => shared.consumers_turn = false,
            At::Closer(_) | At::Gone => {}
        }
        shared.news = *self == Order::Tended;
        // The consumer of a tended ring is the one that all others work for.
        *self != Order::Tended || matches!(at, At::Producer(..))
    }

    /// Also for somebody who only polls the bells.
    fn wrong(&self, shared: &Shared) -> Option<&'static str> {
        let silent = shared.bells == [false, false] && *self != Order::Tended;
        let wrongs = [
            (silent && shared.put > shared.taken, "an item, and no bell to be heard"),
            (silent && shared.tail.is_closed(), "closed, and no bell to be heard"),
            (silent && !shared.tail.is_armed(), "no bell to be heard, and none armed"),
            (shared.taken > shared.put, "an item taken that was never put"),
            (shared.torn, "half a mark was published"),
        ];
        wrongs.into_iter().find(|(is, _)| *is).map(|(_, what)| what)
    }

    fn stuck(&self, shared: &Shared, all: &[At]) -> Option<&'static str> {
        let sleeps = |at: &At| matches!(at, At::Consumer(_, Get::Sleep(_)));
        let there = shared.put > shared.taken || shared.tail.is_closed();
        if there && all.iter().any(sleeps) {
            return Some("a sleeper without a waker");
        }
        let waits = all.iter().any(|at| matches!(at, At::Producer(..)));
        waits.then_some("a producer that waits for ever")
    }
}

const PRODUCER: At = At::Producer(1, Put::Turn);
const CONSUMER: At = At::Consumer(1, Get::Turn);

fn run<const N: usize>(order: Order, all: [At; N], deaths: u8) -> (Option<&'static str>, usize) {
    explore(&order, Shared::NEW, all, deaths)
}

#[test]
fn no_interleaving_of_two_and_two_with_deaths_leaves_a_sleeper_beside_an_item() {
    let all = [PRODUCER, PRODUCER, CONSUMER, CONSUMER];
    let (wrong, states) = run(Order::RingThenPublish, all, 2);
    assert_eq!(wrong, None);
    assert!(states > 10_000, "{states} states");
}

#[test]
fn no_interleaving_of_more_items_than_consumers_does_either() {
    let all = [At::Producer(2, Put::Turn), CONSUMER, At::Consumer(2, Get::Turn)];
    assert_eq!(run(Order::RingThenPublish, all, 2).0, None);
}

#[test]
fn closing_wakes_everybody_in_any_interleaving() {
    let all = [PRODUCER, At::Closer(Close::Look), CONSUMER, CONSUMER];
    assert_eq!(run(Order::RingThenPublish, all, 2).0, None);
}

#[test]
fn a_consumer_that_hears_of_deaths_misses_nothing_that_was_published_before_the_ring() {
    let all = [PRODUCER, PRODUCER, PRODUCER, At::Consumer(3, Get::Turn)];
    assert_eq!(run(Order::Tended, all, 3).0, None);
    let (wrong, _) = run(Order::PublishThenRing, all, 1);
    assert!(wrong.is_some(), "a death between publishing and ringing went unnoticed");
}

#[test]
fn the_explorer_finds_the_orders_that_are_wrong() {
    let all = [PRODUCER, PRODUCER, CONSUMER, CONSUMER];
    let finds = |order| run(order, all, 1).0.is_some();
    assert!(finds(Order::PublishThenRing), "a death between publishing and ringing");
    assert!(finds(Order::DrainThenArm), "a death between silencing and arming");
    assert!(finds(Order::HelpUnheard), "help of somebody who was not rung for");
    assert!(finds(Order::NoWithdrawal), "what a dead producer had ready, and another overwrote");
}
