//! Spans of time and points in it.

use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

impl Encode for Duration {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        (self.as_secs(), self.subsec_nanos()).encode(encoder);
    }
}

impl Decode for Duration {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let (seconds, nanos) = <(u64, u32)>::decode(decoder)?;
        if nanos >= 1_000_000_000 {
            return Err(Error::decode(format!("{nanos} nanoseconds beside the seconds")));
        }
        Ok(Duration::new(seconds, nanos))
    }
}

/// The distance from 1970, as `Ok` after and `Err` before it.
impl Encode for SystemTime {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.duration_since(UNIX_EPOCH).map_err(|before| before.duration()).encode(encoder);
    }
}

impl Decode for SystemTime {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        match Result::<Duration, Duration>::decode(decoder)? {
            Ok(since) => UNIX_EPOCH.checked_add(since),
            Err(before) => UNIX_EPOCH.checked_sub(before),
        }
        .ok_or_else(|| Error::decode("a time too far from 1970"))
    }
}
