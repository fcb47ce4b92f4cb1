//! `ptrace(2)`: a child stepped by single instructions.
#![allow(unsafe_code)]

use crate::support::os::{self, Pid};
use std::ffi::{CStr, c_void};
use std::io;

/// In the victim: asks to be traced and stops until the tracer has let it go on.
pub(crate) fn stop_here_traced() {
    let none = std::ptr::null_mut::<c_void>();
    let own_pid = os::own_pid();
    // SAFETY: the request takes no addresses.
    let answer = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, none, none) };
    assert!(answer == 0, "PTRACE_TRACEME: {}", io::Error::last_os_error());
    os::signal(own_pid, libc::SIGSTOP);
}

/// Sees to it that the stopped tracee dies with its tracer.
pub(crate) fn kill_with_tracer(pid: Pid) {
    let none = std::ptr::null_mut::<c_void>();
    // SAFETY: the request takes numbers.
    unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, none, libc::PTRACE_O_EXITKILL as usize) };
}

/// Traces a process that did not ask for it and stops it; it dies with its tracer.
pub(crate) fn seize(pid: Pid) {
    let none = std::ptr::null_mut::<c_void>();
    // SAFETY: the request takes numbers.
    let answer = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, libc::PTRACE_O_EXITKILL) };
    assert!(answer == 0, "PTRACE_SEIZE {pid}: {}", io::Error::last_os_error());
    interrupt(pid);
}

/// Lets the stopped tracee go on to the next beginning or end of a system call.
pub(crate) fn to_the_edge_of_a_call(pid: Pid) {
    let none = std::ptr::null_mut::<c_void>();
    // SAFETY: the request takes numbers.
    unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, none, none) };
}

/// Stops a tracee that was seized.
pub(crate) fn interrupt(pid: Pid) {
    let none = std::ptr::null_mut::<c_void>();
    // SAFETY: the request takes numbers.
    unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, none, none) };
}

/// Lets the stopped tracee go on untraced.
pub(crate) fn let_go(pid: Pid) {
    let none = std::ptr::null_mut::<c_void>();
    // SAFETY: the request takes numbers.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, none, none) };
}

/// Lets the stopped tracee run one instruction, handing it `signal` unless that is 0.
pub(crate) fn step(pid: Pid, signal: i32) {
    let none = std::ptr::null_mut::<c_void>();
    // SAFETY: the request takes numbers.
    let answer = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, pid, none, signal as usize) };
    assert!(answer == 0, "PTRACE_SINGLESTEP {pid}: {}", io::Error::last_os_error());
}

/// The stopped tracee's instruction pointer; zero where this machine's registers are not known.
pub(crate) fn instruction_pointer(pid: Pid) -> usize {
    const PLACE: usize = if cfg!(target_arch = "x86_64") {
        16
    } else if cfg!(target_arch = "aarch64") {
        32
    } else if cfg!(target_arch = "x86") {
        12
    } else {
        0
    };
    const NT_PRSTATUS: usize = 1;
    let mut registers = [0usize; 128];
    let mut area = libc::iovec {
        iov_base: registers.as_mut_ptr().cast(),
        iov_len: std::mem::size_of_val(&registers),
    };
    // SAFETY: `area` names `registers`, which is writable for its length; the kernel fills in no more.
    unsafe { libc::ptrace(libc::PTRACE_GETREGSET, pid, NT_PRSTATUS, &raw mut area) };
    if PLACE == 0 { 0 } else { registers[PLACE] }
}

/// `address` as the file it belongs to, the distance in it, and the symbol if the file exports it.
///
/// A forked victim has the mappings of its parent, so ours are looked at.
pub(crate) fn place(address: usize) -> String {
    let (file, base) = file_at(address).unwrap_or_default();
    let file = file.rsplit('/').next().unwrap_or_default();
    let symbol = symbol_at(address).map(|symbol| format!(" ({symbol})")).unwrap_or_default();
    format!("{file}+{:#x}{symbol}", address - base)
}

/// The file mapped at `address`, and where its first mapping begins.
fn file_at(address: usize) -> Option<(String, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let parse = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some((number(start)?..number(end)?, rest.split_whitespace().nth(4)?.to_owned()))
    };
    let maps: Vec<_> = maps.lines().filter_map(parse).collect();
    let (_, file) = maps.iter().find(|(range, _)| range.contains(&address))?;
    let (first, _) = maps.iter().find(|(_, other)| other == file)?;
    Some((file.clone(), first.start))
}

fn symbol_at(address: usize) -> Option<String> {
    // SAFETY: every bit pattern of the record is valid, null meaning unknown.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: `found` is writable for the one record; any address may be asked about.
    let known = unsafe { libc::dladdr(address as *const c_void, &mut found) } != 0;
    if !known || found.dli_sname.is_null() {
        return None;
    }
    // SAFETY: not null, so a string of the loader's, which stays.
    Some(unsafe { CStr::from_ptr(found.dli_sname) }.to_string_lossy().into_owned())
}
