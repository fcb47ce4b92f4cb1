//! What the start methods do, apart from their names.
//!
//! A program that names none has Spawn's code in it and not that of the others: who names one, by
//! [`StartMethod`], reaches all of them through [`Starter::of`], and nobody else does.

use super::bootstrap::{self, Birth, Order, Voice};
use super::builder::Held;
use super::child::Born;
use super::fork::Surety;
use super::target::{Entry, EntryPoint, Location};
use super::{StartMethod, fork, forkserver, method, spawn};
use crate::codec::Payload;
use crate::{Decoder, Result};
use std::fmt;

/// How processes of one start method are made.
pub(crate) struct Starter {
    pub(crate) method: StartMethod,
    pub(super) start: fn(Departure<'_>) -> Result<Stage>,
    /// For what this process has in its memory, where the method gives the child a copy of that.
    pub(crate) copy: Option<Copy>,
    /// By which a child takes up that its parent has chosen the method.
    pub(super) choice: &'static EntryPoint,
}

/// Starts a copy of this process that calls the function and leaves with the code it gives.
pub(crate) type Copy = fn(Surety, &mut dyn FnMut(Voice) -> i32) -> Result<Born>;

/// A process that is there, or what waits until it is.
pub(super) enum Stage {
    Born(Born),
    Asked(Box<dyn FnOnce() -> Result<Born>>),
}

/// A process that is about to be made: what it is to run, and what its parent has ready for it.
pub(super) struct Departure<'a> {
    pub(super) birth: &'a mut Birth,
    pub(super) held: &'a mut Option<Held>,
    /// Whether its key is not its parent's.
    pub(super) has_own_key: bool,
    pub(super) entry: &'static EntryPoint,
    pub(super) location: Location,
    pub(super) arguments: Payload,
}

impl Starter {
    pub(crate) fn of(method: StartMethod) -> &'static Starter {
        match method {
            StartMethod::Spawn => &SPAWN,
            StartMethod::Fork => &FORK,
            StartMethod::ForkServer => &FORKSERVER,
        }
    }
}

impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.method.fmt(f)
    }
}

pub(super) static SPAWN: Starter = Starter {
    method: StartMethod::Spawn,
    start: |Departure { birth, has_own_key, location, arguments, .. }| {
        // A spawned child has them when its program begins.
        let environment = std::mem::take(&mut birth.surroundings.environment);
        let argv0 = birth.surroundings.command.take();
        birth.surroundings.fit(StartMethod::Spawn, has_own_key)?;
        let order = Order::of(location, birth, arguments)?;
        spawn::start(&order, &environment, argv0).map(Stage::Born)
    },
    copy: None,
    choice: EntryPoint::of::<ChooseSpawn>(),
};

static FORK: Starter = Starter {
    method: StartMethod::Fork,
    start: |Departure { birth, held, has_own_key, entry, mut arguments, .. }| {
        birth.surroundings.fit(StartMethod::Fork, has_own_key)?;
        let run = &mut |voice| {
            drop(held.take());
            bootstrap::run_entry(voice, birth, entry, std::mem::take(&mut arguments))
        };
        fork::start(Surety::Look, run).map(Stage::Born)
    },
    copy: Some(fork::start),
    choice: EntryPoint::of::<ChooseFork>(),
};

static FORKSERVER: Starter = Starter {
    method: StartMethod::ForkServer,
    start: |Departure { birth, has_own_key, location, arguments, .. }| {
        birth.surroundings.fit(StartMethod::ForkServer, has_own_key)?;
        let asked = forkserver::ask(Order::of(location, birth, arguments)?)?;
        Ok(Stage::Asked(Box::new(|| asked.answer())))
    },
    copy: None,
    choice: EntryPoint::of::<ChooseForkServer>(),
};

macro_rules! choices {
    ($($name:ident $starter:ident)*) => {$(
        struct $name;

        impl Entry for $name {
            fn run(_: &mut Decoder<'_>, _: &mut Payload) -> Result<()> {
                method::inherit(&$starter);
                Ok(())
            }
        }
    )*};
}

choices! { ChooseSpawn SPAWN ChooseFork FORK ChooseForkServer FORKSERVER }
