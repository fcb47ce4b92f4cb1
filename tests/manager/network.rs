//! A network that goes away without a word.

use super::PATIENCE;
use super::hosts::{ADDRESSES, Hosts};
use super::support::{os, watchdog};
use multiproc::manager::{LockProxy, Queue, QueueProxy, SemaphoreProxy};
use multiproc::{Connection, Error, Manager, Process};
use std::time::Duration;

const KEY: &[u8] = b"of both hosts";

fn builder(address: String) -> multiproc::ManagerBuilder {
    Manager::builder()
        .address(address)
        .authkey(KEY)
        .keepalive(Duration::ZERO)
        .register("lock", multiproc::manager::Lock::new)
        .register("semaphore", || multiproc::manager::Semaphore::new(1, 1))
        .register("queue", Queue::<u32>::unbounded)
}

/// On one host: serves, and says when everything is back that the other had.
fn serve(namespace: String, address: String, end: Connection) -> multiproc::Result<()> {
    os::enter_network(&namespace);
    let manager = builder(address).start()?;
    end.send(&manager.address().to_string())?;
    end.recv::<()>()?;
    while !manager.debug_info()?.contains("parked=1") {
        std::thread::yield_now();
    }
    end.send(&())?;
    let lock: LockProxy = manager.get("lock")?;
    let semaphore: SemaphoreProxy = manager.get("semaphore")?;
    let owner_died = lock.acquire()?.owner_died();
    drop(semaphore.permit()?);
    let text = manager.debug_info()?;
    let is_alone = text.starts_with("sessions=1 ") && text.contains("parked=0");
    end.send(&(owner_died, is_alone, manager.number_of_objects()?))
}

/// On the other: takes something of everything, and waits for more.
fn hold(namespace: String, address: String, end: Connection) -> multiproc::Result<()> {
    os::enter_network(&namespace);
    let manager = Manager::connect(&address[..], KEY)?;
    let (lock, semaphore): (LockProxy, SemaphoreProxy) =
        (manager.get("lock")?, manager.get("semaphore")?);
    let queue: QueueProxy<u32> = manager.get("queue")?;
    let list = manager.list([1, 2])?;
    std::mem::forget((lock.acquire()?, semaphore.permit()?));
    end.send(&())?;
    let outcome = queue.get();
    end.send(&outcome.unwrap_err().to_string())?;
    drop(list);
    Ok(())
}

#[test]
fn what_a_client_had_comes_back_when_its_network_is_gone() {
    let _watchdog = watchdog(PATIENCE);
    let hosts = match Hosts::make() {
        Ok(hosts) => hosts,
        Err(why) => return println!("skipped: no network namespaces: {why}"),
    };
    let (server, theirs) = multiproc::pipe().unwrap();
    let place = format!("tcp:{}:0", ADDRESSES[0][0]);
    let serving = Process::new(serve, (hosts.path(0), place, theirs)).start().unwrap();
    let address: String = server.recv().unwrap();
    let (client, theirs) = multiproc::pipe().unwrap();
    let holding = Process::new(hold, (hosts.path(1), address, theirs)).start().unwrap();
    client.recv::<()>().unwrap();
    server.send(&()).unwrap();
    server.recv::<()>().unwrap();
    hosts.unplug(1);
    let back: (bool, bool, usize) = server.recv().unwrap();
    // The lock, the semaphore and the queue have names and stay; the list goes with its client.
    assert_eq!(back, (true, true, 3));
    serving.join().unwrap().unwrap();
    if std::env::var_os("MULTIPROC_FULL").is_some() {
        // The client gives its server up as well, after half a minute.
        assert_eq!(client.recv::<String>().unwrap(), Error::Disconnected.to_string());
    }
    holding.kill().unwrap();
    holding.wait().unwrap();
}
