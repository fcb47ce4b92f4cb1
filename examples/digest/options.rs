//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The one line that bad usage is answered with.
pub(crate) const USAGE: &str = "usage: digest [--workers N] [--kill-workers MS] PATH...";

/// What the user asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// How many processes hash; `None` means as many as this process may use CPUs.
    pub(crate) workers: Option<usize>,
    /// How often a random worker is killed.
    pub(crate) kill_workers: Option<Duration>,
    /// Where to look for files.
    pub(crate) paths: Vec<PathBuf>,
}

impl Options {
    /// Reads the arguments after the program's name; `None` if they make no sense.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Option<Options> {
        let mut options = Options::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--") => options.paths.extend(args.by_ref().map(PathBuf::from)),
                Some(option) if option.len() > 1 && option.starts_with('-') => {
                    options.set(option, &mut args)?;
                }
                _ => options.paths.push(arg.into()),
            }
        }
        (!options.paths.is_empty()).then_some(options)
    }

    /// Takes `--name VALUE` or `--name=VALUE`; the values are numbers above zero.
    fn set(&mut self, option: &str, args: &mut impl Iterator<Item = OsString>) -> Option<()> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (option, args.next()?.into_string().ok()?),
        };
        let number: usize = value.parse().ok().filter(|&number| number > 0)?;
        match name {
            "--workers" => self.workers = Some(number),
            "--kill-workers" => self.kill_workers = Some(Duration::from_millis(number as u64)),
            _ => return None,
        }
        Some(())
    }
}
