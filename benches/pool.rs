//! Pools against the same numbers moved by hand through shared memory.
//!
//! By hand: processes forked once, a ring of tasks and a ring of results, each under a robust lock; who
//! finds nothing yields. No death is noticed, no function is named, nothing is ever longer than a word,
//! nobody sleeps: what a pool adds is what the ratio shows. For
//! `apply` it is two pipes. Starting and stopping is held against `fork` or `fork` and `exec` of
//! as many processes that end at once.

mod support;

use multiproc::{Pool, RawLock, Shared, StartMethod};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::{compare, fork, per_operation, print_head, quick, repeats, scaled, wait_for};

const WORKERS: usize = 2;
const SLOTS: usize = 4096;
const STOP: u64 = u64::MAX;

fn square(n: u64) -> u64 {
    n.wrapping_mul(n)
}

multiproc::shared! {
    /// Numbers on their way.
    struct Ring {
        lock: RawLock,
        put: AtomicU64,
        taken: AtomicU64,
        slots: [AtomicU64; SLOTS],
    }

    struct Rings {
        tasks: Ring,
        results: Ring,
    }
}

impl Ring {
    const fn new() -> Ring {
        Ring {
            lock: RawLock::new(),
            put: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            slots: [const { AtomicU64::new(0) }; SLOTS],
        }
    }

    fn try_put(&self, value: u64) -> bool {
        let _guard = self.lock.acquire().expect("a lock");
        let put = self.put.load(Ordering::Relaxed);
        if put - self.taken.load(Ordering::Relaxed) == SLOTS as u64 {
            return false;
        }
        self.slots[put as usize % SLOTS].store(value, Ordering::Relaxed);
        self.put.store(put + 1, Ordering::Relaxed);
        true
    }

    fn try_take(&self) -> Option<u64> {
        let _guard = self.lock.acquire().expect("a lock");
        let taken = self.taken.load(Ordering::Relaxed);
        if taken == self.put.load(Ordering::Relaxed) {
            return None;
        }
        self.taken.store(taken + 1, Ordering::Relaxed);
        Some(self.slots[taken as usize % SLOTS].load(Ordering::Relaxed))
    }

    fn put(&self, value: u64) {
        while !self.try_put(value) {
            std::thread::yield_now();
        }
    }

    fn take(&self) -> u64 {
        loop {
            match self.try_take() {
                Some(value) => return value,
                None => std::thread::yield_now(),
            }
        }
    }
}

/// Worker processes by hand.
struct Bare {
    rings: Shared<Rings>,
    workers: Vec<libc::pid_t>,
}

impl Bare {
    fn new() -> Bare {
        let rings =
            Shared::new(Rings { tasks: Ring::new(), results: Ring::new() }).expect("memory");
        let workers = (0..WORKERS).map(|_| fork(|| Bare::work(&rings))).collect();
        Bare { rings, workers }
    }

    fn work(rings: &Rings) {
        loop {
            match rings.tasks.take() {
                STOP => return,
                task => rings.results.put(square(black_box(task))),
            }
        }
    }

    fn map(&self, tasks: usize) {
        let (mut out, mut back) = (0, 0);
        while back < tasks {
            while out < tasks && out - back < SLOTS / 2 && self.rings.tasks.try_put(out as u64) {
                out += 1;
            }
            match self.rings.results.try_take() {
                Some(value) => {
                    black_box(value);
                    back += 1;
                }
                None => std::thread::yield_now(),
            }
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        (0..WORKERS).for_each(|_| self.rings.tasks.put(STOP));
        self.workers.iter().for_each(|&worker| wait_for(worker));
    }
}

/// A process at the other end of a socket pair that answers a number with its square.
fn answer_by_hand() -> (UnixStream, libc::pid_t) {
    let (near, mut far) = UnixStream::pair().expect("a pair of sockets");
    let own = near.try_clone().expect("a descriptor");
    let pid = fork(move || {
        drop(own);
        let mut bytes = [0; 8];
        while far.read_exact(&mut bytes).is_ok() && u64::from_le_bytes(bytes) != STOP {
            let answer = square(u64::from_le_bytes(bytes));
            far.write_all(&answer.to_le_bytes()).expect("the parent is there");
        }
    });
    (near, pid)
}

fn ask(socket: &mut UnixStream, n: u64) -> u64 {
    socket.write_all(&n.to_le_bytes()).expect("the child is there");
    let mut bytes = [0; 8];
    socket.read_exact(&mut bytes).expect("the child is there");
    u64::from_le_bytes(bytes)
}

fn pool(method: StartMethod, workers: usize) -> Pool {
    Pool::builder().start_method(method).processes(workers).build().expect("a pool")
}

fn small_tasks() {
    let pool = pool(StartMethod::Fork, WORKERS);
    let bare = Bare::new();
    let tasks = scaled(200_000);
    let check =
        |sum: u64| assert_eq!(sum, (0..tasks as u64).map(square).fold(0, u64::wrapping_add));
    let sum = |values: Vec<u64>| values.into_iter().fold(0, u64::wrapping_add);
    let by_hand = || per_operation(tasks, || bare.map(tasks));
    let chunk_1 = || {
        per_operation(tasks, || check(sum(pool.map_chunks(square, 0..tasks as u64, 1).unwrap())))
    };
    compare("map, chunk 1", 2.5, chunk_1, &by_hand, repeats());
    let unordered = || {
        per_operation(tasks, || {
            let results = pool.imap_unordered(square, 0..tasks as u64).map(Result::unwrap);
            check(results.fold(0, u64::wrapping_add));
        })
    };
    compare("imap_unordered, chunk 1", 3.0, unordered, &by_hand, repeats());
    let many = scaled(4_000_000);
    let total = (0..many as u64).map(square).fold(0, u64::wrapping_add);
    let default = || {
        per_operation(many, || assert_eq!(sum(pool.map(square, 0..many as u64).unwrap()), total))
    };
    // The target is 20 ns; the limit here is the same work without any process.
    let alone = || {
        per_operation(many, || {
            black_box(sum((0..many as u64).map(square).collect()));
        })
    };
    compare("map, default chunk", f64::INFINITY, default, alone, repeats());
    let megabyte = vec![1u8; 1 << 20];
    let rounds = scaled(200);
    let echo = || {
        per_operation(rounds, || {
            for _ in 0..rounds {
                let back = pool.apply(|bytes: Vec<u8>| bytes, (megabyte.clone(),)).unwrap();
                assert_eq!(back.len(), megabyte.len());
            }
        })
    };
    // Four copies: in and out of the ring, there and back.
    let copies = || {
        per_operation(rounds, || {
            for _ in 0..rounds {
                (0..4).for_each(|_| drop(black_box(megabyte.clone())));
            }
        })
    };
    compare("apply, 1 MiB there and back", f64::INFINITY, echo, copies, repeats());
}

fn round_trips() {
    let pool = pool(StartMethod::Fork, 1);
    let (mut socket, answerer) = answer_by_hand();
    let rounds = scaled(20_000);
    let apply = || {
        per_operation(rounds, || {
            for n in 0..rounds as u64 {
                assert_eq!(pool.apply(square, (n,)).unwrap(), square(n));
            }
        })
    };
    let by_hand = || {
        per_operation(rounds, || {
            for n in 0..rounds as u64 {
                assert_eq!(ask(&mut socket, n), square(n));
            }
        })
    };
    compare("apply round trip", 1.4, apply, by_hand, repeats());
    socket.write_all(&STOP.to_le_bytes()).expect("the child is there");
    wait_for(answerer);
}

fn starts() {
    const FOUR: usize = 4;
    let rounds = scaled(50);
    let by_fork = || {
        per_operation(rounds, || {
            for _ in 0..rounds {
                let pids: Vec<_> = (0..FOUR).map(|_| fork(|| ())).collect();
                pids.into_iter().for_each(wait_for);
            }
        })
    };
    let by_exec = || {
        per_operation(rounds, || {
            for _ in 0..rounds {
                let own = std::env::current_exe().expect("this executable");
                let start = |_| {
                    let mut command = Command::new(&own);
                    command.arg("--nothing").stdin(Stdio::null()).spawn().expect("a process")
                };
                let children: Vec<_> = (0..FOUR).map(start).collect();
                children.into_iter().for_each(|mut child| drop(child.wait()));
            }
        })
    };
    for (method, target) in
        [(StartMethod::Fork, 2.0), (StartMethod::ForkServer, 2.0), (StartMethod::Spawn, 1.2)]
    {
        let ours = || {
            per_operation(rounds, || {
                for _ in 0..rounds {
                    let pool = pool(method, FOUR);
                    assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
                    pool.close();
                    pool.join().unwrap();
                }
            })
        };
        let name = format!("pool of 4, start to end, {method}");
        match method {
            StartMethod::Spawn => compare(&name, target, ours, by_exec, repeats().min(5)),
            _ => compare(&name, target, ours, by_fork, repeats().min(5)),
        };
    }
}

/// The proportional share of memory of idle workers, targets 150 KiB forked, 400 KiB otherwise.
fn memory() {
    for method in [StartMethod::Fork, StartMethod::ForkServer, StartMethod::Spawn] {
        let pool = pool(method, 8);
        pool.map_chunks(|_: u32| std::thread::sleep(Duration::from_millis(1)), 0..64, 1).unwrap();
        let workers = pool.snapshot().workers;
        let all: u64 = workers.iter().map(|worker| pss(worker.pid)).sum();
        println!(
            "{:<30} {:>6} KiB PSS",
            format!("idle worker, {method}"),
            all / workers.len() as u64
        );
    }
}

fn pss(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn main() {
    if std::env::args().any(|argument| argument == "--nothing") {
        return;
    }
    multiproc::init();
    println!("{WORKERS} workers{}", if quick() { ", quick" } else { "" });
    print_head();
    small_tasks();
    round_trips();
    starts();
    memory();
}
