//! Connections: messages, framing, descriptors, ends and errors.
#![allow(unsafe_code)]

mod chance;
mod descriptors;
mod ends;
mod support;
mod waiting;
mod wire;
