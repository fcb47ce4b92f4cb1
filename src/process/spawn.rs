//! Start method Spawn: the program once more, from the start.

use super::bootstrap::CHILD_VARIABLE;
use super::child::{Born, Reaper};
use super::control::{Control, Kind};
use super::stdio;
use super::surroundings::{Changes, is_named};
use crate::codec::Payload;
use crate::sys::process::{CStrings, Image, Program};
use crate::{Error, Result, sys};
use std::ffi::{CStr, CString};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

/// Where the program's own file is.
enum Source {
    /// /proc/self/exe: the same file, whatever has become of its name.
    Proc,
    /// No /proc: a descriptor of the file, taken when `init` ran.
    File(OwnedFd),
    /// Neither: the name by which the program was started.
    Name(CString),
}

static SOURCE: OnceLock<Option<Source>> = OnceLock::new();

const PROC: &CStr = c"/proc/self/exe";

/// Takes note of where the program is, while the name by which it was started still leads there.
pub(crate) fn remember_program() {
    source();
}

fn source() -> Option<&'static Source> {
    SOURCE
        .get_or_init(|| {
            if std::fs::read_link("/proc/self/exe").is_ok() {
                return Some(Source::Proc);
            }
            let name = sys::program::exec_path()?;
            Some(match sys::fd::open_path(&name) {
                Ok(file) => Source::File(file),
                Err(_) => Source::Name(name),
            })
        })
        .as_ref()
}

fn program() -> Result<Program<'static>> {
    match source() {
        Some(Source::Proc) => Ok(Program::Path(PROC)),
        Some(Source::File(file)) => Ok(Program::Fd(file.as_fd())),
        Some(Source::Name(name)) => Ok(Program::Path(name)),
        None => Err(Error::invalid("the system does not tell where the program is")),
    }
}

/// An input that is at its end: /dev/null, or where there is none, a pipe without a writer.
pub(crate) fn empty_input() -> Result<OwnedFd> {
    let input = sys::fd::open_null()
        .or_else(|_| sys::fd::pipe().map(|(reader, _)| reader).map_err(Error::os("pipe2")))?;
    stdio::above(input)
}

/// Starts the program anew, with this environment but for the `changes`, and these arguments but for
/// `argv0`; `payload` is what the child's
/// `init` finds. All signals are blocked.
pub(crate) fn start(payload: &Payload, changes: &Changes, argv0: Option<CString>) -> Result<Born> {
    let (control, theirs) = Control::pair()?;
    control.send(Kind::Start, payload, false)?;
    let stdin = empty_input()?;
    let mut environment = sys::program::environment();
    environment.retain(|variable| !is_named(variable, CHILD_VARIABLE.as_bytes()));
    changes.make(&mut environment);
    let mut arguments = sys::program::arguments();
    if let Some(name) = argv0 {
        arguments.splice(..arguments.len().min(1), [name]);
    }
    // A number that is closed here would be the first that the child's own descriptors get.
    let or_empty = |number| (!sys::fd::survives_exec(number)).then(|| stdin.as_fd());
    let arguments = CStrings::new(arguments);
    let mut environment = CStrings::with_pid(environment, &format!("{CHILD_VARIABLE}="));
    let mut spawn = |program| {
        sys::process::spawn(Image {
            program,
            argv: &arguments,
            envp: &mut environment,
            stdio: [Some(stdin.as_fd()), or_empty(1), or_empty(2)],
            control: theirs.as_fd(),
        })
    };
    let mut spawned = spawn(program()?);
    if spawned.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        // /proc was taken away since: the name is what is left. Another program is found out by its
        // fingerprint.
        if let Some(name) = sys::program::exec_path() {
            spawned = spawn(Program::Path(&name));
        }
    }
    let (pid, pidfd) = spawned.map_err(Error::os("clone and execve"))?;
    Ok(Born { pid, pidfd, control, reaper: Reaper::Us, greeted: false })
}
