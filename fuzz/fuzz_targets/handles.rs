//! Bytes and descriptors from outside, received as connections and listeners:
//! `mkdir -p fuzz/corpus/handles; cargo +nightly fuzz run handles fuzz/corpus/handles fuzz/seeds/handles`.
#![no_main]

#[path = "../../tests/hostile_peers/mod.rs"]
mod hostile_peers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile_peers::check_handles(data));
