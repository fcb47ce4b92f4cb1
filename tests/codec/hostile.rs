//! Bytes that no encoder wrote.
#![allow(unsafe_code)] // An allocator is.

use crate::everything::{Everything, Tree, check};
use crate::refusal;
use multiproc::{Decode, Decoder, Error, Object, from_bytes, to_bytes};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::rc::Rc;

/// Counts what the thread asks for.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on as it came to the system's allocator, which keeps the promises.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get().saturating_add(layout.size()));
        // SAFETY: the caller's promises are those of the call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System`, by `alloc` above or the default `realloc` on it.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` returns, and how many bytes it asked the allocator for in all.
pub(crate) fn allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    let value = work();
    (value, ALLOCATED.get() - before)
}

/// A length, then nothing or little.
fn claims(len: u64, bytes: &[u8]) -> Vec<u8> {
    [&len.to_le_bytes(), bytes].concat()
}

fn assert_claim_is_cheap<T: Decode + std::fmt::Debug>() {
    for len in [9, 1 << 20, 1 << 40, u64::MAX / 24, u64::MAX] {
        let bytes = claims(len, &[0; 8]);
        let (outcome, allocated) = allocated(|| from_bytes::<T>(&bytes));
        assert!(matches!(outcome, Err(Error::Decode { .. })), "{len}: {outcome:?}");
        assert!(allocated < 2048, "{len}: {allocated} bytes for a {}", std::any::type_name::<T>());
    }
}

#[test]
fn a_length_without_its_items_is_refused_and_costs_nothing() {
    assert_claim_is_cheap::<String>();
    assert_claim_is_cheap::<Vec<u8>>();
    assert_claim_is_cheap::<Vec<u64>>();
    assert_claim_is_cheap::<Vec<usize>>();
    assert_claim_is_cheap::<Vec<[f64; 1000]>>();
    assert_claim_is_cheap::<Vec<Vec<u8>>>();
    assert_claim_is_cheap::<Box<[Option<u8>]>>();
    assert_claim_is_cheap::<VecDeque<u16>>();
    assert_claim_is_cheap::<LinkedList<u16>>();
    assert_claim_is_cheap::<BinaryHeap<u32>>();
    assert_claim_is_cheap::<HashMap<u32, [u8; 100]>>();
    assert_claim_is_cheap::<HashSet<u128>>();
    assert_claim_is_cheap::<BTreeSet<u128>>();
}

#[test]
fn many_items_that_take_no_bytes_are_refused_on_both_sides() {
    assert_eq!(from_bytes::<Vec<()>>(&claims(1 << 16, &[])).unwrap().len(), 1 << 16);
    assert!(refusal::<Vec<()>>(&claims((1 << 16) + 1, &[])).contains("items claimed"));
    assert!(refusal::<LinkedList<()>>(&claims(u64::MAX, &[])).contains("items claimed"));
    assert!(refusal::<Vec<[u8; 0]>>(&claims(u64::MAX, &[])).contains("items claimed"));
    assert!(matches!(to_bytes(&vec![(); usize::MAX]), Err(Error::Encode { .. })));
    assert!(to_bytes(&vec![(); 1 << 16]).is_ok());
    assert!(to_bytes(&vec![[0u8; 0]; (1 << 16) + 1]).is_err());
}

#[test]
fn items_without_bytes_are_counted_over_the_whole_message() {
    let rows = vec![vec![(); 1 << 14]; 5];
    assert!(to_bytes(&rows).is_err());
    let row = claims(1 << 14, &[]);
    let five = [5u64.to_le_bytes().to_vec(), row.repeat(5)].concat();
    assert!(refusal::<Vec<Vec<()>>>(&five).contains("items claimed"));
    // Bytes behind the items make the claim plausible; the count then stops it.
    assert!(
        refusal::<(Vec<Vec<()>>, [u8; 99_999])>(&[&five[..], &[0; 99_999]].concat())
            .contains("65536 items")
    );
}

#[test]
fn a_value_nested_too_deep_is_refused_on_both_sides() {
    fn tree(depth: usize) -> Tree {
        (0..depth).fold(Tree::Leaf, |tree, _| Tree::Node(Box::new(Tree::Leaf), 0, Box::new(tree)))
    }
    let deepest = to_bytes(&tree(Decoder::MAX_DEPTH)).unwrap();
    assert_eq!(from_bytes::<Tree>(&deepest).unwrap(), tree(Decoder::MAX_DEPTH));
    assert!(matches!(to_bytes(&tree(Decoder::MAX_DEPTH + 1)), Err(Error::Encode { .. })));
    let left_forever = 1u32.to_le_bytes().repeat(100_000);
    assert!(refusal::<Tree>(&left_forever).contains("nested deeper"));
}

#[test]
fn an_object_nested_too_deep_is_refused_whatever_it_is_nested_in() {
    for variant in 7u32..=10 {
        let level = [&variant.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
        assert!(refusal::<Object>(&level.repeat(10_000)).contains("nested deeper"), "{variant}");
    }
    let deep = (0..=Decoder::MAX_DEPTH).fold(Object::None, |object, _| Object::list([object]));
    assert!(matches!(to_bytes(&deep), Err(Error::Encode { .. })));
}

#[test]
fn the_depth_counts_what_is_inside_not_what_is_beside() {
    let wide = vec![Box::new(vec![Rc::new(1u8)]); 1000];
    assert_eq!(from_bytes::<Vec<Box<Vec<Rc<u8>>>>>(&to_bytes(&wide).unwrap()).unwrap(), wide);
}

#[test]
fn bytes_left_over_are_refused() {
    assert_eq!(refusal::<u8>(&[1, 2]), "1 bytes and 0 descriptors are left over");
    refusal::<()>(&[0]);
    refusal::<Vec<u8>>(&claims(1, &[1, 2]));
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    let twice = to_bytes(&vec![(1u8, 2u8), (1, 3)]).unwrap();
    assert!(refusal::<HashMap<u8, u8>>(&twice).contains("twice"));
    assert!(refusal::<HashSet<u8>>(&to_bytes(&vec![1u8, 1]).unwrap()).contains("twice"));
    assert!(refusal::<BTreeSet<()>>(&claims(2, &[])).contains("twice"));
}

#[test]
fn every_truncation_of_a_message_is_refused() {
    let bytes = to_bytes(&crate::properties::example()).unwrap();
    assert!(from_bytes::<Everything>(&bytes).is_ok());
    for len in 0..bytes.len() {
        refusal::<Everything>(&bytes[..len]);
    }
}

/// xorshift64*: the same bytes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// A few hundred bytes may make a value a few hundred times as large (an `Object` per byte, and the room
/// a vector grows by), but no more.
fn assert_bounded(data: &[u8]) {
    let ((), allocated) = allocated(|| {
        drop(from_bytes::<Everything>(data));
        drop(from_bytes::<Object>(data));
    });
    assert!(allocated <= 4096 + 512 * data.len(), "{allocated} bytes for {}", data.len());
    check(data);
}

#[test]
fn any_single_byte_may_change_without_panic_or_large_allocation() {
    let mut random = Random(1);
    let bytes = to_bytes(&crate::properties::example()).unwrap();
    for place in 0..bytes.len() {
        for change in [0xff, 1 + random.next() as u8 % 127] {
            let mut mutated = bytes.clone();
            mutated[place] ^= change;
            assert_bounded(&mutated);
        }
    }
}

#[test]
fn random_bytes_never_panic_nor_allocate_much() {
    let mut random = Random(2);
    for round in 0..800 {
        // Small bytes make lengths and variants that are plausible.
        let mask = if round % 2 == 0 { 0x03 } else { 0xff };
        let len = random.next() % 300;
        let data: Vec<u8> = (0..len).map(|_| random.next() as u8 & mask).collect();
        assert_bounded(&data);
    }
}

#[test]
fn every_seed_of_the_fuzz_target_holds() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/codec");
    let Ok(files) = std::fs::read_dir(seeds) else {
        eprintln!("skipped: a published package has no {seeds}");
        return;
    };
    let mut count = 0;
    for seed in files {
        assert_bounded(&std::fs::read(seed.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no seeds in {seeds}");
}
