//! Tests in a process of their own, where nothing else runs.
#![allow(dead_code)]

use multiproc::{Process, StartMethod, Target};
use std::time::Duration;

/// Runs `test` in a spawned child, which has one thread and so may fork.
///
/// Its panic is the caller's.
#[track_caller]
pub(crate) fn alone<F: Target<(), ()>>(test: F) {
    alone_within(Duration::from_secs(60), test);
}

/// [`alone`] with a patience of its own.
#[track_caller]
pub(crate) fn alone_within<F: Target<(), ()>>(patience: Duration, test: F) {
    let _watchdog = crate::support::watchdog(patience);
    if let Err(error) =
        Process::new(test, ()).start_method(StartMethod::Spawn).start().unwrap().join()
    {
        panic!("in a process of its own: {error}");
    }
}
