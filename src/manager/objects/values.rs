//! Values, arrays and namespaces.

use super::show;
use crate::manager::Manager;
use crate::{Decode, Encode, Error, Object, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// A value as it is in a manager's server; a [`ValueProxy`] stands for it elsewhere.
#[derive(Debug)]
pub struct Value<T>(T);

impl<T> Value<T> {
    /// A value to be shared.
    pub fn new(value: T) -> Value<T> {
        Value(value)
    }

    fn get(&self) -> &T {
        &self.0
    }

    fn set(&mut self, value: T) {
        self.0 = value;
    }

    fn replace(&mut self, value: T) -> T {
        std::mem::replace(&mut self.0, value)
    }
}

impl<T> Deref for Value<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Value<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

crate::managed! {
    /// One value in a manager, as other processes use it.
    ///
    /// [`apply`](Self::apply) changes it where it is, so that nobody else's change is lost.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let value = manager.value(1)?;
    /// value.set(41)?;
    /// value.apply(|value, n: i32| **value += n, 1)?;
    /// assert_eq!(value.get()?, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub impl<T> Value as ValueProxy = "Value" {
        /// A copy of the value.
        fn get(&self) -> T;
        /// Replaces the value.
        fn set(&mut self, value: T);
        /// Replaces the value and gives the old one.
        fn replace(&mut self, value: T) -> T;
    }
}

/// An array as it is in a manager's server; an [`ArrayProxy`] stands for it elsewhere.
#[derive(Debug)]
pub struct Array<T>(Vec<T>);

impl<T> Array<T> {
    pub(in crate::manager) fn from_items(items: Vec<T>) -> Array<T> {
        Array(items)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, index: usize) -> Result<&T> {
        self.0.get(index).ok_or_else(out_of_range)
    }

    fn set(&mut self, index: usize, item: T) -> Result<()> {
        *self.0.get_mut(index).ok_or_else(out_of_range)? = item;
        Ok(())
    }

    fn to_vec(&self) -> &Vec<T> {
        &self.0
    }
}

fn out_of_range() -> Error {
    Error::invalid("array index out of range")
}

impl<T> From<Vec<T>> for Array<T> {
    fn from(items: Vec<T>) -> Array<T> {
        Array(items)
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Array<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

crate::managed! {
    /// Values of a fixed number in a manager, as other processes use them.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let array = manager.array([0.0; 4])?;
    /// array.set(3, 2.5)?;
    /// assert_eq!((array.get(3)?, array.len()?), (2.5, 4));
    /// # Ok(())
    /// # }
    /// ```
    pub impl<T> Array as ArrayProxy = "Array" {
        /// How many items there are.
        fn len(&self) -> usize;
        /// Whether there are none.
        fn is_empty(&self) -> bool;
        /// The item at `index`; an error if there is none.
        fn get(&self, index: usize) throws -> T;
        /// Replaces the item at `index`; an error if there is none.
        fn set(&mut self, index: usize, item: T) throws;
        /// A copy of all items.
        fn to_vec(&self) -> Vec<T>;
    }
}

/// A namespace as it is in a manager's server; a [`NamespaceProxy`] stands for it elsewhere.
#[derive(Debug, Default)]
pub struct Namespace(BTreeMap<String, Object>);

impl Namespace {
    /// A namespace without names.
    pub fn new() -> Namespace {
        Namespace(BTreeMap::new())
    }

    pub(in crate::manager) fn get_attribute(&self, name: &str) -> Result<&Object> {
        self.0.get(name).ok_or_else(|| missing(name))
    }

    pub(in crate::manager) fn set(&mut self, name: &str, value: Object) {
        self.0.insert(name.to_owned(), value);
    }

    pub(in crate::manager) fn remove(&mut self, name: &str) -> Result<()> {
        self.0.remove(name).map(drop).ok_or_else(|| missing(name))
    }

    fn attributes(&self) -> Vec<(&String, &Object)> {
        self.0.iter().collect()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_attributes(self.0.iter(), f)
    }
}

/// As Python prints a namespace.
fn write_attributes<'a>(
    attributes: impl Iterator<Item = (&'a String, &'a Object)>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let public = attributes.filter(|(name, _)| !name.starts_with('_'));
    let parts: Vec<_> = public.map(|(name, value)| format!("{name}={value}")).collect();
    write!(f, "Namespace({})", parts.join(", "))
}

fn missing(name: &str) -> Error {
    Error::invalid(format!("no attribute {name:?}"))
}

crate::managed! {
    /// Named values of any types in a manager, as other processes use them.
    ///
    /// # Differences from Python
    /// Names are arguments here, not attributes of the proxy; those with an underscore in front are
    /// stored like others, and only left out where the namespace is printed.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let space = manager.namespace()?;
    /// space.set("name", "bob".into())?;
    /// space.set("job", "builder".into())?;
    /// assert_eq!(space.get::<String>("name")?, "bob");
    /// assert_eq!(space.to_string(), "Namespace(job='builder', name='bob')");
    /// # Ok(())
    /// # }
    /// ```
    pub impl Namespace as NamespaceProxy = "Namespace" {
        /// The value of a name; an error if it has none.
        fn get_attribute(&self, name: &str) throws -> Object;
        /// Sets the value of a name.
        fn set(&mut self, name: &str, value: Object);
        /// Takes a name out; an error if it has no value.
        fn remove(&mut self, name: &str) throws;
        /// A copy of all names and their values, by name.
        fn attributes(&self) -> Vec<(String, Object)>;
    }
}

impl NamespaceProxy {
    /// The value of a name, as a `T`.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: the name has no value.
    /// * [`Error::Decode`]: its value is no `T`.
    pub fn get<T: TryFrom<Object>>(&self, name: &str) -> Result<T>
    where
        Error: From<T::Error>,
    {
        Ok(T::try_from(self.get_attribute(name)?)?)
    }
}

impl fmt::Display for NamespaceProxy {
    /// As Python prints the namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attributes = match self.attributes() {
            Ok(attributes) => attributes,
            Err(error) => return show(Err(error), f),
        };
        write_attributes(attributes.iter().map(|(name, value)| (name, value)), f)
    }
}

impl<T: Encode + Decode + Into<Object> + 'static> fmt::Display for ValueProxy<T> {
    /// As Python prints the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(")?;
        show(self.get().map(Into::into), f)?;
        f.write_str(")")
    }
}

impl<T: Encode + Decode + Into<Object> + 'static> fmt::Display for ArrayProxy<T> {
    /// As Python prints a list of the items.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.to_vec().map(|items| Object::list(items.into_iter().map(Into::into))), f)
    }
}

impl Manager {
    /// Makes a value.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn value<T: Encode + Decode + 'static>(&self, value: T) -> Result<ValueProxy<T>> {
        self.create(Value::new, (value,))
    }

    /// Makes an array of these items.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn array<T>(&self, items: impl IntoIterator<Item = T>) -> Result<ArrayProxy<T>>
    where
        T: Encode + Decode + 'static,
    {
        self.create(Array::from_items, (items.into_iter().collect::<Vec<T>>(),))
    }

    /// Makes an empty namespace.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn namespace(&self) -> Result<NamespaceProxy> {
        self.create(Namespace::new, ())
    }
}
