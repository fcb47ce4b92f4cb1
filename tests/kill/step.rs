//! The sweep: SIGKILL after instruction k of an operation, for every k.
//!
//! Each round makes fresh shared state, forks a victim and brings it to a marker, forks sleepers and
//! waits until each is asleep, steps the victim by k instructions and kills it. Then nobody acts: what
//! is asleep once everything has come to rest is shown to the scenario, which says whether it should
//! be. Only after that do survivors go on, under a deadline, and check what they share. The sweep
//! ends with the k at which the victim ended by itself.

use super::trace;
use crate::support::os::{self, Page, Pid, Sight, Status};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How often a wait for the victim looks whether it is blocked.
const TICK: Duration = Duration::from_millis(10);

/// One operation and what must hold when a process is killed in it.
///
/// `setup`, `stuck` and the drop of the state run in the harness, everything else in a forked child:
/// what the processes share must lie in shared memory or be inherited. A panic in any of them is a
/// failure of the round.
pub(crate) trait Scenario {
    type State;

    /// Makes what the processes share, anew for each round.
    fn setup(&self) -> Self::State;

    /// How many processes sleep in the primitive while the victim is stepped.
    fn sleepers(&self) -> usize {
        1
    }

    /// In the victim, before the marker: whatever makes the sleepers sleep, such as taking the lock.
    fn prepare(&self, _state: &Self::State) {}

    /// In sleeper `index`: goes to sleep in the primitive, and returns when served.
    fn sleep(&self, state: &Self::State, index: usize, tally: &Tally);

    /// The operation that is stepped through.
    fn victim(&self, state: &Self::State);

    /// Called when the victim itself sleeps in the operation and everything is at rest, so that the
    /// steps after it is woken are reached too. False: nothing will wake it, the sweep ends there.
    fn unblock(&self, _state: &Self::State) -> bool {
        false
    }

    /// After the kill, everything at rest and nobody acting: the reason why somebody who is asleep
    /// should not be. It must not wait for anything.
    fn stuck(&self, state: &Self::State, after: &After) -> Option<String>;

    /// A survivor goes on: uses the primitive, serves who is still asleep, checks what it finds.
    fn proceed(&self, state: &Self::State, after: &After, tally: &Tally);

    /// The final check, when every sleeper has returned.
    fn verify(&self, _state: &Self::State) {}
}

/// What is left when the victim is dead and everything has come to rest.
#[derive(Debug)]
pub(crate) struct After {
    /// The sleepers that are asleep.
    pub(crate) asleep: Vec<usize>,
    /// Whether the victim came to the end of its operation instead of being killed.
    pub(crate) finished: bool,
    /// How often `unblock` was called.
    pub(crate) unblocked: usize,
}

/// What the processes of a sweep count together.
#[derive(Debug)]
pub(crate) struct Tally(Page);

impl Tally {
    /// Notes that an operation told of a dead owner.
    pub(crate) fn owner_died(&self) {
        self.0.counter(0).fetch_add(1, Relaxed);
    }
}

/// How thorough a sweep is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// The distance between two kills, in instructions.
    pub(crate) stride: usize,
    /// How long a round may wait for any one thing.
    pub(crate) patience: Duration,
}

impl Config {
    /// Every 7th instruction; `MULTIPROC_KILL=full` means each, a number means that stride.
    pub(crate) fn from_env() -> Config {
        let stride = match std::env::var("MULTIPROC_KILL").as_deref() {
            Ok("full") => 1,
            Ok(number) => number.parse().expect("MULTIPROC_KILL is `full` or a stride"),
            Err(_) => 7,
        };
        Config { stride, patience: Duration::from_secs(20) }
    }

    /// Each instruction, whatever the environment says: for short operations.
    pub(crate) fn every_instruction() -> Config {
        Config { stride: 1, ..Config::from_env() }
    }
}

/// What a round found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Somebody was left asleep who should not be.
    Stuck,
    /// A survivor, or a sleeper that was to be served, never came to its end.
    Hung,
    /// A process panicked, or ended as it should not.
    Broken,
}

/// One round that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) wrong: Wrong,
    k: usize,
    place: String,
    why: String,
}

/// What a sweep did and found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) kills: usize,
    /// Kills that met the victim asleep in the operation.
    pub(crate) blocked: usize,
    steps: u64,
    /// The instructions from the marker to the victim's end.
    length: usize,
    /// How many sleepers slept in which system call.
    sleepers: BTreeMap<String, usize>,
    pub(crate) owner_deaths: u64,
    pub(crate) failures: Vec<Failure>,
}

impl Report {
    pub(crate) fn count(&self, wrong: Wrong) -> usize {
        self.failures.iter().filter(|failure| failure.wrong == wrong).count()
    }

    /// Panics with the failures if there are any.
    pub(crate) fn assert_clean(&self) {
        assert!(self.kills > 0, "the sweep killed nobody");
        assert!(self.failures.is_empty(), "{} of {} kills", self.failures.len(), self.kills);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kills ({} blocked) ", self.kills, self.blocked)?;
        write!(f, "over {} instructions, {} steps; sleepers: ", self.length, self.steps)?;
        for (call, count) in &self.sleepers {
            write!(f, "{count} in {call}, ")?;
        }
        write!(f, "owner deaths: {}; ", self.owner_deaths)?;
        let [stuck, hung, broken] = [Wrong::Stuck, Wrong::Hung, Wrong::Broken];
        let [stuck, hung, broken] = [self.count(stuck), self.count(hung), self.count(broken)];
        write!(f, "{stuck} stuck, {hung} hung, {broken} broken")?;
        const SHOWN: usize = 5;
        for Failure { wrong, k, place, why } in self.failures.iter().take(SHOWN) {
            write!(f, "\n    {wrong:?} at k = {k}, {place}: {why}")?;
        }
        match self.failures.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n    and {more} more"),
        }
    }
}

/// Steps and kills through `scenario`'s operation, prints the totals and gives them back.
pub(crate) fn sweep<S: Scenario>(config: &Config, name: &str, scenario: &S) -> Report {
    let _ticks = os::Ticks::every(TICK);
    let tally = Tally(Page::new());
    let mut report = Report::default();
    let mut k = 0;
    // A sweep of failures that each wait for their deadline would take hours and tell no more.
    const ENOUGH_HUNG: usize = 5;
    while report.count(Wrong::Hung) < ENOUGH_HUNG {
        let state = scenario.setup();
        let mut round = Round::new(config, scenario, &state, &tally, &mut report, k);
        let end = round.run();
        drop(round);
        match end {
            End::Killed => k += config.stride,
            End::KilledBlocked => {}
            End::Finished => break,
        }
    }
    report.owner_deaths = tally.0.counter(0).load(Relaxed);
    println!("  {name}: {report}");
    report
}

/// How the victim came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Killed after step k.
    Killed,
    /// Killed where it slept, before step k: the same k is to be tried again, past the sleep.
    KilledBlocked,
    /// It ended by itself, or sleeps where nothing will wake it.
    Finished,
}

/// What a step of the victim came to.
enum Stepped {
    Stopped(i32),
    Ended(Status),
    Blocked,
}

struct Round<'a, S: Scenario> {
    config: &'a Config,
    scenario: &'a S,
    state: &'a S::State,
    tally: &'a Tally,
    report: &'a mut Report,
    k: usize,
    place: String,
    /// Forked and not yet reaped; the drop kills them.
    living: Vec<Pid>,
    sleepers: Vec<Pid>,
    unblocked: usize,
}

impl<'a, S: Scenario> Round<'a, S> {
    fn new(
        config: &'a Config,
        scenario: &'a S,
        state: &'a S::State,
        tally: &'a Tally,
        report: &'a mut Report,
        k: usize,
    ) -> Round<'a, S> {
        let (living, sleepers, place) = (Vec::new(), Vec::new(), String::new());
        let unblocked = 0;
        Round { config, scenario, state, tally, report, k, place, living, sleepers, unblocked }
    }

    fn run(&mut self) -> End {
        let Some(victim) = self.bring_victim_to_marker() else { return End::Finished };
        if !self.put_sleepers_to_sleep() {
            return End::Finished;
        }
        let end = self.step_and_kill(victim);
        let Some(asleep) = self.wait_for_rest(None) else {
            self.fail(Wrong::Hung, "the sleepers never came to rest".into());
            return end;
        };
        let asleep = asleep.iter().enumerate().filter(|(_, sight)| **sight != Sight::Gone);
        let after = After {
            asleep: asleep.map(|(index, _)| index).collect(),
            finished: end == End::Finished,
            unblocked: self.unblocked,
        };
        match self.scenario.stuck(self.state, &after) {
            Some(why) => self.fail(Wrong::Stuck, why),
            None => self.let_survivors_go_on(&after),
        }
        end
    }

    fn fail(&mut self, wrong: Wrong, why: String) {
        let place = self.place.clone();
        self.report.failures.push(Failure { wrong, k: self.k, place, why });
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.config.patience
    }

    fn fork(&mut self, child: impl FnOnce()) -> Pid {
        let pid = os::fork(child);
        self.living.push(pid);
        pid
    }

    fn reaped(&mut self, pid: Pid) {
        self.living.retain(|&living| living != pid);
    }

    /// Waits for a child's end; anything but success is a failure of the round.
    fn await_success(&mut self, pid: Pid, who: &str) -> bool {
        match os::wait_until(pid, self.deadline()) {
            None => self.fail(Wrong::Hung, format!("{who} hangs in {:?}", os::look(pid))),
            Some(Status::Exited(0)) => {
                self.reaped(pid);
                return true;
            }
            Some(status) => {
                self.reaped(pid);
                self.fail(Wrong::Broken, format!("{who} ended with {status:?}"));
            }
        }
        false
    }

    fn bring_victim_to_marker(&mut self) -> Option<Pid> {
        let (scenario, state) = (self.scenario, self.state);
        let victim = self.fork(|| {
            scenario.prepare(state);
            trace::stop_here_traced();
            scenario.victim(state);
        });
        let deadline = self.deadline();
        while Instant::now() < deadline {
            match os::wait_or_tick(victim) {
                Some(Status::Stopped(libc::SIGSTOP)) => {
                    trace::kill_with_tracer(victim);
                    return Some(victim);
                }
                Some(Status::Stopped(signal)) => trace::step(victim, signal),
                Some(status) => {
                    self.reaped(victim);
                    self.fail(Wrong::Broken, format!("the victim's preparation: {status:?}"));
                    return None;
                }
                None => {}
            }
        }
        self.fail(Wrong::Hung, "the victim never came to its marker".into());
        None
    }

    /// Forks the sleepers, one after the other, each when those before it are asleep.
    fn put_sleepers_to_sleep(&mut self) -> bool {
        let (scenario, state, tally) = (self.scenario, self.state, self.tally);
        for index in 0..scenario.sleepers() {
            let pid = self.fork(|| scenario.sleep(state, index, tally));
            self.sleepers.push(pid);
            let Some(sights) = self.wait_for_rest(None) else {
                self.fail(Wrong::Hung, format!("sleeper {index} never came to rest"));
                return false;
            };
            let Some(Sight::Asleep { call, .. }) = sights.last() else {
                self.fail(Wrong::Broken, format!("sleeper {index} did not go to sleep"));
                return false;
            };
            *self.report.sleepers.entry(call_name(call)).or_default() += 1;
        }
        true
    }

    /// Waits until every sleeper, and `victim` if given, is asleep or gone and has been so since the
    /// look before; nothing can move any of them then but somebody else or a timer.
    fn wait_for_rest(&self, victim: Option<Pid>) -> Option<Vec<Sight>> {
        let deadline = self.deadline();
        let mut last = Vec::new();
        while Instant::now() < deadline {
            let everyone = self.sleepers.iter().copied().chain(victim);
            let sights: Vec<Sight> = everyone.map(os::look).collect();
            if !sights.contains(&Sight::Running) && sights == last {
                return Some(sights);
            }
            last = sights;
            std::thread::yield_now();
        }
        None
    }

    fn step_and_kill(&mut self, victim: Pid) -> End {
        let mut signal = 0;
        let mut blocked = 0;
        for _ in 0..self.k {
            trace::step(victim, signal);
            self.report.steps += 1;
            signal = loop {
                match self.wait_for_stop(victim) {
                    Stepped::Stopped(libc::SIGTRAP) => break 0,
                    Stepped::Stopped(signal) => break signal,
                    Stepped::Ended(status) => return self.victim_ended(victim, status),
                    Stepped::Blocked => {}
                }
                blocked += 1;
                if blocked > self.report.blocked {
                    self.report.blocked += 1;
                    self.place = "asleep in a system call".into();
                    self.kill(victim);
                    return End::KilledBlocked;
                }
                if !self.unblock() {
                    self.report.length = self.k;
                    self.kill(victim);
                    return End::Finished;
                }
            };
        }
        self.place = trace::place(trace::instruction_pointer(victim));
        self.kill(victim);
        End::Killed
    }

    fn kill(&mut self, victim: Pid) {
        os::kill_and_reap(victim);
        self.reaped(victim);
        self.report.kills += 1;
    }

    fn victim_ended(&mut self, victim: Pid, status: Status) -> End {
        self.reaped(victim);
        self.report.length = self.k;
        self.place = "its end".into();
        if status != Status::Exited(0) {
            self.fail(Wrong::Broken, format!("the victim ended with {status:?}"));
        }
        End::Finished
    }

    /// Waits until the victim has done its step, or sleeps while everybody else is at rest too.
    ///
    /// A wait that no signal ends, such as a parent's for its vfork child, is not taken for a sleep.
    fn wait_for_stop(&mut self, victim: Pid) -> Stepped {
        let deadline = self.deadline();
        let mut last = Sight::Running;
        loop {
            match os::wait_or_tick(victim) {
                Some(Status::Stopped(signal)) => return Stepped::Stopped(signal),
                Some(status) => return Stepped::Ended(status),
                None => {}
            }
            let sight = os::look(victim);
            let asleep = matches!(sight, Sight::Asleep { .. }) && sight == last;
            if asleep && self.wait_for_rest(Some(victim)).is_some_and(|all| all.contains(&sight)) {
                return Stepped::Blocked;
            }
            last = sight;
            assert!(Instant::now() < deadline, "the victim does not come to the end of its step");
        }
    }

    fn unblock(&mut self) -> bool {
        const MOST: usize = 100;
        assert!(self.unblocked < MOST, "the victim went back to sleep {MOST} times");
        let (scenario, state) = (self.scenario, self.state);
        let answer = Page::new();
        let pid = self.fork(|| answer.word(0).store(scenario.unblock(state).into(), Relaxed));
        let woken = self.await_success(pid, "unblock") && answer.word(0).load(Relaxed) == 1;
        self.unblocked += usize::from(woken);
        woken
    }

    fn let_survivors_go_on(&mut self, after: &After) {
        let (scenario, state, tally) = (self.scenario, self.state, self.tally);
        let survivor = self.fork(|| scenario.proceed(state, after, tally));
        let mut well = self.await_success(survivor, "the survivor");
        for index in 0..self.sleepers.len() {
            well = well && self.await_success(self.sleepers[index], &format!("sleeper {index}"));
        }
        if well {
            let judge = self.fork(|| scenario.verify(state));
            self.await_success(judge, "the final check");
        }
    }
}

impl<S: Scenario> Drop for Round<'_, S> {
    fn drop(&mut self) {
        for &pid in &self.living {
            os::kill_and_reap(pid);
        }
    }
}

/// The system call at the front of a line of /proc/PID/syscall, by name where it is a usual one.
fn call_name(line: &str) -> String {
    let number = line.split(' ').next().unwrap_or_default();
    let usual = [
        (libc::SYS_futex, "futex"),
        (libc::SYS_read, "read"),
        (libc::SYS_write, "write"),
        (libc::SYS_ppoll, "ppoll"),
        (libc::SYS_recvmsg, "recvmsg"),
        (libc::SYS_sendmsg, "sendmsg"),
        (libc::SYS_waitid, "waitid"),
        (libc::SYS_wait4, "wait4"),
    ];
    let name = usual.iter().find(|(usual, _)| number.parse() == Ok(*usual));
    name.map_or(format!("call {number}"), |(_, name)| name.to_string())
}
