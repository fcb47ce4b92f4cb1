//! Listeners and clients: addresses, handshakes of strangers, and what is left on disk.

mod support;

use multiproc::{
    Address, Client, Connection, Error, Listener, Peers, answer_challenge, from_bytes, pipe,
    to_bytes,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use support::{Watchdog, in_child, os, watchdog};

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);
const KEY: &[u8] = b"a key among friends";

/// Tests that fork, and those that a copy of their descriptors would disturb, take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> (MutexGuard<'static, ()>, Watchdog) {
    (TURN.lock().unwrap_or_else(PoisonError::into_inner), watchdog(PATIENCE))
}

/// A folder of the test's own, removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("multiproc-listener-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    fn names(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn with_key(address: impl Into<Address>) -> Listener {
    Listener::builder().authkey(KEY).bind(address.into()).unwrap()
}

fn any_name() -> Address {
    Address::parse("abstract:").unwrap()
}

/// A client's socket that knows nothing of messages.
fn raw(listener: &Listener) -> UnixStream {
    let Address::Abstract(name) = listener.address() else { panic!("an abstract name is wanted") };
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    UnixStream::connect_addr(&address).unwrap()
}

/// Connects with the key in a thread of its own, and hands what the accepting side gets to `then`.
fn meet(listener: &Listener, key: &[u8], then: impl FnOnce(multiproc::Result<Connection>)) {
    thread::scope(|scope| {
        let address = listener.address();
        let client = scope.spawn(move || Client::builder().authkey(key).connect(address));
        then(listener.accept());
        drop(client.join().unwrap());
    });
}

#[test]
fn every_family_connects_sends_and_ends() {
    let _turn = turn();
    let folder = Folder::new();
    let tcp6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    let mut addresses = vec![
        Address::from(folder.socket()),
        any_name(),
        Address::parse("tcp:127.0.0.1:0").unwrap(),
        Address::parse("tcp:localhost:0").unwrap(),
    ];
    if tcp6 {
        addresses.push(Address::parse("tcp:[::1]:0").unwrap());
    } else {
        println!("skipped: IPv6, which is not there");
    }
    for address in addresses {
        for key in [None, Some(KEY), Some(&b""[..])] {
            let mut builder = Listener::builder();
            let mut client = Client::builder();
            if let Some(key) = key {
                (builder, client) = (builder.authkey(key), client.authkey(key));
            }
            let listener = builder.bind(&address).unwrap();
            assert!(listener.last_accepted().is_none());
            let at = listener.address().clone();
            let sends = thread::spawn(move || client.connect(&at)?.send("hello"));
            let connection = listener.accept().unwrap();
            assert_eq!(connection.recv::<String>().unwrap(), "hello");
            assert!(matches!(connection.recv::<String>(), Err(Error::Eof)));
            sends.join().unwrap().unwrap();
            let peer = listener.last_accepted().unwrap();
            match address {
                Address::Tcp { .. } => {
                    let Some(Address::Tcp { port, .. }) = peer.address else { panic!("{peer:?}") };
                    assert_ne!(port, 0);
                }
                _ => assert_eq!(peer.credentials.unwrap().pid, std::process::id()),
            }
            assert_eq!(listener.refused(), 0);
        }
    }
    assert_eq!(folder.names(), 0);
}

#[test]
fn a_second_listener_at_the_same_address_is_refused() {
    let _turn = turn();
    let folder = Folder::new();
    let tcp = Address::parse("tcp:127.0.0.1:0").unwrap();
    for address in [Address::from(folder.socket()), any_name(), tcp] {
        let first = Listener::bind(address).unwrap();
        let error = Listener::bind(first.address()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{first:?}");
        // The first one has noticed nothing.
        assert!(matches!(first.try_accept(), Err(Error::TimeoutError)));
        let at = first.address().clone();
        first.close();
        drop(Listener::bind(at).unwrap());
    }
}

#[test]
fn a_port_can_be_listened_at_again_while_old_connections_linger() {
    let _turn = turn();
    let first = Listener::bind("tcp:127.0.0.1:0").unwrap();
    let at = first.address().clone();
    let client = Client::connect(&at).unwrap();
    // The side that closes first lingers.
    drop(first.accept().unwrap());
    assert!(matches!(client.recv_bytes(), Err(Error::Eof)));
    drop(client);
    drop(first);
    Listener::bind(at).unwrap();
}

#[test]
fn a_socket_file_is_its_users_alone_and_goes_with_the_listener() {
    let _turn = turn();
    let folder = Folder::new();
    let listener = Listener::bind(folder.socket()).unwrap();
    let file = std::fs::symlink_metadata(folder.socket()).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    // A copy in a forked child goes without the file.
    let mut listener = Some(listener);
    in_child(|| drop(listener.take()));
    let listener = Listener::bind(folder.socket());
    assert_eq!(listener.unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
}

#[test]
fn a_file_that_is_another_ones_by_now_is_left_alone() {
    let _turn = turn();
    let folder = Folder::new();
    let first = Listener::bind(folder.socket()).unwrap();
    std::fs::remove_file(folder.socket()).unwrap();
    let second = Listener::bind(folder.socket()).unwrap();
    drop(first);
    assert_eq!(folder.names(), 1);
    drop(Client::connect(folder.socket()).unwrap());
    drop(second);
    assert_eq!(folder.names(), 0);
}

#[test]
fn the_socket_of_a_killed_listener_is_replaced() {
    let _turn = turn();
    let folder = Folder::new();
    let path = folder.socket();
    let (ready, told) = pipe().unwrap();
    let child = os::fork(|| {
        let _listener = Listener::bind(&path).unwrap();
        ready.send_bytes(b"").unwrap();
        thread::sleep(PATIENCE);
    });
    told.recv_bytes().unwrap();
    let living = Listener::bind(&path).unwrap_err();
    os::kill_and_reap(child);
    assert_eq!(living.raw_os_error(), Some(libc::EADDRINUSE));
    let listener = Listener::bind(&path).unwrap();
    Client::connect(&path).unwrap().send_bytes(b"x").unwrap();
    assert_eq!(listener.accept().unwrap().recv_bytes().unwrap(), b"x");
}

#[test]
fn of_many_who_replace_a_dead_socket_one_listens() {
    let _turn = turn();
    let folder = Folder::new();
    for _ in 0..20 {
        drop(std::os::unix::net::UnixListener::bind(folder.socket()).unwrap());
        let results: Vec<_> = thread::scope(|scope| {
            let bind = || Listener::bind(folder.socket());
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(bind)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        // And the file is the one of the one who does.
        drop(Client::connect(folder.socket()).unwrap());
    }
}

#[test]
fn what_is_no_socket_is_not_replaced() {
    let _turn = turn();
    let folder = Folder::new();
    std::fs::write(folder.socket(), "precious").unwrap();
    let error = Listener::bind(folder.socket()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    assert_eq!(std::fs::read(folder.socket()).unwrap(), b"precious");
    let nowhere = folder.0.join("no folder").join("socket");
    assert_eq!(Listener::bind(nowhere).unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn a_client_that_sent_and_left_before_it_was_accepted_is_heard() {
    let _turn = turn();
    for address in ["abstract:", "tcp:127.0.0.1:0"] {
        let listener = Listener::bind(address).unwrap();
        let client = Client::connect(listener.address()).unwrap();
        client.send("here I was").unwrap();
        drop(client);
        let connection = listener.accept().unwrap();
        assert!(connection.poll(Duration::ZERO).unwrap());
        assert_eq!(connection.recv::<String>().unwrap(), "here I was");
    }
}

#[test]
fn accept_waits_as_long_as_it_is_told() {
    let _turn = turn();
    for listener in [Listener::bind("abstract:").unwrap(), with_key(any_name())] {
        assert!(matches!(listener.try_accept(), Err(Error::TimeoutError)));
        let start = Instant::now();
        assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
        assert!(start.elapsed() >= SHORT);
    }
}

#[test]
fn try_accept_brings_a_handshake_to_its_end_bit_by_bit() {
    let _turn = turn();
    let listener = with_key(any_name());
    thread::scope(|scope| {
        let client = scope.spawn(|| Client::builder().authkey(KEY).connect(listener.address()));
        let connection = loop {
            match listener.try_accept() {
                Ok(connection) => break connection,
                Err(Error::TimeoutError) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        connection.send_bytes(b"done").unwrap();
        assert_eq!(client.join().unwrap().unwrap().recv_bytes().unwrap(), b"done");
    });
}

#[test]
fn a_wrong_key_is_refused_on_both_sides_and_the_listener_goes_on() {
    let _turn = turn();
    for address in ["abstract:", "tcp:127.0.0.1:0"] {
        let listener = Listener::builder().authkey(KEY).bind(address).unwrap();
        for (before, wrong) in [&b"another"[..], b"", &KEY[1..]].into_iter().enumerate() {
            thread::scope(|scope| {
                let at = listener.address();
                let refused = scope.spawn(move || Client::builder().authkey(wrong).connect(at));
                while listener.refused() == before as u64 {
                    assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
                }
                let error = refused.join().unwrap().unwrap_err();
                assert!(matches!(error, Error::AuthenticationError { .. }), "{error}");
            });
            let why = listener.last_refusal().unwrap();
            assert!(why.reason.contains("another one"), "{why:?}");
            assert!(listener.last_refusal().is_none());
        }
        meet(&listener, KEY, |connection| drop(connection.unwrap()));
    }
}

#[test]
fn silent_slow_and_hostile_clients_keep_nobody_out() {
    let _turn = turn();
    let listener = with_key(any_name());
    let silent: Vec<_> = (0..20).map(|_| raw(&listener)).collect();
    let mut slow = raw(&listener);
    slow.write_all(&[0, 0, 0]).unwrap();
    let mut endless = raw(&listener);
    endless.write_all(&[0x7f, 0xff, 0xff, 0xff]).unwrap();
    let mut long_form = raw(&listener);
    long_form.write_all(&[0xff; 12]).unwrap();
    let mut nonsense = raw(&listener);
    nonsense.write_all(&[0x80, 0, 0, 0]).unwrap();
    let mut flood = raw(&listener);
    flood.write_all(&[0; 4000]).unwrap();
    drop(raw(&listener));
    for _ in 0..3 {
        meet(&listener, KEY, |connection| connection.unwrap().send_bytes(b"in").unwrap());
    }
    assert_eq!(listener.refused(), 5, "{:?}", listener.last_refusal());
    drop(silent);
}

#[test]
fn a_client_that_takes_too_long_is_dropped() {
    let _turn = turn();
    let listener =
        Listener::builder().authkey(KEY).handshake_timeout(SHORT).bind("abstract:").unwrap();
    let mut silent = raw(&listener);
    while listener.refused() == 0 {
        assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
    }
    let mut heard = Vec::new();
    silent.read_to_end(&mut heard).unwrap();
    assert!(heard[4..].starts_with(b"#CHALLENGE#{sha256}"), "{heard:?}");
    assert_eq!(heard.len(), 4 + 11 + 48);
}

#[test]
fn more_silent_clients_than_are_kept_do_not_keep_others_out() {
    let _turn = turn();
    // A thousand sockets, and then some.
    let listener = Listener::builder().authkey(KEY).backlog(4096).bind("abstract:").unwrap();
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(raw(&listener));
        if silent.len() % 50 == 0 {
            assert!(matches!(listener.try_accept(), Err(Error::TimeoutError)));
        }
    }
    meet(&listener, KEY, |connection| drop(connection.unwrap()));
    assert!(listener.refused() >= 100);
}

#[test]
fn descriptors_of_strangers_are_not_taken() {
    let _turn = turn();
    let listener = with_key(any_name());
    // As a connection the raw socket can send descriptors, which here come with an unfinished answer.
    let stranger = Connection::from(raw(&listener));
    let file = std::fs::File::open("/dev/null").unwrap();
    for _ in 0..50 {
        stranger.send_fd(file.as_fd()).unwrap();
    }
    let before = descriptors();
    assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
    assert!(descriptors() <= before + 1);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn what_a_client_sends_at_once_after_the_handshake_arrives_with_its_descriptors() {
    let _turn = turn();
    let listener = with_key(any_name());
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let connection = Client::builder().authkey(KEY).connect(listener.address()).unwrap();
            let (read, write) = pipe().unwrap();
            connection.send(&("take this", read)).unwrap();
            write.send_bytes(b"through it").unwrap();
        });
        let connection = listener.accept().unwrap();
        client.join().unwrap();
        let (text, handle) = connection.recv::<(String, Connection)>().unwrap();
        assert_eq!(text, "take this");
        assert_eq!(handle.recv_bytes().unwrap(), b"through it");
    });
}

#[test]
fn many_clients_come_in_at_once() {
    let _turn = turn();
    for address in ["abstract:", "tcp:127.0.0.1:0"] {
        let listener = Listener::builder().authkey(KEY).bind(address).unwrap();
        thread::scope(|scope| {
            for i in 0..40u32 {
                let listener = &listener;
                scope.spawn(move || {
                    let client = Client::builder().authkey(KEY);
                    let connection = client.connect(listener.address()).unwrap();
                    connection.send(&i).unwrap();
                    assert_eq!(connection.recv::<u32>().unwrap(), i + 1);
                });
            }
            // Two accept, as two threads of a server would.
            for _ in 0..2 {
                scope.spawn(|| {
                    for connection in listener.incoming().take(20) {
                        let connection = connection.unwrap();
                        let i = connection.recv::<u32>().unwrap();
                        connection.send(&(i + 1)).unwrap();
                    }
                });
            }
        });
        assert_eq!(listener.refused(), 0);
    }
}

#[test]
fn a_client_that_is_killed_in_its_handshake_is_forgotten() {
    let _turn = turn();
    let listener = with_key(any_name());
    let child = os::fork(|| {
        // It answers, and then asks nothing.
        let connection = Connection::from(raw(&listener));
        answer_challenge(&connection, KEY).unwrap();
        os::exit_now(0);
    });
    while listener.refused() == 0 {
        assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
    }
    os::kill_and_reap(child);
    meet(&listener, KEY, |connection| drop(connection.unwrap()));
}

#[test]
fn only_the_users_that_were_named_may_connect() {
    let _turn = turn();
    let me = pipe().unwrap().0.peer().unwrap().credentials.unwrap().uid;
    let listener = Listener::builder().peers(Peers::Users(vec![me ^ 1])).bind("abstract:").unwrap();
    let client = Client::connect(listener.address()).unwrap();
    assert!(matches!(listener.accept_timeout(SHORT), Err(Error::TimeoutError)));
    assert_eq!(listener.refused(), 1);
    assert_eq!(listener.last_refusal().unwrap().peer.credentials.unwrap().uid, me);
    assert!(matches!(client.recv_bytes(), Err(Error::Eof)));
    for peers in [Peers::Anybody, Peers::SameUser, Peers::Users(vec![1, me])] {
        let listener = Listener::builder().peers(peers).bind("abstract:").unwrap();
        let _client = Client::connect(listener.address()).unwrap();
        listener.accept().unwrap();
    }
}

#[test]
fn without_a_descriptor_left_accept_says_so_and_the_client_stays() {
    let _turn = turn();
    in_child(|| {
        let listener = Listener::bind("abstract:").unwrap();
        let client = Client::connect(listener.address()).unwrap();
        client.send_bytes(b"patient").unwrap();
        // SAFETY: the record is writable, then readable.
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        limit_files(&mut limit, 64);
        let mut files: Vec<_> =
            std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        let error = listener.accept().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        files.pop();
        files.pop();
        assert_eq!(listener.accept().unwrap().recv_bytes().unwrap(), b"patient");
    });
}

#[allow(unsafe_code)]
fn limit_files(limit: &mut libc::rlimit, most: libc::rlim_t) {
    // SAFETY: `limit` is writable.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit) }, 0);
    limit.rlim_cur = most;
    // SAFETY: `limit` is readable.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) }, 0);
}

#[test]
fn signals_do_not_end_an_accept() {
    let _turn = turn();
    let listener = with_key(any_name());
    let _ticks = os::Ticks::every(Duration::from_millis(1));
    let start = Instant::now();
    assert!(matches!(listener.accept_timeout(5 * SHORT), Err(Error::TimeoutError)));
    assert!(start.elapsed() >= 5 * SHORT);
    meet(&listener, KEY, |connection| drop(connection.unwrap()));
}

#[test]
fn a_client_gives_up_on_a_listener_that_says_nothing() {
    let _turn = turn();
    // Without a key on the other side the handshake never begins.
    let listener = Listener::bind("abstract:").unwrap();
    let start = Instant::now();
    let client = Client::builder().authkey(KEY);
    let outcome = client.connect_timeout(listener.address(), SHORT);
    assert!(matches!(outcome, Err(Error::TimeoutError)));
    assert!(start.elapsed() >= SHORT);
    // Where the queue is full, not even the connection comes about.
    let listener = Listener::builder().backlog(0).bind("abstract:").unwrap();
    let mut clients = Vec::new();
    let outcome = loop {
        match Client::connect_timeout(listener.address(), SHORT) {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() < 10);
    };
    assert!(matches!(outcome, Error::TimeoutError), "{outcome}");
}

#[test]
fn nobody_there_is_an_error_at_once() {
    let _turn = turn();
    let folder = Folder::new();
    let errno = |address: Address| Client::connect(address).unwrap_err().raw_os_error();
    assert_eq!(errno(folder.socket().into()), Some(libc::ENOENT));
    assert_eq!(errno(Address::Abstract(b"nobody here".to_vec())), Some(libc::ECONNREFUSED));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(errno(port.into()), Some(libc::ECONNREFUSED));
    let within = Client::connect_timeout(port, PATIENCE);
    assert_eq!(within.unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
}

#[test]
fn a_listener_works_in_another_process() {
    let _turn = turn();
    let folder = Folder::new();
    let listener = with_key(folder.socket());
    let (to_child, from_parent) = pipe().unwrap();
    to_child.send(&listener).unwrap();
    let child = os::fork(|| {
        let listener = from_parent.recv::<Listener>().unwrap();
        assert!(format!("{listener:?}").contains("authenticates: true"));
        listener.accept().unwrap().send_bytes(b"from the child").unwrap();
    });
    let client = Client::builder().authkey(KEY).connect(folder.socket()).unwrap();
    assert_eq!(client.recv_bytes().unwrap(), b"from the child");
    assert_eq!(os::wait_until(child, Instant::now() + PATIENCE), Some(os::Status::Exited(0)));
    // The file is still the first one's.
    assert_eq!(folder.names(), 1);
    drop(listener);
    assert_eq!(folder.names(), 0);
}

#[test]
fn a_forked_child_accepts_clients_of_its_own_beside_its_parent() {
    let _turn = turn();
    let listener = with_key(any_name());
    // Half a handshake, which is the parent's.
    let half = raw(&listener);
    assert!(matches!(listener.try_accept(), Err(Error::TimeoutError)));
    let child = os::fork(|| listener.accept().unwrap().send_bytes(b"child").unwrap());
    let client = Client::builder().authkey(KEY).connect(listener.address()).unwrap();
    assert_eq!(client.recv_bytes().unwrap(), b"child");
    assert_eq!(os::wait_until(child, Instant::now() + PATIENCE), Some(os::Status::Exited(0)));
    let half = Connection::from(half);
    thread::scope(|scope| {
        scope.spawn(|| {
            answer_challenge(&half, KEY).unwrap();
            multiproc::deliver_challenge(&half, KEY).unwrap();
            half.send_bytes(b"parent").unwrap();
        });
        assert_eq!(listener.accept().unwrap().recv_bytes().unwrap(), b"parent");
    });
}

#[test]
fn an_accepted_connection_can_be_sent_on() {
    let _turn = turn();
    for address in ["abstract:", "tcp:127.0.0.1:0"] {
        let listener = Listener::bind(address).unwrap();
        let client = Client::connect(listener.address()).unwrap();
        let (to_child, from_parent) = pipe().unwrap();
        to_child.send(&listener.accept().unwrap()).unwrap();
        let child = os::fork(|| {
            let connection = from_parent.recv::<Connection>().unwrap();
            connection.send_bytes(&connection.recv_bytes().unwrap().to_ascii_uppercase()).unwrap();
        });
        client.send_bytes(b"hello").unwrap();
        assert_eq!(client.recv_bytes().unwrap(), b"HELLO");
        assert_eq!(os::wait_until(child, Instant::now() + PATIENCE), Some(os::Status::Exited(0)));
    }
}

#[test]
fn addresses_are_read_and_written() {
    for (text, address) in [
        ("unix:/run/a b", Address::Unix("/run/a b".into())),
        (r"unix:/odd\xff\\", Address::Unix(odd(b"/odd\xff\\"))),
        ("unix:relative:path", Address::Unix("relative:path".into())),
        ("abstract:", Address::Abstract(Vec::new())),
        (r"abstract:\x00x", Address::Abstract(b"\0x".to_vec())),
        ("tcp:localhost:80", Address::Tcp { host: "localhost".into(), port: 80 }),
        ("tcp:[::1]:65535", Address::Tcp { host: "::1".into(), port: 65535 }),
    ] {
        assert_eq!(Address::parse(text).unwrap(), address);
        assert_eq!(address.to_string(), text);
        assert_eq!(from_bytes::<Address>(&to_bytes(&address).unwrap()).unwrap(), address);
    }
    let v6: SocketAddr = "[::1]:80".parse().unwrap();
    assert_eq!(Address::from(v6).to_string(), "tcp:[::1]:80");
    assert_eq!(Address::from(Path::new("/a")).to_string(), "unix:/a");
    assert_eq!("unix:/a".parse::<Address>().unwrap(), Address::from(Path::new("/a")));
}

fn odd(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}

#[test]
fn what_is_no_address_is_refused() {
    let long = format!("unix:/{}", "x".repeat(107));
    let long_name = format!("abstract:{}", "x".repeat(108));
    for text in [
        "",
        "unix",
        "unix:",
        "tcp:",
        "tcp:host",
        "tcp::80",
        "tcp:host:65536",
        "tcp:host:-1",
        "tcp:host:+1",
        "tcp:host:",
        r"\\.\pipe\name",
        "/a/path",
        "pipe:x",
        r"unix:/a\x00b",
        &long,
        &long_name,
    ] {
        assert!(matches!(Address::parse(text), Err(Error::InvalidArgument { .. })), "{text:?}");
    }
    let unchecked = Address::Unix("x".repeat(200).into());
    assert!(matches!(Listener::bind(&unchecked), Err(Error::InvalidArgument { .. })));
    assert!(matches!(Client::connect(&unchecked), Err(Error::InvalidArgument { .. })));
}

#[test]
fn tcp_connections_do_not_wait_to_fill_their_packets() {
    let _turn = turn();
    let listener = Listener::bind("tcp:127.0.0.1:0").unwrap();
    let client = Client::connect(listener.address()).unwrap();
    let accepted = listener.accept().unwrap();
    for end in [client, accepted] {
        let socket = TcpStream::from(end.into_fd().unwrap());
        assert!(socket.nodelay().unwrap());
    }
}
