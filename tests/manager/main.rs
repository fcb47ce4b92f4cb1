//! Managers: objects in a server, used by this process and others.

#[path = "../support/mod.rs"]
mod support;

mod attack;
mod containers;
mod hostile;
mod life;
mod own_types;
mod programs;
mod python;
mod waiting;

multiproc::init_before_main!();

use std::time::Duration;

/// How long a test may take.
const PATIENCE: Duration = Duration::from_secs(60);
