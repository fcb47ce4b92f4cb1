//! Every type of std, there and back.

use crate::{assert_survives, refusal, sent_as};
use multiproc::{Error, ExitStatus, Result, from_bytes, to_bytes};
use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::{NonZero, Saturating, Wrapping};
use std::ops::{Bound, RangeInclusive};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[test]
fn integers_keep_their_ends() {
    assert_survives((u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX));
    assert_survives((i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN));
    assert_survives((Wrapping(7u8), Saturating(8i32), NonZero::new(9u64), NonZero::new(-1i8)));
}

#[test]
fn sizes_take_eight_bytes_everywhere() {
    assert_eq!(to_bytes(&1usize).unwrap(), 1u64.to_le_bytes());
    assert_eq!(to_bytes(&[-1isize]).unwrap(), (-1i64).to_le_bytes());
}

#[test]
fn floats_keep_every_bit() {
    for value in [0.0, -0.0, 1.5, f64::MIN_POSITIVE / 8.0, f64::INFINITY, -f64::NAN] {
        assert_eq!(sent_as::<f64>(&value).to_bits(), value.to_bits());
        assert_eq!(sent_as::<Vec<f64>>(&vec![value])[0].to_bits(), value.to_bits());
    }
    assert_survives(f32::MIN_POSITIVE);
}

#[test]
fn truth_characters_and_orderings_survive() {
    assert_survives((true, false, 'a', '\u{10ffff}', Ordering::Less, Ordering::Greater));
}

#[test]
fn text_survives_in_every_form() {
    for text in ["", "hello", "größer 日本 😀", "\0"] {
        assert_eq!(sent_as::<String>(text), text);
        assert_eq!(sent_as::<Cow<'_, str>>(&Cow::Borrowed(text)), text);
        assert_eq!(&*sent_as::<Box<str>>(&Box::<str>::from(text)), text);
        assert_eq!(&*sent_as::<Arc<str>>(&Arc::<str>::from(text)), text);
    }
    assert_eq!(sent_as::<CString>(c"bytes\xff"), c"bytes\xff".to_owned());
    assert_eq!(&*sent_as::<Box<CStr>>(&Box::<CStr>::from(c"x")), c"x");
}

#[test]
fn paths_that_are_not_utf8_survive() {
    let name = OsString::from_vec(b"na\xffme\n".to_vec());
    assert_survives(name.clone());
    assert_survives(PathBuf::from(&name));
    assert_eq!(sent_as::<PathBuf>(Path::new(&name)), Path::new(&name));
    assert_eq!(sent_as::<OsString>(&*name), name);
    assert_eq!(&*sent_as::<Rc<OsStr>>(&Rc::<OsStr>::from(name.clone())), name);
    assert_eq!(&*sent_as::<Box<Path>>(&Box::<Path>::from(Path::new(&name))), Path::new(&name));
}

#[test]
fn sequences_survive_and_read_as_one_another() {
    let numbers = [1u32, 2, 3];
    assert_eq!(sent_as::<Vec<u32>>(&numbers[..]), numbers);
    assert_eq!(sent_as::<VecDeque<u32>>(&numbers[..]), numbers);
    assert_eq!(sent_as::<LinkedList<u32>>(&numbers[..]), LinkedList::from(numbers));
    assert_eq!(*sent_as::<Box<[u32]>>(&Box::new(numbers[..].to_vec())), numbers);
    assert_eq!(*sent_as::<Arc<[u32]>>(&Arc::new(&numbers[..])), numbers);
    assert_eq!(sent_as::<BinaryHeap<u32>>(&BinaryHeap::from(numbers)).into_sorted_vec(), numbers);
    assert_survives((Reverse(1), Reverse("a".to_string())));
}

#[test]
fn a_deque_that_wraps_around_keeps_its_order() {
    let mut deque = VecDeque::from([1u8, 2, 3, 4]);
    deque.rotate_left(2);
    deque.push_back(9);
    deque.push_front(0);
    assert_survives(deque);
}

#[test]
fn arrays_travel_without_a_length() {
    assert_eq!(to_bytes(&[1u8, 2, 3]).unwrap(), [1, 2, 3]);
    assert_survives([1u16, 2, 3]);
    assert_survives([[1.5f64; 2]; 3]);
    assert_survives(["a".to_string(), "b".to_string()]);
    assert_survives([(); 5]);
    assert_survives([0u64; 0]);
    assert_survives(vec![[1u32, 2], [3, 4]]);
    assert_survives([usize::MAX, 0]);
    assert_survives(vec![[true, false], [false, true]]);
}

#[test]
fn maps_and_sets_survive() {
    let pairs = [("one".to_string(), 1), ("two".to_string(), 2)];
    assert_survives(HashMap::from(pairs.clone()));
    assert_survives(BTreeMap::from(pairs.clone()));
    assert_survives(HashSet::from(pairs.clone()));
    assert_survives(BTreeSet::from(pairs));
    assert_survives(HashMap::<u8, u8>::new());
    assert_survives(HashSet::from([()]));
}

#[test]
fn options_results_and_tuples_survive() {
    assert_survives((None::<u8>, Some(Some(3u8)), Some(None::<u8>)));
    assert_survives((Ok::<_, String>(1u8), Err::<u8, _>("no".to_string())));
    assert_survives((1u8, 2u16, 3u32, 4u64, 5i8, 6i16, 7i32, 8i64, 'i', 'j', true, ((),)));
    assert_survives(((), PhantomData::<String>));
}

#[test]
fn pointers_and_references_encode_as_what_they_point_to() {
    let text = "shared".to_string();
    let bytes = to_bytes(&text).unwrap();
    assert_eq!(to_bytes(&&&text).unwrap(), bytes);
    assert_eq!(to_bytes(&Box::new(&text)).unwrap(), bytes);
    assert_eq!(to_bytes(&Rc::new(&mut text.clone())).unwrap(), bytes);
    assert_survives((Box::new(1), Rc::new(2), Arc::new(3)));
    assert_survives(Cow::Borrowed(&[1u8, 2][..]));
}

#[test]
fn times_before_and_after_1970_survive() {
    assert_survives(Duration::MAX);
    assert_survives((Duration::ZERO, Duration::new(1, 999_999_999)));
    assert_survives(SystemTime::now());
    assert_survives(UNIX_EPOCH - Duration::new(86_400, 1));
    assert_survives(UNIX_EPOCH + Duration::from_secs(1 << 40));
}

#[test]
fn addresses_survive() {
    assert_survives((IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)));
    assert_survives("127.0.0.1:80".parse::<SocketAddr>().unwrap());
    assert_survives(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 1, 2, 3)));
}

#[test]
fn ranges_and_bounds_survive() {
    assert_survives((1..2, 1.., ..2, ..));
    assert_survives((1..=2, ..=2, 'a'..'c'));
    assert_survives((Bound::Included(1), Bound::Excluded(2), Bound::Unbounded::<u8>));
}

#[test]
fn an_inclusive_range_that_was_used_up_does_not_start_again() {
    let mut range = 1..=2;
    range.nth(1);
    assert_eq!(range.next(), None);
    // Which of the two depends on how the standard library remembers that it was used up.
    match to_bytes(&range) {
        Ok(bytes) => assert_eq!(from_bytes::<RangeInclusive<i32>>(&bytes).unwrap().next(), None),
        Err(error) => assert!(matches!(error, Error::Encode { .. }), "{error}"),
    }
}

#[test]
fn a_system_error_keeps_its_number_and_any_other_its_kind_and_text() {
    let system: io::Error = sent_as(&io::Error::from_raw_os_error(2));
    assert_eq!(system.raw_os_error(), Some(2));
    let custom: io::Error = sent_as(&io::Error::new(io::ErrorKind::InvalidData, "bad header"));
    assert_eq!((custom.kind(), &*custom.to_string()), (io::ErrorKind::InvalidData, "bad header"));
}

#[test]
fn errors_of_the_crate_survive_so_that_a_task_may_return_its_result() {
    let status = ExitStatus::Killed(9);
    let errors = [
        Error::Os { call: "open".into(), source: io::Error::from_raw_os_error(13) },
        Error::TimeoutError,
        Error::BufferTooShort { message: vec![1, 2] },
        Error::MessageTooLong { len: 9, max: 8 },
        Error::Decode { reason: "why".into() },
        Error::NotStarted { status },
        Error::Panicked {
            message: "oh".to_string(),
            location: "a.rs:1:2".into(),
            backtrace: "0: main".into(),
        },
        Error::WorkerDied { pid: 42, status: ExitStatus::Exited(3) },
        Error::Taken,
        Error::ItemsLost { items: 3 },
    ];
    for error in errors {
        let text = format!("{error:?}");
        let result: Result<u8> = sent_as(&Err::<u8, _>(error));
        assert_eq!(format!("{:?}", result.unwrap_err()), text);
    }
    assert_survives(ExitStatus::Exited(-1));
}

#[test]
fn values_that_no_such_type_has_are_refused() {
    assert!(refusal::<bool>(&[2]).contains("truth value"));
    assert!(refusal::<char>(&0xd800u32.to_le_bytes()).contains("character"));
    assert!(refusal::<NonZero<u8>>(&[0]).contains("zero"));
    assert!(refusal::<Ordering>(&[2]).contains("ordering"));
    assert!(refusal::<Option<u8>>(&[3, 0]).contains("truth value"));
    assert!(refusal::<String>(&to_bytes(&vec![0xffu8]).unwrap()).contains("UTF-8"));
    assert!(refusal::<CString>(&to_bytes("a\0b").unwrap()).contains("NUL"));
    assert!(refusal::<Duration>(&to_bytes(&(0u64, 1_000_000_000u32)).unwrap()).contains("nano"));
    assert!(refusal::<SystemTime>(&to_bytes(&(true, u64::MAX, 0u32)).unwrap()).contains("1970"));
    assert!(refusal::<SystemTime>(&to_bytes(&(false, u64::MAX, 0u32)).unwrap()).contains("1970"));
    assert!(refusal::<IpAddr>(&7u32.to_le_bytes()).contains("IpAddr has no variant 7"));
    assert!(refusal::<std::convert::Infallible>(&[]).contains("none"));
}
