//! The methods that Python has for what only holds values: they give their results at once.

use super::arguments::{Arguments, Raised, entries, items};
use super::server::Done;
use crate::manager::objects::{Array, Dict, Iter, List, Namespace, Set, Value, repeat_items};
use crate::object::BigInt;
use crate::{Object, Result};
use std::cmp::Ordering;

type Outcome = Result<Done, Raised>;

/// Not `__iter__`: Python then goes by index, as for its own lists, and sees what others change.
pub(super) const LIST: &[&str] = &[
    "__add__",
    "__contains__",
    "__delitem__",
    "__getitem__",
    "__iadd__",
    "__imul__",
    "__len__",
    "__mul__",
    "__rmul__",
    "__setitem__",
    "append",
    "clear",
    "copy",
    "count",
    "extend",
    "index",
    "insert",
    "pop",
    "remove",
    "reverse",
    "sort",
];

/// Where an index or a slice of a sequence points.
enum Place {
    One(usize),
    /// The places in the order of the slice.
    Many(Vec<usize>),
}

fn place(index: Object, len: usize) -> Result<Place, Raised> {
    match index {
        // What a `slice` arrives as.
        Object::Tuple(parts) => slice(parts, len).map(Place::Many),
        other => one(other, len).map(Place::One),
    }
}

fn one(index: Object, len: usize) -> Result<usize, Raised> {
    let Ok(index) = i64::try_from(index) else {
        return Err(Raised::type_error("indices must be integers or slices"));
    };
    let place = if index < 0 { index.saturating_add(len as i64) } else { index };
    usize::try_from(place)
        .ok()
        .filter(|place| *place < len)
        .ok_or_else(|| Raised::builtin("IndexError", "index out of range"))
}

fn slice(parts: Vec<Object>, len: usize) -> Result<Vec<usize>, Raised> {
    let wrong = || Raised::type_error("slice indices must be integers or None");
    let number = |part: Object| match part {
        Object::None => Ok(None),
        other => i64::try_from(other).map(Some).map_err(|_| wrong()),
    };
    let parts: Vec<_> = parts.into_iter().map(number).collect::<Result<_, _>>()?;
    let [start, stop, step] = parts[..] else { return Err(wrong()) };
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Raised::builtin("ValueError", "slice step cannot be zero"));
    }
    let len = len as i64;
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let bound =
        |index: i64| (if index < 0 { index.saturating_add(len) } else { index }).clamp(low, high);
    let first = start.map_or(if step > 0 { low } else { high }, bound);
    let end = stop.map_or(if step > 0 { high } else { low }, bound);
    let mut places = Vec::new();
    let mut at = first;
    while if step > 0 { at < end } else { at > end } {
        places.push(at as usize);
        at = at.saturating_add(step);
    }
    Ok(places)
}

fn get(list: &[Object], index: Object) -> Result<Object, Raised> {
    Ok(match place(index, list.len())? {
        Place::One(place) => list[place].clone(),
        Place::Many(places) => Object::list(places.into_iter().map(|place| list[place].clone())),
    })
}

fn set(list: &mut Vec<Object>, index: Object, value: Object) -> Result<(), Raised> {
    // Of a slice with steps of one, however long, other items may take the place.
    let plain = match &index {
        Object::Tuple(parts) => matches!(parts[..], [_, _, Object::None | Object::Int(1)]),
        _ => false,
    };
    let start = match &index {
        Object::Tuple(parts) if plain => {
            let to_end = vec![parts[0].clone(), Object::None, Object::None];
            slice(to_end, list.len())?.first().copied().unwrap_or(list.len())
        }
        _ => 0,
    };
    match place(index, list.len())? {
        Place::One(place) => list[place] = value,
        Place::Many(places) if plain => {
            drop(list.splice(start..start + places.len(), items(value)?))
        }
        Place::Many(places) => {
            let values = items(value)?;
            if values.len() != places.len() {
                let text = "attempt to assign a sequence of another size to an extended slice";
                return Err(Raised::builtin("ValueError", text));
            }
            places.into_iter().zip(values).for_each(|(place, value)| list[place] = value);
        }
    }
    Ok(())
}

fn delete(list: &mut Vec<Object>, index: Object) -> Result<(), Raised> {
    match place(index, list.len())? {
        Place::One(place) => drop(list.remove(place)),
        Place::Many(mut places) => {
            places.sort_unstable();
            places.into_iter().rev().for_each(|place| drop(list.remove(place)));
        }
    }
    Ok(())
}

/// How two values are ordered; not all are.
fn order(a: &Object, b: &Object) -> Result<Ordering, Raised> {
    use Object::{Bytes, List, Str, Tuple};
    Ok(match (a, b) {
        (Str(a), Str(b)) => a.cmp(b),
        (Bytes(a), Bytes(b)) => a.cmp(b),
        (List(a), List(b)) | (Tuple(a), Tuple(b)) => {
            let different = a.iter().zip(b).find(|(a, b)| a != b);
            different.map_or(Ok(a.len().cmp(&b.len())), |(a, b)| order(a, b))?
        }
        _ => match (integer(a), integer(b), float(a), float(b)) {
            (Some(a), Some(b), ..) => order_integers(&a, &b),
            (_, _, Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            _ => {
                let (a, b) = (a.type_name(), b.type_name());
                let text = format!("'<' not supported between instances of '{a}' and '{b}'");
                return Err(Raised::type_error(text));
            }
        },
    })
}

fn integer(object: &Object) -> Option<BigInt> {
    match object {
        Object::Bool(value) => Some(i64::from(*value).into()),
        Object::Int(value) => Some((*value).into()),
        Object::BigInt(value) => Some(value.clone()),
        _ => None,
    }
}

/// The float next to a number, about.
fn float(object: &Object) -> Option<f64> {
    if let Object::Float(value) = object {
        return Some(*value);
    }
    let integer = integer(object)?;
    let bytes = integer.to_signed_le_bytes();
    let start = if integer.is_negative() { -1.0 } else { 0.0 };
    Some(bytes.iter().rev().fold(start, |value, byte| value * 256.0 + f64::from(*byte)))
}

/// Of two numbers with one sign, in their shortest two's complement, the longer is further from zero.
fn order_integers(a: &BigInt, b: &BigInt) -> Ordering {
    if a.is_negative() != b.is_negative() {
        return b.is_negative().cmp(&a.is_negative());
    }
    let (mut x, mut y) = (a.to_signed_le_bytes(), b.to_signed_le_bytes());
    x.reverse();
    y.reverse();
    let by_length = if a.is_negative() { y.len().cmp(&x.len()) } else { x.len().cmp(&y.len()) };
    by_length.then_with(|| x.cmp(&y))
}

/// Sorts, or leaves the list as it is.
fn sort(list: &mut Vec<Object>, reverse: bool) -> Result<(), Raised> {
    let mut sorted = list.clone();
    let mut refusal = None;
    sorted.sort_by(|a, b| {
        let ordering = order(a, b).unwrap_or_else(|raised| {
            refusal.get_or_insert(raised);
            Ordering::Equal
        });
        if reverse { ordering.reverse() } else { ordering }
    });
    match refusal {
        Some(raised) => Err(raised),
        None => {
            *list = sorted;
            Ok(())
        }
    }
}

fn repeat(items: &[Object], count: i64) -> Result<Vec<Object>, Raised> {
    repeat_items(items, usize::try_from(count).unwrap_or(0)).ok_or_else(|| Raised::Exception {
        module: "builtins",
        class: "MemoryError",
        arguments: vec![],
    })
}

/// Where `value` is, among the items from `start` to before `stop`.
fn find(list: &[Object], value: &Object) -> Result<usize, Raised> {
    let place = list.iter().position(|item| item == value);
    place.ok_or_else(|| Raised::builtin("ValueError", format!("{value} is not in list")))
}

pub(super) fn call_list(list: &mut List<Object>, method: &str, mut given: Arguments) -> Outcome {
    let value = match method {
        "__getitem__" => get(list, given.required("index")?)?,
        "__setitem__" => {
            let index = given.required("index")?;
            set(list, index, given.required("value")?)?;
            Object::None
        }
        "__delitem__" => {
            delete(list, given.required("index")?)?;
            Object::None
        }
        "__len__" => list.len().into(),
        "__contains__" => list.contains(&given.required("value")?).into(),
        "__add__" => {
            let mut all = list.to_vec();
            all.extend(given.items("value")?);
            Object::List(all)
        }
        "__iadd__" | "extend" => {
            list.extend(given.items("iterable")?);
            Object::None
        }
        "__mul__" | "__rmul__" => Object::List(repeat(list, given.integer("value")?)?),
        "__imul__" => {
            **list = repeat(list, given.integer("value")?)?;
            Object::None
        }
        "append" => {
            list.push(given.required("object")?);
            Object::None
        }
        "clear" => {
            list.clear();
            Object::None
        }
        "copy" | "#GETVALUE" => Object::List(list.to_vec()),
        "__str__" | "__repr__" => Object::List(list.to_vec()).to_string().into(),
        "count" => {
            let value = given.required("value")?;
            list.iter().filter(|item| **item == value).count().into()
        }
        "index" => find(list, &given.required("value")?)?.into(),
        "insert" => {
            let (index, len) = (given.integer("index")?, list.len() as i64);
            let place = if index < 0 { index.saturating_add(len) } else { index }.clamp(0, len);
            list.insert(place as usize, given.required("object")?);
            Object::None
        }
        "pop" => {
            if list.is_empty() {
                return Err(Raised::builtin("IndexError", "pop from empty list"));
            }
            let place = one(given.or("index", -1i64)?.into(), list.len())?;
            list.remove(place)
        }
        "remove" => {
            let place = find(list, &given.required("value")?)?;
            list.remove(place);
            Object::None
        }
        "reverse" => {
            list.reverse();
            Object::None
        }
        "sort" => {
            let mut keywords = given.take_keywords();
            let reverse = keywords.remove(&"reverse".into());
            let key = keywords.remove(&"key".into()).unwrap_or(Object::None);
            if !key.is_none() || !keywords.is_empty() {
                return Err(Raised::type_error("sort takes no argument but reverse here"));
            }
            sort(list, reverse.is_some_and(|reverse| super::arguments::is_true(&reverse)))?;
            Object::None
        }
        _ => return Err(not_exposed(method)),
    };
    given.finish()?;
    Ok(Done::Now(value))
}

pub(super) fn not_exposed(method: &str) -> Raised {
    Raised::Trouble(format!("method {method:?} is not exposed"))
}

pub(super) const DICT: &[&str] = &[
    "__contains__",
    "__delitem__",
    "__getitem__",
    "__iter__",
    "__len__",
    "__setitem__",
    "clear",
    "copy",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
];

pub(super) fn call_dict(
    dict: &mut Dict<Object, Object>,
    method: &str,
    mut given: Arguments,
) -> Outcome {
    let missing = |key: &Object| Raised::builtin("KeyError", key.clone());
    let copy = |dict: &Dict<Object, Object>| {
        Object::dict(dict.iter().map(|(key, value)| (key.clone(), value.clone())))
    };
    let value = match method {
        "__getitem__" => {
            let key = given.required("key")?;
            dict.get(&key).cloned().ok_or_else(|| missing(&key))?
        }
        "__setitem__" => {
            let key = given.required("key")?;
            dict.replace(key, given.required("value")?);
            Object::None
        }
        "__delitem__" => {
            let key = given.required("key")?;
            dict.pop(&key).ok_or_else(|| missing(&key))?;
            Object::None
        }
        "__len__" => dict.len().into(),
        "__contains__" => dict.get(&given.required("key")?).is_some().into(),
        "__iter__" => return Ok(Done::Iterator(dict.iter().map(|(key, _)| key.clone()).collect())),
        "clear" => {
            dict.clear();
            Object::None
        }
        "copy" | "#GETVALUE" => copy(dict),
        "__str__" | "__repr__" => copy(dict).to_string().into(),
        "get" => {
            let key = given.required("key")?;
            let default = given.optional("default");
            dict.get(&key).cloned().or(default).unwrap_or(Object::None)
        }
        "items" => Object::list(
            dict.iter().map(|(key, value)| Object::tuple([key.clone(), value.clone()])),
        ),
        "keys" => Object::list(dict.iter().map(|(key, _)| key.clone())),
        "values" => Object::list(dict.iter().map(|(_, value)| value.clone())),
        "pop" => {
            let key = given.required("key")?;
            let default = given.optional("default");
            dict.pop(&key).or(default).ok_or_else(|| missing(&key))?
        }
        "popitem" => match dict.pop_item() {
            Some((key, value)) => Object::tuple([key, value]),
            None => return Err(Raised::builtin("KeyError", "popitem(): dictionary is empty")),
        },
        "setdefault" => {
            let key = given.required("key")?;
            let default = given.optional("default").unwrap_or(Object::None);
            if dict.get(&key).is_none() {
                dict.replace(key.clone(), default);
            }
            dict.get(&key).cloned().ok_or_else(|| missing(&key))?
        }
        "update" => {
            let others = given.optional("other").map_or(Ok(Vec::new()), entries)?;
            let all = others.into_iter().chain(given.take_keywords());
            all.for_each(|(key, value)| drop(dict.replace(key, value)));
            Object::None
        }
        _ => return Err(not_exposed(method)),
    };
    given.finish()?;
    Ok(Done::Now(value))
}

pub(super) const SET: &[&str] = &[
    "__contains__",
    "__iter__",
    "__len__",
    "add",
    "clear",
    "copy",
    "difference",
    "difference_update",
    "discard",
    "intersection",
    "intersection_update",
    "isdisjoint",
    "issubset",
    "issuperset",
    "pop",
    "remove",
    "symmetric_difference",
    "symmetric_difference_update",
    "union",
    "update",
];

pub(super) fn call_set(set: &mut Set<Object>, method: &str, mut given: Arguments) -> Outcome {
    let copy = |set: &Set<Object>| Object::set(set.iter().cloned());
    let plain = |items: Vec<Object>| Object::set(items);
    let mut other = || given.items("others");
    let value = match method {
        "__len__" => set.len().into(),
        "__iter__" => return Ok(Done::Iterator(set.iter().cloned().collect())),
        "copy" | "#GETVALUE" => copy(set),
        "__str__" | "__repr__" => copy(set).to_string().into(),
        "union" => plain(set.union(other()?)),
        "intersection" => plain(set.intersection(other()?).into_iter().cloned().collect()),
        "difference" => plain(set.difference(other()?).into_iter().cloned().collect()),
        "symmetric_difference" => plain(set.symmetric_difference(other()?)),
        "isdisjoint" => set.is_disjoint(other()?).into(),
        "issubset" => set.is_subset(other()?).into(),
        "issuperset" => set.is_superset(other()?).into(),
        "__contains__" => set.contains(&given.required("element")?).into(),
        "pop" => {
            let item = set.pop();
            item.ok_or_else(|| Raised::builtin("KeyError", "pop from an empty set"))?
        }
        "remove" => {
            let item = given.required("element")?;
            if !set.remove(&item) {
                return Err(Raised::builtin("KeyError", item));
            }
            Object::None
        }
        _ => {
            match method {
                "update" => set.update(other()?),
                "intersection_update" => set.intersection_update(other()?),
                "difference_update" => set.difference_update(other()?),
                "symmetric_difference_update" => set.symmetric_difference_update(other()?),
                "add" => drop(set.insert(given.required("element")?)),
                "discard" => drop(set.remove(&given.required("element")?)),
                "clear" => set.clear(),
                _ => return Err(not_exposed(method)),
            }
            Object::None
        }
    };
    given.finish()?;
    Ok(Done::Now(value))
}

pub(super) const NAMESPACE: &[&str] = &["__getattribute__", "__setattr__", "__delattr__"];

pub(super) fn call_namespace(space: &mut Namespace, method: &str, mut given: Arguments) -> Outcome {
    let missing = |name: &str| {
        let text = format!("'Namespace' object has no attribute '{name}'");
        Raised::builtin("AttributeError", text)
    };
    let value = match method {
        "__getattribute__" => {
            let name = given.text("name")?;
            space.get_attribute(&name).cloned().map_err(|_| missing(&name))?
        }
        "__setattr__" => {
            let name = given.text("name")?;
            space.set(&name, given.required("value")?);
            Object::None
        }
        "__delattr__" => {
            let name = given.text("name")?;
            space.remove(&name).map_err(|_| missing(&name))?;
            Object::None
        }
        "__str__" | "__repr__" => space.to_string().into(),
        _ => return Err(not_exposed(method)),
    };
    given.finish()?;
    Ok(Done::Now(value))
}

pub(super) const VALUE: &[&str] = &["get", "set"];

pub(super) fn call_value(value: &mut Value<Object>, method: &str, mut given: Arguments) -> Outcome {
    let result = match method {
        "get" | "#GETVALUE" => (**value).clone(),
        "set" => {
            **value = given.required("value")?;
            Object::None
        }
        "__str__" | "__repr__" => format!("Value({})", **value).into(),
        _ => return Err(not_exposed(method)),
    };
    given.finish()?;
    Ok(Done::Now(result))
}

pub(super) const ARRAY: &[&str] = &["__len__", "__getitem__", "__setitem__"];

pub(super) fn call_array(array: &mut Array<Object>, method: &str, mut given: Arguments) -> Outcome {
    let result = match method {
        "__len__" => array.len().into(),
        "__getitem__" => get(array, given.required("index")?)?,
        "__setitem__" => {
            let place = one(given.required("index")?, array.len())?;
            array[place] = given.required("value")?;
            Object::None
        }
        "#GETVALUE" => Object::list(array.iter().cloned()),
        "__str__" | "__repr__" => Object::list(array.iter().cloned()).to_string().into(),
        _ => return Err(not_exposed(method)),
    };
    given.finish()?;
    Ok(Done::Now(result))
}

pub(super) const ITERATOR: &[&str] = &["__next__"];

pub(super) fn call_iterator(iter: &mut Iter<Object>, method: &str, given: Arguments) -> Outcome {
    given.finish()?;
    match method {
        "__next__" => iter.next_item().map(Done::Now).ok_or(Raised::Exception {
            module: "builtins",
            class: "StopIteration",
            arguments: Vec::new(),
        }),
        "__str__" | "__repr__" => Ok(Done::Now("<Iterator>".into())),
        _ => Err(not_exposed(method)),
    }
}
