//! Queues in memory that a hostile process writes to.

mod hostile_peers;
mod scribbled_queue;
mod support;

use proptest::prelude::*;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

/// As many scripts as `PROPTEST_CASES` says, or some.
fn cases() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    if given { config } else { ProptestConfig { cases: 60, ..config } }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_operation_on_a_scribbled_queue_ends(
        script in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let _watchdog = support::watchdog(PATIENCE);
        scribbled_queue::check(&script);
    }

    #[test]
    fn every_operation_on_a_scribbled_ledger_ends(
        script in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _watchdog = support::watchdog(PATIENCE);
        scribbled_queue::check_ledger(&script);
    }
}

/// What the fuzzer of queues starts from, and what it has found.
#[test]
fn the_seeds_of_the_fuzzer_end_as_well() {
    let _watchdog = support::watchdog(PATIENCE);
    for seed in hostile_peers::seeds("queue") {
        scribbled_queue::check_either(&seed);
    }
}
