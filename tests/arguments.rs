//! What the library makes, given to children of every kind.

#[path = "support/alone.rs"]
mod alone;
mod support;

use alone::alone;
use multiproc::{
    Connection, Context, Lock, Process, Queue, StartMethod, Stdio, Value, all_start_methods, pipe,
    pipe_one_way,
};
use std::io::Read;

multiproc::init_before_main!();

fn method_of(position: u32) -> StartMethod {
    all_start_methods()[position as usize]
}

/// Runs `test` with each method and its position.
fn with_each_method(test: impl Fn(StartMethod, u32)) {
    all_start_methods().into_iter().zip(0..).for_each(|(method, position)| test(method, position));
}

#[test]
fn a_lock_given_to_a_child_keeps_the_parent_out() {
    alone(|| {
        with_each_method(|method, _| {
            let lock = Lock::new().unwrap();
            let (mine, theirs) = pipe().unwrap();
            let work = |lock: Lock, parent: Connection| {
                let guard = lock.acquire().unwrap();
                parent.send("held").unwrap();
                assert_eq!(parent.recv::<String>().unwrap(), "let go");
                drop(guard);
                parent.send("free").unwrap();
            };
            let child = Process::new(work, (lock.clone(), theirs)).start_method(method).start();
            assert_eq!(mine.recv::<String>().unwrap(), "held");
            assert!(lock.try_acquire().unwrap().is_none(), "{method}");
            mine.send("let go").unwrap();
            assert_eq!(mine.recv::<String>().unwrap(), "free");
            assert!(lock.try_acquire().unwrap().is_some(), "{method}");
            child.unwrap().join().unwrap();
        });
    });
}

#[test]
fn a_value_given_to_children_counts_what_all_of_them_do() {
    alone(|| {
        let value = Value::new(0u64).unwrap();
        let add = |value: Value<u64>| (0..50).for_each(|_| *value.lock().unwrap() += 1);
        let children: Vec<_> = (0..6)
            .map(|n| Process::new(add, (value.clone(),)).start_method(method_of(n % 3)))
            .map(|process| process.start().unwrap())
            .collect();
        children.into_iter().for_each(|child| child.join().unwrap());
        assert_eq!(*value.lock().unwrap(), 300);
    });
}

/// Puts its depth, and hands the queue to a child of its own.
fn pass_on(queue: Queue<u32>, depth: u32, method: u32) {
    queue.put(&depth).unwrap();
    if depth > 0 {
        let child = Process::new(pass_on, (queue, depth - 1, method));
        child.start_method(method_of(method)).start().unwrap().join().unwrap();
    }
}

#[test]
fn a_queue_goes_from_child_to_grandchild() {
    alone(|| {
        with_each_method(|method, position| {
            let queue = Queue::new().unwrap();
            let child = Process::new(pass_on, (queue.clone(), 2, position)).start_method(method);
            child.start().unwrap().join().unwrap();
            let got: Vec<u32> = (0..3).map(|_| queue.get().unwrap()).collect();
            assert_eq!(got, [2, 1, 0], "{method}");
            assert!(queue.is_empty().unwrap());
        });
    });
}

#[test]
fn a_queue_made_for_one_method_works_between_the_others() {
    alone(|| {
        let queue = Queue::new().unwrap();
        let put = |queue: Queue<u32>, n: u32| queue.put(&n).unwrap();
        with_each_method(|method, position| {
            let child = Context::new(method).process(put, (queue.clone(), position));
            child.start().unwrap().join().unwrap();
            assert_eq!(queue.get().unwrap(), position, "{method}");
        });
    });
}

/// Sends the ids of a tree of processes, depth first, and gives the writer back.
fn recurse(mut writer: Connection, id: Vec<u32>, method: u32) -> Connection {
    writer.send(&id).unwrap();
    if id.len() < 2 {
        for next in 0..2 {
            let id = [&id[..], &[next]].concat();
            let child = Process::new(recurse, (writer, id, method));
            writer = child.start_method(method_of(method)).start().unwrap().join().unwrap();
        }
    }
    writer
}

#[test]
fn children_of_children_speak_in_turn_over_one_pipe() {
    alone(|| {
        with_each_method(|method, position| {
            let (reader, writer) = pipe_one_way().unwrap();
            drop(recurse(writer, Vec::new(), position));
            let told: Vec<Vec<u32>> = (0..7).map(|_| reader.recv().unwrap()).collect();
            let wanted: [&[u32]; 7] = [&[], &[0], &[0, 0], &[0, 1], &[1], &[1, 0], &[1, 1]];
            assert_eq!(told, wanted, "{method}");
        });
    });
}

#[test]
fn a_context_has_pools_whose_workers_it_starts() {
    alone(|| {
        with_each_method(|method, _| {
            let pool = Context::new(method).pool().processes(2).build().unwrap();
            let parents = pool.map(|_: u32| std::os::unix::process::parent_id(), 0..8u32).unwrap();
            let direct = parents.iter().all(|&pid| pid == std::process::id());
            assert_eq!(direct, method != StartMethod::ForkServer, "{method}");
        });
    });
}

#[test]
fn a_child_may_have_a_pool() {
    alone(|| {
        with_each_method(|method, _| {
            let work = || -> u64 {
                let pool = Context::default().pool().processes(2).build().unwrap();
                pool.map(|n: u64| n * n, 0..10u64).unwrap().into_iter().sum()
            };
            let child = Process::new(work, ()).start_method(method).start().unwrap();
            assert_eq!(child.join().unwrap(), 285, "{method}");
        });
    });
}

#[test]
fn a_task_that_panics_says_nothing_on_stderr() {
    alone(|| {
        with_each_method(|method, position| {
            let work = |method: u32| {
                let pool = Context::new(method_of(method)).pool().processes(1).build().unwrap();
                let error = pool.apply(|| -> u32 { panic!("in a task") }, ()).unwrap_err();
                assert!(error.to_string().contains("in a task"), "{error}");
            };
            let process = Process::new(work, (position,)).stderr(Stdio::Piped);
            let mut child = process.start().unwrap();
            let mut text = String::new();
            child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
            child.join().unwrap();
            assert_eq!(text, "", "{method}");
        });
    });
}
