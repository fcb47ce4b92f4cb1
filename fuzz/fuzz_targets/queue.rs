//! Queues in memory that somebody scribbles over while they are used:
//! `cargo +nightly fuzz run queue`.
#![no_main]

#[path = "../../tests/scribbled_queue/mod.rs"]
mod scribbled_queue;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scribbled_queue::check_either(data));
