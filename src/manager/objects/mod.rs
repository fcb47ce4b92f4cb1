//! What a manager holds by default: Python's containers and synchronisation, and their proxies.

mod dict;
mod list;
mod ordered;
mod set;
mod values;

pub use dict::{Dict, DictProxy};
pub use list::{List, ListProxy};
pub use set::{Set, SetProxy};
pub use values::{Array, ArrayProxy, Namespace, NamespaceProxy, Value, ValueProxy};

use crate::{Object, Result};
use std::fmt;

/// Prints what a proxy stands for, or why it cannot be had.
fn show(object: Result<Object>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match object {
        Ok(object) => write!(f, "{object}"),
        Err(error) => write!(f, "<{error}>"),
    }
}
