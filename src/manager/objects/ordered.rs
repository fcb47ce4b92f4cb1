//! A map whose entries keep the order in which their keys came first, as Python's dict does.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

/// Entries in order; those that were taken out leave holes until there are more of them than entries.
#[derive(Debug)]
pub(super) struct Ordered<K, V> {
    entries: Vec<Option<(Rc<K>, V)>>,
    places: HashMap<Rc<K>, usize>,
}

impl<K: Eq + Hash, V> Ordered<K, V> {
    pub(super) fn new() -> Ordered<K, V> {
        Ordered { entries: Vec::new(), places: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.places.contains_key(key)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let place = *self.places.get(key)?;
        self.entries[place].as_ref().map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = *self.places.get(key)?;
        self.entries[place].as_mut().map(|(_, value)| value)
    }

    /// Sets the value of a key, and gives the one it had; the entry stays where it was.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(&key) {
            return Some(std::mem::replace(old, value));
        }
        let key = Rc::new(key);
        self.places.insert(Rc::clone(&key), self.entries.len());
        self.entries.push(Some((key, value)));
        None
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.places.remove(key)?;
        let (_, value) = self.entries[place].take()?;
        self.close_holes();
        Some(value)
    }

    /// Takes the entry that came last.
    pub(super) fn pop(&mut self) -> Option<(K, V)> {
        loop {
            if let Some((key, value)) = self.entries.pop()? {
                self.places.remove(&key);
                return Rc::into_inner(key).map(|key| (key, value));
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.places.clear();
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.entries.iter().flatten().map(|(key, value)| (&**key, value))
    }

    /// The first entry at `place` or behind it, and the place behind that.
    pub(super) fn at_or_after(&self, place: usize) -> Option<(&K, &V, usize)> {
        let rest = self.entries.get(place..)?;
        let (skipped, (key, value)) =
            rest.iter().enumerate().find_map(|(i, entry)| Some((i, entry.as_ref()?)))?;
        Some((key, value, place + skipped + 1))
    }

    fn close_holes(&mut self) {
        if self.entries.len() < 16 || self.entries.len() < 2 * self.places.len() {
            return;
        }
        self.entries.retain(Option::is_some);
        for (place, entry) in self.entries.iter().enumerate() {
            if let Some((key, _)) = entry {
                if let Some(known) = self.places.get_mut(key) {
                    *known = place;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_that_of_the_first_insertion_also_after_many_removals() {
        let mut map = Ordered::new();
        for n in 0..100 {
            assert_eq!(map.insert(n, n * 2), None);
        }
        assert_eq!(map.insert(3, 0), Some(6));
        for n in (0..100).filter(|n| n % 10 != 3) {
            assert_eq!(map.remove(&n), Some(n * 2));
        }
        assert!(map.remove(&0).is_none() && map.entries.len() < 32);
        let keys: Vec<_> = map.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [3, 13, 23, 33, 43, 53, 63, 73, 83, 93]);
        assert_eq!(map.get(&53), Some(&106));
        assert_eq!((map.pop(), map.len()), (Some((93, 186)), 9));
    }
}
