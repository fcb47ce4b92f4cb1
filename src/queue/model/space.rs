//! The head: who gets rings for who waits for room, and leaves segments, by the code in `room.rs`, `consumer.rs`
//! and `bell.rs`.
//!
//! There are two classes of room for one message each. A segment is in the class that the one before it is
//! not in, so a producer goes on in the next segment as soon as the head has left the last but one. That
//! there is an item to get, a consumer just sees: the tail has a model of its own.

use super::super::cursor::{Cursor, Word};
use super::{Protocol, explore};

/// How many classes there are, and so how many segments at a time.
const CLASSES: u8 = 2;

/// More segments than are ever begun here.
const SEGMENTS: usize = 6;

/// A place in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Mark {
    items: u8,
    segment: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shared {
    word: Word,
    head: Mark,
    tail: Mark,
    closed: bool,
    /// Where each segment begins.
    starts: [u8; SEGMENTS],
    /// How many items must be taken for the sleeper to go on.
    wanted: u8,
    bell: bool,
    producers_turn: bool,
    producer_died: bool,
    consumers_turn: bool,
    consumer_died: bool,
    /// How often the head was armed.
    armed: u8,
    /// Whether a segment was entered in a class that was not free.
    trampled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    /// Has so many items to put, or is in a hurry besides: then its sleep may end at any time.
    Producer {
        left: u8,
        hurry: bool,
        put: Put,
    },
    /// Has so many items to get.
    Consumer(u8, Get),
    Closer(Close),
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Put {
    Turn,
    Settle,
    Look,
    Fill(Mark),
    /// Saw the head at the end of a segment.
    AtEnd,
    /// Has the consumers' turn besides.
    SettleConsumer,
    StepOver,
    Publish(Publish),
    LeaveConsumers,
    Want(u8),
    Load,
    Arm(Word),
    Sleep,
    Silence,
    /// Makes the bell silent when it is too late for that.
    SilenceArmed,
    Disarm,
    /// Found the head closed.
    CloseTail,
    Leave,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Get {
    Turn,
    Look,
    /// Leads the head out of a segment, if it is at its end.
    StepOver(Then),
    Publish(Publish, Then),
    Take,
    Leave,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Then {
    Look,
    Take,
    /// An item was taken.
    Tidy,
    Leave,
}

/// Publishing the head.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Publish {
    next: Mark,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Load,
    Want(Word),
    Ring(Word),
    /// Armed afterwards, or not.
    Set(Word, bool),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Close {
    Look,
    Ring(Word),
    Set(Word),
    Tail,
}

/// The order of things: that of the code, or one that is known to be wrong.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Right,
    /// A producer that saw the head at the end of a segment waits for the consumers' turn whatever becomes of
    /// the head.
    WaitForTurn,
    PublishThenRing,
    /// Who publishes does not look whether somebody armed the head again.
    RingOnce,
    /// The bell is made silent when the head is armed already.
    ArmThenSilence,
}

impl Shared {
    const NEW: Shared = Shared {
        word: Cursor::silent(),
        head: Mark { items: 0, segment: 0 },
        tail: Mark { items: 0, segment: 0 },
        closed: false,
        starts: [0; SEGMENTS],
        wanted: 0,
        bell: false,
        producers_turn: false,
        producer_died: false,
        consumers_turn: false,
        consumer_died: false,
        armed: 0,
        trampled: false,
    };

    /// Where the head goes that is at the end of a segment and not in the last.
    fn beyond_end(&self) -> Option<Mark> {
        let segment = self.head.segment + 1;
        let at_end = self.head.segment != self.tail.segment
            && self.starts[segment as usize] == self.head.items;
        at_end.then_some(Mark { segment, ..self.head })
    }

    /// Where a message goes, if there is room.
    fn room(&self) -> Option<Mark> {
        let start = self.starts[self.tail.segment as usize];
        let fits = self.tail.items == self.head.items.max(start);
        let free = self.tail.segment - self.head.segment + 1 < CLASSES;
        let next = Mark { segment: self.tail.segment + 1, ..self.tail };
        fits.then_some(self.tail).or(free.then_some(next))
    }

    fn put_step(&mut self, put: Put, order: Order) -> Option<Put> {
        Some(match put {
            Put::Turn if self.producers_turn => return None,
            Put::Turn => {
                self.producers_turn = true;
                if self.producer_died { Put::Settle } else { Put::Look }
            }
            Put::Settle => {
                self.producer_died = false;
                self.word = self.word.disarmed();
                Put::Look
            }
            Put::Look if self.closed => Put::Leave,
            Put::Look => match (self.room(), self.beyond_end()) {
                (Some(place), _) => Put::Fill(place),
                (_, Some(_)) => Put::AtEnd,
                // Only in another segment than the tail's, of which there are two.
                _ if self.head.segment != self.tail.segment => {
                    Put::Want(self.starts[self.head.segment as usize + 1])
                }
                _ => Put::Want(self.tail.items),
            },
            Put::Fill(place) => {
                // The head has moved on meanwhile, if at all.
                self.trampled |= place.segment - self.head.segment >= CLASSES;
                if place.segment != self.tail.segment {
                    self.starts[place.segment as usize] = place.items;
                }
                if !self.closed {
                    self.tail = Mark { items: place.items + 1, ..place };
                }
                Put::Leave
            }
            Put::AtEnd if !self.consumers_turn => {
                self.consumers_turn = true;
                if self.consumer_died { Put::SettleConsumer } else { Put::StepOver }
            }
            Put::AtEnd if order == Order::WaitForTurn => return None,
            Put::AtEnd if self.closed || self.beyond_end().is_none() => Put::Look,
            Put::AtEnd => return None,
            Put::SettleConsumer => {
                self.consumer_died = false;
                Put::StepOver
            }
            Put::StepOver => match self.beyond_end() {
                Some(next) => Put::Publish(Publish { next, step: Step::Load }),
                None => Put::LeaveConsumers,
            },
            Put::Publish(publish) => match self.publish_step(publish, order) {
                Some(publish) => Put::Publish(publish),
                None => Put::LeaveConsumers,
            },
            Put::LeaveConsumers => {
                self.consumers_turn = false;
                Put::Look
            }
            Put::Want(wanted) => {
                self.wanted = wanted;
                Put::Load
            }
            Put::Load if self.word.is_closed() => Put::CloseTail,
            Put::Load if self.head.items >= self.wanted => Put::Look,
            Put::Load => Put::Arm(self.word),
            Put::Arm(word) if word == self.word => {
                self.word = word.armed(2);
                self.armed += 1;
                if order == Order::ArmThenSilence { Put::SilenceArmed } else { Put::Sleep }
            }
            Put::Arm(_) => Put::Load,
            Put::Sleep if !self.bell => return None,
            Put::Sleep if order == Order::ArmThenSilence => Put::Look,
            Put::Sleep => Put::Silence,
            Put::Silence => {
                self.bell = false;
                Put::Look
            }
            Put::SilenceArmed => {
                self.bell = false;
                Put::Sleep
            }
            Put::Disarm => {
                self.word = self.word.disarmed();
                Put::Leave
            }
            Put::CloseTail => {
                self.closed = true;
                Put::Look
            }
            Put::Leave => {
                self.producers_turn = false;
                Put::Turn
            }
        })
    }

    /// `None` once it is done.
    fn publish_step(&mut self, publish: Publish, order: Order) -> Option<Publish> {
        let Publish { next, step } = publish;
        let late = order == Order::PublishThenRing;
        let step = match step {
            Step::Load if self.word.is_armed() => Step::Want(self.word),
            Step::Load => Step::Set(self.word, false),
            Step::Want(word) if next.items < self.wanted => Step::Set(word, true),
            Step::Want(word) if late => Step::Set(word, false),
            Step::Want(word) => Step::Ring(word),
            Step::Ring(_) if late => {
                self.bell = true;
                return None;
            }
            Step::Ring(word) => {
                self.bell = true;
                Step::Set(word, false)
            }
            Step::Set(word, armed) => {
                let same = word == self.word;
                if same || (order == Order::RingOnce && !self.word.is_closed()) {
                    self.word = self.word.published(armed);
                    self.head = next;
                    let ring = late && word.is_armed() && !armed;
                    return ring.then_some(Publish { next, step: Step::Ring(word) });
                }
                Step::Load
            }
        };
        Some(Publish { next, step })
    }

    fn get_step(&mut self, get: Get, order: Order) -> Option<Get> {
        Some(match get {
            Get::Turn if self.consumers_turn => return None,
            Get::Turn => {
                self.consumers_turn = true;
                if std::mem::take(&mut self.consumer_died) {
                    Get::StepOver(Then::Look)
                } else {
                    Get::Look
                }
            }
            // Asleep in its turn.
            Get::Look if self.tail.items == self.head.items && !self.closed => return None,
            Get::Look if self.tail.items == self.head.items => Get::Leave,
            Get::Look => Get::StepOver(Then::Take),
            Get::StepOver(then) => match self.beyond_end() {
                Some(next) => Get::Publish(Publish { next, step: Step::Load }, then),
                None => then.into(),
            },
            Get::Take => {
                let next = Mark { items: self.head.items + 1, ..self.head };
                Get::Publish(Publish { next, step: Step::Load }, Then::Tidy)
            }
            Get::Publish(publish, then) => match self.publish_step(publish, order) {
                Some(publish) => Get::Publish(publish, then),
                None => then.into(),
            },
            Get::Leave => {
                self.consumers_turn = false;
                Get::Turn
            }
        })
    }

    fn close_step(&mut self, close: Close) -> At {
        At::Closer(match close {
            Close::Look if self.word.is_closed() => Close::Tail,
            Close::Look if self.word.is_armed() => Close::Ring(self.word),
            Close::Look => Close::Set(self.word),
            Close::Ring(word) => {
                self.bell = true;
                Close::Set(word)
            }
            Close::Set(word) if word == self.word => {
                self.word = word.closed();
                Close::Tail
            }
            Close::Set(_) => Close::Look,
            Close::Tail => {
                self.closed = true;
                return At::Gone;
            }
        })
    }
}

impl From<Then> for Get {
    fn from(then: Then) -> Get {
        match then {
            Then::Look => Get::Look,
            Then::Take => Get::Take,
            Then::Tidy => Get::StepOver(Then::Leave),
            Then::Leave => Get::Leave,
        }
    }
}

impl Put {
    /// Whether who is here has the consumers' turn besides.
    fn has_both(self) -> bool {
        matches!(self, Put::SettleConsumer | Put::StepOver | Put::Publish(_) | Put::LeaveConsumers)
    }
}

impl Protocol for Order {
    type Shared = Shared;
    type At = At;

    const GONE: At = At::Gone;

    fn steps(&self, shared: Shared, _who: usize, at: At) -> Vec<(Shared, At)> {
        // A sleeper and a publisher may chase each other as long as they like: not here.
        const CHASE: u8 = 6;
        let mut next = shared;
        let then = match at {
            At::Producer { left: 0, put: Put::Turn, .. } | At::Consumer(0, Get::Turn) => {
                Some(At::Gone)
            }
            At::Producer { left, hurry, put } => next.put_step(put, *self).map(|then| {
                let left = left - u8::from(put == Put::Leave);
                At::Producer { left, hurry, put: then }
            }),
            At::Consumer(left, get) => next
                .get_step(get, *self)
                .map(|then| At::Consumer(left - u8::from(get == Get::Leave), then)),
            At::Closer(close) => Some(next.close_step(close)),
            At::Gone => None,
        };
        let then = then.filter(|_| next.armed <= CHASE).map(|then| (next, then));
        let late = match at {
            At::Producer { left, hurry: true, put: Put::Sleep } => {
                Some((shared, At::Producer { left, hurry: true, put: Put::Disarm }))
            }
            At::Producer { left, hurry: true, put: Put::AtEnd } => {
                Some((shared, At::Producer { left, hurry: true, put: Put::Leave }))
            }
            _ => None,
        };
        then.into_iter().chain(late).collect()
    }

    fn bury(&self, shared: &mut Shared, _who: usize, at: At) -> bool {
        match at {
            At::Producer { put: Put::Turn, .. } | At::Consumer(_, Get::Turn) => {}
            At::Producer { put, .. } => {
                (shared.producers_turn, shared.producer_died) = (false, true);
                if put.has_both() {
                    (shared.consumers_turn, shared.consumer_died) = (false, true);
                }
            }
            At::Consumer(..) => (shared.consumers_turn, shared.consumer_died) = (false, true),
            At::Closer(_) | At::Gone => {}
        }
        true
    }

    fn wrong(&self, shared: &Shared) -> Option<&'static str> {
        shared.trampled.then_some("a segment entered in a class that is not free")
    }

    fn stuck(&self, shared: &Shared, all: &[At]) -> Option<&'static str> {
        let room = shared.room().is_some() || shared.beyond_end().is_some();
        let puts = all.iter().any(|at| matches!(at, At::Producer { .. }));
        let gets = all.iter().any(|at| matches!(at, At::Consumer(..)));
        let closed = shared.closed || shared.word.is_closed();
        if puts && (room || closed) {
            return Some("a producer that waits beside room, or for a ring that is closed");
        }
        let there = shared.tail.items > shared.head.items;
        (gets && (there || shared.closed)).then_some("a consumer that waits for its turn for ever")
    }
}

const fn producer(left: u8) -> At {
    At::Producer { left, hurry: false, put: Put::Turn }
}

const fn hurried(left: u8) -> At {
    At::Producer { left, hurry: true, put: Put::Turn }
}

const fn consumer(left: u8) -> At {
    At::Consumer(left, Get::Turn)
}

fn run<const N: usize>(order: Order, all: [At; N], deaths: u8) -> (Option<&'static str>, usize) {
    explore(&order, Shared::NEW, all, deaths)
}

#[test]
fn no_interleaving_of_two_and_two_with_a_death_leaves_a_producer_beside_room() {
    let (wrong, states) =
        run(Order::Right, [producer(2), producer(1), consumer(2), consumer(1)], 1);
    assert_eq!(wrong, None);
    assert!(states > 10_000, "{states} states");
}

#[test]
fn nor_does_one_of_those_who_wait_a_limited_time() {
    let all = [hurried(2), producer(1), consumer(2), consumer(1)];
    assert_eq!(run(Order::Right, all, 1).0, None);
}

#[test]
fn closing_ends_the_waits_of_producers_in_any_interleaving() {
    let all = [producer(2), producer(1), consumer(1), At::Closer(Close::Look)];
    assert_eq!(run(Order::Right, all, 1).0, None);
}

#[test]
fn the_explorer_finds_a_producer_that_waits_for_the_turn_of_a_sleeper() {
    // It saw the head at the end of a segment, which it has left since; who has the turn sleeps in it.
    let all = [producer(2), producer(1), consumer(2), consumer(1)];
    let what = Some("a producer that waits beside room, or for a ring that is closed");
    assert_eq!(run(Order::WaitForTurn, all, 0).0, what);
}

#[test]
fn the_explorer_finds_the_orders_that_are_wrong() {
    let all = [producer(2), producer(1), consumer(2), consumer(1)];
    let what = Some("a producer that waits beside room, or for a ring that is closed");
    assert_eq!(run(Order::PublishThenRing, all, 1).0, what);
    assert_eq!(run(Order::RingOnce, all, 0).0, what);
    assert_eq!(run(Order::ArmThenSilence, all, 0).0, what);
}
