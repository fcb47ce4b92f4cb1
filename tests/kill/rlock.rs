//! `RLock`: released and acquired again, each twice over, killed at each instruction.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use super::storm::{Role, Weather, storm};
use multiproc::{PlainCell, RLock, Shared};

type Account = (RLock, Shared<PlainCell<[u64; 2]>>);

fn account() -> Account {
    (RLock::new().unwrap(), Shared::new(PlainCell::new([0; 2])).unwrap())
}

/// Counts once under the lock held twice; true if the last holder died.
fn count((lock, cell): &Account) -> bool {
    let outer = lock.acquire().unwrap();
    let [first, second] = cell.get();
    assert!(outer.owner_died() || first == second, "nobody died");
    cell.set([second + 1, second]);
    let inner = lock.acquire().unwrap();
    cell.set([second + 1; 2]);
    let died = outer.owner_died();
    drop(outer);
    drop(inner);
    died
}

struct ReleaseAndAcquire;

impl Scenario for ReleaseAndAcquire {
    type State = Account;

    fn setup(&self) -> Account {
        account()
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, account: &Account, _index: usize, tally: &Tally) {
        if count(account) {
            tally.owner_died();
        }
    }

    fn victim(&self, account: &Account, marker: Marker) {
        let outer = account.0.acquire().unwrap();
        let inner = account.0.acquire().unwrap();
        marker.step_from_here();
        drop(inner);
        drop(outer);
        count(account);
    }

    fn stuck(&self, _account: &Account, after: &After) -> Option<String> {
        // musl forgets a mutex before it wakes who waits for it: sleepers look again by themselves there, after
        // a tenth of a second.
        let asleep = &after.asleep;
        (!asleep.is_empty() && cfg!(not(target_env = "musl")))
            .then(|| format!("sleepers {asleep:?} of a lock whose holder died"))
    }

    fn proceed(&self, account: &Account, after: &After, tally: &Tally) {
        let told = count(account);
        assert!(!(told && after.finished), "told of a dead owner where none died");
        if told {
            tally.owner_died();
        }
    }

    fn verify(&self, (lock, cell): &Account) {
        assert!(!lock.locked());
        let [first, second] = cell.get();
        assert!(first == second && second >= 3, "two sleepers and a survivor");
    }
}

pub(crate) fn it_is_handed_on_from_every_instruction_of_its_holder() {
    let report = sweep(&Config::from_env(), "recursive lock", &ReleaseAndAcquire);
    report.assert_clean();
    assert!(report.owner_deaths > 0);
}

pub(crate) fn a_storm_loses_no_count() {
    let account = account();
    let run = |turn: &super::storm::Turn<'_>| {
        while turn.goes_on() {
            count(&account);
        }
    };
    let worker = Role { name: "worker", processes: 3, mortal: true, run: &run };
    storm(
        &Weather::from_env(),
        "recursive lock",
        &[worker],
        || {},
        |totals| {
            let [_, counted] = account.1.get();
            assert!(counted <= totals.beats && totals.beats - counted <= totals.kills as u64 + 3);
        },
    );
}
