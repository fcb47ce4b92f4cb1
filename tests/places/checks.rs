//! What every room must do wherever the program runs: the least that its users count on.

use multiproc as mp;
use multiproc::shared_memory::SharedMemory;
use multiproc::{
    Array, Barrier, Client, Condition, Connection, Error, Event, JoinableQueue, Listener, Lock,
    Manager, Pool, Process, Queue, RLock, RawValue, Region, Semaphore, ShareableList, SharedBytes,
    SimpleQueue, StartMethod, Value,
};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

type Check = fn() -> mp::Result<()>;

/// A part of the library, and what is tried of it.
pub(crate) struct Room {
    pub(crate) name: &'static str,
    pub(crate) checks: &'static [(&'static str, Check)],
}

pub(crate) const ROOMS: &[Room] = &[
    Room {
        name: "processes",
        checks: &[
            ("spawn", || a_child(StartMethod::Spawn)),
            ("fork", || a_child(StartMethod::Fork)),
            ("forkserver", || a_child(StartMethod::ForkServer)),
            ("panic", panic),
            ("kill", kill),
            ("standard output", standard_output),
        ],
    },
    Room {
        name: "connections",
        checks: &[
            ("pipe", pipe),
            ("descriptors", descriptors),
            ("abstract name", || listener("abstract:")),
            ("tcp", || listener("tcp:127.0.0.1:0")),
            ("wait", wait),
        ],
    },
    Room {
        name: "queues",
        checks: &[
            ("queue", queue),
            ("large messages", large_messages),
            ("putter killed", putter_killed),
            ("joinable queue", joinable_queue),
            ("simple queue", simple_queue),
            ("channel", channel),
        ],
    },
    Room {
        name: "synchronisation",
        checks: &[
            ("lock", lock),
            ("recursive lock", recursive_lock),
            ("semaphore", semaphore),
            ("condition", condition),
            ("event", event),
            ("barrier", barrier),
            ("timeouts", timeouts),
        ],
    },
    Room {
        name: "shared memory",
        checks: &[("values", values), ("regions", regions), ("sealed bytes", sealed_bytes)],
    },
    Room { name: "named memory", checks: &[("block", block), ("list", list)] },
    Room {
        name: "pools",
        checks: &[
            ("spawn", || pool(StartMethod::Spawn)),
            ("fork", || pool(StartMethod::Fork)),
            ("forkserver", || pool(StartMethod::ForkServer)),
            ("worker killed", worker_killed),
        ],
    },
    Room { name: "managers", checks: &[("objects", objects), ("owner killed", holder_of_managed)] },
];

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

fn die() {
    // SIGABRT will do: nothing of the library runs between it and the end.
    std::process::abort();
}

fn started<F, A, R>(target: F, arguments: A) -> mp::Result<mp::Child<R>>
where
    F: mp::Target<A, R>,
    A: mp::Encode + mp::Decode + 'static,
    R: mp::Encode + mp::Decode + 'static,
{
    Process::new(target, arguments).start()
}

// processes --------------------------------------------------------------------------------------

fn a_child(method: StartMethod) -> mp::Result<()> {
    let child = Process::new(|a: u32, b: u32| a + b, (2, 3)).start_method(method).start()?;
    assert_ne!(child.pid(), std::process::id());
    assert_eq!(child.join()?, 5);
    Ok(())
}

fn panic() -> mp::Result<()> {
    let target = |message: String| {
        std::panic::set_hook(Box::new(|_| {}));
        assert!(message.is_empty(), "{message}");
    };
    match started(target, ("as it should".to_string(),))?.join() {
        Err(Error::Panicked { message, .. }) => assert_eq!(message, "as it should"),
        // With panic = "abort" a child that panics is a child that was killed.
        Err(Error::Killed { .. }) if cfg!(panic = "abort") => {}
        other => panic!("{other:?}"),
    }
    Ok(())
}

fn kill() -> mp::Result<()> {
    let child = started(|| std::thread::sleep(LONG), ())?;
    assert!(child.is_alive());
    child.kill()?;
    assert!(matches!(child.join(), Err(Error::Killed { signal: 9 })));
    Ok(())
}

fn standard_output() -> mp::Result<()> {
    let speak = || println!("spoken");
    let mut child = Process::new(speak, ()).stdout(mp::process::Stdio::Piped).start()?;
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "spoken\n");
    child.join()
}

// connections ------------------------------------------------------------------------------------

fn echo(connection: Connection) -> mp::Result<()> {
    loop {
        match connection.recv_bytes() {
            Ok(bytes) => connection.send_bytes(&bytes)?,
            Err(Error::Eof) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn pipe() -> mp::Result<()> {
    let (ours, theirs) = mp::pipe()?;
    let child = started(echo, (theirs,))?;
    for len in [0, 1, 4096, 1 << 20] {
        let bytes = vec![7; len];
        ours.send_bytes(&bytes)?;
        assert!(ours.recv_bytes()? == bytes);
    }
    ours.close();
    child.join()?
}

fn descriptors() -> mp::Result<()> {
    let (ours, theirs) = mp::pipe()?;
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let child: mp::Child<mp::Result<()>> = started(
        |connection: Connection| {
            let mut writer = UnixStream::from(connection.recv_fd()?);
            writer.write_all(b"through the descriptor").unwrap();
            Ok(())
        },
        (theirs,),
    )?;
    ours.send_fd(writer.as_fd())?;
    drop(writer);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said, "through the descriptor");
    child.join()?
}

fn listener(address: &str) -> mp::Result<()> {
    let address = match address {
        "abstract:" => format!("abstract:multiproc-places-{}", std::process::id()),
        other => other.to_owned(),
    };
    let listener = Listener::builder().authkey("key").bind(address.as_str())?;
    let dial = |address: String| {
        let connection = Client::builder().authkey("key").connect(address.as_str())?;
        connection.send(&"hello".to_string())
    };
    let child = started(dial, (listener.address().to_string(),))?;
    let connection = listener.accept_timeout(LONG)?;
    assert_eq!(connection.recv::<String>()?, "hello");
    child.join()?
}

fn wait() -> mp::Result<()> {
    let (ours, theirs) = mp::pipe()?;
    let queue = Queue::<u8>::new()?;
    assert!(mp::wait(&[&ours, &queue], Some(SHORT))?.is_empty());
    queue.put(&1)?;
    assert_eq!(mp::wait(&[&ours, &queue], Some(LONG))?, [1]);
    theirs.send(&2u8)?;
    assert_eq!(mp::wait(&[&ours, &queue], Some(LONG))?, [0, 1]);
    Ok(())
}

// queues -----------------------------------------------------------------------------------------

fn queue() -> mp::Result<()> {
    let queue = Queue::new()?;
    let put = |queue: Queue<u64>| (0..1000).try_for_each(|n| queue.put(&n));
    let child = started(put, (queue.clone(),))?;
    for n in 0..1000 {
        assert_eq!(queue.get()?, n);
    }
    assert!(matches!(queue.get_timeout(SHORT), Err(Error::Empty)));
    child.join()?
}

fn large_messages() -> mp::Result<()> {
    let queue = Queue::<Vec<u8>>::builder().max_bytes(8 << 20).build()?;
    let put =
        |queue: Queue<Vec<u8>>| (0..8).try_for_each(|n| queue.put(&vec![n; 1 << (2 * n + 6)]));
    let child = started(put, (queue.clone(),))?;
    for n in 0..8 {
        assert!(queue.get()? == vec![n; 1 << (2 * n + 6)]);
    }
    child.join()?
}

fn putter_killed() -> mp::Result<()> {
    let queue = Queue::<u64>::new()?;
    let put = |queue: Queue<u64>| {
        for n in 0.. {
            queue.put(&n).unwrap();
        }
    };
    let child = started(put, (queue.clone(),))?;
    assert_eq!(queue.get()?, 0);
    child.kill()?;
    assert!(matches!(child.join(), Err(Error::Killed { signal: 9 })));
    let mut expected = 1;
    while let Ok(n) = queue.try_get() {
        assert_eq!(n, expected);
        expected += 1;
    }
    queue.put(&7)?;
    assert_eq!(queue.get()?, 7);
    Ok(())
}

fn joinable_queue() -> mp::Result<()> {
    let queue = JoinableQueue::<u32>::new()?;
    let work = |queue: JoinableQueue<u32>| {
        for _ in 0..10 {
            queue.get()?;
            queue.task_done()?;
        }
        Ok(())
    };
    let child = started(work, (queue.clone(),))?;
    (0..10).try_for_each(|n| queue.put(&n))?;
    queue.join()?;
    child.join()?
}

fn simple_queue() -> mp::Result<()> {
    let queue = SimpleQueue::<String>::new()?;
    let child =
        started(|queue: SimpleQueue<String>| queue.put(&"simple".into()), (queue.clone(),))?;
    assert_eq!(queue.get()?, "simple");
    child.join()?
}

fn channel() -> mp::Result<()> {
    let (sender, receiver) = mp::channel::<u8>()?;
    let send = |sender: mp::Sender<u8>| {
        sender.send(&1)?;
        die();
        Ok(())
    };
    let child: mp::Child<mp::Result<()>> = started(send, (sender,))?;
    assert_eq!(receiver.recv()?, 1);
    assert!(matches!(receiver.recv(), Err(Error::Disconnected)));
    assert!(matches!(child.join(), Err(Error::Killed { .. })));
    Ok(())
}

// synchronisation --------------------------------------------------------------------------------

fn lock() -> mp::Result<()> {
    let lock = Lock::new()?;
    let hold = |lock: Lock| {
        std::mem::forget(lock.acquire()?);
        die();
        Ok(())
    };
    let child: mp::Child<mp::Result<()>> = started(hold, (lock.clone(),))?;
    assert!(matches!(child.join(), Err(Error::Killed { .. })));
    assert!(lock.acquire_timeout(LONG)?.unwrap().owner_died());
    assert!(!lock.acquire()?.owner_died());
    Ok(())
}

fn recursive_lock() -> mp::Result<()> {
    let lock = RLock::new()?;
    let first = lock.acquire()?;
    let second = lock.acquire()?;
    let attempt = |lock: RLock| Ok(lock.acquire_timeout(SHORT)?.is_none());
    let attempted: mp::Result<bool> = started(attempt, (lock.clone(),))?.join()?;
    assert!(attempted?);
    drop((first, second));
    let attempted: mp::Result<bool> = started(attempt, (lock.clone(),))?.join()?;
    assert!(!attempted?);
    Ok(())
}

fn semaphore() -> mp::Result<()> {
    let semaphore = Semaphore::new(1)?;
    let take = |semaphore: Semaphore| {
        std::mem::forget(semaphore.permit()?);
        die();
        Ok(())
    };
    let child: mp::Child<mp::Result<()>> = started(take, (semaphore.clone(),))?;
    assert!(matches!(child.join(), Err(Error::Killed { .. })));
    assert!(semaphore.permit_timeout(LONG)?.is_some());
    Ok(())
}

fn condition() -> mp::Result<()> {
    let (condition, value) = (Condition::new()?, RawValue::new(0u32)?);
    let change = |condition: Condition, value: RawValue<u32>| {
        let guard = condition.acquire()?;
        value.set(1);
        guard.notify_all()
    };
    let mut guard = condition.acquire()?;
    let child = started(change, (condition.clone(), value.clone()))?;
    assert!(guard.wait_for_timeout(|| value.get() == 1, LONG)?);
    drop(guard);
    child.join()?
}

fn event() -> mp::Result<()> {
    let event = Event::new()?;
    let child = started(|event: Event| event.set(), (event.clone(),))?;
    assert!(event.wait_timeout(LONG)?);
    child.join()?
}

fn barrier() -> mp::Result<()> {
    let barrier = Barrier::new(3)?;
    let meet = |barrier: Barrier| barrier.wait_timeout(LONG);
    let children = [started(meet, (barrier.clone(),))?, started(meet, (barrier.clone(),))?];
    let mut places = vec![barrier.wait_timeout(LONG)?];
    for child in children {
        places.push(child.join()??);
    }
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2]);
    Ok(())
}

fn timeouts() -> mp::Result<()> {
    let start = std::time::Instant::now();
    let semaphore = Semaphore::new(0)?;
    assert!(!semaphore.acquire_timeout(SHORT)?);
    assert!(!Event::new()?.wait_timeout(SHORT)?);
    let lock = Lock::new()?;
    let guard = lock.acquire()?;
    let attempt = |lock: Lock| Ok(lock.acquire_timeout(SHORT)?.is_none());
    let timed_out: mp::Result<bool> = started(attempt, (lock.clone(),))?.join()?;
    assert!(timed_out?);
    drop(guard);
    // None came too early; that none waits for ever is for the runner to see.
    assert!(start.elapsed() >= 3 * SHORT);
    Ok(())
}

// shared memory ----------------------------------------------------------------------------------

fn values() -> mp::Result<()> {
    let (value, array) = (Value::new(0u64)?, Array::from_slice(&[1i16, 2, 3])?);
    let change = |value: Value<u64>, array: Array<i16>| {
        value.update(|n| *n += 1)?;
        array.lock()?.iter_mut().for_each(|item| *item = -*item);
        Ok(())
    };
    let children = [0, 1].map(|_| started(change, (value.clone(), array.clone())));
    for child in children {
        let changed: mp::Result<()> = child?.join()?;
        changed?;
    }
    assert_eq!((value.get()?, array.to_vec()?), (2, vec![1, 2, 3]));
    Ok(())
}

fn regions() -> mp::Result<()> {
    let region = Region::new(100_000)?;
    let write = |region: Region| region.write_at(99_990, b"0123456789");
    let written: mp::Result<()> = started(write, (region.clone(),))?.join()?;
    written?;
    assert_eq!(region.read_at(99_990, 10)?, b"0123456789");
    Ok(())
}

fn sealed_bytes() -> mp::Result<()> {
    let bytes = SharedBytes::try_from(vec![9; 100_000])?;
    let sum = |bytes: SharedBytes| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    assert_eq!(started(sum, (bytes,))?.join()?, 900_000);
    Ok(())
}

// named memory -----------------------------------------------------------------------------------

fn block() -> mp::Result<()> {
    let block = SharedMemory::create(None, 1000)?;
    let write = |name: String| SharedMemory::attach(&name)?.write_at(0, b"by name");
    let written: mp::Result<()> = started(write, (block.name().to_string(),))?.join()?;
    written?;
    let mut read = [0; 7];
    block.read_at(0, &mut read)?;
    assert_eq!(&read, b"by name");
    block.unlink()
}

fn list() -> mp::Result<()> {
    let list = ShareableList::new(&[1.into(), "two".into()])?;
    let change = |name: String| ShareableList::attach(&name)?.set(0, &3.into());
    let changed: mp::Result<()> = started(change, (list.block().name().to_string(),))?.join()?;
    changed?;
    assert_eq!(list.get(0)?, 3.into());
    list.block().unlink()
}

// pools ------------------------------------------------------------------------------------------

fn pool(method: StartMethod) -> mp::Result<()> {
    let pool = Pool::builder().processes(2).start_method(method).build()?;
    let squares: Vec<u64> = (0..100).map(|n| n * n).collect();
    assert_eq!(pool.map(|n: u64| n * n, 0..100)?, squares);
    assert_eq!(pool.apply(|a: String| a.len(), ("four".to_string(),))?, 4);
    pool.close();
    pool.join()
}

fn worker_killed() -> mp::Result<()> {
    let pool = Pool::new(2)?;
    match pool.apply(die, ()) {
        Err(Error::WorkerDied { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(pool.map(|n: u64| n + 1, 0..10)?, (1..11).collect::<Vec<_>>());
    Ok(())
}

// managers ---------------------------------------------------------------------------------------

fn objects() -> mp::Result<()> {
    let manager = Manager::start()?;
    let (list, dict) = (manager.list([1, 2, 3])?, manager.dict::<String, i32>()?);
    let fill = |list: mp::manager::ListProxy<i32>, dict: mp::manager::DictProxy<String, i32>| {
        list.append(4)?;
        dict.insert("five".into(), 5).map(drop)
    };
    started(fill, (list.clone(), dict.clone()))?.join()??;
    assert_eq!(list.len()?, 4);
    assert_eq!(dict.get(&"five".into())?, Some(5));
    manager.shutdown()
}

fn holder_of_managed() -> mp::Result<()> {
    let manager = Manager::start()?;
    let lock = manager.lock()?;
    let hold = |lock: mp::manager::LockProxy| {
        std::mem::forget(lock.acquire()?);
        die();
        Ok(())
    };
    let child: mp::Child<mp::Result<()>> = started(hold, (lock.clone(),))?;
    assert!(matches!(child.join(), Err(Error::Killed { .. })));
    assert!(lock.acquire_timeout(LONG)?.is_some());
    Ok(())
}
