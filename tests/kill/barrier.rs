//! `Barrier`: a party killed at each instruction of its wait, as the first and as the last to come; and at
//! random.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use super::storm::{Role, Turn, Weather, storm};
use multiproc::{Barrier, Error, RawValue};
use std::time::Duration;

/// Than a party sleeps before it watches the others.
const LONGER_THAN_A_SLICE: Duration = Duration::from_millis(30);

#[derive(Clone, Copy, Default)]
struct Wait {
    /// Whether the victim is the last to arrive, and so the one that lets the others go.
    last: bool,
    action: bool,
    /// Whether the victim, where it is not the last, sleeps for so long that it watches the others.
    watches: bool,
    /// Whether the first that is woken by the victim's death is killed as well.
    twice: bool,
}

fn nothing() {
    std::hint::black_box(());
}

impl Scenario for Wait {
    /// The barrier, and how often the victim was to be unblocked.
    type State = (Barrier, RawValue<u32>);

    fn setup(&self) -> Self::State {
        let builder = Barrier::builder(if self.last { 3 } else { 4 });
        let builder = if self.action { builder.action(nothing) } else { builder };
        (builder.build().unwrap(), RawValue::new(0).unwrap())
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, (barrier, _): &Self::State, _index: usize, tally: &Tally) {
        match barrier.wait() {
            Ok(_) => {}
            Err(Error::BrokenBarrierError { .. }) => tally.owner_died(),
            Err(error) => panic!("{error}"),
        }
    }

    fn victim(&self, (barrier, _): &Self::State, marker: Marker) {
        marker.step_from_here();
        barrier.wait().unwrap();
    }

    fn kills_the_woken(&self) -> bool {
        self.twice
    }

    fn unblock(&self, (barrier, times): &Self::State) -> bool {
        if self.watches && times.fetch_add(1) == 0 {
            std::thread::sleep(LONGER_THAN_A_SLICE);
        } else {
            barrier.wait().unwrap();
        }
        true
    }

    /// Those who wait look after the dead from time to time, so they may be asleep for a moment; that
    /// they come to their end is what the round waits for. Where two were killed, one of them had waited
    /// in the round, and the others have no timer any more.
    fn stuck(&self, _state: &Self::State, after: &After) -> Option<String> {
        let forgotten = after.woken > 0 && !after.asleep.is_empty();
        forgotten.then(|| format!("{} asleep beside the dead", after.asleep.len()))
    }

    fn proceed(&self, (barrier, _): &Self::State, _after: &After, _tally: &Tally) {
        // Long enough that who is noticed is noticed; one that died before it came is nobody's loss.
        let patience = std::time::Instant::now() + Duration::from_millis(100);
        while barrier.waiting() > 0 && std::time::Instant::now() < patience {
            std::thread::yield_now();
        }
        barrier.abort().unwrap();
        barrier.reset().unwrap();
    }

    fn verify(&self, (barrier, _): &Self::State) {
        assert_eq!(barrier.waiting(), 0);
        assert!(!barrier.is_broken());
        barrier.wait_timeout(Duration::ZERO).unwrap_err();
    }
}

pub(crate) fn a_party_killed_at_any_instruction_lets_the_others_go() {
    let config = Config::from_env().shortened(5);
    let wait = Wait::default();
    let (last, acting) = (Wait { last: true, ..wait }, Wait { last: true, action: true, ..wait });
    let watching = Wait { watches: true, ..wait };
    for (what, wait) in
        [("last", last), ("last, with an action", acting), ("first", wait), ("watching", watching)]
    {
        let report = sweep(&config, &format!("barrier, {what}"), &wait);
        report.assert_clean();
        assert!(report.owner_deaths > 0, "nobody was told");
    }
}

/// The victim's death wakes one of those who watch it, which is killed before it acts.
pub(crate) fn parties_that_watch_need_none_of_the_two_that_are_killed() {
    let config = Config::from_env().shortened(5);
    let last = Wait { last: true, twice: true, ..Wait::default() };
    for (what, wait) in [("last", last), ("last, with an action", Wait { action: true, ..last })] {
        let report = sweep(&config, &format!("barrier, two killed, {what}"), &wait);
        report.assert_clean();
        assert!(report.woken > 0, "none was woken");
    }
}

/// Parties come, pass, are killed, and mend the barrier that breaks by it. One that was not killed before it
/// came never waits without end, since the next in its place comes.
pub(crate) fn a_storm_leaves_nobody_waiting() {
    let barrier = Barrier::builder(3).action(nothing).build().unwrap();
    let run = |turn: &Turn<'_>| {
        while turn.goes_on() {
            match barrier.wait() {
                Ok(_) => {}
                Err(Error::BrokenBarrierError { .. }) => barrier.reset().unwrap(),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let party = Role { name: "party", processes: 4, mortal: true, run: &run };
    let wind_down = || {
        for _ in 0..200 {
            barrier.reset().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let account = |_: &_| {
        assert_eq!(barrier.waiting(), 0);
        barrier.reset().unwrap();
        barrier.wait_timeout(Duration::ZERO).unwrap_err();
    };
    storm(&Weather::from_env(), "barrier", &[party], wind_down, account);
}
