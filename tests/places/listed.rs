//! The system calls that the README lists, by number.

use crate::filter::Call;

const README: &str = include_str!("../../README.md");

/// How the table begins.
const HEAD: &str = "| room | system calls |\n|---|---|\n";

/// The rows of the README's table: what each is for, and the names of its calls.
pub(crate) fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let (_, table) = README.split_once(HEAD).expect("the README has a table of system calls");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let (room, calls) = (cells.next(), cells.next());
        let names = calls.expect("two columns").split(", ").map(|name| name.trim_matches('`'));
        (room.expect("two columns"), names.collect())
    })
    .collect()
}

/// What a room may call: what every program may, what starting processes takes, and its own row.
pub(crate) fn calls(room: &str) -> Vec<Call> {
    let rows = rows();
    let row = |name: &str| {
        let found = rows.iter().find(|(title, _)| *title == name);
        found.unwrap_or_else(|| panic!("no row of system calls for {name}")).1.clone()
    };
    let mut names = row("every program");
    names.extend(row("processes"));
    names.extend(row(room));
    names.into_iter().filter_map(number).map(|number| Call { number, second: None }).collect()
}

/// The call's number; `None` where this machine has no such call.
fn number(name: &str) -> Option<libc::c_long> {
    let known = NUMBERS.iter().chain(SOMEWHERE).find(|(known, _)| *known == name);
    known.unwrap_or_else(|| panic!("a system call that the test does not know: {name}")).1
}

type Numbers = &'static [(&'static str, Option<libc::c_long>)];

macro_rules! numbers {
    ($($name:literal $number:ident)*) => { &[$(($name, Some(libc::$number)),)*] };
}

#[rustfmt::skip]
const NUMBERS: Numbers = numbers! {
    "accept4" SYS_accept4 "bind" SYS_bind "brk" SYS_brk "chdir" SYS_chdir
    "clock_gettime" SYS_clock_gettime "clock_nanosleep" SYS_clock_nanosleep "clone" SYS_clone
    "clone3" SYS_clone3 "close" SYS_close "close_range" SYS_close_range "connect" SYS_connect
    "dup3" SYS_dup3 "epoll_create1" SYS_epoll_create1 "epoll_ctl" SYS_epoll_ctl
    "epoll_pwait" SYS_epoll_pwait "eventfd2" SYS_eventfd2 "execve" SYS_execve "exit" SYS_exit
    "exit_group" SYS_exit_group "fallocate" SYS_fallocate "fchmod" SYS_fchmod "fcntl" SYS_fcntl
    "flock" SYS_flock "fstat" SYS_fstat "ftruncate" SYS_ftruncate "futex" SYS_futex "futex_waitv" SYS_futex_waitv
    "get_robust_list" SYS_get_robust_list "getcwd" SYS_getcwd "getdents64" SYS_getdents64
    "geteuid" SYS_geteuid "getpeername" SYS_getpeername "getpid" SYS_getpid
    "getrandom" SYS_getrandom "getsockname" SYS_getsockname "getsockopt" SYS_getsockopt
    "gettid" SYS_gettid "ioctl" SYS_ioctl "listen" SYS_listen "lseek" SYS_lseek "madvise" SYS_madvise
    "memfd_create" SYS_memfd_create "mmap" SYS_mmap "mprotect" SYS_mprotect "mremap" SYS_mremap
    "munmap" SYS_munmap "nanosleep" SYS_nanosleep "newfstatat" SYS_newfstatat "openat" SYS_openat
    "pidfd_open" SYS_pidfd_open "pidfd_send_signal" SYS_pidfd_send_signal "pipe2" SYS_pipe2
    "ppoll" SYS_ppoll "prctl" SYS_prctl "pread64" SYS_pread64 "prlimit64" SYS_prlimit64
    "pwrite64" SYS_pwrite64 "read" SYS_read "readlinkat" SYS_readlinkat "recvfrom" SYS_recvfrom
    "recvmsg" SYS_recvmsg "restart_syscall" SYS_restart_syscall "rseq" SYS_rseq
    "rt_sigaction" SYS_rt_sigaction "rt_sigprocmask" SYS_rt_sigprocmask
    "rt_sigreturn" SYS_rt_sigreturn "sched_getaffinity" SYS_sched_getaffinity
    "sched_yield" SYS_sched_yield "sendmsg" SYS_sendmsg "sendto" SYS_sendto
    "set_robust_list" SYS_set_robust_list "set_tid_address" SYS_set_tid_address
    "setsockopt" SYS_setsockopt "sigaltstack" SYS_sigaltstack "socket" SYS_socket
    "socketpair" SYS_socketpair "statx" SYS_statx "sysinfo" SYS_sysinfo "tgkill" SYS_tgkill
    "timerfd_create" SYS_timerfd_create "timerfd_settime" SYS_timerfd_settime
    "tkill" SYS_tkill "unlinkat" SYS_unlinkat "unshare" SYS_unshare "waitid" SYS_waitid
    "write" SYS_write "writev" SYS_writev
};

#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const SOMEWHERE: Numbers = numbers! {
    "access" SYS_access "arch_prctl" SYS_arch_prctl "dup2" SYS_dup2 "epoll_wait" SYS_epoll_wait
    "fork" SYS_fork "open" SYS_open "poll" SYS_poll "readlink" SYS_readlink "unlink" SYS_unlink
};

#[cfg(not(target_arch = "x86_64"))]
#[rustfmt::skip]
const SOMEWHERE: Numbers = &[
    ("access", None), ("arch_prctl", None), ("dup2", None), ("epoll_wait", None), ("fork", None),
    ("open", None), ("poll", None), ("readlink", None), ("unlink", None),
];
