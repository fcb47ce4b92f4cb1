//! Dicts.

use super::ordered::Ordered;
use super::show;
use crate::manager::Manager;
use crate::{Decode, Encode, Error, Object, Result};
use std::fmt;
use std::hash::Hash;

/// A dict as it is in a manager's server; a [`DictProxy`] stands for it elsewhere.
#[derive(Debug)]
pub struct Dict<K, V>(Ordered<K, V>);

impl<K: Eq + Hash, V> Dict<K, V> {
    pub(in crate::manager) fn from_entries(entries: Vec<(K, V)>) -> Dict<K, V> {
        let mut dict = Dict(Ordered::new());
        dict.update(entries);
        dict
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    /// The value of `key`, to be changed where it is.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    /// Sets the value of `key`, and gives the one it had.
    pub fn replace(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.iter()
    }

    pub(in crate::manager) fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    fn contains_key(&self, key: &K) -> bool {
        self.0.contains(key)
    }

    fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn remove(&mut self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    pub(in crate::manager) fn pop(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }

    pub(in crate::manager) fn pop_item(&mut self) -> Option<(K, V)> {
        self.0.pop()
    }

    fn set_default(&mut self, key: K, value: V) -> Result<&V>
    where
        K: Clone,
    {
        if !self.0.contains(&key) {
            self.0.insert(key.clone(), value);
        }
        self.0.get(&key).ok_or_else(|| Error::invalid("a key that does not equal itself"))
    }

    fn update(&mut self, entries: Vec<(K, V)>) {
        for (key, value) in entries {
            self.0.insert(key, value);
        }
    }

    fn keys(&self) -> Vec<&K> {
        self.iter().map(|(key, _)| key).collect()
    }

    fn values(&self) -> Vec<&V> {
        self.iter().map(|(_, value)| value).collect()
    }

    fn items(&self) -> Vec<(&K, &V)> {
        self.iter().collect()
    }

    pub(in crate::manager) fn clear(&mut self) {
        self.0.clear();
    }

    fn entry_after(&self, place: u64, len: usize) -> Result<Option<(&K, &V, u64)>> {
        if len != self.0.len() {
            return Err(Error::invalid("dictionary changed size during iteration"));
        }
        let found = self.0.at_or_after(usize::try_from(place).unwrap_or(usize::MAX));
        Ok(found.map(|(key, value, next)| (key, value, next as u64)))
    }
}

impl<K: Eq + Hash, V> FromIterator<(K, V)> for Dict<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Dict<K, V> {
        Dict::from_entries(entries.into_iter().collect())
    }
}

crate::managed! {
    /// A dict in a manager, as other processes use it. Entries keep the order in which their keys came.
    ///
    /// Keys and values are copied in and out: what was changed in a copy must be [`insert`](Self::insert)ed
    /// again, or be changed where it is by [`apply`](Self::apply). A proxy put into the dict stays a
    /// proxy, and keeps its object alive.
    ///
    /// It prints ([`Display`](std::fmt::Display)) as Python prints the dict, where its keys and values can
    /// be [`Object`](crate::Object)s.
    ///
    /// # Differences from Python
    /// `copy`, `|` and `reversed` of Python give plain entries; take those of [`items`](Self::items) for that.
    /// `fromkeys` is [`Manager::dict_from`]. [`pop`](Self::pop) and [`get`](Self::get) give `None` where Python
    /// raises `KeyError`.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let ages = manager.dict::<String, u32>()?;
    /// ages.insert("bob".to_string(), 42)?;
    /// assert_eq!(ages.get(&"bob".to_string())?, Some(42));
    ///
    /// // Where it is, and nobody comes between:
    /// let birthday = |ages: &mut multiproc::manager::Dict<_, _>, name| {
    ///     ages.get_mut(&name).map(|age: &mut u32| *age += 1).is_some()
    /// };
    /// assert!(ages.apply(birthday, "bob".to_string())?);
    /// assert_eq!(ages.to_string(), "{'bob': 43}");
    /// # Ok(())
    /// # }
    /// ```
    pub impl<K: Eq + Hash + Clone, V> Dict as DictProxy = "dict" {
        /// How many entries there are.
        fn len(&self) -> usize;
        /// Whether there are none.
        fn is_empty(&self) -> bool;
        /// Whether `key` has a value.
        fn contains_key(&self, key: &K) -> bool;
        /// The value of `key`, if it has one.
        fn get(&self, key: &K) -> Option<V>;
        /// Sets the value of `key`.
        fn insert(&mut self, key: K, value: V);
        /// Sets the value of `key`, and gives the one it had.
        fn replace(&mut self, key: K, value: V) -> Option<V>;
        /// Takes the entry of `key` out, and tells whether there was one.
        fn remove(&mut self, key: &K) -> bool;
        /// Takes the entry of `key` out and gives its value, if there was one.
        fn pop(&mut self, key: &K) -> Option<V>;
        /// Takes the entry whose key came last, if there is any.
        fn pop_item(&mut self) -> Option<(K, V)>;
        /// The value of `key`, which is set to `value` if it has none.
        fn set_default(&mut self, key: K, value: V) throws -> V;
        /// Sets the values of many keys: Python's `update` and `|=`.
        fn update(&mut self, entries: Vec<(K, V)>);
        /// A copy of all keys.
        fn keys(&self) -> Vec<K>;
        /// A copy of all values.
        fn values(&self) -> Vec<V>;
        /// A copy of all entries.
        fn items(&self) -> Vec<(K, V)>;
        /// Takes all entries out.
        fn clear(&mut self);
        /// The entry at a place of an iteration, which began with so many, and the place behind it.
        #[doc(hidden)]
        fn entry_after(&self, place: u64, len: usize) throws -> Option<(K, V, u64)>;
    }
}

impl<K, V> DictProxy<K, V>
where
    K: Encode + Decode + Eq + Hash + Clone + 'static,
    V: Encode + Decode + 'static,
{
    /// The entries, asked for one by one.
    ///
    /// # Errors
    /// * [`Error::InvalidArgument`]: meanwhile an entry came or went. The iteration is over.
    /// * As every call.
    pub fn iter(&self) -> Result<impl Iterator<Item = Result<(K, V)>> + '_> {
        let len = self.len()?;
        let mut place = Some(0);
        Ok(std::iter::from_fn(move || match self.entry_after(place?, len) {
            Ok(Some((key, value, next))) => {
                place = Some(next);
                Some(Ok((key, value)))
            }
            Ok(None) => {
                place = None;
                None
            }
            Err(error) => {
                place = None;
                Some(Err(error))
            }
        }))
    }
}

impl<K, V> fmt::Display for DictProxy<K, V>
where
    K: Encode + Decode + Into<Object> + Eq + Hash + Clone + 'static,
    V: Encode + Decode + Into<Object> + 'static,
{
    /// As Python prints the dict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = |entries: Vec<(K, V)>| {
            Object::dict(entries.into_iter().map(|(key, value)| (key.into(), value.into())))
        };
        show(self.items().map(object), f)
    }
}

impl Manager {
    /// Makes an empty dict.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn dict<K, V>(&self) -> Result<DictProxy<K, V>>
    where
        K: Encode + Decode + Eq + Hash + Clone + 'static,
        V: Encode + Decode + 'static,
    {
        self.dict_from([])
    }

    /// Makes a dict of these entries; of those with the same key the last counts.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn dict_from<K, V>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<DictProxy<K, V>>
    where
        K: Encode + Decode + Eq + Hash + Clone + 'static,
        V: Encode + Decode + 'static,
    {
        self.create(Dict::from_entries, (entries.into_iter().collect::<Vec<(K, V)>>(),))
    }
}
