//! Unit and tuples: their parts, one after the other.

use crate::{Decode, Decoder, Encode, Encoder, Result};

macro_rules! tuples {
    () => {};
    ($first:ident $($rest:ident)*) => {
        impl<$first: Encode, $($rest: Encode),*> Encode for ($first, $($rest,)*) {
            fn encode(&self, encoder: &mut Encoder<'_>) {
                #[allow(non_snake_case)]
                let ($first, $($rest,)*) = self;
                $first.encode(encoder);
                $( $rest.encode(encoder); )*
            }
        }

        impl<$first: Decode, $($rest: Decode),*> Decode for ($first, $($rest,)*) {
            fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
                Ok(($first::decode(decoder)?, $($rest::decode(decoder)?,)*))
            }
        }

        tuples! { $($rest)* }
    };
}

tuples! { A B C D E F G H I J K L }

impl Encode for () {
    fn encode(&self, _encoder: &mut Encoder<'_>) {}
}

impl Decode for () {
    fn decode(_decoder: &mut Decoder<'_>) -> Result<Self> {
        Ok(())
    }
}
