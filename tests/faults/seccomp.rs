//! A family of processes whose system calls ask this one what to answer.
#![allow(unsafe_code)]

use crate::os::{Page, Pid};
use libc::c_long;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;

/// A call that asks, and what it may answer for a reason that lies outside of the program.
struct Call {
    number: c_long,
    name: &'static str,
    errors: &'static [i32],
    /// Which of its forms: the others answer for themselves.
    only: fn(&Arguments) -> bool,
}

type Arguments = [u64; 6];

macro_rules! calls {
    ($($number:ident $name:literal: $($error:ident)+ $(, $only:expr)?;)*) => {
        &[$(Call {
            number: libc::$number,
            name: $name,
            errors: &[$(libc::$error),+],
            only: calls!(@only $($only)?),
        }),*]
    };
    (@only) => { |_| true };
    (@only $only:expr) => { $only };
}

/// Memory that processes share. The rest is the allocator's, which ends a program that there is none for.
fn maps_shared(arguments: &Arguments) -> bool {
    arguments[3] & libc::MAP_SHARED as u64 != 0
}

/// Waiting; waking finds no reason to be refused.
fn sleeps(arguments: &Arguments) -> bool {
    let operation = arguments[1] as i32 & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
    [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET].contains(&operation)
}

const CALLS: &[&[Call]] = &[EVERYWHERE, OLD];

const EVERYWHERE: &[Call] = calls! {
    SYS_accept4 "accept4": EMFILE ECONNABORTED ENOBUFS EINTR;
    SYS_bind "bind": EADDRINUSE EACCES ENOMEM;
    SYS_chdir "chdir": ENOENT EACCES;
    SYS_clock_nanosleep "clock_nanosleep": EINTR;
    SYS_clone "clone": EAGAIN ENOMEM EPERM;
    SYS_clone3 "clone3": ENOSYS EAGAIN EPERM;
    SYS_close_range "close_range": ENOSYS ENOMEM;
    SYS_connect "connect": ECONNREFUSED ETIMEDOUT EAGAIN;
    SYS_dup3 "dup3": EMFILE EBUSY;
    SYS_epoll_create1 "epoll_create1": EMFILE ENOMEM;
    SYS_epoll_ctl "epoll_ctl": ENOMEM ENOSPC;
    SYS_epoll_pwait "epoll_pwait": EINTR;
    SYS_eventfd2 "eventfd2": EMFILE ENFILE ENOMEM;
    SYS_execve "execve": ENOENT EACCES ENOMEM ETXTBSY;
    SYS_fallocate "fallocate": ENOSPC EINTR EOPNOTSUPP;
    SYS_fchmod "fchmod": EPERM;
    SYS_fcntl "fcntl": EMFILE EINVAL;
    SYS_flock "flock": EINTR ENOLCK;
    SYS_fstat "fstat": ENOMEM;
    SYS_ftruncate "ftruncate": EINTR EFBIG ENOSPC;
    SYS_futex "futex": EINTR EAGAIN, sleeps;
    SYS_futex_waitv "futex_waitv": EINTR EAGAIN ENOSYS;
    SYS_getcwd "getcwd": ENOENT;
    SYS_getdents64 "getdents64": ENOENT;
    SYS_getpeername "getpeername": ENOBUFS ENOTCONN;
    SYS_getrandom "getrandom": ENOSYS EINTR;
    SYS_getsockname "getsockname": ENOBUFS;
    SYS_getsockopt "getsockopt": ENOBUFS ENOPROTOOPT;
    SYS_ioctl "ioctl": ENOTTY;
    SYS_listen "listen": EADDRINUSE;
    SYS_memfd_create "memfd_create": EMFILE ENOMEM;
    SYS_mmap "mmap": ENOMEM EAGAIN EPERM, maps_shared;
    SYS_openat "openat": EMFILE ENOENT EACCES;
    SYS_pidfd_open "pidfd_open": EMFILE ENOMEM ENOSYS;
    SYS_pidfd_send_signal "pidfd_send_signal": EPERM;
    SYS_pipe2 "pipe2": EMFILE ENFILE;
    SYS_ppoll "ppoll": ENOMEM EINTR;
    SYS_prctl "prctl": EPERM;
    SYS_pread64 "pread64": EIO EINTR;
    SYS_prlimit64 "prlimit64": EPERM;
    SYS_pwrite64 "pwrite64": EIO EINTR ENOSPC;
    SYS_read "read": EIO EINTR;
    SYS_recvfrom "recvfrom": ECONNRESET EINTR ENOMEM;
    SYS_recvmsg "recvmsg": ENOMEM EINTR;
    SYS_rt_sigaction "rt_sigaction": EINVAL;
    SYS_sched_getaffinity "sched_getaffinity": EINVAL;
    SYS_sendmsg "sendmsg": ENOMEM ETOOMANYREFS ENOBUFS;
    SYS_sendto "sendto": ECONNRESET EINTR ENOBUFS;
    SYS_setsockopt "setsockopt": ENOPROTOOPT ENOMEM;
    SYS_socket "socket": EMFILE EAFNOSUPPORT ENOBUFS;
    SYS_socketpair "socketpair": EMFILE ENOMEM ENFILE;
    SYS_statx "statx": ENOSYS ENOMEM;
    SYS_timerfd_create "timerfd_create": EMFILE ENFILE ENOSYS;
    SYS_timerfd_settime "timerfd_settime": EINVAL;
    SYS_unlinkat "unlinkat": EBUSY EACCES;
    SYS_unshare "unshare": EPERM ENOSYS EINVAL;
    SYS_wait4 "wait4": EINTR ECHILD;
    SYS_waitid "waitid": EINTR ENOMEM;
    SYS_write "write": ENOSPC EINTR EIO;
    SYS_writev "writev": ENOSPC EINTR EIO;
};

/// Calls that newer machines do not have.
#[cfg(target_arch = "x86_64")]
const OLD: &[Call] = calls! {
    SYS_dup2 "dup2": EMFILE EBUSY;
    SYS_epoll_wait "epoll_wait": EINTR;
    SYS_poll "poll": ENOMEM EINTR;
    SYS_readlink "readlink": ENOENT EACCES;
    SYS_unlink "unlink": EBUSY EACCES;
};

#[cfg(not(target_arch = "x86_64"))]
const OLD: &[Call] = &[];

/// A call that asks what to answer.
pub(crate) struct Question {
    pub(crate) name: &'static str,
    /// What it may fail with.
    pub(crate) errors: &'static [i32],
}

impl Question {
    /// `None` if it is of a form that is left alone.
    fn of(asked: &libc::seccomp_notif) -> Option<Question> {
        let call = calls().find(|call| call.number == c_long::from(asked.data.nr))?;
        let mut errors = call.errors;
        if call.name == "write" && is_counter(asked.pid, asked.data.args[0]) {
            errors = &[libc::EINTR];
        }
        (call.only)(&asked.data.args).then_some(Question { name: call.name, errors })
    }

    /// Whether a file that it does not take away is still there, as it has to be.
    pub(crate) fn leaves_a_file(&self) -> bool {
        self.name.starts_with("unlink")
    }
}

/// Whether it is an eventfd: a write to one finds room, or waits for it.
fn is_counter(pid: u32, fd: u64) -> bool {
    let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}"));
    link.is_ok_and(|link| link.to_string_lossy().contains("eventfd"))
}

fn calls() -> impl Iterator<Item = &'static Call> + Clone {
    CALLS.iter().copied().flatten()
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// The number of the call is compared with one after the other; who is found asks.
fn program() -> Vec<libc::sock_filter> {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let mut program = vec![instruction(load, 0, 0, 0)];
    for (left, call) in (0..calls().count()).rev().zip(calls()) {
        let compare = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        program.push(instruction(compare, call.number as u32, left as u8 + 1, 0));
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
/// count of calls so far, and the next, and tells what that fails with. False if
/// somebody still lives who has not asked anything for so long.
pub(crate) fn serve(
    listener: &OwnedFd,
    page: &Page,
    milliseconds: i32,
    mut answer: impl FnMut(usize, &Question) -> Option<i32>,
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
        let asked = Question::of(&question);
        if let (Some(asked), true) = (asked, page.word(PHASE).load(Ordering::SeqCst) != 0) {
            error = answer(count, &asked);
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
