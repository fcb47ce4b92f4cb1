//! Python's values, for the places where types mix.

mod big_int;
mod convert;
mod repr;
mod table;

pub use big_int::{BigInt, OutOfRange};
pub use table::{Dict, Set};

use crate::{Decode, Decoder, Encode, Encoder, Result};
use std::hash::{Hash, Hasher};

/// A value of one of Python's basic types, chosen at run time.
///
/// It is printed as Python's `repr` prints it, made by `From` and taken apart by `TryFrom` or `match`.
/// A `Vec<u8>` or `&[u8]` makes [`Bytes`](Self::Bytes) and a [`Vec`] of anything else a
/// [`List`](Self::List); a single `u8` makes nothing, so that the two cannot be mistaken for one another.
///
/// # Differences from Python
/// Values of different types are never equal, except [`Int`](Self::Int) and [`BigInt`](Self::BigInt),
/// which are one type in Python: `1`, `1.0` and `True` are three values here, and three keys.
/// NaN equals itself (as Python's containers see it, which look for the same object first), so that every
/// value can be a key, a list as well. Sets keep the order in which they were filled, as dicts do.
///
/// # Examples
/// ```
/// use multiproc::Object;
///
/// let mixed = Object::list([42.into(), Object::None, "hello".into()]);
/// assert_eq!(mixed.to_string(), "[42, None, 'hello']");
///
/// let bytes = multiproc::to_bytes(&mixed)?;
/// assert_eq!(multiproc::from_bytes::<Object>(&bytes)?, mixed);
///
/// let numbers: Vec<i32> = Object::from(vec![1, 2, 3]).try_into()?;
/// assert_eq!(numbers, [1, 2, 3]);
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub enum Object {
    /// `None`.
    #[default]
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An `int` that fits 64 bits.
    Int(i64),
    /// An `int` of any size.
    BigInt(BigInt),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Str(String),
    /// A `bytes`.
    Bytes(Vec<u8>),
    /// A `list`.
    List(Vec<Object>),
    /// A `tuple`.
    Tuple(Vec<Object>),
    /// A `dict`.
    Dict(Dict),
    /// A `set`.
    Set(Set),
}

impl Object {
    /// A list of these values.
    pub fn list(items: impl IntoIterator<Item = Object>) -> Object {
        Object::List(items.into_iter().collect())
    }

    /// A tuple of these values.
    pub fn tuple(items: impl IntoIterator<Item = Object>) -> Object {
        Object::Tuple(items.into_iter().collect())
    }

    /// A set of these values.
    pub fn set(items: impl IntoIterator<Item = Object>) -> Object {
        Object::Set(items.into_iter().collect())
    }

    /// A dict of these entries; of entries with the same key the last counts.
    pub fn dict(entries: impl IntoIterator<Item = (Object, Object)>) -> Object {
        Object::Dict(entries.into_iter().collect())
    }

    /// Whether it is `None`.
    pub fn is_none(&self) -> bool {
        matches!(self, Object::None)
    }

    /// What Python calls the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Object::None => "NoneType",
            Object::Bool(_) => "bool",
            Object::Int(_) | Object::BigInt(_) => "int",
            Object::Float(_) => "float",
            Object::Str(_) => "str",
            Object::Bytes(_) => "bytes",
            Object::List(_) => "list",
            Object::Tuple(_) => "tuple",
            Object::Dict(_) => "dict",
            Object::Set(_) => "set",
        }
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Object) -> bool {
        match (self, other) {
            (Object::None, Object::None) => true,
            (Object::Bool(a), Object::Bool(b)) => a == b,
            (Object::Int(a), Object::Int(b)) => a == b,
            (Object::BigInt(a), Object::BigInt(b)) => a == b,
            (Object::Int(small), Object::BigInt(big))
            | (Object::BigInt(big), Object::Int(small)) => i64::try_from(big) == Ok(*small),
            (Object::Float(a), Object::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Object::Str(a), Object::Str(b)) => a == b,
            (Object::Bytes(a), Object::Bytes(b)) => a == b,
            (Object::List(a), Object::List(b)) | (Object::Tuple(a), Object::Tuple(b)) => a == b,
            (Object::Dict(a), Object::Dict(b)) => a == b,
            (Object::Set(a), Object::Set(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Object {}

impl Hash for Object {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.type_name().hash(state);
        match self {
            Object::None => {}
            Object::Bool(value) => value.hash(state),
            Object::Int(value) => value.hash(state),
            Object::BigInt(value) => match i64::try_from(value) {
                Ok(small) => small.hash(state),
                Err(_) => value.hash(state),
            },
            Object::Float(value) => canonical_bits(*value).hash(state),
            Object::Str(text) => text.hash(state),
            Object::Bytes(bytes) => bytes.hash(state),
            Object::List(items) | Object::Tuple(items) => items.hash(state),
            Object::Dict(dict) => dict.hash(state),
            Object::Set(set) => set.hash(state),
        }
    }
}

/// The same for all floats that are equal: both zeros, and every NaN.
fn canonical_bits(value: f64) -> u64 {
    match value {
        0.0 => 0,
        nan if nan.is_nan() => f64::NAN.to_bits(),
        other => other.to_bits(),
    }
}

crate::__message! {
    @implement enum Object [[] [] []] [] {
        None,
        Bool(bool),
        Int(i64),
        BigInt(BigInt),
        Float(f64),
        Str(String),
        Bytes(Vec<u8>),
        List(Vec<Object>),
        Tuple(Vec<Object>),
        Dict(Dict),
        Set(Set),
    }
}

impl Encode for Dict {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.len(self.len());
        encoder.nested(|encoder| self.iter().for_each(|entry| encoder.item(&entry)));
    }
}

impl Decode for Dict {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Dict> {
        let (len, _) = decoder.claim::<Object>()?;
        decoder.nested(|decoder| (0..len).map(|_| decoder.item::<(Object, Object)>()).collect())
    }
}

impl Encode for Set {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.len(self.len());
        encoder.nested(|encoder| self.iter().for_each(|item| encoder.item(item)));
    }
}

impl Decode for Set {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Set> {
        let (len, _) = decoder.claim::<Object>()?;
        decoder.nested(|decoder| (0..len).map(|_| decoder.item::<Object>()).collect())
    }
}
