//! CPython programs as clients of our manager.

use super::ground::{Python, Running, each, turn};
use multiproc::manager::{List, ListProxy, Namespace, NamespaceProxy, Queue, QueueProxy};
use multiproc::{Error, Manager, ManagerBuilder, Object};
use std::process::Command;
use std::time::Duration;

const KEY: &str = "manager key";

impl Python {
    fn start_client(&self, role: &str, manager: &Manager) -> Running {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/manager_peer.py");
        let mut command = Command::new(&self.program);
        command.arg(script).arg(role).arg(manager.address().to_string());
        Running::new(command)
    }

    fn manager(&self) -> ManagerBuilder {
        Manager::builder()
            .authkey(KEY)
            .python(true)
            .legacy_md5(self.is_old())
            .register("jobs", Queue::<Object>::unbounded)
            .register("notes", || List::<Object>::from(vec!["Rust's".into()]))
            .register("settings", Namespace::default)
            .register("numbers", || List::<i32>::from(vec![1]))
    }
}

/// Runs a role with a manager at an address.
fn run(role: &str, address: &str) {
    each(|python| {
        let manager = python.manager().address(address).start().unwrap();
        python.start_client(role, &manager).finish();
        assert_eq!(manager.get::<ListProxy<i32>>("numbers").unwrap().len().unwrap(), 1);
    });
}

#[test]
fn a_python_client_uses_what_rust_has_registered() {
    let _turn = turn();
    each(|python| {
        let manager = python.manager().address("tcp:127.0.0.1:0").start().unwrap();
        let jobs: QueueProxy<Object> = manager.get("jobs").unwrap();
        let settings: NamespaceProxy = manager.get("settings").unwrap();
        settings.set("name", "Rust".into()).unwrap();
        let all = ["from Rust".into(), 1.into(), Object::None, 2.5.into(), b"bytes".into()];
        jobs.put(Object::list(all)).unwrap();
        python.start_client("registered", &manager).finish();
        let job = jobs.try_get().unwrap();
        assert_eq!(job.to_string(), "{'from': 'Python', 'numbers': (1, 1180591620717411303424)}");
        let notes: ListProxy<Object> = manager.get("notes").unwrap();
        assert_eq!(notes.to_string(), "[\"Rust's\", \"Python's\"]");
        assert_eq!(settings.to_string(), "Namespace(answer=42)");
    });
}

#[test]
fn a_python_sync_manager_has_containers_here() {
    let _turn = turn();
    run("containers", "abstract:");
}

#[test]
fn a_python_sync_manager_waits_here() {
    let _turn = turn();
    run("waiting", "tcp:127.0.0.1:0");
}

#[test]
fn proxies_travel_between_python_processes() {
    let _turn = turn();
    run("processes", "abstract:");
}

#[test]
fn a_python_client_cannot_end_the_server() {
    let _turn = turn();
    run("shutdown", "tcp:127.0.0.1:0");
}

#[test]
fn a_python_client_with_another_key_is_refused() {
    let _turn = turn();
    run("refused", "tcp:127.0.0.1:0");
}

#[test]
fn a_python_client_that_is_killed_takes_nothing_with_it() {
    let _turn = turn();
    each(|python| {
        let manager = python.manager().start().unwrap();
        let jobs: QueueProxy<Object> = manager.get("jobs").unwrap();
        let mut client = python.start_client("holds_lock", &manager);
        assert_eq!(client.line().len(), 16, "an id");
        while !manager.debug_info().unwrap().contains("parked=1") {
            std::thread::yield_now();
        }
        drop(client);
        while !manager.debug_info().unwrap().starts_with("sessions=1 ") {
            std::thread::yield_now();
        }
        jobs.put("still here".into()).unwrap();
        assert_eq!(jobs.get_timeout(Duration::from_secs(60)).unwrap(), "still here".into());
    });
}

#[test]
fn python_is_let_in_only_where_it_was_said() {
    let _turn = turn();
    each(|python| {
        let manager =
            Manager::builder().authkey(KEY).legacy_md5(true).address("abstract:").start().unwrap();
        python.start_client("not_let_in", &manager).finish();
        assert!(matches!(manager.get::<ListProxy<i32>>("x"), Err(Error::InvalidArgument { .. })));
    });
}
