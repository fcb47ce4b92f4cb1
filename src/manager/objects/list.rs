//! Lists.

use super::show;
use crate::manager::Manager;
use crate::{Decode, Encode, Error, Object, Result};
use std::fmt;
use std::ops::{Deref, DerefMut, Range};

/// A list as it is in a manager's server, where it derefs to the `Vec` that it is; a [`ListProxy`] stands
/// for it elsewhere.
#[derive(Debug)]
pub struct List<T>(Vec<T>);

impl<T> List<T> {
    fn from_items(items: Vec<T>) -> List<T> {
        List(items)
    }

    /// The place that an index means: from the end, if it is negative.
    fn place(&self, index: i64) -> Result<usize> {
        let len = self.0.len() as i64;
        let place = if index < 0 { index + len } else { index };
        if (0..len).contains(&place) {
            Ok(place as usize)
        } else {
            Err(Error::invalid("list index out of range"))
        }
    }

    /// Where a slice begins or ends: indices beyond the list mean its end.
    fn bound(&self, index: i64) -> usize {
        let len = self.0.len() as i64;
        (if index < 0 { index.saturating_add(len) } else { index }).clamp(0, len) as usize
    }

    fn range(&self, start: i64, end: i64) -> Range<usize> {
        let start = self.bound(start);
        start..self.bound(end).max(start)
    }

    fn item(&self, index: i64) -> Result<&T> {
        self.place(index).map(|place| &self.0[place])
    }

    fn slice(&self, start: i64, end: i64) -> Vec<&T> {
        self.0[self.range(start, end)].iter().collect()
    }

    fn set_slice(&mut self, start: i64, end: i64, items: Vec<T>) {
        let range = self.range(start, end);
        self.0.splice(range, items);
    }

    fn remove_slice(&mut self, start: i64, end: i64) {
        let range = self.range(start, end);
        self.0.drain(range);
    }

    fn items(&self) -> &Vec<T> {
        &self.0
    }

    fn set(&mut self, index: i64, item: T) -> Result<()> {
        let place = self.place(index)?;
        self.0[place] = item;
        Ok(())
    }

    fn remove_at(&mut self, index: i64) -> Result<()> {
        self.pop_at(index).map(drop)
    }

    fn append(&mut self, item: T) {
        self.0.push(item);
    }

    fn extend(&mut self, items: Vec<T>) {
        self.0.extend(items);
    }

    fn insert(&mut self, index: i64, item: T) {
        let place = self.bound(index);
        self.0.insert(place, item);
    }

    fn pop(&mut self) -> Result<T> {
        self.0.pop().ok_or_else(|| Error::invalid("pop from empty list"))
    }

    fn pop_at(&mut self, index: i64) -> Result<T> {
        let place = self.place(index)?;
        Ok(self.0.remove(place))
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(items: Vec<T>) -> List<T> {
        List(items)
    }
}

impl<T> Deref for List<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

crate::managed! {
    /// A list in a manager, as other processes use it.
    ///
    /// A negative index counts from the end. Items are copied in and out: what was changed in a copy must
    /// be [`set`](Self::set) again. A proxy put into the list stays a proxy, and keeps its object alive.
    ///
    /// It prints ([`Display`](std::fmt::Display)) as Python prints the list, where its items can be
    /// [`Object`](crate::Object)s.
    ///
    /// # Differences from Python
    /// `list + list`, `list * n`, `list.copy()` and `reversed(list)` of Python give plain items; take those of
    /// [`to_vec`](Self::to_vec) for that.
    /// Methods that compare or order items run by [`apply`](Self::apply): not from another program, and
    /// not in a pipeline.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// let manager = multiproc::Manager::start()?;
    /// let list = manager.list([3, 1, 2])?;
    /// list.append(7)?;
    /// list.sort()?;
    /// assert_eq!((list.len()?, list.item(-1)?), (4, 7));
    /// assert_eq!(list.slice(1, 3)?, [2, 3]);
    /// assert_eq!(list.to_string(), "[1, 2, 3, 7]");
    /// # Ok(())
    /// # }
    /// ```
    pub impl<T> List as ListProxy = "list" {
        /// How many items there are.
        fn len(&self) -> usize;
        /// Whether there are none.
        fn is_empty(&self) -> bool;
        /// The item at `index`; an error if there is none.
        fn item(&self, index: i64) throws -> T;
        /// Replaces the item at `index`; an error if there is none.
        fn set(&mut self, index: i64, item: T) throws;
        /// Takes the item at `index` out: Python's `del list[index]`.
        fn remove_at(&mut self, index: i64) throws;
        /// The items from `start` to before `end`: Python's `list[start:end]`.
        fn slice(&self, start: i64, end: i64) -> Vec<T>;
        /// Replaces the items from `start` to before `end` by others, of whatever number.
        fn set_slice(&mut self, start: i64, end: i64, items: Vec<T>);
        /// Takes the items from `start` to before `end` out.
        fn remove_slice(&mut self, start: i64, end: i64);
        /// A copy of all items.
        fn items(&self) -> Vec<T>;
        /// Puts an item at the end.
        fn append(&mut self, item: T);
        /// Puts items at the end: Python's `list += items`.
        fn extend(&mut self, items: Vec<T>);
        /// Puts an item before the one at `index`, or at the end.
        fn insert(&mut self, index: i64, item: T);
        /// Takes the last item; an error if there is none.
        fn pop(&mut self) throws -> T;
        /// Takes the item at `index`; an error if there is none.
        fn pop_at(&mut self, index: i64) throws -> T;
        /// Takes all items out.
        fn clear(&mut self);
        /// Turns the order around.
        fn reverse(&mut self);
    }
}

impl<T: Encode + Decode + 'static> ListProxy<T> {
    /// A copy of all items.
    ///
    /// # Errors
    /// As every call: [`Error::Disconnected`] when the server is gone.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        self.items()
    }

    /// The items, asked for one by one: what others change meanwhile is seen.
    pub fn iter(&self) -> impl Iterator<Item = Result<T>> + '_ {
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let index = next?;
            let found =
                self.pipeline(|list| list.slice(index, index + 1)).and_then(|item| item.get());
            match found.map(|mut items| items.pop()) {
                Ok(Some(item)) => {
                    next = Some(index + 1);
                    Some(Ok(item))
                }
                Ok(None) => {
                    next = None;
                    None
                }
                Err(error) => {
                    next = None;
                    Some(Err(error))
                }
            }
        })
    }

    /// Repeats the items so that there are `count` times as many: Python's `list *= count`.
    ///
    /// # Errors
    /// * [`Error::Overflow`]: more than 2^28 items; the list is as before.
    /// * Those of [`apply`](Self::apply).
    pub fn repeat(&self, count: usize) -> Result<()>
    where
        T: Clone,
    {
        match self.apply(|list, count| list.repeat_in_place(count), count)? {
            true => Ok(()),
            false => Err(Error::overflow("items of a list")),
        }
    }

    /// Orders the items.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn sort(&self) -> Result<()>
    where
        T: Ord,
    {
        self.apply(|list, ()| list.0.sort(), ())
    }

    /// Whether `item` is in the list.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn contains(&self, item: T) -> Result<bool>
    where
        T: PartialEq,
    {
        self.apply(|list, item| list.0.contains(&item), item)
    }

    /// How often `item` is in the list.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn count(&self, item: T) -> Result<usize>
    where
        T: PartialEq,
    {
        self.apply(|list, item| list.0.iter().filter(|other| **other == item).count(), item)
    }

    /// Where `item` is in the list first, if it is.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn index(&self, item: T) -> Result<Option<usize>>
    where
        T: PartialEq,
    {
        self.apply(|list, item| list.0.iter().position(|other| *other == item), item)
    }

    /// Takes the first `item` out of the list, and tells whether there was one.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn remove(&self, item: T) -> Result<bool>
    where
        T: PartialEq,
    {
        self.apply(
            |list, item| {
                let place = list.0.iter().position(|other| *other == item);
                place.map(|place| list.0.remove(place)).is_some()
            },
            item,
        )
    }
}

/// The most items that a list is repeated to: the number comes from a client, and the memory is everybody's.
const MOST_ITEMS: usize = 1 << 28;

/// The items, so many times one after the other; `None` if they would be too many.
pub(in crate::manager) fn repeat_items<T: Clone>(items: &[T], count: usize) -> Option<Vec<T>> {
    // Nothing at all would be repeated for ever.
    let count = if items.is_empty() { 0 } else { count };
    let fits = items.len().checked_mul(count).is_some_and(|len| len <= MOST_ITEMS);
    fits.then(|| std::iter::repeat_n(items, count).flatten().cloned().collect())
}

impl<T: Clone> List<T> {
    /// False if the items would be too many.
    fn repeat_in_place(&mut self, count: usize) -> bool {
        repeat_items(&self.0, count).map(|items| self.0 = items).is_some()
    }
}

impl<T: Encode + Decode + Into<Object> + 'static> fmt::Display for ListProxy<T> {
    /// As Python prints the list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.items().map(|items| Object::list(items.into_iter().map(Into::into))), f)
    }
}

impl Manager {
    /// Makes a list of these items.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn list<T>(&self, items: impl IntoIterator<Item = T>) -> Result<ListProxy<T>>
    where
        T: Encode + Decode + 'static,
    {
        self.create(List::from_items, (items.into_iter().collect::<Vec<T>>(),))
    }
}
