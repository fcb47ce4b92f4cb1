//! The first steps of a child, and `init`.

use super::control::{Control, Incoming, Kind, Packet};
use super::family::{self, Identity, Link};
use super::panics::{self, Report};
use super::surroundings::Surroundings;
use super::target::{self, EntryPoint, Location};
use super::{exit, fork, lifeline, spawn};
use crate::codec::Payload;
use crate::sys::signal;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Error, Level, Result, log, sys};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a spawned child that it is one, by its pid: whoever inherits the variable from a child that
/// knows nothing of it is another process. It is taken out of the environment again.
pub(crate) const CHILD_VARIABLE: &str = "MULTIPROC_CHILD";

/// Whether `init` ran in this process, or in the one it was forked from.
static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// # Errors
/// * [`Error::NotInitialized`]: `init` has not run.
pub(crate) fn check_initialized() -> Result<()> {
    if INITIALIZED.load(Ordering::Relaxed) { Ok(()) } else { Err(Error::NotInitialized) }
}

/// What makes a process somebody's child.
pub(crate) struct Birth {
    pub(crate) identity: Arc<Identity>,
    /// The signals blocked in the parent's thread, as they are to be in the child.
    pub(crate) mask: u64,
    /// The child's end of a daemon's lifeline.
    pub(crate) lifeline: Option<OwnedFd>,
    pub(crate) surroundings: Surroundings,
}

/// What a child is told before anything else; its function's arguments follow in the same packet.
pub(crate) struct Order {
    pub(crate) entry: Location,
    pub(crate) birth: Birth,
}

impl Order {
    /// The packet's payload: what a process is to be told, then `arguments`.
    pub(crate) fn of(entry: Location, birth: &mut Birth, arguments: Payload) -> Result<Payload> {
        let Birth { identity, mask, lifeline, surroundings } = birth;
        let Identity { name, numbers, daemon, parent } = &**identity;
        let mut payload = Payload::of(&target::fingerprint())?;
        payload.push(&entry)?;
        payload.push(&(name, numbers, *daemon, parent))?;
        payload.push(&(*mask, lifeline.is_some()))?;
        payload.fds.extend(lifeline.take());
        payload.push(surroundings)?;
        payload.bytes.extend(arguments.bytes);
        payload.fds.extend(arguments.fds);
        Ok(payload)
    }

    /// Takes the order from the front of a packet and leaves the arguments.
    pub(super) fn decode(decoder: &mut Decoder<'_>) -> Result<Order> {
        if u64::decode(decoder)? != target::fingerprint() {
            return Err(Error::DifferentExecutable);
        }
        let entry = Location::decode(decoder)?;
        let (name, numbers, daemon, parent) = Decode::decode(decoder)?;
        let (mask, has_lifeline) = <(u64, bool)>::decode(decoder)?;
        let lifeline = if has_lifeline { Some(decoder.fd()?) } else { None };
        let surroundings = Surroundings::decode(decoder)?;
        let identity = Arc::new(Identity { name, numbers, daemon, parent });
        Ok(Order { entry, birth: Birth { identity, mask, lifeline, surroundings } })
    }
}

/// Makes the program one whose functions can run in other processes; the first line of `main`.
///
/// In a process that was started as a child it does not return: it runs what it was started for and
/// exits. Everywhere else it costs next to nothing and may be called again.
///
/// A program that starts processes without it gets [`Error::NotInitialized`] from each start by
/// `Spawn` or `ForkServer`. Where `main` is not yours, see
/// [`init_before_main!`](crate::init_before_main).
///
/// # Examples
/// ```no_run
/// fn main() -> multiproc::Result<()> {
///     multiproc::init();
///     let child = multiproc::Process::new(|| println!("hello"), ()).start()?;
///     child.join()
/// }
/// ```
#[doc(alias = "freeze_support")]
pub fn init() {
    if INITIALIZED.swap(true, Ordering::Relaxed) {
        return;
    }
    spawn::remember_program();
    if !is_child() {
        return;
    }
    // To go on would be to run the program once more, and perhaps, in it, the line that started this.
    let Some(control) = sys::socket::inherited_seqpacket(sys::process::CONTROL_FD) else {
        let _ = writeln!(std::io::stderr(), "multiproc: descriptor 3 was closed before init");
        sys::process::exit_now(1)
    };
    let control = Control::from_fd(control);
    let _ = control.send(Kind::Hello, &Payload::default(), true);
    name_command();
    exit::exit(take_up(control, false));
}

/// Whether this process was started as a child, which is asked once.
fn is_child() -> bool {
    let Some(pid) = std::env::var_os(CHILD_VARIABLE) else { return false };
    sys::program::forget_variable(CHILD_VARIABLE);
    pid.to_str().and_then(|pid| pid.parse().ok()) == Some(sys::process::id())
}

/// `exec` has named the process after /proc/self/exe: gives it back the name of its program.
fn name_command() {
    let first = sys::program::arguments().into_iter().next().unwrap_or_default();
    let base = first.to_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if let Ok(name) = std::ffi::CString::new(base) {
        sys::process::set_command_name(&name);
    }
}

/// Does what the first packet says, tells the parent how it went, and gives the exit code.
pub(crate) fn take_up(control: Control, forked: bool) -> i32 {
    // The packet was sent before the child was made: there is no waiting.
    let orders = control.receive(Deadline::now());
    let voice = Voice::new(control);
    match orders {
        Ok(Incoming::Packet(Packet { kind: Kind::Start, payload })) => run(voice, payload, forked),
        Ok(_) => fail(voice, forked, Error::decode("a child without orders")),
        Err(error) => fail(voice, forked, error),
    }
}

/// By what a child speaks to its parent. A forked child finds it made: to allocate is to touch pages
/// that it shares with its parent, each of which costs it a fault.
pub(crate) struct Voice {
    link: Arc<Link>,
    /// What it will say last: so far, that it does not fail.
    result: Payload,
}

impl Voice {
    pub(crate) fn new(control: Control) -> Voice {
        /// Room for a small result.
        const ROOM: usize = 128;
        let mut bytes = Vec::with_capacity(ROOM);
        bytes.push(false.into());
        Voice { link: Arc::new(Link::new(control)), result: Payload { bytes, fds: Vec::new() } }
    }
}

/// Does what the packet says, tells the parent how it went, and gives the exit code.
pub(crate) fn run(voice: Voice, mut payload: Payload, forked: bool) -> i32 {
    let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
    match Order::decode(&mut decoder) {
        Err(error) => fail(voice, forked, error),
        Ok(Order { entry, mut birth }) => {
            live(voice, &mut birth, forked, |result| entry.resolve()?.run(&mut decoder, result))
        }
    }
}

/// In a forked child: runs `entry`, tells the parent how it went, and gives the exit code.
#[inline]
pub(crate) fn run_entry(
    voice: Voice,
    birth: &mut Birth,
    entry: &EntryPoint,
    mut arguments: Payload,
) -> i32 {
    let code = live(voice, birth, true, |result| {
        entry.run(&mut Decoder::new(&arguments.bytes, &mut arguments.fds), result)
    });
    leave_behind(arguments, true);
    code
}

/// In a forked child: runs `f`, tells the parent how it went, and gives the exit code.
pub(crate) fn run_closure<R: Encode>(
    voice: Voice,
    birth: &mut Birth,
    f: impl FnOnce() -> R,
) -> i32 {
    live(voice, birth, true, |result| target::push_result(&f(), result))
}

/// Leaves without having begun.
fn fail(voice: Voice, forked: bool, error: Error) -> i32 {
    exit::become_child(forked);
    finish(&voice.link, Err(error), forked)
}

/// A child's life: takes up its place, runs `body`, and tells the parent.
fn live(
    voice: Voice,
    birth: &mut Birth,
    forked: bool,
    body: impl FnOnce(&mut Payload) -> Result<()>,
) -> i32 {
    let Voice { link, mut result } = voice;
    let outcome = settle(birth, &link, forked).and_then(|()| {
        log::tell(Level::Info, || "child process calls its function".into());
        panics::catch(|| body(&mut result))?
    });
    finish(&link, outcome.map(|()| result), forked)
}

/// Makes this process a child.
///
/// Its steps are to be inlined (they have no other caller): a child that meets code for the first time
/// maps 64 KiB of it, which takes as long as ten system calls, and their own files lie far apart.
#[inline]
fn settle(birth: &mut Birth, link: &Arc<Link>, forked: bool) -> Result<()> {
    exit::become_child(forked);
    exit::look_after()?;
    family::become_child(birth.identity.clone(), link.clone());
    panics::remember(Report::OnStderr);
    lifeline::become_child(birth.lifeline.take())?;
    birth.surroundings.apply()?;
    if forked {
        fork::run_hooks();
    }
    signal::set_mask(birth.mask);
    Ok(())
}

/// Tells the parent the result, and gives the exit code that goes with it.
#[inline]
fn finish(link: &Link, outcome: Result<Payload>, forked: bool) -> i32 {
    exit::flush();
    if let Err(error) = &outcome {
        log::tell(Level::Error, || format!("child process fails: {error}"));
    }
    match outcome.or_else(|error| failure(&error)).and_then(|last| say(link, last, forked)) {
        Ok(code) => code,
        // The system refuses the journey: say that instead.
        Err(error) => failure(&error).and_then(|last| say(link, last, forked)).unwrap_or(1),
    }
}

/// Says the last word, and gives the exit code that is in it. Nobody there to hear it is no error.
#[inline]
fn say(link: &Link, last: Payload, forked: bool) -> Result<i32> {
    let (_, code) = <(bool, i32)>::decode(&mut Decoder::new(&last.bytes, &mut Vec::new()))?;
    let said = link.send(Kind::Finished, &last);
    leave_behind(last, forked);
    match said {
        Ok(()) | Err(Error::Disconnected) => Ok(code),
        Err(error) => Err(error),
    }
}

/// Closes what it holds. A forked child leaves the memory to the end of the process, which is near: to free
/// it would cost pages that the child has not touched.
#[inline]
fn leave_behind(mut payload: Payload, forked: bool) {
    payload.fds.clear();
    if forked {
        std::mem::forget(payload);
    }
}

/// What a process leaves behind that has no result.
pub(crate) fn failure(error: &Error) -> Result<Payload> {
    let mut payload = Payload::of(&(true, 1i32))?;
    payload.push(error)?;
    Ok(payload)
}
