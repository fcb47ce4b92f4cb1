//! What a queue costs where nothing is in it: waking who sleeps, and being there.
#![allow(unsafe_code)]

use crate::by_hand::ByHand;
use crate::support::{compare, fork, per_operation, quick, repeats, scaled, wait_for};
use crate::{Arrays, Carrier, TARGET, is_wanted};
use multiproc::Queue;
use std::time::Duration;

/// Which processors this process may use, by their numbers.
fn processors() -> Vec<usize> {
    // SAFETY: zeros are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable for its size.
    unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    // SAFETY: the numbers are within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

fn pin(cpus: &[usize]) {
    // SAFETY: zeros are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the numbers are within the set, which `processors` took them from.
    cpus.iter().for_each(|cpu| unsafe { libc::CPU_SET(*cpu, &mut set) });
    // SAFETY: `set` is readable for its size.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }, 0);
}

/// The time from a put to the end of the get that slept for it: half of a round trip.
fn wake(carriers: &[impl Carrier; 2], cpus: [usize; 2]) -> Duration {
    let rounds = scaled(20_000);
    let [there, back] = carriers;
    let all = processors();
    let echo = fork(|| {
        pin(&cpus[1..]);
        let mut message = Vec::new();
        for _ in 0..rounds {
            there.get(&mut message);
            back.put(&message);
        }
    });
    pin(&cpus[..1]);
    let mut message = vec![7; 64];
    let time = per_operation(2 * rounds, || {
        for _ in 0..rounds {
            there.put(&message);
            back.get(&mut message);
        }
    });
    pin(&all);
    wait_for(echo);
    time
}

/// A message to somebody asleep, on the same processor and on another.
pub(crate) fn wake_latency() {
    let all = processors();
    let queue = || Arrays::<64>(Queue::new().expect("a queue"));
    let (ours, by_hand) = ([queue(), queue()], [(); 2].map(|()| ByHand::<64, 256>::new()));
    let other = all.get(1).copied();
    let places = [("one processor", Some(all[0])), ("two processors", other)];
    for (place, other) in places {
        let name = format!("wake-up 64 B, {place}");
        let Some(other) = other.filter(|_| is_wanted(&name)) else { continue };
        let cpus = [all[0], other];
        compare(&name, TARGET, || wake(&ours, cpus), || wake(&by_hand, cpus), repeats());
    }
}

/// The proportional share of memory of this process, in bytes.
fn share_of_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? << 10)
}

fn descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

/// What one idle queue takes that has been used once, on the average of some.
pub(crate) fn memory() {
    if !is_wanted("idle queue") {
        return;
    }
    let count = if quick() { 20 } else { 100 };
    let before = share_of_memory().zip(descriptors());
    let queues: Vec<Queue<[u8; 64]>> = (0..count)
        .map(|_| {
            let queue = Queue::new().expect("a queue");
            queue.put(&[7; 64]).expect("there is memory");
            queue.get().expect("it is in");
            queue
        })
        .collect();
    let Some((before, after)) = before.zip(share_of_memory().zip(descriptors())) else { return };
    let bytes = after.0.saturating_sub(before.0) / queues.len();
    let fds = (after.1 - before.1) / queues.len();
    println!("\nan idle queue: {} KiB of memory mapped, {fds} descriptors", bytes >> 10);
}
