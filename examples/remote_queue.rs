//! A queue that programs on several machines share: one serves it, others put and get.
//!
//! ```text
//! cargo run --release --example remote_queue -- serve tcp:0.0.0.0:4000
//! cargo run --release --example remote_queue -- consume tcp:HOST:4000 [COUNT]
//! cargo run --release --example remote_queue -- produce tcp:HOST:4000 1000
//! ```
//!
//! All of them need the same key, in the environment variable `QUEUE_KEY`. What travels can be read by
//! whoever carries it: over a network that is not yours, use a tunnel.

use multiproc::manager::{List, ListProxy, Queue, QueueProxy};
use multiproc::{Error, Manager, Result};
use std::time::Duration;

multiproc::message! {
    /// What producers send.
    #[derive(Debug)]
    struct Job {
        number: u64,
        from: String,
    }
}

/// How long a consumer waits for the next job before it thinks that there will be none.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    multiproc::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let key = std::env::var("QUEUE_KEY").unwrap_or_default();
    if key.is_empty() {
        return Err(Error::InvalidArgument { reason: "QUEUE_KEY is not set".into() });
    }
    match arguments[..] {
        ["serve", address] => serve(address, &key),
        ["produce", address, count] => produce(&find(address, &key)?, count.parse().unwrap_or(1)),
        ["consume", address] => consume(address, &key, u64::MAX),
        ["consume", address, count] => consume(address, &key, count.parse().unwrap_or(u64::MAX)),
        _ => {
            let reason = "serve ADDRESS | produce ADDRESS COUNT | consume ADDRESS [COUNT]".into();
            Err(Error::InvalidArgument { reason })
        }
    }
}

fn serve(address: &str, key: &str) -> Result<()> {
    let server = Manager::builder()
        .address(address)
        .authkey(key)
        .register("jobs", || Queue::<Job>::bounded(100))
        .register("consumers", || List::<String>::from(Vec::new()))
        .server()?;
    println!("serving at {}", server.address());
    server.serve_forever()
}

/// The proxy stays connected when the manager goes.
fn find(address: &str, key: &str) -> Result<QueueProxy<Job>> {
    Manager::connect(address, key.as_bytes())?.get("jobs")
}

fn produce(jobs: &QueueProxy<Job>, count: u64) -> Result<()> {
    for number in 0..count {
        jobs.put(Job { number, from: format!("process {}", std::process::id()) })?;
    }
    println!("put {count}");
    Ok(())
}

fn consume(address: &str, key: &str, most: u64) -> Result<()> {
    let manager = Manager::connect(address, key.as_bytes())?;
    let jobs: QueueProxy<Job> = manager.get("jobs")?;
    let consumers: ListProxy<String> = manager.get("consumers")?;
    consumers.append(format!("process {}", std::process::id()))?;
    let mut count = 0u64;
    while count < most {
        match jobs.get_timeout(PATIENCE) {
            Ok(job) => {
                count += 1;
                if job.number % 1000 == 0 {
                    println!("{} from {}", job.number, job.from);
                }
                jobs.task_done()?;
            }
            Err(Error::Empty) => break,
            Err(error) => return Err(error),
        }
    }
    println!("got {count}");
    Ok(())
}
