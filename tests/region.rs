//! Regions, shared bytes, cells: what is shared is seen, what is outside is refused.

mod support;

use multiproc::{Error, PlainCell, Region, Shared, SharedBytes, Value};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;
use support::{in_child, os, watchdog};

const LONG: Duration = Duration::from_secs(60);

fn errno<T>(answer: multiproc::Result<T>) -> Option<i32> {
    answer.err().and_then(|error| error.raw_os_error())
}

fn is_outside<T>(answer: multiproc::Result<T>) -> bool {
    matches!(answer, Err(Error::InvalidArgument { .. }))
}

#[test]
fn what_one_process_writes_another_reads() {
    let _watchdog = watchdog(LONG);
    let region = Region::new(5_000).unwrap();
    assert_eq!(region.read_at(0, 5_000).unwrap(), [0; 5_000]);
    in_child(|| region.write_at(4_990, b"from below").unwrap());
    assert_eq!(region.read_at(4_990, 10).unwrap(), b"from below");
}

#[test]
fn every_offset_and_length_copies_exactly_its_bytes() {
    let region = Region::new(64).unwrap();
    let pattern: Vec<u8> = (1..=64).collect();
    for at in 0..24 {
        for len in 0..24 {
            region.write_at(0, &[0xee; 64]).unwrap();
            region.write_at(at, &pattern[..len]).unwrap();
            let mut wanted = [0xee; 64];
            wanted[at..at + len].copy_from_slice(&pattern[..len]);
            assert_eq!(region.read_at(0, 64).unwrap(), wanted, "{len} bytes at {at}");
            assert_eq!(region.read_at(at, len).unwrap(), &pattern[..len], "{len} bytes at {at}");
        }
    }
}

#[test]
fn neighbouring_bytes_written_at_the_same_time_keep_to_themselves() {
    let _watchdog = watchdog(LONG);
    let region = Region::new(16).unwrap();
    thread::scope(|scope| {
        for byte in 0..2 {
            let region = &region;
            scope.spawn(move || {
                for round in 0..20_000u16 {
                    region.write_at(3 + byte, &[round as u8]).unwrap();
                    assert_eq!(region.read_at(3 + byte, 1).unwrap(), [round as u8]);
                }
            });
        }
    });
}

#[test]
fn bytes_outside_are_refused_and_nothing_is_written() {
    let region = Region::new(10).unwrap();
    assert!(is_outside(region.write_at(8, b"abc")));
    assert!(is_outside(region.read_at(11, 0)));
    assert!(is_outside(region.read_at(usize::MAX, 2)));
    assert!(is_outside(region.read_at(0, usize::MAX)));
    assert!(is_outside(region.read_into(10, &mut [0])));
    assert_eq!(region.read_at(0, 10).unwrap(), [0; 10]);
    assert!(region.read_at(10, 0).unwrap().is_empty());
}

#[test]
fn a_region_without_bytes_is_a_region() {
    let region = Region::new(0).unwrap();
    assert!(region.is_empty());
    assert!(region.read_at(0, 0).unwrap().is_empty());
    assert!(is_outside(region.write_at(0, b"x")));
}

#[test]
fn growth_is_seen_by_every_process_without_mapping_again() {
    let _watchdog = watchdog(LONG);
    let region = Region::growable(10, 1 << 20).unwrap();
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&region).unwrap();
    let same: Region = there.recv().unwrap();
    assert!(is_outside(same.write_at(10, b"x")));
    in_child(|| {
        region.grow(100_000).unwrap();
        region.write_at(99_999, b"x").unwrap();
    });
    assert_eq!((region.len(), same.len(), same.max_len()), (100_000, 100_000, 1 << 20));
    assert_eq!(same.read_at(99_998, 2).unwrap(), b"\0x");
    assert!(is_outside(same.read_at(99_999, 2)));
    same.grow(50).unwrap();
    assert_eq!(region.len(), 100_000, "never shorter");
    assert!(is_outside(same.grow((1 << 20) + 1)));
    assert_eq!(format!("{region:?}"), "<Region(len=100000, max_len=1048576)>");
}

#[test]
fn a_fixed_region_does_not_grow() {
    let region = Region::new(10).unwrap();
    region.grow(10).unwrap();
    assert!(is_outside(region.grow(11)));
    assert!(is_outside(Region::growable(11, 10)));
    assert_eq!(format!("{region:?}"), "<Region(len=10)>");
}

#[test]
fn sizes_that_no_machine_has_are_errors() {
    let _watchdog = watchdog(LONG);
    assert_eq!(errno(Region::new(usize::MAX)), Some(libc::EFBIG));
    assert_eq!(errno(Region::new(1 << 50)), Some(libc::ENOMEM));
    assert_eq!(errno(Region::growable(0, usize::MAX)), Some(libc::ENOMEM));
    assert_eq!(errno(Region::growable(0, 1 << 60)), Some(libc::ENOMEM));
    assert_eq!(errno(SharedBytes::build(1 << 50, |_| ())), Some(libc::ENOMEM));
    let region = Region::growable(0, 1 << 40).unwrap();
    assert_eq!(errno(region.grow(1 << 40)), Some(libc::ENOMEM));
    assert_eq!(region.len(), 0);
}

#[test]
fn a_full_descriptor_table_is_an_error() {
    let _watchdog = watchdog(LONG);
    in_child(|| {
        os::limit_descriptors(3);
        assert_eq!(errno(Region::new(1)), Some(libc::EMFILE));
        assert_eq!(errno(SharedBytes::new(b"x")), Some(libc::EMFILE));
        assert_eq!(errno(Shared::new(PlainCell::new(1u8))), Some(libc::EMFILE));
    });
}

#[test]
fn descriptors_that_are_not_what_they_should_be_are_refused() {
    let _watchdog = watchdog(LONG);
    let (here, there) = multiproc::pipe().unwrap();
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let is_corrupt = |error: Option<Error>| matches!(error, Some(Error::Corrupt { .. }));

    here.send(&(null(), 10u64)).unwrap();
    assert!(is_corrupt(there.recv::<Region>().err()), "no memory");
    let bytes = SharedBytes::new(b"0123456789").unwrap();
    here.send(&(bytes.as_fd().try_clone_to_owned().unwrap(), 10u64)).unwrap();
    assert!(there.recv::<Region>().is_err(), "sealed against writing");
    let region = Region::new(10).unwrap();
    for claimed in [9u64, 11, u64::MAX] {
        here.send(&(region.as_fd().try_clone_to_owned().unwrap(), claimed)).unwrap();
        assert!(is_corrupt(there.recv::<Region>().err()), "another size");
    }
    let growable = Region::growable(10, 20).unwrap();
    here.send(&(growable.as_fd().try_clone_to_owned().unwrap(), 9u64)).unwrap();
    assert!(is_corrupt(there.recv::<Region>().err()), "less room than bytes");

    here.send(&null()).unwrap();
    assert!(is_corrupt(there.recv::<SharedBytes>().err()), "no memory");
    here.send(&region.as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert!(is_corrupt(there.recv::<SharedBytes>().err()), "not sealed against writing");
    here.send(&growable.as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert!(is_corrupt(there.recv::<Shared<PlainCell<u8>>>().err()), "not sealed against growing");
    here.send(&Value::new(1u32).unwrap()).unwrap();
    assert!(there.recv::<Value<u64>>().is_err(), "another type");
}

#[test]
fn shared_bytes_are_read_in_place_by_who_receives_them() {
    let _watchdog = watchdog(LONG);
    let text = vec![b'a'; 100_000];
    let bytes = SharedBytes::try_from(text.clone()).unwrap();
    let (here, there) = multiproc::pipe().unwrap();
    here.send(&bytes).unwrap();
    in_child(|| {
        let received: SharedBytes = there.recv().unwrap();
        assert_eq!(*received, *text);
        assert_eq!(received, bytes);
    });
    assert_eq!(format!("{bytes:?}"), "<SharedBytes(len=100000)>");
}

#[test]
fn shared_bytes_can_be_none_at_all() {
    let (here, there) = multiproc::pipe().unwrap();
    for bytes in [SharedBytes::new(b"").unwrap(), SharedBytes::build(0, |_| ()).unwrap()] {
        here.send(&bytes).unwrap();
        assert!(there.recv::<SharedBytes>().unwrap().is_empty());
    }
}

#[test]
fn nobody_can_write_shared_bytes() {
    let bytes = SharedBytes::build(3, |buffer| buffer.copy_from_slice(b"abc")).unwrap();
    let mut file = File::from(bytes.as_fd().try_clone_to_owned().unwrap());
    assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(file.write_at(b"x", 3).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(file.set_len(1).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(*bytes, *b"abc");
}

#[test]
fn bytes_that_a_forked_child_could_still_write_are_not_sealed() {
    let _watchdog = watchdog(LONG);
    let (stay, go) = multiproc::pipe_one_way().unwrap();
    let mut child = 0;
    let answer = SharedBytes::build(1, |_| {
        child = os::fork(|| {
            let _ = stay.recv_bytes();
        });
    });
    assert_eq!(errno(answer), Some(libc::EBUSY));
    go.send_bytes(b"go").unwrap();
    assert_eq!(os::wait(child), os::Status::Exited(0));
}

#[test]
fn cells_hold_values_of_every_alignment() {
    let cells = Shared::new(PlainCell::new([1u8, 2, 3])).unwrap();
    cells.set([4, 5, 6]);
    assert_eq!(cells.get(), [4, 5, 6]);
    let cells = Shared::new([const { PlainCell::new(0u16) }; 3]).unwrap();
    cells[1].set(7);
    assert_eq!([0, 1, 2].map(|i| cells[i].get()), [0, 7, 0]);
    let cells = Shared::new(PlainCell::new([1u32; 3])).unwrap();
    cells.set([9; 3]);
    assert_eq!(cells.get(), [9; 3]);
    let cell = Shared::new(PlainCell::new(u128::MAX / 3)).unwrap();
    assert_eq!(cell.get(), u128::MAX / 3);
    cell.set(5);
    assert_eq!(format!("{cell:?}"), "Shared(PlainCell(5))");
    let cell = Shared::new(PlainCell::new(-0.5f64)).unwrap();
    in_child(|| cell.set(2.5));
    assert_eq!(cell.get(), 2.5);
}
