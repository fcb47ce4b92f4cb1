//! Objects of a CPython program, where there is one.

use super::PATIENCE;
use super::support::watchdog;
use multiproc::{Client, Error, Object, PythonManager};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const PROGRAM: &str = "
import sys
from multiprocessing.managers import SyncManager
if __name__ == '__main__':
    manager = SyncManager(('127.0.0.1', 0), b'key')
    manager.start()
    print(manager.address[1], flush=True)
    sys.stdin.read()
    manager.shutdown()
";

#[test]
fn the_objects_of_a_python_manager_are_used() {
    let _watchdog = watchdog(PATIENCE);
    let python = Command::new("python3")
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else { return };
    let mut line = String::new();
    BufReader::new(python.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = format!("tcp:127.0.0.1:{}", line.trim());

    let client = || Client::builder().authkey(&b"key"[..]).legacy_md5(true);
    let manager = PythonManager::connect(&address[..], client()).unwrap();
    let wrong = Client::builder().authkey(&b"other"[..]).legacy_md5(true);
    let refused = PythonManager::connect(&address[..], wrong);
    assert!(matches!(refused, Err(Error::AuthenticationError { .. })));

    let dict = manager.create("dict", []).unwrap();
    dict.call("__setitem__", ["a".into(), 1.into()]).unwrap();
    dict.call("__setitem__", [2.5.into(), Object::None]).unwrap();
    assert_eq!(dict.to_string(), "{'a': 1, 2.5: None}");
    assert_eq!(dict.call("get", ["a".into()]).unwrap(), 1.into());
    let missing = dict.call("__getitem__", ["b".into()]).unwrap_err().to_string();
    assert!(missing.contains("KeyError"), "{missing}");
    let hidden = dict.call("__class__", []).unwrap_err();
    assert!(matches!(hidden, Error::Remote { .. }), "{hidden}");

    let list = manager.create("list", [Object::list([3.into(), 1.into()])]).unwrap();
    list.call("sort", []).unwrap();
    list.call("append", ["x".into()]).unwrap();
    assert_eq!(list.value().unwrap(), Object::list([1.into(), 3.into(), "x".into()]));

    let queue = manager.create("Queue", [1.into()]).unwrap();
    queue.call("put", [Object::from("item")]).unwrap();
    assert!(matches!(queue.call("put_nowait", [0.into()]), Err(Error::Full)));
    assert_eq!(queue.call("get", []).unwrap(), "item".into());
    assert!(matches!(queue.call("get_nowait", []), Err(Error::Empty)));

    let event = manager.create("Event", []).unwrap();
    let waiter = event.try_clone().unwrap();
    let thread = std::thread::spawn(move || waiter.call("wait", []).unwrap());
    event.call("set", []).unwrap();
    assert_eq!(thread.join().unwrap(), true.into());

    let lock = manager.create("Lock", []).unwrap();
    assert_eq!(lock.call("acquire", []).unwrap(), true.into());
    assert_eq!(lock.call("acquire", [false.into()]).unwrap(), false.into());
    lock.call("release", []).unwrap();

    let space = manager.create("Namespace", []).unwrap();
    space.set_attribute("x", 10.into()).unwrap();
    assert_eq!(space.attribute("x").unwrap(), 10.into());

    let value = manager.create("Value", ["i".into(), 7.into()]).unwrap();
    value.call("set", [8.into()]).unwrap();
    assert_eq!(value.call("get", []).unwrap(), 8.into());

    assert_eq!(manager.number_of_objects().unwrap(), 7);
    drop((dict, list, queue, event, lock, space, value));
    assert_eq!(manager.number_of_objects().unwrap(), 0);
    drop(python.stdin.take());
    assert!(python.wait().unwrap().success());
}
