//! A crowd: who puts publishes and then wakes one, by the code in `crowd.rs`.
//!
//! All who put are one process, without which there is nothing to do. It hears of the death of any consumer, and
//! nudges another then; and it nudges one when an item lies there for a while and somebody who was woken for it
//! has not come, be it that he was killed and has left his token behind. Consumers that have got something may be
//! at work on it for ever, so that nothing may depend on their coming back.

use super::{Protocol, explore};

/// The most consumers, which come first.
const MOST: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shared {
    put: u8,
    taken: u8,
    closed: bool,
    producers_turn: bool,
    consumers_turn: bool,
    sleepers: u8,
    tokens: u8,
    /// Who is asleep in the kernel, and who of them was woken.
    asleep: [bool; MOST],
    woken: [bool; MOST],
    /// Deaths for which nobody was nudged yet.
    news: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    /// Has so many items to put.
    Producer(u8, Put),
    Consumer(Consumer),
    Guardian,
    /// A consumer that has got all it wanted.
    Working,
    Closer(Close),
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Put {
    Turn,
    Publish,
    Wake(Wake),
    Leave,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Wake {
    LookForTokens,
    LookForSleepers,
    AddToken,
    CountOut,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Consumer {
    /// How many items it has yet to get.
    left: u8,
    get: Get,
    /// Whether its sleep may end at any time, and has.
    hurry: bool,
    late: bool,
    /// Whether it slept before this look.
    slept: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Get {
    Turn,
    Look,
    Take,
    LeaveTurn,
    LookForMore,
    Wake(Wake),
    LeaveTurnToSleep,
    CountIn,
    LookForClose,
    LookAgain(bool),
    TakeToken,
    Sleep,
    Asleep,
    CountOut(bool),
    TakeLeftToken(bool),
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Close {
    Set,
    Look,
    Wake(u8),
}

/// The order of things: that of the code, or one that is known to be wrong.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Right,
    /// A consumer looks for items first and counts itself in then.
    LookThenCountIn,
    /// Nobody is nudged when a consumer is killed.
    NoNudge,
    /// Who was woken wakes nobody for what it leaves.
    WakeNoFurther,
}

impl Shared {
    const NEW: Shared = Shared {
        put: 0,
        taken: 0,
        closed: false,
        producers_turn: false,
        consumers_turn: false,
        sleepers: 0,
        tokens: 0,
        asleep: [false; MOST],
        woken: [false; MOST],
        news: 0,
    };

    /// What may come of waking one: any that sleeps, or nobody if none does.
    fn wake_one(self) -> Vec<Shared> {
        let sleepers: Vec<usize> =
            (0..MOST).filter(|who| self.asleep[*who] && !self.woken[*who]).collect();
        if sleepers.is_empty() {
            return vec![self];
        }
        let wake = |who: usize| {
            let mut next = self;
            next.woken[who] = true;
            next
        };
        sleepers.into_iter().map(wake).collect()
    }

    /// Whether somebody was woken for an item and another could be.
    fn awaits_somebody(&self) -> bool {
        let sleeps = (0..MOST).any(|who| self.asleep[who] && !self.woken[who]);
        self.tokens > 0 && self.put > self.taken && sleeps
    }

    fn add_token(mut self) -> Vec<Shared> {
        self.tokens += 1;
        self.wake_one()
    }

    /// `None` behind the last step.
    fn wake_steps(mut self, wake: Wake) -> Vec<(Shared, Option<Wake>)> {
        let next = match wake {
            Wake::LookForTokens if self.tokens > 0 => None,
            Wake::LookForTokens => Some(Wake::LookForSleepers),
            Wake::LookForSleepers if self.sleepers == 0 => None,
            Wake::LookForSleepers => Some(Wake::AddToken),
            Wake::AddToken => {
                let woken = self.add_token().into_iter();
                return woken.map(|shared| (shared, Some(Wake::CountOut))).collect();
            }
            Wake::CountOut => {
                self.sleepers = self.sleepers.saturating_sub(1);
                None
            }
        };
        vec![(self, next)]
    }

    fn put_steps(mut self, left: u8, put: Put) -> Vec<(Shared, At)> {
        let next = match put {
            Put::Turn if left == 0 => return vec![(self, At::Gone)],
            Put::Turn if self.producers_turn => return Vec::new(),
            Put::Turn => {
                self.producers_turn = true;
                Put::Publish
            }
            Put::Publish if self.closed => {
                self.producers_turn = false;
                return vec![(self, At::Gone)];
            }
            Put::Publish => {
                self.put += 1;
                Put::Wake(Wake::LookForTokens)
            }
            Put::Wake(wake) => {
                let at = |wake: Option<_>| At::Producer(left, wake.map_or(Put::Leave, Put::Wake));
                return self.wake_steps(wake).into_iter().map(|(s, wake)| (s, at(wake))).collect();
            }
            Put::Leave => {
                self.producers_turn = false;
                return vec![(self, At::Producer(left - 1, Put::Turn))];
            }
        };
        vec![(self, At::Producer(left, next))]
    }

    fn get_steps(mut self, who: usize, mut me: Consumer, order: Order) -> Vec<(Shared, At)> {
        let there = self.put > self.taken;
        me.get = match me.get {
            Get::Turn if me.left == 0 => return vec![(self, At::Working)],
            Get::Turn if self.consumers_turn => return Vec::new(),
            Get::Turn => {
                self.consumers_turn = true;
                Get::Look
            }
            Get::Look if there => Get::Take,
            Get::Look => Get::LeaveTurnToSleep,
            Get::Take => {
                self.taken += 1;
                me.left -= 1;
                Get::LeaveTurn
            }
            Get::LeaveTurn => {
                self.consumers_turn = false;
                let wakes = me.slept && order != Order::WakeNoFurther;
                me.slept = false;
                if wakes { Get::LookForMore } else { Get::End }
            }
            Get::LookForMore if there => Get::Wake(Wake::LookForTokens),
            Get::LookForMore => Get::End,
            Get::Wake(wake) => {
                let at = |wake: Option<_>| {
                    At::Consumer(Consumer { get: wake.map_or(Get::End, Get::Wake), ..me })
                };
                return self.wake_steps(wake).into_iter().map(|(s, wake)| (s, at(wake))).collect();
            }
            Get::LeaveTurnToSleep => {
                self.consumers_turn = false;
                me.slept = true;
                match order {
                    _ if me.late => return vec![(self, At::Gone)],
                    Order::LookThenCountIn => Get::LookForClose,
                    _ => Get::CountIn,
                }
            }
            Get::CountIn => {
                self.sleepers += 1;
                if order == Order::LookThenCountIn { Get::TakeToken } else { Get::LookForClose }
            }
            Get::LookForClose => Get::LookAgain(self.closed),
            Get::LookAgain(closed) if order == Order::LookThenCountIn => match (closed, there) {
                (true, false) => return vec![(self, At::Gone)],
                (_, true) => Get::Turn,
                (false, false) => Get::CountIn,
            },
            Get::LookAgain(closed) if closed || there => Get::CountOut(closed && !there),
            Get::LookAgain(_) => Get::TakeToken,
            Get::TakeToken if self.tokens > 0 => {
                self.tokens -= 1;
                Get::Turn
            }
            Get::TakeToken => Get::Sleep,
            Get::Sleep if self.tokens > 0 => Get::TakeToken,
            Get::Sleep => {
                self.asleep[who] = true;
                Get::Asleep
            }
            Get::Asleep if self.woken[who] => {
                (self.asleep[who], self.woken[who]) = (false, false);
                Get::TakeToken
            }
            Get::Asleep => return Vec::new(),
            Get::CountOut(ends) => {
                let before = self.sleepers;
                self.sleepers = before.saturating_sub(1);
                match (before, ends) {
                    (0, _) => Get::TakeLeftToken(ends),
                    (_, true) => Get::End,
                    (_, false) => Get::Turn,
                }
            }
            Get::TakeLeftToken(ends) => {
                self.tokens = self.tokens.saturating_sub(1);
                if ends { Get::End } else { Get::Turn }
            }
            Get::End if self.closed && !there => return vec![(self, At::Gone)],
            Get::End => Get::Turn,
        };
        vec![(self, At::Consumer(me))]
    }

    fn close_steps(mut self, close: Close) -> Vec<(Shared, At)> {
        match close {
            Close::Set => {
                self.closed = true;
                vec![(self, At::Closer(Close::Look))]
            }
            Close::Look => vec![(self, At::Closer(Close::Wake(self.sleepers)))],
            Close::Wake(tokens) => {
                self.tokens += tokens;
                self.woken = self.asleep;
                vec![(self, At::Gone)]
            }
        }
    }
}

impl Protocol for Order {
    type Shared = Shared;
    type At = At;

    const GONE: At = At::Gone;

    fn steps(&self, mut shared: Shared, who: usize, at: At) -> Vec<(Shared, At)> {
        match at {
            At::Producer(left, put) => shared.put_steps(left, put),
            At::Consumer(me) => {
                let mut next = shared.get_steps(who, me, *self);
                if me.hurry && me.get == Get::Asleep && !shared.woken[who] {
                    shared.asleep[who] = false;
                    let late = Consumer { get: Get::CountOut(false), late: true, ..me };
                    next.push((shared, At::Consumer(late)));
                }
                next
            }
            At::Guardian if shared.news > 0 || shared.awaits_somebody() => {
                shared.news = shared.news.saturating_sub(1);
                let woken = shared.add_token().into_iter();
                woken.map(|shared| (shared, At::Guardian)).collect()
            }
            At::Closer(close) => shared.close_steps(close),
            At::Guardian | At::Working | At::Gone => Vec::new(),
        }
    }

    fn bury(&self, shared: &mut Shared, who: usize, at: At) -> bool {
        let At::Consumer(me) = at else { return false };
        let in_turn = [Get::Look, Get::Take, Get::LeaveTurn, Get::LeaveTurnToSleep];
        if in_turn.contains(&me.get) {
            shared.consumers_turn = false;
        }
        (shared.asleep[who], shared.woken[who]) = (false, false);
        shared.news += u8::from(*self != Order::NoNudge);
        true
    }

    fn wrong(&self, shared: &Shared) -> Option<&'static str> {
        (shared.taken > shared.put).then_some("an item taken that was never put")
    }

    fn stuck(&self, shared: &Shared, all: &[At]) -> Option<&'static str> {
        let waits = all.iter().any(|at| matches!(at, At::Consumer(_)));
        let beside = shared.put > shared.taken || shared.closed;
        (waits && beside).then_some("a sleeper without a waker")
    }
}

const fn consumer(left: u8) -> At {
    let get = Get::Turn;
    At::Consumer(Consumer { left, get, hurry: false, late: false, slept: false })
}

const fn hurried(left: u8) -> At {
    let get = Get::Turn;
    At::Consumer(Consumer { left, get, hurry: true, late: false, slept: false })
}

const fn producer(left: u8) -> At {
    At::Producer(left, Put::Turn)
}

fn run<const N: usize>(order: Order, all: [At; N], deaths: u8) -> (Option<&'static str>, usize) {
    explore(&order, Shared::NEW, all, deaths)
}

#[test]
fn no_interleaving_with_a_death_leaves_one_of_a_crowd_asleep_beside_an_item() {
    let all = [consumer(2), consumer(1), producer(2), producer(1), At::Guardian];
    let (wrong, states) = run(Order::Right, all, 1);
    assert_eq!(wrong, None);
    assert!(states > 10_000, "{states} states");
}

#[test]
fn nor_does_one_with_a_consumer_that_waits_a_limited_time() {
    let all = [consumer(2), hurried(1), producer(2), At::Guardian];
    assert_eq!(run(Order::Right, all, 1).0, None);
}

#[test]
fn closing_wakes_a_crowd_in_any_interleaving() {
    let all = [consumer(1), consumer(1), producer(1), At::Closer(Close::Set), At::Guardian];
    assert_eq!(run(Order::Right, all, 1).0, None);
}

#[test]
fn the_explorer_finds_the_orders_that_are_wrong() {
    let finds = |order, deaths| {
        let all = [consumer(1), consumer(2), producer(2), At::Guardian];
        run(order, all, deaths).0.is_some()
    };
    assert!(finds(Order::LookThenCountIn, 0), "looking, then counting in");
    assert!(finds(Order::NoNudge, 1), "no nudge");
    assert!(finds(Order::WakeNoFurther, 0), "waking no further");
}
