//! The files below some paths, in the order of `find PATH... -type f | LC_ALL=C sort`.
//!
//! They are looked for while they are asked for: the first are hashed while the last are not yet found.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What could not be looked at, and why.
pub(crate) type Failure = (PathBuf, io::Error);

/// The regular files at and below some paths, and what could not be looked at in between. Symbolic links
/// are not followed, as `find` does not.
pub(crate) struct Walk {
    trees: Vec<Peekable<Tree>>,
}

impl Walk {
    pub(crate) fn new(paths: &[PathBuf]) -> Walk {
        Walk { trees: paths.iter().map(|path| Tree::new(path.clone()).peekable()).collect() }
    }
}

impl Iterator for Walk {
    type Item = Result<PathBuf, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        // Each tree is in order by itself.
        let first = |tree: &mut Peekable<Tree>| match tree.peek()? {
            Err(_) => Some(Vec::new()),
            Ok(path) => Some(path.as_os_str().as_bytes().to_vec()),
        };
        if let [tree] = &mut self.trees[..] {
            return tree.next();
        }
        let heads: Vec<_> = self.trees.iter_mut().map(first).collect();
        let least = (0..heads.len()).filter(|&at| heads[at].is_some()).min_by_key(|&at| &heads[at]);
        self.trees[least?].next()
    }
}

/// What is at and below one path.
struct Tree {
    /// What is left of each folder on the way down.
    open: Vec<std::vec::IntoIter<Entry>>,
    failures: VecDeque<Failure>,
}

struct Entry {
    path: PathBuf,
    is_folder: bool,
}

impl Tree {
    fn new(path: PathBuf) -> Tree {
        let mut tree = Tree { open: Vec::new(), failures: VecDeque::new() };
        match fs::symlink_metadata(&path) {
            Ok(metadata) => tree.open.extend([sorted(entry(path, metadata.file_type()), 0)]),
            Err(error) => tree.failures.push_back((path, error)),
        }
        tree
    }

    /// Goes down into a folder.
    fn enter(&mut self, folder: PathBuf) {
        let mut entries = Vec::new();
        if let Err(error) = self.read(&folder, &mut entries) {
            self.failures.push_back((folder.clone(), error));
        }
        self.open.push(sorted(entries, folder.as_os_str().len()));
    }

    fn read(&mut self, folder: &Path, entries: &mut Vec<Entry>) -> io::Result<()> {
        for found in fs::read_dir(folder)? {
            let found = found?;
            match found.file_type() {
                Ok(kind) => entries.extend(entry(found.path(), kind)),
                Err(error) => self.failures.push_back((found.path(), error)),
            }
        }
        Ok(())
    }
}

impl Iterator for Tree {
    type Item = Result<PathBuf, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(failure) = self.failures.pop_front() {
                return Some(Err(failure));
            }
            match self.open.last_mut()?.next() {
                None => drop(self.open.pop()),
                Some(Entry { path, is_folder: false }) => return Some(Ok(path)),
                Some(Entry { path, is_folder: true }) => self.enter(path),
            }
        }
    }
}

/// Folders and regular files; nothing else counts.
fn entry(path: PathBuf, kind: fs::FileType) -> Option<Entry> {
    (kind.is_dir() || kind.is_file()).then(|| Entry { path, is_folder: kind.is_dir() })
}

/// Puts entries, whose paths have the first `same` bytes in common, in the order of the paths that are at
/// and below them.
fn sorted(entries: impl IntoIterator<Item = Entry>, same: usize) -> std::vec::IntoIter<Entry> {
    let mut entries: Vec<Entry> = entries.into_iter().collect();
    entries.sort_by(|a, b| a.compare(b, same));
    entries.into_iter()
}

impl Entry {
    fn compare(&self, other: &Entry, same: usize) -> Ordering {
        let (own, others) = (self.path.as_os_str().as_bytes(), other.path.as_os_str().as_bytes());
        let both = own.len().min(others.len());
        let tails = || self.byte(both).cmp(&other.byte(both));
        own[same..both].cmp(&others[same..both]).then_with(tails)
    }

    /// The byte at a place of all paths below: behind a folder's own there is a slash.
    fn byte(&self, at: usize) -> Option<u8> {
        let slash = self.is_folder.then_some(b'/');
        self.path.as_os_str().as_bytes().get(at).copied().or(slash)
    }
}
