//! What the user sees: digests on standard output, errors and progress on standard error.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the progress line changes.
const REFRESH: Duration = Duration::from_millis(100);

/// Writes lines as they come and counts.
pub(crate) struct Report {
    out: BufWriter<io::StdoutLock<'static>>,
    /// Whether there is a progress line: somebody looks at standard error, and sees nothing else.
    progress: bool,
    files: usize,
    bytes: u64,
    failures: usize,
    started: Instant,
    shown: Option<Instant>,
}

impl Report {
    pub(crate) fn new() -> Report {
        Report {
            out: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
            progress: io::stderr().is_terminal() && !io::stdout().is_terminal(),
            files: 0,
            bytes: 0,
            failures: 0,
            started: Instant::now(),
            shown: None,
        }
    }

    /// Whether nothing has failed.
    pub(crate) fn is_clean(&self) -> bool {
        self.failures == 0
    }

    /// One file's digest, as `sha256sum` prints it: a backslash in front tells that the name is
    /// escaped.
    pub(crate) fn digest(&mut self, path: &Path, digest: &str, bytes: u64) -> io::Result<()> {
        let name = escaped(path);
        if name.len() > path.as_os_str().len() {
            self.out.write_all(b"\\")?;
        }
        self.out.write_all(digest.as_bytes())?;
        self.out.write_all(b"  ")?;
        self.out.write_all(&name)?;
        self.out.write_all(b"\n")?;
        self.files += 1;
        self.bytes += bytes;
        self.refresh();
        Ok(())
    }

    /// One thing that could not be done, in one line.
    pub(crate) fn failure(&mut self, path: &Path, reason: &str) {
        self.failures += 1;
        self.clear();
        let line = [b"digest: ", &escaped(path)[..], b": ", reason.as_bytes(), b"\n"].concat();
        // Where even this cannot be written, the exit code still tells.
        let _ = io::stderr().write_all(&line);
    }

    /// Writes out what is buffered; the last word.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.clear();
        if self.progress {
            eprintln!("{}", self.line());
        }
        self.out.flush()
    }

    fn refresh(&mut self) {
        let due = self.shown.is_none_or(|at| at.elapsed() >= REFRESH);
        if self.progress && due {
            self.shown = Some(Instant::now());
            eprint!("\r{}\x1b[K", self.line());
        }
    }

    fn clear(&mut self) {
        if self.progress && self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }

    fn line(&self) -> String {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        let rate = mib / self.started.elapsed().as_secs_f64().max(1e-3);
        format!("{} files, {mib:.1} MiB, {rate:.1} MiB/s", self.files)
    }
}

/// A file name on one line: backslash, line feed and carriage return as two characters each.
fn escaped(path: &Path) -> Cow<'_, [u8]> {
    let bytes = path.as_os_str().as_bytes();
    if !bytes.iter().any(|byte| b"\\\n\r".contains(byte)) {
        return bytes.into();
    }
    let mut escaped = Vec::new();
    for &byte in bytes {
        match byte {
            b'\\' => escaped.extend(b"\\\\"),
            b'\n' => escaped.extend(b"\\n"),
            b'\r' => escaped.extend(b"\\r"),
            byte => escaped.push(byte),
        }
    }
    escaped.into()
}

/// Why the system refused, in its own words alone.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}
