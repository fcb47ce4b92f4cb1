//! Ranges and their bounds.

use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::ops::{
    Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive,
};

crate::__message! { @implement struct Range [[T] [T] [T]] [] { start: T, end: T } }
crate::__message! { @implement struct RangeFrom [[T] [T] [T]] [] { start: T } }
crate::__message! { @implement struct RangeTo [[T] [T] [T]] [] { end: T } }
crate::__message! { @implement struct RangeToInclusive [[T] [T] [T]] [] { end: T } }
crate::__message! { @implement struct RangeFull [[] [] []] [] {} }
crate::__message! {
    @implement enum Bound [[T] [T] [T]] [] { Included(T), Excluded(T), Unbounded }
}

/// A range that an iteration has used up is refused, unless its ends tell that nothing is left of it.
impl<T: Encode> Encode for RangeInclusive<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        // A range that was iterated to its end says so by excluding it.
        if let Bound::Excluded(_) = self.end_bound() {
            encoder.fail(Error::encode("an inclusive range that was iterated to its end"));
        }
        (self.start(), self.end()).encode(encoder);
    }
}

impl<T: Decode> Decode for RangeInclusive<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let (start, end) = Decode::decode(decoder)?;
        Ok(RangeInclusive::new(start, end))
    }
}
