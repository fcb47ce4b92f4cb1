//! CPython's `multiprocessing.connection` at the other end, in every version that is found.

#[path = "../support/mod.rs"]
mod support;

mod ground;
mod handed_over;
mod keys;
mod manager;
mod meeting;
mod objects;
mod shared_memory;

multiproc::init_before_main!();
