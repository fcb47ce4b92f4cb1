//! Processes and threads: who we are, making them, ending them, waiting for them.

use super::{errno_result, retry};
use crate::process::ExitStatus;
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// This process's pid, or 0 where it is not known yet: at first, and again in a forked child.
static PID: AtomicU32 = AtomicU32::new(0);

extern "C" fn forget_pid_after_fork() {
    // Relaxed: the child has one thread.
    PID.store(0, Ordering::Relaxed);
}

/// `getpid()`, without a system call: libc keeps no copy of its own.
#[inline]
pub(crate) fn id() -> u32 {
    // Relaxed: whatever is read is either this process's pid or 0.
    match PID.load(Ordering::Relaxed) {
        0 => learn_pid(),
        pid => pid,
    }
}

/// Whether a fork will forget the pid: 0 not yet, 1 a thread sees to it, 2 it will.
static AT_FORK: AtomicU32 = AtomicU32::new(0);

#[cold]
fn learn_pid() -> u32 {
    // Nobody waits for the thread that sees to it: a process forked meanwhile has no such thread.
    if AT_FORK.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        // SAFETY: the handler stores one number, which is allowed in a forked child.
        let refused = unsafe { libc::pthread_atfork(None, None, Some(forget_pid_after_fork)) } != 0;
        // Release: pairs with the load below.
        AT_FORK.store(if refused { 0 } else { 2 }, Ordering::Release);
    }
    // SAFETY: the call takes nothing and cannot fail.
    let pid = unsafe { libc::getpid() } as u32;
    if AT_FORK.load(Ordering::Acquire) == 2 {
        PID.store(pid, Ordering::Relaxed);
    }
    pid
}

thread_local!(static TID: Cell<(u32, u32)> = const { Cell::new((0, 0)) });

/// `gettid()`, without a system call after the first of each thread.
#[inline]
pub(crate) fn thread_id() -> u32 {
    match TID.get() {
        (of, tid) if of == id() => tid,
        _ => learn_thread_id(),
    }
}

#[cold]
fn learn_thread_id() -> u32 {
    // SAFETY: the call takes nothing and cannot fail.
    let tid = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
    TID.set((id(), tid));
    tid
}

/// `fork()` of the libc, which repairs its own state in the child: the thread id that robust mutexes
/// store, its allocator's locks, its list of threads. A raw `clone` would not.
///
/// Gives 0 in the child and the child's pid in the parent.
///
/// # Safety
/// * The process has no other threads, or the child keeps to async-signal-safe calls.
#[inline]
pub(crate) unsafe fn fork() -> io::Result<u32> {
    // SAFETY: this function's contract.
    errno_result(unsafe { libc::fork() }).map(|pid| pid as u32)
}

/// Whether this process has no thread but the calling one; `None` where the system does not tell.
#[inline]
pub(crate) fn is_single_threaded() -> Option<bool> {
    // A process that has other threads cannot leave its thread group (EINVAL); one that has none is
    // alone already, and the call changes nothing.
    // SAFETY: the call takes a flag, and with this one it has no effect.
    match errno_result(unsafe { libc::unshare(libc::CLONE_THREAD) }) {
        Ok(_) => Some(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Some(false),
        Err(_) => Some(std::fs::read_dir("/proc/self/task").ok()?.count() == 1),
    }
}

/// `sysconf(_SC_NPROCESSORS_ONLN)`; zero where the system does not tell.
pub(crate) fn online_cpus() -> usize {
    // SAFETY: the call takes a number.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(0)
}

/// Ends the process at once: no exit handlers, no destructors, no flushing.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: the call takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// `pidfd_open`: a descriptor that becomes readable when the process ends.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers; its descriptor is close-on-exec always.
    let fd = errno_result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the call succeeded, so the descriptor is open, and nothing else has seen its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `pidfd_send_signal`; ESRCH once the process has been reaped.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: `pidfd` is open for the borrow's life; no further information is passed.
    errno_result(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// `waitid(P_PIDFD, WEXITED)`: reaps this very child, which has ended, and says how it did.
///
/// ECHILD for a process that is no child, or was reaped by somebody else. `None` while it runs.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    // SAFETY: every bit pattern of this record of numbers is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    retry(|| {
        // SAFETY: `info` is writable for the one record the call fills in.
        errno_result(unsafe {
            libc::waitid(
                libc::P_PIDFD,
                pidfd.as_raw_fd() as libc::id_t,
                &mut info,
                libc::WEXITED | libc::WNOHANG,
            )
        })
    })?;
    // SAFETY: the call succeeded, so the record is that of a child's change, or all zeros.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    if pid == 0 {
        return Ok(None);
    }
    Ok(Some(match info.si_code {
        libc::CLD_EXITED => ExitStatus::Exited(status),
        _ => ExitStatus::Killed(status),
    }))
}

/// How a process ended that has been reaped by somebody else already; `None` where the kernel (before
/// 6.15) does not keep that for the holders of pidfds.
pub(crate) fn exit_info(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    let mut info = PidfdInfo { mask: PidfdInfo::EXIT, ..PidfdInfo::default() };
    // SAFETY: `info` is writable for the record whose size is part of the request's number; a kernel
    // that does not know the request answers ENOTTY.
    errno_result(unsafe { libc::ioctl(pidfd.as_raw_fd(), PidfdInfo::GET as _, &mut info) }).ok()?;
    if info.mask & PidfdInfo::EXIT == 0 {
        return None;
    }
    let status = info.exit_code;
    Some(match libc::WTERMSIG(status) {
        0 => ExitStatus::Exited(libc::WEXITSTATUS(status)),
        signal => ExitStatus::Killed(signal),
    })
}

/// The first version of `struct pidfd_info` of the kernel's `pidfd.h`.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    /// pid, tgid, ppid, and eight user and group ids.
    ids: [u32; 11],
    exit_code: i32,
}

impl PidfdInfo {
    /// `PIDFD_GET_INFO`: `_IOWR(0xff, 11, struct pidfd_info)`.
    const GET: u32 = 3 << 30 | (size_of::<PidfdInfo>() as u32) << 16 | 0xff << 8 | 11;
    /// `PIDFD_INFO_EXIT`, asked for and answered.
    const EXIT: u64 = 1 << 3;
}

/// Kills a child that nothing but its pid names, and reaps it.
pub(crate) fn kill_and_reap(child: u32) {
    // SAFETY: the call takes numbers; `child` is one that was not reaped, so the pid is still its own.
    unsafe { libc::kill(child as i32, libc::SIGKILL) };
    let _ = retry(|| {
        // SAFETY: no status is asked for.
        errno_result(unsafe { libc::waitpid(child as i32, std::ptr::null_mut(), 0) })
    });
}

/// `setsid`: the leader of a new session; EPERM for the leader of a group.
pub(crate) fn new_session() -> io::Result<()> {
    // SAFETY: the call takes nothing.
    errno_result(unsafe { libc::setsid() }).map(drop)
}

/// `setpgid`: moves the calling process to a group of its session; 0 is a group of its own.
pub(crate) fn set_group(group: u32) -> io::Result<()> {
    // SAFETY: the call takes numbers.
    errno_result(unsafe { libc::setpgid(0, group as i32) }).map(drop)
}

/// `setgid`, for all threads of the process.
pub(crate) fn set_gid(group: u32) -> io::Result<()> {
    // SAFETY: the call takes a number.
    errno_result(unsafe { libc::setgid(group) }).map(drop)
}

/// `setuid`, for all threads of the process.
pub(crate) fn set_uid(user: u32) -> io::Result<()> {
    // SAFETY: the call takes a number.
    errno_result(unsafe { libc::setuid(user) }).map(drop)
}

/// `setgroups`: leaves the process without supplementary groups. Who is not root keeps them.
pub(crate) fn drop_groups() -> io::Result<()> {
    // SAFETY: no group is read.
    match errno_result(unsafe { libc::setgroups(0, std::ptr::null()) }) {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => Err(error),
        _ => Ok(()),
    }
}

/// Sends `signal` to the calling process itself.
pub(crate) fn raise(signal: i32) {
    // SAFETY: the call takes a number.
    unsafe { libc::raise(signal) };
}

/// `prctl(PR_SET_NAME)`: what `ps` and `top` show; the kernel keeps the first 15 bytes.
pub(crate) fn set_command_name(name: &CStr) {
    // SAFETY: `name` ends in NUL and outlives the call. A refusal changes a display, nothing else.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// `atexit`: has `hook` called when the process exits in the ordinary way.
pub(crate) fn at_exit(hook: extern "C" fn()) -> io::Result<()> {
    // SAFETY: `hook` is a function of this program, which stays loaded.
    match unsafe { libc::atexit(hook) } {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
    }
}

/// What a new process image is made of. All pointers are to NUL-ended arrays and strings that the
/// caller keeps until [`spawn`] returns: the child makes no allocation.
pub(crate) struct Image<'a> {
    /// The program: a path, or a descriptor of it.
    pub(crate) program: Program<'a>,
    /// The argument vector.
    pub(crate) argv: &'a CStrings,
    /// The environment.
    pub(crate) envp: &'a mut CStrings,
    /// What becomes descriptors 0, 1 and 2; `None` leaves the parent's.
    pub(crate) stdio: [Option<BorrowedFd<'a>>; 3],
    /// What becomes descriptor [`CONTROL_FD`].
    pub(crate) control: BorrowedFd<'a>,
}

/// Where a program's file is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program<'a> {
    /// At a path.
    Path(&'a CStr),
    /// Behind a descriptor, for `execveat(AT_EMPTY_PATH)`.
    Fd(BorrowedFd<'a>),
}

/// The number at which a spawned child finds its control socket, its only descriptor beyond 0 to 2.
pub(crate) const CONTROL_FD: RawFd = 3;

/// A NULL-ended array of C strings, as `execve` wants it.
#[derive(Debug)]
pub(crate) struct CStrings {
    /// The strings that `pointers` points into.
    _strings: Vec<CString>,
    /// One more string, which ends in `PID_DIGITS` digits and a NUL; or nothing.
    variable: Vec<u8>,
    pointers: Vec<*const libc::c_char>,
}

/// As many as the longest pid has.
const PID_DIGITS: usize = 10;

impl CStrings {
    pub(crate) fn new(strings: Vec<CString>) -> CStrings {
        CStrings::made_of(strings, Vec::new())
    }

    /// The strings, and one more: `start`, followed by the pid of the process that is made with it, in
    /// [`PID_DIGITS`] digits. `start` holds no NUL.
    pub(crate) fn with_pid(strings: Vec<CString>, start: &str) -> CStrings {
        let variable = [start.as_bytes(), &[b'0'; PID_DIGITS], &[0]].concat();
        CStrings::made_of(strings, variable)
    }

    fn made_of(strings: Vec<CString>, variable: Vec<u8>) -> CStrings {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        if !variable.is_empty() {
            pointers.push(variable.as_ptr().cast());
        }
        pointers.push(std::ptr::null());
        CStrings { _strings: strings, variable, pointers }
    }

    /// Where the pid goes; null if it goes nowhere.
    fn pid_place(&mut self) -> *mut u8 {
        match self.variable.len().checked_sub(PID_DIGITS + 1) {
            Some(at) => self.variable[at..].as_mut_ptr(),
            None => std::ptr::null_mut(),
        }
    }
}

/// What the child of a [`spawn`] gets through the memory it shares with its parent.
struct Order {
    program: libc::c_int,
    path: *const libc::c_char,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    /// [`PID_DIGITS`] bytes of a string of `envp`, or null.
    pid: *mut u8,
    /// Descriptors to become numbers 0 to 3; -1 leaves what is there. None of them is below 4.
    fds: [RawFd; 4],
    /// What went wrong in the child, which writes it before it ends.
    errno: libc::c_int,
}

/// Starts a new process image without copying the parent's page tables: the child shares the
/// parent's memory, on a stack of its own, and the calling thread waits until it has called `exec`.
///
/// The caller has blocked all signals, so that no handler of the parent's runs in the child; the new
/// image begins with them blocked. Every descriptor but 0 to 3 is closed in it.
pub(crate) fn spawn(image: Image<'_>) -> io::Result<(u32, OwnedFd)> {
    // Copies above the numbers that are going to be replaced, so that no order of dup2 overwrites a
    // source. They go when this function ends.
    let mut copies = Vec::with_capacity(4);
    let mut fds = [-1; 4];
    let [stdin, stdout, stderr] = image.stdio;
    for (number, source) in [stdin, stdout, stderr, Some(image.control)].into_iter().enumerate() {
        if let Some(source) = source {
            let copy = super::fd::dup_from(source, CONTROL_FD + 1)?;
            fds[number] = copy.as_raw_fd();
            copies.push(copy);
        }
    }
    let program = match image.program {
        Program::Path(_) => None,
        Program::Fd(fd) => Some(super::fd::dup_from(fd, CONTROL_FD + 1)?),
    };
    let mut order = Order {
        program: program.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        path: match image.program {
            Program::Path(path) => path.as_ptr(),
            Program::Fd(_) => c"".as_ptr(),
        },
        argv: image.argv.pointers.as_ptr(),
        pid: image.envp.pid_place(),
        envp: image.envp.pointers.as_ptr(),
        fds,
        errno: 0,
    };
    let mut stack = vec![MaybeUninit::<u128>::uninit(); STACK / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end;
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the child runs `exec_after_vfork` on `stack`, which is its own, and while it runs this
    // thread stands still: `order`, `stack` and what they point to outlive it, and nothing of this
    // thread's is written but `order.errno` and the bytes at `order.pid`. The child's signals are blocked, so it runs nothing else.
    let pid = errno_result(unsafe {
        libc::clone(exec_after_vfork, top.cast(), flags, (&raw mut order).cast(), &raw mut pidfd)
    })?;
    // SAFETY: the call succeeded, so the kernel has stored a descriptor that nothing else has seen.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if order.errno == 0 {
        return Ok((pid as u32, pidfd));
    }
    // The child could not become the program and has ended: leave no zombie.
    let _ = super::poll::wait_readable(pidfd.as_fd(), super::time::Deadline::NEVER);
    let _ = reap(pidfd.as_fd());
    Err(io::Error::from_raw_os_error(order.errno))
}

/// The child's stack: it calls a dozen system calls and nothing else.
const STACK: usize = 32 << 10;

/// The child of [`spawn`]: async-signal-safe calls alone, no allocation, no panic.
extern "C" fn exec_after_vfork(order: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn` passes a pointer to its `Order`, which it does not touch while this runs.
    let order = unsafe { &mut *order.cast::<Order>() };
    for (number, &fd) in (0..).zip(&order.fds) {
        // SAFETY: dup2 takes numbers; it clears close-on-exec on the copy.
        if fd >= 0 && unsafe { libc::dup2(fd, number) } == -1 {
            return fail_after_vfork(order);
        }
    }
    write_pid_after_vfork(order.pid);
    close_on_exec_after_vfork();
    if order.program >= 0 {
        // SAFETY: the strings and arrays that `order` points to are the caller's, who waits.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                order.program,
                order.path,
                order.argv,
                order.envp,
                libc::AT_EMPTY_PATH,
            )
        };
    } else {
        // SAFETY: as above.
        unsafe { libc::execve(order.path, order.argv, order.envp) };
    }
    fail_after_vfork(order)
}

/// Writes this process's pid, if `place` is not null. libc keeps none, so the parent's is not given.
fn write_pid_after_vfork(place: *mut u8) {
    if place.is_null() {
        return;
    }
    // SAFETY: the call takes nothing and cannot fail.
    let mut left = unsafe { libc::getpid() };
    for index in (0..PID_DIGITS).rev() {
        // SAFETY: the order's place has this many bytes, which nobody else touches meanwhile.
        unsafe { place.wrapping_add(index).write(b'0' + (left % 10) as u8) };
        left /= 10;
    }
}

/// Has every descriptor above [`CONTROL_FD`] closed by `exec`, whatever the host program left open.
fn close_on_exec_after_vfork() {
    let first = CONTROL_FD + 1;
    // SAFETY: the call takes numbers and sets a flag of this process's own table.
    let marked =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked == 0 {
        return;
    }
    // Linux before 5.11. One by one, as far as a table may reach; it is never shrunk below what is
    // open, but programs that raise the limit to a million pay for it here.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable for the one record the call fills in.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    for fd in first..limit.rlim_cur.min(1 << 20) as RawFd {
        // SAFETY: the call takes numbers; one that is not open answers EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

fn fail_after_vfork(order: &mut Order) -> libc::c_int {
    order.errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    127
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::wait_readable;
    use crate::sys::time::Deadline;

    fn errno<T>(answer: io::Result<T>) -> Option<i32> {
        answer.err().and_then(|error| error.raw_os_error())
    }

    fn strings(words: &[&str]) -> CStrings {
        CStrings::new(words.iter().map(|word| CString::new(*word).unwrap()).collect())
    }

    fn run(path: &CStr, argv: &[&str]) -> io::Result<(u32, OwnedFd)> {
        let (control, _other) = super::super::fd::pipe().unwrap();
        let argv = strings(argv);
        spawn(Image {
            program: Program::Path(path),
            argv: &argv,
            envp: &mut CStrings::with_pid(Vec::new(), "PID="),
            stdio: [None; 3],
            control: control.as_fd(),
        })
    }

    #[test]
    fn a_spawned_program_is_reaped_once_with_its_code() {
        let (pid, pidfd) = run(c"/bin/sh", &["sh", "-c", "exit 7"]).unwrap();
        assert_ne!(pid, id());
        assert!(wait_readable(pidfd.as_fd(), Deadline::NEVER).unwrap());
        assert_eq!(reap(pidfd.as_fd()).unwrap(), Some(ExitStatus::Exited(7)));
        assert_eq!(errno(reap(pidfd.as_fd())), Some(libc::ECHILD));
        // Where the kernel keeps it, it is the truth.
        assert!(exit_info(pidfd.as_fd()).is_none_or(|status| status == ExitStatus::Exited(7)));
        assert_eq!(errno(send_signal(pidfd.as_fd(), libc::SIGKILL)), Some(libc::ESRCH));
    }

    #[test]
    fn a_spawned_program_sees_no_descriptor_but_its_own() {
        let (read, _write) = super::super::fd::pipe().unwrap();
        // Far from the numbers that the shell uses for itself.
        let leak = super::super::fd::dup_from(read.as_fd(), 50).unwrap();
        // SAFETY: the flag of a descriptor that this test owns.
        unsafe { libc::fcntl(leak.as_raw_fd(), libc::F_SETFD, 0) };
        let script = format!("test -e /proc/$$/fd/3 && ! test -e /proc/$$/fd/{}", leak.as_raw_fd());
        let (_, pidfd) = run(c"/bin/sh", &["sh", "-c", &script]).unwrap();
        wait_readable(pidfd.as_fd(), Deadline::NEVER).unwrap();
        assert_eq!(reap(pidfd.as_fd()).unwrap(), Some(ExitStatus::Exited(0)));
    }

    #[test]
    fn a_spawned_program_finds_its_own_pid_in_its_environment() {
        let (_, pidfd) =
            run(c"/bin/sh", &["sh", "-c", "test ${#PID} = 10 && test $PID -eq $$"]).unwrap();
        wait_readable(pidfd.as_fd(), Deadline::NEVER).unwrap();
        assert_eq!(reap(pidfd.as_fd()).unwrap(), Some(ExitStatus::Exited(0)));
    }

    #[test]
    fn a_program_that_does_not_exist_is_enoent_and_leaves_no_child() {
        assert_eq!(errno(run(c"/no/such/program", &["x"])), Some(libc::ENOENT));
        assert_eq!(errno(run(c"/dev/null", &["x"])), Some(libc::EACCES));
    }

    #[test]
    fn a_killed_process_is_told_by_its_signal() {
        let (_, pidfd) = run(c"/bin/sh", &["sh", "-c", "while :; do sleep 1; done"]).unwrap();
        assert_eq!(reap(pidfd.as_fd()).unwrap(), None);
        send_signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
        wait_readable(pidfd.as_fd(), Deadline::NEVER).unwrap();
        assert_eq!(reap(pidfd.as_fd()).unwrap(), Some(ExitStatus::Killed(libc::SIGKILL)));
    }

    #[test]
    fn there_is_no_group_of_an_impossible_number() {
        assert_eq!(errno(set_group(u32::MAX)), Some(libc::EINVAL));
    }

    #[test]
    fn there_is_no_user_and_no_group_of_an_impossible_number() {
        assert_eq!(errno(set_uid(u32::MAX)), Some(libc::EINVAL));
        assert_eq!(errno(set_gid(u32::MAX)), Some(libc::EINVAL));
    }

    #[test]
    fn how_a_living_process_ends_is_not_known_yet() {
        assert_eq!(exit_info(pidfd_open(id()).unwrap().as_fd()), None);
        let (pipe, _other) = super::super::fd::pipe().unwrap();
        assert_eq!(exit_info(pipe.as_fd()), None);
    }

    #[test]
    fn there_is_no_process_behind_an_impossible_pid() {
        assert!(errno(pidfd_open(u32::MAX)).is_some());
        assert_eq!(id(), std::process::id());
        assert_ne!(thread_id(), 0);
    }

    #[test]
    fn a_second_thread_is_noticed() {
        std::thread::scope(|scope| {
            scope.spawn(|| assert_ne!(is_single_threaded(), Some(true)));
        });
    }
}
