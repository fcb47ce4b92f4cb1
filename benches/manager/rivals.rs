//! What else serves a dict to processes, where it is installed: redis, and CPython's manager.

use super::support::{per_operation, repeats, scaled};
use super::{Crowd, DEPTH};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Prints what the same costs there, or that nobody is there to be asked.
pub(crate) fn print_rivals(rounds: usize) {
    match Redis::start() {
        Some(redis) => redis.print(),
        None => println!("redis: skipped, there is no redis-server that works"),
    }
    match python(rounds) {
        Some(micros) => println!("{:<30} {micros:>7.1} us", "CPython's manager, dict get"),
        None => println!("CPython's manager: skipped, there is no python3 that works"),
    }
}

/// A redis on a Unix socket, which goes with the bench.
struct Redis {
    child: Child,
    folder: PathBuf,
}

/// A command, and what it is answered by.
type Exchange = (&'static str, &'static str);

const SET: Exchange = ("*3\r\n$3\r\nSET\r\n$1\r\n7\r\n$1\r\n7\r\n", "+OK\r\n");
const GET: Exchange = ("*2\r\n$3\r\nGET\r\n$1\r\n7\r\n", "$1\r\n7\r\n");
const PUT: Exchange = ("*3\r\n$5\r\nRPUSH\r\n$1\r\nq\r\n$1\r\n7\r\n", ":1\r\n");
const TAKE: Exchange = ("*2\r\n$4\r\nLPOP\r\n$1\r\nq\r\n", "$1\r\n7\r\n");

impl Redis {
    fn start() -> Option<Redis> {
        let folder = std::env::temp_dir().join(format!("multiproc-bench-{}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "redis"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            let _ = std::fs::remove_dir(&folder);
            return None;
        };
        let mut redis = Redis { child, folder };
        while UnixStream::connect(redis.place()).is_err() {
            if !matches!(redis.child.try_wait(), Ok(None)) {
                return None;
            }
            std::thread::yield_now();
        }
        client(&redis.place(), vec![SET], 1, 1)();
        Some(redis)
    }

    fn place(&self) -> PathBuf {
        self.folder.join("redis")
    }

    fn print(&self) {
        for clients in [1, 8, 50] {
            self.row("redis GET", clients, &[GET], 1);
            self.row("redis SET", clients, &[SET], 1);
            self.row(&format!("redis GET by {DEPTH}"), clients, &[GET], DEPTH);
        }
        self.row("redis RPUSH+LPOP", 1, &[PUT, TAKE], 1);
    }

    /// Clients that make these exchanges in turn, so many of each together.
    fn row(&self, name: &str, clients: usize, turns: &[Exchange], depth: usize) {
        let rounds = (scaled(20_000) / clients).max(20) / depth;
        let place = self.place();
        let mut crowd = Crowd::new(clients, || client(&place, turns.to_vec(), rounds, depth));
        crowd.round();
        let operations = clients * rounds * depth;
        let mut times: Vec<_> =
            (0..repeats()).map(|_| per_operation(operations, || crowd.round())).collect();
        crowd.finish();
        times.sort();
        let (least, median) = (times[0].as_nanos(), times[times.len() / 2].as_nanos());
        println!("{:<30} {median:>7} ns, {least} at best", format!("{name}, {clients}"));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn client(place: &Path, turns: Vec<Exchange>, rounds: usize, depth: usize) -> impl FnMut() + use<> {
    let mut socket = UnixStream::connect(place).expect("redis is there");
    let many: Vec<_> =
        turns.iter().map(|(ask, say)| (ask.repeat(depth), say.repeat(depth))).collect();
    let mut reply = vec![0; many.iter().map(|(_, say)| say.len()).max().unwrap_or(0)];
    move || {
        for _ in 0..rounds {
            for (ask, say) in &many {
                socket.write_all(ask.as_bytes()).expect("redis is there");
                socket.read_exact(&mut reply[..say.len()]).expect("redis is there");
                assert_eq!(&reply[..say.len()], say.as_bytes());
            }
        }
    }
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
