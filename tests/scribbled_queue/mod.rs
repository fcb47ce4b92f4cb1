//! Queues whose memory somebody scribbles over: what the fuzzer and the property test have in common.
//!
//! A script of bytes says what is scribbled where and what is done with the queue meanwhile. Whatever it is,
//! each operation ends, with a value or with an error that tells of it.
#![allow(dead_code, unreachable_pub)]

use multiproc::{Decode, Decoder, Encode, Encoder, Error, JoinableQueue, Queue, RawLock, Result};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

type Items = Queue<(Vec<u8>, Option<File>)>;

/// What takes a value apart into its descriptors, on its way through a queue.
enum Parts<T> {
    Whole(T),
    Fds(Vec<OwnedFd>),
}

/// How many descriptors a queue consists of, the memory first.
const FDS: usize = 4;

impl<T: Encode> Encode for Parts<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        match self {
            Parts::Whole(value) => value.encode(encoder),
            Parts::Fds(fds) => fds.iter().for_each(|fd| fd.encode(encoder)),
        }
    }
}

impl<T> Decode for Parts<T> {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Parts<T>> {
        let mut fds = Vec::new();
        while let Ok(fd) = OwnedFd::decode(decoder) {
            fds.push(fd);
        }
        Ok(Parts::Fds(fds))
    }
}

/// The descriptors that a value is sent as.
fn parts<T: Encode>(value: T) -> Vec<OwnedFd> {
    let through = Queue::new().unwrap();
    through.put(&Parts::Whole(value)).unwrap();
    match through.get().unwrap() {
        Parts::Fds(fds) => fds,
        Parts::Whole(_) => unreachable!("nothing decodes as that"),
    }
}

/// The bytes that say what happens; zeros without end behind them.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self, bytes: usize) -> u64 {
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }
}

/// Overwrites some bytes, mostly of the page that says where everything is.
fn scribble(memory: &File, script: &mut Script<'_>) {
    const CONTROL: u64 = 4096;
    const ALL: u64 = 80 << 10;
    let how = script.byte();
    let range = if how & 0xc0 == 0 { ALL } else { CONTROL };
    let at = script.number(2) * 8 % range;
    let mut word = [0; 8];
    memory.read_exact_at(&mut word, at).unwrap();
    let old = u64::from_le_bytes(word);
    let new = match how & 7 {
        0 => script.number(8),
        1 => u64::MAX - script.number(1),
        2 => script.number(1),
        3 => old.wrapping_add(16 * script.number(1)),
        4 => old.wrapping_sub(16 * script.number(1)),
        5 => old ^ 1 << (script.byte() % 64),
        6 => old.wrapping_add(script.number(1) << 32),
        _ => old.wrapping_add(1),
    };
    memory.write_at(&new.to_le_bytes(), at).unwrap();
}

/// One operation, none of which may wait for long.
fn operate(queue: &Items, script: &mut Script<'_>) -> Result<()> {
    let len = |script: &mut Script<'_>| match script.byte() {
        len @ 0..250 => len as usize,
        len => (len as usize - 249) * 9000,
    };
    let instant = Duration::from_micros(100);
    match script.byte() % 12 {
        0 | 1 => queue.try_put(&(vec![7; len(script)], None)),
        2 => queue.put_timeout(&(vec![7; len(script)], None), instant),
        3 => queue.try_put(&(vec![7; len(script)], Some(File::open("/dev/null").unwrap()))),
        4 => {
            let items: Vec<_> = (0..4).map(|_| (vec![7; len(script)], None)).collect();
            queue.try_put_many(&items).map(drop)
        }
        5 | 6 => queue.try_get().map(drop),
        7 => queue.get_timeout(instant).map(drop),
        8 => queue.try_get_many(len(script)).map(drop),
        9 => queue.len().and(queue.is_full()).map(drop),
        10 => queue.readiness().map(drop),
        _ => {
            // Whoever receives the queue now, from somebody who knows no better, maps it anew.
            let through = Queue::new()?;
            through.put(queue)?;
            through.get()?.try_get().map(drop)
        }
    }
}

fn is_told(outcome: &Result<()>) -> bool {
    use Error::{Closed, Corrupt, Deadlock, Decode, Empty, Full};
    let errors = |error: &Error| {
        matches!(error, Full | Empty | Closed | Corrupt { .. } | Decode { .. } | Deadlock)
    };
    outcome.as_ref().err().is_none_or(errors)
}

/// Does what the bytes say, the first of which chooses between the queue and the ledger.
pub fn check_either(data: &[u8]) {
    let (ledger, script) = data.split_first().unwrap_or((&0, &[]));
    if *ledger == 1 {
        check_ledger(script);
    } else {
        check(script);
    }
}

/// Does what the script says.
pub fn check(script: &[u8]) {
    let mut script = Script(script);
    let maxsize = script.byte() as usize % 16;
    let queue: Items = Queue::builder().maxsize(maxsize).max_bytes(200 << 10).build().unwrap();
    let mut fds = parts(queue.clone());
    assert_eq!(fds.len(), FDS);
    let memory = File::from(fds.swap_remove(0));
    drop(fds);
    while !script.is_over() {
        if script.byte() % 3 == 0 {
            scribble(&memory, &mut script);
        } else {
            let outcome = operate(&queue, &mut script);
            assert!(is_told(&outcome), "{outcome:?}");
        }
    }
}

/// Does what the script says with the ledger of a joinable queue, but for its lock: one that names a thread
/// that lives is held by it, as far as anybody can know.
pub fn check_ledger(script: &[u8]) {
    let mut script = Script(script);
    let queue = JoinableQueue::<u32>::new().unwrap();
    queue.put_many(&[1, 2, 3]).unwrap();
    let mut fds = parts(queue.clone());
    assert_eq!(fds.len(), FDS + 1);
    let memory = File::from(fds.swap_remove(FDS));
    drop(fds);
    while !script.is_over() {
        let outcome = match script.byte() % 8 {
            0..3 => {
                let at = (64 + size_of::<RawLock>()) as u64 + script.number(2) % 2064;
                memory.write_at(&[script.byte()], at).unwrap();
                Ok(())
            }
            3 => queue.try_put(&4),
            4 => queue.try_get().map(drop),
            5 => queue.try_get_many(2).map(drop),
            6 => queue.task_done(),
            _ => queue.try_join().and(queue.unfinished().map(drop)),
        };
        use Error::{InvalidArgument, ItemsLost, TimeoutError};
        let known =
            matches!(outcome, Err(InvalidArgument { .. } | ItemsLost { .. } | TimeoutError));
        assert!(known || is_told(&outcome), "{outcome:?}");
    }
}
