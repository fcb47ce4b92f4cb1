//! `Condition`: notified beside sleepers, waited in, killed at each instruction.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use super::storm::{Role, Turn, Weather, storm};
use multiproc::{Condition, Value};

/// Tokens that are handed out one a notification.
type State = (Condition, Value<u64>);

fn state() -> State {
    (Condition::new().unwrap(), Value::new(0).unwrap())
}

fn take(state: &State) {
    let (condition, tokens) = state;
    let mut guard = condition.acquire().unwrap();
    guard.wait_for(|| tokens.get().unwrap() > 0).unwrap();
    tokens.update(|n| *n -= 1).unwrap();
}

fn put(state: &State, count: u64, notified: u32) {
    let (condition, tokens) = state;
    let guard = condition.acquire().unwrap();
    tokens.update(|n| *n += count).unwrap();
    guard.notify(notified).unwrap();
}

/// Notifying is one step: nobody is asleep once it has happened, and nobody is waited for.
struct Notify {
    all: bool,
}

impl Scenario for Notify {
    type State = State;

    fn setup(&self) -> State {
        state()
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, state: &State, _index: usize, _tally: &Tally) {
        take(state);
    }

    fn victim(&self, state: &State, marker: Marker) {
        let (condition, tokens) = state;
        let guard = condition.acquire().unwrap();
        tokens.set(2).unwrap();
        marker.step_from_here();
        guard.notify(if self.all { u32::MAX } else { 2 }).unwrap();
        drop(guard);
    }

    fn stuck(&self, _state: &State, after: &After) -> Option<String> {
        let asleep = after.asleep.len();
        let torn = asleep == 1 || (asleep > 0 && after.finished);
        torn.then(|| format!("{asleep} asleep"))
    }

    fn proceed(&self, state: &State, _after: &After, _tally: &Tally) {
        put(state, 0, u32::MAX);
    }

    fn verify(&self, state: &State) {
        assert_eq!(state.1.get().unwrap(), 0);
    }
}

/// A waiter that is woken and killed before it took its token leaves the wake-up to the next.
struct Wait {
    /// How often the victim holds the lock when it waits.
    depth: usize,
}

impl Scenario for Wait {
    type State = State;

    fn setup(&self) -> State {
        state()
    }

    fn sleep(&self, state: &State, _index: usize, _tally: &Tally) {
        take(state);
    }

    fn victim(&self, state: &State, marker: Marker) {
        let (condition, tokens) = state;
        let outer: Vec<_> = (1..self.depth).map(|_| condition.acquire().unwrap()).collect();
        let mut guard = condition.acquire().unwrap();
        marker.step_from_here();
        while tokens.get().unwrap() == 0 {
            guard.wait().unwrap();
        }
        assert!(format!("{condition:?}").contains(&format!(", {})>", self.depth)));
        drop(outer);
    }

    /// Called when the victim sleeps and the other is behind it, or before it.
    fn unblock(&self, state: &State) -> bool {
        put(state, 1, 1);
        true
    }

    fn stuck(&self, state: &State, after: &After) -> Option<String> {
        // If the victim has returned, the wake-up was its own, and so is the rest.
        let wasted = !after.asleep.is_empty() && state.1.get().unwrap() > 0 && !after.finished;
        let returned = format!("{:?}", state.0).ends_with(", 1)>")
            && state
                .0
                .try_acquire()
                .is_ok_and(|guard| guard.is_some_and(|guard| guard.owner_died()));
        (wasted && !returned).then(|| "asleep beside a token".into())
    }

    fn proceed(&self, state: &State, _after: &After, _tally: &Tally) {
        put(state, 1, 1);
        put(state, 1, 1);
    }
}

pub(crate) fn notify_wakes_all_it_should_or_nobody() {
    for all in [true, false] {
        let name = if all { "condition, notify_all" } else { "condition, notify" };
        sweep(&Config::from_env(), name, &Notify { all }).assert_clean();
    }
}

pub(crate) fn a_woken_waiter_that_dies_is_replaced() {
    sweep(&Config::from_env(), "condition, wait", &Wait { depth: 1 }).assert_clean();
    let config = Config::from_env().shortened(2);
    sweep(&config, "condition, wait, held three times", &Wait { depth: 3 }).assert_clean();
}

pub(crate) fn a_storm_leaves_nobody_asleep() {
    let state = state();
    let wait = |turn: &Turn<'_>| {
        while turn.goes_on() {
            state.0.acquire().unwrap().wait().unwrap();
        }
    };
    let notify = |turn: &Turn<'_>| {
        while turn.goes_on() {
            put(&state, 0, 1);
            std::thread::yield_now();
        }
    };
    let waiter = Role { name: "waiter", processes: 3, mortal: true, run: &wait };
    let notifier = Role { name: "notifier", processes: 2, mortal: true, run: &notify };
    let wind_down = || {
        for _ in 0..200 {
            put(&state, 0, u32::MAX);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    storm(&Weather::from_env(), "condition", &[waiter, notifier], wind_down, |_| {});
}
