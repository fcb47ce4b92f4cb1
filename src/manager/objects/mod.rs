//! What a manager holds by default: Python's containers and synchronisation, and their proxies.

mod list;

pub use list::{List, ListProxy};

use crate::{Object, Result};
use std::fmt;

/// Prints what a proxy stands for, or why it cannot be had.
fn show(object: Result<Object>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match object {
        Ok(object) => write!(f, "{object}"),
        Err(error) => write!(f, "<{error}>"),
    }
}
