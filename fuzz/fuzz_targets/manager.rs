//! Requests to a manager's server, from a client that has the key and means no good:
//! `cargo +nightly fuzz run manager fuzz/corpus/manager fuzz/seeds/manager`.
#![no_main]

#[path = "../../tests/manager/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::check(data));
