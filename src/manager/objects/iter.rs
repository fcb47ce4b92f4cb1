//! Iterators.

use crate::{Decode, Encode, Result};
use std::fmt;
use std::iter::Fuse;

/// An iterator as it is in a manager's server; an [`IterProxy`] stands for it elsewhere.
pub struct Iter<T>(Fuse<Box<dyn Iterator<Item = T>>>);

impl<T> Iter<T> {
    /// Puts an iterator, or what can be made one, into an object; its items are made when they are asked
    /// for.
    pub fn new<I>(items: I) -> Iter<T>
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: 'static,
    {
        let items: Box<dyn Iterator<Item = T>> = Box::new(items.into_iter());
        Iter(items.fuse())
    }

    pub(in crate::manager) fn next_item(&mut self) -> Option<T> {
        self.0.next()
    }

    fn next_items(&mut self, count: usize) -> Vec<T> {
        self.0.by_ref().take(count).collect()
    }
}

impl<T> fmt::Debug for Iter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

crate::managed! {
    /// An iterator in a manager, as other processes use it: each item goes to one of them.
    ///
    /// # Differences from Python
    /// An iterator has no `send` and no `throw`: those are Python's generators'. It is closed with its last
    /// proxy.
    ///
    /// # Examples
    /// ```
    /// # multiproc::init_before_main!();
    /// # fn main() -> multiproc::Result<()> {
    /// use multiproc::manager::Iter;
    ///
    /// let manager = multiproc::Manager::start()?;
    /// let squares = manager.create(|| Iter::new((0u64..).map(|n| n * n)), ())?;
    /// assert_eq!(squares.next_item()?, Some(0));
    /// assert_eq!(squares.next_items(3)?, [1, 4, 9]);
    /// let next: multiproc::Result<Vec<_>> = squares.iter().take(2).collect();
    /// assert_eq!(next?, [16, 25]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "IteratorProxy")]
    pub impl<T> Iter as IterProxy = "Iterator" {
        /// The next item, if there is one.
        fn next_item(&mut self) -> Option<T>;
        /// The next items, `count` if there are as many.
        fn next_items(&mut self, count: usize) -> Vec<T>;
    }
}

impl<T: Encode + Decode + 'static> IterProxy<T> {
    /// The items that are left, asked for one by one. It ends with the first error.
    pub fn iter(&self) -> impl Iterator<Item = Result<T>> + '_ {
        let mut is_over = false;
        std::iter::from_fn(move || {
            if is_over {
                return None;
            }
            let item = self.next_item().transpose();
            is_over = !matches!(item, Some(Ok(_)));
            item
        })
    }
}
