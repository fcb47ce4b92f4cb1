//! The methods that Python has for lists.

use super::arguments::{Arguments, Raised, items};
use super::containers::{Outcome, not_exposed};
use super::index::{Place, one, place, slice};
use super::order::sort;
use super::server::Done;
use crate::manager::objects::{List, repeat_items};
use crate::{Object, Result};

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

pub(super) fn get(list: &[Object], index: Object) -> Result<Object, Raised> {
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
