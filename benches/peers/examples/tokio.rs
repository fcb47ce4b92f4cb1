//! A queue and a channel that children put into, emptied by tasks of a tokio runtime with one thread.
//!
//! The runtime waits for their descriptors; no thread is blocked in a `get`, so the third task goes on too.

use multiproc::{Error, Process, Queue, Receiver, Sender, channel};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const EACH: u64 = 20_000;

/// How often the third task ran.
static TICKS: AtomicU32 = AtomicU32::new(0);

fn watch(fd: BorrowedFd<'_>) -> std::io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the borrow keeps the descriptor open, and what it leads to, for the life of the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Calls `try_get` whenever there may be something to get, until it gives anything but [`Error::Empty`].
async fn when_ready<T>(
    readable: &AsyncFd<BorrowedFd<'_>>,
    mut try_get: impl FnMut() -> multiproc::Result<T>,
) -> std::io::Result<multiproc::Result<T>> {
    loop {
        // A queue that is never empty would keep the other tasks waiting.
        tokio::task::consume_budget().await;
        let mut guard = readable.readable().await?;
        match try_get() {
            // The attempt has made the descriptor silent, until the next item.
            Err(Error::Empty) => guard.clear_ready(),
            outcome => return Ok(outcome),
        }
    }
}

fn produce(queue: Queue<u64>) -> multiproc::Result<()> {
    (0..EACH).try_for_each(|n| queue.put(&n))
}

fn send(sender: Sender<String>) -> multiproc::Result<()> {
    (0..EACH).try_for_each(|n| sender.send(&n.to_string()))
}

/// The sum of `count` items of a queue.
async fn sum(queue: &Queue<u64>, count: u64) -> Outcome<u64> {
    let readable = watch(queue.readiness()?)?;
    let mut sum = 0;
    for _ in 0..count {
        sum += when_ready(&readable, || queue.try_get()).await??;
    }
    Ok(sum)
}

/// How many items come until the last sender is gone.
async fn count(receiver: &Receiver<String>) -> Outcome<u64> {
    let readable = watch(receiver.readiness()?)?;
    let mut count = 0;
    loop {
        match when_ready(&readable, || receiver.try_recv()).await? {
            Ok(_) => count += 1,
            Err(Error::Disconnected) => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn tick() {
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        TICKS.fetch_add(1, Relaxed);
    }
}

fn main() -> Outcome<()> {
    multiproc::init();
    let queue = Queue::new()?;
    let (sender, receiver) = channel()?;
    let producers = [(); 2].map(|()| Process::new(produce, (queue.clone(),)).start());
    let talker = Process::new(send, (sender,)).start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.spawn(tick());
    let (sum, count) =
        runtime.block_on(async { tokio::join!(sum(&queue, 2 * EACH), count(&receiver)) });
    assert_eq!(sum?, EACH * (EACH - 1));
    assert_eq!(count?, EACH);
    for producer in producers {
        producer?.join()??;
    }
    talker.join()??;
    println!("{} items, {} ticks meanwhile", 3 * EACH, TICKS.load(Relaxed));
    Ok(())
}
