//! What every room does for its users, in operations that end by themselves whatever fails in them.

use multiproc as mp;
use multiproc::manager::{DictProxy, ListProxy};
use multiproc::shared_memory::{SharedMemory, SharedMemoryManager};
use multiproc::{
    Array, Barrier, BoundedSemaphore, Client, Condition, Error, Event, ExitStatus, JoinableQueue,
    Listener, Lock, Manager, Pool, Process, Queue, RLock, RawArray, RawValue, Region, Semaphore,
    ShareableList, SharedBytes, SimpleQueue, StartMethod, Value,
};
use std::error::Error as StdError;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};
use std::time::Duration;

/// What an operation comes to: anything may be refused, nothing may be wrong.
pub(crate) type Outcome = Result<(), Box<dyn StdError + Send + Sync>>;

pub(crate) struct Operation {
    pub(crate) room: &'static str,
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Outcome,
    /// Descriptors that stay open on purpose.
    pub(crate) keeps: usize,
}

const fn of(room: &'static str, name: &'static str, run: fn() -> Outcome) -> Operation {
    Operation { room, name, run, keeps: 0 }
}

pub(crate) const OPERATIONS: &[Operation] = &[
    of("processes", "spawn", || start(StartMethod::Spawn)),
    of("processes", "fork", || start(StartMethod::Fork)),
    Operation {
        room: "processes",
        name: "forkserver",
        run: || start(StartMethod::ForkServer),
        // The forkserver's pidfd, its lifeline, and two sockets.
        keeps: 4,
    },
    of("processes", "kill", kill),
    of("memory", "region", region),
    of("memory", "sealed bytes", sealed_bytes),
    of("memory", "values and arrays", values),
    of("memory", "handles through a pipe", handles),
    of("synchronisation", "lock", lock),
    of("synchronisation", "recursive lock", recursive_lock),
    of("synchronisation", "semaphore", semaphore),
    of("synchronisation", "owned permits", owned_permits),
    of("synchronisation", "condition", condition),
    of("synchronisation", "event", event),
    of("synchronisation", "barrier", barrier),
    of("named memory", "block", block),
    of("named memory", "list", list),
    of("named memory", "manager", block_manager),
    of("connections", "pipe", pipe),
    of("connections", "one way", one_way),
    of("connections", "descriptors", descriptors),
    of("connections", "unix listener", || listener("unix")),
    of("connections", "abstract listener", || listener("abstract")),
    of("connections", "tcp listener", || listener("tcp")),
    of("connections", "wait", wait),
    of("queues", "queue", queue),
    of("queues", "growth", growth),
    of("queues", "waiting for items", waiting_for_items),
    of("queues", "waiting for room", waiting_for_room),
    of("queues", "handles", queued_handles),
    of("queues", "joinable queue", joinable_queue),
    of("queues", "simple queue", simple_queue),
    of("queues", "channel", channel),
    of("pools", "fork", || pool(StartMethod::Fork)),
    of("pools", "spawn", || pool(StartMethod::Spawn)),
    of("pools", "results as they come", unordered),
    of("pools", "a task that dies", task_that_dies),
    of("managers", "list and dict", containers),
    of("managers", "lock and queue", lock_and_queue),
    of("managers", "another client", another_client),
];

/// Longer than anything takes that goes on at all.
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(10);

/// A thread; unlike `Scope::spawn`, an error where there can be none.
fn thread<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> mp::Result<T> + Send + 'scope,
) -> std::io::Result<ScopedJoinHandle<'scope, mp::Result<T>>> {
    Builder::new().spawn_scoped(scope, body)
}

/// What holds unless something was refused.
fn ensure(holds: bool, otherwise: &'static str) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

// processes --------------------------------------------------------------------------------------

fn start(method: StartMethod) -> Outcome {
    let process = Process::new(|bytes: Vec<u8>| bytes.len() as u32, (vec![0; 40_000],));
    let process = process.stdin(mp::Stdio::Piped).current_dir("/");
    let child = process.start_method(method).daemon(true).start()?;
    // What fails in one wait is not in the way of the next.
    let first = child.wait();
    let status = first.as_ref().map_or_else(|_| child.wait(), |status| Ok(*status))?;
    assert_eq!((child.join()?, status), (40_000, ExitStatus::Exited(0)));
    first.map(drop)?;
    Ok(())
}

fn kill() -> Outcome {
    let child = Process::new(|| std::thread::sleep(LONG), ()).daemon(true).start()?;
    let first = child.kill();
    if first.is_err() {
        child.kill()?;
    }
    let status = child.wait().or_else(|_| child.wait())?;
    // It may have found on its way that something is missing.
    ensure(status == ExitStatus::Killed(9), "another end")?;
    Ok(first?)
}

// memory -----------------------------------------------------------------------------------------

fn region() -> Outcome {
    let region = Region::growable(10_000, 1 << 20)?;
    let other = region.clone();
    other.grow(500_000)?;
    region.write_at(499_990, b"0123456789")?;
    assert_eq!(other.read_at(499_990, 10)?, b"0123456789");
    Ok(())
}

fn sealed_bytes() -> Outcome {
    let bytes = SharedBytes::build(100_000, |bytes| bytes.fill(9))?;
    assert!(bytes.iter().all(|byte| *byte == 9));
    Ok(())
}

fn values() -> Outcome {
    let (value, array) = (Value::new(1u64)?, Array::from_slice(&[1i16, 2, 3])?);
    value.update(|n| *n += 1)?;
    array.lock()?.iter_mut().for_each(|item| *item = -*item);
    assert_eq!((value.get()?, array.to_vec()?), (2, vec![-1, -2, -3]));
    let (raw, items) = (RawValue::new(3u32)?.copy()?, RawArray::from_slice(&[4u8, 5])?.copy()?);
    assert_eq!((raw.fetch_add(1), items.to_vec()), (3, vec![4, 5]));
    Ok(())
}

/// One handle of each kind goes through a pipe, and is what it was.
fn handles() -> Outcome {
    let (a, b) = mp::pipe()?;
    let (lock, value, queue) = (Lock::new()?, Value::new(5u8)?, Queue::<u8>::new()?);
    a.send(&(lock.clone(), value.clone(), queue.clone()))?;
    let (same_lock, same_value, same_queue): (Lock, Value<u8>, Queue<u8>) = b.recv()?;
    let guard = lock.acquire()?;
    assert!(same_lock.try_acquire()?.is_none());
    drop(guard);
    same_value.set(6)?;
    same_queue.put(&7)?;
    assert_eq!((value.get()?, queue.try_get()?), (6, 7));
    Ok(())
}

// synchronisation --------------------------------------------------------------------------------

fn lock() -> Outcome {
    let lock = Lock::new()?;
    scope(|scope| {
        let guard = lock.acquire()?;
        let waiter = thread(scope, || lock.acquire_timeout(LONG).map(|guard| guard.is_some()))?;
        assert!(lock.locked());
        drop(guard);
        assert!(waiter.join().unwrap()?);
        Ok(())
    })
}

fn recursive_lock() -> Outcome {
    let lock = RLock::new()?;
    scope(|scope| {
        let guards = (lock.acquire()?, lock.acquire()?);
        let waiter = thread(scope, || lock.acquire_timeout(LONG).map(|guard| guard.is_some()))?;
        drop(guards);
        assert!(waiter.join().unwrap()?);
        Ok(())
    })
}

fn semaphore() -> Outcome {
    let semaphore = BoundedSemaphore::new(1)?;
    semaphore.acquire()?;
    scope(|scope| {
        let waiter = thread(scope, || semaphore.acquire_timeout(LONG))?;
        assert!(!semaphore.acquire_timeout(SHORT)?);
        semaphore.release()?;
        assert!(waiter.join().unwrap()?);
        Ok(())
    })
}

fn owned_permits() -> Outcome {
    let semaphore = Semaphore::new(2)?;
    scope(|scope| {
        let permits = (semaphore.permit()?, semaphore.permit()?);
        let waiter = thread(scope, || semaphore.permit_timeout(LONG).map(|found| found.is_some()))?;
        drop(permits);
        assert!(waiter.join().unwrap()?);
        Ok::<_, Box<dyn StdError + Send + Sync>>(())
    })?;
    assert_eq!(semaphore.value(), 2);
    Ok(())
}

fn condition() -> Outcome {
    let (condition, value) = (Condition::new()?, RawValue::new(0u32)?);
    scope(|scope| {
        let waiter =
            thread(scope, || condition.acquire()?.wait_for_timeout(|| value.get() == 1, LONG))?;
        let change = || {
            let guard = condition.acquire()?;
            value.set(1);
            guard.notify_all()
        };
        let first = change();
        if first.is_err() {
            change()?;
        }
        assert!(waiter.join().unwrap()?);
        Ok(first?)
    })
}

fn event() -> Outcome {
    let event = Event::new()?;
    assert!(!event.wait_timeout(SHORT)?);
    scope(|scope| {
        let waiter = thread(scope, || event.wait_timeout(LONG))?;
        event.set()?;
        assert!(waiter.join().unwrap()?);
        Ok(())
    })
}

fn barrier() -> Outcome {
    let barrier = Barrier::new(2)?;
    // Who is refused says so to who waits.
    let meet = || barrier.wait_timeout(LONG).inspect_err(|_| drop(barrier.abort()));
    scope(|scope| {
        let other = thread(scope, meet)?;
        let places = (meet(), other.join().unwrap());
        assert_eq!(places.0? + places.1?, 1);
        Ok(())
    })
}

// named memory -----------------------------------------------------------------------------------

fn block() -> Outcome {
    let block = SharedMemory::create(None, 1000)?;
    SharedMemory::attach(block.name())?.write_at(0, b"by name")?;
    let mut read = [0; 7];
    block.read_at(0, &mut read)?;
    assert_eq!(&read, b"by name");
    SharedMemory::reclaim()?;
    block.unlink()?;
    assert!(SharedMemory::attach(block.name()).is_err());
    Ok(())
}

fn list() -> Outcome {
    let list = ShareableList::new(&[1.into(), "two".into()])?;
    ShareableList::attach(list.block().name())?.set(0, &3.into())?;
    assert_eq!((list.get(0)?, list.get(1)?), (3.into(), "two".into()));
    Ok(())
}

fn block_manager() -> Outcome {
    let manager = SharedMemoryManager::new();
    let block = manager.shared_memory(100)?;
    let list = manager.shareable_list(&[1.into()])?;
    block.write_at(0, b"managed")?;
    assert_eq!(list.get(0)?, 1.into());
    Ok(())
}

// connections ------------------------------------------------------------------------------------

fn pipe() -> Outcome {
    let (a, b) = mp::pipe()?;
    let large = vec![7; 1 << 20];
    scope(|scope| {
        let sender = thread(scope, || {
            a.send_bytes(b"small")?;
            a.send_bytes(&large)?;
            a.close();
            Ok(())
        })?;
        let received = (b.recv_bytes(), b.recv_bytes());
        b.close();
        sender.join().unwrap()?;
        assert!(received.0? == b"small" && received.1? == large);
        Ok(())
    })
}

fn one_way() -> Outcome {
    let (reader, writer) = mp::pipe_one_way()?;
    writer.send(&"said".to_string())?;
    assert!(reader.poll(LONG)?);
    assert_eq!(reader.recv::<String>()?, "said");
    writer.close();
    ensure(matches!(reader.recv_bytes(), Err(Error::Eof)), "a failed look")
}

fn descriptors() -> Outcome {
    let (a, b) = mp::pipe()?;
    let file = File::open("/dev/zero")?;
    // More than one message of the kernel's takes.
    let many =
        (0..260).map(|_| file.try_clone().map(OwnedFd::from)).collect::<Result<Vec<_>, _>>()?;
    a.send_fd(file.as_fd())?;
    a.send(&many)?;
    drop(b.recv_fd()?);
    assert_eq!(b.recv::<Vec<OwnedFd>>()?.len(), 260);
    Ok(())
}

fn listener(family: &str) -> Outcome {
    let place = std::env::temp_dir().join("socket");
    let address = match family {
        "unix" => format!("unix:{}", place.display()),
        "abstract" => format!("abstract:multiproc-faults-{}", std::process::id()),
        _ => "tcp:127.0.0.1:0".to_owned(),
    };
    let listener = Listener::builder().authkey("key").bind(address.as_str())?;
    let address = listener.address().to_string();
    scope(|scope| {
        let client = thread(scope, || {
            let builder = Client::builder().authkey("key");
            let connection = builder.connect_timeout(address.as_str(), LONG)?;
            connection.send(&"hello".to_string())
        })?;
        let served = serve(listener, || client.is_finished());
        let client = client.join().unwrap();
        served?;
        Ok(client?)
    })
}

/// Hears one client, or finds that it has gone without having been heard. Then nobody listens any more.
fn serve(listener: Listener, gone: impl Fn() -> bool) -> Outcome {
    loop {
        let last = gone();
        match listener.accept_timeout(SHORT) {
            Ok(connection) => {
                assert_eq!(connection.recv::<String>()?, "hello");
                return Ok(());
            }
            Err(Error::TimeoutError) if !last => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn wait() -> Outcome {
    let (a, b) = mp::pipe()?;
    let queue = Queue::<u8>::new()?;
    assert!(mp::wait(&[&a, &queue], Some(SHORT))?.is_empty());
    queue.put(&1)?;
    b.send(&2u8)?;
    assert_eq!(mp::wait(&[&a, &queue], Some(LONG))?, [0, 1]);
    Ok(())
}

// queues -----------------------------------------------------------------------------------------

fn queue() -> Outcome {
    let queue = Queue::new()?;
    queue.put(&"first".to_string())?;
    let put = queue.put_many(&["second".to_string(), "third".to_string()]);
    assert_eq!((queue.len()?, put?), (3, 2));
    assert_eq!(queue.get()?, "first");
    assert_eq!(queue.get_many(5)?, ["second", "third"]);
    ensure(matches!(queue.get_timeout(SHORT), Err(Error::Empty)), "a failed wait")?;
    queue.close()?;
    ensure(matches!(queue.get(), Err(Error::Closed)), "a failed look")
}

/// What a refused put left out is not there; what was put is.
fn growth() -> Outcome {
    let queue = Queue::<Vec<u8>>::new()?;
    let mut expected = Vec::new();
    let mut refused = None;
    for size in [10, 100_000, 2 << 20, 300_000, 5] {
        match queue.put(&vec![size as u8; size]) {
            Ok(()) => expected.push(size),
            Err(error) => refused = Some(error),
        }
    }
    for size in expected {
        let item = queue.try_get().or_else(|error| {
            refused = Some(error);
            queue.try_get()
        })?;
        assert!(item == vec![size as u8; size]);
    }
    assert!(queue.is_empty()?);
    refused.map_or(Ok(()), |error| Err(error.into()))
}

fn waiting_for_items() -> Outcome {
    let queue = Queue::new()?;
    scope(|scope| {
        let getter = thread(scope, || queue.get_timeout(LONG))?;
        let first = queue.put(&8);
        if first.is_err() {
            queue.put(&8)?;
        }
        assert_eq!(getter.join().unwrap()?, 8);
        Ok(first?)
    })
}

fn waiting_for_room() -> Outcome {
    let queue = Queue::bounded(1)?;
    queue.put(&1)?;
    scope(|scope| {
        let putter = thread(scope, || queue.put_timeout(&2, LONG))?;
        let first = queue.get();
        assert_eq!(first.as_ref().map_or_else(|_| queue.get(), |n| Ok(*n))?, 1);
        putter.join().unwrap()?;
        assert_eq!(queue.get_timeout(LONG)?, 2);
        Ok(first.map(drop)?)
    })
}

fn queued_handles() -> Outcome {
    let queue = Queue::<(u8, Lock, OwnedFd)>::new()?;
    let lock = Lock::new()?;
    for n in 0..3 {
        queue.put(&(n, lock.clone(), File::open("/dev/zero")?.into()))?;
    }
    let guard = lock.acquire()?;
    for n in 0..3 {
        let (number, same, _file) = queue.get()?;
        assert!(number == n && same.try_acquire()?.is_none());
    }
    drop(guard);
    Ok(())
}

fn joinable_queue() -> Outcome {
    let queue = JoinableQueue::new()?;
    queue.put_many(&[1, 2, 3])?;
    scope(|scope| {
        let worker = thread(scope, || {
            for n in 1..=3 {
                assert_eq!(queue.get()?, n);
                queue.task_done()?;
            }
            Ok(())
        })?;
        let joined = loop {
            match queue.join_timeout(SHORT) {
                Err(Error::TimeoutError) if !worker.is_finished() => {}
                joined => break joined,
            }
        };
        worker.join().unwrap()?;
        Ok(joined?)
    })
}

fn simple_queue() -> Outcome {
    let queue = SimpleQueue::new()?;
    queue.put(&"simple".to_string())?;
    assert_eq!(queue.get()?, "simple");
    ensure(matches!(queue.get_timeout(SHORT), Err(Error::Empty)), "a failed wait")
}

fn channel() -> Outcome {
    let (sender, receiver) = mp::channel()?;
    let second = sender.clone();
    sender.send(&1u8)?;
    second.send_many(&[2, 3])?;
    drop((sender, second));
    assert_eq!((receiver.recv()?, receiver.recv_many(9)?), (1, vec![2, 3]));
    ensure(matches!(receiver.recv(), Err(Error::Disconnected)), "a failed look")
}

// pools ------------------------------------------------------------------------------------------

fn square(n: u64) -> u64 {
    n * n
}

fn pool(method: StartMethod) -> Outcome {
    let pool = Pool::builder().processes(2).start_method(method).build()?;
    let mapped = pool.map(square, 0..20);
    let applied = pool.apply(|text: String| text.len(), ("four".to_string(),));
    pool.close();
    pool.join()?;
    assert_eq!((mapped?, applied?), ((0..20).map(square).collect(), 4));
    Ok(())
}

fn unordered() -> Outcome {
    let pool = Pool::new(2)?;
    let mut squares = pool.imap_unordered(square, 0..20).collect::<Result<Vec<_>, _>>()?;
    squares.sort_unstable();
    assert_eq!(squares, (0..20).map(square).collect::<Vec<_>>());
    let endless = pool.apply_async(|| std::thread::sleep(LONG), ())?;
    ensure(matches!(endless.get_timeout(SHORT), Err(Error::TimeoutError)), "a worker lost")
}

fn task_that_dies() -> Outcome {
    let pool = Pool::new(1)?;
    match pool.apply(|| std::process::abort(), ()) {
        Err(Error::WorkerDied { .. }) => {}
        Ok(()) => panic!("it cannot come back"),
        Err(error) => return Err(error.into()),
    }
    assert_eq!(pool.apply(square, (3,))?, 9);
    Ok(())
}

// managers ---------------------------------------------------------------------------------------

fn containers() -> Outcome {
    let manager = Manager::start()?;
    let (list, dict): (ListProxy<i32>, DictProxy<String, i32>) =
        (manager.list([1, 2, 3])?, manager.dict()?);
    list.append(4)?;
    dict.insert("five".into(), 5)?;
    assert_eq!((list.to_vec()?, dict.get(&"five".into())?), (vec![1, 2, 3, 4], Some(5)));
    Ok(manager.shutdown()?)
}

fn lock_and_queue() -> Outcome {
    let manager = Manager::start()?;
    let (lock, queue) = (manager.lock()?, manager.queue::<u8>(0)?);
    let guard = lock.acquire()?;
    queue.put(9)?;
    assert_eq!(queue.get()?, 9);
    drop(guard);
    assert!(lock.acquire_timeout(LONG)?.is_some());
    Ok(())
}

fn another_client() -> Outcome {
    let manager = Manager::builder().authkey("key").start()?;
    let value = manager.value(7u32)?;
    let other = Manager::connect(manager.address(), b"key")?;
    assert!(other.number_of_objects()? >= 1);
    value.set(8)?;
    assert_eq!(value.get()?, 8);
    Ok(())
}
