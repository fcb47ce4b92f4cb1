//! Queues whose users are killed.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use super::storm::{Role, Weather, storm};
use multiproc::{Error, Queue, Shared};
use std::fs::File;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
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
    act: fn(&Bytes),
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
        marker.step_from_here();
        (self.act)(queue);
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
    let scenario = BesideGetters { getters: 2, act: |queue| queue.put(&message(40)).unwrap() };
    sweep(&Config::from_env(), "queue: put beside getters", &scenario).assert_clean();
}

pub(crate) fn put_that_grows_beside_a_sleeping_getter() {
    let scenario =
        BesideGetters { getters: 1, act: |queue| queue.put(&message(33 << 10)).unwrap() };
    sweep(&Config::from_env(), "queue: put that grows", &scenario).assert_clean();
}

pub(crate) fn close_beside_sleeping_getters() {
    let scenario = BesideGetters { getters: 2, act: |queue| queue.close().unwrap() };
    sweep(&Config::from_env(), "queue: close beside getters", &scenario).assert_clean();
}

/// Putters sleep at a full queue; the victim gets, or closes.
struct BesidePutters {
    maxsize: usize,
    max_bytes: u64,
    /// The lengths of what is in.
    lens: &'static [usize],
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
        queue(self.maxsize, self.max_bytes, self.lens)
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
        // The first in the queue is what it takes to let a putter in.
        let gone = self.lens.len() + Self::PUTTERS - after.asleep.len();
        let beside_room = queue.len().unwrap() < gone as u64 as usize;
        (queue.is_closed() || beside_room)
            .then(|| format!("{:?} asleep in put, closed: {}", after.asleep, queue.is_closed()))
            .filter(|_| queue.is_closed() || after.asleep.len() == Self::PUTTERS)
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
    let act = |queue: &Bytes| drop(take(queue));
    let scenario = BesidePutters { maxsize: 1, max_bytes: 1 << 20, lens: &[40], more: 9, act };
    sweep(&Config::from_env(), "queue: get beside putters", &scenario).assert_clean();
}

pub(crate) fn get_that_leaves_a_segment_beside_sleeping_putters() {
    let act = |queue: &Bytes| drop(take(queue));
    let lens = &[1000, 31_000, 60_000];
    let act_twice = |queue: &Bytes| {
        take(queue);
        take(queue);
    };
    let _ = act;
    let scenario =
        BesidePutters { maxsize: 0, max_bytes: 96 << 10, lens, more: 14_000, act: act_twice };
    sweep(&Config::from_env(), "queue: get that leaves a segment", &scenario).assert_clean();
}

pub(crate) fn close_beside_sleeping_putters() {
    let act = |queue: &Bytes| queue.close().unwrap();
    let scenario = BesidePutters { maxsize: 1, max_bytes: 1 << 20, lens: &[40], more: 9, act };
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
        marker.step_from_here();
        if self.full {
            queue.put(&message(10)).unwrap();
        } else {
            take(queue);
        }
    }

    fn unblock(&self, queue: &Bytes) -> bool {
        let done =
            if self.full { queue.try_get().is_ok() } else { queue.try_put(&message(12)).is_ok() };
        let _ = done;
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

/// Nobody sleeps: the victim shrinks the queue as it takes the last, large message.
struct Shrinking;

impl Scenario for Shrinking {
    type State = Bytes;

    fn setup(&self) -> Bytes {
        queue(0, 4 << 20, &[600_000])
    }

    fn sleepers(&self) -> usize {
        0
    }

    fn sleep(&self, _queue: &Bytes, _index: usize, _tally: &Tally) {}

    fn victim(&self, queue: &Bytes, marker: Marker) {
        marker.step_from_here();
        drop(queue.get().unwrap());
    }

    fn stuck(&self, _queue: &Bytes, _after: &After) -> Option<String> {
        None
    }

    fn proceed(&self, queue: &Bytes, _after: &After, _tally: &Tally) {
        for len in [3, 70_000, 20_000] {
            queue.put(&message(len)).unwrap();
        }
        let first = take(queue);
        assert!(first == 600_000 || first == 3);
        while let Ok(bytes) = queue.try_get() {
            assert!(bytes == message(bytes.len()));
        }
    }

    fn verify(&self, queue: &Bytes) {
        assert!(queue.is_empty().unwrap());
    }
}

pub(crate) fn get_that_shrinks() {
    sweep(&Config::from_env(), "queue: get that shrinks", &Shrinking).assert_clean();
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

/// How many messages of each producer are accounted for one by one.
const TRACKED: usize = 1 << 22;
const PRODUCERS: usize = 2;

/// What is known of each message: its put returned, it was received.
struct Ledger {
    next: Shared<[AtomicU64; PRODUCERS]>,
    put: Shared<[[AtomicU8; TRACKED]; PRODUCERS]>,
    got: Shared<[[AtomicU8; TRACKED]; PRODUCERS]>,
}

pub(crate) fn a_storm_loses_and_repeats_no_message() {
    type Item = (u8, u64, Vec<u8>);
    let queue = Queue::<Item>::builder().maxsize(200).max_bytes(1 << 20).build().unwrap();
    let ledger = Ledger { next: zeros(), put: zeros(), got: zeros() };
    let producer = Role {
        name: "producer",
        processes: PRODUCERS,
        mortal: true,
        run: &|turn| {
            let slot = turn.slot % PRODUCERS;
            while turn.goes_on() {
                let number = ledger.next[slot].fetch_add(1, SeqCst);
                if number as usize >= TRACKED {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let long = number % 1000 == 0;
                let len = if long { 50_000 } else { number as usize * 37 % 2000 };
                match queue.put(&(slot as u8, number, message(len))) {
                    Ok(()) => ledger.put[slot][number as usize].store(1, SeqCst),
                    Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
                }
            }
        },
    };
    let consumer = Role {
        name: "consumer",
        processes: 2,
        mortal: true,
        run: &|turn| {
            loop {
                turn.goes_on();
                match queue.get_timeout(Duration::from_millis(50)) {
                    Ok((slot, number, bytes)) => {
                        assert!(bytes == message(bytes.len()), "a broken message");
                        let before =
                            ledger.got[slot as usize][number as usize].fetch_add(1, SeqCst);
                        assert_eq!(before, 0, "message {number} of {slot} came twice");
                    }
                    Err(Error::Empty) => {}
                    Err(Error::Closed) => return,
                    Err(error) => panic!("{error}"),
                }
            }
        },
    };
    let account = |totals: &super::storm::Totals| {
        let (mut both, mut lost, mut unreturned) = (0, 0, 0);
        for slot in 0..PRODUCERS {
            for (put, got) in ledger.put[slot].iter().zip(ledger.got[slot].iter()) {
                match (put.load(SeqCst), got.load(SeqCst)) {
                    (1, 1) => both += 1,
                    (1, 0) => lost += 1,
                    (0, 1) => unreturned += 1,
                    _ => {}
                }
            }
        }
        println!(
            "  {both} messages put and got, {lost} taken by consumers that were then killed, \
             {unreturned} put by producers that were killed before put returned"
        );
        assert!(queue.is_empty().unwrap());
        assert!(lost <= totals.kills && unreturned <= totals.kills && both > 0);
        assert!(lost + unreturned <= totals.kills, "each death explains one");
    };
    storm(&Weather::from_env(), "queue", &[producer, consumer], || queue.close().unwrap(), account);
}

fn zeros<T: multiproc::Share>() -> Shared<T>
where
    T: Zeros,
{
    Shared::new(T::ZEROS).unwrap()
}

/// Arrays of zeros, of any depth.
trait Zeros {
    const ZEROS: Self;
}

impl Zeros for AtomicU8 {
    const ZEROS: AtomicU8 = AtomicU8::new(0);
}

impl Zeros for AtomicU64 {
    const ZEROS: AtomicU64 = AtomicU64::new(0);
}

impl<T: Zeros, const N: usize> Zeros for [T; N] {
    const ZEROS: [T; N] = [const { T::ZEROS }; N];
}
