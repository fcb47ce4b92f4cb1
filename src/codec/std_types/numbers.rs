//! Numbers, truth values and characters: little-endian, with slices copied at once.

use crate::region::plain;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::cmp::{Ordering, Reverse};
use std::num::{NonZero, Saturating, Wrapping};

/// Whether a slice of numbers lies in memory as it does in a message.
const LITTLE_ENDIAN: bool = cfg!(target_endian = "little");

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Encode for $number {
            #[inline]
            fn encode(&self, encoder: &mut Encoder<'_>) {
                encoder.bytes(&self.to_le_bytes());
            }

            fn encode_slice(items: &[Self], encoder: &mut Encoder<'_>) {
                if LITTLE_ENDIAN {
                    return encoder.plain_slice(items);
                }
                for item in items {
                    item.encode(encoder);
                }
            }

            #[inline]
            fn slice_at_hand(items: &[Self]) -> Option<&[u8]> {
                LITTLE_ENDIAN.then(|| plain::as_bytes(items))
            }

            #[inline]
            fn at_hand(&self) -> Option<(Option<u64>, &[u8])> {
                Self::slice_at_hand(std::slice::from_ref(self)).map(|bytes| (None, bytes))
            }
        }

        impl Decode for $number {
            #[inline]
            fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
                decoder.array().map(Self::from_le_bytes)
            }

            fn decode_vec(len: usize, decoder: &mut Decoder<'_>) -> Result<Vec<Self>> {
                if LITTLE_ENDIAN { decoder.plain_vec(len) } else { decoder.items(len) }
            }

            fn decode_array<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[Self; N]> {
                let mut items: [Self; N] = decoder.plain_array()?;
                if !LITTLE_ENDIAN {
                    items.iter_mut().for_each(|item| *item = Self::from_le_bytes(item.to_ne_bytes()));
                }
                Ok(items)
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 }

/// The sizes travel as 64 bits, so that 32-bit and 64-bit processes understand each other.
macro_rules! sizes {
    ($($size:ty as $wide:ty),*) => {$(
        impl Encode for $size {
            #[inline]
            fn encode(&self, encoder: &mut Encoder<'_>) {
                (*self as $wide).encode(encoder);
            }

            fn encode_slice(items: &[Self], encoder: &mut Encoder<'_>) {
                if LITTLE_ENDIAN && cfg!(target_pointer_width = "64") {
                    return encoder.plain_slice(items);
                }
                for item in items {
                    item.encode(encoder);
                }
            }
        }

        impl Decode for $size {
            #[inline]
            fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
                let wide = <$wide>::decode(decoder)?;
                wide.try_into().map_err(|_| Error::decode(format!("{wide} is too large here")))
            }

            fn decode_vec(len: usize, decoder: &mut Decoder<'_>) -> Result<Vec<Self>> {
                if LITTLE_ENDIAN && cfg!(target_pointer_width = "64") {
                    return decoder.plain_vec(len);
                }
                decoder.items(len)
            }
        }
    )*};
}

sizes! { usize as u64, isize as i64 }

macro_rules! nonzeros {
    ($($number:ty)*) => {$(
        impl Encode for NonZero<$number> {
            fn encode(&self, encoder: &mut Encoder<'_>) {
                self.get().encode(encoder);
            }
        }

        impl Decode for NonZero<$number> {
            fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
                let number = <$number>::decode(decoder)?;
                NonZero::new(number).ok_or_else(|| Error::decode("zero where it is excluded"))
            }
        }
    )*};
}

nonzeros! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize }

macro_rules! wrappers {
    ($($wrapper:ident)*) => {$(
        impl<T: Encode> Encode for $wrapper<T> {
            fn encode(&self, encoder: &mut Encoder<'_>) {
                self.0.encode(encoder);
            }
        }

        impl<T: Decode> Decode for $wrapper<T> {
            fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
                T::decode(decoder).map($wrapper)
            }
        }
    )*};
}

wrappers! { Wrapping Saturating Reverse }

impl Encode for bool {
    #[inline]
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.bytes(&[u8::from(*self)]);
    }

    fn encode_slice(items: &[Self], encoder: &mut Encoder<'_>) {
        encoder.extend(items.iter().map(|item| u8::from(*item)));
    }
}

impl Decode for bool {
    #[inline]
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        match u8::decode(decoder)? {
            0 => Ok(false),
            1 => Ok(true),
            byte => Err(no_truth_value(byte)),
        }
    }

    fn decode_vec(len: usize, decoder: &mut Decoder<'_>) -> Result<Vec<Self>> {
        let bytes = decoder.bytes(len)?;
        match bytes.iter().copied().max() {
            Some(byte @ 2..) => Err(no_truth_value(byte)),
            _ => Ok(bytes.iter().map(|byte| *byte == 1).collect()),
        }
    }
}

#[cold]
fn no_truth_value(byte: u8) -> Error {
    Error::decode(format!("{byte} is no truth value"))
}

impl Encode for char {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        u32::from(*self).encode(encoder);
    }
}

impl Decode for char {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let code = u32::decode(decoder)?;
        char::from_u32(code).ok_or_else(|| Error::decode(format!("{code:#x} is no character")))
    }
}

impl Encode for Ordering {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        (*self as i8).encode(encoder);
    }
}

impl Decode for Ordering {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        match i8::decode(decoder)? {
            -1 => Ok(Ordering::Less),
            0 => Ok(Ordering::Equal),
            1 => Ok(Ordering::Greater),
            byte => Err(Error::decode(format!("{byte} is no ordering"))),
        }
    }
}
