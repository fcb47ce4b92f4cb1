//! Workers that are killed, crash or leave, and what becomes of tasks and pool then.

use super::support::os;
use super::{
    Chance, FOR_EVER, builder, busy, everywhere, kill_any, method_of, pool, put_all, square, stay,
    turn, wait_for,
};
use multiproc::{
    Decode, Decoder, Encode, Encoder, Error, ExitStatus, Pool, Process, Queue, Result, StartMethod,
};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const SIGKILL: i32 = libc::SIGKILL;

#[test]
fn a_task_is_told_how_its_worker_died_and_no_other_is_concerned() {
    everywhere(|method| {
        let pool = pool(method, 2);
        let at = Queue::new().unwrap();
        let lost = pool.apply_async(stay, (at.clone(),)).unwrap();
        let pid = at.get().unwrap();
        let other = pool.map_async(square, 0..50).unwrap();
        assert!(pool.kill_worker(pid));
        let outcome = lost.get();
        let Err(Error::WorkerDied { pid: told, status }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((told, status), (pid, ExitStatus::Killed(SIGKILL)));
        assert_eq!(other.get().unwrap().len(), 50);
        assert_eq!(pool.map(square, 0..10).unwrap().len(), 10);
        assert!(!pool.kill_worker(pid), "it is gone");
        let counters = pool.snapshot().counters;
        assert_eq!((counters.died, counters.replaced, counters.retried), (1, 1, 0));
    });
}

#[test]
fn tasks_that_abort_and_exit_are_lost_one_by_one_and_the_pool_goes_on() {
    everywhere(|method| {
        let pool = pool(method, 2);
        // More than the deaths after which a pool despairs of workers that never do anything.
        for _ in 0..20 {
            let aborted = pool.apply(|| -> u32 { std::process::abort() }, ());
            let Err(Error::WorkerDied { status, .. }) = aborted else { panic!("{aborted:?}") };
            assert_eq!(status, ExitStatus::Killed(libc::SIGABRT));
        }
        let left = pool.apply(|| -> u32 { multiproc::exit(3) }, ());
        let Err(Error::WorkerDied { status, .. }) = left else { panic!("{left:?}") };
        assert_eq!(status, ExitStatus::Exited(3));
        let results: Vec<_> =
            pool.imap(|n: u64| if n % 5 == 4 { std::process::abort() } else { n }, 0..25).collect();
        for (n, result) in results.iter().enumerate() {
            assert_eq!(result.is_err(), n % 5 == 4, "{n}: {result:?}");
        }
        assert_eq!(pool.apply(square, (5,)).unwrap(), 25);
    });
}

#[test]
fn idle_workers_that_are_killed_are_replaced() {
    everywhere(|method| {
        let pool = pool(method, 3);
        pool.map(square, 0..30).unwrap();
        for round in 0..10 {
            for worker in pool.snapshot().workers {
                pool.kill_worker(worker.pid);
            }
            assert_eq!(pool.apply(square, (round,)).unwrap(), round * round);
        }
        let counters = pool.snapshot().counters;
        assert_eq!((counters.died, counters.done), (0, counters.submitted));
    });
}

#[test]
fn tasks_wait_for_workers_that_are_killed_before_they_are_ready() {
    everywhere(|method| {
        let pool = pool(method, 2);
        for worker in pool.snapshot().workers {
            pool.kill_worker(worker.pid);
        }
        assert_eq!(pool.map(square, 0..5).unwrap().len(), 5);
    });
}

#[test]
fn all_workers_killed_at_once_lose_only_what_they_ran() {
    everywhere(|method| {
        let pool = pool(method, 3);
        let at = Queue::new().unwrap();
        let running: Vec<_> =
            (0..3).map(|_| pool.apply_async(stay, (at.clone(),)).unwrap()).collect();
        let queued: Vec<_> = (0..20).map(|n| pool.apply_async(square, (n,)).unwrap()).collect();
        let pids: Vec<u32> = (0..3).map(|_| at.get().unwrap()).collect();
        for pid in pids {
            assert!(pool.kill_worker(pid));
        }
        for (n, result) in queued.into_iter().enumerate() {
            assert_eq!(result.get().unwrap(), (n * n) as u64);
        }
        for result in running {
            assert!(matches!(result.get(), Err(Error::WorkerDied { .. })));
        }
    });
}

/// What ends the process that reads or writes it, if that is a worker.
#[derive(Debug, PartialEq)]
struct Trap(u32);

impl Trap {
    fn spring(&self, fatal: u32) {
        if self.0 != fatal || multiproc::parent_process().is_none() {
            return;
        }
        match fatal % 3 {
            0 => std::process::abort(),
            1 => multiproc::exit(3),
            _ => panic!("a trap"),
        }
    }
}

impl Encode for Trap {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        (0..3).for_each(|fatal| self.spring(fatal));
        self.0.encode(encoder);
    }
}

impl Decode for Trap {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Trap> {
        let trap = Trap(u32::decode(decoder)?);
        (3..6).for_each(|fatal| trap.spring(fatal));
        Ok(trap)
    }
}

#[test]
fn arguments_and_results_that_end_the_worker_on_their_way_lose_their_task_alone() {
    everywhere(|method| {
        let pool = pool(method, 2);
        let give = |n: u32| pool.apply(Trap, (n,)).map(|_| ());
        let take = |n: u32| pool.apply(drop::<Trap>, (Trap(n),));
        let outcomes = [give(0), give(1), give(2), take(3), take(4), take(5)];
        for (n, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Err(Error::WorkerDied { status: ExitStatus::Killed(libc::SIGABRT), .. }) => {
                    assert_eq!(n % 3, 0);
                }
                Err(Error::WorkerDied { status: ExitStatus::Exited(3), .. }) => {
                    assert_eq!(n % 3, 1);
                }
                Err(Error::Panicked { message, .. }) => {
                    assert_eq!((n % 3, &message[..]), (2, "a trap"));
                }
                other => panic!("{n}: {other:?}"),
            }
        }
        assert_eq!(pool.apply(|trap: Trap| trap, (Trap(7),)).unwrap(), Trap(7));
        let counters = pool.snapshot().counters;
        assert_eq!((counters.died, counters.failed, counters.done), (4, 2, 1));
    });
}

/// Dies of it as long as there is something in `fates`.
fn die_by(fates: Queue<u32>) -> u32 {
    if fates.try_get().is_ok() {
        std::process::abort();
    }
    7
}

#[test]
fn a_task_is_tried_again_as_often_as_was_asked_for() {
    everywhere(|method| {
        let pool = builder(method, 2).retries(3).build().unwrap();
        let fates = Queue::new().unwrap();
        put_all(&fates, &[0; 3]);
        assert_eq!(pool.apply(die_by, (fates.clone(),)).unwrap(), 7);
        put_all(&fates, &[0; 4]);
        let poison = pool.apply(die_by, (fates.clone(),));
        assert!(matches!(poison, Err(Error::Poison { deaths: 4, .. })), "{poison:?}");
        assert_eq!(pool.apply(die_by, (fates,)).unwrap(), 7);
        let counters = pool.snapshot().counters;
        assert_eq!((counters.retried, counters.died, counters.done), (6, 1, 2));
    });
}

#[test]
fn a_worker_killed_while_it_hands_over_a_large_result_loses_that_alone() {
    let _turn = turn();
    fn large(at: Queue<u32>, len: usize) -> Vec<u8> {
        at.put(&std::process::id()).unwrap();
        vec![1; len]
    }
    let pool = Pool::new(2).unwrap();
    let at = Queue::new().unwrap();
    let (mut lost, mut done) = (0, 0);
    for round in 0..12 {
        let result = pool.apply_async(large, (at.clone(), 100 << 20)).unwrap();
        let other = pool.apply_async(square, (round,)).unwrap();
        let pid = at.get().unwrap();
        std::thread::sleep(Duration::from_millis(round * 8));
        pool.kill_worker(pid);
        assert_eq!(other.get().unwrap(), round * round);
        match result.get() {
            Ok(bytes) => {
                assert_eq!(bytes.len(), 100 << 20);
                done += 1;
            }
            Err(Error::WorkerDied { .. }) => lost += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    println!("{lost} lost, {done} done");
    assert_eq!(pool.map(square, 0..10).unwrap().len(), 10);
}

#[test]
fn under_a_storm_of_kills_every_task_comes_back_once() {
    everywhere(|method| {
        const TASKS: u64 = 4000;
        let pool = builder(method, 3).retries(1000).build().unwrap();
        let mut chance = Chance(os::own_pid() as u64);
        let mut seen = vec![0u32; TASKS as usize];
        let (mut kills, mut next_kill) = (0, Instant::now());
        // No thread kills: then Fork could not replace a worker.
        for result in pool.imap_unordered(busy, 0..TASKS) {
            seen[result.unwrap() as usize] += 1;
            if Instant::now() > next_kill {
                kills += u64::from(kill_any(&pool, &mut chance));
                next_kill = Instant::now() + Duration::from_micros(chance.below(10_000) as u64);
            }
        }
        assert!(seen.iter().all(|&times| times == 1));
        let counters = pool.snapshot().counters;
        println!("by {method}: {kills} kills, {counters:?}");
        assert_eq!((counters.submitted, counters.done), (TASKS, TASKS));
    });
}

#[test]
fn workers_die_with_a_parent_that_is_killed() {
    everywhere(|method| {
        // A process of its own, so that it can be killed.
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let at = Queue::<u32>::new().unwrap();
        let arguments = (method.to_string(), at.clone(), OwnedFd::from(writer));
        let parent = Process::new(own_a_pool, arguments).start_method(StartMethod::Spawn);
        let parent = parent.start().unwrap();
        for _ in 0..3 {
            at.get().unwrap();
        }
        parent.kill().unwrap();
        parent.wait().unwrap();
        // Every worker holds a copy of the other end while it lives.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn workers_die_with_their_parent_whatever_their_own_children_hold() {
    everywhere(|method| {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let at = Queue::<u32>::new().unwrap();
        let arguments = (method.to_string(), at.clone(), OwnedFd::from(writer));
        let parent = Process::new(own_a_pool_of_parents, arguments);
        let parent = parent.start_method(StartMethod::Spawn).start().unwrap();
        let grandchildren: Vec<u32> = (0..3).map(|_| at.get().unwrap()).collect();
        parent.kill().unwrap();
        parent.wait().unwrap();
        // Every worker holds a copy of the other end; their children, which live on, do not.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        for pid in grandchildren {
            os::signal(pid as os::Pid, SIGKILL);
        }
    });
}

fn own_a_pool_of_parents(method: String, at: Queue<u32>, hold: OwnedFd) {
    /// Forks a process that is to outlive it, takes a hold and says who that process is.
    fn have_a_child(at: Queue<u32>, holds: Queue<OwnedFd>) {
        let child = Process::new(|| std::thread::sleep(FOR_EVER), ()).daemon(false);
        let child = child.start_method(StartMethod::Fork).start().unwrap();
        let _hold = holds.get().unwrap();
        at.put(&child.pid()).unwrap();
        child.wait().unwrap();
    }
    let holds = Queue::new().unwrap();
    (0..3).for_each(|_| holds.put(&hold.try_clone().unwrap()).unwrap());
    drop(hold);
    let pool = pool(method_of(&method), 3);
    let held = pool.starmap(have_a_child, (0..3).map(|_| (at.clone(), holds.clone())));
    panic!("{held:?}");
}

fn own_a_pool(method: String, at: Queue<u32>, hold: OwnedFd) {
    fn hold_on(at: Queue<u32>, _hold: OwnedFd) {
        stay(at);
    }
    let pool = pool(method_of(&method), 3);
    let held = pool.starmap(hold_on, (0..3).map(|_| (at.clone(), hold.try_clone().unwrap())));
    panic!("{held:?}");
}

#[test]
fn a_pool_outlives_its_forkserver() {
    let _turn = turn();
    let owner = multiproc::Process::new(survive_the_forkserver, ()).start().unwrap();
    owner.join().unwrap();
}

/// In a process of its own, whose forkserver is no other test's.
fn survive_the_forkserver() {
    let pool = pool(StartMethod::ForkServer, 2);
    assert_eq!(pool.map(square, 0..4).unwrap().len(), 4);
    for pid in os::children() {
        if !pool.snapshot().workers.iter().any(|worker| worker.pid == pid as u32) {
            os::signal(pid, SIGKILL);
        }
    }
    for worker in pool.snapshot().workers {
        pool.kill_worker(worker.pid);
    }
    assert_eq!(pool.map(square, 0..4).unwrap().len(), 4);
}

#[test]
fn two_idle_workers_are_killed_and_apply_gives_its_result() {
    everywhere(|method| {
        let pool = pool(method, 2);
        pool.map(square, 0..10).unwrap();
        for worker in pool.snapshot().workers {
            os::signal(worker.pid as os::Pid, SIGKILL);
        }
        assert_eq!(pool.apply(square, (12,)).unwrap(), 144);
    });
}

#[test]
fn a_pool_can_be_terminated_after_an_idle_worker_was_killed() {
    everywhere(|method| {
        let pool = pool(method, 2);
        pool.map(square, 0..10).unwrap();
        os::signal(pool.snapshot().workers[1].pid as os::Pid, SIGKILL);
        pool.terminate();
        pool.join().unwrap();
        assert!(pool.snapshot().workers.is_empty());
    });
}

#[test]
fn a_task_is_told_of_its_workers_death_after_the_pool_was_closed_too() {
    everywhere(|method| {
        let pool = pool(method, 1);
        let at = Queue::new().unwrap();
        let lost = pool.apply_async(stay, (at.clone(),)).unwrap();
        let queued = pool.apply_async(square, (3,)).unwrap();
        pool.close();
        assert!(pool.kill_worker(at.get().unwrap()));
        pool.join().unwrap();
        assert!(matches!(lost.get(), Err(Error::WorkerDied { .. })));
        assert_eq!(queued.get().unwrap(), 9);
    });
}

#[test]
fn a_closed_pool_ends_although_its_idle_workers_are_killed() {
    everywhere(|method| {
        let pool = pool(method, 3);
        pool.map(square, 0..10).unwrap();
        for worker in pool.snapshot().workers {
            os::signal(worker.pid as os::Pid, SIGKILL);
        }
        pool.close();
        pool.join().unwrap();
    });
}

#[test]
fn tasks_do_not_wait_for_an_idle_worker_that_is_stopped() {
    let _turn = turn();
    let pool = Pool::new(3).unwrap();
    pool.map(square, 0..100).unwrap();
    // The two that have slept longest are the first to be woken.
    let workers: Vec<os::Pid> = pool.snapshot().workers.iter().map(|w| w.pid as os::Pid).collect();
    workers.iter().for_each(|&pid| os::wait_until_asleep(pid));
    workers[..2].iter().for_each(|&pid| os::signal(pid, libc::SIGSTOP));
    for n in 0..5 {
        assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
    }
    workers[..2].iter().for_each(|&pid| os::signal(pid, libc::SIGCONT));
    assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
}

#[test]
fn a_stopped_worker_holds_nobody_else_up() {
    let _turn = turn();
    let pool = Pool::new(2).unwrap();
    let (at, gate) = (Queue::new().unwrap(), Queue::new().unwrap());
    let stopped = pool.apply_async(wait_for, (at.clone(), gate.clone())).unwrap();
    let pid = at.get().unwrap() as os::Pid;
    os::signal(pid, libc::SIGSTOP);
    assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
    os::signal(pid, libc::SIGCONT);
    gate.put(&3).unwrap();
    assert_eq!(stopped.get().unwrap(), 3);
}

#[test]
fn tasks_go_on_while_the_parent_is_stopped_and_it_finds_their_results() {
    everywhere(|method| {
        let (at, ran) = (Queue::<u32>::new().unwrap(), Queue::<u32>::new().unwrap());
        let arguments = (method.to_string(), at.clone(), ran.clone());
        let parent = Process::new(hand_in_a_hundred, arguments);
        let parent = parent.start_method(StartMethod::Spawn).start().unwrap();
        assert_eq!(at.get().unwrap(), parent.pid());
        os::signal(parent.pid() as os::Pid, libc::SIGSTOP);
        for _ in 0..100 {
            ran.get().unwrap();
        }
        os::signal(parent.pid() as os::Pid, libc::SIGCONT);
        assert_eq!(parent.join().unwrap(), (0..100).sum());
    });
}

fn hand_in_a_hundred(method: String, at: Queue<u32>, ran: Queue<u32>) -> u32 {
    fn note(n: u32, ran: Queue<u32>) -> u32 {
        ran.put(&n).unwrap();
        n
    }
    let pool = pool(method_of(&method), 2);
    let all = pool.starmap_async(note, (0..100).map(|n| (n, ran.clone()))).unwrap();
    at.put(&std::process::id()).unwrap();
    all.get().unwrap().iter().sum()
}
