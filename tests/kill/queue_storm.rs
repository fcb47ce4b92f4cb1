//! Queues whose users are killed at random, with everything put and got accounted for.

use super::storm::{Role, Totals, Turn, Weather, storm};
use multiproc::{Error, Queue, Shared};
use std::fs::File;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Who put it, its number, bytes that follow from their count, and with some of them a descriptor.
type Item = (u8, u64, Vec<u8>, Option<File>);

const PRODUCERS: usize = 2;

/// Queues that are used one after the other, since each is closed after a while.
const QUEUES: usize = 24;

/// The most items that are put or got at once, and so lost with one process.
const BATCH: usize = 4;

/// How many messages of each producer are remembered: far more than can be on their way.
const WINDOW: usize = CHUNKS * CHUNK;
const CHUNKS: usize = 32;
const CHUNK: usize = 1 << 17;

const PUT: u8 = 1;
const GOT: u8 = 2;

/// What became of the messages of a producer.
struct Marks {
    of: Vec<Shared<[AtomicU8; CHUNK]>>,
    /// The next number.
    next: Shared<AtomicU64>,
}

/// How many messages were put and got, only put, and only got: by somebody whose put never returned.
type Sums = Shared<[AtomicU64; 3]>;

impl Marks {
    fn new() -> Marks {
        let chunk = || Shared::new([const { AtomicU8::new(0) }; CHUNK]).unwrap();
        let next = Shared::new(AtomicU64::new(0)).unwrap();
        Marks { of: (0..CHUNKS).map(|_| chunk()).collect(), next }
    }

    fn mark(&self, number: u64) -> &AtomicU8 {
        let place = number as usize % WINDOW;
        &self.of[place / CHUNK][place % CHUNK]
    }

    /// The next `count` numbers, of which the first is given back; what had their places is settled.
    fn take(&self, count: usize, sums: &Sums) -> u64 {
        let first = self.next.fetch_add(count as u64, SeqCst);
        (first..first + count as u64).for_each(|number| self.settle(number, sums));
        first
    }

    fn settle(&self, number: u64, sums: &Sums) {
        match self.mark(number).swap(0, SeqCst) {
            0 => {}
            mark => {
                let place = [PUT | GOT, PUT, GOT].iter().position(|known| *known == mark);
                sums[place.expect("a mark")].fetch_add(1, SeqCst);
            }
        }
    }

    fn set(&self, number: u64, what: u8) {
        let before = self.mark(number).fetch_or(what, SeqCst);
        assert_eq!(before & what, 0, "message {number} came twice, or was put twice");
    }
}

struct Field {
    queues: Vec<Queue<Item>>,
    /// How many queues were closed.
    closed: Shared<AtomicU64>,
    marks: [Marks; PRODUCERS],
    sums: Sums,
}

/// What a descriptor that travels with message `number` leads to, by its size.
fn file(number: u64) -> File {
    let path = if number % 2 == 0 { "/dev/null".into() } else { std::env::current_exe().unwrap() };
    File::open(path).unwrap()
}

fn item(slot: usize, number: u64) -> Item {
    let len = if number % 1000 == 0 { 50_000 } else { number as usize * 37 % 2000 };
    let bytes = (0..len).map(|i| (i * 7 + len) as u8).collect();
    (slot as u8, number, bytes, (number % 16 < 2).then(|| file(number)))
}

fn check(item: &Item) {
    let (slot, number, bytes, file) = item;
    let wanted = self::item(*slot as usize, *number);
    assert!(*bytes == wanted.2, "message {number} of {slot} is broken");
    let len = |file: &Option<File>| file.as_ref().map(|file| file.metadata().unwrap().len());
    assert_eq!(len(file), len(&wanted.3), "the descriptor of message {number} of {slot}");
}

impl Field {
    fn new() -> Field {
        let queue = || Queue::builder().maxsize(200).max_bytes(1 << 20).build().unwrap();
        Field {
            queues: (0..QUEUES).map(|_| queue()).collect(),
            closed: Shared::new(AtomicU64::new(0)).unwrap(),
            marks: [Marks::new(), Marks::new()],
            sums: Shared::new([const { AtomicU64::new(0) }; 3]).unwrap(),
        }
    }

    /// The first queue that is open, as far as is known.
    fn current(&self) -> usize {
        (self.closed.load(SeqCst) as usize).min(QUEUES - 1)
    }

    fn produce(&self, turn: &Turn<'_>) {
        let slot = turn.slot % PRODUCERS;
        let marks = &self.marks[slot];
        while turn.goes_on() {
            let next = marks.next.load(SeqCst);
            let count = if next % 5 == 0 { BATCH } else { 1 };
            let first = marks.take(count, &self.sums);
            let items: Vec<Item> =
                (first..first + count as u64).map(|number| item(slot, number)).collect();
            self.put(slot, &items, turn);
        }
    }

    /// Puts items, in the next queue what the current one does not take any more.
    fn put(&self, slot: usize, mut items: &[Item], turn: &Turn<'_>) {
        for queue in &self.queues[self.current()..] {
            while let [first, ..] = items {
                let put = match items.len() {
                    1 => queue.put(first).map(|()| 1),
                    _ => queue.put_many(items),
                };
                match put {
                    Ok(put) => {
                        let (done, rest) = items.split_at(put);
                        done.iter().for_each(|item| self.marks[slot].set(item.1, PUT));
                        items = rest;
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Closed), "{error}");
                        break;
                    }
                }
            }
            turn.goes_on();
        }
    }

    fn consume(&self, turn: &Turn<'_>) {
        let mut last = [None; PRODUCERS];
        for queue in &self.queues {
            for round in 0.. {
                turn.goes_on();
                match self.get(queue, round % 2 == 0) {
                    Ok(items) => items.iter().for_each(|item| self.note(item, &mut last)),
                    Err(Error::Empty) => {}
                    Err(Error::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn get(&self, queue: &Queue<Item>, many: bool) -> multiproc::Result<Vec<Item>> {
        let patience = Duration::from_millis(50);
        if many {
            queue.get_many_timeout(BATCH, patience)
        } else {
            queue.get_timeout(patience).map(|item| vec![item])
        }
    }

    fn note(&self, item: &Item, last: &mut [Option<u64>; PRODUCERS]) {
        let slot = item.0 as usize;
        self.marks[slot].set(item.1, GOT);
        assert!(last[slot].is_none_or(|last| last < item.1), "message {} is late", item.1);
        last[slot] = Some(item.1);
        check(item);
    }

    /// Closes queue after queue, at longer and longer intervals, but for the last.
    fn close(&self, turn: &Turn<'_>) {
        let mut waited = 0;
        while turn.goes_on() {
            let current = self.current();
            if waited > 20 * current && current < QUEUES - 1 {
                self.queues[current].close().unwrap();
                self.closed.fetch_max(current as u64 + 1, SeqCst);
                waited = 0;
            }
            waited += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn account(&self, totals: &Totals) {
        for marks in &self.marks {
            let next = marks.next.load(SeqCst);
            let first = next.saturating_sub(WINDOW as u64);
            (first..next).for_each(|number| marks.settle(number, &self.sums));
        }
        let [both, lost, unreturned] = [0, 1, 2].map(|place| self.sums[place].load(SeqCst));
        let closed = self.closed.load(SeqCst);
        println!(
            "  {both} messages put and got, {lost} taken by consumers that were then killed, \
             {unreturned} put by producers that were killed before put returned; \
             {closed} queues closed meanwhile"
        );
        assert!(self.queues.iter().all(|queue| queue.is_empty().unwrap()));
        let explained = (totals.kills * BATCH) as u64;
        assert!(both > 0 && lost + unreturned <= explained, "each death explains one batch");
    }
}

pub(crate) fn a_storm_loses_and_repeats_no_message() {
    let field = Field::new();
    let producer = |turn: &Turn<'_>| field.produce(turn);
    let consumer = |turn: &Turn<'_>| field.consume(turn);
    let closer = |turn: &Turn<'_>| field.close(turn);
    let roles = [
        Role { name: "producer", processes: PRODUCERS, mortal: true, run: &producer },
        Role { name: "consumer", processes: 2, mortal: true, run: &consumer },
        Role { name: "closer", processes: 1, mortal: true, run: &closer },
    ];
    let wind_down = || field.queues.iter().for_each(|queue| queue.close().unwrap());
    storm(&Weather::from_env(), "queue", &roles, wind_down, |totals| field.account(totals));
}
