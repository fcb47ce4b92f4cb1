//! The accidents with this library.

use multiproc::{
    Decode, Decoder, Encode, Encoder, Error, JoinableQueue, Lock, Manager, Pool, Process, Queue,
    Result, SharedMemory, StartMethod,
};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What became of it; an error is not what should.
pub(crate) type Told = std::result::Result<String, Box<dyn std::error::Error>>;

/// Longer than an accident may take.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn die() {
    kill(std::process::id());
    sleep(FOR_EVER);
}

fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
}

/// What should not have happened.
fn wrong(what: impl std::fmt::Debug) -> Box<dyn std::error::Error> {
    format!("{what:?}").into()
}

fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

pub(crate) fn worker_killed() -> Told {
    let pool = Pool::new(2)?;
    match pool.apply(die, ()) {
        Err(Error::WorkerDied { .. }) => {}
        other => return Err(wrong(other)),
    }
    pool.apply(|| (), ())?;
    Ok("the task fails with `WorkerDied`, the pool works on".into())
}

fn pool_without_idle_workers() -> Result<Pool> {
    let pool = Pool::new(2)?;
    pool.apply(|| (), ())?;
    pool.snapshot().workers.iter().for_each(|worker| kill(worker.pid));
    Ok(pool)
}

pub(crate) fn idle_workers_killed() -> Told {
    let pool = pool_without_idle_workers()?;
    assert_eq!(pool.apply(|text: String| text.len(), ("four".into(),))?, 4);
    Ok("they are replaced, tasks are done".into())
}

pub(crate) fn terminated_after_that() -> Told {
    let pool = pool_without_idle_workers()?;
    pool.terminate();
    pool.join()?;
    Ok("it ends".into())
}

/// A value that goes out and does not come in.
struct OneWay;

impl Encode for OneWay {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        1u8.encode(encoder);
    }
}

impl Decode for OneWay {
    fn decode(decoder: &mut Decoder<'_>) -> Result<OneWay> {
        // More than was put in.
        decoder.bytes(1000).map(|_| OneWay)
    }
}

pub(crate) fn answer_not_rebuilt() -> Told {
    let pool = Pool::new(2)?;
    match pool.apply(|| OneWay, ()) {
        Err(Error::Decode { .. }) => {}
        Err(other) => return Err(other.into()),
        Ok(_) => return Err(wrong("it was rebuilt")),
    }
    pool.apply(|| (), ())?;
    Ok("the task fails with `Decode`, the pool works on".into())
}

pub(crate) fn joined_before_read() -> Told {
    let queue = Queue::new()?;
    let put = |queue: Queue<Vec<u8>>| queue.put(&vec![0; 1 << 20]);
    Process::new(put, (queue.clone(),)).start()?.join()??;
    assert_eq!(queue.get()?.len(), 1 << 20);
    Ok("the child has ended, the item is there".into())
}

pub(crate) fn holder_killed() -> Told {
    let lock = Lock::new()?;
    let hold = |lock: Lock| -> Result<()> {
        let _guard = lock.acquire()?;
        die();
        Ok(())
    };
    let ended = Process::new(hold, (lock.clone(),)).start()?.join();
    assert!(matches!(ended, Err(Error::Killed { signal: 9 })), "{ended:?}");
    if lock.acquire()?.owner_died() {
        Ok("the next one acquires it and is told".into())
    } else {
        Err(wrong("the next one was not told"))
    }
}

pub(crate) fn sibling_alive() -> Told {
    let (reader, writer) = multiproc::pipe_one_way()?;
    let _sibling = Process::new(|| sleep(FOR_EVER), ()).daemon(true).start()?;
    drop(writer);
    match reader.recv_bytes() {
        Err(Error::Eof) => Ok("the reader is told of the end".into()),
        other => Err(wrong(other)),
    }
}

/// Told to a child, which then exits before it calls `init`.
pub(crate) const EXIT: &str = "SCOREBOARD_EXIT";

pub(crate) fn exits_before() -> Told {
    let gone = Process::new(|| (), ()).env(EXIT, "3").start()?.join();
    match gone {
        Err(Error::NotStarted { .. }) => Ok("`join` says that it exited before `init`".into()),
        other => Err(wrong(other)),
    }
}

pub(crate) fn never_joined() -> Told {
    for _ in 0..50 {
        drop(Process::new(|| (), ()).start_method(StartMethod::ForkServer).start()?);
    }
    let end = Instant::now() + Duration::from_secs(5);
    while multiproc::active_children().iter().any(|child| is_alive(child.pid())) {
        if Instant::now() > end {
            return Err(wrong("some live on"));
        }
        sleep(Duration::from_millis(10));
    }
    let own = std::process::id().to_string();
    let children = std::fs::read_dir("/proc").map_err(wrong)?.flatten().filter(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        fields.starts_with("Z ") && fields.split(' ').nth(1) == Some(&own)
    });
    Ok(format!("{} zombies are left", children.count()))
}

pub(crate) fn busy_pool() -> Told {
    let pool = Pool::new(1)?;
    let _busy = pool.apply_async(|| sleep(FOR_EVER), ())?;
    let _large = pool.apply_async(|bytes: Vec<u8>| bytes.len(), (vec![0; 4 << 20],))?;
    pool.terminate();
    pool.join()?;
    Ok("it ends".into())
}

pub(crate) fn many_handles() -> Told {
    let (ours, theirs) = multiproc::pipe()?;
    let count = |connection: multiproc::Connection| -> Result<()> {
        for _ in 0..2 {
            let handles = connection.recv::<Vec<multiproc::Connection>>()?;
            connection.send(&handles.len())?;
        }
        Ok(())
    };
    let child = Process::new(count, (theirs,)).start()?;
    for count in [65, 300] {
        let pipes: Vec<_> = (0..count).map(|_| multiproc::pipe_one_way()).collect::<Result<_>>()?;
        let handles: Vec<_> = pipes.into_iter().map(|(reader, _)| reader).collect();
        ours.send(&handles)?;
        assert_eq!(ours.recv::<usize>()?, count);
    }
    child.join()??;
    Ok("they arrive".into())
}

pub(crate) fn nobody_reads() -> Told {
    let put = || Queue::new()?.put(&vec![0u8; 1 << 20]);
    Process::new(put, ()).start()?.join()??;
    Ok("it exits".into())
}

pub(crate) fn producer_killed() -> Told {
    let queue = Queue::<Vec<u8>>::builder().max_bytes(1 << 30).build()?;
    let put = |queue: Queue<Vec<u8>>| -> Result<()> {
        loop {
            queue.put(&vec![1; 64 << 20])?;
        }
    };
    let child = Process::new(put, (queue.clone(),)).start()?;
    sleep(Duration::from_millis(100));
    child.kill()?;
    let _ = child.join();
    let after = |queue: Queue<Vec<u8>>| queue.put(&vec![2]);
    Process::new(after, (queue.clone(),)).start()?.join()??;
    let mut whole = 0;
    while queue.get()? != [2] {
        whole += 1;
    }
    Ok(format!(
        "{}, the queue works on",
        match whole {
            0 => "nothing of it arrives".to_string(),
            whole => format!("its {whole} messages before arrive whole"),
        }
    ))
}

pub(crate) fn owner_killed() -> Told {
    let names = Queue::new()?;
    let own = |names: Queue<String>| -> Result<()> {
        let block = SharedMemory::create(None, 1000)?;
        names.put(&block.name().to_string())?;
        die();
        Ok(())
    };
    let _ = Process::new(own, (names.clone(),)).start()?.join();
    let name = names.get()?;
    SharedMemory::reclaim()?;
    match SharedMemory::attach(&name) {
        Err(_) => Ok("its name goes with the next block, or by `reclaim`".into()),
        Ok(_) => Err(wrong("its name is left")),
    }
}

pub(crate) fn server_killed() -> Told {
    let manager = Manager::start()?;
    let dict = manager.dict::<String, i32>()?;
    kill(manager.pid()?);
    match dict.insert("one".into(), 1) {
        Err(error) => Ok(format!("calls fail: {error}")),
        Ok(_) => Err(wrong("the call was answered")),
    }
}

pub(crate) fn parent_killed() -> Told {
    let pids = JoinableQueue::<Vec<u32>>::new()?;
    let parent = |pids: JoinableQueue<Vec<u32>>| -> Result<()> {
        let pool = Pool::new(2)?;
        pool.apply(|| (), ())?;
        pids.put(&pool.snapshot().workers.iter().map(|worker| worker.pid).collect())?;
        die();
        Ok(())
    };
    let _ = Process::new(parent, (pids.clone(),)).start()?.join();
    let pids = pids.get()?;
    sleep(Duration::from_secs(1));
    let left = pids.iter().filter(|pid| is_alive(**pid)).count();
    match left {
        0 => Ok(format!("its {} workers are gone", pids.len())),
        left => Err(wrong(format!("{left} of {} workers live on", pids.len()))),
    }
}
