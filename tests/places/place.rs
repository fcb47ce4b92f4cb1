//! Places where a program may have to run, made out of this one.
#![allow(unsafe_code)]

use crate::filter::{self, Call, Fate};
use crate::support::os::{self, Pid};
use multiproc::Error;
use std::ffi::CString;
use std::io;
use std::ptr;

/// A place, and how a process goes there for good, with all that it starts.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    /// An error is the reason why there is no such place on this machine.
    pub(crate) enter: fn() -> io::Result<()>,
    /// Whether a room may answer with this error there.
    pub(crate) excuses: fn(room: &str, error: &Error) -> bool,
}

pub(crate) const PLACES: &[Place] = &[
    Place { name: "as it is", enter: || Ok(()), excuses: no_names },
    Place { name: "one processor", enter: one_processor, excuses: no_names },
    Place { name: "without /proc", enter: || mask(&["/proc"]), excuses: no_names },
    Place {
        name: "without /dev/shm, /tmp, /proc",
        enter: || mask(&["/dev/shm", "/tmp", "/proc"]),
        excuses: no_names,
    },
    Place { name: "a root that cannot be written", enter: read_only, excuses: no_names },
    Place { name: "an unprivileged user", enter: unprivileged, excuses: no_names },
    Place { name: "64 descriptors", enter: || descriptors(64), excuses: no_names },
    Place { name: "256 MiB of addresses", enter: || addresses(256 << 20), excuses: no_names },
    Place {
        name: "without clone3, futex_waitv, close_range",
        enter: || refuse(&[libc::SYS_clone3, libc::SYS_futex_waitv, libc::SYS_close_range]),
        excuses: no_names,
    },
    Place {
        name: "without seals",
        enter: without_seals,
        excuses: |_, error| names(error, "F_ADD_SEALS"),
    },
];

/// Where nothing may be called but what the README lists for a room.
#[cfg(target_pointer_width = "64")]
pub(crate) fn confined_to(room: &str) -> io::Result<()> {
    filter::install(&crate::listed::calls(room), Fate::Allowed, Fate::Kills)
}

/// The README's names are not those of 32 bits.
#[cfg(target_pointer_width = "32")]
pub(crate) fn confined_to(_room: &str) -> io::Result<()> {
    Err(io::Error::other("the list is of the names on machines of 64 bits"))
}

/// Named memory is files of /dev/shm: where there is none, this is the answer.
fn no_names(room: &str, error: &Error) -> bool {
    room == "named memory" && names(error, "shm_open") && !can_be_written("/dev/shm")
}

fn can_be_written(folder: &str) -> bool {
    let path = format!("{folder}/multiproc-places-{}", std::process::id());
    std::fs::write(&path, b"").and_then(|()| std::fs::remove_file(&path)).is_ok()
}

/// Whether the error tells of what is missing.
fn names(error: &Error, what: &str) -> bool {
    error.to_string().contains(what)
}

fn done(answer: i32) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn one_processor() -> io::Result<()> {
    // For as long as the process lives.
    std::mem::forget(os::Pinned::here());
    Ok(())
}

fn descriptors(count: libc::rlim_t) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: `limit` is readable.
    done(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })
}

fn addresses(bytes: libc::rlim_t) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `limit` is readable.
    done(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) })
}

fn unprivileged() -> io::Result<()> {
    const NOBODY: u32 = 65534;
    if !os::is_root() {
        return Ok(());
    }
    // SAFETY: no groups are read.
    done(unsafe { libc::setgroups(0, ptr::null()) })?;
    // SAFETY: the call takes numbers.
    done(unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) })?;
    // SAFETY: the call takes numbers.
    done(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) })
}

/// Mounts of this process's own; as another user than root, together with a user namespace.
fn own_mounts() -> io::Result<()> {
    let user = if os::is_root() { 0 } else { libc::CLONE_NEWUSER };
    // SAFETY: the call takes numbers.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS | user) })?;
    mount("none", "/", libc::MS_REC | libc::MS_PRIVATE)
}

fn mount(kind: &str, path: &str, flags: libc::c_ulong) -> io::Result<()> {
    let kind = CString::new(kind).expect("no zeros");
    let path = CString::new(path).expect("no zeros");
    // SAFETY: three strings that end with a zero; no data.
    done(unsafe { libc::mount(c"none".as_ptr(), path.as_ptr(), kind.as_ptr(), flags, ptr::null()) })
}

/// Hides what is below the folders, and lets nothing be made there.
fn mask(folders: &[&str]) -> io::Result<()> {
    let program = std::env::current_exe()?;
    if folders.iter().any(|folder| program.starts_with(folder)) {
        return Err(io::Error::other(format!("{} lies there", program.display())));
    }
    own_mounts()?;
    let there = folders.iter().filter(|folder| std::fs::exists(folder).unwrap_or(false));
    there.into_iter().try_for_each(|folder| mount("tmpfs", folder, libc::MS_RDONLY))
}

fn read_only() -> io::Result<()> {
    own_mounts()?;
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    const READ_ONLY: u64 = 1;
    let change = Attributes { set: READ_ONLY, clear: 0, propagation: 0, userns: 0 };
    let (path, flags) = (c"/".as_ptr(), libc::AT_RECURSIVE);
    // SAFETY: the path ends with a zero, and `change` is readable for its size.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path,
            flags,
            &raw const change,
            size_of::<Attributes>(),
        )
    };
    done(answer as i32)
}

fn refuse(numbers: &[libc::c_long]) -> io::Result<()> {
    let calls: Vec<Call> = numbers.iter().map(|&number| Call { number, second: None }).collect();
    filter::install(&calls, Fate::Fails(libc::ENOSYS), Fate::Allowed)
}

fn without_seals() -> io::Result<()> {
    let form = |second: i32| Call { number: libc::SYS_fcntl, second: Some(second as u32) };
    let calls = [form(libc::F_ADD_SEALS), form(libc::F_GET_SEALS)];
    filter::install(&calls, Fate::Fails(libc::EINVAL), Fate::Allowed)
}

/// Starts a process that sets the machine's wall clock an hour forth and back again, every few milliseconds.
pub(crate) fn step_the_clock() -> io::Result<Pid> {
    const HOUR: libc::c_long = 3600;
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable.
    done(unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut now) })?;
    // SAFETY: `now` is readable.
    done(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &now) })?;
    Ok(os::fork(|| {
        os::die_with_parent();
        for step in [HOUR, -HOUR].into_iter().cycle() {
            now.tv_sec += step;
            // SAFETY: `now` is readable.
            unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &now) };
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
    }))
}
