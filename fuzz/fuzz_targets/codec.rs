//! Bytes from outside, decoded as every kind of value:
//! `mkdir -p fuzz/corpus/codec; cargo +nightly fuzz run codec fuzz/corpus/codec fuzz/seeds/codec`.
#![no_main]

#[path = "../../tests/codec/everything.rs"]
mod everything;

libfuzzer_sys::fuzz_target!(|data: &[u8]| everything::check(data));
