//! CPython's `multiprocessing.connection` at the other end, in every version that is found.

#[path = "../support/mod.rs"]
mod support;

mod manager;
mod shared_memory;

multiproc::init_before_main!();

use multiproc::{Address, Client, Connection, Error, Listener, Object, pipe};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;
use support::{Watchdog, os, watchdog};

const PATIENCE: Duration = Duration::from_secs(90);
const KEY: &str = "secret";

/// Tests that fork take turns with those that start processes.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> (MutexGuard<'static, ()>, Watchdog) {
    (TURN.lock().unwrap_or_else(PoisonError::into_inner), watchdog(PATIENCE))
}

/// A Python that was found.
#[derive(Clone, Debug)]
struct Python {
    program: PathBuf,
    version: (u32, u32),
}

impl Python {
    /// Whether it knows MD5 alone.
    fn is_old(&self) -> bool {
        self.version < (3, 12)
    }

    /// Whether a listener of its with an empty key asks for nothing, though clients wait to be asked.
    fn skips_empty_keys(&self) -> bool {
        self.version < (3, 13)
    }

    fn start(&self, role: &str, arguments: &[&str]) -> Running {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/peer.py");
        let mut command = Command::new(&self.program);
        command.arg(script).arg(role).args(arguments);
        Running::new(command)
    }

    fn listener(&self, key: Option<&str>) -> multiproc::ListenerBuilder {
        let builder = Listener::builder().legacy_md5(self.is_old());
        match key {
            Some(key) => builder.authkey(key),
            None => builder,
        }
    }

    fn client(&self, key: Option<&str>) -> multiproc::ClientBuilder {
        let builder = Client::builder().legacy_md5(self.is_old());
        match key {
            Some(key) => builder.authkey(key),
            None => builder,
        }
    }
}

/// The newest of each from 3.11 on below pyenv's folder, or else whatever `python3` is.
fn pythons() -> &'static [Python] {
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

fn identify(program: PathBuf) -> Option<Python> {
    let ask = "import sys; print(*sys.version_info[:2])";
    let output = Command::new(&program).args(["-c", ask]).output().ok()?;
    let output = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = output.trim().split_once(' ')?;
    let version = (major.parse().ok()?, minor.parse().ok()?);
    (version >= (3, 8)).then_some(Python { program, version })
}

fn each(test: impl Fn(&Python)) {
    for python in pythons() {
        eprintln!("with Python {}.{}", python.version.0, python.version.1);
        test(python);
    }
}

/// A Python process, which must end well.
struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn new(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }

    /// The next line it says; empty at the end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn finish(mut self) {
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

fn hex(key: Option<&str>) -> String {
    key.map_or("-".into(), |key| key.bytes().map(|byte| format!("{byte:02x}")).collect())
}

/// Where the Python side may listen.
fn places(name: &str) -> [String; 3] {
    let pid = std::process::id();
    let folder = std::env::temp_dir();
    let path = folder.join(format!("multiproc-interop-{pid}-{name}"));
    [
        "tcp:0".into(),
        format!("abstract:multiproc-interop-{pid}-{name}"),
        format!("unix:{}", path.display()),
    ]
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

fn assert_echoes(connection: &Connection, lens: &[usize]) {
    for len in lens {
        let message = pattern(*len);
        thread::scope(|scope| {
            scope.spawn(|| connection.send_bytes(&message).unwrap());
            assert!(connection.recv_bytes().unwrap() == message, "{len} bytes");
        });
    }
}

/// Around every border there is: the buffer here, the one there, and a large one.
const LENS: [usize; 11] = [0, 1, 2, 255, 16379, 16380, 16384, 16385, 65536, 1 << 20, (1 << 20) + 1];

#[test]
fn a_python_client_talks_to_our_listener() {
    let _turn = turn();
    each(|python| {
        for address in ["tcp:127.0.0.1:0", "abstract:"] {
            for key in [None, Some(KEY), Some("")] {
                let listener = python.listener(key).bind(address).unwrap();
                let at = listener.address().to_string();
                let peer = python.start("connect_and_echo", &[&at, &hex(key)]);
                let connection = listener.accept().unwrap();
                assert_echoes(&connection, &LENS);
                drop(connection);
                peer.finish();
                assert_eq!(listener.refused(), 0);
            }
        }
    });
}

#[test]
fn our_client_talks_to_a_python_listener() {
    let _turn = turn();
    each(|python| {
        for place in places("client") {
            for key in [None, Some(KEY), Some("")] {
                if key == Some("") && python.skips_empty_keys() {
                    continue;
                }
                let mut peer = python.start("listen_and_echo", &[&place, &hex(key)]);
                let at = Address::parse(&peer.line()).unwrap();
                let connection = python.client(key).connect(at).unwrap();
                assert_echoes(&connection, &LENS);
                drop(connection);
                peer.finish();
            }
        }
    });
}

#[test]
fn messages_of_64_mebibytes_go_both_ways() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("connect_and_echo", &[&at, &hex(Some(KEY))]);
        let connection = listener.accept().unwrap();
        assert_echoes(&connection, &[64 << 20]);
        drop(connection);
        peer.finish();
    });
}

#[test]
fn a_python_client_with_another_key_is_refused_and_the_next_one_is_not() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let mut wrong = python.start("connect_refused", &[&at, &hex(Some("wrong"))]);
        let right = thread::scope(|scope| {
            let accepts = scope.spawn(|| listener.accept().unwrap());
            let line = wrong.line();
            assert!(line.starts_with("AuthenticationError"), "{line:?}");
            let right = python.start("connect_and_echo", &[&at, &hex(Some(KEY))]);
            assert_echoes(&accepts.join().unwrap(), &[5]);
            right
        });
        assert_eq!(listener.refused(), 1);
        wrong.finish();
        right.finish();
    });
}

#[test]
fn our_client_with_another_key_is_refused_by_a_python_listener() {
    let _turn = turn();
    each(|python| {
        let mut peer = python.start("listen_refused", &["tcp:0", &hex(Some("wrong"))]);
        let at = Address::parse(&peer.line()).unwrap();
        let error = python.client(Some(KEY)).connect(at).unwrap_err();
        assert!(matches!(error, Error::AuthenticationError { .. }), "{error}");
        assert!(peer.line().starts_with("AuthenticationError"));
        peer.finish();
    });
}

#[test]
fn a_python_that_knows_md5_alone_is_let_in_only_if_that_was_asked_for() {
    let _turn = turn();
    each(|python| {
        if !python.is_old() {
            return;
        }
        let listener = Listener::builder().authkey(KEY).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let mut peer = python.start("connect_refused", &[&at, &hex(Some(KEY))]);
        while listener.refused() == 0 {
            let outcome = listener.accept_timeout(Duration::from_millis(20));
            assert!(matches!(outcome, Err(Error::TimeoutError)));
        }
        assert!(listener.last_refusal().unwrap().reason.contains("MD5"));
        assert!(peer.line().starts_with("AuthenticationError"));
        peer.finish();

        let mut peer = python.start("listen_refused", &["tcp:0", &hex(Some(KEY))]);
        let at = Address::parse(&peer.line()).unwrap();
        let error = Client::builder().authkey(KEY).connect(at).unwrap_err();
        assert!(error.to_string().contains("MD5"), "{error}");
        assert!(peer.line().starts_with("dropped"));
        peer.finish();
    });
}

#[test]
fn many_python_clients_come_at_once() {
    let _turn = turn();
    each(|python| {
        const COUNT: usize = 30;
        let listener = python.listener(Some(KEY)).bind("tcp:127.0.0.1:0").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("many_clients", &[&at, &hex(Some(KEY)), &COUNT.to_string()]);
        for connection in listener.incoming().take(COUNT) {
            let connection = connection.unwrap();
            let number: u32 =
                String::from_utf8(connection.recv_bytes().unwrap()).unwrap().parse().unwrap();
            connection.send_bytes((number + 1).to_string().as_bytes()).unwrap();
        }
        peer.finish();
    });
}

#[test]
fn many_of_our_clients_talk_to_one_python_listener() {
    let _turn = turn();
    each(|python| {
        const COUNT: usize = 12;
        let [place, ..] = places("many");
        let mut peer =
            python.start("listen_and_echo", &[&place, &hex(Some(KEY)), &COUNT.to_string()]);
        let at = Address::parse(&peer.line()).unwrap();
        thread::scope(|scope| {
            for _ in 0..COUNT {
                scope.spawn(|| {
                    let connection = python.client(Some(KEY)).connect(&at).unwrap();
                    assert_echoes(&connection, &[0, 10, 100_000]);
                });
            }
        });
        peer.finish();
    });
}

#[test]
fn connection_wait_in_python_finds_our_messages() {
    let _turn = turn();
    each(|python| {
        const COUNT: usize = 5;
        let mut peer =
            python.start("wait_for_all", &["tcp:0", &hex(Some(KEY)), &COUNT.to_string()]);
        let at = Address::parse(&peer.line()).unwrap();
        let connections: Vec<_> =
            (0..COUNT).map(|_| python.client(Some(KEY)).connect(&at).unwrap()).collect();
        for number in 1..=20 {
            let connection = &connections[number % COUNT];
            connection.send_bytes(number.to_string().as_bytes()).unwrap();
        }
        drop(connections);
        assert_eq!(peer.line(), "210");
        peer.finish();
    });
}

#[test]
fn objects_arrive_in_python_and_come_back_with_what_they_look_like_there() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("objects", &[&at, &hex(Some(KEY))]);
        let connection = listener.accept().unwrap();
        let big = |text: &str| Object::from(text.parse::<multiproc::object::BigInt>().unwrap());
        for (object, text) in [
            (Object::list([42.into(), Object::None, "hello".into()]), "[42, None, 'hello']"),
            (Object::None, "None"),
            (true.into(), "True"),
            ((-1).into(), "-1"),
            (i64::MIN.into(), "-9223372036854775808"),
            (big("1000000000000000000000000"), "1000000000000000000000000"),
            (
                big("-170141183460469231731687303715884105728"),
                "-170141183460469231731687303715884105728",
            ),
            (0.1.into(), "0.1"),
            (b"\x00\xff".into(), r"b'\x00\xff'"),
            ("é€".into(), "'é€'"),
            (Object::tuple([]), "()"),
            (Object::tuple([1.into()]), "(1,)"),
            (Object::dict([("a".into(), 1.into()), (2.into(), Object::None)]), "{'a': 1, 2: None}"),
            (Object::set([7.into()]), "{7}"),
            (Object::set([]), "set()"),
            (Object::dict([]), "{}"),
        ] {
            assert_eq!(object.to_string(), text);
            connection.send_object(&object).unwrap();
            let answer = connection.recv_object().unwrap();
            assert_eq!(answer, Object::tuple([object, text.into()]));
        }
        let long = Object::list((0..100_000).map(Object::from).chain(["x".repeat(70_000).into()]));
        connection.send_object(&long).unwrap();
        let Object::Tuple(answer) = connection.recv_object().unwrap() else { panic!("no tuple") };
        assert_eq!(answer[0], long);
        drop(connection);
        peer.finish();
    });
}

#[test]
fn pickles_of_every_protocol_are_read() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("pickles", &[&at, &hex(Some(KEY))]);
        let connection = listener.accept().unwrap();
        let mut count = 0;
        loop {
            let object = connection.recv_object().unwrap();
            if object == "end".into() {
                break;
            }
            connection.send_object(&object).unwrap();
            count += 1;
        }
        assert!(count >= 4 * 40);
        drop(connection);
        peer.finish();
    });
}

#[test]
fn pickles_of_more_than_plain_data_are_refused_by_name() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("refused_pickles", &[&at, &hex(Some(KEY))]);
        let connection = listener.accept().unwrap();
        for expected in [
            "builtins.object",
            "builtins.print",
            "builtins.ValueError",
            "builtins.complex",
            "builtins.range",
            "contains itself",
            "too large",
            "nested deeper",
            "UTF-8",
        ] {
            let error = match connection.recv_object() {
                Err(error) => error.to_string(),
                Ok(object) => panic!("{expected} was expected, not {object}"),
            };
            assert!(error.contains(expected), "{error}");
            connection.send_object(&error.into()).unwrap();
        }
        drop(connection);
        peer.finish();
    });
}

#[test]
fn descriptors_travel_as_pythons_send_handle_and_recv_handle_have_them() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("takes_descriptor", &[&at, &hex(Some(KEY))]);
        let connection = listener.accept().unwrap();
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        connection.send_fd(theirs.as_fd()).unwrap();
        drop(theirs);
        let mut heard = String::new();
        ours.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "from Python");
        let mut pipe = std::fs::File::from(connection.recv_fd().unwrap());
        let mut heard = [0; 7];
        pipe.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"to Rust");
        connection.send_bytes(b"thanks").unwrap();
        drop(connection);
        peer.finish();
    });
}

#[test]
fn a_python_process_talks_over_a_socket_it_inherits() {
    let _turn = turn();
    each(|python| {
        let (ours, theirs) = pipe().unwrap();
        os::set_inherited(theirs.as_raw_fd());
        let peer = python.start("inherited", &[&theirs.as_raw_fd().to_string()]);
        drop(theirs);
        ours.send_bytes(b"abc").unwrap();
        assert_eq!(ours.recv_bytes().unwrap(), b"cba");
        assert!(matches!(ours.recv_bytes(), Err(Error::Eof)));
        peer.finish();
    });
}

#[test]
fn a_python_client_that_comes_before_accept_is_called_waits() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(None).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("connect_and_echo", &[&at, "-"]);
        // It has connected once the listener is ready.
        assert_eq!(multiproc::wait(&[&listener], None).unwrap(), [0]);
        assert_echoes(&listener.try_accept().unwrap(), &[3]);
        peer.finish();
    });
    std::io::stdout().flush().unwrap();
}

/// The example beside this test binary, which the test command builds too.
#[test]
fn the_example_shows_what_its_head_says() {
    let _turn = turn();
    let mut example = std::env::current_exe().unwrap();
    example.pop();
    example.pop();
    example.push("examples/python_peer");
    if !example.exists() {
        println!("skipped: {} was not built", example.display());
        return;
    }
    each(|python| {
        let folder = python.program.parent().unwrap();
        let path = std::env::join_paths(
            std::iter::once(folder.to_owned())
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        );
        let output = Command::new(&example).env("PATH", path.unwrap()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        assert!(said.contains(r#"('list', "[42, None, 'hello']")"#), "{said}");
        assert!(said.contains("1180591620717411303424"), "{said}");
    });
}
