//! Text from outside, read as an address:
//! `mkdir -p fuzz/corpus/address; cargo +nightly fuzz run address fuzz/corpus/address fuzz/seeds/address`.
#![no_main]

#[path = "../../tests/hostile_peers/mod.rs"]
mod hostile_peers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile_peers::check_address(data));
