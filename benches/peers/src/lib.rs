//! `multiproc` beside other crates. The examples use both; run one with
//! `cargo run --manifest-path benches/peers/Cargo.toml --example NAME`.
