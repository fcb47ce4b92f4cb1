//! What the tests share; each test binary uses its own part of it.
#![allow(dead_code)]

pub(crate) mod os;
