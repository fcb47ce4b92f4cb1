//! What a stranger sends in either half of the handshake: it is never believed:
//! `mkdir -p fuzz/corpus/handshake; cargo +nightly fuzz run handshake fuzz/corpus/handshake fuzz/seeds/handshake`.
#![no_main]

#[path = "../../tests/hostile_peers/mod.rs"]
mod hostile_peers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hostile_peers::ask(data);
    hostile_peers::answer(data);
});
