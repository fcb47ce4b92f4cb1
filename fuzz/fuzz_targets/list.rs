//! Named memory with bytes in it that somebody else wrote, attached as a `ShareableList`:
//! `mkdir -p fuzz/corpus/list; cargo +nightly fuzz run list fuzz/corpus/list fuzz/seeds/list`.
#![no_main]

#[path = "../../tests/hostile_peers/mod.rs"]
mod hostile_peers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hostile_peers::check_list(data);
});
