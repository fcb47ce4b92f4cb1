//! `Event`: set beside sleepers, waited for, killed at each instruction.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use super::storm::{Role, Turn, Weather, storm};
use multiproc::Event;

struct Set;

impl Scenario for Set {
    type State = Event;

    fn setup(&self) -> Event {
        Event::new().unwrap()
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, event: &Event, _index: usize, _tally: &Tally) {
        event.wait().unwrap();
    }

    fn victim(&self, event: &Event, marker: Marker) {
        marker.step_from_here();
        event.set().unwrap();
        event.clear();
        event.set().unwrap();
    }

    fn stuck(&self, event: &Event, after: &After) -> Option<String> {
        let asleep = after.asleep.len();
        // Two of two, or none: they are woken together.
        let torn = asleep == 1 || (asleep > 0 && event.is_set());
        torn.then(|| format!("{asleep} asleep, set: {}", event.is_set()))
    }

    fn proceed(&self, event: &Event, _after: &After, _tally: &Tally) {
        event.set().unwrap();
    }

    fn verify(&self, event: &Event) {
        assert!(event.is_set());
    }
}

/// Waiting beside another: killed anywhere in it, it takes nothing from the other.
struct Wait;

impl Scenario for Wait {
    type State = Event;

    fn setup(&self) -> Event {
        Event::new().unwrap()
    }

    fn sleep(&self, event: &Event, _index: usize, _tally: &Tally) {
        event.wait().unwrap();
    }

    fn victim(&self, event: &Event, marker: Marker) {
        marker.step_from_here();
        event.wait().unwrap();
    }

    fn unblock(&self, event: &Event) -> bool {
        event.set().unwrap();
        true
    }

    fn stuck(&self, event: &Event, after: &After) -> Option<String> {
        (!after.asleep.is_empty() && event.is_set()).then(|| "asleep beside a set event".into())
    }

    fn proceed(&self, event: &Event, _after: &After, _tally: &Tally) {
        event.set().unwrap();
    }
}

pub(crate) fn set_wakes_all_or_nobody() {
    sweep(&Config::from_env(), "event, set", &Set).assert_clean();
}

pub(crate) fn wait_leaves_no_trace() {
    sweep(&Config::from_env(), "event, wait", &Wait).assert_clean();
}

pub(crate) fn a_storm_leaves_nobody_asleep() {
    let event = Event::new().unwrap();
    let wait = |turn: &Turn<'_>| {
        while turn.goes_on() {
            event.wait().unwrap();
        }
    };
    let set = |turn: &Turn<'_>| {
        while turn.goes_on() {
            event.set().unwrap();
            event.clear();
        }
    };
    let waiter = Role { name: "waiter", processes: 2, mortal: true, run: &wait };
    let setter = Role { name: "setter", processes: 2, mortal: true, run: &set };
    storm(&Weather::from_env(), "event", &[waiter, setter], || event.set().unwrap(), |_| {});
}
