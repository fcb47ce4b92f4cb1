//! The arguments of a Python call, and the exceptions that it may end in.

use crate::object::Dict;
use crate::{Error, Object, Result};
use std::time::Duration;

/// Why a call gives no value.
#[derive(Debug)]
pub(in crate::manager) enum Raised {
    /// An exception of the method.
    Exception { module: &'static str, class: &'static str, arguments: Vec<Object> },
    /// The server's own trouble, as text: Python's `RemoteError`.
    Trouble(String),
}

impl Raised {
    pub(super) fn new(
        module: &'static str,
        class: &'static str,
        text: impl Into<Object>,
    ) -> Raised {
        Raised::Exception { module, class, arguments: vec![text.into()] }
    }

    /// One of Python's built-in exceptions.
    pub(super) fn builtin(class: &'static str, text: impl Into<Object>) -> Raised {
        Raised::new("builtins", class, text)
    }

    /// As Python has it where no object is concerned: text in any case.
    pub(super) fn into_trouble(self) -> Raised {
        match self {
            Raised::Exception { class, arguments, .. } => {
                let text: Vec<_> = arguments.iter().map(Object::to_string).collect();
                Raised::Trouble(format!("{class}: {}", text.join(", ")))
            }
            trouble => trouble,
        }
    }

    pub(super) fn type_error(text: impl Into<Object>) -> Raised {
        Raised::builtin("TypeError", text)
    }
}

impl From<Error> for Raised {
    fn from(error: Error) -> Raised {
        let empty = |module, class| Raised::Exception { module, class, arguments: Vec::new() };
        match error {
            Error::Empty => empty("queue", "Empty"),
            Error::Full => empty("queue", "Full"),
            Error::BrokenBarrierError { .. } => empty("threading", "BrokenBarrierError"),
            Error::InvalidArgument { reason } => Raised::builtin("ValueError", reason),
            other => Raised::Trouble(other.to_string()),
        }
    }
}

/// What a method was called with.
pub(super) struct Arguments {
    positional: std::vec::IntoIter<Object>,
    keywords: Dict,
}

impl Arguments {
    pub(super) fn new(positional: Vec<Object>, keywords: Dict) -> Arguments {
        Arguments { positional: positional.into_iter(), keywords }
    }

    /// The next one, which may also be given by its name.
    pub(super) fn optional(&mut self, name: &str) -> Option<Object> {
        self.positional.next().or_else(|| self.keywords.remove(&name.into()))
    }

    pub(super) fn required(&mut self, name: &str) -> Result<Object, Raised> {
        let missing = || Raised::type_error(format!("missing required argument '{name}'"));
        self.optional(name).ok_or_else(missing)
    }

    /// The next one as a `T`, or `default`.
    pub(super) fn or<T: TryFrom<Object>>(&mut self, name: &str, default: T) -> Result<T, Raised> {
        self.optional(name).map_or(Ok(default), |object| of_type(name, object))
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, Raised> {
        of_type(name, self.required(name)?)
    }

    pub(super) fn integer(&mut self, name: &str) -> Result<i64, Raised> {
        of_type(name, self.required(name)?)
    }

    /// The items of the next one, or none.
    pub(super) fn items(&mut self, name: &str) -> Result<Vec<Object>, Raised> {
        self.optional(name).map_or(Ok(Vec::new()), items)
    }

    /// `block` or `blocking`, and `timeout`: how long a call may wait.
    pub(super) fn waiting(&mut self, block: &str) -> Result<Option<Duration>, Raised> {
        let blocks = self.optional(block).is_none_or(|object| is_true(&object));
        let timeout = self.timeout()?;
        Ok(if blocks { timeout } else { Some(Duration::ZERO) })
    }

    /// `timeout`; a negative one means none.
    pub(super) fn timeout(&mut self) -> Result<Option<Duration>, Raised> {
        match self.optional("timeout") {
            None | Some(Object::None) => Ok(None),
            Some(object) => {
                let seconds: f64 = of_type("timeout", object)?;
                Ok((seconds >= 0.0)
                    .then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
            }
        }
    }

    pub(super) fn take_keywords(&mut self) -> Dict {
        std::mem::take(&mut self.keywords)
    }

    /// Whether all were taken.
    pub(super) fn finish(mut self) -> Result<(), Raised> {
        if self.positional.next().is_some() {
            return Err(Raised::type_error("too many positional arguments"));
        }
        match self.keywords.iter().next() {
            Some((name, _)) => {
                Err(Raised::type_error(format!("an unexpected keyword argument {name}")))
            }
            None => Ok(()),
        }
    }
}

fn of_type<T: TryFrom<Object>>(name: &str, object: Object) -> Result<T, Raised> {
    // Python's `True` is a number too.
    let object = match object {
        Object::Bool(value) if std::any::type_name::<T>() != "bool" => Object::Int(value.into()),
        other => other,
    };
    let kind = object.type_name();
    T::try_from(object)
        .map_err(|_| Raised::type_error(format!("argument '{name}' cannot be a {kind}")))
}

/// What an iteration over a value gives.
pub(super) fn items(object: Object) -> Result<Vec<Object>, Raised> {
    match object {
        Object::List(items) | Object::Tuple(items) => Ok(items),
        Object::Set(set) => Ok(set.into_iter().collect()),
        Object::Dict(dict) => Ok(dict.into_iter().map(|(key, _)| key).collect()),
        Object::Str(text) => Ok(text.chars().map(Object::from).collect()),
        Object::Bytes(bytes) => Ok(bytes.into_iter().map(|byte| i32::from(byte).into()).collect()),
        other => {
            let kind = other.type_name();
            Err(Raised::type_error(format!("'{kind}' object is not iterable")))
        }
    }
}

/// The entries of a dict, or of an iterable of pairs.
pub(super) fn entries(object: Object) -> Result<Vec<(Object, Object)>, Raised> {
    if let Object::Dict(dict) = object {
        return Ok(dict.into_iter().collect());
    }
    let pair = |pair| match <[Object; 2]>::try_from(items(pair)?) {
        Ok([key, value]) => Ok((key, value)),
        Err(_) => Err(Raised::builtin("ValueError", "an element of the update is no pair")),
    };
    items(object)?.into_iter().map(pair).collect()
}

/// What `bool` of a value gives.
pub(super) fn is_true(object: &Object) -> bool {
    match object {
        Object::None => false,
        Object::Bool(value) => *value,
        Object::Int(value) => *value != 0,
        Object::BigInt(_) => true,
        Object::Float(value) => *value != 0.0,
        Object::Str(text) => !text.is_empty(),
        Object::Bytes(bytes) => !bytes.is_empty(),
        Object::List(items) | Object::Tuple(items) => !items.is_empty(),
        Object::Dict(dict) => !dict.is_empty(),
        Object::Set(set) => !set.is_empty(),
    }
}
