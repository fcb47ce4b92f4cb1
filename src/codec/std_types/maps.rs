//! Maps and sets: a length, then the entries in the order in which the container gives them.
//!
//! A key that comes twice is refused: no container encodes to that.

use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

fn encode_all<T: Encode>(items: impl ExactSizeIterator<Item = T>, encoder: &mut Encoder<'_>) {
    encoder.len(items.len());
    encoder.nested(|encoder| items.for_each(|item| encoder.item(&item)));
}

/// Hands `len` items to `insert`, which tells whether the item is new.
fn decode_all<T: Decode>(
    len: usize,
    decoder: &mut Decoder<'_>,
    mut insert: impl FnMut(T) -> bool,
) -> Result<()> {
    decoder.nested(|decoder| {
        for _ in 0..len {
            if !insert(decoder.item()?) {
                return Err(Error::decode("a key that comes twice"));
            }
        }
        Ok(())
    })
}

impl<K: Encode, V: Encode, S> Encode for HashMap<K, V, S> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encode_all(self.iter(), encoder);
    }
}

impl<K: Decode + Eq + Hash, V: Decode, S: BuildHasher + Default> Decode for HashMap<K, V, S> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let (len, room) = decoder.claim::<(K, V)>()?;
        let mut map = HashMap::with_capacity_and_hasher(room, S::default());
        decode_all(len, decoder, |(key, value)| map.insert(key, value).is_none())?;
        Ok(map)
    }
}

impl<K: Encode, V: Encode> Encode for BTreeMap<K, V> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encode_all(self.iter(), encoder);
    }
}

impl<K: Decode + Ord, V: Decode> Decode for BTreeMap<K, V> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let mut map = BTreeMap::new();
        let (len, _) = decoder.claim::<(K, V)>()?;
        decode_all(len, decoder, |(key, value)| map.insert(key, value).is_none())?;
        Ok(map)
    }
}

impl<T: Encode, S> Encode for HashSet<T, S> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encode_all(self.iter(), encoder);
    }
}

impl<T: Decode + Eq + Hash, S: BuildHasher + Default> Decode for HashSet<T, S> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let (len, room) = decoder.claim::<T>()?;
        let mut set = HashSet::with_capacity_and_hasher(room, S::default());
        decode_all(len, decoder, |item| set.insert(item))?;
        Ok(set)
    }
}

impl<T: Encode> Encode for BTreeSet<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encode_all(self.iter(), encoder);
    }
}

impl<T: Decode + Ord> Decode for BTreeSet<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let mut set = BTreeSet::new();
        let (len, _) = decoder.claim::<T>()?;
        decode_all(len, decoder, |item| set.insert(item))?;
        Ok(set)
    }
}
