//! Sets.

use super::ordered::Ordered;
use super::show;
use crate::manager::Manager;
use crate::{Decode, Encode, Object, Result};
use std::fmt;
use std::hash::Hash;

/// A set as it is in a manager's server; a [`SetProxy`] stands for it elsewhere.
#[derive(Debug)]
pub struct Set<T>(Ordered<T, ()>);

impl<T: Eq + Hash> Set<T> {
    pub(in crate::manager) fn from_items(items: Vec<T>) -> Set<T> {
        let mut set = Set(Ordered::new());
        set.update(items);
        set
    }

    /// The items in the order in which they came.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().map(|(item, ())| item)
    }

    pub(in crate::manager) fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// Whether `item` is there.
    pub fn contains(&self, item: &T) -> bool {
        self.0.contains(item)
    }

    /// Puts `item` in, and tells whether it was new.
    pub fn insert(&mut self, item: T) -> bool {
        self.0.insert(item, ()).is_none()
    }

    /// Takes `item` out, and tells whether it was there.
    pub fn remove(&mut self, item: &T) -> bool {
        self.0.remove(item).is_some()
    }

    pub(in crate::manager) fn pop(&mut self) -> Option<T> {
        self.0.pop().map(|(item, ())| item)
    }

    pub(in crate::manager) fn update(&mut self, items: Vec<T>) {
        for item in items {
            self.0.insert(item, ());
        }
    }

    fn items(&self) -> Vec<&T> {
        self.iter().collect()
    }

    pub(in crate::manager) fn clear(&mut self) {
        self.0.clear();
    }

    pub(in crate::manager) fn union(&self, other: Vec<T>) -> Vec<T>
    where
        T: Clone,
    {
        let mut all = Set::from_items(self.iter().cloned().collect());
        all.update(other);
        all.iter().cloned().collect()
    }

    pub(in crate::manager) fn intersection(&self, other: Vec<T>) -> Vec<&T> {
        let other = Set::from_items(other);
        self.iter().filter(|item| other.contains(item)).collect()
    }

    pub(in crate::manager) fn difference(&self, other: Vec<T>) -> Vec<&T> {
        let other = Set::from_items(other);
        self.iter().filter(|item| !other.contains(item)).collect()
    }

    pub(in crate::manager) fn symmetric_difference(&self, other: Vec<T>) -> Vec<T>
    where
        T: Clone,
    {
        let other = Set::from_items(other);
        let ours = self.iter().filter(|item| !other.contains(item));
        let theirs = other.iter().filter(|item| !self.contains(item));
        ours.chain(theirs).cloned().collect()
    }

    pub(in crate::manager) fn intersection_update(&mut self, other: Vec<T>) {
        let other = Set::from_items(other);
        self.retain(|item| other.contains(item));
    }

    pub(in crate::manager) fn difference_update(&mut self, other: Vec<T>) {
        for item in &other {
            self.0.remove(item);
        }
    }

    pub(in crate::manager) fn symmetric_difference_update(&mut self, other: Vec<T>) {
        let mut other = Set::from_items(other);
        while let Some(item) = other.pop() {
            if !self.remove(&item) {
                self.insert(item);
            }
        }
    }

    fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        let mut kept = Ordered::new();
        let mut gone = std::mem::replace(&mut self.0, Ordered::new());
        let mut items = Vec::new();
        while let Some((item, ())) = gone.pop() {
            items.push(item);
        }
        for item in items.into_iter().rev().filter(|item| keep(item)) {
            kept.insert(item, ());
        }
        self.0 = kept;
    }

    pub(in crate::manager) fn is_disjoint(&self, other: Vec<T>) -> bool {
        other.iter().all(|item| !self.contains(item))
    }

    pub(in crate::manager) fn is_subset(&self, other: Vec<T>) -> bool {
        let other = Set::from_items(other);
        self.iter().all(|item| other.contains(item))
    }

    pub(in crate::manager) fn is_superset(&self, other: Vec<T>) -> bool {
        other.iter().all(|item| self.contains(item))
    }

    fn equals(&self, other: Vec<T>) -> bool {
        let other = Set::from_items(other);
        other.len() == self.len() && self.iter().all(|item| other.contains(item))
    }
}

impl<T: Eq + Hash> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Set<T> {
        Set::from_items(items.into_iter().collect())
    }
}

crate::managed! {
    /// A set in a manager, as other processes use it. Items keep the order in which they came.
    ///
    /// The other operand of an operation is any vector; [`items`](Self::items) of another proxy gives one.
    /// Operations give plain vectors, those called `update` change the set.
    ///
    /// # Differences from Python
    /// Python's `add` and `discard` are [`insert`](Self::insert) and [`remove`](Self::remove).
    /// Python's sets have no order, and `pop` takes any item; here it takes the one that came last.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let set = manager.set([1, 2, 3])?;
    /// assert!(set.insert(4)? && !set.insert(4)?);
    /// assert_eq!(set.intersection(vec![2, 4, 6])?, [2, 4]);
    /// assert_eq!(set.to_string(), "{1, 2, 3, 4}");
    /// # Ok(())
    /// # }
    /// ```
    pub impl<T: Eq + Hash + Clone> Set as SetProxy = "set" {
        /// How many items there are.
        fn len(&self) -> usize;
        /// Whether there are none.
        fn is_empty(&self) -> bool;
        /// Whether `item` is there.
        fn contains(&self, item: &T) -> bool;
        /// Puts `item` in, and tells whether it was new.
        fn insert(&mut self, item: T) -> bool;
        /// Takes `item` out, and tells whether it was there.
        fn remove(&mut self, item: &T) -> bool;
        /// Takes the item that came last, if there is any.
        fn pop(&mut self) -> Option<T>;
        /// A copy of all items.
        fn items(&self) -> Vec<T>;
        /// Takes all items out.
        fn clear(&mut self);
        /// Puts items in: Python's `|=`.
        fn update(&mut self, items: Vec<T>);
        /// Keeps what is in `other` too: Python's `&=`.
        fn intersection_update(&mut self, other: Vec<T>);
        /// Takes out what is in `other`: Python's `-=`.
        fn difference_update(&mut self, other: Vec<T>);
        /// Takes out what is in `other` and puts in the rest of it: Python's `^=`.
        fn symmetric_difference_update(&mut self, other: Vec<T>);
        /// What is here or in `other`.
        fn union(&self, other: Vec<T>) -> Vec<T>;
        /// What is here and in `other`.
        fn intersection(&self, other: Vec<T>) -> Vec<T>;
        /// What is here and not in `other`.
        fn difference(&self, other: Vec<T>) -> Vec<T>;
        /// What is in one of both alone.
        fn symmetric_difference(&self, other: Vec<T>) -> Vec<T>;
        /// Whether nothing of `other` is here.
        fn is_disjoint(&self, other: Vec<T>) -> bool;
        /// Whether all that is here is in `other`.
        fn is_subset(&self, other: Vec<T>) -> bool;
        /// Whether all of `other` is here.
        fn is_superset(&self, other: Vec<T>) -> bool;
        /// Whether the same items are here and in `other`.
        fn equals(&self, other: Vec<T>) -> bool;
    }
}

impl<T> fmt::Display for SetProxy<T>
where
    T: Encode + Decode + Into<Object> + Eq + Hash + Clone + 'static,
{
    /// As Python prints the set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.items().map(|items| Object::set(items.into_iter().map(Into::into))), f)
    }
}

impl Manager {
    /// Makes a set of these items.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn set<T>(&self, items: impl IntoIterator<Item = T>) -> Result<SetProxy<T>>
    where
        T: Encode + Decode + Eq + Hash + Clone + 'static,
    {
        self.create(Set::from_items, (items.into_iter().collect::<Vec<T>>(),))
    }
}
