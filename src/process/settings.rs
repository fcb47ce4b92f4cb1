//! What may be chosen for a process, apart from what it does.

use super::Process;
use super::authkey::AuthKey;
use super::starter::Starter;
use super::stdio::Stdio;
use super::surroundings::{Changes, Fences};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) name: Option<String>,
    pub(crate) daemon: Option<bool>,
    pub(crate) method: Option<&'static Starter>,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) argv0: Option<OsString>,
    pub(crate) authkey: Option<AuthKey>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) environment: Changes,
    pub(crate) streams: [Option<Stdio>; 3],
    pub(crate) fences: Fences,
}

/// Around the process, as in [`std::process::Command`]. A child made by Fork or ForkServer puts it on
/// before its function runs, a spawned one has its environment from the start.
impl<R> Process<R> {
    /// Sets a variable of the process's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Process<R> {
        let (name, value) = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.settings.environment.variables.push((name, Some(value)));
        self
    }

    /// Takes a variable out of the process's environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Process<R> {
        self.settings.environment.variables.push((name.as_ref().to_owned(), None));
        self
    }

    /// Gives the process no variable but those set after this.
    pub fn env_clear(mut self) -> Process<R> {
        self.settings.environment = Changes { clear: true, variables: Vec::new() };
        self
    }

    /// What a spawned process finds in the place of its program's name, the first of its arguments, and
    /// what `ps` calls it. A process made by Fork or ForkServer has the arguments of who forked it, and
    /// only the name (its first 15 bytes) is changed.
    #[doc(alias = "arg0")]
    pub fn argv0(mut self, name: impl AsRef<OsStr>) -> Process<R> {
        self.settings.argv0 = Some(name.as_ref().to_owned());
        self
    }

    /// The process's [`AuthKey`]; by default, that of this process.
    pub fn authkey(mut self, key: impl Into<AuthKey>) -> Process<R> {
        self.settings.authkey = Some(key.into());
        self
    }

    /// The process's working directory; by default, that of this process at the start.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Process<R> {
        self.settings.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// The process's standard input: at its end, by default.
    pub fn stdin(self, stream: impl Into<Stdio>) -> Process<R> {
        self.stream(0, stream.into())
    }

    /// The process's standard output: this process's, by default (that of the forkserver, which has
    /// it from this process when it is started).
    pub fn stdout(self, stream: impl Into<Stdio>) -> Process<R> {
        self.stream(1, stream.into())
    }

    /// The process's standard error, as [`stdout`](Self::stdout).
    pub fn stderr(self, stream: impl Into<Stdio>) -> Process<R> {
        self.stream(2, stream.into())
    }

    fn stream(mut self, number: usize, stream: Stdio) -> Process<R> {
        self.settings.streams[number] = Some(stream);
        self
    }
}

/// Fences: what the process may use. Where the system refuses one, the function does not run, and
/// [`join`](crate::Child::join) says why.
impl<R> Process<R> {
    /// How many bytes of address space the process may have (`RLIMIT_AS`); what is mapped but not
    /// used counts too.
    pub fn memory_limit(mut self, bytes: u64) -> Process<R> {
        self.settings.fences.memory = Some(bytes);
        self
    }

    /// How long the process may compute (`RLIMIT_CPU`), rounded up to seconds: then it gets SIGXCPU,
    /// and a second later SIGKILL.
    pub fn cpu_limit(mut self, time: Duration) -> Process<R> {
        let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
        self.settings.fences.cpu_time = Some(seconds);
        self
    }

    /// The number below which the process's descriptors stay (`RLIMIT_NOFILE`).
    pub fn open_files(mut self, count: u64) -> Process<R> {
        self.settings.fences.open_files = Some(count);
        self
    }

    /// The processors that the process may run on.
    pub fn affinity(mut self, cpus: &[usize]) -> Process<R> {
        self.settings.fences.affinity = Some(cpus.to_owned());
        self
    }

    /// The process's niceness, from -20 (first) to 19 (last).
    pub fn nice(mut self, nice: i32) -> Process<R> {
        self.settings.fences.nice = Some(nice);
        self
    }

    /// The process group that the process joins; 0 for one of its own.
    pub fn process_group(mut self, group: u32) -> Process<R> {
        self.settings.fences.process_group = Some(group);
        self
    }

    /// The user that the process becomes, once everything else is as it was asked for; it then has no
    /// supplementary groups. Only root may choose freely, and a process that is another's can be
    /// signalled by root alone.
    pub fn uid(mut self, user: u32) -> Process<R> {
        self.settings.fences.uid = Some(user);
        self
    }

    /// The group that the process belongs to.
    pub fn gid(mut self, group: u32) -> Process<R> {
        self.settings.fences.gid = Some(group);
        self
    }

    /// Makes the process the leader of a new session, without a terminal.
    pub fn new_session(mut self) -> Process<R> {
        self.settings.fences.new_session = true;
        self
    }
}
