//! Python's containers.

use super::PATIENCE;
use super::support::watchdog;
use multiproc::manager::{DictProxy, ListProxy, NamespaceProxy, QueueProxy};
use multiproc::{Error, Manager, Object, Process};

#[test]
fn a_list_does_what_pythons_does() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let a = manager.list(0..10).unwrap();
    assert_eq!(a.to_vec().unwrap(), (0..10).collect::<Vec<_>>());
    let b = manager.list(Vec::<i32>::new()).unwrap();
    assert!(b.is_empty().unwrap());
    b.extend((0..5).collect()).unwrap();
    assert_eq!((b.item(2).unwrap(), b.slice(2, 10).unwrap()), (2, vec![2, 3, 4]));
    b.repeat(2).unwrap();
    assert!(matches!(b.repeat(usize::MAX), Err(Error::Overflow { .. })));
    manager.list(Vec::<i32>::new()).unwrap().repeat(usize::MAX).unwrap();
    assert_eq!(b.to_vec().unwrap(), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    assert_eq!(a.to_string(), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]");
    assert_eq!(
        (a.index(4).unwrap(), a.count(3).unwrap(), a.contains(99).unwrap()),
        (Some(4), 1, false)
    );
    assert!(a.remove(4).unwrap() && !a.remove(4).unwrap());
    assert_eq!(a.pop().unwrap(), 9);
    assert_eq!(a.pop_at(0).unwrap(), 0);
    assert!(a.item(100).is_err() && a.pop_at(-100).is_err());
    a.insert(0, 50).unwrap();
    a.insert(-1, 60).unwrap();
    assert_eq!(a.to_vec().unwrap(), [50, 1, 2, 3, 5, 6, 7, 60, 8]);
    a.sort().unwrap();
    a.reverse().unwrap();
    a.set(-1, -1).unwrap();
    a.set_slice(0, 2, vec![0]).unwrap();
    a.remove_slice(1, 3).unwrap();
    a.remove_at(0).unwrap();
    assert_eq!(a.to_vec().unwrap(), [6, 5, 3, 2, -1]);
    a.clear().unwrap();
    assert!(a.pop().is_err());
}

#[test]
fn a_list_of_lists_sees_later_changes() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let inner = manager.list([1, 2]).unwrap();
    let outer = manager.list([inner.clone()]).unwrap();
    inner.append(3).unwrap();
    drop(inner);
    assert_eq!(manager.number_of_objects().unwrap(), 2);
    let again = outer.item(0).unwrap();
    assert_eq!(again.to_vec().unwrap(), [1, 2, 3]);
    outer.clear().unwrap();
    assert_eq!(again.to_vec().unwrap(), [1, 2, 3]);
    assert_eq!(manager.number_of_objects().unwrap(), 2);
    drop(again);
    assert_eq!(manager.number_of_objects().unwrap(), 1);
}

#[test]
fn a_list_is_iterated_by_index_and_sees_what_is_added_meanwhile() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let list = manager.list([1, 2]).unwrap();
    let mut iter = list.iter();
    assert_eq!(iter.next().unwrap().unwrap(), 1);
    list.append(3).unwrap();
    assert_eq!(iter.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [2, 3]);
    list.append(4).unwrap();
    assert!(iter.next().is_none());
}

#[test]
fn objects_of_many_types_print_as_in_python() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let list = manager.list([Object::from(1), "two".into(), Object::None]).unwrap();
    assert_eq!(list.to_string(), "[1, 'two', None]");
}

#[test]
fn a_list_of_lists_changes_each_apart_and_may_hold_itself() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let row = || manager.list([0; 3]).unwrap();
    let rows = manager.list([row(), row(), row()]).unwrap();
    rows.item(0).unwrap().set(1, 7).unwrap();
    let copies: Vec<_> = rows.iter().map(|row| row.unwrap().to_vec().unwrap()).collect();
    assert_eq!(copies, [[0, 7, 0], [0, 0, 0], [0, 0, 0]]);
    assert_eq!(manager.number_of_objects().unwrap(), 4);
    rows.clear().unwrap();
    assert_eq!(manager.number_of_objects().unwrap(), 1);

    struct Knot(Option<KnotProxy>);
    impl Knot {
        fn tie(&mut self, to: KnotProxy) {
            self.0 = Some(to);
        }

        fn untie(&mut self) -> bool {
            self.0.take().is_some()
        }
    }
    multiproc::managed! {
        impl Knot as KnotProxy {
            fn tie(&mut self, to: KnotProxy);
            fn untie(&mut self) -> bool;
        }
    }
    let knot = manager.create(|| Knot(None), ()).unwrap();
    knot.tie(knot.clone()).unwrap();
    assert!(knot.untie().unwrap());
    drop(knot);
    assert_eq!(manager.number_of_objects().unwrap(), 1);
}

#[test]
fn a_dict_does_what_pythons_does() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let dict = manager.dict().unwrap();
    for n in 65..70u32 {
        dict.insert(n, char::from_u32(n).unwrap().to_string()).unwrap();
    }
    assert_eq!(dict.len().unwrap(), 5);
    assert_eq!(dict.keys().unwrap(), [65, 66, 67, 68, 69]);
    assert_eq!(dict.values().unwrap().concat(), "ABCDE");
    assert_eq!(dict.items().unwrap()[1], (66, "B".to_string()));
    assert!(dict.contains_key(&65).unwrap() && !dict.contains_key(&1).unwrap());
    assert_eq!(dict.get(&67).unwrap().as_deref(), Some("C"));
    assert_eq!(dict.get(&1).unwrap(), None);
    assert_eq!(dict.replace(67, "c".to_string()).unwrap().as_deref(), Some("C"));
    assert_eq!(dict.set_default(67, "z".to_string()).unwrap(), "c");
    assert_eq!(dict.set_default(1, "one".to_string()).unwrap(), "one");
    assert_eq!(dict.pop_item().unwrap(), Some((1, "one".to_string())));
    assert_eq!(dict.pop(&65).unwrap().as_deref(), Some("A"));
    assert_eq!(dict.pop(&65).unwrap(), None);
    assert!(dict.remove(&66).unwrap() && !dict.remove(&66).unwrap());
    dict.update(vec![(68, "d".to_string()), (2, "two".to_string())]).unwrap();
    assert_eq!(dict.to_string(), "{67: 'c', 68: 'd', 69: 'E', 2: 'two'}");
    dict.clear().unwrap();
    assert!(dict.is_empty().unwrap() && dict.pop_item().unwrap().is_none());
}

#[test]
fn iterating_a_dict_that_changes_its_size_is_an_error() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let dict = manager.dict_from((0..50).map(|n| (n, n * n))).unwrap();
    let all: Vec<_> = dict.iter().unwrap().map(Result::unwrap).collect();
    assert_eq!(all, (0..50).map(|n| (n, n * n)).collect::<Vec<_>>());
    let mut iter = dict.iter().unwrap();
    assert_eq!(iter.next().unwrap().unwrap(), (0, 0));
    dict.clear().unwrap();
    assert!(matches!(iter.next(), Some(Err(Error::InvalidArgument { .. }))));
    assert!(iter.next().is_none());
}

#[test]
fn dicts_are_shared_through_several_paths() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let pets = manager.dict_from([("ferrets".to_string(), 2u32)]).unwrap();
    let a = manager.dict_from([(1u8, pets.clone())]).unwrap();
    let b = manager.list([pets.clone()]).unwrap();
    let through = |path: &DictProxy<String, u32>| path.get(&"hamsters".to_string()).unwrap();
    pets.insert("hamsters".to_string(), 4).unwrap();
    drop(pets);
    assert_eq!(through(&a.get(&1).unwrap().unwrap()), Some(4));
    assert_eq!(through(&b.item(0).unwrap()), Some(4));
    drop(a);
    assert_eq!(through(&b.item(0).unwrap()), Some(4));
    drop(b);
    assert_eq!(manager.number_of_objects().unwrap(), 0);
}

#[test]
fn queues_in_lists_and_dicts_work() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let list: ListProxy<QueueProxy<u32>> =
        manager.list((0..3).map(|_| manager.queue(0).unwrap()).collect::<Vec<_>>()).unwrap();
    let dict = manager.dict_from([("q".to_string(), list.item(2).unwrap())]).unwrap();
    list.item(2).unwrap().put(9).unwrap();
    assert_eq!(dict.get(&"q".to_string()).unwrap().unwrap().get().unwrap(), 9);
}

#[test]
fn a_set_does_what_pythons_does() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let set = manager.set([1, 2, 3, 2]).unwrap();
    assert_eq!(set.items().unwrap(), [1, 2, 3]);
    assert!(set.contains(&1).unwrap() && set.insert(4).unwrap() && !set.insert(4).unwrap());
    assert_eq!(set.union(vec![9, 1]).unwrap(), [1, 2, 3, 4, 9]);
    assert_eq!(set.intersection(vec![4, 1, 8]).unwrap(), [1, 4]);
    assert_eq!(set.difference(vec![4, 1, 8]).unwrap(), [2, 3]);
    assert_eq!(set.symmetric_difference(vec![4, 8]).unwrap(), [1, 2, 3, 8]);
    assert!(set.is_subset(vec![1, 2, 3, 4, 5]).unwrap() && !set.is_subset(vec![1]).unwrap());
    assert!(set.is_superset(vec![1, 2]).unwrap() && set.is_disjoint(vec![7]).unwrap());
    assert!(set.equals(vec![4, 3, 2, 1]).unwrap());
    set.symmetric_difference_update(vec![1, 5]).unwrap();
    set.intersection_update(vec![2, 3, 5]).unwrap();
    set.difference_update(vec![3]).unwrap();
    set.update(vec![7]).unwrap();
    assert_eq!(set.to_string(), "{2, 5, 7}");
    assert!(set.remove(&5).unwrap() && !set.remove(&5).unwrap());
    assert_eq!(set.pop().unwrap(), Some(7));
    set.clear().unwrap();
    assert!(set.is_empty().unwrap() && set.pop().unwrap().is_none());
}

fn look(space: NamespaceProxy) -> multiproc::Result<String> {
    space.set("z", 7.into())?;
    space.get("name")
}

#[test]
fn a_namespace_is_seen_in_children() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let space = manager.namespace().unwrap();
    space.set("name", "Bob".into()).unwrap();
    space.set("job", "Builder".into()).unwrap();
    space.set("_hidden", "hidden".into()).unwrap();
    let child = Process::new(look, (space.clone(),)).start().unwrap();
    assert_eq!(child.join().unwrap().unwrap(), "Bob");
    assert_eq!(space.to_string(), "Namespace(job='Builder', name='Bob', z=7)");
    space.remove("job").unwrap();
    assert!(space.get::<String>("job").is_err() && space.remove("job").is_err());
    assert!(space.get::<u32>("name").is_err(), "a text is no number");
}

#[test]
fn values_and_arrays_are_shared() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let value = manager.value(1).unwrap();
    value.set(5).unwrap();
    assert_eq!((value.replace(6).unwrap(), value.get().unwrap()), (5, 6));
    value.apply(|value, by: i32| **value *= by, 7).unwrap();
    assert_eq!(value.to_string(), "Value(42)");
    let array = manager.array(0..5).unwrap();
    array.set(0, 9).unwrap();
    assert_eq!((array.len().unwrap(), array.get(0).unwrap()), (5, 9));
    assert!(array.get(5).is_err() && array.set(5, 0).is_err() && !array.is_empty().unwrap());
    assert_eq!(array.to_vec().unwrap(), [9, 1, 2, 3, 4]);
    assert_eq!(array.to_string(), "[9, 1, 2, 3, 4]");
}

#[test]
fn an_item_may_be_a_handle_with_descriptors() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let queue = multiproc::Queue::<u32>::new().unwrap();
    let dict = manager.dict().unwrap();
    dict.insert(1, queue.clone()).unwrap();
    dict.get(&1).unwrap().unwrap().put(&5).unwrap();
    assert_eq!(queue.get().unwrap(), 5);
}

#[test]
fn a_proxy_is_shown_as_its_object_and_debugged_as_a_proxy() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let list = manager.list([1, 2]).unwrap();
    let dict = manager.dict::<String, i64>().unwrap();
    dict.insert("a".into(), 1).unwrap();
    let (queue, lock) = (manager.queue::<u8>(3).unwrap(), manager.lock().unwrap());
    assert_eq!((list.to_string(), dict.to_string()), ("[1, 2]".into(), "{'a': 1}".into()));
    let told = [
        ("ListProxy", format!("{list:?}")),
        ("DictProxy", format!("{dict:?}")),
        ("QueueProxy", format!("{queue:?}")),
        ("LockProxy", format!("{lock:?}")),
    ];
    for (proxy, told) in told {
        assert!(told.starts_with(&format!("<{proxy} object, typeid '")), "{told}");
        assert!(told.contains(" at ") && told.ends_with('>'), "{told}");
    }
    // What it points to is told by the id alone: a second proxy of an object looks like the first.
    assert_eq!(format!("{list:?}"), format!("{:?}", list.clone()));
    assert_ne!(format!("{list:?}"), format!("{:?}", manager.list([1, 2]).unwrap()));
}
