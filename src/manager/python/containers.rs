//! The methods that Python has for dicts and sets: they give their results at once, as those of all that
//! only holds values.

use super::arguments::{Arguments, Raised, entries};
use super::server::Done;
use crate::manager::objects::{Dict, Set};
use crate::{Object, Result};

pub(super) type Outcome = Result<Done, Raised>;

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
