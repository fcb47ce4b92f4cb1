//! The protocols of the ring as state machines, every interleaving of which is tried, with deaths.
//!
//! Each process is at one step of the code; a step reads or writes one shared thing. The words of the cursors are
//! the real ones. Orders that are known to be wrong are there too: the explorer has to find them out.

mod crowd;
mod items;
mod space;

use std::collections::HashSet;
use std::hash::Hash;

/// What is shared, and what each process does with it.
trait Protocol {
    type Shared: Copy + Eq + Hash;
    /// Where a process is.
    type At: Copy + Eq + Hash;

    /// Where a process is that has ended.
    const GONE: Self::At;

    /// What process `who` may do next, and what comes of it; nothing, if it has to wait.
    fn steps(
        &self,
        shared: Self::Shared,
        who: usize,
        at: Self::At,
    ) -> Vec<(Self::Shared, Self::At)>;

    /// What the system, and who hears of it, make of a death; false if this one is not to die.
    fn bury(&self, shared: &mut Self::Shared, who: usize, at: Self::At) -> bool;

    /// What must never be the case.
    fn wrong(&self, shared: &Self::Shared) -> Option<&'static str>;

    /// What must not be the case when nobody can do anything.
    fn stuck(&self, shared: &Self::Shared, all: &[Self::At]) -> Option<&'static str>;
}

/// Tries everything that the processes can do, so many of which may die, and says what went wrong, if anything
/// did, and how many states there are.
fn explore<P: Protocol, const N: usize>(
    protocol: &P,
    shared: P::Shared,
    all: [P::At; N],
    deaths: u8,
) -> (Option<&'static str>, usize) {
    let first = (shared, all, deaths);
    let (mut seen, mut todo) = (HashSet::from([first]), vec![first]);
    while let Some((shared, all, deaths)) = todo.pop() {
        if let Some(wrong) = protocol.wrong(&shared) {
            return (Some(wrong), seen.len());
        }
        let mut still = true;
        for (who, &at) in all.iter().enumerate() {
            let with = |at| {
                let mut all = all;
                all[who] = at;
                all
            };
            let steps = protocol.steps(shared, who, at);
            still &= steps.is_empty();
            let mut next: Vec<_> =
                steps.into_iter().map(|(shared, at)| (shared, with(at), deaths)).collect();
            let mut left = shared;
            if deaths > 0 && at != P::GONE && protocol.bury(&mut left, who, at) {
                next.push((left, with(P::GONE), deaths - 1));
            }
            todo.extend(next.into_iter().filter(|world| seen.insert(*world)));
        }
        if let Some(stuck) = still.then(|| protocol.stuck(&shared, &all)).flatten() {
            return (Some(stuck), seen.len());
        }
    }
    (None, seen.len())
}
