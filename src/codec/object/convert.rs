//! Rust's values to objects and back.

use super::{BigInt, Dict, Object, Set};
use crate::{Error, Result};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::hash::{BuildHasher, Hash};

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Error {
        match never {}
    }
}

/// The object is not what was asked for.
fn mismatch<T>(wanted: &str, object: &Object) -> Result<T> {
    Err(Error::invalid(format!("{wanted} is wanted where a {} is", object.type_name())))
}

macro_rules! from {
    ($($type:ty => $value:ident: $object:expr;)*) => {$(
        impl From<$type> for Object {
            fn from($value: $type) -> Object {
                $object
            }
        }
    )*};
}

from! {
    bool => value: Object::Bool(value);
    i8 => value: Object::Int(value.into());
    i16 => value: Object::Int(value.into());
    i32 => value: Object::Int(value.into());
    i64 => value: Object::Int(value);
    u16 => value: Object::Int(value.into());
    u32 => value: Object::Int(value.into());
    isize => value: Object::from(BigInt::from(value));
    usize => value: Object::from(BigInt::from(value));
    u64 => value: Object::from(BigInt::from(value));
    i128 => value: Object::from(BigInt::from(value));
    u128 => value: Object::from(BigInt::from(value));
    f32 => value: Object::Float(value.into());
    f64 => value: Object::Float(value);
    char => value: Object::Str(value.into());
    &str => value: Object::Str(value.into());
    String => value: Object::Str(value);
    Cow<'_, str> => value: Object::Str(value.into_owned());
    Box<str> => value: Object::Str(value.into());
    &[u8] => value: Object::Bytes(value.into());
    Vec<u8> => value: Object::Bytes(value);
    Dict => value: Object::Dict(value);
    Set => value: Object::Set(value);
}

impl<const N: usize> From<&[u8; N]> for Object {
    fn from(value: &[u8; N]) -> Object {
        Object::Bytes(value.into())
    }
}

impl<T: Into<Object>> From<Option<T>> for Object {
    fn from(value: Option<T>) -> Object {
        value.map_or(Object::None, Into::into)
    }
}

impl<T: Into<Object>> From<Vec<T>> for Object {
    fn from(items: Vec<T>) -> Object {
        Object::list(items.into_iter().map(Into::into))
    }
}

impl<T: Into<Object>, const N: usize> From<[T; N]> for Object {
    fn from(items: [T; N]) -> Object {
        Object::list(items.map(Into::into))
    }
}

/// The type wanted, what it is called, and the forms of object that make one.
macro_rules! try_from {
    ($($type:ty, $wanted:literal { $($pattern:pat $(if $guard:expr)? => $value:expr,)* })*) => {$(
        impl TryFrom<Object> for $type {
            type Error = Error;

            fn try_from(object: Object) -> Result<$type> {
                match object {
                    $( $pattern $(if $guard)? => Ok($value), )*
                    other => mismatch($wanted, &other),
                }
            }
        }
    )*};
}

try_from! {
    bool, "a bool" { Object::Bool(value) => value, }
    String, "a str" { Object::Str(text) => text, }
    Vec<u8>, "a bytes" { Object::Bytes(bytes) => bytes, }
    Dict, "a dict" { Object::Dict(dict) => dict, }
    Set, "a set" { Object::Set(set) => set, }
    BigInt, "an int" { Object::BigInt(value) => value, Object::Int(value) => value.into(), }
    f64, "a float" {
        Object::Float(value) => value,
        Object::Int(value) if (value as f64) as i128 == i128::from(value) => value as f64,
    }
}

impl TryFrom<Object> for f32 {
    type Error = Error;

    fn try_from(object: Object) -> Result<f32> {
        let wide = f64::try_from(object)?;
        let value = wide as f32;
        if f64::from(value) == wide || wide.is_nan() {
            return Ok(value);
        }
        Err(Error::invalid(format!("{wide} is no 32-bit float")))
    }
}

impl TryFrom<Object> for char {
    type Error = Error;

    fn try_from(object: Object) -> Result<char> {
        let text = String::try_from(object)?;
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => Ok(character),
            _ => Err(Error::invalid("one character is wanted")),
        }
    }
}

macro_rules! try_from_integers {
    ($($integer:ty)*) => {$(
        impl TryFrom<Object> for $integer {
            type Error = Error;

            fn try_from(object: Object) -> Result<$integer> {
                let fits = match &object {
                    Object::Int(value) => <$integer>::try_from(*value).ok(),
                    Object::BigInt(value) => <$integer>::try_from(value).ok(),
                    other => return mismatch("an int", other),
                };
                fits.ok_or_else(|| {
                    Error::invalid(format!("{object} does not fit {}", stringify!($integer)))
                })
            }
        }
    )*};
}

// Not `u8`: a vector of them is bytes.
try_from_integers! { i8 i16 i32 i64 i128 isize u16 u32 u64 u128 usize }

/// Not for every `T`: std converts each value to an option of itself.
macro_rules! try_from_options {
    ($($type:ty)*) => {$(
        impl TryFrom<Object> for Option<$type> {
            type Error = Error;

            fn try_from(object: Object) -> Result<Option<$type>> {
                if object.is_none() { Ok(None) } else { object.try_into().map(Some) }
            }
        }
    )*};
}

try_from_options! {
    bool i8 i16 i32 i64 i128 isize u16 u32 u64 u128 usize f32 f64 char String Vec<u8> BigInt Dict Set
}

/// The items of a list or a tuple.
fn sequence(object: Object, wanted: &str) -> Result<Vec<Object>> {
    match object {
        Object::List(items) | Object::Tuple(items) => Ok(items),
        other => mismatch(wanted, &other),
    }
}

fn converted<T, C>(objects: impl IntoIterator<Item = Object>) -> Result<C>
where
    T: TryFrom<Object>,
    Error: From<T::Error>,
    C: FromIterator<T>,
{
    objects.into_iter().map(|object| T::try_from(object).map_err(Error::from)).collect()
}

impl<T> TryFrom<Object> for Vec<T>
where
    T: TryFrom<Object>,
    Error: From<T::Error>,
{
    type Error = Error;

    fn try_from(object: Object) -> Result<Vec<T>> {
        converted(sequence(object, "a list")?)
    }
}

macro_rules! tuples {
    () => {};
    ($first:ident $($rest:ident)*) => {
        impl<$first: Into<Object>, $($rest: Into<Object>),*> From<($first, $($rest,)*)> for Object {
            fn from(tuple: ($first, $($rest,)*)) -> Object {
                #[allow(non_snake_case)]
                let ($first, $($rest,)*) = tuple;
                Object::Tuple(vec![$first.into(), $($rest.into(),)*])
            }
        }

        impl<$first, $($rest),*> TryFrom<Object> for ($first, $($rest,)*)
        where
            $first: TryFrom<Object>,
            $( $rest: TryFrom<Object>, )*
            Error: From<$first::Error> $( + From<$rest::Error> )*,
        {
            type Error = Error;

            fn try_from(object: Object) -> Result<Self> {
                let items = sequence(object, "a tuple")?;
                let len = items.len();
                #[allow(non_snake_case)]
                let [$first, $($rest),*] = <[Object; tuples!(@count $first $($rest)*)]>::try_from(items)
                    .map_err(|_| Error::invalid(format!("a tuple of {len} where another is wanted")))?;
                Ok(($first.try_into()?, $($rest.try_into()?,)*))
            }
        }

        tuples! { $($rest)* }
    };
    (@count $($item:ident)*) => { [$(stringify!($item)),*].len() };
}

tuples! { A B C D E F G H I J K L }

macro_rules! maps {
    ($($map:ident<K, V $(, $hasher:ident)?> where K: $($bound:path),+;)*) => {$(
        impl<K: Into<Object>, V: Into<Object> $(, $hasher)?> From<$map<K, V $(, $hasher)?>> for Object {
            fn from(map: $map<K, V $(, $hasher)?>) -> Object {
                Object::dict(map.into_iter().map(|(key, value)| (key.into(), value.into())))
            }
        }

        impl<K, V $(, $hasher: BuildHasher + Default)?> TryFrom<Object> for $map<K, V $(, $hasher)?>
        where
            K: TryFrom<Object> $(+ $bound)+,
            V: TryFrom<Object>,
            Error: From<K::Error> + From<V::Error>,
        {
            type Error = Error;

            fn try_from(object: Object) -> Result<Self> {
                let entries = Dict::try_from(object)?.into_iter();
                entries.map(|(key, value)| Ok((key.try_into()?, value.try_into()?))).collect()
            }
        }
    )*};
}

maps! {
    HashMap<K, V, S> where K: Eq, Hash;
    BTreeMap<K, V> where K: Ord;
}

macro_rules! sets {
    ($($set:ident<T $(, $hasher:ident)?> where T: $($bound:path),+;)*) => {$(
        impl<T: Into<Object> $(, $hasher)?> From<$set<T $(, $hasher)?>> for Object {
            fn from(set: $set<T $(, $hasher)?>) -> Object {
                Object::set(set.into_iter().map(Into::into))
            }
        }

        impl<T $(, $hasher: BuildHasher + Default)?> TryFrom<Object> for $set<T $(, $hasher)?>
        where
            T: TryFrom<Object> $(+ $bound)+,
            Error: From<T::Error>,
        {
            type Error = Error;

            fn try_from(object: Object) -> Result<Self> {
                converted(Set::try_from(object)?)
            }
        }
    )*};
}

sets! {
    HashSet<T, S> where T: Eq, Hash;
    BTreeSet<T> where T: Ord;
}
