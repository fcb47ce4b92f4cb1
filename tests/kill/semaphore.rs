//! `Semaphore`: released, acquired and owned beside sleepers, killed at each instruction.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use super::storm::{Role, Turn, Weather, storm};
use multiproc::{BoundedSemaphore, Event, RawValue, Semaphore};
use std::time::Duration;

/// Than one that waits sleeps before it watches the owners.
const LONGER_THAN_A_SLICE: Duration = Duration::from_millis(30);

/// Release beside two sleepers: there is never a free permit beside one of them.
struct Release;

impl Scenario for Release {
    type State = Semaphore;

    fn setup(&self) -> Semaphore {
        Semaphore::new(0).unwrap()
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, semaphore: &Semaphore, _index: usize, _tally: &Tally) {
        semaphore.acquire().unwrap();
    }

    fn victim(&self, semaphore: &Semaphore, marker: Marker) {
        marker.step_from_here();
        semaphore.release().unwrap();
    }

    fn stuck(&self, semaphore: &Semaphore, after: &After) -> Option<String> {
        let (asleep, value) = (after.asleep.len(), semaphore.value());
        (asleep > 0 && value > 0).then(|| format!("{asleep} asleep beside {value} permits"))
    }

    fn proceed(&self, semaphore: &Semaphore, after: &After, _tally: &Tally) {
        after.asleep.iter().for_each(|_| semaphore.release().unwrap());
    }

    fn verify(&self, semaphore: &Semaphore) {
        assert_eq!(semaphore.value(), 0);
    }
}

/// Acquiring, with another asleep behind the victim: woken and killed before it takes the permit, it
/// leaves the permit to the other.
struct AcquireAndSleep;

impl Scenario for AcquireAndSleep {
    type State = Semaphore;

    fn setup(&self) -> Semaphore {
        Semaphore::new(1).unwrap()
    }

    fn sleepers(&self) -> usize {
        1
    }

    fn sleep(&self, semaphore: &Semaphore, _index: usize, _tally: &Tally) {
        semaphore.acquire().unwrap();
    }

    fn victim(&self, semaphore: &Semaphore, marker: Marker) {
        semaphore.acquire().unwrap();
        marker.step_from_here();
        semaphore.release().unwrap();
        semaphore.acquire().unwrap();
    }

    fn unblock(&self, semaphore: &Semaphore) -> bool {
        semaphore.release().unwrap();
        true
    }

    fn stuck(&self, semaphore: &Semaphore, after: &After) -> Option<String> {
        let (asleep, value) = (after.asleep.len(), semaphore.value());
        (asleep > 0 && value > 0).then(|| format!("{asleep} asleep beside {value} permits"))
    }

    fn proceed(&self, semaphore: &Semaphore, after: &After, _tally: &Tally) {
        after.asleep.iter().for_each(|_| semaphore.release().unwrap());
    }
}

/// An owned permit given back and taken again beside two that want one: it is always somebody's.
struct Permits {
    /// Whether the sleepers own theirs too.
    owned: bool,
    /// How many more permits the victim owns meanwhile: past the sixteenth, they go another way.
    more: u32,
}

impl Permits {
    fn take_and_return(&self, semaphore: &BoundedSemaphore) {
        if self.owned {
            drop(semaphore.permit().unwrap());
        } else {
            semaphore.acquire().unwrap();
            semaphore.release().unwrap();
        }
    }
}

impl Scenario for Permits {
    type State = BoundedSemaphore;

    fn setup(&self) -> BoundedSemaphore {
        BoundedSemaphore::new(1 + self.more).unwrap()
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, semaphore: &BoundedSemaphore, _index: usize, _tally: &Tally) {
        self.take_and_return(semaphore);
    }

    fn victim(&self, semaphore: &BoundedSemaphore, marker: Marker) {
        let more: Vec<_> = (0..self.more).map(|_| semaphore.permit().unwrap()).collect();
        let permit = semaphore.permit().unwrap();
        marker.step_from_here();
        drop(permit);
        drop(semaphore.permit().unwrap());
        // The process ends with them: it has been stepped through giving back often enough.
        std::mem::forget(more);
    }

    /// The head of the sleepers looks after the dead from time to time, so some may be asleep for a
    /// moment; that they all come to their end with nobody acting is what the round waits for.
    fn stuck(&self, _semaphore: &BoundedSemaphore, _after: &After) -> Option<String> {
        None
    }

    fn proceed(&self, _semaphore: &BoundedSemaphore, _after: &After, _tally: &Tally) {}

    fn verify(&self, semaphore: &BoundedSemaphore) {
        // A sleeper that has no owner is not killed here, so nothing is lost and nothing made up.
        assert_eq!(semaphore.value(), 1 + self.more);
        drop(semaphore.permit().unwrap());
    }
}

/// One that waits for an owned permit, long enough to watch its owner, who gives it back.
struct Watch;

impl Scenario for Watch {
    /// The semaphore; whether the owner is to give its permit back; how often the victim was to be unblocked.
    type State = (BoundedSemaphore, Event, RawValue<u32>);

    fn setup(&self) -> Self::State {
        let semaphore = BoundedSemaphore::new(1).unwrap();
        (semaphore, Event::new().unwrap(), RawValue::new(0).unwrap())
    }

    fn sleep(&self, (semaphore, enough, _): &Self::State, _index: usize, _tally: &Tally) {
        let _permit = semaphore.permit().unwrap();
        enough.wait().unwrap();
    }

    fn victim(&self, (semaphore, ..): &Self::State, marker: Marker) {
        marker.step_from_here();
        drop(semaphore.permit().unwrap());
    }

    fn unblock(&self, (_, enough, times): &Self::State) -> bool {
        if times.fetch_add(1) == 0 {
            std::thread::sleep(LONGER_THAN_A_SLICE);
        } else {
            enough.set().unwrap();
        }
        true
    }

    fn stuck(&self, _state: &Self::State, _after: &After) -> Option<String> {
        None
    }

    fn proceed(&self, (semaphore, enough, _): &Self::State, _after: &After, _tally: &Tally) {
        enough.set().unwrap();
        drop(semaphore.permit().unwrap());
    }

    fn verify(&self, (semaphore, ..): &Self::State) {
        assert_eq!(semaphore.value(), 1);
    }
}

pub(crate) fn one_that_watches_the_owner_leaves_no_trace() {
    let config = Config::from_env().shortened(4);
    sweep(&config, "permit, its owner watched", &Watch).assert_clean();
}

pub(crate) fn release_beside_sleepers() {
    sweep(&Config::from_env(), "semaphore, release", &Release).assert_clean();
}

pub(crate) fn acquire_that_is_woken_leaves_the_permit_to_the_next() {
    sweep(&Config::from_env(), "semaphore, acquire", &AcquireAndSleep).assert_clean();
}

pub(crate) fn owned_permits_come_back_from_every_instruction() {
    for (owned, more) in [(true, 0), (false, 0), (true, 16), (false, 16)] {
        let sleepers = if owned { "owned" } else { "bare" };
        let name = format!("permit after {more} more, {sleepers} sleepers");
        let config = Config::from_env().shortened(4);
        sweep(&config, &name, &Permits { owned, more }).assert_clean();
    }
}

pub(crate) fn a_storm_loses_no_owned_permit() {
    let semaphore = BoundedSemaphore::new(2).unwrap();
    let run = |turn: &Turn<'_>| {
        while turn.goes_on() {
            drop(semaphore.permit().unwrap());
            // Else those who spin here leave the harness little time.
            std::thread::yield_now();
        }
    };
    let owner = Role { name: "owner", processes: 4, mortal: true, run: &run };
    storm(
        &Weather::from_env(),
        "owned permits",
        &[owner],
        || {},
        |_| assert_eq!(semaphore.value(), 2, "all of them, and no more"),
    );
}
