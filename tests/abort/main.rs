//! What a panic does to others, whether this program was built to unwind, as by default, or to abort:
//! `RUSTFLAGS='-C panic=abort' cargo test --target-dir target/abort --test abort`.
//!
//! Where it aborts, who panics is killed by SIGABRT, and each promise is the one about killed processes.

use multiproc::{
    Error, ExitStatus, Lock, Manager, Pool, Process, StartMethod, all_start_methods, at_exit,
};
use std::time::Duration;

const ABORTS: bool = cfg!(panic = "abort");

/// How a child ends that panics.
const END: ExitStatus = if ABORTS { ExitStatus::Killed(6) } else { ExitStatus::Exited(1) };

fn main() {
    multiproc::init();
    for method in all_start_methods() {
        a_panic_reaches_who_joins(method);
        a_lock_is_let_go(method);
        a_worker_is_lost_or_goes_on(method);
    }
    hooks_run_unless_one_aborts();
    a_manager_that_panics_keeps_nobody_waiting();
    assert!(multiproc::active_children().is_empty());
    println!("panics that {}: ok", if ABORTS { "abort" } else { "unwind" });
}

fn fail(n: u32) -> u32 {
    if n == 7 { panic!("on purpose: {n}") } else { n * n }
}

fn a_panic_reaches_who_joins(method: StartMethod) {
    let child = Process::new(fail, (7,)).start_method(method).start().unwrap();
    assert_eq!(child.wait().unwrap(), END, "{method}");
    assert_eq!(child.exit_code(), Some(if ABORTS { -6 } else { 1 }));
    // Who aborts has told why before.
    match child.join() {
        Err(Error::Panicked { message, location, .. }) => {
            assert_eq!(message, "on purpose: 7");
            assert!(location.contains("main.rs"), "{location}");
        }
        other => panic!("{method}: {other:?}"),
    }
}

fn a_lock_is_let_go(method: StartMethod) {
    let lock = Lock::new().unwrap();
    let hold = |lock: Lock| {
        let _guard = lock.acquire().unwrap();
        fail(7)
    };
    let child = Process::new(hold, (lock.clone(),)).start_method(method).start().unwrap();
    assert_eq!(child.wait().unwrap(), END);
    assert_eq!(lock.acquire().unwrap().owner_died(), ABORTS, "{method}");
}

fn a_worker_is_lost_or_goes_on(method: StartMethod) {
    let pool = Pool::builder().processes(2).start_method(method).build().unwrap();
    match pool.apply(fail, (7,)) {
        Err(Error::WorkerDied { status, .. }) if ABORTS => assert_eq!(status, END),
        Err(Error::Panicked { message, .. }) if !ABORTS => assert_eq!(message, "on purpose: 7"),
        other => panic!("{method}: {other:?}"),
    }
    assert_eq!(pool.map(fail, 0..7).unwrap(), [0, 1, 4, 9, 16, 25, 36], "{method}");
    let restarts: u64 = pool.snapshot().workers.iter().map(|worker| worker.restarts).sum();
    assert_eq!(restarts, u64::from(ABORTS));
    pool.close();
    pool.join().unwrap();
}

fn hooks_run_unless_one_aborts() {
    let (told, end) = multiproc::pipe().unwrap();
    let work = |end: multiproc::Connection| {
        at_exit(move || end.send(&1u8).unwrap(), 0).unwrap();
        at_exit(|| panic!("a hook that fails"), 1).unwrap();
    };
    let child = Process::new(work, (end,)).start().unwrap();
    assert_eq!(child.wait().unwrap(), if ABORTS { END } else { ExitStatus::Exited(0) });
    assert_eq!(told.recv::<u8>().is_ok(), !ABORTS);
}

struct Fragile;

impl Fragile {
    fn new() -> Fragile {
        Fragile
    }

    fn touch(&self, n: u32) -> u32 {
        fail(n)
    }
}

multiproc::managed! {
    impl Fragile as FragileProxy {
        fn touch(&self, n: u32) -> u32;
    }
}

fn a_manager_that_panics_keeps_nobody_waiting() {
    let manager = Manager::start().unwrap();
    let fragile: FragileProxy = manager.create(Fragile::new, ()).unwrap();
    assert_eq!(fragile.touch(3).unwrap(), 9);
    let error = fragile.touch(7).unwrap_err();
    // The server is this program too: what aborts it is the end of all that it holds.
    assert_eq!(matches!(error, Error::Panicked { .. }), !ABORTS, "{error:?}");
    assert_eq!(fragile.touch(3).is_ok(), !ABORTS);
    drop(fragile);
    let _ = manager.shutdown();
    let end = manager.join_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(end, Some(if ABORTS { END } else { ExitStatus::Exited(0) }));
}
