//! Prints the SHA-256 of every regular file below the given paths, as
//! `find PATH... -type f | LC_ALL=C sort | xargs sha256sum` does.
//!
//! `cargo run --release --example digest -- [--workers N] [--kill-workers MS] PATH...`
//!
//! What cannot be read gives a line on standard error each, and exit code 1 at the end; the rest is
//! done all the same.

mod options;
mod report;
mod sha256;
mod walk;

use options::{Options, USAGE};
use report::{Report, reason};
use sha256::Sha256;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A file's digest in hexadecimal and its length; or why there is none.
type Digest = Result<(String, u64), String>;

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let walk::Walk { files, failures } = walk::walk(&options.paths);
    let mut report = Report::new(files.len());
    for (path, error) in failures {
        report.failure(&path, &reason(&error));
    }
    let done = run(files, &options, |path, digest| match digest {
        Ok((digest, len)) => report.digest(path, &digest, len),
        Err(reason) => {
            report.failure(path, &reason);
            Ok(())
        }
    });
    if let Err(error) = done.and_then(|()| report.finish()) {
        report.failure(Path::new("standard output"), &reason(&error));
    }
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Hands the digest of each file to `each`, in the order of `paths`.
fn run(
    paths: Vec<PathBuf>,
    _options: &Options,
    mut each: impl FnMut(&Path, Digest) -> io::Result<()>,
) -> io::Result<()> {
    for path in paths {
        let digest = digest_file(path.clone());
        each(&path, digest)?;
    }
    Ok(())
}

/// The task: one file.
fn digest_file(path: PathBuf) -> Digest {
    digest_of(&path).map_err(|error| reason(&error))
}

fn digest_of(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let mut hash = Sha256::new();
    let mut len = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hash.finish(), len)),
            Ok(n) => {
                hash.update(&buffer[..n]);
                len += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
