//! Dicts and sets: entries in the order they came, found again by hash.

use super::Object;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::OnceLock;

/// A `dict`: entries in the order in which their keys came first.
///
/// # Examples
/// ```
/// use multiproc::object::Dict;
///
/// let mut ages = Dict::new();
/// ages.insert("bob".into(), 42.into());
/// ages.insert("al".into(), 7.into());
/// assert_eq!(ages.get(&"bob".into()), Some(&42.into()));
/// assert_eq!(multiproc::Object::from(ages).to_string(), "{'bob': 42, 'al': 7}");
/// ```
#[derive(Clone, Default)]
pub struct Dict {
    table: Table<Object>,
}

impl Dict {
    /// An empty dict.
    pub fn new() -> Dict {
        Dict::default()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.table.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.entries.is_empty()
    }

    /// Gives the value of `key`.
    pub fn get(&self, key: &Object) -> Option<&Object> {
        self.table.find(key).map(|place| &self.table.entries[place].1)
    }

    /// Sets the value of `key`, and gives the one it had. The entry stays at its place if there was one.
    pub fn insert(&mut self, key: Object, value: Object) -> Option<Object> {
        self.table.insert(key, value)
    }

    /// Takes the entry of `key` out and gives its value, in time that grows with the dict.
    pub fn remove(&mut self, key: &Object) -> Option<Object> {
        self.table.remove(key)
    }

    /// Gives the entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Object, &Object)> {
        self.table.entries.iter().map(|(key, value)| (key, value))
    }
}

impl fmt::Debug for Dict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl IntoIterator for Dict {
    type Item = (Object, Object);
    type IntoIter = std::vec::IntoIter<(Object, Object)>;

    fn into_iter(self) -> Self::IntoIter {
        self.table.entries.into_iter()
    }
}

impl FromIterator<(Object, Object)> for Dict {
    fn from_iter<I: IntoIterator<Item = (Object, Object)>>(entries: I) -> Dict {
        let mut dict = Dict::new();
        for (key, value) in entries {
            dict.insert(key, value);
        }
        dict
    }
}

/// Without regard to order.
impl PartialEq for Dict {
    fn eq(&self, other: &Dict) -> bool {
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl Eq for Dict {}

impl Hash for Dict {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.table.hash_unordered(state);
    }
}

/// A `set`: items in the order in which they came first.
///
/// # Examples
/// ```
/// let set = multiproc::Object::set([2.into(), 1.into(), 2.into()]);
/// assert_eq!(set.to_string(), "{2, 1}");
/// ```
#[derive(Clone, Default)]
pub struct Set {
    table: Table<()>,
}

impl Set {
    /// An empty set.
    pub fn new() -> Set {
        Set::default()
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.table.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.entries.is_empty()
    }

    /// Whether `item` is there.
    pub fn contains(&self, item: &Object) -> bool {
        self.table.find(item).is_some()
    }

    /// Puts `item` in, and tells whether it was new.
    pub fn insert(&mut self, item: Object) -> bool {
        self.table.insert(item, ()).is_none()
    }

    /// Takes `item` out, and tells whether it was there, in time that grows with the set.
    pub fn remove(&mut self, item: &Object) -> bool {
        self.table.remove(item).is_some()
    }

    /// Gives the items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Object> {
        self.table.entries.iter().map(|(item, ())| item)
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl IntoIterator for Set {
    type Item = Object;
    type IntoIter = std::iter::Map<std::vec::IntoIter<(Object, ())>, fn((Object, ())) -> Object>;

    fn into_iter(self) -> Self::IntoIter {
        self.table.entries.into_iter().map(|(item, ())| item)
    }
}

impl FromIterator<Object> for Set {
    fn from_iter<I: IntoIterator<Item = Object>>(items: I) -> Set {
        let mut set = Set::new();
        for item in items {
            set.insert(item);
        }
        set
    }
}

/// Without regard to order.
impl PartialEq for Set {
    fn eq(&self, other: &Set) -> bool {
        self.len() == other.len() && self.iter().all(|item| other.contains(item))
    }
}

impl Eq for Set {}

impl Hash for Set {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.table.hash_unordered(state);
    }
}

/// A slot that names no entry.
const FREE: usize = usize::MAX;

/// Entries in order, and slots that lead from a key's hash to its entry.
#[derive(Clone)]
struct Table<V> {
    entries: Vec<(Object, V)>,
    /// A power of two of them, at most half of them taken, or none; collisions go to the next slot.
    slots: Vec<usize>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Table { entries: Vec::new(), slots: Vec::new() }
    }
}

impl<V> Table<V> {
    fn find(&self, key: &Object) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.first_slot(key);
        loop {
            match self.slots[slot] {
                FREE => return None,
                place if self.entries[place].0 == *key => return Some(place),
                _ => slot = self.next_slot(slot),
            }
        }
    }

    fn insert(&mut self, key: Object, value: V) -> Option<V> {
        if let Some(place) = self.find(&key) {
            return Some(std::mem::replace(&mut self.entries[place].1, value));
        }
        self.entries.push((key, value));
        if self.entries.len() * 2 > self.slots.len() {
            self.rebuild((self.slots.len() * 2).max(8));
        } else {
            self.take_slot(self.entries.len() - 1);
        }
        None
    }

    fn remove(&mut self, key: &Object) -> Option<V> {
        let (_, value) = self.entries.remove(self.find(key)?);
        self.rebuild(self.slots.len());
        Some(value)
    }

    fn rebuild(&mut self, slots: usize) {
        self.slots = vec![FREE; slots];
        for place in 0..self.entries.len() {
            self.take_slot(place);
        }
    }

    fn take_slot(&mut self, place: usize) {
        let mut slot = self.first_slot(&self.entries[place].0);
        while self.slots[slot] != FREE {
            slot = self.next_slot(slot);
        }
        self.slots[slot] = place;
    }

    fn first_slot(&self, key: &Object) -> usize {
        hasher().hash_one(key) as usize & (self.slots.len() - 1)
    }

    fn next_slot(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }
}

impl<V: Hash> Table<V> {
    /// The same in every order of the entries.
    fn hash_unordered<H: Hasher>(&self, state: &mut H) {
        let sum =
            self.entries.iter().map(|entry| hasher().hash_one(entry)).fold(0, u64::wrapping_add);
        (self.entries.len(), sum).hash(state);
    }
}

/// Hashes keys, as nobody outside can foresee: a sender cannot choose keys that all collide.
fn hasher() -> &'static RandomState {
    static HASHER: OnceLock<RandomState> = OnceLock::new();
    HASHER.get_or_init(RandomState::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dict_keeps_the_order_of_its_keys_and_the_last_value_of_each() {
        let mut dict = Dict::new();
        for key in [3i64, 1, 2] {
            assert_eq!(dict.insert(key.into(), Object::None), None);
        }
        assert_eq!(dict.insert(1.into(), "new".into()), Some(Object::None));
        let keys: Vec<_> = dict.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(keys, [Object::Int(3), Object::Int(1), Object::Int(2)]);
        assert_eq!(dict.get(&1.into()), Some(&"new".into()));
    }

    #[test]
    fn a_removed_key_is_gone_and_the_others_are_still_found() {
        const COUNT: i64 = if cfg!(miri) { 90 } else { 999 };
        let mut set: Set = (0..COUNT).map(Object::from).collect();
        for item in (0..COUNT).step_by(3) {
            assert!(set.remove(&item.into()));
            assert!(!set.remove(&item.into()));
        }
        for item in 0..COUNT {
            assert_eq!(set.contains(&item.into()), item % 3 != 0, "{item}");
        }
        assert_eq!(set.len() as i64, COUNT * 2 / 3);
    }

    #[test]
    fn dicts_and_sets_are_equal_and_hash_alike_in_any_order() {
        let one = Object::set([1.into(), "a".into(), Object::None]);
        let other = Object::set([Object::None, 1.into(), "a".into()]);
        assert_eq!(one, other);
        let keyed = Object::dict([(one, true.into())]);
        assert_eq!(keyed, Object::dict([(other, true.into())]));
    }
}
