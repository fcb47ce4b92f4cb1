//! The programs that every introduction to Python's multiprocessing shows, one after the other.
//!
//! `cargo run --release --example tour`

use mp::manager::{DictProxy, ListProxy};
use mp::{Array, Connection, Error, Lock, Manager, Object, Pool, Process, Queue, Value};
use multiproc as mp;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

fn main() -> mp::Result<()> {
    mp::init();
    heading("a process");
    Process::new(greet, ("bob".to_string(),)).start()?.join()?;

    heading("three ways to start one");
    for method in mp::all_start_methods() {
        Process::new(introduce, (method.to_string(),)).start_method(method).start()?.join()?;
    }

    heading("a queue");
    let queue = Queue::new()?;
    let child = Process::new(fill, (queue.clone(),)).start()?;
    println!("{}", queue.get()?);
    child.join()??;

    heading("a pipe");
    let (ours, theirs) = mp::pipe()?;
    let child = Process::new(send_and_close, (theirs,)).start()?;
    println!("{}", ours.recv::<Object>()?);
    child.join()??;
    assert!(matches!(ours.recv::<Object>(), Err(Error::Eof)), "the other end is closed");

    heading("ten processes, one lock");
    let lock = Lock::new()?;
    let start = |number| Process::new(say, (lock.clone(), number)).start();
    let children = (0..10).map(start).collect::<mp::Result<Vec<_>>>()?;
    children.into_iter().try_for_each(|child| child.join()?)?;

    heading("shared memory");
    let number = Value::new(0.0f64)?;
    let array = Array::from_slice(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])?;
    Process::new(negate, (number.clone(), array.clone())).start()?.join()??;
    println!("{:?}", number.get()?);
    println!("{:?}", array.to_vec()?);

    heading("a server with a dict and a list");
    let manager = Manager::start()?;
    let (dict, list) = (manager.dict()?, manager.list(0..10)?);
    Process::new(fill_and_turn, (dict.clone(), list.clone())).start()?.join()??;
    println!("{dict}\n{list}");

    heading("a pool of workers");
    pool_of_four()
}

fn heading(title: &str) {
    println!("\n-- {title} --");
}

fn greet(name: String) {
    println!("hello {name}");
}

fn introduce(method: String) {
    let parent = mp::parent_process().map_or(0, |parent| parent.pid());
    println!("started by {method}: pid {}, parent {parent}", std::process::id());
}

fn greeting() -> Object {
    Object::list([Object::from(42), Object::None, Object::from("hello")])
}

fn fill(queue: Queue<Object>) -> mp::Result<()> {
    queue.put(&greeting())
}

fn send_and_close(end: Connection) -> mp::Result<()> {
    end.send(&greeting())?;
    end.close();
    Ok(())
}

/// Prints a line in two halves: only the lock keeps those of different processes apart.
fn say(lock: Lock, number: u32) -> mp::Result<()> {
    let _guard = lock.acquire()?;
    print!("hello ");
    let _ = io::stdout().flush();
    thread::sleep(Duration::from_millis(1));
    println!("world {number}");
    Ok(())
}

fn negate(number: Value<f64>, array: Array<i32>) -> mp::Result<()> {
    #[expect(clippy::approx_constant, reason = "Python's documentation has it so")]
    number.set(3.1415927)?;
    for item in array.lock()?.iter_mut() {
        *item = -*item;
    }
    Ok(())
}

fn fill_and_turn(dict: DictProxy<Object, Object>, list: ListProxy<i32>) -> mp::Result<()> {
    dict.insert(0.25.into(), Object::None)?;
    dict.insert(1.into(), "1".into())?;
    dict.insert("2".into(), 2.into())?;
    list.reverse()
}

fn square(n: u64) -> u64 {
    n * n
}

fn sleep(time: Duration) {
    thread::sleep(time);
}

fn pool_of_four() -> mp::Result<()> {
    let pool = Pool::new(4)?;
    println!("{:?}", pool.map(square, 0..10)?);

    let mut squares = pool.imap_unordered(square, 0..10).collect::<mp::Result<Vec<_>>>()?;
    squares.sort_unstable();
    println!("{squares:?}, in whatever order they came");

    let result = pool.apply_async(square, (20,))?;
    println!("{}", result.get_timeout(Duration::from_secs(1))?);

    println!("a worker's pid: {}", pool.apply(std::process::id, ())?);

    let ask = |_| pool.apply_async(std::process::id, ());
    let results = (0..4).map(ask).collect::<mp::Result<Vec<_>>>()?;
    let pids = results.iter().map(mp::AsyncResult::get).collect::<mp::Result<Vec<_>>>()?;
    println!("four at once: {pids:?}");

    let result = pool.apply_async(sleep, (Duration::from_secs(10),))?;
    match result.get_timeout(Duration::from_secs(1)) {
        Err(Error::TimeoutError) => println!("a task that sleeps: timed out, as it should"),
        other => println!("unexpected: {other:?}"),
    }
    println!("the pool is still good for more: {}", pool.apply(square, (7,))?);

    pool.terminate();
    pool.join()?;
    println!("now the pool is closed and no longer available");
    assert!(matches!(pool.apply(square, (1,)), Err(Error::PoolClosed)));
    Ok(())
}
