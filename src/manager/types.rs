//! What a server is told when it starts.

use super::home::Home;
use super::place::KEEPALIVE;
use crate::process::target::Location;
use crate::{Error, Result};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::Duration;

crate::message! {
    /// What clients may use.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Limits {
        /// The longest request.
        pub(super) max_message: usize,
        pub(super) connections: usize,
        /// The connections that have not authenticated themselves.
        pub(super) strangers: usize,
        /// How long they may take.
        pub(super) handshake_timeout: Duration,
        /// How long a silent client over a network is believed to be there.
        pub(super) keepalive: Duration,
        pub(super) parked_calls: usize,
        /// Whether CPython programs may be clients.
        pub(super) python: bool,
        /// Whether a client may prove itself by MD5.
        pub(super) legacy_md5: bool,
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_message: 256 << 20,
            connections: 1 << 16,
            strangers: 256,
            handshake_timeout: Duration::from_secs(10),
            keepalive: KEEPALIVE,
            parked_calls: 1 << 16,
            python: false,
            legacy_md5: false,
        }
    }
}

/// A map by numbers that are random, or counted.
pub(super) type ById<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;

/// Spreads a number over all bits.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 << 8 | u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// The objects of names, and the functions that make them.
#[derive(Debug, Default)]
pub(super) struct Names {
    makers: HashMap<String, Location>,
    made: HashMap<String, u64>,
}

impl Names {
    pub(super) fn new(makers: Vec<(String, Location)>) -> Names {
        Names { makers: makers.into_iter().collect(), made: HashMap::new() }
    }

    /// Whether something is registered under a name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.makers.contains_key(name)
    }

    /// The one object of a name, which is made when it is asked for the first time, and stays.
    pub(super) fn object(&mut self, name: &str, home: &Rc<Home>) -> Result<u64> {
        if let Some(id) = self.made.get(name) {
            return Ok(*id);
        }
        let maker = self.makers.get(name);
        let maker =
            maker.ok_or_else(|| Error::invalid(format!("nothing is registered as {name:?}")))?;
        let id = home.make_plain(*maker, &[])?;
        self.made.insert(name.to_owned(), id);
        Ok(id)
    }
}
