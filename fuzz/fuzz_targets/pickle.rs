//! Bytes from outside, read as a pickle:
//! `mkdir -p fuzz/corpus/pickle; cargo +nightly fuzz run pickle fuzz/corpus/pickle fuzz/seeds/pickle`.
#![no_main]

#[path = "../../tests/hostile_peers/mod.rs"]
mod hostile_peers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile_peers::check_pickle(data));
