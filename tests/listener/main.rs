//! Listeners and clients: addresses, what is left on disk, handshakes of strangers, other processes.

#[path = "../support/mod.rs"]
mod support;

mod accept;
mod address;
mod ground;
mod places;
mod strangers;
mod travel;
