//! `Encode` and `Decode` for the types of std, by subject.

mod containers;
mod errors;
mod fds;
mod maps;
mod net;
mod numbers;
mod pointers;
mod ranges;
mod text;
mod time;
mod tuples;
