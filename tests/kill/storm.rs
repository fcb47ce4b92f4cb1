//! The storm: processes in named roles, SIGKILLed at random instants and replaced, then an account.
//!
//! Killing can hide a hang, because the process that hangs is killed in its turn. So every hundred
//! kills the storm holds its breath until each process has beaten again since; one that does not
//! within the deadline hangs.

use crate::support::os::{self, Page, Pid, Status};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// How many kills lie between two calms.
const KILLS_A_GUST: usize = 100;

/// Where the stop flag is; each process's beats are the counter of its slot.
const STOP: usize = 0;

/// What some of the storm's processes do.
pub(crate) struct Role<'a> {
    pub(crate) name: &'static str,
    /// How many processes do it at a time.
    pub(crate) processes: usize,
    /// Whether the storm kills them.
    pub(crate) mortal: bool,
    /// Runs in a forked child: a loop that calls [`Turn::goes_on`] each time round. One that returns
    /// early is started again.
    pub(crate) run: &'a dyn Fn(&Turn<'_>),
}

/// One life of one process of a storm.
pub(crate) struct Turn<'a> {
    page: &'a Page,
    /// Which of the storm's processes this is; its successors have the same number.
    pub(crate) slot: usize,
    /// How many processes had this slot before.
    pub(crate) life: u64,
}

impl Turn<'_> {
    /// Notes that this process has got somewhere, and says whether the storm still lasts.
    pub(crate) fn goes_on(&self) -> bool {
        self.page.counter(self.slot).fetch_add(1, SeqCst);
        self.page.word(STOP).load(SeqCst) == 0
    }
}

/// What a storm did.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) kills: usize,
    /// All the beats of all the processes.
    pub(crate) beats: u64,
}

/// Pseudo-random numbers (xorshift64*); the seed is printed, so a storm's choices can be repeated.
struct Dice(u64);

impl Dice {
    fn new() -> Dice {
        let clock = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
        let given = std::env::var("MULTIPROC_SEED").ok();
        Dice(given.and_then(|text| text.parse().ok()).unwrap_or(clock).max(1))
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    /// From a pause of nothing to one of several milliseconds, short ones as often as long ones.
    fn pause(&mut self) -> Duration {
        let longest = [1, 100, 1000, 5000][self.below(4)];
        Duration::from_micros(self.below(longest) as u64)
    }
}

/// One process after the other in the same place.
struct Slot<'a> {
    role: &'a Role<'a>,
    pid: Pid,
    life: u64,
}

/// How long a storm lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) kills: usize,
    /// How long any one thing may take in it.
    pub(crate) patience: Duration,
}

impl Weather {
    /// 2,000 kills; `MULTIPROC_KILLS=N` means as many.
    pub(crate) fn from_env() -> Weather {
        let given = std::env::var("MULTIPROC_KILLS").ok();
        let kills = given.map_or(2000, |text| text.parse().expect("MULTIPROC_KILLS is a number"));
        Weather { kills, patience: Duration::from_secs(20) }
    }
}

/// Raises a storm over `roles`, prints the totals and gives them back.
///
/// `wind_down` runs in a forked child once the killing is over and every [`Turn::goes_on`] says no:
/// it wakes those who sleep in the primitive, for example by closing it. `account` runs in a forked
/// child when all have ended, and panics if something was lost or made up.
pub(crate) fn storm(
    weather: &Weather,
    name: &str,
    roles: &[Role<'_>],
    wind_down: impl FnOnce(),
    account: impl FnOnce(&Totals),
) -> Totals {
    let started = Instant::now();
    let page = Page::new();
    let mut dice = Dice::new();
    println!("  {name}: MULTIPROC_SEED={}", dice.0);
    let mut storm = Storm { page: &page, patience: weather.patience, slots: Vec::new() };
    storm.start(roles);
    let mut done = 0;
    while done < weather.kills {
        for _ in 0..KILLS_A_GUST.min(weather.kills - done) {
            std::thread::sleep(dice.pause());
            storm.kill_one(&mut dice);
            done += 1;
        }
        storm.wait_for_a_beat_of_each();
        storm.reap_orphans();
    }
    page.word(STOP).store(1, SeqCst);
    storm.run_apart("wind_down", wind_down);
    storm.wait_for_all();
    storm.see_orphans_die();
    let slots = 0..storm.slots.len();
    let beats = slots.map(|slot| page.counter(slot).load(SeqCst)).sum();
    let totals = Totals { kills: done, beats };
    storm.run_apart("the account", || account(&totals));
    storm.slots.clear();
    let seconds = started.elapsed().as_secs_f64();
    println!("  {name}: {done} kills, {beats} beats in {seconds:.1} s");
    totals
}

struct Storm<'a> {
    page: &'a Page,
    patience: Duration,
    slots: Vec<Slot<'a>>,
}

impl<'a> Storm<'a> {
    fn start(&mut self, roles: &'a [Role<'a>]) {
        assert!(roles.iter().any(|role| role.mortal), "nobody to kill");
        for role in roles {
            for _ in 0..role.processes {
                self.slots.push(Slot { role, pid: 0, life: 0 });
                self.begin_life(self.slots.len() - 1);
            }
        }
    }

    fn begin_life(&mut self, slot: usize) {
        let Slot { role, life, .. } = self.slots[slot];
        let page = self.page;
        self.slots[slot].pid = os::fork(|| (role.run)(&Turn { page, slot, life }));
        self.slots[slot].life += 1;
    }

    fn kill_one(&mut self, dice: &mut Dice) {
        let mortal: Vec<usize> =
            (0..self.slots.len()).filter(|&slot| self.slots[slot].role.mortal).collect();
        let slot = mortal[dice.below(mortal.len())];
        let pid = std::mem::take(&mut self.slots[slot].pid);
        match os::kill_and_reap(pid) {
            Status::Killed(libc::SIGKILL) | Status::Exited(0) => self.begin_life(slot),
            status => panic!("{} ended with {status:?}", self.name_of(slot)),
        }
    }

    fn name_of(&self, slot: usize) -> String {
        format!("{} (slot {slot}, life {})", self.slots[slot].role.name, self.slots[slot].life)
    }

    /// Starts again whoever has returned; panics if one has failed.
    fn replace_the_ended(&mut self) {
        for slot in 0..self.slots.len() {
            let Some(status) = os::try_wait(self.slots[slot].pid) else { continue };
            self.slots[slot].pid = 0;
            assert_eq!(status, Status::Exited(0), "{}", self.name_of(slot));
            self.begin_life(slot);
        }
    }

    fn wait_for_a_beat_of_each(&mut self) {
        let deadline = Instant::now() + self.patience;
        let beats = |slot: usize| self.page.counter(slot).load(SeqCst);
        let before: Vec<u64> = (0..self.slots.len()).map(beats).collect();
        for (slot, &before) in before.iter().enumerate() {
            while beats(slot) == before {
                self.replace_the_ended();
                let sight = os::look(self.slots[slot].pid);
                let name = self.name_of(slot);
                assert!(Instant::now() < deadline, "{name} hangs: {sight:?}");
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }

    fn wait_for_all(&mut self) {
        let deadline = Instant::now() + self.patience;
        for slot in 0..self.slots.len() {
            let pid = self.slots[slot].pid;
            let status = os::wait_until(pid, deadline);
            let name = self.name_of(slot);
            let status =
                status.unwrap_or_else(|| panic!("{name} does not end: {:?}", os::look(pid)));
            self.slots[slot].pid = 0;
            assert_eq!(status, Status::Exited(0), "{name}");
        }
    }

    /// Children of the killed come to the harness; those that have ended leave it here.
    fn reap_orphans(&self) {
        for pid in os::children() {
            if !self.slots.iter().any(|slot| slot.pid == pid) {
                os::try_wait(pid);
            }
        }
    }

    fn see_orphans_die(&self) {
        for pid in os::children() {
            let ended = os::wait_until(pid, Instant::now() + self.patience).is_some();
            let sight = os::look(pid);
            if !ended {
                os::kill_and_reap(pid);
            }
            assert!(ended, "an orphan lives on: {sight:?}");
        }
    }

    /// Runs `step` in a forked child under the deadline.
    fn run_apart(&self, what: &str, step: impl FnOnce()) {
        let pid = os::fork(step);
        match os::wait_until(pid, Instant::now() + self.patience) {
            Some(status) => assert_eq!(status, Status::Exited(0), "{what}"),
            None => {
                let sight = os::look(pid);
                os::kill_and_reap(pid);
                panic!("{what} hangs: {sight:?}");
            }
        }
    }
}

impl Drop for Storm<'_> {
    fn drop(&mut self) {
        for slot in self.slots.iter().filter(|slot| slot.pid != 0) {
            os::kill_and_reap(slot.pid);
        }
    }
}
