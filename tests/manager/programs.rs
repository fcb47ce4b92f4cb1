//! Programs that are not each other's: the example `remote_queue` here, and on two hosts.

use super::PATIENCE;
use super::hosts::{ADDRESSES, Hosts};
use super::support::watchdog;
use multiproc::manager::{ListProxy, QueueProxy};
use multiproc::{Error, Manager};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

const KEY: &str = "of the test";

/// `cargo test` builds all examples; `cargo test --test manager` alone does not, and may find one of an
/// earlier day, which is another program than the sources tell.
fn example() -> Option<PathBuf> {
    let own = std::env::current_exe().unwrap();
    let path = own.parent()?.parent()?.join("examples/remote_queue");
    let Ok(built) = path.metadata().and_then(|file| file.modified()) else {
        println!("skipped: {} is not built: cargo build --example remote_queue", path.display());
        return None;
    };
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own_source = home.join("examples/remote_queue.rs").metadata();
    let own_change = own_source.and_then(|file| file.modified()).ok();
    let changed = last_change(&home.join("src")).max(own_change);
    if changed.is_some_and(|changed| changed > built) {
        println!("skipped: {} is old: cargo build --example remote_queue", path.display());
        return None;
    }
    Some(path)
}

/// When a file under `folder` was changed last; none where there are no sources.
fn last_change(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?;
    let change = |entry: std::fs::DirEntry| {
        let about = entry.metadata().ok()?;
        if about.is_dir() { last_change(&entry.path()) } else { about.modified().ok() }
    };
    entries.flatten().filter_map(change).max()
}

/// A program that is ended when the test is.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Running {
        let command = command.env("QUEUE_KEY", KEY).stdin(Stdio::null()).stdout(Stdio::piped());
        Running(command.spawn().unwrap())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line
    }

    /// All that it says until its end.
    fn rest(mut self) -> String {
        let said = std::io::read_to_string(self.0.stdout.take().unwrap()).unwrap();
        self.finish();
        said
    }

    fn finish(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server, and says where it listens.
fn serve(mut command: Command, address: &str) -> (Running, String) {
    command.args(["serve", address]);
    let mut server = Running::start(command);
    let line = server.line();
    let address = line.trim().strip_prefix("serving at ").expect("an address").to_owned();
    (server, address)
}

#[test]
fn another_program_uses_registered_objects_of_the_same_interface() {
    let _watchdog = watchdog(PATIENCE);
    let Some(example) = example() else { return };
    let (_server, address) = serve(Command::new(&example), "tcp:127.0.0.1:0");
    let manager = Manager::connect(&address[..], KEY.as_bytes()).unwrap();
    let consumers: ListProxy<String> = manager.get("consumers").unwrap();
    consumers.append("the test".into()).unwrap();
    assert_eq!(consumers.to_string(), "['the test']");

    let mismatch = manager.get::<QueueProxy<u32>>("jobs").unwrap_err();
    let text = mismatch.to_string();
    assert!(matches!(mismatch, Error::InterfaceMismatch { .. }));
    assert!(text.contains("Queue<u32>") && text.contains("remote_queue::Job"), "{text}");

    // Functions are the program's own.
    assert!(matches!(consumers.sort(), Err(Error::DifferentExecutable)));
    assert!(matches!(manager.list([1]), Err(Error::DifferentExecutable)));
    assert_eq!(consumers.len().unwrap(), 1);
}

#[test]
fn a_queue_is_shared_by_two_hosts() {
    let _watchdog = watchdog(PATIENCE);
    let Some(example) = example() else { return };
    let hosts = match Hosts::make() {
        Ok(hosts) => hosts,
        Err(why) => return println!("skipped: no network namespaces: {why}"),
    };
    let mut places = vec![format!("tcp:{}:0", ADDRESSES[0][0])];
    if hosts.has_v6() {
        places.push(format!("tcp:[{}]:0", ADDRESSES[1][0]));
    } else {
        println!("skipped: no IPv6");
    }
    for place in places {
        let (_server, address) = serve(hosts.command(0, &example), &place);
        let client = |host: usize, arguments: &[&str]| {
            let mut command = hosts.command(host, &example);
            command.args(arguments);
            Running::start(command)
        };
        let consumer = client(0, &["consume", &address, "500"]);
        let producer = client(1, &["produce", &address, "1000"]);
        let other = client(1, &["consume", &address, "500"]);
        producer.finish();
        for consumer in [consumer, other] {
            let said = consumer.rest();
            assert_eq!(said.lines().last(), Some("got 500"), "{said}");
        }
    }
}
