//! `Object`: conversions, and Python's opinion of how it prints.

use crate::assert_survives;
use crate::properties::object;
use multiproc::object::{BigInt, Dict, Set};
use multiproc::{Error, Object, Result};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::io::Write;
use std::process::{Command, Stdio};

/// To an object and back.
#[track_caller]
fn assert_converts<T>(value: T, object: Object)
where
    T: Into<Object> + Clone + PartialEq + Debug + TryFrom<Object, Error: Debug>,
{
    assert_eq!(value.clone().into(), object);
    assert_eq!(T::try_from(object).unwrap(), value);
}

#[test]
fn scalars_convert_both_ways() {
    assert_converts(true, Object::Bool(true));
    assert_converts(-5i8, Object::Int(-5));
    assert_converts(5usize, Object::Int(5));
    assert_converts(u64::MAX, Object::BigInt(BigInt::from(u64::MAX)));
    assert_converts(i128::MIN, Object::BigInt(BigInt::from(i128::MIN)));
    assert_converts(1.5f64, Object::Float(1.5));
    assert_converts(0.1f32, Object::Float(0.1f32.into()));
    assert_converts('x', Object::Str("x".into()));
    assert_converts("text".to_string(), Object::Str("text".into()));
    assert_converts(vec![1u8, 2], Object::Bytes(vec![1, 2]));
    assert_converts(BigInt::from(3), Object::Int(3));
}

#[test]
fn containers_convert_both_ways() {
    let numbers = || [1.into(), 2.into()];
    assert_converts(vec![1i32, 2], Object::list(numbers()));
    assert_converts((1i64, 2u16), Object::tuple(numbers()));
    assert_converts(BTreeSet::from([1i32, 2]), Object::set(numbers()));
    assert_converts(HashSet::from([1i32, 2]), Object::set(numbers()));
    let dict = Object::dict([("a".into(), 1.into())]);
    assert_converts(BTreeMap::from([("a".to_string(), 1u32)]), dict.clone());
    assert_converts(HashMap::from([("a".to_string(), 1u32)]), dict);
    assert_converts(vec![(1i32, "a".to_string())], Object::list([(1, "a").into()]));
    assert_converts(vec![vec![1u8]], Object::list([Object::Bytes(vec![1])]));
    assert_converts(Some(1i32), Object::Int(1));
    assert_converts(None::<String>, Object::None);
    assert_converts(Dict::new(), Object::dict([]));
    assert_converts(Set::new(), Object::set([]));
}

#[test]
fn the_wrong_type_is_named_in_the_error() {
    let error = i32::try_from(Object::from("x")).unwrap_err();
    assert!(matches!(&error, Error::InvalidArgument { .. }));
    assert!(error.to_string().contains("an int is wanted where a str is"), "{error}");
}

#[test]
fn a_number_that_does_not_fit_is_refused() {
    assert!(i8::try_from(Object::Int(128)).is_err());
    assert!(u16::try_from(Object::Int(-1)).is_err());
    assert!(i64::try_from(Object::from(u64::MAX)).is_err());
    assert!(f32::try_from(Object::Float(0.1)).is_err());
    assert!(f64::try_from(Object::Int(i64::MAX)).is_err());
    assert_eq!(f64::try_from(Object::Int(3)).unwrap(), 3.0);
    assert!(char::try_from(Object::from("ab")).is_err());
}

#[test]
fn a_container_with_a_wrong_item_is_refused() {
    let mixed = Object::list([1.into(), "two".into()]);
    let numbers: Result<Vec<i32>> = mixed.clone().try_into();
    assert!(numbers.is_err());
    let pair: (i32, String) = mixed.clone().try_into().unwrap();
    assert_eq!(pair, (1, "two".to_string()));
    let objects: Vec<Object> = mixed.clone().try_into().unwrap();
    assert_eq!(objects.len(), 2);
    let triple: Result<(Object, Object, Object)> = mixed.try_into();
    assert!(triple.is_err());
}

#[test]
fn every_kind_of_object_survives() {
    assert_survives(Object::None);
    assert_survives(Object::from((true, 1, 1.5, "x", vec![0u8], vec![1, 2])));
    assert_survives(Object::from("9".repeat(500).parse::<BigInt>().unwrap()));
    assert_survives(Object::Float(f64::NAN));
    let dict = Object::dict([(1.into(), "one".into()), ((1, 2).into(), Object::set([3.into()]))]);
    assert_survives(dict);
}

#[test]
fn a_dict_keeps_its_order_over_a_journey() {
    let dict: Dict = (0..100i64).rev().map(|key| (key.into(), Object::None)).collect();
    let arrived: Dict = crate::sent_as(&dict);
    assert!(arrived.iter().eq(dict.iter()));
}

#[test]
fn only_integers_are_equal_across_forms() {
    assert_eq!(Object::Int(1), Object::BigInt(BigInt::from(1)));
    assert_ne!(Object::Int(1), Object::Float(1.0));
    assert_ne!(Object::Int(1), Object::Bool(true));
    assert_ne!(Object::list([]), Object::tuple([]));
    assert_eq!(Object::Float(0.0), Object::Float(-0.0));
    let mut dict = Dict::new();
    dict.insert(Object::Int(1), "small".into());
    assert_eq!(dict.get(&Object::BigInt(BigInt::from(1))), Some(&"small".into()));
}

/// Reads lines, evaluates each, and prints those whose `repr` is another one.
const CHECK: &str = r"
import sys
names = {'nan': float('nan'), 'inf': float('inf')}
lines = sys.stdin.buffer.read().decode().split('\n')[:-1]
for line in lines:
    if repr(eval(line, names)) != line:
        print(ascii(line), 'should be', ascii(repr(eval(line, names))))
print(len(lines), 'checked')
";

/// Whether Python prints it as we do: dicts whose keys it takes for equal, sets whose order it chooses and
/// keys that it refuses apart; and characters that an older Unicode does not know.
fn is_comparable(object: &Object) -> bool {
    match object {
        Object::Str(text) => {
            !text.chars().any(|c| ('\u{1000}'..'\u{e000}').contains(&c) || c > '\u{ffff}')
        }
        Object::List(items) | Object::Tuple(items) => items.iter().all(is_comparable),
        Object::Set(set) => set.len() < 2 && set.iter().all(is_key),
        Object::Dict(dict) => {
            let mut same = dict.iter().map(|(key, _)| key.type_name());
            let first = same.next();
            same.all(|name| Some(name) == first)
                && dict.iter().all(|(key, value)| is_key(key) && is_comparable(value))
        }
        _ => true,
    }
}

fn is_key(object: &Object) -> bool {
    match object {
        Object::Tuple(_) | Object::List(_) | Object::Set(_) | Object::Dict(_) => false,
        other => is_comparable(other),
    }
}

#[test]
fn objects_print_as_python_prints_them() {
    let python = Command::new("python3")
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        eprintln!("skipped: there is no python3 to compare with");
        return;
    };
    let lines = generated();
    let mut input = python.stdin.take().unwrap();
    lines.iter().for_each(|line| writeln!(input, "{line}").unwrap());
    drop(input);
    let output = python.wait_with_output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert_eq!(answer, format!("{} checked\n", lines.len()));
}

/// A thousand objects as they print, with every character of the scripts that are old enough.
fn generated() -> Vec<String> {
    let mut runner = TestRunner::deterministic();
    let strategy = object();
    let mut objects = std::iter::repeat_with(|| strategy.new_tree(&mut runner).unwrap().current());
    let mut lines: Vec<String> = objects
        .by_ref()
        .filter(is_comparable)
        .take(1000)
        .map(|object| object.to_string())
        .collect();
    lines.extend(('\0'..'\u{500}').map(|c| Object::from(format!("a{c}")).to_string()));
    lines.extend(('\u{2000}'..'\u{2070}').map(|c| Object::from(c).to_string()));
    lines.extend((-350..350).map(|exponent| {
        let text = format!("{}.{}e{exponent}", exponent % 10, (exponent as i64).pow(2));
        Object::Float(text.parse().unwrap()).to_string()
    }));
    lines
}
