//! Sorting as Python does it: what can be compared, and how.

use super::arguments::Raised;
use crate::object::BigInt;
use crate::{Object, Result};
use std::cmp::Ordering;

/// How two values are ordered; not all are.
fn order(a: &Object, b: &Object) -> Result<Ordering, Raised> {
    use Object::{Bytes, List, Str, Tuple};
    Ok(match (a, b) {
        (Str(a), Str(b)) => a.cmp(b),
        (Bytes(a), Bytes(b)) => a.cmp(b),
        (List(a), List(b)) | (Tuple(a), Tuple(b)) => {
            let different = a.iter().zip(b).find(|(a, b)| a != b);
            different.map_or(Ok(a.len().cmp(&b.len())), |(a, b)| order(a, b))?
        }
        _ => match (integer(a), integer(b), float(a), float(b)) {
            (Some(a), Some(b), ..) => order_integers(&a, &b),
            (_, _, Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            _ => {
                let (a, b) = (a.type_name(), b.type_name());
                let text = format!("'<' not supported between instances of '{a}' and '{b}'");
                return Err(Raised::type_error(text));
            }
        },
    })
}

fn integer(object: &Object) -> Option<BigInt> {
    match object {
        Object::Bool(value) => Some(i64::from(*value).into()),
        Object::Int(value) => Some((*value).into()),
        Object::BigInt(value) => Some(value.clone()),
        _ => None,
    }
}

/// The float next to a number, about.
fn float(object: &Object) -> Option<f64> {
    if let Object::Float(value) = object {
        return Some(*value);
    }
    let integer = integer(object)?;
    let bytes = integer.to_signed_le_bytes();
    let start = if integer.is_negative() { -1.0 } else { 0.0 };
    Some(bytes.iter().rev().fold(start, |value, byte| value * 256.0 + f64::from(*byte)))
}

/// Of two numbers with one sign, in their shortest two's complement, the longer is further from zero.
fn order_integers(a: &BigInt, b: &BigInt) -> Ordering {
    if a.is_negative() != b.is_negative() {
        return b.is_negative().cmp(&a.is_negative());
    }
    let (mut x, mut y) = (a.to_signed_le_bytes(), b.to_signed_le_bytes());
    x.reverse();
    y.reverse();
    let by_length = if a.is_negative() { y.len().cmp(&x.len()) } else { x.len().cmp(&y.len()) };
    by_length.then_with(|| x.cmp(&y))
}

/// Sorts, or leaves the list as it is.
pub(super) fn sort(list: &mut Vec<Object>, reverse: bool) -> Result<(), Raised> {
    let mut sorted = list.clone();
    let mut refusal = None;
    sorted.sort_by(|a, b| {
        let ordering = order(a, b).unwrap_or_else(|raised| {
            refusal.get_or_insert(raised);
            Ordering::Equal
        });
        if reverse { ordering.reverse() } else { ordering }
    });
    match refusal {
        Some(raised) => Err(raised),
        None => {
            *list = sorted;
            Ok(())
        }
    }
}
