//! Signals: masks, dispositions, and descriptors that raise them.

use super::{code_result, errno_result};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(crate) use libc::{SIGCHLD, SIGINT, SIGKILL, SIGPIPE, SIGTERM};

/// A set of signals.
#[derive(Clone, Copy)]
pub(crate) struct Mask(libc::sigset_t);

impl Mask {
    fn full() -> Mask {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `set` is writable for one set, and the call cannot fail.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        // SAFETY: the call has filled the set in.
        Mask(unsafe { set.assume_init() })
    }

    fn empty() -> Mask {
        // SAFETY: a set is an array of bits, and all zeros is the empty one.
        Mask(unsafe { std::mem::zeroed() })
    }

    fn contains(&self, signal: i32) -> bool {
        // SAFETY: the set is initialised; a number that is no signal answers -1.
        unsafe { libc::sigismember(&self.0, signal) == 1 }
    }

    /// One bit a signal, from signal 1: the form in which a mask travels.
    pub(crate) fn to_bits(self) -> u64 {
        (1..=64).filter(|&signal| self.contains(signal)).fold(0, |bits, n| bits | 1 << (n - 1))
    }

    /// `pthread_sigmask(SIG_SETMASK)`: makes this the calling thread's mask; gives the one it had.
    pub(crate) fn set(&self) -> Mask {
        let mut old = Mask::empty();
        // SAFETY: both are initialised sets; with this operation the call cannot fail.
        let _ =
            code_result(unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, &mut old.0) });
        old
    }
}

/// `rt_sigprocmask(SIG_SETMASK)`: makes the mask that [`Mask::to_bits`] gave the calling thread's.
///
/// The bits are the kernel's own form of it. libc's function lies where a new child runs nothing else,
/// and would cost it a page fault.
#[inline]
pub(crate) fn set_mask(bits: u64) {
    #[cfg(target_pointer_width = "64")]
    let words = [bits];
    #[cfg(target_pointer_width = "32")]
    let words = [bits as u32, (bits >> 32) as u32];
    // SAFETY: the kernel reads the set, of the size told, and no old one is asked for; with this
    // operation the call cannot fail.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            words.as_ptr(),
            std::ptr::null_mut::<u64>(),
            size_of_val(&words),
        )
    };
}

/// Blocks every signal in the calling thread until dropped.
pub(crate) struct Blocked {
    before: Mask,
}

impl Blocked {
    pub(crate) fn all() -> Blocked {
        Blocked { before: Mask::full().set() }
    }

    /// The thread's mask as it was.
    pub(crate) fn before(&self) -> Mask {
        self.before
    }
}

impl Blocked {
    /// Leaves the signals blocked for good, for who sets another mask later.
    pub(crate) fn stay(self) {
        std::mem::forget(self);
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.before.set();
    }
}

/// The signals that have names everywhere.
const NAMES: [(i32, &str); 30] = [
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGCHLD, "SIGCHLD"),
    (libc::SIGCONT, "SIGCONT"),
    (libc::SIGSTOP, "SIGSTOP"),
    (libc::SIGTSTP, "SIGTSTP"),
    (libc::SIGTTIN, "SIGTTIN"),
    (libc::SIGTTOU, "SIGTTOU"),
    (libc::SIGURG, "SIGURG"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGWINCH, "SIGWINCH"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGPWR, "SIGPWR"),
    (libc::SIGSYS, "SIGSYS"),
];

/// The name of a signal, if it has one.
pub(crate) fn name(signal: i32) -> Option<&'static str> {
    NAMES.iter().find(|(number, _)| *number == signal).map(|(_, name)| *name)
}

/// What a process does on a signal.
#[derive(Clone, Copy)]
pub(crate) struct Disposition(libc::sigaction);

/// Ignores `signal` from now on; gives what the process did before.
pub(crate) fn ignore(signal: i32) -> io::Result<Disposition> {
    exchange(signal, &action(libc::SIG_IGN))
}

/// Leaves `signal` to the kernel from now on; gives what the process did before.
pub(crate) fn by_default(signal: i32) -> io::Result<Disposition> {
    exchange(signal, &action(libc::SIG_DFL))
}

/// Leaves SIGCHLD to the kernel if it is ignored now, so that children which end wait to be reaped;
/// gives what to restore.
pub(crate) fn keep_zombies() -> io::Result<Option<Disposition>> {
    let now = current(SIGCHLD)?.0;
    if now.sa_sigaction != libc::SIG_IGN && now.sa_flags & libc::SA_NOCLDWAIT == 0 {
        return Ok(None);
    }
    by_default(SIGCHLD).map(Some)
}

/// Whether `signal` is left to the kernel, and neither ignored nor caught.
pub(crate) fn is_default(signal: i32) -> io::Result<bool> {
    current(signal).map(|now| now.0.sa_sigaction == libc::SIG_DFL)
}

fn current(signal: i32) -> io::Result<Disposition> {
    let mut now = MaybeUninit::uninit();
    // SAFETY: nothing is changed; `now` is writable for one record.
    errno_result(unsafe { libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled the record in.
    Ok(Disposition(unsafe { now.assume_init() }))
}

fn action(handler: libc::sighandler_t) -> libc::sigaction {
    // SAFETY: every bit pattern of this record of numbers is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action
}

/// Does on `signal` what the system does for a program that says nothing.
pub(crate) fn reset(signal: i32) -> io::Result<()> {
    // SAFETY: every bit pattern of this record of numbers is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = libc::SIG_DFL;
    exchange(signal, &action).map(drop)
}

/// Does on `signal` what `before` says.
pub(crate) fn restore(signal: i32, before: Disposition) -> io::Result<()> {
    exchange(signal, &before.0).map(drop)
}

fn exchange(signal: i32, action: &libc::sigaction) -> io::Result<Disposition> {
    let mut old = MaybeUninit::uninit();
    // SAFETY: `action` is initialised and names no handler but one that the process had before;
    // `old` is writable for one record.
    errno_result(unsafe { libc::sigaction(signal, action, old.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled the record in.
    Ok(Disposition(unsafe { old.assume_init() }))
}

/// `F_SETSIG`, `O_ASYNC`: whatever happens on the socket next raises `signal` in the process that
/// [`set_owner`] names. On a socket on which nothing is ever sent that is its hang-up.
pub(crate) fn raise_on_event(socket: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    // SAFETY: `socket` is open for the borrow's life; the command takes a number.
    errno_result(unsafe { libc::fcntl(fd, F_SETSIG, signal) })?;
    // SAFETY: as above.
    let flags = errno_result(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: as above.
    errno_result(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC) })?;
    Ok(())
}

/// `F_SETOWN`: who gets the signal of [`raise_on_event`].
///
/// The kernel keeps the process itself, not its number: nobody else gets the signal once it is dead.
pub(crate) fn set_owner(socket: BorrowedFd<'_>, pid: u32) -> io::Result<()> {
    // SAFETY: `socket` is open for the borrow's life; the command takes a number.
    let set = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETOWN, pid as i32) };
    errno_result(set).map(drop)
}

/// From the kernel's `fcntl.h`; the libc crate does not declare it.
const F_SETSIG: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_mask_survives_its_journey_as_bits() {
        let bits = 1 << (libc::SIGUSR1 - 1) | 1 << (libc::SIGTERM - 1) | 1 << 63;
        let before = Mask::empty().set();
        set_mask(bits);
        assert_eq!(before.set().to_bits(), bits);
        assert_eq!(Mask::empty().to_bits(), 0);
        assert!(!Mask::full().contains(-1));
    }

    #[test]
    fn signals_have_names_and_numbers_beyond_them_have_not() {
        assert_eq!((name(9), name(15)), (Some("SIGKILL"), Some("SIGTERM")));
        assert_eq!((name(0), name(64)), (None, None));
    }

    #[test]
    fn blocking_all_ends_with_its_guard() {
        let blocked = Blocked::all();
        let before = blocked.before().to_bits();
        assert!(Mask::full().set().contains(libc::SIGTERM));
        drop(blocked);
        assert_eq!(Blocked::all().before().to_bits(), before);
    }

    #[test]
    fn who_does_not_ignore_sigchld_is_left_alone() {
        assert!(keep_zombies().unwrap().is_none());
    }

    #[test]
    fn sigkill_cannot_be_ignored_and_a_file_cannot_raise() {
        let error = ignore(libc::SIGKILL).err().and_then(|error| error.raw_os_error());
        assert_eq!(error, Some(libc::EINVAL));
        assert!(by_default(libc::SIGKILL).is_err());
        let error = is_default(1000).err().and_then(|error| error.raw_os_error());
        assert_eq!(error, Some(libc::EINVAL));
        let before = ignore(libc::SIGUSR2).unwrap();
        assert!(!is_default(libc::SIGUSR2).unwrap());
        restore(libc::SIGUSR2, before).unwrap();
        assert!(is_default(libc::SIGUSR2).unwrap());
        let (socket, _other) =
            super::super::socket::pair(super::super::socket::Kind::Stream).unwrap();
        let error = raise_on_event(socket.as_fd(), 1000).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        // The least number there is stands for no group.
        let error = set_owner(socket.as_fd(), 1 << 31).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
