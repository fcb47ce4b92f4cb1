//! The few system calls that the tests make themselves, and what /proc tells of a process.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

pub(crate) type Pid = libc::pid_t;

/// What `waitpid` told of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Exited(i32),
    Killed(i32),
    Stopped(i32),
}

/// The exit code of a forked child whose closure panicked.
pub(crate) const PANICKED: i32 = 101;

/// Runs `child` in a forked process that leaves by `_exit`: 0, or [`PANICKED`].
///
/// It is libc's `fork`: glibc caches the thread id that robust mutexes store as their owner, and a
/// child of the raw system call would keep its parent's.
pub(crate) fn fork(child: impl FnOnce()) -> Pid {
    // SAFETY: the child runs test code alone and never returns into the caller's frames; where other
    // threads exist, callers keep to what a child of a threaded process may do.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
    if pid == 0 {
        let ended_well = catch_unwind(AssertUnwindSafe(child)).is_ok();
        exit_now(if ended_well { 0 } else { PANICKED });
    }
    pid
}

/// `_exit`: no exit handlers, no buffers flushed twice.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: the call takes a number and does not return.
    unsafe { libc::_exit(code) }
}

pub(crate) fn own_pid() -> Pid {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

pub(crate) fn parent_pid() -> Pid {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::getppid() }
}

/// Has the calling thread, and the processes that it starts, use the network namespace of this file.
pub(crate) fn enter_network(path: &str) {
    let file = std::fs::File::open(path).unwrap();
    // SAFETY: the call takes numbers.
    let answer = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(answer, 0, "setns: {}", io::Error::last_os_error());
}

/// Sends `signal` to a process that the caller has started and not yet reaped.
pub(crate) fn signal(pid: Pid, signal: i32) {
    assert!(pid > 0, "not one process: {pid}");
    // SAFETY: the call takes numbers.
    unsafe { libc::kill(pid, signal) };
}

fn waitpid(pid: Pid, flags: i32) -> io::Result<Option<Status>> {
    let mut raw = 0;
    // SAFETY: `raw` is writable for the one number the call fills in.
    let answer = unsafe { libc::waitpid(pid, &mut raw, flags | libc::__WALL) };
    match answer {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ if libc::WIFEXITED(raw) => Ok(Some(Status::Exited(libc::WEXITSTATUS(raw)))),
        _ if libc::WIFSIGNALED(raw) => Ok(Some(Status::Killed(libc::WTERMSIG(raw)))),
        _ => Ok(Some(Status::Stopped(libc::WSTOPSIG(raw)))),
    }
}

/// Waits for a change of `pid`, a stop included; `None` when a [`Ticks`] signal came first.
pub(crate) fn wait_or_tick(pid: Pid) -> Option<Status> {
    match waitpid(pid, 0) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
        Err(error) => panic!("waitpid {pid}: {error}"),
    }
}

/// The change of `pid`, if there is one already.
pub(crate) fn try_wait(pid: Pid) -> Option<Status> {
    waitpid(pid, libc::WNOHANG).unwrap_or_else(|error| panic!("waitpid {pid}: {error}"))
}

/// Kills `pid` and reaps it.
pub(crate) fn kill_and_reap(pid: Pid) -> Status {
    signal(pid, libc::SIGKILL);
    loop {
        match waitpid(pid, 0) {
            Ok(Some(Status::Stopped(_)) | None) => {}
            Ok(Some(status)) => return status,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("waitpid {pid}: {error}"),
        }
    }
}

/// Waits until `pid` has ended and reaps it; `None` if it still lives at the deadline.
pub(crate) fn wait_until(pid: Pid, deadline: Instant) -> Option<Status> {
    // SAFETY: the call takes numbers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
    assert!(pidfd >= 0, "pidfd_open {pid}: {}", io::Error::last_os_error());
    let mut poll = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // SAFETY: `poll` is one record.
        let ready = unsafe { libc::poll(&mut poll, 1, left.as_millis() as i32) };
        if ready == 1 || left.is_zero() {
            break;
        }
    }
    // SAFETY: `pidfd` was made above and is nobody else's.
    unsafe { libc::close(pidfd) };
    try_wait(pid)
}

/// Where a process is, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// On a processor, about to be, or in a wait that signals do not end.
    Running,
    /// Off every run queue, in this system call since its `switches`th voluntary switch.
    Asleep { call: String, switches: String },
    /// Held by its tracer: a step has ended that the tracer has not been told of yet.
    Stopped,
    /// Ended.
    Gone,
}

/// Looks at process `pid`.
///
/// The kernel fills in /proc/PID/syscall only for a task that it has found scheduled out, before and
/// after it looked; one that was woken but has not run yet counts as running. So whoever is seen
/// asleep twice with the same count of switches has slept all the time between. Who pauses for a time
/// goes on by itself soon, and counts as running.
pub(crate) fn look(pid: Pid) -> Sight {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return Sight::Gone;
    };
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    match field("State:").chars().next() {
        Some('S') => {}
        Some('t') => return Sight::Stopped,
        Some('Z' | 'X') | None => return Sight::Gone,
        Some(_) => return Sight::Running,
    }
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or("?".into());
    if call.starts_with("running") || is_pause(&call) {
        return Sight::Running;
    }
    Sight::Asleep { call: call.trim().to_owned(), switches: field("voluntary_ctxt_switches:") }
}

/// Whether a line of /proc/PID/syscall is of a call that only time ends.
fn is_pause(line: &str) -> bool {
    let number = line.split(' ').next().unwrap_or_default().parse();
    number.is_ok_and(|number: libc::c_long| number == libc::SYS_clock_nanosleep)
}

/// In a child: dies by SIGKILL when the thread that started it ends.
pub(crate) fn die_with_parent() {
    // SAFETY: the call takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
}

/// Has the calling thread run on the processor that it is on, as long as this lives.
#[derive(Debug)]
pub(crate) struct Pinned(libc::cpu_set_t);

impl Pinned {
    pub(crate) fn here() -> Pinned {
        const SIZE: usize = size_of::<libc::cpu_set_t>();
        // SAFETY: every bit pattern of a set is valid, zeros mean the empty one.
        let mut before: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `before` is writable for SIZE bytes.
        unsafe { libc::sched_getaffinity(0, SIZE, &mut before) };
        // SAFETY: the call takes nothing.
        let processor = unsafe { libc::sched_getcpu() };
        // SAFETY: as above.
        let mut here: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the macro looks itself whether the number is in the set's range.
        unsafe { libc::CPU_SET(processor as usize, &mut here) };
        // SAFETY: `here` is readable for SIZE bytes. Where it is refused, nothing changes.
        unsafe { libc::sched_setaffinity(0, SIZE, &here) };
        Pinned(before)
    }

    /// In a forked child: runs wherever it may.
    pub(crate) fn let_go(&self) {
        // SAFETY: the set is readable for its size. Where it is refused, nothing changes.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.0) };
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Memory that this process shares with the children it forks, all zeros at first.
#[derive(Debug)]
pub(crate) struct Page(*mut u8);

impl Page {
    pub(crate) const SIZE: usize = 16 * 1024;

    pub(crate) fn new() -> Page {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: no address is asked for, so no existing memory changes.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), Page::SIZE, protection, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        Page(start.cast())
    }

    /// The bytes; what lies where is the test's own affair.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.0
    }

    /// The `index`th 32-bit word of the first half.
    pub(crate) fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < Page::SIZE / 2 / 4);
        // SAFETY: inside the mapping, by the line above.
        let place = unsafe { self.0.cast::<AtomicU32>().add(index) };
        // SAFETY: aligned, initialised (zeros), mapped until the drop of `self`; all access is atomic.
        unsafe { &*place }
    }

    /// The `index`th 64-bit counter, in the second half.
    pub(crate) fn counter(&self, index: usize) -> &AtomicU64 {
        let half = Page::SIZE / 2 / 8;
        assert!(index < half);
        // SAFETY: inside the mapping, by the line above.
        let place = unsafe { self.0.cast::<AtomicU64>().add(half + index) };
        // SAFETY: aligned, initialised (zeros), mapped until the drop of `self`; all access is atomic.
        unsafe { &*place }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and views into it borrow the value.
        unsafe { libc::munmap(self.0.cast(), Page::SIZE) };
    }
}

/// `FUTEX_WAIT` in the form shared between processes; returns for any reason.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32) {
    let forever = std::ptr::null::<libc::timespec>();
    // SAFETY: `word` is live and aligned for the whole call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, forever) };
}

/// `FUTEX_WAKE` in the form shared between processes.
pub(crate) fn futex_wake(word: &AtomicU32, count: i32) {
    // SAFETY: `word` is live and aligned for the whole call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// Adds one to `word` and wakes up to `count` of its sleepers in one system call.
pub(crate) fn futex_add_and_wake(word: &AtomicU32, count: i32) {
    const ADD_ONE: u32 = 1 << 28 | 1 << 12 | 0xfff;
    // SAFETY: `word` is live and aligned for the whole call, and serves as both words.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_OP,
            count,
            0usize,
            word.as_ptr(),
            ADD_ONE,
        )
    };
}

/// A signal at a fixed rate whose only effect is that a blocking `waitpid` looks up.
///
/// Forked children do not inherit the timer.
#[derive(Debug)]
pub(crate) struct Ticks(());

impl Ticks {
    pub(crate) fn every(interval: Duration) -> Ticks {
        extern "C" fn tick(_: i32) {}
        let handler = tick as extern "C" fn(i32);
        // SAFETY: every bit pattern of the record is valid, zeros meaning no flags and no mask;
        // without SA_RESTART, `waitpid` answers EINTR.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as usize;
        // SAFETY: the handler does nothing, so it may run at any point.
        unsafe { libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()) };
        Ticks::set(interval);
        Ticks(())
    }

    fn set(interval: Duration) {
        let interval = libc::timeval { tv_sec: 0, tv_usec: interval.subsec_micros() as _ };
        let timer = libc::itimerval { it_interval: interval, it_value: interval };
        // SAFETY: `timer` is one record; zeros switch the timer off.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        Ticks::set(Duration::ZERO);
    }
}

/// Writes `text` to standard error at once, past every buffer, lock and capture.
pub(crate) fn complain(text: &str) {
    // SAFETY: `text` is readable for its length.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

/// Registers `handler` with `atexit`.
pub(crate) fn at_exit(handler: extern "C" fn()) {
    // SAFETY: the handler is a function of this executable, so it outlives every exit.
    let answer = unsafe { libc::atexit(handler) };
    assert!(answer == 0, "atexit");
}

/// Has the kernel make this process the parent of its descendants whose parents die.
pub(crate) fn adopt_orphans() {
    // SAFETY: the call takes numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// The children of all threads of this process, dead or alive, as /proc tells.
pub(crate) fn children() -> BTreeSet<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    let all = lists.flatten().collect::<Vec<_>>().concat();
    all.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether this process has any child, dead or alive; none is reaped.
pub(crate) fn has_children() -> bool {
    // SAFETY: every bit pattern of the record is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: `info` is writable for the one record the call fills in.
    let answer = unsafe { libc::waitid(libc::P_ALL, 0, &mut info, flags) };
    answer == 0
}

/// Whether this process is its user's superuser, whom no file permission stops.
pub(crate) fn is_root() -> bool {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Maps a memory file named as the library's are, and leaves the mapping behind.
pub(crate) fn leak_a_memory_mapping() {
    // SAFETY: the name ends in NUL.
    let fd = unsafe { libc::memfd_create(c"multiproc-leak".as_ptr(), libc::MFD_CLOEXEC) };
    let null = std::ptr::null_mut();
    // SAFETY: no address is asked for, so no existing memory changes; nobody touches the mapping.
    unsafe { libc::mmap(null, 4096, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
    // SAFETY: `fd` was made above and is nobody else's.
    unsafe { libc::close(fd) };
}

/// Waits until `pid` is seen asleep twice without having run in between.
pub(crate) fn wait_until_asleep(pid: Pid) {
    let mut before = Sight::Running;
    loop {
        let now = look(pid);
        assert_ne!(now, Sight::Gone, "{pid} ended instead of sleeping");
        if matches!(now, Sight::Asleep { .. }) && now == before {
            return;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for `pid` to end, for as long as it takes.
pub(crate) fn wait(pid: Pid) -> Status {
    loop {
        match wait_or_tick(pid) {
            Some(Status::Stopped(_)) | None => {}
            Some(status) => return status,
        }
    }
}

/// Lets this process open no descriptor beyond those numbered below `count`.
pub(crate) fn limit_descriptors(count: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is one record, which the call fills in.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit.rlim_cur = count as _;
    // SAFETY: `limit` is one record, which the call reads.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// Lets this process map `more` bytes beside what it has mapped already.
pub(crate) fn limit_memory(more: u64) {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages: u64 = pages.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    let limit = pages * 4096 + more;
    let limits = libc::rlimit { rlim_cur: limit as _, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limits` outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limits) }, 0);
}

/// Whether a signal has come.
#[derive(Debug)]
pub(crate) struct SignalFlag(());

static CAUGHT: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

impl SignalFlag {
    /// Catches `signal` from now on. There is one flag a process.
    pub(crate) fn catch(signal: i32) -> SignalFlag {
        extern "C" fn note(_: i32) {
            CAUGHT.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        let handler = note as extern "C" fn(i32);
        // SAFETY: the handler only stores a flag, so it may run at any point.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
        SignalFlag(())
    }

    pub(crate) fn is_set(&self) -> bool {
        CAUGHT.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// How many descriptors this process has open.
pub(crate) fn count_descriptors() -> usize {
    // One of them is that of the listing itself.
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() - 1)
}

/// Closes a number that nobody owns, such as that of a standard stream.
pub(crate) fn close(fd: i32) {
    // SAFETY: the caller's claim; a process without standard streams is what its test is about.
    unsafe { libc::close(fd) };
}

/// Makes the number `fd`, such as that of a standard stream, a copy of `with`.
pub(crate) fn replace(fd: i32, with: BorrowedFd<'_>) {
    // SAFETY: standard streams may be replaced at any time.
    let answer = unsafe { libc::dup2(with.as_raw_fd(), fd) };
    assert!(answer == fd, "dup2: {}", io::Error::last_os_error());
}

/// Ends a socket's stream for whoever holds it.
pub(crate) fn shut_down(socket: i32) {
    // SAFETY: the call takes numbers.
    unsafe { libc::shutdown(socket, libc::SHUT_RDWR) };
}

/// A descriptor to be looked at again and again.
pub(crate) struct Poll(libc::pollfd);

impl Poll {
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Poll {
        Poll(libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
    }

    /// Whether it can be read within `milliseconds`, -1 meaning without limit.
    pub(crate) fn is_readable(&mut self, milliseconds: i32) -> bool {
        // SAFETY: `self` is one record.
        unsafe { libc::poll(&mut self.0, 1, milliseconds) == 1 }
    }
}

/// A process that need not be this one's child, held by a pidfd.
pub(crate) struct Orphan(OwnedFd);

impl Orphan {
    /// The process must still be there, reaped or not.
    pub(crate) fn of(pid: Pid) -> Orphan {
        // SAFETY: the call takes numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
        if fd < 0 {
            // It is gone altogether: so does a descriptor look that is always readable.
            let null = std::fs::File::open("/dev/null").unwrap();
            return Orphan(null.into());
        }
        // SAFETY: the call made it, and nobody else knows it.
        Orphan(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Waits until it has ended, however long that takes.
    pub(crate) fn ends(&mut self) -> bool {
        Poll::of(self.0.as_fd()).is_readable(-1)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        Poll::of(self.0.as_fd()).is_readable(0)
    }

    pub(crate) fn stop(&mut self) {
        self.send(libc::SIGSTOP);
    }

    pub(crate) fn kill(mut self) {
        self.send(libc::SIGKILL);
        self.ends();
    }

    fn send(&self, signal: i32) {
        let null = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open; no further information is passed.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, null, 0) };
    }
}

fn change_mask(how: i32, fill: impl FnOnce(*mut libc::sigset_t) -> i32) {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: `set` is writable for one set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    assert_eq!(fill(set.as_mut_ptr()), 0);
    // SAFETY: `set` is initialised.
    unsafe { libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut()) };
}

/// Blocks one signal in the calling thread.
pub(crate) fn block(signal: i32) {
    // SAFETY: `set` is initialised.
    change_mask(libc::SIG_BLOCK, |set| unsafe { libc::sigaddset(set, signal) });
}

/// Blocks what can be blocked in the calling thread.
pub(crate) fn block_all_signals() {
    // SAFETY: `set` is writable for one set.
    change_mask(libc::SIG_SETMASK, |set| unsafe { libc::sigfillset(set) });
}

/// Has this process ignore a signal.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Sets a variable of the environment, in a process with one thread.
pub(crate) fn set_variable(name: &str, value: &str) {
    // SAFETY: the caller's claim.
    unsafe { std::env::set_var(name, value) };
}

/// Sends bytes on a socket that nobody here owns.
pub(crate) fn send(socket: i32, bytes: &[u8]) {
    // SAFETY: `bytes` is readable for its length.
    unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
}

/// Reaps some child that has ended, as host programs do; whether there was one.
pub(crate) fn reap_any() -> bool {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 }
}

/// Has this process reap every child that ends as soon as it does, as some host programs do.
pub(crate) fn reap_all_at_once() {
    extern "C" fn reap(_: i32) {
        // SAFETY: no status is asked for; the call may be made in a handler.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
    }
    let handler = reap as extern "C" fn(i32);
    // SAFETY: the handler makes a call that it may make.
    unsafe { libc::signal(libc::SIGCHLD, handler as libc::sighandler_t) };
}

/// How many descriptors this process has.
pub(crate) fn open_files() -> usize {
    loop {
        // One reads the folder; where system calls are made to fail, the next try may do.
        if let Ok(folder) = std::fs::read_dir("/proc/self/fd") {
            return folder.count() - 1;
        }
    }
}

/// Allows descriptors below `limit`; gives what was allowed before.
pub(crate) fn limit_open_files(limit: u64) -> u64 {
    set_open_files(|record| record.rlim_cur = limit)
}

/// [`limit_open_files`], which cannot be taken back.
pub(crate) fn limit_open_files_for_good(limit: u64) {
    set_open_files(|record| *record = libc::rlimit { rlim_cur: limit, rlim_max: limit });
}

fn set_open_files(change: impl FnOnce(&mut libc::rlimit)) -> u64 {
    let mut record = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `record` is writable for the one record the call fills in.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut record) };
    let before = record.rlim_cur;
    change(&mut record);
    // SAFETY: `record` is only read.
    let answer = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &record) };
    assert!(answer == 0, "setrlimit: {}", io::Error::last_os_error());
    before
}

/// Has the kernel end this process, by SIGALRM, if it still runs after so many seconds.
pub(crate) fn alarm(seconds: u32) {
    // SAFETY: the call takes a number.
    unsafe { libc::alarm(seconds) };
}

/// Has processes that are started from now on inherit a descriptor.
pub(crate) fn set_inherited(fd: i32) {
    // SAFETY: the call takes numbers.
    let answer = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    assert!(answer == 0, "fcntl: {}", io::Error::last_os_error());
}

/// Has the system call `number` answer ENOSYS in this process and its children, as an older kernel does.
pub(crate) fn refuse_call(number: libc::c_long) {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number as u32),
        instruction(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        instruction(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the call takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: `program` and the instructions that it points at outlive the call.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &program) }, 0);
}

/// Memory that has a descriptor, and no seals.
pub(crate) fn unsealed_memory(len: u64) -> OwnedFd {
    // SAFETY: the name is a constant, ended by a NUL.
    let fd = unsafe {
        libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
    };
    assert!(fd >= 0);
    // SAFETY: just opened, and nothing else has seen its number.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    std::fs::File::from(fd.try_clone().unwrap()).set_len(len).unwrap();
    fd
}

/// Sets the machine's time of day forward, or back, by so many seconds.
pub(crate) fn step_wall_clock(seconds: i64) {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable for the one record that the call fills in.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut now) };
    now.tv_sec += seconds as libc::time_t;
    // SAFETY: `now` outlives the call.
    let answer = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &now) };
    assert_eq!(answer, 0, "clock_settime: {}", io::Error::last_os_error());
}

/// Has the kernel do with a signal what it does for a program that says nothing.
pub(crate) fn by_default(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Whether neither end of a socket has an address.
pub(crate) fn is_unnamed(socket: i32) -> bool {
    type Ask = unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;
    [libc::getsockname as Ask, libc::getpeername].into_iter().all(|ask| {
        // SAFETY: every bit pattern of the record is valid.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: both are writable, and `len` says how much.
        let answer = unsafe { ask(socket, (&raw mut address).cast(), &mut len) };
        // The peer of a closed pair has none either.
        answer != 0 || len as usize == size_of::<libc::sa_family_t>()
    })
}

/// Whether what is sent on a socket arrives as it was sent, piece by piece.
pub(crate) fn keeps_boundaries(socket: i32) -> bool {
    let (mut kind, mut len) = (0, size_of::<i32>() as libc::socklen_t);
    let place = (&raw mut kind).cast();
    // SAFETY: both are writable, and `len` says how much.
    unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_TYPE, place, &mut len) };
    kind == libc::SOCK_SEQPACKET
}

/// A descriptor that this process was started with, under a number that nothing else uses.
pub(crate) fn inherited(number: i32) -> OwnedFd {
    // SAFETY: the call takes numbers.
    let answer = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    assert!(answer == 0, "fcntl: {}", io::Error::last_os_error());
    // SAFETY: it is open, as was just seen, and the caller says that nobody else closes it.
    unsafe { OwnedFd::from_raw_fd(number) }
}
