//! Python's containers.

use super::PATIENCE;
use super::support::watchdog;
use multiproc::{Manager, Object};

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
