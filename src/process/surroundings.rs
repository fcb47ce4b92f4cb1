//! What a child finds around itself, apart from its arguments.

use super::authkey::{self, AuthKey, Travelling};
use super::stdio::Streams;
use super::target::Location;
use crate::codec::Payload;
use crate::sys::limits::{self, Limit, Resource};
use crate::sys::signal::{self, SIGPIPE};
use crate::{Decode, Decoder, Encode, Encoder, Error, Result, log, sys};
use std::ffi::{CStr, CString, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What a child is given by its parent, and puts on when it begins.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// What takes up the start method that the parent chose for its program; none where it chose none.
    pub(crate) method: Option<Location>,
    /// From which level on what happens in the library is written to stderr.
    pub(crate) log: u8,
    /// The one who is given every record, as an entry point; none where nobody is.
    pub(crate) logger: Option<Location>,
    pub(crate) authkey: Option<AuthKey>,
    /// What `ps` is to call it, where that is not what it is called.
    pub(crate) command: Option<CString>,
    /// The working directory, where it is not the one that the child is born with.
    pub(crate) directory: Option<PathBuf>,
    /// What is to be different in the environment.
    pub(crate) environment: Changes,
    pub(crate) streams: Streams,
    pub(crate) fences: Fences,
    /// Whether SIGPIPE kills; a forked child has it from its parent already.
    pub(crate) broken_pipe_kills: Option<bool>,
}

/// Changes of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) clear: bool,
    /// Later ones count more; without a value, the variable goes.
    pub(crate) variables: Vec<(OsString, Option<OsString>)>,
}

/// Limits, priority and place of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fences {
    pub(crate) memory: Option<u64>,
    /// Seconds.
    pub(crate) cpu_time: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) nice: Option<i32>,
    pub(crate) affinity: Option<Vec<usize>>,
    pub(crate) process_group: Option<u32>,
    pub(crate) new_session: bool,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

impl Surroundings {
    /// Puts them on.
    ///
    /// # Errors
    /// * [`Error::Os`]: the system refuses one of them.
    #[inline]
    pub(crate) fn apply(&mut self) -> Result<()> {
        log::inherit(self.log);
        // What a program never names is not in it: so a child is told by an entry point.
        for entry in [self.method, self.logger].into_iter().flatten() {
            let entry = entry.resolve()?;
            entry.run(&mut Decoder::new(&[], &mut Vec::new()), &mut Payload::default())?;
        }
        self.authkey.take().into_iter().for_each(authkey::set);
        if let Some(name) = &self.command {
            sys::process::set_command_name(name);
        }
        self.environment.apply();
        match self.broken_pipe_kills {
            Some(true) => drop(signal::by_default(SIGPIPE).map_err(Error::os("sigaction"))?),
            Some(false) => drop(signal::ignore(SIGPIPE).map_err(Error::os("sigaction"))?),
            None => {}
        }
        for (number, stream) in (0..).zip(&mut self.streams) {
            if let Some(stream) = stream.take() {
                sys::fd::replace_stdio(number, stream.as_fd()).map_err(Error::os("dup2"))?;
            }
        }
        if let Some(directory) = &self.directory {
            std::env::set_current_dir(directory).map_err(Error::os("chdir"))?;
        }
        self.fences.apply()
    }
}

impl Changes {
    /// # Errors
    /// * [`Error::InvalidArgument`]: a name that is empty or holds `=` or NUL, a value that holds NUL.
    pub(crate) fn check(&self) -> Result<()> {
        let bad_name = |name: &OsString| {
            let name = name.as_bytes();
            name.is_empty() || name.contains(&b'=') || name.contains(&0)
        };
        let bad_value = |value: &OsString| value.as_bytes().contains(&0);
        let bad = self
            .variables
            .iter()
            .find(|(name, value)| bad_name(name) || value.as_ref().is_some_and(bad_value));
        match bad {
            Some((name, _)) => Err(Error::invalid(format!("no variable can be {name:?}"))),
            None => Ok(()),
        }
    }

    /// Makes them in an environment that is about to be a program's.
    pub(crate) fn make(&self, environment: &mut Vec<CString>) {
        if self.clear {
            environment.clear();
        }
        for (name, value) in &self.variables {
            environment.retain(|variable| !is_named(variable, name.as_bytes()));
            let Some(value) = value else { continue };
            let variable = [name.as_bytes(), b"=", value.as_bytes()].concat();
            environment.extend(CString::new(variable));
        }
    }

    /// Makes them in this process's own environment.
    #[inline]
    fn apply(&self) {
        if self.clear {
            std::env::vars_os().for_each(|(name, _)| sys::program::change_variable(&name, None));
        }
        for (name, value) in &self.variables {
            sys::program::change_variable(name, value.as_deref());
        }
    }
}

/// Whether a `NAME=VALUE` is of this name.
pub(crate) fn is_named(variable: &CString, name: &[u8]) -> bool {
    variable.to_bytes().strip_prefix(name).is_some_and(|rest| rest.starts_with(b"="))
}

impl Fences {
    #[inline]
    fn apply(&self) -> Result<()> {
        if self.new_session {
            sys::process::new_session().map_err(Error::os("setsid"))?;
        }
        if let Some(group) = self.process_group {
            sys::process::set_group(group).map_err(Error::os("setpgid"))?;
        }
        if let Some(cpus) = &self.affinity {
            limits::set_affinity(cpus).map_err(Error::os("sched_setaffinity"))?;
        }
        if let Some(nice) = self.nice {
            limits::set_nice(nice).map_err(Error::os("setpriority"))?;
        }
        let exactly = |limit| Limit { soft: limit, hard: limit };
        // The signal at the soft limit can be caught, the one a second later not.
        let with_warning = |limit: u64| Limit { soft: limit, hard: limit.saturating_add(1) };
        let limits = [
            (Resource::CpuTime, self.cpu_time.map(with_warning)),
            (Resource::OpenFiles, self.open_files.map(exactly)),
            (Resource::AddressSpace, self.memory.map(exactly)),
        ];
        for (resource, limit) in limits {
            if let Some(limit) = limit {
                limits::set_limit(resource, limit).map_err(Error::os("setrlimit"))?;
            }
        }
        // Last: what comes before may need what root may do, and the group what the user may.
        if let Some(group) = self.gid {
            sys::process::set_gid(group).map_err(Error::os("setgid"))?;
        }
        if let Some(user) = self.uid {
            sys::process::drop_groups().map_err(Error::os("setgroups"))?;
            sys::process::set_uid(user).map_err(Error::os("setuid"))?;
        }
        Ok(())
    }
}

impl Encode for Surroundings {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        (self.method, self.log, self.logger, &self.directory).encode(encoder);
        self.authkey.clone().map(Travelling).encode(encoder);
        self.command.as_deref().map(CStr::to_bytes).unwrap_or_default().encode(encoder);
        (self.environment.clear, &self.environment.variables).encode(encoder);
        self.streams.encode(encoder);
        let Fences { memory, cpu_time, open_files, nice, .. } = self.fences;
        (memory, cpu_time, open_files, nice).encode(encoder);
        (&self.fences.affinity, self.fences.process_group, self.fences.new_session).encode(encoder);
        (self.fences.uid, self.fences.gid, self.broken_pipe_kills).encode(encoder);
    }
}

impl Decode for Surroundings {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Surroundings> {
        let (method, log, logger, directory) = Decode::decode(decoder)?;
        let authkey = <Option<Travelling>>::decode(decoder)?.map(|key| key.0);
        let command = <Vec<u8>>::decode(decoder)?;
        let (clear, variables) = Decode::decode(decoder)?;
        let streams = Decode::decode(decoder)?;
        let (memory, cpu_time, open_files, nice) = Decode::decode(decoder)?;
        let (affinity, process_group, new_session) = Decode::decode(decoder)?;
        let (uid, gid, broken_pipe_kills) = Decode::decode(decoder)?;
        Ok(Surroundings {
            method,
            log,
            logger,
            authkey,
            command: CString::new(command).ok().filter(|name| !name.is_empty()),
            directory,
            environment: Changes { clear, variables },
            streams,
            fences: Fences {
                memory,
                cpu_time,
                open_files,
                nice,
                affinity,
                process_group,
                new_session,
                uid,
                gid,
            },
            broken_pipe_kills,
        })
    }
}
