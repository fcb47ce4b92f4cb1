//! Where Python's indices and slices point.

use super::arguments::Raised;
use crate::{Object, Result};

/// Where an index or a slice of a sequence points.
pub(super) enum Place {
    One(usize),
    /// The places in the order of the slice.
    Many(Vec<usize>),
}

pub(super) fn place(index: Object, len: usize) -> Result<Place, Raised> {
    match index {
        // What a `slice` arrives as.
        Object::Tuple(parts) => slice(parts, len).map(Place::Many),
        other => one(other, len).map(Place::One),
    }
}

pub(super) fn one(index: Object, len: usize) -> Result<usize, Raised> {
    let Ok(index) = i64::try_from(index) else {
        return Err(Raised::type_error("indices must be integers or slices"));
    };
    let place = if index < 0 { index.saturating_add(len as i64) } else { index };
    usize::try_from(place)
        .ok()
        .filter(|place| *place < len)
        .ok_or_else(|| Raised::builtin("IndexError", "index out of range"))
}

pub(super) fn slice(parts: Vec<Object>, len: usize) -> Result<Vec<usize>, Raised> {
    let wrong = || Raised::type_error("slice indices must be integers or None");
    let number = |part: Object| match part {
        Object::None => Ok(None),
        other => i64::try_from(other).map(Some).map_err(|_| wrong()),
    };
    let parts: Vec<_> = parts.into_iter().map(number).collect::<Result<_, _>>()?;
    let [start, stop, step] = parts[..] else { return Err(wrong()) };
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Raised::builtin("ValueError", "slice step cannot be zero"));
    }
    let len = len as i64;
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let bound =
        |index: i64| (if index < 0 { index.saturating_add(len) } else { index }).clamp(low, high);
    let first = start.map_or(if step > 0 { low } else { high }, bound);
    let end = stop.map_or(if step > 0 { high } else { low }, bound);
    let mut places = Vec::new();
    let mut at = first;
    while if step > 0 { at < end } else { at > end } {
        places.push(at as usize);
        at = at.saturating_add(step);
    }
    Ok(places)
}
