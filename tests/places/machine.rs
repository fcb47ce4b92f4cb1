//! This program as the init of a machine in which there is nothing else.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::process::Command;
use std::ptr;

/// Whether this is such a machine's first process.
pub(crate) fn is_ours() -> bool {
    std::process::id() == 1
}

/// Furnishes the machine, runs the program for what the kernel's command line asks, says the verdict and
/// switches the machine off.
pub(crate) fn run(words: &[&str]) -> ! {
    mount(c"sysfs", c"/sys");
    mount(c"devtmpfs", c"/dev");
    if std::env::var_os("BARE").is_none() {
        mount(c"proc", c"/proc");
    }
    bring_up_loopback();
    // Without /proc, the system cannot be asked where this program is.
    let status = Command::new("/init").args(words).status();
    let code = status.ok().and_then(|status| status.code()).unwrap_or(1);
    println!("\nverdict {code}");
    // SAFETY: the call takes nothing.
    unsafe { libc::sync() };
    // SAFETY: the call takes a number.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
    std::process::exit(code)
}

fn mount(kind: &CStr, path: &CStr) {
    // SAFETY: strings that end with a zero, and no data.
    let answer =
        unsafe { libc::mount(c"none".as_ptr(), path.as_ptr(), kind.as_ptr(), 0, ptr::null()) };
    if answer != 0 {
        println!("mount: {path:?}: {}", std::io::Error::last_os_error());
    }
}

fn bring_up_loopback() {
    // SAFETY: every bit pattern of the record is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the call takes numbers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    // SAFETY: `request` is a record of the kind that this request takes.
    let answer = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw mut request) };
    if answer != 0 {
        println!("loopback: {}", std::io::Error::last_os_error());
    }
    // SAFETY: made above, and nobody else's.
    unsafe { libc::close(socket) };
}
