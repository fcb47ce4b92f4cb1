//! Indices and ranges of arrays, checked.

use crate::{Error, Result};
use std::ops::{Bound, Range, RangeBounds};

#[inline]
pub(super) fn check_index(index: usize, len: usize) -> Result<()> {
    #[cold]
    fn outside(index: usize, len: usize) -> Error {
        Error::invalid(format!("index {index} of an array of {len}"))
    }
    if index < len { Ok(()) } else { Err(outside(index, len)) }
}

pub(super) fn check_range(range: impl RangeBounds<usize>, len: usize) -> Result<Range<usize>> {
    let start = match range.start_bound() {
        Bound::Included(&start) => Some(start),
        Bound::Excluded(&before) => before.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.checked_add(1),
        Bound::Excluded(&end) => Some(end),
        Bound::Unbounded => Some(len),
    };
    match (start, end) {
        (Some(start), Some(end)) if start <= end && end <= len => Ok(start..end),
        _ => {
            let bounds = (range.start_bound(), range.end_bound());
            Err(Error::invalid(format!("{bounds:?} of an array of {len}")))
        }
    }
}
