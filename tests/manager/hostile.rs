//! Clients that have the key and mean no good: what they send is made of any bytes, by the fuzzer and by
//! the test that replays its seeds.
#![allow(dead_code, unreachable_pub)]

use multiproc::manager::{
    Array, Barrier, Condition, Dict, Event, Iter, List, Lock, Namespace, Queue, RLock, Semaphore,
    Set, Value, ValueProxy, method_number, object_id,
};
use multiproc::{Client, Manager, Object};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

const KEY: &[u8] = b"known here";

/// Methods of all kinds of objects; each object is asked for each.
const METHODS: [&str; 36] = [
    "len",
    "item",
    "set",
    "set_slice",
    "remove_slice",
    "slice",
    "items",
    "append",
    "extend",
    "insert",
    "pop",
    "pop_at",
    "clear",
    "reverse",
    "get",
    "replace",
    "set_default",
    "update",
    "entry_after",
    "symmetric_difference_update",
    "get_attribute",
    "put_within",
    "get_within",
    "join_within",
    "task_done",
    "acquire_within",
    "release_now",
    "wait_within",
    "notify_some",
    "is_set",
    "reset",
    "abort",
    "value",
    "next_item",
    "next_items",
    "no such method",
];

/// A server in a thread, its objects, and a value that no hostile client knows.
struct Target {
    address: String,
    objects: Vec<u64>,
    witness: ValueProxy<u64>,
    manager: Manager,
    /// Kept, so that the objects are.
    _proxies: Box<dyn Send + Sync>,
}

fn builder() -> multiproc::ManagerBuilder {
    Manager::builder()
        .address("abstract:")
        .authkey(KEY)
        .python(true)
        .max_message(1 << 16)
        .register("list", || List::<Object>::from(vec![1.into()]))
        .register("dict", || Dict::<Object, Object>::from_iter([]))
        .register("set", || Set::<Object>::from_iter([]))
        .register("queue", || Queue::<Object>::bounded(3))
        .register("lock", Lock::new)
        .register("rlock", RLock::new)
        .register("semaphore", || Semaphore::new(2, 2))
        .register("condition", Condition::new)
        .register("event", Event::new)
        .register("barrier", || Barrier::new(2, None))
        .register("value", || Value::<Object>::new(Object::None))
        .register("array", || Array::<Object>::from(vec![1.into()]))
        .register("namespace", Namespace::new)
        .register("iter", || Iter::<Object>::new((0..3).map(Object::from)))
        .register("witness", || Value::new(42u64))
}

/// The fuzzer's server: in a thread, where its coverage is seen.
fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let (sender, receiver) = std::sync::mpsc::channel();
        // It stays in the thread that it was made in.
        std::thread::spawn(move || {
            let server = builder().server().unwrap();
            sender.send(server.address().to_string()).unwrap();
            server.serve_forever()
        });
        let address: String = receiver.recv().unwrap();
        Target::new(Manager::connect(&address[..], KEY).unwrap())
    })
}

impl Target {
    fn new(manager: Manager) -> Target {
        let (mut objects, mut proxies) = (Vec::new(), Vec::<Box<dyn Send + Sync>>::new());
        macro_rules! find {
            ($($name:literal: $type:ty,)*) => { $(
                let proxy = manager.get::<<$type as multiproc::manager::Managed>::Proxy>($name).unwrap();
                objects.push(object_id(&proxy));
                proxies.push(Box::new(proxy));
            )* };
        }
        find! {
            "list": List<Object>, "dict": Dict<Object, Object>, "set": Set<Object>,
            "queue": Queue<Object>, "lock": Lock, "rlock": RLock, "semaphore": Semaphore,
            "condition": Condition, "event": Event, "barrier": Barrier, "value": Value<Object>,
            "array": Array<Object>, "namespace": Namespace, "iter": Iter<Object>,
        }
        let witness = manager.get("witness").unwrap();
        let address = manager.address().to_string();
        Target { address, objects, witness, manager, _proxies: Box::new(proxies) }
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes(), body].concat()
}

/// What a client sends: as it is; as requests of ours to real objects; or as requests of CPython's. The
/// first byte says which.
fn stream(bytes: &[u8], objects: &[u64]) -> Vec<u8> {
    match bytes.split_first() {
        Some((mode, rest)) if mode % 3 == 1 => ours(rest, objects),
        Some((mode, rest)) if mode % 3 == 2 => pythons(rest, objects),
        Some((_, rest)) => rest.to_vec(),
        None => Vec::new(),
    }
}

/// Kind, flags, object, method, length, and as many bytes of arguments; again and again.
fn ours(mut bytes: &[u8], objects: &[u64]) -> Vec<u8> {
    let mut stream = frame(&[&b"mp-mngr\n"[..], &1u32.to_le_bytes(), &[9; 16]].concat());
    while let [kind, flags, object, method, len, rest @ ..] = bytes {
        let (arguments, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        let object = objects.get(usize::from(*object)).copied().unwrap_or(u64::from(*object));
        let method = METHODS.get(usize::from(*method)).map_or(0, |name| method_number(name));
        let head = [*kind, *flags, 0, 0, 0, 0, 0, 0];
        let request = [&head[..], &object.to_le_bytes(), &method.to_le_bytes(), arguments].concat();
        stream.extend(frame(&request));
        bytes = rest;
    }
    stream
}

/// Pickles, each behind two bytes of length, on a connection that makes calls. An id of sixteen digits,
/// `00...0N`, means object N.
fn pythons(mut bytes: &[u8], objects: &[u64]) -> Vec<u8> {
    let accept =
        [Object::None, "accept_connection".into(), Object::tuple(["x".into()]), Object::dict([])];
    let mut stream = frame(&Object::tuple(accept).to_pickle().unwrap());
    while let [high, low, rest @ ..] = bytes {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (pickle, rest) = rest.split_at(rest.len().min(len));
        let mut pickle = pickle.to_vec();
        for at in 0..pickle.len().saturating_sub(15) {
            let number = std::str::from_utf8(&pickle[at..at + 16])
                .ok()
                .and_then(|text| u64::from_str_radix(text, 16).ok())
                .and_then(|number| objects.get(usize::try_from(number).ok()?));
            if let Some(id) = number {
                pickle[at..at + 16].copy_from_slice(format!("{id:016x}").as_bytes());
            }
        }
        stream.extend(frame(&pickle));
        bytes = rest;
    }
    stream
}

/// Sends what the bytes mean, and leaves. Everybody else is served as before.
pub fn check(bytes: &[u8]) {
    check_with(target(), bytes);
}

fn check_with(target: &Target, bytes: &[u8]) {
    let connection = Client::builder().authkey(KEY).connect(&target.address[..]).unwrap();
    let mut socket: UnixStream = connection.into_fd().unwrap().into();
    socket.set_nonblocking(true).unwrap();
    // What does not fit, or comes too late, is not sent.
    let _ = socket.write_all(&stream(bytes, &target.objects));
    let _ = socket.shutdown(Shutdown::Write);
    socket.set_nonblocking(false).unwrap();
    let mut replies = Vec::new();
    // A client that is cut off may find that the connection was reset.
    let _ = socket.read_to_end(&mut replies);
    let mut rest = &replies[..];
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let len = usize::try_from(i32::from_be_bytes(*len)).expect("a length");
        rest = after.get(len..).unwrap_or_default();
    }
    assert_eq!(target.witness.get().expect("the server is there"), 42);
    assert!(
        target.manager.number_of_objects().expect("the server is there") > target.objects.len()
    );
}

#[cfg(test)]
#[test]
fn what_the_fuzzer_begins_with_is_survived() {
    let target = Target::new(builder().start().unwrap());
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/manager");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        check_with(&target, &std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 5);
    // And every method of every object, with arguments that mean something or nothing.
    for object in 0..target.objects.len() as u8 {
        for method in 0..METHODS.len() as u8 {
            let arguments = [&[][..], &[0], &[1; 8], &[0xff; 16], &[3, 1, 0, 0, 0, 0, 0, 0, 0, 1]];
            let requests = arguments
                .iter()
                .flat_map(|bytes| [&[1, 1, object, method, bytes.len() as u8], *bytes].concat());
            check_with(&target, &[1].into_iter().chain(requests).collect::<Vec<u8>>());
        }
    }
}
