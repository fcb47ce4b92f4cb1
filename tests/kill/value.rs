//! `Value`: killed at each instruction of its changes, the next borrower gets it and is told.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use multiproc::Value;

/// Two numbers that are the same whenever nobody has them borrowed.
type Pair = Value<[u64; 2]>;

/// Borrows the pair, mends it if a borrower was killed, and says whether one was.
fn mend(pair: &Pair) -> bool {
    let mut both = pair.lock().unwrap();
    if both.owner_died() {
        both[1] = both[0];
    }
    assert_eq!(both[0], both[1], "half changed, and nobody said so");
    both.owner_died()
}

struct Update;

impl Scenario for Update {
    type State = Pair;

    fn setup(&self) -> Pair {
        Value::new([0, 0]).unwrap()
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, pair: &Pair, _index: usize, tally: &Tally) {
        if mend(pair) {
            tally.owner_died();
        }
    }

    fn victim(&self, pair: &Pair, marker: Marker) {
        let held = pair.lock().unwrap();
        marker.step_from_here();
        drop(held);
        let change = |both: &mut [u64; 2]| {
            both[0] += 1;
            std::hint::black_box(&mut *both);
            both[1] += 1;
        };
        pair.update(change).unwrap();
    }

    fn stuck(&self, _pair: &Pair, after: &After) -> Option<String> {
        let asleep = &after.asleep;
        (!asleep.is_empty()).then(|| format!("sleepers {asleep:?} of a value nobody has borrowed"))
    }

    fn proceed(&self, pair: &Pair, _after: &After, tally: &Tally) {
        // A look takes no news away from who borrows next.
        pair.get().unwrap();
        if mend(pair) {
            tally.owner_died();
        }
        assert!(!mend(pair), "told twice");
    }
}

pub(crate) fn it_is_handed_on_and_told_of_from_every_instruction() {
    let report = sweep(&Config::from_env(), "value", &Update);
    report.assert_clean();
    assert!(report.owner_deaths > 0);
}
