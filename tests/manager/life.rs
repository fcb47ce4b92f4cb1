//! Servers: starting, ending, addresses, references, several processes.

use super::PATIENCE;
use super::support::watchdog;
use multiproc::manager::{DictProxy, ListProxy, QueueProxy, object_id};
use multiproc::{Address, Error, ExitStatus, Manager, Process, all_start_methods};
use std::time::Duration;

#[test]
fn a_server_ends_when_it_is_told_and_calls_then_fail_at_once() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let list = manager.list([1]).unwrap();
    assert!(manager.join_timeout(Duration::ZERO).unwrap().is_none());
    manager.shutdown().unwrap();
    manager.shutdown().unwrap();
    assert_eq!(manager.join().unwrap(), ExitStatus::Exited(0));
    assert!(matches!(list.len(), Err(Error::Disconnected | Error::Os { .. })));
}

#[test]
fn calls_fail_at_once_when_the_server_is_killed() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let queue = manager.queue::<u8>(0).unwrap();
    let waiter = {
        let queue = queue.clone();
        std::thread::spawn(move || queue.get())
    };
    while !manager.debug_info().unwrap().contains("parked=1") {
        std::thread::yield_now();
    }
    super::support::os::signal(manager.pid().unwrap() as _, libc::SIGKILL);
    assert!(matches!(waiter.join().unwrap(), Err(Error::Disconnected)));
    assert!(queue.len().is_err());
    assert_eq!(manager.join().unwrap(), ExitStatus::Killed(libc::SIGKILL));
}

#[test]
fn a_server_ignores_the_interrupt_from_the_terminal() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    super::support::os::signal(manager.pid().unwrap() as _, libc::SIGINT);
    assert_eq!(manager.list([1, 2]).unwrap().len().unwrap(), 2);
    manager.shutdown().unwrap();
    assert_eq!(manager.join().unwrap(), ExitStatus::Exited(0));
}

#[test]
fn a_server_starts_by_every_method() {
    let _watchdog = watchdog(PATIENCE);
    // Fork wants a process without other threads.
    let child = Process::new(start_by_every_method, ()).start().unwrap();
    child.join().unwrap();
}

fn start_by_every_method() {
    for method in all_start_methods() {
        let manager = Manager::builder().start_method(method).start().unwrap();
        assert_eq!(manager.list([1, 2]).unwrap().len().unwrap(), 2, "{method}");
        manager.shutdown().unwrap();
    }
}

#[test]
fn an_initializer_runs_first_and_its_panic_fails_the_start() {
    let _watchdog = watchdog(PATIENCE);
    let (ours, theirs) = multiproc::pipe().unwrap();
    let manager = Manager::builder()
        .initializer(|end: multiproc::Connection| end.send("ready").unwrap(), (theirs,))
        .start()
        .unwrap();
    assert_eq!(ours.recv::<String>().unwrap(), "ready");
    drop(manager);
    let failed = Manager::builder().initializer(|| panic!("no"), ()).start();
    assert!(matches!(failed, Err(Error::Panicked { message, .. }) if message == "no"));
}

/// Reads by one address and key what another process has written.
fn fill(address: String, key: Vec<u8>) -> multiproc::Result<()> {
    let manager = Manager::connect(&address[..], &key)?;
    let queue: QueueProxy<(u32, String)> = manager.get("queue")?;
    queue.put((1, "hello".to_string()))?;
    queue.put((2, "world".to_string()))
}

fn new_queue() -> multiproc::manager::Queue<(u32, String)> {
    multiproc::manager::Queue::unbounded()
}

#[test]
fn a_registered_object_is_found_by_address_key_and_name() {
    let _watchdog = watchdog(PATIENCE);
    let key = b"a key".to_vec();
    let manager = Manager::builder()
        .address("tcp:127.0.0.1:0")
        .authkey(&key[..])
        .register("queue", new_queue)
        .start()
        .unwrap();
    let address = manager.address().to_string();
    Process::new(fill, (address, key)).start().unwrap().join().unwrap().unwrap();
    let queue: QueueProxy<(u32, String)> = manager.get("queue").unwrap();
    assert_eq!(queue.get().unwrap(), (1, "hello".to_string()));
    assert_eq!(queue.get().unwrap(), (2, "world".to_string()));
    let wrong = manager.get::<QueueProxy<u32>>("queue");
    match wrong {
        Err(Error::InterfaceMismatch { expected, found }) => {
            assert!(expected.contains("u32>") && found.contains("String"), "{expected}, {found}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(manager.get::<ListProxy<u8>>("list"), Err(Error::InvalidArgument { .. })));
}

#[test]
fn another_key_is_refused() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::builder().authkey(&b"one"[..]).start().unwrap();
    let refused = Manager::connect(manager.address(), b"another");
    assert!(matches!(refused, Err(Error::AuthenticationError { .. })), "{refused:?}");
    let friend = Manager::connect(manager.address(), b"one").unwrap();
    assert!(friend.shutdown().is_err(), "only who has started it");
}

#[test]
fn an_address_can_be_used_again_at_once() {
    let _watchdog = watchdog(PATIENCE);
    let folder = std::env::temp_dir().join(format!("mp-life-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let first = Manager::builder().address("tcp:127.0.0.1:0").start().unwrap();
    let tcp = first.address().clone();
    for address in [tcp, Address::from(path.as_path())] {
        drop(Manager::builder().address(&address).start());
        let _ = &first;
        if let Address::Tcp { .. } = address {
            first.shutdown().unwrap();
        }
        for _ in 0..3 {
            let manager = Manager::builder().address(&address).start().unwrap();
            manager.list([1]).unwrap().append(2).unwrap();
            manager.shutdown().unwrap();
        }
    }
    assert!(!path.exists());
    std::fs::remove_dir(&folder).unwrap();
}

#[test]
fn objects_go_with_their_last_reference() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    assert_eq!(manager.number_of_objects().unwrap(), 0);
    let list = manager.list([1]).unwrap();
    let twin = list.clone();
    drop(list);
    assert_eq!(manager.number_of_objects().unwrap(), 1);
    assert_eq!(twin.len().unwrap(), 1);
    drop(twin);
    assert_eq!(manager.number_of_objects().unwrap(), 0);
    assert_eq!(manager.debug_info().unwrap().lines().count(), 1);
}

fn use_and_leave(
    list: ListProxy<u32>,
    nested: DictProxy<u32, ListProxy<u32>>,
) -> multiproc::Result<()> {
    list.append(2)?;
    nested.get(&1)?.ok_or(Error::Empty)?.append(3)
}

#[test]
fn a_child_that_ends_or_is_killed_gives_its_references_back() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let (list, dict) = (manager.list([1]).unwrap(), manager.dict().unwrap());
    dict.insert(1, list.clone()).unwrap();
    for _ in 0..5 {
        let child = Process::new(use_and_leave, (list.clone(), dict.clone())).start().unwrap();
        child.join().unwrap().unwrap();
    }
    assert_eq!(list.len().unwrap(), 11);
    assert_eq!(object_id(&dict.get(&1).unwrap().unwrap()), object_id(&list));
    drop(dict);
    assert_eq!(manager.number_of_objects().unwrap(), 1);
    drop(list);
    assert_eq!(manager.number_of_objects().unwrap(), 0);
}

#[test]
fn a_proxy_travels_through_a_queue_and_keeps_its_object_alive_on_the_way() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let queue = multiproc::Queue::new().unwrap();
    let list = manager.list([7]).unwrap();
    queue.put(&list).unwrap();
    drop(list);
    assert_eq!(manager.number_of_objects().unwrap(), 1);
    let list = queue.get().unwrap();
    assert_eq!(list.to_vec().unwrap(), [7]);
    drop(list);
    assert_eq!(manager.number_of_objects().unwrap(), 0);
}

#[test]
fn a_forked_child_dials_again() {
    let _watchdog = watchdog(PATIENCE);
    Process::new(fork_with_a_proxy, ()).start().unwrap().join().unwrap();
}

fn fork_with_a_proxy() {
    let manager = Manager::start().unwrap();
    let list = manager.list([1]).unwrap();
    let child = Process::fork(|| {
        list.append(2).unwrap();
        manager.list([list.clone()]).unwrap().len().unwrap()
    });
    assert_eq!(child.unwrap().join().unwrap(), 1);
    assert_eq!(list.to_vec().unwrap(), [1, 2]);
}

#[test]
fn a_manager_dies_with_the_process_that_started_it() {
    let _watchdog = watchdog(PATIENCE);
    fn start_and_linger(end: multiproc::Connection) {
        let manager = Manager::start().unwrap();
        end.send(&manager.address().to_string()).unwrap();
        loop {
            std::thread::park();
        }
    }
    let (ours, theirs) = multiproc::pipe().unwrap();
    let child = Process::new(start_and_linger, (theirs,)).start().unwrap();
    let address: String = ours.recv().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Nobody can say when the kernel is done with it.
    while !matches!(Manager::connect(&address[..], b""), Err(Error::Os { .. })) {
        std::thread::yield_now();
    }
}

#[test]
fn a_server_can_be_run_by_this_process() {
    let _watchdog = watchdog(PATIENCE);
    fn serve(end: multiproc::Connection) {
        let server =
            Manager::builder().authkey(&b"k"[..]).register("queue", new_queue).server().unwrap();
        end.send(&server.address().to_string()).unwrap();
        server.serve_forever().unwrap();
    }
    let (ours, theirs) = multiproc::pipe().unwrap();
    let child = Process::new(serve, (theirs,)).daemon(true).start().unwrap();
    let address: String = ours.recv().unwrap();
    let manager = Manager::connect(&address[..], b"k").unwrap();
    let queue: QueueProxy<(u32, String)> = manager.get("queue").unwrap();
    queue.put((1, String::new())).unwrap();
    assert_eq!(queue.len().unwrap(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
}
