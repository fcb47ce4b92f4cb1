//! Values to bytes and back.

mod everything;
mod hostile;
mod message;
mod object;
mod properties;
mod round_trip;

use multiproc::{Decode, Encode, Error, from_bytes, to_bytes};

/// What `value` is after a journey, as another type that encodes alike.
fn sent_as<U: Decode>(value: &(impl Encode + ?Sized)) -> U {
    from_bytes(&to_bytes(value).unwrap()).unwrap()
}

#[track_caller]
fn assert_survives<T: Encode + Decode + PartialEq + std::fmt::Debug>(value: T) {
    assert_eq!(sent_as::<T>(&value), value);
}

/// Why these bytes are no `T`.
#[track_caller]
fn refusal<T: Decode + std::fmt::Debug>(bytes: &[u8]) -> String {
    match from_bytes::<T>(bytes) {
        Err(Error::Decode { reason }) => reason.into_owned(),
        other => panic!("a refusal was expected, not {other:?}"),
    }
}
