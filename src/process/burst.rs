//! Several children forked one right after the other.
//!
//! A fork leaves parent and child sharing their pages, and the first write to each costs the writer a page
//! fault, which takes longer than ten system calls. So what the children need is made before the first
//! of them, what their parent needs of them after the last, and in between nothing is written but what
//! `fork` itself writes.
//!
//! Such a child is told nothing by its control socket: that is its lifeline too, on which whatever happens
//! ends it. What the child itself says there, a few bytes at its end, is no such event: only making room in a
//! socket that it had filled would be.

use super::bootstrap::{self, Birth, Voice};
use super::builder::Starting;
use super::child::{Born, Child, Reaper, Role};
use super::control::Control;
use super::{Process, exit, family, fork, lifeline, spawn};
use crate::sys::signal::{self, Blocked, Disposition};
use crate::{Error, Result, sys};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// The most children that are forked at a time: each needs two descriptors that the others have to close.
pub(crate) const BURST: usize = 8;

/// A child that is yet to be forked, or was just now.
struct Unborn {
    birth: Birth,
    role: Role,
    control: Control,
    /// By what the child speaks, with its end of the control socket; it takes it.
    voice: Option<Voice>,
    /// The number of that end.
    theirs: RawFd,
}

/// The children, as far as there are, each with its place among them, and why it is not all of them.
pub(crate) type Forked<T = Child<()>> = (Vec<(usize, T)>, Result<()>);

/// Forks one child for each of these processes, [`BURST`] at most: daemons that `active_children` does not
/// show. What each calls is `f`, with its place among them and with what `f` captures as it is in the
/// parent's memory, and not its own function. Their streams are their parent's but for stdin, whatever was asked for.
pub(super) fn fork_all(processes: Vec<Process<()>>, f: &dyn Fn(usize)) -> Forked {
    family::reap_ended();
    let blocked = Blocked::all();
    let unborn = processes.into_iter().map(|process| Unborn::new(process, &blocked));
    let forked =
        exit::look_after().and_then(|()| unborn.collect()).and_then(|unborn| fork_each(unborn, f));
    drop(blocked);
    let (born, mut outcome) = match forked {
        Ok(forked) => forked,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut children = Vec::with_capacity(born.len());
    for (at, (born, role)) in born {
        match Starting::born(born, role).arrive() {
            Ok(child) => children.push((at, child)),
            Err(error) => outcome = Err(error),
        }
    }
    (children, outcome)
}

fn fork_each(mut unborn: Vec<Unborn>, f: &dyn Fn(usize)) -> Result<Forked<(Born, Role)>> {
    let numbers: Vec<RawFd> = unborn.iter().flat_map(Unborn::numbers).collect();
    let stdin = spawn::empty_input()?;
    exit::flush();
    // No child's pid may become another's before it has its descriptor.
    let ignored = signal::keep_zombies().map_err(Error::os("sigaction"))?;
    // On the stack, which `fork` writes to anyway.
    let mut pids = [0; BURST];
    let mut forked = 0;
    let mut outcome = Ok(());
    for (pid, at) in pids.iter_mut().zip(0..unborn.len()) {
        match fork::bare() {
            Ok(Some(child)) => *pid = child,
            Ok(None) => {
                restore(ignored);
                unborn[at].live(stdin, &numbers, || f(at));
            }
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
        forked += 1;
    }
    drop(stdin);
    let mut born = Vec::with_capacity(forked);
    for (at, (unborn, pid)) in unborn.into_iter().zip(pids).take(forked).enumerate() {
        match unborn.be_born(pid) {
            Ok(child) => born.push((at, child)),
            Err(error) => outcome = Err(error),
        }
    }
    restore(ignored);
    Ok((born, outcome))
}

#[inline]
fn restore(ignored: Option<Disposition>) {
    ignored.into_iter().for_each(|before| drop(signal::restore(signal::SIGCHLD, before)));
}

impl Unborn {
    fn new(process: Process<()>, blocked: &Blocked) -> Result<Unborn> {
        let (birth, role) = process.prepare_hidden(blocked)?;
        let (control, theirs) = Control::pair()?;
        lifeline::arm(theirs.as_fd())?;
        let number = theirs.as_fd().as_raw_fd();
        Ok(Unborn { birth, role, control, voice: Some(Voice::new(theirs)), theirs: number })
    }

    /// The descriptors that were made for it.
    fn numbers(&self) -> [RawFd; 2] {
        [self.control.as_fd().as_raw_fd(), self.theirs]
    }

    /// In the child: its life.
    fn live(&mut self, stdin: OwnedFd, numbers: &[RawFd], f: impl FnOnce()) -> ! {
        let Unborn { birth, voice, theirs, .. } = self;
        // A sibling whose end was left open here would not die with its parent as long as this one lives.
        let others = numbers.iter().copied().filter(|number| number != theirs);
        fork::enter_among(stdin, others, || match voice.take() {
            Some(voice) if voice.with_socket(lifeline::tie_me).is_ok() => {
                bootstrap::run_closure(voice, birth, f)
            }
            _ => 1,
        })
    }

    /// In the parent.
    fn be_born(self, pid: u32) -> Result<(Born, Role)> {
        let Unborn { role, control, voice, .. } = self;
        if let Some(voice) = voice {
            // Refused (it cannot be), the child does it for itself.
            let _ = voice.with_socket(|end| lifeline::tie(end, pid));
            // Dropped, it frees a number for the descriptor that names the child.
        }
        match sys::process::pidfd_open(pid) {
            Ok(pidfd) => {
                let (reaper, greeted) = (Reaper::Us, true);
                Ok((Born { pid, pidfd, control, reaper, greeted }, role))
            }
            Err(error) => {
                sys::process::kill_and_reap(pid);
                Err(Error::os("pidfd_open")(error))
            }
        }
    }
}
