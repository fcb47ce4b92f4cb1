//! The first steps of a child, and `init`.

use super::control::{Control, Incoming, Kind, Packet};
use super::family::{self, Identity, Link};
use super::panics::{self, Report};
use super::surroundings::Surroundings;
use super::target::{self, Location};
use super::{exit, fork, lifeline, spawn};
use crate::codec::Payload;
use crate::sys::signal::Mask;
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Error, Result, sys};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a spawned child that it is one. It is taken out of the child's environment again.
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
    fn decode(decoder: &mut Decoder<'_>) -> Result<Order> {
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
    if std::env::var_os(CHILD_VARIABLE).is_none() {
        return;
    }
    if let Some(control) = take_control() {
        let _ = control.send(Kind::Hello, &Payload::default(), true);
        name_command();
        exit::exit(take_up(control, false));
    }
}

/// The control socket, if descriptor 3 is one: the variable may have been inherited through a program
/// that knows nothing of this library.
fn take_control() -> Option<Control> {
    sys::program::forget_variable(CHILD_VARIABLE);
    sys::socket::inherited_seqpacket(sys::process::CONTROL_FD).map(Control::from_fd)
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

/// In a forked child: runs `f`, tells the parent how it went, and gives the exit code.
pub(crate) fn run_closure<R: Encode>(control: Control, birth: Birth, f: impl FnOnce() -> R) -> i32 {
    live(birth, control, true, |result| result.push(&f()))
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
    Mask::from_bits(birth.mask).set();
    Ok(())
}

/// Tells the parent the result, and gives the exit code that goes with it.
fn finish(link: &Link, outcome: Result<Payload>) -> i32 {
    exit::flush();
    let code = i32::from(outcome.is_err());
    let told = Payload::of(&(code, outcome.is_err())).and_then(|mut payload| {
        match outcome {
            Ok(result) => {
                payload.bytes.extend(result.bytes);
                payload.fds.extend(result.fds);
            }
            Err(error) => payload.push(&error)?,
        }
        link.send(Kind::Finished, &payload)
    });
    match told {
        // Nobody is there to be told; or the system refuses the journey: say that instead.
        Ok(()) | Err(Error::Disconnected) => code,
        Err(error) => {
            let last = Payload::of(&(1, true)).and_then(|mut payload| {
                payload.push(&error)?;
                link.send(Kind::Finished, &payload)
            });
            drop(last);
            1
        }
    }
}
