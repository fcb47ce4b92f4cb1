//! The user's own types.

use super::PATIENCE;
use super::support::watchdog;
use multiproc::manager::{HostManager, Iter, IterProxy, ListProxy};
use multiproc::{Error, Manager, Process};

struct Counter(i64);

impl Counter {
    fn new(start: i64) -> Counter {
        Counter(start)
    }

    fn add(&mut self, n: i64) -> i64 {
        self.0 += n;
        self.0
    }

    fn name(&self, prefix: &str, parts: &[u8]) -> String {
        format!("{prefix}{}{parts:?}", self.0)
    }

    fn fail(&self) -> Result<i64, String> {
        Err("as it should".to_string())
    }

    fn refuse(&self) -> Result<i64, Error> {
        Err(Error::Full)
    }

    fn panic(&self) {
        panic!("on purpose {}", self.0);
    }

    fn hidden(&self) -> i64 {
        self.0
    }

    /// A method that makes an object and gives its proxy.
    fn spread(&self) -> Result<ListProxy<i64>, Error> {
        let host: HostManager = Manager::current().ok_or(Error::Closed)?;
        let list = host.add(multiproc::manager::List::from(vec![self.0; 2]))?;
        list.append(-1)?;
        Ok(list)
    }
}

multiproc::managed! {
    /// A counter.
    impl Counter as CounterProxy {
        /// Adds.
        fn add(&mut self, n: i64) -> i64;
        fn name(&self, prefix: &str, parts: &[u8]) -> String;
        fn fail(&self) -> Result<i64, String>;
        fn refuse(&self) throws -> i64;
        fn panic(&self);
        fn spread(&self) throws -> ListProxy<i64>;
    }
}

struct Stack<T>(Vec<T>);

impl<T: Clone + PartialOrd> Stack<T> {
    fn new() -> Stack<T> {
        Stack(Vec::new())
    }

    fn push(&mut self, item: T) {
        self.0.push(item);
    }

    fn highest(&self) -> Option<T> {
        let mut items = self.0.iter().cloned();
        items.by_ref().reduce(|a, b| if b > a { b } else { a })
    }
}

multiproc::managed! {
    impl<T: Clone + PartialOrd> Stack as StackProxy {
        fn push(&mut self, item: T);
        fn highest(&self) -> Option<T>;
    }
}

#[test]
fn methods_run_in_the_server_and_results_come_back() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let counter = manager.create(Counter::new, (40,)).unwrap();
    assert_eq!(counter.add(2).unwrap(), 42);
    assert_eq!(counter.name("n", &[1, 2]).unwrap(), "n42[1, 2]");
    assert_eq!(counter.fail().unwrap(), Err("as it should".to_string()));
    assert!(matches!(counter.refuse(), Err(Error::Full)));
    assert!(format!("{counter:?}").starts_with("<CounterProxy object, typeid 'Counter' at"));
}

#[test]
fn a_panic_comes_back_with_its_message_and_place_and_the_server_goes_on() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let counter = manager.create(Counter::new, (7,)).unwrap();
    match counter.panic() {
        Err(Error::Panicked { message, location, .. }) => {
            assert_eq!(message, "on purpose 7");
            assert!(location.contains("own_types.rs"), "{location}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(counter.add(0).unwrap(), 7);
}

#[test]
fn what_is_not_exported_can_only_be_applied() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let counter = manager.create(Counter::new, (3,)).unwrap();
    assert_eq!(counter.apply(|counter, n: i64| counter.hidden() + n, 1).unwrap(), 4);
}

#[test]
fn a_method_may_make_an_object_and_give_its_proxy() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let counter = manager.create(Counter::new, (5,)).unwrap();
    let list = counter.spread().unwrap();
    assert_eq!(list.to_vec().unwrap(), [5, 5, -1]);
    assert_eq!(manager.number_of_objects().unwrap(), 2);
    drop(list);
    assert_eq!(manager.number_of_objects().unwrap(), 1);
}

#[test]
fn a_generic_type_is_exported_with_its_parameters() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let stack = manager.create(Stack::<f64>::new, ()).unwrap();
    stack.push(1.5).unwrap();
    stack.push(0.5).unwrap();
    assert_eq!(stack.highest().unwrap(), Some(1.5));
}

#[test]
fn calls_are_pipelined_and_posted() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let counter = manager.create(Counter::new, (0,)).unwrap();
    let sums = counter.pipeline(|c| (0..1000).map(|n| c.add(n)).collect::<Vec<_>>()).unwrap();
    let sums: Vec<_> = sums.into_iter().map(|sum| sum.get().unwrap()).collect();
    assert_eq!((sums.len(), sums[999]), (1000, 499_500));
    counter.post(|c| (0..1000).try_for_each(|n| c.add(-n))).unwrap().unwrap();
    assert_eq!(counter.add(0).unwrap(), 0);
    counter.post(|c| c.refuse()).unwrap().unwrap();
    assert!(matches!(manager.sync(), Err(Error::Full)));
    manager.sync().unwrap();
    let early = counter.pipeline(|c| c.add(5).get().unwrap() + c.add(6).get().unwrap()).unwrap();
    assert_eq!(early, 5 + 11);
}

fn count(counter: CounterProxy) -> multiproc::Result<i64> {
    (0..100).try_for_each(|_| counter.add(1).map(drop))?;
    counter.add(0)
}

#[test]
fn a_proxy_works_in_processes_that_it_was_given_to() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let counter = manager.create(Counter::new, (0,)).unwrap();
    let children: Vec<_> =
        (0..3).map(|_| Process::new(count, (counter.clone(),)).start().unwrap()).collect();
    for child in children {
        assert!(child.join().unwrap().unwrap() >= 100);
    }
    assert_eq!(counter.add(0).unwrap(), 300);
}

fn refuse(why: String) -> Result<Counter, String> {
    Err(why)
}

#[test]
fn a_function_that_makes_an_object_may_fail() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let refused = manager.try_create(|| Err::<Counter, _>(Error::Full), ());
    assert!(matches!(refused, Err(Error::Full)));
    let made = manager.try_create(|n| Ok::<_, Error>(Counter::new(n)), (3,)).unwrap();
    assert_eq!(made.add(1).unwrap(), 4);
    assert_eq!(manager.number_of_objects().unwrap(), 1);
    assert_eq!(refuse("never".into()).err().as_deref(), Some("never"));
}

#[test]
fn an_iterator_goes_on_for_whoever_asks() {
    let _watchdog = watchdog(PATIENCE);
    let manager = Manager::start().unwrap();
    let numbers = manager.create(|| Iter::new(0..10u32), ()).unwrap();
    assert_eq!(
        (numbers.next_item().unwrap(), numbers.next_items(3).unwrap()),
        (Some(0), vec![1, 2, 3])
    );
    let take = |numbers: IterProxy<u32>| numbers.next_items(2).unwrap();
    let child = Process::new(take, (numbers.clone(),)).start().unwrap();
    assert_eq!(child.join().unwrap(), [4, 5]);
    let rest: Result<Vec<_>, _> = numbers.iter().collect();
    assert_eq!(rest.unwrap(), [6, 7, 8, 9]);
    assert!(numbers.next_item().unwrap().is_none() && numbers.iter().next().is_none());
}
