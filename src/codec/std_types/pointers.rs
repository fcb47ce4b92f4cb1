//! References and owning pointers: what they point to.
//!
//! A pointer is a level of nesting. What was shared between several [`Rc`]s or [`Arc`]s travels once for
//! each of them.

use crate::{Decode, Decoder, Encode, Encoder, Result};
use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        (**self).encode(encoder);
    }

    #[inline]
    fn at_hand(&self) -> Option<(Option<u64>, &[u8])> {
        (**self).at_hand()
    }
}

impl<T: Encode + ?Sized> Encode for &mut T {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        (**self).encode(encoder);
    }
}

impl<T: Encode + ToOwned + ?Sized> Encode for Cow<'_, T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        (**self).encode(encoder);
    }
}

/// Always the owned form.
impl<T: ToOwned<Owned: Decode> + ?Sized> Decode for Cow<'_, T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        T::Owned::decode(decoder).map(Cow::Owned)
    }
}

macro_rules! pointers {
    ($($pointer:ident)*) => {$(
        impl<T: Encode + ?Sized> Encode for $pointer<T> {
            fn encode(&self, encoder: &mut Encoder<'_>) {
                encoder.nested(|encoder| (**self).encode(encoder));
            }
        }

        impl<T: Decode> Decode for $pointer<T> {
            fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
                decoder.nested(T::decode).map($pointer::new)
            }
        }

        impl<T: Decode> Decode for $pointer<[T]> {
            fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
                decoder.nested(Vec::decode).map($pointer::from)
            }
        }

        pointers! { @text $pointer str from String }
        pointers! { @text $pointer CStr from CString }
        pointers! { @text $pointer OsStr from OsString }
        pointers! { @text $pointer Path from PathBuf }
    )*};
    (@text $pointer:ident $borrowed:ident from $owned:ident) => {
        impl Decode for $pointer<$borrowed> {
            fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
                decoder.nested($owned::decode).map($pointer::from)
            }
        }
    };
}

pointers! { Box Rc Arc }
