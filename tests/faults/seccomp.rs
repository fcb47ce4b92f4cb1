//! A family of processes whose system calls ask this one what to answer.
#![allow(unsafe_code)]

use crate::os::{Page, Pid};
use libc::c_long;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;

/// The calls that ask, and what each may answer for a reason that lies outside of the program.
const CALLS: &[(c_long, &str, &[i32])] = &[
    (libc::SYS_socketpair, "socketpair", &[libc::EMFILE, libc::ENOMEM, libc::ENFILE]),
    (libc::SYS_pipe2, "pipe2", &[libc::EMFILE, libc::ENFILE]),
    (libc::SYS_fcntl, "fcntl", &[libc::EMFILE, libc::EINVAL]),
    (libc::SYS_openat, "openat", &[libc::EMFILE, libc::ENOENT, libc::EACCES]),
    (libc::SYS_clone, "clone", &[libc::EAGAIN, libc::ENOMEM, libc::EPERM]),
    (libc::SYS_clone3, "clone3", &[libc::ENOSYS, libc::EAGAIN, libc::EPERM]),
    (libc::SYS_sendmsg, "sendmsg", &[libc::ENOMEM, libc::ETOOMANYREFS, libc::ENOBUFS]),
    (libc::SYS_recvmsg, "recvmsg", &[libc::ENOMEM, libc::EINTR]),
    (libc::SYS_ppoll, "ppoll", &[libc::ENOMEM, libc::EINTR]),
    (libc::SYS_waitid, "waitid", &[libc::EINTR, libc::ENOMEM]),
    (libc::SYS_pidfd_open, "pidfd_open", &[libc::EMFILE, libc::ENOMEM, libc::ENOSYS]),
    (libc::SYS_memfd_create, "memfd_create", &[libc::EMFILE, libc::ENOMEM]),
    (libc::SYS_write, "write", &[libc::ENOSPC, libc::EINTR, libc::EIO]),
    (libc::SYS_read, "read", &[libc::EIO, libc::EINTR]),
    (libc::SYS_pread64, "pread64", &[libc::EIO, libc::EINTR]),
    (libc::SYS_rt_sigaction, "rt_sigaction", &[libc::EINVAL]),
    (libc::SYS_unshare, "unshare", &[libc::EPERM, libc::ENOSYS, libc::EINVAL]),
    (libc::SYS_dup3, "dup3", &[libc::EMFILE, libc::EBUSY]),
    (libc::SYS_close_range, "close_range", &[libc::ENOSYS, libc::ENOMEM]),
    (libc::SYS_execve, "execve", &[libc::ENOENT, libc::EACCES, libc::ENOMEM, libc::ETXTBSY]),
    (libc::SYS_prctl, "prctl", &[libc::EPERM]),
    (libc::SYS_prlimit64, "prlimit64", &[libc::EPERM]),
    (libc::SYS_getrandom, "getrandom", &[libc::ENOSYS, libc::EINTR]),
    (libc::SYS_getcwd, "getcwd", &[libc::ENOENT]),
    (libc::SYS_chdir, "chdir", &[libc::ENOENT, libc::EACCES]),
    (libc::SYS_ioctl, "ioctl", &[libc::ENOTTY]),
    (libc::SYS_wait4, "wait4", &[libc::EINTR, libc::ECHILD]),
    (libc::SYS_statx, "statx", &[libc::ENOSYS, libc::ENOMEM]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_dup2, "dup2", &[libc::EMFILE, libc::EBUSY]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, "readlink", &[libc::ENOENT, libc::EACCES]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", &[libc::ENOMEM, libc::EINTR]),
];

/// What call number `number` may answer, and its name.
pub(crate) fn errors_of(number: i32) -> (&'static str, &'static [i32]) {
    let found = CALLS.iter().find(|(known, ..)| *known == c_long::from(number));
    found.map_or(("?", &[]), |&(_, name, errors)| (name, errors))
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// The number of the call is compared with one after the other; who is found asks.
fn program() -> Vec<libc::sock_filter> {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let mut program = vec![instruction(load, 0, 0, 0)];
    for (left, (number, ..)) in (0..CALLS.len()).rev().zip(CALLS) {
        let compare = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        program.push(instruction(compare, *number as u32, left as u8 + 1, 0));
    }
    let answer = libc::BPF_RET | libc::BPF_K;
    program.push(instruction(answer, libc::SECCOMP_RET_ALLOW, 0, 0));
    program.push(instruction(answer, libc::SECCOMP_RET_USER_NOTIF, 0, 0));
    program
}

/// Has this process and all that it starts ask; gives who listens. Nobody can take it back.
fn install() -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    let mut program = program();
    let record = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `record` names a program of its length, which the kernel copies.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const record,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Words of the page that the two sides share.
const LISTENER: usize = 0;
const TAKEN: usize = 1;
const PHASE: usize = 2;
/// What [`LISTENER`] says where there can be none.
const IMPOSSIBLE: u32 = u32::MAX;

/// In the process that is to ask: begins, and returns once somebody answers. False if the system does
/// not offer it.
pub(crate) fn ask(page: &Page) -> bool {
    let listener = install();
    let number = listener.as_ref().map_or(IMPOSSIBLE, |fd| fd.as_raw_fd() as u32 + 1);
    page.word(LISTENER).store(number, Ordering::SeqCst);
    while listener.is_ok() && page.word(TAKEN).load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    listener.is_ok()
}

/// From here on, or up to here, a call may fail.
pub(crate) fn set_phase(page: &Page, on: bool) {
    page.word(PHASE).store(u32::from(on), Ordering::SeqCst);
}

/// Takes over, from process `pid`, who listens to it; `None` if it cannot ask.
pub(crate) fn listener_of(pid: Pid, page: &Page) -> Option<OwnedFd> {
    let number = loop {
        match page.word(LISTENER).load(Ordering::SeqCst) {
            0 => std::thread::yield_now(),
            IMPOSSIBLE => return None,
            number => break number - 1,
        }
    };
    let of = |answer: c_long| {
        assert!(answer >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the call made it, and nobody else knows it.
        unsafe { OwnedFd::from_raw_fd(answer as i32) }
    };
    // SAFETY: the call takes numbers.
    let process = of(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) });
    // SAFETY: the call takes numbers.
    let copy = of(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) });
    page.word(TAKEN).store(1, Ordering::SeqCst);
    Some(copy)
}

/// Answers every question until nobody is left who could ask. In the phase, the `answer` is given the
/// count of calls so far, and the number of the next, and tells what that fails with. False if
/// somebody still lives who has not asked anything for so long.
pub(crate) fn serve(
    listener: &OwnedFd,
    page: &Page,
    milliseconds: i32,
    mut answer: impl FnMut(usize, i32) -> Option<i32>,
) -> bool {
    let mut count = 0;
    loop {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: `poll` is one record.
        let ready = unsafe { libc::poll(&mut poll, 1, milliseconds) };
        if ready == 0 || poll.revents & libc::POLLIN == 0 {
            return ready > 0 && poll.revents & libc::POLLHUP != 0;
        }
        // SAFETY: every bit pattern of the record is valid, and zeros are asked for.
        let mut question: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: `question` is writable for the one record the call fills in.
        let got = unsafe {
            libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &mut question)
        };
        if got != 0 {
            // Who asked is dead.
            continue;
        }
        let mut error = None;
        if page.word(PHASE).load(Ordering::SeqCst) != 0 {
            error = answer(count, question.data.nr);
            count += 1;
        }
        let go_on = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        let reply = libc::seccomp_notif_resp {
            id: question.id,
            val: 0,
            error: error.map_or(0, |error| -error),
            flags: if error.is_none() { go_on } else { 0 },
        };
        // SAFETY: `reply` is one record. Who asked may be dead by now.
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &reply) };
    }
}
