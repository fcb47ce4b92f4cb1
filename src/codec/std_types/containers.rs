//! Sequences, and what holds one value or none.

use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::collections::{BinaryHeap, LinkedList, VecDeque};
use std::convert::Infallible;
use std::marker::PhantomData;

impl<T: Encode> Encode for [T] {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.len(self.len());
        encoder.nested(|encoder| T::encode_slice(self, encoder));
    }

    #[inline]
    fn at_hand(&self) -> Option<(Option<u64>, &[u8])> {
        // Items that take no bytes are to be counted.
        let bytes = T::slice_at_hand(self).filter(|_| size_of::<T>() > 0)?;
        Some((Some(self.len() as u64), bytes))
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.as_slice().encode(encoder);
    }

    #[inline]
    fn at_hand(&self) -> Option<(Option<u64>, &[u8])> {
        self.as_slice().at_hand()
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let len = decoder.len()?;
        decoder.nested(|decoder| T::decode_vec(len, decoder))
    }
}

/// The number of items is part of the type and does not travel.
impl<T: Encode, const N: usize> Encode for [T; N] {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        T::encode_slice(self, encoder);
    }

    fn encode_slice(items: &[Self], encoder: &mut Encoder<'_>) {
        if size_of::<Self>() == 0 {
            return items.iter().for_each(|item| encoder.item(item));
        }
        T::encode_slice(items.as_flattened(), encoder);
    }

    #[inline]
    fn slice_at_hand(items: &[Self]) -> Option<&[u8]> {
        T::slice_at_hand(items.as_flattened()).filter(|_| size_of::<Self>() > 0)
    }

    #[inline]
    fn at_hand(&self) -> Option<(Option<u64>, &[u8])> {
        Self::slice_at_hand(std::slice::from_ref(self)).map(|bytes| (None, bytes))
    }
}

impl<T: Decode, const N: usize> Decode for [T; N] {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        T::decode_array(decoder)
    }
}

impl<T: Encode> Encode for VecDeque<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        let (front, back) = self.as_slices();
        encoder.len(self.len());
        encoder.nested(|encoder| {
            T::encode_slice(front, encoder);
            T::encode_slice(back, encoder);
        });
    }
}

impl<T: Decode> Decode for VecDeque<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        Vec::decode(decoder).map(VecDeque::from)
    }
}

impl<T: Encode> Encode for LinkedList<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.len(self.len());
        encoder.nested(|encoder| self.iter().for_each(|item| encoder.item(item)));
    }
}

impl<T: Decode> Decode for LinkedList<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let (len, _) = decoder.claim::<T>()?;
        decoder.nested(|decoder| (0..len).map(|_| decoder.item()).collect())
    }
}

/// The items travel in the order in which the heap holds them.
impl<T: Encode> Encode for BinaryHeap<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.as_slice().encode(encoder);
    }
}

impl<T: Decode + Ord> Decode for BinaryHeap<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        Vec::decode(decoder).map(BinaryHeap::from)
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.is_some().encode(encoder);
        if let Some(value) = self {
            value.encode(encoder);
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        match bool::decode(decoder)? {
            false => Ok(None),
            true => T::decode(decoder).map(Some),
        }
    }
}

impl<T: Encode, E: Encode> Encode for Result<T, E> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.is_ok().encode(encoder);
        match self {
            Ok(value) => value.encode(encoder),
            Err(error) => error.encode(encoder),
        }
    }

    fn exit_code(&self) -> i32 {
        self.as_ref().map_or(1, T::exit_code)
    }
}

impl<T: Decode, E: Decode> Decode for Result<T, E> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        match bool::decode(decoder)? {
            true => T::decode(decoder).map(Ok),
            false => E::decode(decoder).map(Err),
        }
    }
}

impl<T: ?Sized> Encode for PhantomData<T> {
    fn encode(&self, _encoder: &mut Encoder<'_>) {}
}

impl<T: ?Sized> Decode for PhantomData<T> {
    fn decode(_decoder: &mut Decoder<'_>) -> Result<Self> {
        Ok(PhantomData)
    }
}

impl Encode for Infallible {
    fn encode(&self, _encoder: &mut Encoder<'_>) {
        match *self {}
    }
}

impl Decode for Infallible {
    fn decode(_decoder: &mut Decoder<'_>) -> Result<Self> {
        Err(Error::decode("a value of a type that has none"))
    }
}
