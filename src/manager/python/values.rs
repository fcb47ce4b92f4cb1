//! The methods that Python has for namespaces, values, arrays and iterators.

use super::arguments::{Arguments, Raised};
use super::containers::{Outcome, not_exposed};
use super::index::one;
use super::list::get;
use super::server::Done;
use crate::Object;
use crate::manager::objects::{Array, Iter, Namespace, Value};

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
