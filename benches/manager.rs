//! A manager's dict and queue beside a bare echo over Unix sockets: one process, `epoll_wait`, `read`,
//! `write`, with messages as long as ours.
//!
//! Clients are processes that wait for a word to begin. A time is that of all of them together, by the
//! number of operations of all of them. The first rows have server and client on one core: elsewhere where
//! the kernel puts the two, together or apart, counts for more (8 against 45 us a round trip) than all that
//! they do.
//!
//! A call makes the system calls of the echo: one to send and one to receive for the client, one to wait,
//! one to receive and one to send for the server. On one core it takes 1.07 to 1.13 times as long: 1,080 and
//! 1,620 instructions on the two sides are the library's own, and `recvmsg`, which alone can bring descriptors, costs
//! 0.13 us more than `recv` on each. In a pipeline sixteen calls share those system calls, and some 200 ns of 770 a
//! call are its own work: hence the other target. Many clients take turns on few processors, and each begins with
//! cold caches: 8.4 us a call with eight of them and 9.0 us with fifty, beside 6.3 us and 6.1 us.
//!
//! redis and CPython's manager are asked for the same where they are installed: redis is started on a Unix
//! socket in a folder of its own, and a pair of its RPUSH and LPOP is one operation there.
#![allow(unsafe_code)]

#[path = "manager/rivals.rs"]
mod rivals;
mod support;

use multiproc::manager::{DictProxy, QueueProxy};
use multiproc::{Manager, StartMethod};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use support::{compare, fork, per_operation, pin, print_head, repeats, scaled, wait_for};

/// What an operation may cost, measured by the echo.
const TARGET: f64 = 1.1;
/// What one of a pipeline may.
const PIPELINED: f64 = 1.5;
/// The length of a request for a key with its reply, about.
const MESSAGE: usize = 40;
/// How many calls go together in a pipeline.
const DEPTH: usize = 16;

/// What a client is told.
const GO: u8 = 1;
const STOP: u8 = 2;

/// Client processes that do the same thing when they are told to.
struct Crowd {
    ends: Vec<UnixStream>,
    children: Vec<libc::pid_t>,
}

impl Crowd {
    /// `work` is called in each process and gives what the process does when it is told.
    fn new<W: FnMut()>(clients: usize, work: impl Fn() -> W) -> Crowd {
        let (mut ends, mut children) = (Vec::new(), Vec::new());
        for _ in 0..clients {
            let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
            children.push(fork(|| {
                ends.clear();
                let mut work = work();
                theirs.write_all(&[0]).expect("the bench is there");
                // Not the end of the stream: later processes have copies of the other end.
                let mut word = [0];
                while matches!((theirs.read(&mut word), word), (Ok(1), [GO])) {
                    work();
                    theirs.write_all(&[0]).expect("the bench is there");
                }
            }));
            ends.push(ours);
        }
        let mut crowd = Crowd { ends, children };
        crowd.wait();
        crowd
    }

    fn wait(&mut self) {
        self.ends.iter_mut().for_each(|end| end.read_exact(&mut [0]).expect("the client is there"));
    }

    fn round(&mut self) {
        self.ends.iter_mut().for_each(|end| end.write_all(&[GO]).expect("the client is there"));
        self.wait();
    }

    fn finish(mut self) {
        self.ends.iter_mut().for_each(|end| end.write_all(&[STOP]).expect("the client is there"));
        self.children.into_iter().for_each(wait_for);
    }
}

/// The bare server, until the leash is dropped.
fn echo_server(listener: &UnixListener, leash: &UnixStream) {
    // SAFETY: the call takes a flag.
    let epoll = unsafe { libc::epoll_create1(0) };
    // SAFETY: the call has just made it, and nobody else has it.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let watch = |fd: i32| {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        // SAFETY: both descriptors are open, and `event` is one event.
        unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
    };
    watch(listener.as_raw_fd());
    watch(leash.as_raw_fd());
    let mut clients: Vec<Option<UnixStream>> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    loop {
        // SAFETY: `events` is writable for 64 of them.
        let ready = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), 64, -1) };
        for event in &events[..ready.max(0) as usize] {
            let fd = event.u64 as i32;
            if fd == leash.as_raw_fd() {
                return;
            }
            if fd == listener.as_raw_fd() {
                let (client, _) = listener.accept().expect("a client");
                let place = client.as_raw_fd() as usize;
                watch(place as i32);
                clients.resize_with(clients.len().max(place + 1), || None);
                clients[place] = Some(client);
                continue;
            }
            let place = fd as usize;
            let Some(client) = &mut clients[place] else { continue };
            match client.read(&mut buffer) {
                Ok(len @ 1..) => client.write_all(&buffer[..len]).expect("the client is there"),
                _ => clients[place] = None,
            }
        }
    }
}

/// The bare server as a process.
struct Echo {
    leash: UnixStream,
    child: libc::pid_t,
    address: std::os::unix::net::SocketAddr,
}

impl Echo {
    fn new() -> Echo {
        use std::os::linux::net::SocketAddrExt;
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("multiproc-bench-{}-{number}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a name");
        let listener = UnixListener::bind_addr(&address).expect("the name is free");
        let (leash, theirs) = UnixStream::pair().expect("a pair of sockets");
        let mut leash = Some(leash);
        let child = fork(|| {
            drop(leash.take());
            echo_server(&listener, &theirs);
        });
        Echo { leash: leash.expect("only the child takes it"), child, address }
    }

    /// Something that sends `depth` messages at once, waits for as many, and that `rounds` times.
    fn client(&self, rounds: usize, depth: usize) -> impl FnMut() + use<> {
        let mut socket = UnixStream::connect_addr(&self.address).expect("the server is there");
        let message = vec![7; MESSAGE * depth];
        let mut answer = vec![0; MESSAGE * depth];
        move || {
            for _ in 0..rounds {
                socket.write_all(&message).expect("the server is there");
                socket.read_exact(&mut answer).expect("the server is there");
            }
        }
    }

    fn finish(mut self) {
        self.leash.write_all(&[STOP]).expect("the server is there");
        wait_for(self.child);
    }
}

fn main() {
    multiproc::init();
    print_head();
    // What is started meanwhile runs on the same core.
    let anywhere = affinity();
    pin(Some(first_of(&anywhere)));
    measure(&[1], ", one core");
    set_affinity(&anywhere);
    measure(&[1, 8, 50], "");
    rivals::print_rivals(scaled(10_000));
}

/// Starts both servers and measures with so many clients.
fn measure(crowds: &[usize], place: &str) {
    let manager = Manager::builder().start_method(StartMethod::Spawn).start().expect("a server");
    let dict = manager.dict::<u64, u64>().expect("a dict");
    (0..1000).for_each(|n| dict.insert(n, n).expect("the server is there"));
    let queue = manager.queue::<u64>(0).expect("a queue");
    let echo = Echo::new();
    for &clients in crowds {
        let operations = (scaled(20_000) / clients).max(20);
        let name = |what: &str| {
            let plural = if clients == 1 { "" } else { "s" };
            format!("{what}, {clients} client{plural}{place}")
        };
        let load = Load { clients, operations, depth: 1 };
        load.row(&name("dict get"), &echo, || get(&dict, operations as u64));
        load.row(&name("dict set"), &echo, || set(&dict, operations as u64));
        let load = Load { depth: DEPTH, ..load };
        load.row(&name(&format!("get by {DEPTH}")), &echo, || {
            let dict = dict.clone();
            move || (0..operations / DEPTH).for_each(|_| get_many(&dict))
        });
    }
    let rounds = scaled(10_000);
    let load = Load { clients: 1, operations: 2 * rounds, depth: 1 };
    load.row(&format!("queue put+get{place}"), &echo, || put_and_get(&queue, rounds));
    echo.finish();
}

fn get(dict: &DictProxy<u64, u64>, rounds: u64) -> impl FnMut() + use<> {
    let dict = dict.clone();
    move || (0..rounds).for_each(|n| assert_eq!(dict.get(&(n % 1000)).ok(), Some(Some(n % 1000))))
}

fn set(dict: &DictProxy<u64, u64>, rounds: u64) -> impl FnMut() + use<> {
    let dict = dict.clone();
    move || (0..rounds).for_each(|n| dict.insert(n % 1000, n % 1000).expect("the server is there"))
}

fn get_many(dict: &DictProxy<u64, u64>) {
    let all =
        dict.pipeline(|dict| [(); DEPTH].map(|()| dict.get(&7))).expect("the server is there");
    assert!(all.into_iter().all(|reply| reply.get().is_ok_and(|value| value == Some(7))));
}

fn put_and_get(queue: &QueueProxy<u64>, rounds: usize) -> impl FnMut() + use<> {
    let queue = queue.clone();
    move || {
        for n in 0..rounds as u64 {
            queue.put(n).expect("the server is there");
            assert_eq!(queue.get().expect("the server is there"), n);
        }
    }
}

/// So many operations of each client, `depth` of them in flight.
#[derive(Clone, Copy)]
struct Load {
    clients: usize,
    operations: usize,
    depth: usize,
}

impl Load {
    fn row<W: FnMut()>(self, name: &str, echo: &Echo, work: impl Fn() -> W) {
        let Load { clients, operations, depth } = self;
        let mut ours = Crowd::new(clients, work);
        let mut by_hand = Crowd::new(clients, || echo.client(operations / depth, depth));
        let time = |crowd: &mut Crowd| -> Duration {
            per_operation(clients * (operations / depth) * depth, || crowd.round())
        };
        let target = if depth > 1 { PIPELINED } else { TARGET };
        compare(name, target, || time(&mut ours), || time(&mut by_hand), repeats());
        ours.finish();
        by_hand.finish();
    }
}

/// The cores on which the calling process may run.
fn affinity() -> libc::cpu_set_t {
    // SAFETY: a set of processors is plain bits, of which all may be zero.
    let mut set = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable for one such set.
    let code = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    assert_eq!(code, 0, "sched_getaffinity");
    set
}

fn set_affinity(set: &libc::cpu_set_t) {
    // SAFETY: the call reads `set`.
    unsafe { libc::sched_setaffinity(0, size_of_val(set), set) };
}

fn first_of(set: &libc::cpu_set_t) -> usize {
    // SAFETY: `core` is a number of the set.
    let has = |core: &usize| unsafe { libc::CPU_ISSET(*core, set) };
    (0..libc::CPU_SETSIZE as usize).find(has).unwrap_or(0)
}
