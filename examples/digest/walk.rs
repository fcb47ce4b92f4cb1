//! The files below some paths, in the order of `find PATH... -type f | LC_ALL=C sort`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a walk found.
#[derive(Default)]
pub(crate) struct Walk {
    /// Every regular file, ordered by the bytes of its path.
    pub(crate) files: Vec<PathBuf>,
    /// What could not be looked at, and why.
    pub(crate) failures: Vec<(PathBuf, io::Error)>,
}

/// Looks for regular files at and below `paths`; symbolic links are not followed, as `find` does not.
pub(crate) fn walk(paths: &[PathBuf]) -> Walk {
    let mut walk = Walk::default();
    for path in paths {
        match fs::symlink_metadata(path) {
            Ok(metadata) => walk.visit(path.clone(), metadata.file_type()),
            Err(error) => walk.failures.push((path.clone(), error)),
        }
    }
    // By bytes: `Path` itself compares component by component.
    walk.files.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    walk
}

impl Walk {
    fn visit(&mut self, path: PathBuf, kind: fs::FileType) {
        let mut folders = Vec::new();
        self.sort_in(path, kind, &mut folders);
        // No recursion: a tree may be deeper than the stack.
        while let Some(folder) = folders.pop() {
            if let Err(error) = self.read_folder(&folder, &mut folders) {
                self.failures.push((folder, error));
            }
        }
    }

    fn sort_in(&mut self, path: PathBuf, kind: fs::FileType, folders: &mut Vec<PathBuf>) {
        if kind.is_dir() {
            folders.push(path);
        } else if kind.is_file() {
            self.files.push(path);
        }
    }

    fn read_folder(&mut self, folder: &Path, folders: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type() {
                Ok(kind) => self.sort_in(entry.path(), kind, folders),
                Err(error) => self.failures.push((entry.path(), error)),
            }
        }
        Ok(())
    }
}
