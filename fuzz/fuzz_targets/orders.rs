//! What a child, a forkserver and a parent read on the sockets between them:
//! `mkdir -p fuzz/corpus/orders; cargo +nightly fuzz run orders fuzz/corpus/orders fuzz/seeds/orders`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    multiproc::process::hostile::check(data);
});
