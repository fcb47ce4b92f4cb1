//! Blocks with names, and lists in them.

mod hostile_peers;
mod support;

use multiproc::{Error, Object, Process, ShareableList, SharedMemory, SharedMemoryManager};
use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;
use support::{in_child, os, watchdog};

multiproc::init_before_main!();

const LONG: Duration = Duration::from_secs(60);

fn is_there(name: &str) -> bool {
    Path::new("/dev/shm").join(name).exists()
}

fn is_errno<T: std::fmt::Debug>(answer: multiproc::Result<T>, errno: i32) -> bool {
    answer.unwrap_err().raw_os_error() == Some(errno)
}

/// A name of this process's own.
fn name(what: &str) -> String {
    format!("psm_test_{what}_{}", std::process::id())
}

/// A forked child that makes a block, tells its name and sleeps until it is killed.
fn owner(name: Option<&str>) -> (os::Pid, String) {
    let (ready, tell) = multiproc::pipe_one_way().unwrap();
    let pid = os::fork(|| {
        let block = SharedMemory::create(name, 100).unwrap();
        block.write_at(0, b"left behind").unwrap();
        tell.send(&block.name().to_string()).unwrap();
        loop {
            thread::park();
        }
    });
    (pid, ready.recv().unwrap())
}

#[test]
fn a_block_is_made_attached_to_and_removed() {
    let chosen = name("basics");
    let block = SharedMemory::create(Some(&chosen), 512).unwrap();
    assert_eq!((block.name(), block.len()), (&chosen[..], 512));
    assert_eq!(format!("{block:?}"), format!("SharedMemory({chosen:?}, size=512)"));
    block.write_at(500, b"howdy howdy!").unwrap();
    let same = SharedMemory::attach(&chosen).unwrap();
    let mut bytes = [0; 12];
    same.read_at(500, &mut bytes).unwrap();
    assert_eq!(&bytes, b"howdy howdy!");
    assert!(is_errno(SharedMemory::create(Some(&chosen), 512), libc::EEXIST));

    block.unlink().unwrap();
    assert!(is_errno(block.unlink(), libc::ENOENT));
    assert!(is_errno(SharedMemory::attach(&chosen), libc::ENOENT));
    same.read_at(500, &mut bytes).unwrap();
    let again = SharedMemory::create(Some(&chosen), 1).unwrap();
    drop((block, same));
    assert!(is_there(&chosen), "the name is another block's now");
    drop(again);
    assert!(!is_there(&chosen));
}

#[test]
fn what_cannot_be_is_refused() {
    assert!(matches!(SharedMemory::create(None, 0), Err(Error::InvalidArgument { .. })));
    for name in ["", "/", "a/b", "nul\0inside"] {
        assert!(matches!(SharedMemory::create(Some(name), 1), Err(Error::InvalidArgument { .. })));
        assert!(matches!(SharedMemory::attach(name), Err(Error::InvalidArgument { .. })));
    }
    assert!(SharedMemory::create(None, usize::MAX).is_err());
    assert!(SharedMemory::create(None, 1 << 50).is_err());
    let block = SharedMemory::create(None, 10).unwrap();
    assert!(block.name().starts_with("psm_") && block.name().len() == 12);
    for (at, len) in [(0, 11), (10, 1), (usize::MAX, 1)] {
        assert!(matches!(block.read_at(at, &mut vec![0; len]), Err(Error::InvalidArgument { .. })));
        assert!(matches!(block.write_at(at, &vec![0; len]), Err(Error::InvalidArgument { .. })));
    }
}

#[test]
fn a_block_that_was_made_shorter_is_an_error() {
    let block = SharedMemory::create(None, 10_000).unwrap();
    File::options()
        .write(true)
        .open(format!("/dev/shm/{}", block.name()))
        .unwrap()
        .set_len(10)
        .unwrap();
    assert!(matches!(block.read_at(5_000, &mut [0; 8]), Err(Error::Corrupt { .. })));
    assert_eq!(SharedMemory::attach(block.name()).unwrap().len(), 10);
}

#[test]
fn bytes_are_the_same_in_every_process() {
    let _watchdog = watchdog(LONG);
    fn work(block: SharedMemory, list: ShareableList) {
        block.write_at(0, b"child").unwrap();
        list.set(1, &Object::from("child")).unwrap();
    }
    let block = SharedMemory::create(None, 5).unwrap();
    let list = ShareableList::new(&[1.into(), "parent".into()]).unwrap();
    let child = Process::new(work, (block.clone(), list.clone())).start().unwrap();
    child.join().unwrap();
    let mut bytes = [0; 5];
    block.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"child");
    assert_eq!(list.get(1).unwrap(), "child".into());
}

#[test]
fn what_was_sent_and_then_removed_cannot_be_received() {
    let (here, there) = multiproc::pipe().unwrap();
    let list = ShareableList::new(&[1.into()]).unwrap();
    here.send(&(list.block().clone(), 7)).unwrap();
    here.send(&list).unwrap();
    drop(list);
    assert!(is_errno(there.recv::<(SharedMemory, i32)>(), libc::ENOENT));
    assert!(is_errno(there.recv::<ShareableList>(), libc::ENOENT));
}

#[test]
fn the_block_of_a_killed_owner_is_reclaimed() {
    let _watchdog = watchdog(LONG);
    let (pid, left) = owner(None);
    SharedMemory::reclaim().unwrap();
    assert!(is_there(&left), "its owner lives");
    os::kill_and_reap(pid);
    assert!(is_there(&left));
    // Another test may come first.
    SharedMemory::reclaim().unwrap();
    assert!(!is_there(&left));
}

#[test]
fn the_name_of_a_killed_owners_block_can_be_taken_at_once() {
    let _watchdog = watchdog(LONG);
    let chosen = name("taken");
    let (pid, _) = owner(Some(&chosen));
    assert!(is_errno(SharedMemory::create(Some(&chosen), 1), libc::EEXIST));
    os::kill_and_reap(pid);
    let block = SharedMemory::create(Some(&chosen), 1).unwrap();
    assert_eq!(block.len(), 1);
}

#[test]
fn attaching_never_removes_and_a_kept_name_stays() {
    let _watchdog = watchdog(LONG);
    let block = SharedMemory::create(None, 10).unwrap();
    in_child(|| drop(SharedMemory::attach(block.name()).unwrap()));
    in_child(|| drop(block.clone()));
    let attached = os::fork(|| {
        let _attached = SharedMemory::attach(block.name()).unwrap();
        loop {
            thread::park();
        }
    });
    os::wait_until_asleep(attached);
    os::kill_and_reap(attached);
    SharedMemory::reclaim().unwrap();
    assert!(is_there(block.name()));

    let name = block.name().to_string();
    block.keep().unwrap();
    drop(block);
    SharedMemory::reclaim().unwrap();
    SharedMemory::attach(&name).unwrap().unlink().unwrap();
}

#[test]
fn blocks_of_other_programs_are_left_alone() {
    let name = name("foreign");
    let path = Path::new("/dev/shm").join(&name);
    fs::write(&path, b"not ours").unwrap();
    SharedMemory::reclaim().unwrap();
    assert!(is_errno(SharedMemory::create(Some(&name), 1), libc::EEXIST));
    assert_eq!(SharedMemory::attach(&name).unwrap().len(), 8);
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_manager_removes_all_its_blocks() {
    let manager = SharedMemoryManager::new();
    let (block, list) = (manager.shared_memory(32).unwrap(), manager.shareable_list(&[]).unwrap());
    let names = [block.name().to_string(), list.block().name().to_string()];
    assert!(names.iter().all(|name| is_there(name)));
    manager.shutdown();
    manager.shutdown();
    assert!(!names.iter().any(|name| is_there(name)));
    assert!(matches!(manager.shared_memory(32), Err(Error::Closed)));

    let manager = SharedMemoryManager::new();
    let block = manager.shared_memory(32).unwrap();
    in_child(|| drop(SharedMemoryManager::new()));
    drop(manager);
    assert!(!is_there(block.name()));
}

fn items() -> Vec<Object> {
    let bytes = Object::Bytes(b"HoWdY".to_vec());
    vec!["howdy".into(), bytes, (-273.154).into(), 100.into(), Object::None, true.into(), 42.into()]
}

#[test]
fn a_list_keeps_its_items_and_changes_their_types() {
    let list = ShareableList::new(&items()).unwrap();
    assert_eq!(list.format().unwrap(), "8s8sdqxxxxxx?xxxxxxxx?q");
    assert_eq!(list.iter().collect::<Result<Vec<_>, _>>().unwrap(), items());
    list.set(4, &"some".into()).unwrap();
    assert_eq!(list.format().unwrap(), "8s8sdq8sxxxxxxx?q");
    list.set(0, &25.into()).unwrap();
    assert_eq!(list.get(0).unwrap(), 25.into());
    list.set(0, &"howdy!!!".into()).unwrap();
    assert_eq!(list.get(0).unwrap(), "howdy!!!".into());
    assert_eq!((list.count(&42.into()).unwrap(), list.index(&100.into()).unwrap()), (1, Some(3)));
    assert_eq!(list.index(&"absent".into()).unwrap(), None);
    assert!(matches!(list.get(7), Err(Error::InvalidArgument { .. })));
    assert!(matches!(list.set(usize::MAX, &1.into()), Err(Error::InvalidArgument { .. })));
    assert!(list.set(0, &Object::List(Vec::new())).is_err());

    let empty = ShareableList::new(&[]).unwrap();
    assert!(empty.is_empty() && empty.get(0).is_err() && empty.format().unwrap().is_empty());
}

#[test]
fn text_has_the_room_of_its_first_value_and_spills_into_no_neighbour() {
    let list = ShareableList::new(&["\u{1f600}\u{1f600}\u{1f600}".into(), "next".into()]).unwrap();
    assert_eq!(list.format().unwrap(), "16s8s");
    let fits = "\u{1f600}".repeat(4);
    list.set(0, &Object::from(&fits[..])).unwrap();
    let too_long = format!("{fits}!");
    let refused = list.set(0, &Object::from(&too_long[..]));
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })));
    assert_eq!(list.get(0).unwrap(), Object::from(&fits[..]), "the old one stays");
    assert_eq!(list.get(1).unwrap(), "next".into());
    list.set(1, &"nul\0\0".into()).unwrap();
    assert_eq!(list.get(1).unwrap(), "nul".into());
}

#[test]
fn the_layout_is_as_it_should_be_byte_for_byte() {
    let list = ShareableList::new(&[7.into(), Object::None, "ab".into()]).unwrap();
    let numbers = [3_i64, 0, 8, 16, 24, 7, 0].map(i64::to_ne_bytes).concat();
    let rest = b"ab\0\0\0\0\0\0q\0\0\0\0\0\0\0xxxxxx?x8s\0\0\0\0\0\0\0\x03\x01";
    let mut found = vec![0; list.block().len()];
    list.block().read_at(0, &mut found).unwrap();
    assert_eq!(found, [&numbers[..], rest].concat());
    assert_eq!(found.len(), 91);
}

#[test]
fn a_scribbled_list_is_an_error() {
    let block = SharedMemory::create(None, 64).unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20_000 {
        for at in (0..64).step_by(8) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let word = (random >> 40 & 7) << (random & 0x38);
            block.write_at(at, &word.to_ne_bytes()).unwrap();
        }
        if let Ok(list) = ShareableList::attach(block.name()) {
            let _ = format!("{list:?}");
            (0..=list.len()).for_each(|index| drop(list.set(index, &"text".into())));
        }
    }
}

#[test]
fn a_handle_is_as_long_whatever_the_list_holds() {
    let (short, long) = (
        ShareableList::new(&["x".into()]).unwrap(),
        ShareableList::new(&vec!["many bytes".repeat(100).into(); 100]).unwrap(),
    );
    let encoded = multiproc::to_bytes(&short).unwrap();
    assert_eq!(encoded.len(), multiproc::to_bytes(&long).unwrap().len());
    let same: ShareableList = multiproc::from_bytes(&encoded).unwrap();
    same.set(0, &7.into()).unwrap();
    assert_eq!(short.get(0).unwrap(), 7.into());
    drop(short);
    assert!(is_errno(multiproc::from_bytes::<ShareableList>(&encoded), libc::ENOENT));
}

#[test]
fn what_the_fuzzer_began_with_is_a_list_or_refused() {
    let _watchdog = watchdog(LONG);
    for seed in hostile_peers::seeds("list") {
        assert!(hostile_peers::check_list(&seed));
        for at in 0..seed.len() {
            hostile_peers::check_list(&seed[..at]);
            let mut other = seed.clone();
            other[at] ^= 1 << (at % 8);
            hostile_peers::check_list(&other);
        }
    }
}
