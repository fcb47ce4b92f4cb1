//! The first steps of a child, and `init`.

use super::control::{Control, Incoming, Kind, Packet};
use super::family::{self, Identity};
use super::panics::{self, Report};
use super::target::{self, EntryPoint, Location};
use super::{exit, lifeline, spawn};
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

/// What a child is told before anything else; its function's arguments follow in the same packet.
pub(crate) struct Order {
    pub(crate) entry: Location,
    pub(crate) identity: Identity,
    /// The signals blocked in the parent's thread, as they are to be in the child.
    pub(crate) mask: u64,
    /// The end of a daemon's lifeline; it is the packet's first descriptor.
    pub(crate) lifeline: Option<OwnedFd>,
}

impl Order {
    /// The packet's payload: this, then `arguments`.
    pub(crate) fn with(self, arguments: Payload) -> Result<Payload> {
        let Order { entry, identity, mask, lifeline } = self;
        let Identity { name, numbers, daemon, parent } = identity;
        let mut payload = Payload::of(&target::fingerprint())?;
        payload.push(&entry)?;
        payload.push(&(name, numbers, daemon, parent))?;
        payload.push(&(mask, lifeline.is_some()))?;
        payload.bytes.extend(arguments.bytes);
        payload.fds.extend(lifeline);
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
        let identity = Identity { name, numbers, daemon, parent };
        Ok(Order { entry, identity, mask, lifeline })
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
        let code = match start_packet(&control) {
            Ok(payload) => run(control, payload, false),
            // The parent is gone, or was not one of ours.
            Err(_) => 1,
        };
        exit::exit(code);
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

/// The packet that says what to run. It was sent before the child was made: there is no waiting.
pub(crate) fn start_packet(control: &Control) -> Result<Payload> {
    match control.receive(Deadline::now())? {
        Incoming::Packet(Packet { kind: Kind::Start, payload }) => Ok(payload),
        _ => Err(Error::Disconnected),
    }
}

/// Does what the packet says, tells the parent how it went, and gives the exit code.
pub(crate) fn run(control: Control, mut payload: Payload, forked: bool) -> i32 {
    let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
    let order = match Order::decode(&mut decoder) {
        Ok(order) => order,
        Err(error) => return finish(&control, Err(error)),
    };
    let control = Arc::new(control);
    let Order { entry, identity, mask, lifeline } = order;
    let outcome = settle((identity, mask, lifeline), &control, forked)
        .and_then(|()| entry.resolve())
        .and_then(|entry| call(entry, decoder));
    finish(&control, outcome)
}

/// In a forked child: runs `f`, tells the parent how it went, and gives the exit code.
pub(crate) fn run_closure<R: Encode>(control: Control, me: Me, f: impl FnOnce() -> R) -> i32 {
    let control = Arc::new(control);
    let outcome = settle(me, &control, true).and_then(|()| {
        let result = panics::catch(f)?;
        Payload::of(&result)
    });
    finish(&control, outcome)
}

/// Who a child is, the signals it is to block, and its end of a lifeline.
type Me = (Identity, u64, Option<OwnedFd>);

/// Makes this process a child.
fn settle((identity, mask, lifeline): Me, control: &Arc<Control>, forked: bool) -> Result<()> {
    exit::become_child(forked);
    exit::look_after()?;
    family::become_child(identity, control.clone());
    panics::remember(Report::OnStderr);
    if let Some(end) = lifeline {
        lifeline::arm(end)?;
    }
    Mask::from_bits(mask).set();
    Ok(())
}

fn call(entry: &EntryPoint, mut decoder: Decoder<'_>) -> Result<Payload> {
    let mut result = Payload::default();
    panics::catch(|| entry.run(&mut decoder, &mut result))??;
    Ok(result)
}

/// Tells the parent the result, and gives the exit code that goes with it.
pub(crate) fn finish(control: &Control, outcome: Result<Payload>) -> i32 {
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
        control.send(Kind::Finished, &payload, true)
    });
    match told {
        // Nobody is there to be told; or the system refuses the journey: say that instead.
        Ok(()) | Err(Error::Disconnected) => code,
        Err(error) => {
            let last = Payload::of(&(1, true)).and_then(|mut payload| {
                payload.push(&error)?;
                control.send(Kind::Finished, &payload, true)
            });
            drop(last);
            1
        }
    }
}
