//! `message!` and `plain!` on every shape of item.

use crate::{assert_survives, refusal, sent_as};
use multiproc::{Decode, Encode, from_bytes, to_bytes};
use std::collections::HashMap;
use std::fmt::Debug;

/// The macros need no names in scope, and mind no name that is.
mod without_imports {
    #![allow(dead_code)]

    struct Result;
    struct Option;
    struct String;
    struct Vec;

    multiproc::message! {
        pub(crate) struct Lonely { pub(super) encoder: u8, pub(super) decoder: u8 }
        pub enum Ok { Some(u8), None }
        pub enum __Place { Err }
    }

    multiproc::plain! { pub struct Bits(u32); }
}

multiproc::message! {
    /// A documented struct.
    #[derive(Debug, Clone, PartialEq, Default)]
    pub struct Named {
        /// A documented field.
        pub first: u32,
        second: Vec<String>,
    }

    #[derive(Debug, PartialEq)]
    struct Pair(u8, pub(crate) Option<Named>,);

    #[derive(Debug, PartialEq, Clone, Copy)]
    struct Unit;

    #[derive(Debug, PartialEq)]
    struct Nothing {}

    #[derive(Debug, PartialEq)]
    struct Empty();

    #[derive(Debug, PartialEq, Default)]
    #[repr(u8)]
    pub enum Mixed {
        #[default]
        Unit,
        /// A documented variant.
        Tuple(u8, #[allow(unused)] String),
        Struct { a: u8, b: Box<Mixed>, },
        Last = 70,
    }

    #[derive(Debug)]
    enum Never {}

    #[derive(Debug, PartialEq)]
    enum List {
        Nil,
        Cons(i32, Box<List>),
    }

    #[derive(Debug, PartialEq)]
    struct Generic<K: Eq + std::hash::Hash, V: Into<Option<Vec<u8>>>, T, const N: usize> {
        map: HashMap<K, V>,
        items: [T; N],
    }

    #[derive(Debug, PartialEq)]
    struct Bounded<T>(T, Vec<T>) where T: Clone + Debug;

    #[derive(Debug, PartialEq)]
    enum Either<L, R: Iterator<Item = Vec<Vec<u8>>>>
    where
        L: PartialEq,
        R::Item: Encode + Decode,
    {
        Left(L),
        Right { item: R::Item, marker: std::marker::PhantomData<R> },
    }

    struct r#Raw { r#type: u8 }
}

multiproc::plain! {
    /// A documented struct.
    #[derive(Debug, PartialEq)]
    #[repr(C)]
    pub struct Mass {
        pub place: [f64; 3],
        grams: u32,
        unused: u32,
    }

    #[derive(Debug, PartialEq)]
    struct Cloud([Mass; 2], u64);

    #[derive(Debug, PartialEq)]
    struct Point {}
}

#[test]
fn structs_of_every_shape_survive() {
    let named = Named { first: 7, second: vec!["x".to_string()] };
    assert_survives(named.clone());
    assert_survives(Pair(1, Some(named)));
    assert_survives(Pair(1, None));
    assert_survives((Unit, Nothing {}, Empty()));
    assert_eq!(sent_as::<Raw>(&Raw { r#type: 3 }).r#type, 3);
}

#[test]
fn fields_travel_in_order_and_without_names() {
    let named = Named { first: 7, second: vec![] };
    assert_eq!(to_bytes(&named).unwrap(), to_bytes(&(7u32, Vec::<String>::new())).unwrap());
    assert!(to_bytes(&Unit).unwrap().is_empty());
}

#[test]
fn enums_of_every_shape_survive() {
    assert_survives(Mixed::default());
    assert_survives(Mixed::Tuple(1, "two".to_string()));
    assert_survives(Mixed::Struct { a: 1, b: Box::new(Mixed::Last) });
}

#[test]
fn a_variant_travels_as_its_place_whatever_its_discriminant() {
    assert_eq!(to_bytes(&Mixed::Last).unwrap(), 3u32.to_le_bytes());
    assert_eq!(refusal::<Mixed>(&4u32.to_le_bytes()), "Mixed has no variant 4");
    assert_eq!(refusal::<Never>(&0u32.to_le_bytes()), "Never has no variant 0");
}

#[test]
fn a_type_that_contains_itself_survives() {
    let list = (0..100).fold(List::Nil, |rest, item| List::Cons(item, Box::new(rest)));
    assert_survives(list);
}

#[test]
fn generic_types_survive() {
    assert_survives(Generic { map: HashMap::from([(1u8, vec![2u8])]), items: [1.5f32, 2.5] });
    assert_survives(Bounded("a".to_string(), vec!["b".to_string()]));
    type Rows = std::vec::IntoIter<Vec<Vec<u8>>>;
    // An iterator is no message, so neither is the enum; its declaration compiles all the same.
    let either: Either<u8, Rows> = Either::Left(1);
    assert!(matches!(either, Either::Left(1)));
}

#[test]
fn items_declared_inside_a_function_survive() {
    multiproc::message! {
        #[derive(Debug, PartialEq)]
        enum Local { One(u8), Two }
    }
    assert_survives((Local::One(1), Local::Two));
}

#[test]
fn no_name_in_scope_disturbs_the_macros() {
    let lonely: without_imports::Lonely = sent_as(&(1u8, 2u8));
    assert_eq!((lonely.encoder, lonely.decoder), (1, 2));
    assert!(matches!(
        from_bytes(&to_bytes(&without_imports::Ok::Some(5)).unwrap()),
        Ok(without_imports::Ok::Some(5))
    ));
    assert!(from_bytes::<without_imports::__Place>(&[0; 4]).is_ok());
}

#[test]
fn plain_structs_travel_as_they_lie_in_memory() {
    let mass = Mass { place: [1.0, 2.0, 3.0], grams: 4, unused: 0 };
    assert_survives(mass);
    assert_survives(vec![mass; 100]);
    assert_survives([mass; 3]);
    assert_survives(Cloud([mass; 2], 9));
    assert_survives((Point {}, vec![Point {}; 10]));
    assert_eq!(to_bytes(&mass).unwrap().len(), size_of::<Mass>());
}

#[test]
fn a_plain_struct_cut_short_is_refused() {
    let bytes = to_bytes(&vec![Mass { place: [0.0; 3], grams: 0, unused: 0 }; 2]).unwrap();
    refusal::<Vec<Mass>>(&bytes[..bytes.len() - 1]);
    refusal::<Mass>(&[0; 31]);
}
