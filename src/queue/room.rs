//! Room for a message: at the tail, in the next segment, or when the head has come so far.

use super::bell::Woken;
use super::cursor::Mark;
use super::ring::Inner;
use super::state::{Frame, SEGMENTS};
use super::store::EAGER;
use super::turn::GRACE;
use crate::sys::time::Deadline;
use crate::{Error, Result};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a producer waits for more than the room that it needs, so that it is not woken for each
/// message taken.
const COMFORT: Duration = Duration::from_micros(200);

/// How long a producer waits for room before it takes a mebibyte more: about as long as that would cost it in
/// fresh pages.
const PATIENCE: Duration = Duration::from_micros(500);

/// The longest such wait, however much is to be taken.
const MOST_PATIENCE: Duration = Duration::from_millis(20);

/// What a message needs of the ring.
#[derive(Clone, Copy)]
pub(super) struct Need {
    pub(super) frame: Frame,
    /// In bytes of the stream.
    pub(super) stride: u64,
}

/// What there is for it.
pub(super) enum Room {
    /// Room where the tail is.
    Here,
    /// A class to go on in, small enough to take it without thinking or not.
    Beyond { class: u64, small: bool, comfort_at: Mark },
    /// None until the head comes to `exact`; `comfort_at` is further on and spares wake-ups.
    None { exact: Mark, comfort_at: Mark },
}

/// The first part of a wait, in which a producer waits for more than it needs.
struct Comfort {
    until: Option<Deadline>,
    deadline: Deadline,
    /// How often the bell rang in the whole of the wait.
    rings: u32,
}

impl Comfort {
    /// When this part ends, `limit` after it began or with the wait; `None` once that has passed.
    fn until(&mut self, limit: Duration) -> Option<Deadline> {
        let until = *self.until.get_or_insert_with(|| Deadline::after(limit).min(self.deadline));
        (!until.has_passed()).then_some(until)
    }
}

/// The segment that the tail is in.
#[derive(Clone, Copy)]
pub(super) struct Last {
    start: u64,
    class: u64,
    len: u64,
}

impl Inner {
    /// Waits for room and says where the message goes: at the tail, or at the beginning of the next
    /// segment, which is then prepared.
    #[inline]
    pub(super) fn make_room(&self, tail: Mark, need: Need, deadline: Deadline) -> Result<Mark> {
        let last = self.last(tail)?;
        if self.state().is_closed() {
            return Err(Error::Closed);
        }
        // The head as it was seen last is the worst case: most of the time that is enough.
        let seen = self.state().producer.seen.load();
        if let Ok(Room::Here) = self.room(tail, last, seen, need) {
            return Ok(tail);
        }
        self.await_room(tail, last, need, deadline)
    }

    fn await_room(&self, tail: Mark, last: Last, need: Need, deadline: Deadline) -> Result<Mark> {
        let mut comfort = Comfort { until: None, deadline, rings: 0 };
        loop {
            if self.state().is_closed() {
                return Err(Error::Closed);
            }
            let head = self.look_at_head()?;
            self.state().producer.seen.store(head);
            match self.room(tail, last, head, need)? {
                Room::Here => return Ok(tail),
                Room::Beyond { class, small, comfort_at } => {
                    match comfort.until(self.patience(class)?) {
                        Some(until) if !small => {
                            self.sleep_for_space(comfort_at, until, &mut comfort)?
                        }
                        _ => return self.enter_one(tail, head, need, class),
                    }
                }
                Room::None { .. } if self.is_at_end(head, tail) => {
                    self.step_over_for_consumer(tail, deadline)?;
                }
                Room::None { .. } if deadline.has_passed() => return Err(Error::Full),
                Room::None { exact, comfort_at } => match comfort.until(COMFORT) {
                    Some(until) if comfort_at != exact => {
                        self.sleep_for_space(comfort_at, until, &mut comfort)?
                    }
                    _ => self.sleep_for_space(exact, deadline, &mut comfort)?,
                },
            }
        }
    }

    /// How long to wait for room before `class` is entered.
    fn patience(&self, class: u64) -> Result<Duration> {
        let mebibytes = (self.store.len(class)? >> 20).min(1000) as u32;
        Ok((PATIENCE * mebibytes).min(MOST_PATIENCE))
    }

    /// Whether the head is at the end of a segment that is not the last, and has yet to leave it.
    fn is_at_end(&self, head: Mark, tail: Mark) -> bool {
        let (next, _) = self.segment(head.segment.wrapping_add(1));
        head.segment != tail.segment && head.position == next
    }

    /// Sees to it that the head leaves a segment at the end of which it was; the caller looks again then.
    ///
    /// A consumer does that after it has taken the last message, but may be killed in between. One that lives
    /// may have left the segment since the caller looked, have taken all that is behind it, and sleep in its
    /// turn until more is put: so the turn is waited for only while the head stays where it is.
    fn step_over_for_consumer(&self, tail: Mark, deadline: Deadline) -> Result<()> {
        const LONGEST: Duration = Duration::from_millis(10);
        let mut slice = Duration::from_micros(100);
        let (turn, grace) = (&self.state().consumer.turn, Deadline::after(GRACE));
        let mut until = Deadline::now();
        loop {
            if let Some(turn) = turn.acquire_until(until)? {
                self.settle_consumer(&turn);
                return self.step_over(self.state().head.read(), tail).map(drop);
            }
            if self.state().is_closed() || !self.is_at_end(self.look_at_head()?, tail) {
                return Ok(());
            }
            if deadline.has_passed() && grace.has_passed() {
                return Err(Error::Full);
            }
            until = Deadline::after(slice);
            // A holder that was stopped is not asked for thousands of times a second.
            slice = LONGEST.min(slice * 2);
        }
    }

    #[inline]
    pub(super) fn last(&self, tail: Mark) -> Result<Last> {
        let (start, class) = self.segment(tail.segment);
        let len = self.store.len(class)?;
        if start > tail.position || tail.position % Frame::LEN as u64 != 0 {
            return Err(Error::corrupt("a queue's tail"));
        }
        Ok(Last { start, class, len })
    }

    #[inline]
    pub(super) fn room(&self, tail: Mark, last: Last, head: Mark, need: Need) -> Result<Room> {
        let items = tail.items.checked_sub(head.items);
        let from = head.position.max(last.start);
        let used = tail.position.checked_sub(from).filter(|used| *used <= last.len);
        let (Some(items), Some(used)) = (items, used) else {
            return Err(Error::corrupt("a queue's head"));
        };
        let full = self.maxsize != 0 && items >= self.maxsize;
        if !full && last.len - used >= need.stride {
            return Ok(Room::Here);
        }
        self.no_room(tail, last, head, need, full)
    }

    /// What there is instead of room at the tail.
    #[cold]
    fn no_room(&self, tail: Mark, last: Last, head: Mark, need: Need, full: bool) -> Result<Room> {
        if full {
            let exact = Mark { items: tail.items - self.maxsize + 1, ..Mark::default() };
            let comfort = head.items.saturating_add(self.maxsize / 2);
            let comfort_at = Mark { items: exact.items.max(comfort).min(tail.items), ..exact };
            return Ok(Room::None { exact, comfort_at });
        }
        let taken = self.taken(head, tail)?;
        if let Some(class) = self.store.next_class(last.class, taken, need.stride) {
            let small = class > last.class && self.store.len(class)? <= EAGER;
            let small = small || need.stride > last.len;
            return Ok(Room::Beyond {
                class,
                small,
                comfort_at: comfort_at(tail, last, head, need),
            });
        }
        if head.segment != tail.segment || need.stride > last.len {
            // The class that the head leaves next may do, or make room for another look.
            let (position, _) = self.segment(head.segment.wrapping_add(1));
            let exact = Mark { position, ..Mark::default() };
            return Ok(Room::None { exact, comfort_at: exact });
        }
        let position = tail.position.saturating_add(need.stride) - last.len;
        let exact = Mark { position, ..Mark::default() };
        Ok(Room::None { exact, comfort_at: comfort_at(tail, last, head, need) })
    }

    /// The classes of the chain from `head` to `tail`, a bit for each.
    pub(super) fn taken(&self, head: Mark, tail: Mark) -> Result<u64> {
        let count = tail.segment.wrapping_sub(head.segment).wrapping_add(1);
        if count > self.store.count() || count == 0 {
            return Err(Error::corrupt("a queue's segments"));
        }
        (0..count).try_fold(0, |taken, i| {
            let (_, class) = self.segment(head.segment.wrapping_add(i));
            self.store.len(class)?;
            Ok(taken | 1 << class)
        })
    }

    /// Prepares the next segment in `class`, or in a smaller one if the system has not the memory for that.
    fn enter_one(&self, tail: Mark, head: Mark, need: Need, class: u64) -> Result<Mark> {
        let refused = match self.enter(tail, class) {
            Err(error @ Error::Os { .. }) => error,
            outcome => return outcome,
        };
        let taken = self.taken(head, tail)?;
        let may_do = |class: &u64| {
            let fits = self.store.len(*class).is_ok_and(|len| len >= need.stride);
            taken & 1 << *class == 0 && fits
        };
        let entered =
            (0..class).rev().filter(may_do).find_map(|class| self.enter(tail, class).ok());
        entered.ok_or(refused)
    }

    /// Prepares the next segment in `class`. It becomes real with the next tail that is published.
    fn enter(&self, tail: Mark, class: u64) -> Result<Mark> {
        if let Err(refused) = self.store.reserve(class) {
            // What it has got of it already is of no use.
            self.store.give_back(class)?;
            return Err(refused);
        }
        self.lay_out(tail, class)
    }

    /// Notes in the table that the segment behind the tail's is in `class`.
    pub(super) fn lay_out(&self, tail: Mark, class: u64) -> Result<Mark> {
        const { assert!(SEGMENTS.is_power_of_two(), "numbers go round the table") };
        let place = Mark { segment: tail.segment.wrapping_add(1), ..tail };
        let segment = self.state().segment(place.segment);
        // Relaxed: publishing the tail orders both.
        segment.start.store(place.position, Ordering::Relaxed);
        segment.class.store(class, Ordering::Relaxed);
        Ok(place)
    }

    /// Sleeps until the head reaches `wanted`, the ring is closed, or the deadline passes; the caller,
    /// who has the producers' turn, looks for itself which.
    fn sleep_for_space(
        &self,
        wanted: Mark,
        deadline: Deadline,
        comfort: &mut Comfort,
    ) -> Result<()> {
        let state = self.state();
        state.space.wanted.store(wanted);
        if state.head.arm(true, |head| !head.reaches(wanted))?.is_none() {
            // Somebody is closing the ring, or was killed when he did.
            return if state.head.word().is_closed() { self.close_tail() } else { Ok(()) };
        }
        if self.sleep_until_space_bell(deadline)? == Woken::TooLate {
            state.head.disarm();
            return Ok(());
        }
        if self.is_left(&self.readers)? {
            return Err(Error::Disconnected);
        }
        // Nobody else takes the ring that was heard: that needs the turn.
        self.silence_space_bell()?;
        // The bell rings before the head is published, but hardly so.
        self.linger(&mut comfort.rings, || Ok(self.look_at_head()?.reaches(wanted)))
    }
}

/// Where the head has to come for the message to fit and half of the class to be free.
fn comfort_at(tail: Mark, last: Last, head: Mark, need: Need) -> Mark {
    let exact = tail.position.saturating_add(need.stride).saturating_sub(last.len);
    let comfort = head.position.max(last.start).saturating_add(last.len / 2);
    Mark { position: exact.max(comfort).min(tail.position), ..Mark::default() }
}
