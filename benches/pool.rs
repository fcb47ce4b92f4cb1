//! Pools against the same work done by hand with as little as it takes.
//!
//! What each row is held against:
//!
//! * `Pool.map` and `imap_unordered`, chunk 1: processes forked once, a ring of tasks and a ring of results
//!   in shared memory, each under a robust lock. Who finds nothing says so under the lock and sleeps in
//!   `read` of a pipe; who puts something there wakes one such sleeper by a byte. Nobody spins or yields.
//!   No death is noticed, no function is named, nothing is longer than a word.
//! * `Pool.map`, default chunk: the same numbers computed by this process alone. Its target, 20 ns a task,
//!   is no ratio.
//! * `apply` round trip: a word through a pipe to a process, and its square back through another.
//! * `apply` with 1 MiB there, back, or both: the copies of the bytes into and out of the memory between.
//! * A worker's death, until who waits is told and another worker is there: SIGKILL, `waitpid` and `fork`.
//! * A pool's start and stop: `fork`, or `fork` and `exec`, of as many processes that end at once. They
//!   come first, since forking takes longer the more memory this process has used.
//!
//! The same numbers through std's threads and channels, and through CPython's `Pool` where there is a
//! `python3`, stand beside them; they have no target.
//!
//! What stands in the way where a row is over its target:
//!
//! * Chunk 1: by hand, a task is a word in a slot. Here it is a message of any length, kept in a frame that
//!   is checked, its function is found by name, its start is noted with the time so that a death or a
//!   time limit concerns this task alone, and its result goes to whichever call asked for it. That is some
//!   250 ns a task for each side.
//!   What they are held against has two regimes, 90 and 330 ns, by whether a worker runs while tasks are put or
//!   takes all of them when the other side sleeps; on a busy machine a ratio of 2.3 and one of 8 are the
//!   same work, and only what one run shows beside the other tells anything.
//! * Start and stop: the workers are forked one right after the other, and all that can be done before the first or
//!   after the last is. What is left is twice what by hand takes, 0.9 to 1.0 ms against 0.45, and 1.2 to 1.4 ms by the
//!   forkserver. The parent, another 250 us for four: two rings, the
//!   table of cancelled tasks and that of the workers are four files in memory, with 16 pages to clear and to free
//!   again; each worker has a socket and a pidfd; each fork copies five more mappings and twelve more
//!   descriptors. A worker, 26 page faults against 8, at 2 to 3 us each with what their undoing takes at its end: 14
//!   for code, which the kernel maps by 64 KiB when it is first run, 9 for pages of stack, heap and libc that
//!   it or its parent writes to, 3 for shared memory. By the forkserver there are two sockets more for each,
//!   fifteen descriptors on their way, and two rings to map.
//! * Memory of a forked worker, 195 KiB, or 180 by the forkserver, by `smaps`: a third is its share of the program's and libc's code, which
//!   nobody has twice (it is the smaller, the more workers there are); 60 to 70 KiB are its own: the pages
//!   that it or its parent have written to since the fork, of which 32 KiB are libc's and its loader's, and
//!   the others those of stack, heap and statics that this program's own use of them has made many.
//! * Megabytes: what is beyond the two copies is waking the worker and being woken, and the copy of the argument that
//!   its caller makes.

mod support;

use multiproc::{Error, Pool, RawLock, Shared, StartMethod};
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, mpsc};
use std::thread;
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
        /// How many sleep and were not sent a byte.
        asleep: AtomicU64,
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
            asleep: AtomicU64::new(0),
            slots: [const { AtomicU64::new(0) }; SLOTS],
        }
    }
}

/// A ring and the pipe in which those sleep who find it empty.
struct Line<'a> {
    ring: &'a Ring,
    bell: &'a (File, File),
}

impl Line<'_> {
    /// There is room: who uses it keeps count.
    fn put(&self, value: u64) {
        let guard = self.ring.lock.acquire().expect("a lock");
        let put = self.ring.put.load(Relaxed);
        self.ring.slots[put as usize % SLOTS].store(value, Relaxed);
        self.ring.put.store(put + 1, Relaxed);
        let asleep = self.ring.asleep.load(Relaxed);
        self.ring.asleep.store(asleep.saturating_sub(1), Relaxed);
        drop(guard);
        if asleep > 0 {
            (&self.bell.1).write_all(&[1]).expect("room in the pipe");
        }
    }

    fn take(&self) -> u64 {
        loop {
            let guard = self.ring.lock.acquire().expect("a lock");
            let taken = self.ring.taken.load(Relaxed);
            if taken < self.ring.put.load(Relaxed) {
                self.ring.taken.store(taken + 1, Relaxed);
                return self.ring.slots[taken as usize % SLOTS].load(Relaxed);
            }
            self.ring.asleep.store(self.ring.asleep.load(Relaxed) + 1, Relaxed);
            drop(guard);
            (&self.bell.0).read_exact(&mut [0]).expect("the pipe is open");
        }
    }
}

/// Worker processes by hand.
struct Bare {
    rings: Shared<Rings>,
    bells: [(File, File); 2],
    workers: Vec<libc::pid_t>,
}

impl Bare {
    fn new() -> Bare {
        let rings =
            Shared::new(Rings { tasks: Ring::new(), results: Ring::new() }).expect("memory");
        let mut bare = Bare { rings, bells: [pipe(), pipe()], workers: Vec::new() };
        bare.workers = (0..WORKERS).map(|_| fork(|| bare.work())).collect();
        bare
    }

    fn tasks(&self) -> Line<'_> {
        Line { ring: &self.rings.tasks, bell: &self.bells[0] }
    }

    fn results(&self) -> Line<'_> {
        Line { ring: &self.rings.results, bell: &self.bells[1] }
    }

    fn work(&self) {
        let (tasks, results) = (self.tasks(), self.results());
        loop {
            match tasks.take() {
                STOP => return,
                task => results.put(square(black_box(task))),
            }
        }
    }

    fn map(&self, count: usize) {
        let (tasks, results) = (self.tasks(), self.results());
        let mut out = 0;
        for back in 0..count {
            while out < count && out - back < SLOTS / 2 {
                tasks.put(out as u64);
                out += 1;
            }
            black_box(results.take());
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        (0..WORKERS).for_each(|_| self.tasks().put(STOP));
        self.workers.iter().for_each(|&worker| wait_for(worker));
    }
}

/// A pipe: its read end, then its write end.
#[allow(unsafe_code)]
fn pipe() -> (File, File) {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is writable for the two numbers the call fills in.
    assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }, 0, "a pipe");
    let [read, write] = fds.map(|fd| {
        // SAFETY: the call succeeded, so `fd` is open, and nothing else has seen its number.
        unsafe { File::from_raw_fd(fd) }
    });
    (read, write)
}

/// A process that answers a number with its square: where it answers, where it is asked, and its pid.
fn answer_by_hand() -> (File, File, libc::pid_t) {
    let (questions, asked) = pipe();
    let (answered, answers) = pipe();
    let pid = fork(|| {
        let mut bytes = [0; 8];
        while (&questions).read_exact(&mut bytes).is_ok() && u64::from_le_bytes(bytes) != STOP {
            let answer = square(u64::from_le_bytes(bytes));
            (&answers).write_all(&answer.to_le_bytes()).expect("the parent is there");
        }
    });
    (answered, asked, pid)
}

fn ask(answered: &mut File, asked: &mut File, n: u64) -> u64 {
    asked.write_all(&n.to_le_bytes()).expect("the child is there");
    let mut bytes = [0; 8];
    answered.read_exact(&mut bytes).expect("the child is there");
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
    compare("Pool.map, chunk 1, per task", 2.5, chunk_1, &by_hand, repeats());
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
    let alone = || {
        per_operation(many, || {
            black_box(sum((0..many as u64).map(|n| square(black_box(n))).collect()));
        })
    };
    compare("Pool.map, default chunk", f64::INFINITY, default, alone, repeats());
    let threads = || per_operation(tasks, || check(by_threads(tasks)));
    compare("std threads, chunk 1", f64::INFINITY, threads, by_hand, repeats());
}

/// The sum of squares by as many threads as there are workers, over std's channels.
fn by_threads(tasks: usize) -> u64 {
    let (tasks_in, tasks_out) = mpsc::channel::<u64>();
    let (results_in, results_out) = mpsc::channel();
    let tasks_out = Mutex::new(tasks_out);
    let next = || tasks_out.lock().expect("no panic").recv();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let results = results_in.clone();
            scope.spawn(move || {
                while let Ok(task) = next() {
                    results.send(square(black_box(task))).expect("it is awaited");
                }
            });
        }
        (0..tasks as u64).for_each(|task| tasks_in.send(task).expect("workers"));
        drop((tasks_in, results_in));
        results_out.iter().fold(0, u64::wrapping_add)
    })
}

/// A megabyte each way, against so many copies of it.
fn large_tasks() {
    let pool = pool(StartMethod::Fork, WORKERS);
    let megabyte = vec![1u8; 1 << 20];
    let rounds = scaled(1000);
    // The first touch of the rings' memory is not what this is about.
    (0..20).for_each(|_| drop(pool.apply(|bytes: Vec<u8>| bytes, (megabyte.clone(),)).unwrap()));
    let times = |each: &dyn Fn()| per_operation(rounds, || (0..rounds).for_each(|_| each()));
    let copies = |count: usize| {
        let megabyte = &megabyte;
        move || times(&|| (0..count).for_each(|_| drop(black_box(megabyte.clone()))))
    };
    let there = || {
        times(&|| {
            let len = pool.apply(|bytes: Vec<u8>| bytes.len(), (megabyte.clone(),)).unwrap();
            assert_eq!(len, 1 << 20);
        })
    };
    compare("apply, 1 MiB there", f64::INFINITY, there, copies(2), repeats());
    let back = || times(&|| assert_eq!(pool.apply(|| vec![1u8; 1 << 20], ()).unwrap(), megabyte));
    compare("apply, 1 MiB back", f64::INFINITY, back, copies(2), repeats());
    let both = || {
        times(&|| {
            let bytes = pool.apply(|bytes: Vec<u8>| bytes, (megabyte.clone(),)).unwrap();
            assert_eq!(bytes.len(), 1 << 20);
        })
    };
    compare("apply, 1 MiB there and back", f64::INFINITY, both, copies(4), repeats());
}

/// From a worker's death until its task is given up and another worker started.
fn deaths() {
    let pool = pool(StartMethod::Fork, 1);
    let rounds = scaled(500);
    let ours = || {
        per_operation(rounds, || {
            for _ in 0..rounds {
                let pid = pool.snapshot().workers[0].pid;
                let lost = pool.apply_async(thread::sleep, (Duration::MAX,)).unwrap();
                while pool.snapshot().workers[0].task.is_none() {
                    thread::yield_now();
                }
                assert!(pool.kill_worker(pid));
                assert!(matches!(lost.get(), Err(Error::WorkerDied { .. })));
            }
        })
    };
    let by_hand = || {
        per_operation(rounds, || {
            let forever = || thread::sleep(Duration::MAX);
            let mut child = fork(forever);
            for _ in 0..rounds {
                end(child);
                child = fork(forever);
            }
            end(child);
        })
    };
    compare("a worker's death", f64::INFINITY, ours, by_hand, repeats());
}

/// Kills a child and reaps it.
#[allow(unsafe_code)]
fn end(child: libc::pid_t) {
    // SAFETY: no memory is involved; the child is ours and was not reaped, so the pid is its own.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    // SAFETY: the status is not asked for.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
}

/// The same by CPython, where there is one: a line each, in nanoseconds.
const PYTHON: &str = "
import multiprocessing, sys, time
def square(n): return n * n
def measure(name, count, work):
    start = time.perf_counter(); work()
    print('%-30s %9.0f ns' % ('CPython, ' + name, (time.perf_counter() - start) / count * 1e9))
if __name__ == '__main__':
    multiprocessing.set_start_method('fork')
    n = int(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        pool.map(square, range(100))
        measure('map, chunk 1', n, lambda: pool.map(square, range(n), 1))
        measure('imap_unordered, chunk 1', n, lambda: list(pool.imap_unordered(square, range(n))))
        measure('map, default chunk', 10 * n, lambda: pool.map(square, range(10 * n)))
        measure('apply', n // 10, lambda: [pool.apply(square, (i,)) for i in range(n // 10)])
    def start():
        with multiprocessing.Pool(4) as pool: pool.apply(square, (3,))
    measure('pool of 4, start+stop', 1, start)
";

fn python() {
    let script = std::env::temp_dir().join(format!("multiproc-bench-{}.py", std::process::id()));
    std::fs::write(&script, PYTHON).expect("a file");
    let ran = Command::new("python3").arg(&script).arg(scaled(50_000).to_string()).status();
    if !ran.is_ok_and(|status| status.success()) {
        println!("no python3 to compare with");
    }
    std::fs::remove_file(&script).expect("the file");
}

fn round_trips() {
    let pool = pool(StartMethod::Fork, 1);
    let (mut answered, mut asked, answerer) = answer_by_hand();
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
                assert_eq!(ask(&mut answered, &mut asked, n), square(n));
            }
        })
    };
    compare("apply round trip", 1.4, apply, by_hand, repeats());
    asked.write_all(&STOP.to_le_bytes()).expect("the child is there");
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
        [(StartMethod::Fork, 1.7), (StartMethod::ForkServer, 1.7), (StartMethod::Spawn, 1.2)]
    {
        let limit = |method| match method {
            StartMethod::Spawn => by_exec(),
            _ => by_fork(),
        };
        let few = repeats().min(5);
        let ended = || per_operation(rounds, || (0..rounds).for_each(|_| drop(pool(method, FOUR))));
        let name = format!("pool of 4, start+stop, {method}");
        compare(&name, target, ended, || limit(method), few);
        let closed = || {
            per_operation(rounds, || {
                for _ in 0..rounds {
                    let pool = pool(method, FOUR);
                    assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
                    pool.close();
                    pool.join().unwrap();
                }
            })
        };
        let name = format!("with a task and join, {method}");
        compare(&name, f64::INFINITY, closed, || limit(method), few);
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
    starts();
    memory();
    deaths();
    round_trips();
    small_tasks();
    large_tasks();
    python();
}
