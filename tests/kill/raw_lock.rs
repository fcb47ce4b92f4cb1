//! `RawLock`: acquired and released, killed at each instruction, and in a storm.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use super::storm::{Role, Weather, storm};
use multiproc::{RawLock, Shared};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

multiproc::shared! {
    /// Two counts that are equal whenever nobody holds the lock.
    struct Account {
        lock: RawLock,
        first: AtomicU64,
        second: AtomicU64,
        repaired: AtomicU64,
    }
}

impl Account {
    fn shared() -> Shared<Account> {
        let zero = || AtomicU64::new(0);
        let (first, second, repaired) = (zero(), zero(), zero());
        Shared::new(Account { lock: RawLock::new(), first, second, repaired }).unwrap()
    }

    /// Counts once; true if the last holder died.
    fn count(&self) -> bool {
        let guard = self.lock.acquire().unwrap();
        let (first, second) = (self.first.load(SeqCst), self.second.load(SeqCst));
        if guard.owner_died() {
            self.repaired.fetch_add(u64::from(first != second), SeqCst);
        } else {
            assert_eq!(first, second, "nobody died");
        }
        self.first.store(second + 1, SeqCst);
        self.second.store(second + 1, SeqCst);
        guard.owner_died()
    }
}

struct ReleaseAndAcquire;

impl Scenario for ReleaseAndAcquire {
    type State = Shared<Account>;

    fn setup(&self) -> Shared<Account> {
        Account::shared()
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, account: &Shared<Account>, _index: usize, tally: &Tally) {
        if account.count() {
            tally.owner_died();
        }
    }

    fn victim(&self, account: &Shared<Account>, marker: Marker) {
        let guard = account.lock.acquire().unwrap();
        marker.step_from_here();
        drop(guard);
        account.count();
    }

    fn stuck(&self, _account: &Shared<Account>, after: &After) -> Option<String> {
        // musl forgets a mutex before it wakes who waits for it: sleepers look again by themselves there, after
        // a tenth of a second.
        let asleep = &after.asleep;
        (!asleep.is_empty() && cfg!(not(target_env = "musl")))
            .then(|| format!("sleepers {asleep:?} of a lock whose holder died"))
    }

    fn proceed(&self, account: &Shared<Account>, after: &After, tally: &Tally) {
        let told = account.count();
        assert!(!(told && after.finished), "told of a dead owner where none died");
        if told {
            tally.owner_died();
        }
    }

    fn verify(&self, account: &Shared<Account>) {
        assert!(!account.lock.locked());
        assert_eq!(account.first.load(SeqCst), account.second.load(SeqCst));
        assert!(account.second.load(SeqCst) >= 3, "two sleepers and a survivor");
    }
}

pub(crate) fn it_is_handed_on_from_every_instruction_of_its_holder() {
    let report = sweep(&Config::from_env(), "raw lock", &ReleaseAndAcquire);
    report.assert_clean();
    assert!(report.owner_deaths > 0);
}

pub(crate) fn a_storm_loses_no_count() {
    let account = Account::shared();
    let run = |turn: &super::storm::Turn<'_>| {
        while turn.goes_on() {
            account.count();
        }
    };
    let worker = Role { name: "worker", processes: 3, mortal: true, run: &run };
    storm(
        &Weather::from_env(),
        "raw lock",
        &[worker],
        || {},
        |totals| {
            let counted = account.second.load(SeqCst);
            println!("  {counted} counted, {} repaired", account.repaired.load(SeqCst));
            // A process beats before each count, and loses at most the one it is killed in.
            assert!(counted <= totals.beats && totals.beats - counted <= totals.kills as u64 + 3);
        },
    );
}
