//! Bytes from outside, received as messages in every way there is:
//! `mkdir -p fuzz/corpus/frames; cargo +nightly fuzz run frames fuzz/corpus/frames fuzz/seeds/frames`.
#![no_main]

#[path = "../../tests/hostile_peers/mod.rs"]
mod hostile_peers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile_peers::check_frames(data));
