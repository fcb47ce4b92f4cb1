//! Sleepers that are stopped as soon as somebody has woken them, at the end of the system call they slept in.

use super::trace;
use crate::support::os::{self, Pid, Sight};

/// Whether one that was seen asleep sleeps on a word, by `FUTEX_WAIT`, for a time. (The libc waits for a lock
/// by `FUTEX_WAIT_BITSET`.)
pub(crate) fn sleeps_for_a_time(sight: &Sight) -> bool {
    let Sight::Asleep { call, .. } = sight else { return false };
    let words: Vec<&str> = call.split(' ').collect();
    let is_futex = words[0].parse() == Ok(libc::SYS_futex);
    is_futex && words.get(2) == Some(&"0x0") && words.get(4).is_some_and(|&time| time != "0x0")
}

/// Seizes a sleeper and has it sleep on; it will stop at the end of its call. (The call is interrupted and
/// begins again.)
pub(crate) fn follow(pid: Pid) {
    trace::seize(pid);
    wait_for_stop(pid);
    while !sleeps_on(pid) {}
}

/// Lets the stopped tracee go on until it sleeps; false if it comes to the edge of a call instead.
fn sleeps_on(pid: Pid) -> bool {
    trace::to_the_edge_of_a_call(pid);
    let mut last = Sight::Running;
    loop {
        if os::try_wait(pid).is_some() {
            return false;
        }
        let sight = os::look(pid);
        if matches!(sight, Sight::Asleep { .. }) && sight == last {
            return true;
        }
        last = sight;
    }
}

/// The first of those who are followed whose call has come to its end; `None` if they all sleep on.
pub(crate) fn first_of(followed: &[Pid]) -> Option<Pid> {
    let asleep = |&pid: &Pid| matches!(os::look(pid), Sight::Asleep { .. });
    loop {
        let stopped = followed.iter().find(|&&pid| os::try_wait(pid).is_some());
        if stopped.is_some() || followed.iter().all(asleep) {
            return stopped.copied();
        }
    }
}

/// Lets a followed one go on if it was woken, and says whether it was.
pub(crate) fn let_go_if_awake(pid: Pid) -> bool {
    let awake = !matches!(os::look(pid), Sight::Asleep { .. });
    if awake {
        // It stops at the end of its call, if that has not been seen yet.
        while os::look(pid) != Sight::Stopped {}
        trace::let_go(pid);
    }
    awake
}

/// Lets a followed one go on; its call is interrupted and begins again.
pub(crate) fn let_go(pid: Pid) {
    trace::interrupt(pid);
    wait_for_stop(pid);
    trace::let_go(pid);
}

fn wait_for_stop(pid: Pid) {
    while os::wait_or_tick(pid).is_none() {}
}
