//! What queues take from the system, memory and descriptors, and what happens when it refuses.

mod support;

use multiproc::{Error, Queue};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use support::os::{self, Page};
use support::{in_child, join, turn};

/// Sets the soft limit of a resource.
#[allow(unsafe_code)]
fn limit(resource: libc::__rlimit_resource_t, soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is one record, which the call fills in.
    assert_eq!(unsafe { libc::getrlimit(resource, &mut limit) }, 0);
    limit.rlim_cur = soft;
    // SAFETY: `limit` is one record, which the call reads.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

/// Makes this process one of a user without privileges, who has nothing else running.
#[allow(unsafe_code)]
fn become_nobody() {
    let user = 3_000_000 + std::process::id();
    // SAFETY: the call takes numbers.
    assert_eq!(unsafe { libc::setresuid(user, user, user) }, 0);
}

/// From now on the system refuses to reserve more than `most` bytes of a file at once, with `errno`.
#[allow(unsafe_code)]
fn refuse_reservations_beyond(most: u32, errno: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ) as u16;
    const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The number of the call, then the low halves of its second and its fourth argument.
    let mut lines = [
        line(LOAD, 0, 0, 0),
        line(EQUAL, 0, 5, libc::SYS_fallocate as u32),
        line(LOAD, 0, 0, 24),
        line(EQUAL, 0, 3, 0),
        line(LOAD, 0, 0, 40),
        line(GREATER, 0, 1, most),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_mut_ptr() };
    // SAFETY: the call takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: `program` names the lines, which the call copies.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0) }, 0);
}

/// The memory files of this process, by descriptor, with the memory they have.
fn memory_files() -> Vec<(std::ffi::OsString, u64)> {
    use std::os::unix::fs::MetadataExt;
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let ours = fds.filter(|entry| {
        std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains("multiproc"))
    });
    let size =
        |entry: &std::fs::DirEntry| Some(std::fs::metadata(entry.path()).ok()?.blocks() * 512);
    ours.filter_map(|entry| Some((entry.file_name(), size(&entry)?))).collect()
}

#[test]
fn memory_is_given_back_when_the_queue_runs_empty() {
    let _turn = turn();
    in_child(|| {
        // A child inherits those of the tests beside it.
        let inherited = memory_files();
        let queue = Queue::<Vec<u8>>::new().unwrap();
        let is_inherited = |name: &std::ffi::OsString| inherited.iter().any(|(n, _)| n == name);
        let (own, _) = memory_files().into_iter().find(|(name, _)| !is_inherited(name)).unwrap();
        let memory = || memory_files().into_iter().find(|(name, _)| *name == own).unwrap().1;
        assert!(memory() <= 64 << 10);
        for _ in 0..20 {
            queue.put(&vec![1; 1 << 20]).unwrap();
        }
        assert!(memory() >= 20 << 20);
        for _ in 0..20 {
            queue.get().unwrap();
        }
        assert!(memory() <= 64 << 10, "{}", memory());
        queue.put(&vec![2; 5 << 20]).unwrap();
        queue.get().unwrap();
        // So soon after the last time it waits for a while.
        assert!(matches!(queue.get_timeout(Duration::from_millis(200)), Err(Error::Empty)));
        assert!(memory() <= 64 << 10, "{}", memory());
        queue.put(&vec![3; 5]).unwrap();
        assert_eq!(queue.get().unwrap(), [3; 5]);
    });
}

/// `count` descriptors of one end of a stream, and the other end.
fn writers(count: usize) -> (UnixStream, Vec<OwnedFd>) {
    let (reader, writer) = UnixStream::pair().unwrap();
    let writer = OwnedFd::from(writer);
    let writers = (0..count).map(|_| writer.try_clone().unwrap()).collect();
    (reader, writers)
}

#[test]
fn descriptors_travel_with_their_message() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::<(u32, Vec<OwnedFd>)>::new().unwrap();
        let mut readers = Vec::new();
        for (number, count) in [1, 0, 300, 253, 254, 2].into_iter().enumerate() {
            let (reader, fds) = writers(count);
            queue.put(&(number as u32, fds)).unwrap();
            readers.push((reader, count));
        }
        for (number, (mut reader, count)) in readers.into_iter().enumerate() {
            let (found, fds) = queue.get().unwrap();
            assert_eq!((found, fds.len()), (number as u32, count));
            // A byte through the first and the last of them.
            let ends = [fds.first(), fds.last()].into_iter().flatten();
            ends.for_each(|fd| {
                File::from(fd.try_clone().unwrap()).write_all(b"x").unwrap();
            });
            drop(fds);
            // The last writer is gone with the message: nothing of it is left in the queue.
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            assert_eq!(text.len(), if count == 0 { 0 } else { 2 });
        }
    });
}

#[test]
fn a_lack_of_address_space_is_an_error_of_put_and_loses_nothing() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::<Vec<u8>>::builder().max_bytes(1 << 30).build().unwrap();
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
        limit(libc::RLIMIT_AS, pages * 4096 + (24 << 20));
        let item = vec![5; 10_000];
        let mut count = 0;
        let error = loop {
            match queue.put(&item) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM), "{error}");
        assert_eq!(queue.len().unwrap(), count);
        (0..count).for_each(|_| assert!(queue.get().unwrap() == item));
        queue.put(&item).unwrap();
        assert!(queue.get().unwrap() == item);
    });
}

#[test]
fn get_without_free_descriptors_fails_and_loses_nothing() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::<Vec<OwnedFd>>::new().unwrap();
        let (_reader, fds) = writers(300);
        queue.put(&fds).unwrap();
        drop(fds);
        os::limit_descriptors(200);
        for _ in 0..3 {
            let error = queue.get().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
            assert_eq!(queue.len().unwrap(), 1);
        }
        os::limit_descriptors(1000);
        assert_eq!(queue.get().unwrap().len(), 300);
    });
}

#[test]
fn more_descriptors_than_the_system_keeps_in_flight_are_refused_and_none_is_lost() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::<OwnedFd>::new().unwrap();
        let (mut reader, mut fds) = writers(1);
        let fd = fds.pop().unwrap();
        let mut count = 0;
        let refused = loop {
            match queue.try_put(&fd) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
            assert!(count < 100_000);
        };
        assert!(matches!(refused, Error::Full | Error::Os { .. }), "{refused}");
        drop(fd);
        (0..count).for_each(|_| drop(queue.get().unwrap()));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "a descriptor is left behind");
    });
}

#[test]
fn put_waits_for_room_for_its_descriptor() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::<OwnedFd>::new().unwrap();
        let (_reader, fds) = writers(1);
        let getter = os::fork(|| (0..10_000).for_each(|_| drop(queue.get().unwrap())));
        (0..10_000).for_each(|_| queue.put(&fds[0]).unwrap());
        join(getter);
    });
}

#[test]
fn a_batch_carries_descriptors() {
    let _turn = turn();
    let _watchdog = support::watchdog(Duration::from_secs(60));
    let queue = Queue::<(u8, Vec<OwnedFd>)>::new().unwrap();
    let (mut end, fds) = writers(3);
    let mut fds = fds.into_iter();
    let items = [(0, vec![]), (1, fds.by_ref().take(2).collect()), (2, fds.collect())];
    assert_eq!(queue.put_many(&items).unwrap(), 3);
    drop(items);
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(queue.get_many(3).unwrap());
    }
    assert_eq!(got.iter().map(|(_, fds)| fds.len()).collect::<Vec<_>>(), [0, 2, 1]);
    drop(got);
    assert_eq!(end.read(&mut [0]).unwrap(), 0, "a descriptor is left");
}

#[test]
fn memory_refused_when_the_queue_grows_is_an_error_of_put_and_loses_nothing() {
    let _turn = turn();
    for errno in [libc::ENOSPC, libc::ENOMEM] {
        in_child(|| {
            let queue = Queue::<Vec<u8>>::builder().max_bytes(64 << 20).build().unwrap();
            let page = Page::new();
            let item = |n: u64| vec![n as u8; 10_000];
            let count = page.counter(0);
            join(os::fork(|| {
                refuse_reservations_beyond(64 << 10, errno);
                let mut put = 0;
                let error = loop {
                    match queue.put(&item(put)) {
                        Ok(()) => put += 1,
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.raw_os_error(), Some(errno), "{error}");
                assert_eq!(queue.len().unwrap() as u64, put);
                let large = vec![vec![0; 200_000]; 3];
                let error = queue.put_many(&large).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(errno), "{error}");
                // With one gone there is room again where the queue is already.
                (0..3).for_each(|n| assert!(queue.get().unwrap() == item(n)));
                queue.put(&item(put)).unwrap();
                count.store(put + 1, std::sync::atomic::Ordering::SeqCst);
            }));
            // Who is not refused goes on where the other could not.
            let put = count.load(std::sync::atomic::Ordering::SeqCst);
            queue.put(&vec![7; 200_000]).unwrap();
            (3..put).for_each(|n| assert!(queue.get().unwrap() == item(n), "{n} of {put}"));
            assert!(queue.get().unwrap() == vec![7; 200_000]);
            assert!(queue.is_empty().unwrap());
        });
    }
}

#[test]
fn a_queue_larger_than_the_limit_of_a_file_is_an_error() {
    let _turn = turn();
    in_child(|| {
        limit(libc::RLIMIT_FSIZE, 1 << 20);
        let error = Queue::<u8>::builder().max_bytes(2 << 20).build().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{error}");
        // Without a word about it, a queue keeps to the limit.
        let queue = Queue::<Vec<u8>>::new().unwrap();
        let mut count = 0;
        while queue.try_put(&vec![1; 10_000]).is_ok() {
            count += 1;
        }
        assert!(count > 10, "{count}");
        (0..count).for_each(|_| assert!(queue.get().unwrap() == [1; 10_000]));
    });
}

#[test]
fn ten_thousand_sockets_wait_in_a_queue_a_few_hundred_a_message() {
    let _turn = turn();
    in_child(|| {
        let queue = Queue::<Vec<OwnedFd>>::new().unwrap();
        let (mut reader, fds) = writers(250);
        let mut count = 0;
        let refused = (0..40).find_map(|_| {
            let outcome = queue.try_put(&fds);
            count += usize::from(outcome.is_ok());
            outcome.err()
        });
        drop(fds);
        match refused {
            None => assert_eq!(count, 40),
            // Somebody without privileges may have as many in flight as descriptors open.
            Some(error) => assert_eq!(error.raw_os_error(), Some(libc::ETOOMANYREFS), "{error}"),
        }
        assert!(count > 0);
        (0..count).for_each(|_| assert_eq!(queue.get().unwrap().len(), 250));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "a descriptor is left behind");
    });
}

#[test]
fn more_sockets_than_a_user_may_have_in_flight_are_an_error_of_put_and_none_is_lost() {
    let _turn = turn();
    if !os::is_root() {
        return;
    }
    in_child(|| {
        let queue = Queue::<OwnedFd>::new().unwrap();
        let (mut reader, mut fds) = writers(1);
        let fd = fds.pop().unwrap();
        os::limit_descriptors(100);
        become_nobody();
        let fill = || {
            let mut count = 0;
            loop {
                match queue.put(&fd) {
                    Ok(()) => count += 1,
                    Err(error) => break (count, error),
                }
            }
        };
        let (count, error) = fill();
        assert_eq!(error.raw_os_error(), Some(libc::ETOOMANYREFS), "{error}");
        assert!((100..110).contains(&count) && queue.len().unwrap() == count);
        (0..20).for_each(|_| drop(queue.get().unwrap()));
        let (again, error) = fill();
        assert_eq!(error.raw_os_error(), Some(libc::ETOOMANYREFS), "{error}");
        assert_eq!((again, queue.len().unwrap()), (20, count));
        drop(fd);
        (0..count).for_each(|_| drop(queue.get().unwrap()));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "a descriptor is left behind");
    });
}

#[test]
fn ten_thousand_sockets_put_one_by_one_wait_for_room_and_come_out_in_order() {
    const ALL: u32 = 10_000;
    let _turn = turn();
    in_child(|| {
        let queue = Queue::<(u32, OwnedFd)>::new().unwrap();
        let (mut reader, mut fds) = writers(1);
        let fd = fds.pop().unwrap();
        let item = |number| (number, fd.try_clone().unwrap());
        let is_full = |put| matches!(put, Err(Error::Full));
        let most = (0..ALL).find(|number| match queue.try_put(&item(*number)) {
            Ok(()) => false,
            refused => is_full(refused) || panic!("item {number}"),
        });
        let most = most.expect("a socket that holds fewer");
        // Nobody gets, so it stays full, and what was refused is not in.
        assert!(is_full(queue.put_timeout(&item(most), Duration::from_millis(10))));
        assert!(is_full(queue.try_put(&item(most))));
        assert_eq!(queue.len().unwrap(), most as usize);
        let getter = os::fork(|| {
            for wanted in 0..ALL {
                let (number, fd) = queue.get().unwrap();
                assert_eq!(number, wanted);
                assert!(UnixStream::from(fd).local_addr().is_ok(), "item {number} is no socket");
            }
        });
        for number in most..ALL {
            queue.put_timeout(&item(number), Duration::from_secs(60)).unwrap();
        }
        join(getter);
        assert!(queue.is_empty().unwrap());
        drop(fd);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "a descriptor is left behind");
    });
}
