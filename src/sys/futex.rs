//! `futex(2)`, always in the form shared between processes.

use super::errno_result;
use super::time::{Deadline, monotonic, timespec};
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Sleeps while `word` holds `expected`, until it is woken or the deadline passes.
///
/// True means look again: woken, interrupted by a signal, or the word differed. False means the
/// deadline has passed.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> io::Result<bool> {
    let left = deadline.remaining().map(timespec);
    let timeout = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `word` is a live, aligned 32-bit word for the whole call; `timeout` is null or points
    // at `left`, which outlives it. FUTEX_WAIT's relative timeout runs on the monotonic clock.
    let answer = errno_result(unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, timeout)
    });
    match answer.map_err(|error| (error.raw_os_error(), error)) {
        Ok(_) | Err((Some(libc::EAGAIN | libc::EINTR), _)) => Ok(true),
        Err((Some(libc::ETIMEDOUT), _)) => Ok(false),
        Err((_, error)) => Err(error),
    }
}

/// A word, and the value it is expected to hold.
pub(crate) type Expected<'a> = (&'a AtomicU32, u32);

/// How many words one can sleep on at once.
pub(crate) const MOST_WORDS: usize = 128;

/// The same on every processor but alpha, which has 559; the libc crate knows it on some only.
const SYS_FUTEX_WAITV: libc::c_long = 449;

/// One word as `futex_waitv` wants it.
#[repr(C)]
struct Waiter {
    expected: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// The kernel's own pair, of 64 bits each on every machine.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// Sleeps while all of `words`, no more than [`MOST_WORDS`], hold what is expected, until one of them is
/// woken or the deadline passes; the answer is that of [`wait`]. `None` where the kernel has no
/// `futex_waitv` (before 5.16) or a sandbox refuses it.
pub(crate) fn wait_any(words: &[Expected<'_>], deadline: Deadline) -> io::Result<Option<bool>> {
    const WORD_OF_32_BITS: u32 = 2;
    let waiter = |&(word, expected): &Expected<'_>| Waiter {
        expected: expected.into(),
        address: word.as_ptr().expose_provenance() as u64,
        flags: WORD_OF_32_BITS,
        reserved: 0,
    };
    let waiters: Vec<Waiter> = words.iter().map(waiter).collect();
    let until = deadline.remaining().map(|left| monotonic().saturating_add(left));
    let until = until.map(|until| Timespec {
        seconds: until.as_secs().try_into().unwrap_or(i64::MAX),
        nanoseconds: until.subsec_nanos().into(),
    });
    let timeout = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `waiters` is that many entries, each of the address of a word that `words` keeps borrowed
    // for the whole call; `timeout` is null or points at `until`, which outlives it.
    let answer = errno_result(unsafe {
        libc::syscall(
            SYS_FUTEX_WAITV,
            waiters.as_ptr(),
            waiters.len(),
            0usize,
            timeout,
            libc::CLOCK_MONOTONIC,
        )
    });
    match answer.map_err(|error| (error.raw_os_error(), error)) {
        Ok(_) | Err((Some(libc::EAGAIN | libc::EINTR), _)) => Ok(Some(true)),
        Err((Some(libc::ETIMEDOUT), _)) => Ok(Some(false)),
        Err((Some(libc::ENOSYS | libc::EPERM), _)) => Ok(None),
        Err((_, error)) => Err(error),
    }
}

/// The less significant half of `word`, for the kernel to sleep and wake on. Rust code accesses the
/// whole alone, since atomic accesses of one place are all of one size.
#[inline]
pub(crate) fn low_half(word: &AtomicU64) -> &AtomicU32 {
    let half = word.as_ptr().cast::<u32>().wrapping_add(cfg!(target_endian = "big").into());
    // SAFETY: the half is inside `word`, which outlives the answer, and aligned since the whole is.
    unsafe { AtomicU32::from_ptr(half) }
}

/// What [`wake_op`] does to the word.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Stores the operand.
    Set = 0,
    /// Adds the operand.
    Add = 1,
    /// Sets the operand's bits.
    Or = 2,
}

/// `FUTEX_WAKE_OP`: changes `word` and wakes up to `count` of its sleepers in one system call, which
/// no SIGKILL can split. `operand` is a signed 12-bit number.
pub(crate) fn wake_op(word: &AtomicU32, op: Op, operand: i32, count: i32) -> io::Result<usize> {
    debug_assert!((-2048..2048).contains(&operand));
    // The second comparison (old == -1 with no second set of sleepers to wake) is never of interest.
    const NEVER: u32 = 0xfff;
    let encoded = (op as u32) << 28 | ((operand as u32) & 0xfff) << 12 | NEVER;
    // SAFETY: `word` serves as both words of the call and is live and aligned throughout; the place
    // of the timeout holds a count in this operation, as the kernel's interface has it.
    errno_result(unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_OP,
            count,
            0usize,
            word.as_ptr(),
            encoded,
        )
    })
    .map(|n| n as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;

    #[test]
    fn wait_returns_for_another_value_and_at_the_deadline() {
        let word = AtomicU32::new(1);
        assert!(wait(&word, 0, Deadline::NEVER).unwrap());
        assert!(!wait(&word, 1, Deadline::after(Duration::from_millis(2))).unwrap());
    }

    #[test]
    fn wake_op_changes_the_word() {
        let word = AtomicU32::new(5);
        wake_op(&word, Op::Add, 3, 1).unwrap();
        assert_eq!(word.load(SeqCst), 8);
        wake_op(&word, Op::Add, -1, 1).unwrap();
        assert_eq!(word.load(SeqCst), 7);
        wake_op(&word, Op::Or, 8, 1).unwrap();
        assert_eq!(word.load(SeqCst), 15);
        wake_op(&word, Op::Set, 0, 1).unwrap();
        assert_eq!(word.load(SeqCst), 0);
    }

    #[test]
    fn the_low_half_of_a_word_is_its_less_significant_one() {
        let word = AtomicU64::new(7 << 32 | 5);
        assert!(!wait(low_half(&word), 5, Deadline::now()).unwrap());
        wake_op(low_half(&word), Op::Add, 1, 1).unwrap();
        assert_eq!(word.load(SeqCst), 7 << 32 | 6);
    }

    #[test]
    fn wake_op_wakes_a_sleeper() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while word.load(SeqCst) == 0 {
                    wait(&word, 0, Deadline::NEVER).unwrap();
                }
            });
            wake_op(&word, Op::Set, 1, i32::MAX).unwrap();
            sleeper.join().unwrap();
        });
    }

    #[test]
    fn wait_any_returns_for_another_value_a_wake_up_and_the_deadline() {
        let (one, other) = (AtomicU32::new(1), AtomicU32::new(2));
        let soon = || Deadline::after(Duration::from_millis(2));
        let Some(in_time) = wait_any(&[(&one, 1), (&other, 2)], soon()).unwrap() else { return };
        assert!(!in_time);
        assert_eq!(wait_any(&[(&one, 1), (&other, 3)], Deadline::NEVER).unwrap(), Some(true));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while other.load(SeqCst) == 2 {
                    wait_any(&[(&one, 1), (&other, 2)], Deadline::NEVER).unwrap();
                }
            });
            wake_op(&other, Op::Set, 3, 1).unwrap();
            sleeper.join().unwrap();
        });
    }

    #[test]
    fn too_many_words_are_einval() {
        let word = AtomicU32::new(0);
        assert!(wait_any(&[(&word, 1); MOST_WORDS], Deadline::NEVER).is_ok());
        match wait_any(&[(&word, 1); MOST_WORDS + 1], Deadline::NEVER) {
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINVAL)),
            Ok(answer) => assert_eq!(answer, None, "not known here"),
        }
    }

    #[test]
    fn a_misaligned_word_is_einval() {
        let words = [0u32; 2];
        // SAFETY: the address is inside `words`, only not aligned; the kernel answers EINVAL before
        // it touches it, and no reference is made.
        let answer = errno_result(unsafe {
            libc::syscall(libc::SYS_futex, words.as_ptr().wrapping_byte_add(1), libc::FUTEX_WAKE, 1)
        });
        assert_eq!(answer.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
