//! The Pythons that are found, and what the tests do with each.
#![allow(unreachable_pub)]

pub(crate) use crate::support::os;
use crate::support::{Watchdog, watchdog};
use multiproc::{Client, Connection, Listener};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

pub const PATIENCE: Duration = Duration::from_secs(90);
pub const KEY: &str = "secret";
/// Between two attempts.
pub const TICK: Duration = Duration::from_millis(1);

/// Tests that fork take turns with those that start processes.
static TURN: Mutex<()> = Mutex::new(());

pub fn turn() -> (MutexGuard<'static, ()>, Watchdog) {
    (TURN.lock().unwrap_or_else(PoisonError::into_inner), watchdog(PATIENCE))
}

/// A Python that was found.
#[derive(Clone, Debug)]
pub struct Python {
    pub program: PathBuf,
    pub version: (u32, u32),
}

impl Python {
    /// Whether it knows MD5 alone.
    pub fn is_old(&self) -> bool {
        self.version < (3, 12)
    }

    /// Whether a listener of its with an empty key asks for nothing, though clients wait to be asked.
    pub fn skips_empty_keys(&self) -> bool {
        self.version < (3, 13)
    }

    pub fn start(&self, role: &str, arguments: &[&str]) -> Running {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/peer.py");
        let mut command = Command::new(&self.program);
        command.arg(script).arg(role).args(arguments);
        Running::new(command)
    }

    pub fn listener(&self, key: Option<&str>) -> multiproc::ListenerBuilder {
        let builder = Listener::builder().legacy_md5(self.is_old());
        match key {
            Some(key) => builder.authkey(key),
            None => builder,
        }
    }

    pub fn client(&self, key: Option<&str>) -> multiproc::ClientBuilder {
        let builder = Client::builder().legacy_md5(self.is_old());
        match key {
            Some(key) => builder.authkey(key),
            None => builder,
        }
    }
}

/// The newest of each from 3.11 on below pyenv's folder, or else whatever `python3` is.
pub fn pythons() -> &'static [Python] {
    static FOUND: OnceLock<Vec<Python>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let root = Command::new("pyenv").arg("root").output().map(|output| output.stdout);
        let root = String::from_utf8(root.unwrap_or_default()).unwrap_or_default();
        let versions = std::fs::read_dir(PathBuf::from(root.trim()).join("versions"));
        let programs = versions.into_iter().flatten().flatten();
        let mut found: Vec<Python> = programs
            .filter_map(|entry| identify(entry.path().join("bin/python3")))
            .filter(|python| python.version >= (3, 11))
            .collect();
        if found.is_empty() {
            found.extend(identify("python3".into()));
        }
        found.sort_by_key(|python| python.version);
        found.dedup_by_key(|python| python.version);
        if found.is_empty() {
            println!("skipped: no Python was found to talk to");
        }
        found
    })
}

pub fn identify(program: PathBuf) -> Option<Python> {
    let ask = "import sys; print(*sys.version_info[:2])";
    let output = Command::new(&program).args(["-c", ask]).output().ok()?;
    let output = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = output.trim().split_once(' ')?;
    let version = (major.parse().ok()?, minor.parse().ok()?);
    (version >= (3, 8)).then_some(Python { program, version })
}

pub fn each(test: impl Fn(&Python)) {
    for python in pythons() {
        eprintln!("with Python {}.{}", python.version.0, python.version.1);
        test(python);
    }
}

/// A Python process, which must end well.
pub struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    pub fn new(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }

    /// The next line it says; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn finish(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nobody waiting.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn hex(key: Option<&str>) -> String {
    key.map_or("-".into(), |key| key.bytes().map(|byte| format!("{byte:02x}")).collect())
}

/// Where the Python side may listen.
pub fn places(name: &str) -> [String; 3] {
    let pid = std::process::id();
    let folder = std::env::temp_dir();
    let path = folder.join(format!("multiproc-interop-{pid}-{name}"));
    [
        "tcp:0".into(),
        format!("abstract:multiproc-interop-{pid}-{name}"),
        format!("unix:{}", path.display()),
    ]
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

pub fn assert_echoes(connection: &Connection, lens: &[usize]) {
    for len in lens {
        let message = pattern(*len);
        thread::scope(|scope| {
            scope.spawn(|| connection.send_bytes(&message).unwrap());
            assert!(connection.recv_bytes().unwrap() == message, "{len} bytes");
        });
    }
}

/// Around every border there is: the buffer here, the one there, and a large one.
pub const LENS: [usize; 11] =
    [0, 1, 2, 255, 16379, 16380, 16384, 16385, 65536, 1 << 20, (1 << 20) + 1];
