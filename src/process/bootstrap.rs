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
    pub(crate) identity: Identity,
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
    /// The packet's payload: this, then `arguments`.
    pub(crate) fn with(self, arguments: Payload) -> Result<Payload> {
        let Birth { identity, mask, lifeline, surroundings } = self.birth;
        let Identity { name, numbers, daemon, parent } = identity;
        let mut payload = Payload::of(&target::fingerprint())?;
        payload.push(&self.entry)?;
        payload.push(&(name, numbers, daemon, parent))?;
        payload.push(&(mask, lifeline.is_some()))?;
        payload.fds.extend(lifeline);
        payload.push(&surroundings)?;
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
        let identity = Identity { name, numbers, daemon, parent };
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
    match control.receive(Deadline::now()) {
        Ok(Incoming::Packet(Packet { kind: Kind::Start, payload })) => {
            run(control, payload, forked)
        }
        Ok(_) => fail(control, forked, Error::decode("a child without orders")),
        Err(error) => fail(control, forked, error),
    }
}

/// Does what the packet says, tells the parent how it went, and gives the exit code.
pub(crate) fn run(control: Control, mut payload: Payload, forked: bool) -> i32 {
    let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
    match Order::decode(&mut decoder) {
        Err(error) => fail(control, forked, error),
        Ok(Order { entry, birth }) => {
            live(birth, control, forked, |result| entry.resolve()?.run(&mut decoder, result))
        }
    }
}

/// In a forked child: runs `entry`, tells the parent how it went, and gives the exit code.
pub(crate) fn run_entry(
    control: Control,
    birth: Birth,
    entry: &EntryPoint,
    mut arguments: Payload,
) -> i32 {
    live(birth, control, true, |result| {
        entry.run(&mut Decoder::new(&arguments.bytes, &mut arguments.fds), result)
    })
}

/// In a forked child: runs `f`, tells the parent how it went, and gives the exit code.
pub(crate) fn run_closure<R: Encode>(control: Control, birth: Birth, f: impl FnOnce() -> R) -> i32 {
    live(birth, control, true, |result| target::push_result(&f(), result))
}

/// Leaves without having begun.
fn fail(control: Control, forked: bool, error: Error) -> i32 {
    exit::become_child(forked);
    finish(&Link::new(control), Err(error))
}

/// A child's life: takes up its place, runs `body`, and tells the parent.
fn live(
    birth: Birth,
    control: Control,
    forked: bool,
    body: impl FnOnce(&mut Payload) -> Result<()>,
) -> i32 {
    let link = Arc::new(Link::new(control));
    let outcome = settle(birth, &link, forked).and_then(|()| {
        log::tell(Level::Info, || "child process calls its function".into());
        let mut result = Payload::default();
        panics::catch(|| body(&mut result))??;
        Ok(result)
    });
    finish(&link, outcome)
}

/// Makes this process a child.
fn settle(birth: Birth, link: &Arc<Link>, forked: bool) -> Result<()> {
    exit::become_child(forked);
    exit::look_after()?;
    family::become_child(birth.identity, link.clone());
    panics::remember(Report::OnStderr);
    lifeline::become_child(birth.lifeline)?;
    birth.surroundings.apply()?;
    if forked {
        fork::run_hooks();
    }
    signal::set_mask(birth.mask);
    Ok(())
}

/// Tells the parent the result, and gives the exit code that goes with it.
fn finish(link: &Link, outcome: Result<Payload>) -> i32 {
    exit::flush();
    if let Err(error) = &outcome {
        log::tell(Level::Error, || format!("child process fails: {error}"));
    }
    let (code, told) = match outcome {
        Ok(result) => {
            let code = i32::decode(&mut Decoder::new(&result.bytes, &mut Vec::new()));
            (code.unwrap_or(1), Payload::of(&false).map(|head| join(head, result)))
        }
        Err(error) => (1, failure(&error)),
    };
    match told.and_then(|payload| link.send(Kind::Finished, &payload)) {
        // Nobody is there to be told; or the system refuses the journey: say that instead.
        Ok(()) | Err(Error::Disconnected) => code,
        Err(error) => {
            drop(failure(&error).and_then(|payload| link.send(Kind::Finished, &payload)));
            1
        }
    }
}

/// What a process leaves behind that has no result.
pub(crate) fn failure(error: &Error) -> Result<Payload> {
    let mut payload = Payload::of(&(true, 1i32))?;
    payload.push(error)?;
    Ok(payload)
}

fn join(mut head: Payload, rest: Payload) -> Payload {
    head.bytes.extend(rest.bytes);
    head.fds.extend(rest.fds);
    head
}
