//! `decode(encode(x)) == x`, for whatever `x`.

use crate::everything::{Everything, Sample, Shape, Tree, check};
use multiproc::object::BigInt;
use multiproc::{Object, from_bytes, to_bytes};
use proptest::collection::{btree_map, hash_map, hash_set, vec};
use proptest::prelude::*;
use std::num::NonZero;
use std::ops::Bound;
use std::time::{Duration, UNIX_EPOCH};

pub(crate) fn object() -> impl Strategy<Value = Object> {
    let leaf = prop_oneof![
        Just(Object::None),
        any::<bool>().prop_map(Object::from),
        any::<i64>().prop_map(Object::from),
        any::<(i128, u32)>().prop_map(|(number, zeros)| big(number, zeros % 60)),
        any::<f64>().prop_map(Object::from),
        (any::<i16>(), -30i32..30).prop_map(|(m, e)| (f64::from(m) * 10f64.powi(e)).into()),
        prop_oneof![".*", "[ -~\n\t\r\\\\'\"]*"].prop_map(Object::from),
        vec(any::<u8>(), 0..40).prop_map(Object::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Object::List),
            vec(inner.clone(), 0..6).prop_map(Object::Tuple),
            vec((inner.clone(), inner.clone()), 0..6).prop_map(Object::dict),
            vec(inner, 0..6).prop_map(Object::set),
        ]
    })
}

/// `number` with zeros behind it.
pub(crate) fn big(number: i128, zeros: u32) -> Object {
    let text = format!("{number}{}", "0".repeat(zeros as usize));
    text.parse::<BigInt>().unwrap().into()
}

fn shape() -> impl Strategy<Value = Shape<String>> {
    prop_oneof![
        Just(Shape::Point),
        any::<(f64, String)>().prop_map(|(size, name)| Shape::Circle(size, name)),
        any::<(Vec<(i32, i32)>, Option<String>)>()
            .prop_map(|(corners, name)| Shape::Polygon { corners, name }),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    Just(Tree::Leaf).prop_recursive(6, 30, 2, |inner| {
        (inner.clone(), any::<u8>(), inner)
            .prop_map(|(left, value, right)| Tree::Node(Box::new(left), value, Box::new(right)))
    })
}

fn bound() -> impl Strategy<Value = Bound<u32>> {
    prop_oneof![
        any::<u32>().prop_map(Bound::Included),
        any::<u32>().prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ]
}

prop_compose! {
    fn everything()(
        unsigned in any::<(u8, u16, u32, u64, u128, usize)>(),
        signed in any::<(i8, i16, i32, i64, i128, isize)>(),
        (truth, character, float, double) in any::<(bool, char, f32, f64)>(),
        text in any::<(String, String, std::ffi::CString, std::ffi::OsString, std::path::PathBuf)>(),
        (bytes, longs, doubles, array, ints) in any::<(Vec<u8>, Vec<u64>, Vec<f64>, [u16; 3], Box<[i32]>)>(),
        samples in vec(any::<(u64, [f32; 2])>(), 0..5),
    )(
        nested in any::<Vec<Option<Result<String, Vec<bool>>>>>(),
        (deque, list, shared, arc) in any::<(std::collections::VecDeque<u16>, std::collections::LinkedList<char>, Vec<u8>, String)>(),
        units in 0usize..100,
        hashed in (hash_map(any::<u8>(), any::<String>(), 0..9), hash_set(any::<u32>(), 0..9)),
        sorted in (btree_map(any::<String>(), any::<u8>(), 0..9), any::<std::collections::BTreeSet<i8>>()),
        (span, since, before) in any::<(Duration, u32, bool)>(),
        net in any::<(std::net::IpAddr, std::net::SocketAddr)>(),
        ranges in (any::<std::ops::Range<u8>>(), any::<std::ops::RangeInclusive<i16>>(), bound()),
        shapes in vec(shape(), 0..5),
        tree in tree(),
        object in object(),
        rest in Just((unsigned, signed, truth, character, float, double, text, bytes, longs, doubles, array, (ints, samples))),
    ) -> Everything {
        let (unsigned, signed, truth, character, float, double, text, bytes, longs, doubles, array, (ints, samples)) = rest;
        let since = Duration::new(since.into(), since % 1_000_000_000);
        Everything {
            unsigned,
            signed,
            others: (truth, character, float, double, (), NonZero::new(unsigned.1 | 1).unwrap()),
            text: (text.0, text.1.into(), text.2, text.3, text.4),
            bulk: (
                bytes,
                longs,
                doubles,
                array,
                ints,
                samples.into_iter().map(|(at, values)| Sample { at, values }).collect(),
            ),
            nested,
            sequences: (deque, list, shared.into(), arc.into(), vec![(); units]),
            hashed,
            sorted,
            times: (span, if before { UNIX_EPOCH - since } else { UNIX_EPOCH + since }),
            net,
            ranges,
            shapes,
            tree,
            object,
        }
    }
}

/// One value with something in every field.
pub(crate) fn example() -> Everything {
    Everything {
        unsigned: (1, 2, 3, 4, 5, 6),
        signed: (-1, -2, -3, -4, -5, -6),
        others: (true, 'ß', 1.5, -2.5, (), NonZero::new(7).unwrap()),
        text: ("text".into(), "cow".into(), c"c".into(), "os".into(), "/a/path".into()),
        bulk: (
            vec![1, 2, 3],
            vec![4, 5],
            vec![0.5],
            [6, 7, 8],
            [9, -9].into(),
            vec![Sample { at: 1, values: [2.0, 3.0] }],
        ),
        nested: vec![None, Some(Ok("fine".into())), Some(Err(vec![true, false]))],
        sequences: (
            [1, 2].into(),
            ['a'].into(),
            [1, 2].into(),
            "arc".to_string().into(),
            vec![(); 3],
        ),
        hashed: ([(1, "one".into())].into(), [1, 2].into()),
        sorted: ([("a".into(), 1)].into(), [-1, 1].into()),
        times: (Duration::new(1, 2), UNIX_EPOCH + Duration::new(3, 4)),
        net: ([127, 0, 0, 1].into(), "[::1]:80".parse().unwrap()),
        ranges: (1..2, -1..=1, Bound::Excluded(3)),
        shapes: vec![
            Shape::Point,
            Shape::Circle(1.0, "round".into()),
            Shape::Polygon { corners: vec![(0, 1)], name: None },
        ],
        tree: Tree::Node(Box::new(Tree::Leaf), 1, Box::new(Tree::Leaf)),
        object: Object::list([
            Object::None,
            true.into(),
            42.into(),
            big(i128::MAX, 0),
            0.1.into(),
            "it's".into(),
            Object::from(b"bytes"),
            (1, 2).into(),
            Object::dict([("key".into(), "value".into())]),
            Object::set([1.into()]),
        ]),
    }
}

#[test]
fn one_value_with_something_in_every_field_survives() {
    crate::assert_survives(example());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn everything_survives(value in everything()) {
        let bytes = to_bytes(&value).unwrap();
        prop_assert_eq!(from_bytes::<Everything>(&bytes).unwrap(), value);
    }

    #[test]
    fn every_object_survives(value in object()) {
        let bytes = to_bytes(&value).unwrap();
        prop_assert_eq!(from_bytes::<Object>(&bytes).unwrap(), value);
    }

    #[test]
    fn a_message_cut_and_altered_anywhere_gives_an_error_or_a_value(
        value in everything(),
        cut in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = to_bytes(&value).unwrap();
        bytes.truncate(cut.index(bytes.len()) + 1);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        check(&bytes);
    }

    #[test]
    fn any_bytes_give_an_error_or_a_value(bytes in vec(any::<u8>(), 0..200)) {
        check(&bytes);
    }
}
