//! Filters of system calls (seccomp), for a process and all that it starts.
#![allow(unsafe_code)]

use std::io;

/// What becomes of a call.
#[derive(Clone, Copy)]
pub(crate) enum Fate {
    Allowed,
    /// Fails with this errno.
    Fails(i32),
    /// Ends the process by SIGSYS.
    #[cfg_attr(target_pointer_width = "32", expect(dead_code, reason = "the list is of 64 bits"))]
    Kills,
}

impl Fate {
    fn code(self) -> u32 {
        match self {
            Fate::Allowed => libc::SECCOMP_RET_ALLOW,
            Fate::Fails(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
            Fate::Kills => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// A call, or only the form of it whose second argument is the number given.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) number: libc::c_long,
    pub(crate) second: Option<u32>,
}

/// Has the `calls` meet one fate and all others another, from here on.
///
/// Calls of another architecture's numbering are not told apart: nothing here makes any.
pub(crate) fn install(calls: &[Call], theirs: Fate, others: Fate) -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const NUMBER: u32 = 0;
    // The low half of the second argument, of six that begin at byte 16.
    const SECOND: u32 = if cfg!(target_endian = "little") { 16 + 8 } else { 16 + 12 };
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let unless = |k, skip| libc::sock_filter { code: EQUAL, jt: 0, jf: skip, k };
    let mut program = vec![statement(LOAD, NUMBER)];
    for call in calls {
        let fate = statement(RETURN, theirs.code());
        let number = call.number as u32;
        match call.second {
            None => program.extend([unless(number, 1), fate]),
            Some(second) => program.extend([
                unless(number, 4),
                statement(LOAD, SECOND),
                unless(second, 1),
                fate,
                statement(LOAD, NUMBER),
            ]),
        }
    }
    program.push(statement(RETURN, others.code()));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the call takes numbers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `filter` names `program`, which the kernel copies.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
