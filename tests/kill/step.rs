//! The sweep: SIGKILL after instruction k of an operation, for every k.
//!
//! Each round makes fresh shared state, forks a victim and brings it to a marker, forks sleepers and
//! waits until each is asleep, steps the victim by k instructions and kills it. Then nobody acts: what
//! is asleep once everything has come to rest is shown to the scenario, which says whether it should
//! be. Only after that do survivors go on, under a deadline, and check what they share. The sweep
//! ends with the k at which the victim ended by itself.

use super::report::{Config, Failure, Report, Wrong, call_name};
use super::trace;
use crate::support::os::{self, Page, Pid, Sight, Status};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How often a wait for the victim looks whether it is blocked.
const TICK: Duration = Duration::from_millis(2);

/// One operation and what must hold when a process is killed in it.
///
/// `setup`, `stuck` and the drop of the state run in the harness, everything else in a forked child:
/// what the processes share must lie in shared memory or be inherited. A panic in a child is a failure
/// of the round; one in the harness ends the sweep.
pub(crate) trait Scenario {
    type State;

    /// Makes what the processes share, anew for each round.
    fn setup(&self) -> Self::State;

    /// How many processes sleep in the primitive while the victim is stepped.
    fn sleepers(&self) -> usize {
        1
    }

    /// In sleeper `index`: goes to sleep in the primitive, and returns when served.
    fn sleep(&self, state: &Self::State, index: usize, tally: &Tally);

    /// In the victim: whatever makes the sleepers sleep, such as taking the lock; then the marker,
    /// where they are put to sleep; then the operation that is stepped through.
    fn victim(&self, state: &Self::State, marker: Marker);

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

/// Where the victim's operation begins.
pub(crate) struct Marker(());

impl Marker {
    /// Waits here until the sleepers are asleep; the steps are counted from the next instruction on.
    pub(crate) fn step_from_here(self) {
        trace::stop_here_traced();
    }
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

/// Steps and kills through `scenario`'s operation, prints the totals and gives them back.
pub(crate) fn sweep<S: Scenario>(config: &Config, name: &str, scenario: &S) -> Report {
    let _ticks = os::Ticks::every(TICK);
    // Tracer and victim on one processor: a step costs half as much.
    let pinned = os::Pinned::here();
    let tally = Tally(Page::new());
    let mut report = Report::default();
    // First nobody is killed: the operation's length, and whether the scenario holds at all.
    let round = |k, report: &mut Report| {
        let state = scenario.setup();
        Round::new((config, &pinned), scenario, &state, &tally, report, k).run()
    };
    round(UNTIL_THE_END, &mut report);
    report.stride = config.stride_for(report.length);
    let mut k = 0;
    // A sweep of failures that each wait for their deadline would take hours and tell no more.
    const ENOUGH_HUNG: usize = 5;
    while report.count(Wrong::Hung) < ENOUGH_HUNG {
        match round(k, &mut report) {
            End::Killed => k += report.stride,
            End::KilledBlocked => {}
            End::KilledForGood | End::Finished => break,
        }
    }
    report.owner_deaths = tally.0.counter(0).load(Relaxed);
    println!("  {name}: {report}");
    report
}

/// The k of the round that kills nobody.
const UNTIL_THE_END: usize = usize::MAX;

/// How the victim came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Killed after step k.
    Killed,
    /// Killed where it slept, before step k: the same k is to be tried again, past the sleep.
    KilledBlocked,
    /// Killed where it slept and nothing would have woken it.
    KilledForGood,
    /// It ended by itself.
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
    pinned: &'a os::Pinned,
    scenario: &'a S,
    state: &'a S::State,
    tally: &'a Tally,
    report: &'a mut Report,
    k: usize,
    place: String,
    /// Forked and not yet reaped; the drop kills them.
    living: Vec<Pid>,
    sleepers: Vec<Pid>,
    /// Children that the scenario's state has.
    of_the_state: BTreeSet<Pid>,
    unblocked: usize,
}

impl<'a, S: Scenario> Round<'a, S> {
    fn new(
        (config, pinned): (&'a Config, &'a os::Pinned),
        scenario: &'a S,
        state: &'a S::State,
        tally: &'a Tally,
        report: &'a mut Report,
        k: usize,
    ) -> Round<'a, S> {
        Round {
            config,
            pinned,
            scenario,
            state,
            tally,
            report,
            k,
            place: String::new(),
            living: Vec::new(),
            sleepers: Vec::new(),
            of_the_state: os::children(),
            unblocked: 0,
        }
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
        self.see_orphans_die();
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
        let victim = self.fork(|| scenario.victim(state, Marker(())));
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
                    let why = format!("the victim ended before its marker: {status:?}");
                    self.fail(Wrong::Broken, why);
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
        let pinned = self.pinned;
        for index in 0..scenario.sleepers() {
            let pid = self.fork(|| {
                pinned.let_go();
                scenario.sleep(state, index, tally);
            });
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

    /// Waits until every sleeper is asleep or gone and has been so since the look before; nothing can
    /// move any of them then but somebody else or a timer. `None` as soon as `victim`, if given, is no
    /// longer where it was seen: its own timer may have woken it.
    fn wait_for_rest(&self, victim: Option<(Pid, &Sight)>) -> Option<Vec<Sight>> {
        let deadline = self.deadline();
        let mut last = Vec::new();
        while Instant::now() < deadline {
            let sights: Vec<Sight> = self.sleepers.iter().map(|&pid| os::look(pid)).collect();
            if victim.is_some_and(|(victim, sight)| os::look(victim) != *sight) {
                return None;
            }
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
        for stepped in 0..self.k {
            trace::step(victim, signal);
            self.report.steps += 1;
            signal = loop {
                match self.wait_for_stop(victim) {
                    Stepped::Stopped(libc::SIGTRAP) => break 0,
                    Stepped::Stopped(signal) => break signal,
                    Stepped::Ended(status) => return self.victim_ended(victim, status, stepped),
                    Stepped::Blocked => {}
                }
                blocked += 1;
                if blocked > self.report.blocked && self.k != UNTIL_THE_END {
                    self.report.blocked += 1;
                    self.place = "asleep in a system call".into();
                    self.kill(victim);
                    return End::KilledBlocked;
                }
                if !self.unblock() {
                    self.report.length = stepped;
                    self.kill(victim);
                    return End::KilledForGood;
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

    fn victim_ended(&mut self, victim: Pid, status: Status, stepped: usize) -> End {
        self.reaped(victim);
        self.report.length = stepped;
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
            if asleep && self.wait_for_rest(Some((victim, &sight))).is_some() {
                return Stepped::Blocked;
            }
            last = sight;
            if Instant::now() >= deadline {
                let others: Vec<Sight> = self.sleepers.iter().copied().map(os::look).collect();
                panic!(
                    "the victim does not come to the end of its step: k = {}, unblocked {} times, \
                     {last:?}; the sleepers: {others:?}",
                    self.k, self.unblocked
                );
            }
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

    /// Children of the killed come to the harness: they must not outlive the round.
    fn see_orphans_die(&mut self) {
        let mut orphans = os::children();
        orphans.retain(|pid| !self.living.contains(pid) && !self.of_the_state.contains(pid));
        for pid in orphans {
            if os::wait_until(pid, self.deadline()).is_none() {
                self.fail(Wrong::Hung, format!("an orphan lives on in {:?}", os::look(pid)));
                os::kill_and_reap(pid);
            }
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
