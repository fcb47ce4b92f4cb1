//! `Barrier`: a party killed at each instruction of its wait, as the first and as the last to come; and at
//! random.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use super::storm::{Role, Turn, Weather, storm};
use multiproc::{Barrier, Error};

struct Wait {
    /// Whether the victim is the last to arrive, and so the one that lets the others go.
    last: bool,
    action: bool,
}

fn nothing() {
    std::hint::black_box(());
}

impl Scenario for Wait {
    type State = Barrier;

    fn setup(&self) -> Barrier {
        let builder = Barrier::builder(if self.last { 3 } else { 4 });
        if self.action { builder.action(nothing) } else { builder }.build().unwrap()
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, barrier: &Barrier, _index: usize, tally: &Tally) {
        match barrier.wait() {
            Ok(_) => {}
            Err(Error::BrokenBarrierError { .. }) => tally.owner_died(),
            Err(error) => panic!("{error}"),
        }
    }

    fn victim(&self, barrier: &Barrier, marker: Marker) {
        marker.step_from_here();
        barrier.wait().unwrap();
    }

    fn unblock(&self, barrier: &Barrier) -> bool {
        barrier.wait().unwrap();
        true
    }

    /// Those who wait look after the dead from time to time, so they may be asleep for a moment; that
    /// they come to their end is what the round waits for.
    fn stuck(&self, _barrier: &Barrier, _after: &After) -> Option<String> {
        None
    }

    fn proceed(&self, barrier: &Barrier, _after: &After, _tally: &Tally) {
        // Long enough that who is noticed is noticed; one that died before it came is nobody's loss.
        let patience = std::time::Instant::now() + std::time::Duration::from_millis(100);
        while barrier.waiting() > 0 && std::time::Instant::now() < patience {
            std::thread::yield_now();
        }
        barrier.abort().unwrap();
        barrier.reset().unwrap();
    }

    fn verify(&self, barrier: &Barrier) {
        assert_eq!(barrier.waiting(), 0);
        assert!(!barrier.is_broken());
        barrier.wait_timeout(std::time::Duration::ZERO).unwrap_err();
    }
}

pub(crate) fn a_party_killed_at_any_instruction_lets_the_others_go() {
    let config = Config::from_env().shortened(5);
    for (last, action) in [(true, false), (true, true), (false, false)] {
        let name = format!("barrier, last: {last}, action: {action}");
        let report = sweep(&config, &name, &Wait { last, action });
        report.assert_clean();
        assert!(report.owner_deaths > 0, "nobody was told");
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
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    let account = |_: &_| {
        assert_eq!(barrier.waiting(), 0);
        barrier.reset().unwrap();
        barrier.wait_timeout(std::time::Duration::ZERO).unwrap_err();
    };
    storm(&Weather::from_env(), "barrier", &[party], wind_down, account);
}
