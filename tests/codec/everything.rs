//! What must hold of any bytes that are decoded. Shared by the fuzz target and the tests.
#![allow(clippy::type_complexity, unreachable_pub)]

use multiproc::object::BigInt;
use multiproc::{Decode, Encode, Error, ExitStatus, Object, from_bytes, to_bytes};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::ffi::{CString, OsString};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::ops::{Bound, Range, RangeInclusive};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

multiproc::plain! {
    #[derive(Debug, PartialEq)]
    pub struct Sample {
        pub at: u64,
        pub values: [f32; 2],
    }
}

multiproc::message! {
    /// A field for every kind of type there is.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Everything {
        pub unsigned: (u8, u16, u32, u64, u128, usize),
        pub signed: (i8, i16, i32, i64, i128, isize),
        pub others: (bool, char, f32, f64, (), NonZero<u16>),
        pub text: (String, Cow<'static, str>, CString, OsString, PathBuf),
        pub bulk: (Vec<u8>, Vec<u64>, Vec<f64>, [u16; 3], Box<[i32]>, Vec<Sample>),
        pub nested: Vec<Option<Result<String, Vec<bool>>>>,
        pub sequences: (VecDeque<u16>, LinkedList<char>, Rc<[u8]>, Arc<String>, Vec<()>),
        pub hashed: (HashMap<u8, String>, HashSet<u32>),
        pub sorted: (BTreeMap<String, u8>, BTreeSet<i8>),
        pub times: (Duration, SystemTime),
        pub net: (IpAddr, SocketAddr),
        pub ranges: (Range<u8>, RangeInclusive<i16>, Bound<u32>),
        pub shapes: Vec<Shape<String>>,
        pub tree: Tree,
        pub object: Object,
    }

    #[derive(Clone, Debug, PartialEq)]
    pub enum Shape<T: Clone> {
        Point,
        Circle(f64, T),
        Polygon { corners: Vec<(i32, i32)>, name: Option<T> },
    }

    #[derive(Clone, Debug, PartialEq)]
    pub enum Tree {
        Leaf,
        Node(Box<Tree>, u8, Box<Tree>),
    }
}

/// Bytes give an error or a value; a value survives a journey.
pub fn check(data: &[u8]) {
    survives::<Everything>(data);
    survives::<Object>(data);
    survives::<Vec<Shape<u8>>>(data);
    survives::<Tree>(data);
    survives::<HashMap<String, Vec<u16>>>(data);
    survives::<HashSet<Vec<()>>>(data);
    survives::<Vec<Vec<Box<[()]>>>>(data);
    survives::<(Vec<Sample>, Vec<[u32; 3]>, [bool; 4])>(data);
    survives::<(Duration, SystemTime, SystemTime)>(data);
    survives::<(IpAddr, SocketAddr, Bound<char>)>(data);
    survives::<(BigInt, ExitStatus)>(data);
    drop(from_bytes::<Vec<Result<BinaryHeap<u8>, Error>>>(data));
}

fn survives<T: Decode + Encode + Debug + PartialEq>(data: &[u8]) {
    let Ok(value) = from_bytes::<T>(data) else { return };
    let bytes = to_bytes(&value).expect("what was decoded can be encoded");
    let again = from_bytes::<T>(&bytes).expect("what was encoded can be decoded");
    assert!(value == again || format!("{value:?}").contains("NaN"), "{value:?} became {again:?}");
}
