//! What a pickle has made so far: values that refer to one another, and the object they are in the end.

use crate::object::BigInt;
use crate::{Decoder, Error, Object, Result};

/// A value's place among all.
pub(super) type Id = usize;

/// A value as the pickle's instructions see it: containers are filled after they were made.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// What has nothing inside.
    Leaf(Object),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    /// Keys and values in turns.
    Dict(Vec<Id>),
    Known(Known),
}

/// The few names that pickles of plain data need in old protocols. They are names alone: what is done for
/// them is written in [`call`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Set,
    FrozenSet,
    ByteArray,
    Bytes,
    /// `_codecs.encode`, by which protocol 2 has bytes.
    CodecsEncode,
    /// Only in the requests to a manager.
    Slice,
}

impl Known {
    pub(super) fn find(module: &str, name: &str, slices: bool) -> Result<Known> {
        match (module, name) {
            ("builtins" | "__builtin__", "set") => Ok(Known::Set),
            ("builtins" | "__builtin__", "frozenset") => Ok(Known::FrozenSet),
            ("builtins" | "__builtin__", "bytearray") => Ok(Known::ByteArray),
            ("builtins" | "__builtin__", "bytes") => Ok(Known::Bytes),
            ("builtins" | "__builtin__", "slice") if slices => Ok(Known::Slice),
            ("_codecs", "encode") => Ok(Known::CodecsEncode),
            _ => Err(Error::decode(format!(
                "a pickle of {}.{}, which is no plain data",
                module.escape_debug(),
                name.escape_debug()
            ))),
        }
    }
}

/// What `known(*arguments)` is. It copies its argument, which counts against the budget.
pub(super) fn call(known: Known, arguments: &[&Value], budget: &mut usize) -> Result<Value> {
    use Value::{Leaf, List, Set, Tuple};
    for argument in arguments {
        let cost = match argument {
            Leaf(object) => size_of_leaf(object),
            List(items) | Tuple(items) => items.len(),
            _ => 0,
        };
        spend(budget, cost)?;
    }
    match (known, arguments) {
        (Known::Set | Known::FrozenSet, []) => Ok(Set(Vec::new())),
        (Known::Set | Known::FrozenSet, [List(items) | Tuple(items)]) => Ok(Set(items.clone())),
        (Known::Bytes | Known::ByteArray, []) => Ok(Leaf(Object::Bytes(Vec::new()))),
        (Known::Bytes | Known::ByteArray, [Leaf(Object::Bytes(bytes))]) => {
            Ok(Leaf(Object::Bytes(bytes.clone())))
        }
        (
            Known::CodecsEncode | Known::ByteArray,
            [Leaf(Object::Str(text)), Leaf(Object::Str(encoding))],
        ) if matches!(&encoding[..], "latin1" | "latin-1") => {
            let bytes: Option<Vec<u8>> =
                text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect();
            let bytes = bytes.ok_or_else(|| Error::decode("a pickle of bytes above 255"))?;
            Ok(Leaf(Object::Bytes(bytes)))
        }
        _ => Err(Error::decode(format!("a pickle that calls {known:?} with other arguments"))),
    }
}

/// Makes the object of the value at `root`, copying what is referred to more than once.
///
/// # Errors
/// * [`Error::Decode`]: nested too deep (as what contains itself is), or larger than `budget` bytes.
pub(super) fn build(values: &[Value], root: Id, budget: usize) -> Result<Object> {
    Builder { values, budget, depth: 0 }.object(root)
}

struct Builder<'a> {
    values: &'a [Value],
    budget: usize,
    depth: usize,
}

impl Builder<'_> {
    fn object(&mut self, id: Id) -> Result<Object> {
        let values = self.values;
        Ok(match &values[id] {
            Value::Leaf(object) => {
                spend(&mut self.budget, size_of_leaf(object))?;
                object.clone()
            }
            Value::List(items) => Object::List(self.items(items)?),
            Value::Tuple(items) => Object::Tuple(self.items(items)?),
            Value::Set(items) => Object::set(self.items(items)?),
            Value::Dict(items) => {
                let mut items = self.items(items)?.into_iter();
                let pairs = std::iter::from_fn(|| Some((items.next()?, items.next()?)));
                Object::dict(pairs)
            }
            Value::Known(known) => {
                return Err(Error::decode(format!("a pickle of a class: {known:?}")));
            }
        })
    }

    fn items(&mut self, items: &[Id]) -> Result<Vec<Object>> {
        if self.depth == Decoder::MAX_DEPTH {
            let limit = Decoder::MAX_DEPTH;
            return Err(Error::decode(format!(
                "a pickle nested deeper than {limit}, or that contains itself"
            )));
        }
        // At once, before memory is taken for them.
        spend(&mut self.budget, items.len().saturating_add(1))?;
        self.depth += 1;
        let objects = items.iter().map(|id| self.object(*id)).collect();
        self.depth -= 1;
        objects
    }
}

fn spend(budget: &mut usize, cost: usize) -> Result<()> {
    let refusal = || Error::decode("a pickle that grows too large by its references");
    *budget = budget.checked_sub(cost).ok_or_else(refusal)?;
    Ok(())
}

fn size_of_leaf(object: &Object) -> usize {
    match object {
        Object::Str(text) => text.len(),
        Object::Bytes(bytes) => bytes.len(),
        Object::BigInt(value) => big_size(value),
        _ => 0,
    }
}

fn big_size(value: &BigInt) -> usize {
    usize::try_from(value.bit_length() / 8).unwrap_or(usize::MAX)
}
