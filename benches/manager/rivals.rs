//! What else serves a dict to processes, where it is installed: redis, and CPython's manager.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Prints what a get costs, or that nobody is there to be asked.
pub(crate) fn print_rivals(rounds: usize) {
    let rivals = [
        ("redis GET", "redis-server", redis(rounds)),
        ("CPython's manager, dict get", "python3", python(rounds)),
    ];
    for (name, program, cost) in rivals {
        match cost {
            Some(micros) => println!("{name:<30} {micros:>7.1} us, 1 client"),
            None => println!("{name:<30} skipped: there is no {program} that works"),
        }
    }
}

/// A server that goes with the bench.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn redis(rounds: usize) -> Option<f64> {
    let path = std::env::temp_dir().join(format!("multiproc-bench-{}", std::process::id()));
    let child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&path)
        .stdout(Stdio::null())
        .spawn();
    let mut server = Server(child.ok()?);
    let mut socket = loop {
        match UnixStream::connect(&path) {
            Ok(socket) => break socket,
            Err(_) if matches!(server.0.try_wait(), Ok(None)) => std::thread::yield_now(),
            Err(_) => return None,
        }
    };
    let mut reply = [0; 64];
    socket.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\n7\r\n$1\r\n7\r\n").ok()?;
    let len = socket.read(&mut reply).ok()?;
    assert_eq!(&reply[..len], b"+OK\r\n");
    let start = Instant::now();
    for _ in 0..rounds {
        socket.write_all(b"*2\r\n$3\r\nGET\r\n$1\r\n7\r\n").ok()?;
        let len = socket.read(&mut reply).ok()?;
        assert_eq!(&reply[..len], b"$1\r\n7\r\n");
    }
    let _ = std::fs::remove_file(&path);
    Some(start.elapsed().as_secs_f64() * 1e6 / rounds as f64)
}

const SCRIPT: &str = "
import sys, time
from multiprocessing import Manager
if __name__ == '__main__':
    rounds = int(sys.argv[1])
    with Manager() as manager:
        d = manager.dict({7: 7})
        d[7]
        start = time.perf_counter()
        for _ in range(rounds):
            d[7]
        print((time.perf_counter() - start) * 1e6 / rounds, flush=True)
";

fn python(rounds: usize) -> Option<f64> {
    let mut child = Command::new("python3")
        .args(["-c", SCRIPT, &rounds.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    let _ = child.wait();
    line.trim().parse().ok()
}
