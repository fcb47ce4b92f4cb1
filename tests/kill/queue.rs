//! Queues whose users are killed.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use multiproc::{Error, JoinableQueue, Queue};
use std::fs::File;
use std::time::Duration;

type Bytes = Queue<Vec<u8>>;

/// A queue of bytes and what is in it when the round begins.
fn queue(maxsize: usize, max_bytes: u64, lens: &[usize]) -> Bytes {
    let queue = Queue::builder().maxsize(maxsize).max_bytes(max_bytes).build().unwrap();
    lens.iter().for_each(|len| queue.put(&message(*len)).unwrap());
    queue
}

/// A message of which every byte follows from its length.
fn message(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + len) as u8).collect()
}

/// Takes a message, and says its length, after a look at every byte.
fn take(queue: &Bytes) -> usize {
    let bytes = queue.get().unwrap();
    assert!(bytes == message(bytes.len()), "a message of {} bytes is broken", bytes.len());
    bytes.len()
}

/// Getters sleep; the victim puts, or closes.
struct BesideGetters {
    getters: usize,
    /// The length of the message that the victim has at hand.
    len: usize,
    act: fn(&Bytes, &Vec<u8>),
}

impl Scenario for BesideGetters {
    type State = Bytes;

    fn setup(&self) -> Bytes {
        queue(0, 1 << 20, &[])
    }

    fn sleepers(&self) -> usize {
        self.getters
    }

    fn sleep(&self, queue: &Bytes, _index: usize, _tally: &Tally) {
        match queue.get() {
            Ok(bytes) => assert!(bytes == message(bytes.len())),
            Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
        }
    }

    fn victim(&self, queue: &Bytes, marker: Marker) {
        let message = message(self.len);
        marker.step_from_here();
        (self.act)(queue, &message);
    }

    fn stuck(&self, queue: &Bytes, after: &After) -> Option<String> {
        if after.asleep.is_empty() {
            return None;
        }
        let beside_an_item = queue.len().unwrap() > 0;
        (beside_an_item || queue.is_closed())
            .then(|| format!("{:?} asleep in get, closed: {}", after.asleep, queue.is_closed()))
    }

    fn proceed(&self, queue: &Bytes, after: &After, _tally: &Tally) {
        // Those who sleep still get one each; a queue that is closed has woken them all.
        after.asleep.iter().for_each(|_| queue.put(&message(9)).unwrap());
    }

    fn verify(&self, queue: &Bytes) {
        // One more goes through, whatever the victim left.
        if !queue.is_closed() {
            queue.put(&message(11)).unwrap();
            assert_eq!(take(queue), 11);
        }
        assert!(queue.is_empty().unwrap());
    }
}

pub(crate) fn put_beside_sleeping_getters() {
    let act = |queue: &Bytes, bytes: &Vec<u8>| queue.put(bytes).unwrap();
    let scenario = BesideGetters { getters: 2, len: 40, act };
    sweep(&Config::from_env(), "queue: put beside getters", &scenario).assert_clean();
}

pub(crate) fn put_many_beside_sleeping_getters() {
    let act = |queue: &Bytes, bytes: &Vec<u8>| {
        assert_eq!(queue.put_many(&[bytes.clone(), bytes.clone()]).unwrap(), 2);
    };
    let scenario = BesideGetters { getters: 2, len: 40, act };
    sweep(&Config::from_env(), "queue: put_many beside getters", &scenario).assert_clean();
}

pub(crate) fn close_beside_sleeping_getters() {
    let act = |queue: &Bytes, _: &Vec<u8>| queue.close().unwrap();
    let scenario = BesideGetters { getters: 2, len: 0, act };
    sweep(&Config::from_env(), "queue: close beside getters", &scenario).assert_clean();
}

/// Putters sleep at a full queue; the victim gets, or closes.
struct BesidePutters {
    maxsize: usize,
    max_bytes: u64,
    /// The lengths of what is in.
    lens: &'static [usize],
    /// How many of them are taken again at once.
    taken: usize,
    /// How many of the others must be gone for a putter to go on.
    needed: usize,
    /// What each putter puts.
    more: usize,
    act: fn(&Bytes),
}

impl BesidePutters {
    const PUTTERS: usize = 2;
}

impl Scenario for BesidePutters {
    type State = Bytes;

    fn setup(&self) -> Bytes {
        let queue = queue(self.maxsize, self.max_bytes, self.lens);
        (0..self.taken).for_each(|_| assert!(take(&queue) > 0));
        queue
    }

    fn sleepers(&self) -> usize {
        Self::PUTTERS
    }

    fn sleep(&self, queue: &Bytes, _index: usize, _tally: &Tally) {
        let put = queue.put(&message(self.more));
        assert!(matches!(put, Ok(()) | Err(Error::Closed)), "{put:?}");
    }

    fn victim(&self, queue: &Bytes, marker: Marker) {
        marker.step_from_here();
        (self.act)(queue);
    }

    fn stuck(&self, queue: &Bytes, after: &After) -> Option<String> {
        if after.asleep.is_empty() {
            return None;
        }
        // With what the putters need gone and none of them back, both sleep beside room.
        let room = self.lens.len() - self.taken - self.needed;
        let beside_room = after.asleep.len() == Self::PUTTERS && queue.len().unwrap() <= room;
        (queue.is_closed() || beside_room)
            .then(|| format!("{:?} asleep in put, closed: {}", after.asleep, queue.is_closed()))
    }

    fn proceed(&self, queue: &Bytes, _after: &After, _tally: &Tally) {
        while queue.get_timeout(Duration::from_millis(50)).is_ok() {}
    }

    fn verify(&self, queue: &Bytes) {
        while queue.try_get().is_ok() {}
        if !queue.is_closed() {
            queue.put(&message(11)).unwrap();
            assert_eq!(take(queue), 11);
        }
    }
}

pub(crate) fn get_beside_sleeping_putters() {
    let act = |queue: &Bytes| drop(queue.get().unwrap());
    let scenario = BesidePutters {
        maxsize: 1,
        max_bytes: 1 << 20,
        lens: &[40],
        taken: 0,
        needed: 1,
        more: 9,
        act,
    };
    sweep(&Config::from_env(), "queue: get beside putters", &scenario).assert_clean();
}

pub(crate) fn get_many_beside_sleeping_putters() {
    let act = |queue: &Bytes| drop(queue.get_many(2).unwrap());
    let scenario = BesidePutters {
        maxsize: 2,
        max_bytes: 1 << 20,
        lens: &[40, 300],
        taken: 0,
        needed: 1,
        more: 9,
        act,
    };
    sweep(&Config::from_env(), "queue: get_many beside putters", &scenario).assert_clean();
}

pub(crate) fn get_that_leaves_a_segment_beside_sleeping_putters() {
    let act = |queue: &Bytes| drop(queue.get().unwrap());
    // The first fills the smallest place with the second, which the victim gets; the third is in a
    // larger place, behind which the putters wait.
    let lens = &[31_000, 300, 60_000];
    let scenario = BesidePutters {
        maxsize: 0,
        max_bytes: 96 << 10,
        lens,
        taken: 1,
        needed: 1,
        more: 14_000,
        act,
    };
    sweep(&Config::from_env(), "queue: get that leaves a segment", &scenario).assert_clean();
}

pub(crate) fn close_beside_sleeping_putters() {
    let act = |queue: &Bytes| queue.close().unwrap();
    let scenario = BesidePutters {
        maxsize: 1,
        max_bytes: 1 << 20,
        lens: &[40],
        taken: 0,
        needed: 1,
        more: 9,
        act,
    };
    sweep(&Config::from_env(), "queue: close beside putters", &scenario).assert_clean();
}

/// The victim itself sleeps in get or put, others behind it; then it is woken.
struct Woken {
    full: bool,
}

impl Scenario for Woken {
    type State = Bytes;

    fn setup(&self) -> Bytes {
        queue(1, 1 << 20, if self.full { &[40] } else { &[] })
    }

    fn sleepers(&self) -> usize {
        1
    }

    fn sleep(&self, queue: &Bytes, _index: usize, _tally: &Tally) {
        if self.full {
            queue.put(&message(9)).unwrap();
        } else {
            take(queue);
        }
    }

    fn victim(&self, queue: &Bytes, marker: Marker) {
        let message = message(10);
        marker.step_from_here();
        if self.full {
            queue.put(&message).unwrap();
        } else {
            drop(queue.get().unwrap());
        }
    }

    fn unblock(&self, queue: &Bytes) -> bool {
        let _ =
            if self.full { queue.try_get().is_ok() } else { queue.try_put(&message(12)).is_ok() };
        true
    }

    fn stuck(&self, queue: &Bytes, after: &After) -> Option<String> {
        let could = if self.full { !queue.is_full().unwrap() } else { !queue.is_empty().unwrap() };
        (could && !after.asleep.is_empty()).then(|| "a wake-up went to a dead process".into())
    }

    fn proceed(&self, queue: &Bytes, after: &After, _tally: &Tally) {
        for _ in &after.asleep {
            if self.full {
                take(queue);
            } else {
                queue.put(&message(9)).unwrap();
            }
        }
    }

    fn verify(&self, queue: &Bytes) {
        while queue.try_get().is_ok() {}
        queue.put(&message(11)).unwrap();
        assert_eq!(take(queue), 11);
    }
}

pub(crate) fn a_getter_that_was_woken_is_replaced() {
    sweep(&Config::from_env(), "queue: woken getter", &Woken { full: false }).assert_clean();
}

pub(crate) fn a_putter_that_was_woken_is_replaced() {
    sweep(&Config::from_env(), "queue: woken putter", &Woken { full: true }).assert_clean();
}

/// Nobody sleeps: the victim makes the queue grow or shrink.
struct Resizing {
    /// The lengths of what is put at first, and how many of them are taken again.
    lens: &'static [usize],
    taken: usize,
    act: fn(&Bytes, &Vec<u8>),
}

impl Resizing {
    const LEN: usize = 1500;
}

impl Scenario for Resizing {
    type State = Bytes;

    fn setup(&self) -> Bytes {
        let queue = queue(0, 4 << 20, self.lens);
        (0..self.taken).for_each(|_| assert!(take(&queue) > 0));
        queue
    }

    fn sleepers(&self) -> usize {
        0
    }

    fn sleep(&self, _queue: &Bytes, _index: usize, _tally: &Tally) {}

    fn victim(&self, queue: &Bytes, marker: Marker) {
        let message = message(Self::LEN);
        marker.step_from_here();
        (self.act)(queue, &message);
    }

    fn stuck(&self, _queue: &Bytes, _after: &After) -> Option<String> {
        None
    }

    fn proceed(&self, queue: &Bytes, _after: &After, _tally: &Tally) {
        let more = [3, 70_000, 20_000];
        more.iter().for_each(|len| queue.put(&message(*len)).unwrap());
        let mut found = Vec::new();
        while !queue.is_empty().unwrap() {
            found.push(take(queue));
        }
        // What was left, with or without what the victim put or took, then what was put now.
        let left = &self.lens[self.taken..];
        let with = [left, &[Self::LEN][..], &more[..]].concat();
        let plain = [left, &more[..]].concat();
        let without = [&left[left.len().min(1)..], &more[..]].concat();
        assert!([with, plain, without].contains(&found), "{found:?}");
    }

    fn verify(&self, queue: &Bytes) {
        assert!(queue.is_empty().unwrap());
    }
}

pub(crate) fn put_that_grows() {
    let act = |queue: &Bytes, bytes: &Vec<u8>| queue.put(bytes).unwrap();
    let scenario = Resizing { lens: &[32_000], taken: 0, act };
    sweep(&Config::from_env(), "queue: put that grows", &scenario).assert_clean();
}

pub(crate) fn get_that_shrinks() {
    let act = |queue: &Bytes, _: &Vec<u8>| drop(queue.get().unwrap());
    let scenario = Resizing { lens: &[300_000, 300], taken: 1, act };
    sweep(&Config::from_env(), "queue: get that shrinks", &scenario).assert_clean();
}

/// Messages with a descriptor; the victim puts and gets one.
struct WithDescriptor;

impl Scenario for WithDescriptor {
    type State = Queue<(u32, File)>;

    fn setup(&self) -> Self::State {
        Queue::new().unwrap()
    }

    fn sleep(&self, queue: &Self::State, _index: usize, _tally: &Tally) {
        let (number, file) = queue.get().unwrap();
        assert_eq!(file.metadata().unwrap().len(), u64::from(number));
    }

    fn victim(&self, queue: &Self::State, marker: Marker) {
        let file = File::open("/dev/null").unwrap();
        marker.step_from_here();
        queue.put(&(0, file)).unwrap();
    }

    fn stuck(&self, queue: &Self::State, after: &After) -> Option<String> {
        let beside = !queue.is_empty().unwrap() && !after.asleep.is_empty();
        beside.then(|| "asleep beside a message".into())
    }

    fn proceed(&self, queue: &Self::State, after: &After, _tally: &Tally) {
        // Of another length than the victim's, whose orphan it must not be.
        let program = std::env::current_exe().unwrap();
        let len = program.metadata().unwrap().len() as u32;
        for _ in &after.asleep {
            queue.put(&(len, File::open(&program).unwrap())).unwrap();
        }
    }

    fn verify(&self, queue: &Self::State) {
        queue.put(&(0, File::open("/dev/null").unwrap())).unwrap();
        let (_, file) = queue.get().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert!(queue.is_empty().unwrap());
    }
}

pub(crate) fn put_of_a_descriptor() {
    sweep(&Config::from_env(), "queue: put of a descriptor", &WithDescriptor).assert_clean();
}

/// Somebody sleeps in join; the victim gets the only item and says that it is done.
struct Joined;

impl Scenario for Joined {
    type State = JoinableQueue<u32>;

    fn setup(&self) -> Self::State {
        let queue = JoinableQueue::new().unwrap();
        queue.put(&1).unwrap();
        queue
    }

    fn sleep(&self, queue: &Self::State, _index: usize, _tally: &Tally) {
        let joined = queue.join();
        assert!(matches!(joined, Ok(()) | Err(Error::ItemsLost { items: 1 })), "{joined:?}");
    }

    fn victim(&self, queue: &Self::State, marker: Marker) {
        marker.step_from_here();
        queue.get().unwrap();
        queue.task_done().unwrap();
    }

    fn stuck(&self, queue: &Self::State, after: &After) -> Option<String> {
        let done = queue.unfinished().unwrap() == 0;
        (done && !after.asleep.is_empty()).then(|| "asleep in join though all is done".into())
    }

    fn proceed(&self, queue: &Self::State, _after: &After, _tally: &Tally) {
        if queue.try_get().is_ok() {
            queue.task_done().unwrap();
        }
        // The item was not got, is done, or is reported to somebody.
        let joined = queue.join();
        assert!(matches!(joined, Ok(()) | Err(Error::ItemsLost { items: 1 })), "{joined:?}");
    }

    fn verify(&self, queue: &Self::State) {
        assert_eq!(queue.unfinished().unwrap(), 0);
        queue.put(&2).unwrap();
        assert_eq!(queue.get().unwrap(), 2);
        queue.task_done().unwrap();
        queue.join().unwrap();
    }
}

pub(crate) fn task_done_beside_a_sleeping_join() {
    sweep(&Config::from_env(), "queue: task_done beside join", &Joined).assert_clean();
}
