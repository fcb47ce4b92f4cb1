//! What is promised of killed processes, tried by killing them: at each instruction, and at random.
//!
//! A room adds a file with its scenarios ([`step::Scenario`]) and storms ([`storm::storm`]), and their
//! names to [`TESTS`]; `raw_lock.rs` is one to copy.
//!
//! The harness forks, so it is single-threaded and has its own `main` (`harness = false`), which
//! speaks the part of libtest's language that cargo and its users do.
//!
//! `MULTIPROC_KILL=full` steps by single instructions everywhere (a number is taken for the stride),
//! `MULTIPROC_KILLS=N` is the length of a storm, `MULTIPROC_TASKS=N` the least number of a pool's tasks in it, `MULTIPROC_SEED=N` repeats a storm's choices.

mod barrier;
mod channel;
mod condition;
mod event;
mod manager;
mod pool;
mod proof;
mod queue;
mod queue_storm;
mod raw_lock;
mod report;
mod rlock;
mod semaphore;
mod step;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod trace;
mod value;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

/// The tests, in the order they run.
const TESTS: &[(&str, fn())] = &[
    (
        "proof::a_robust_mutex_is_handed_on_from_every_instruction",
        proof::a_robust_mutex_is_handed_on_from_every_instruction,
    ),
    ("proof::publishing_before_waking_is_found_out", proof::publishing_before_waking_is_found_out),
    (
        "proof::a_victim_that_sleeps_is_killed_there_and_stepped_on_after_it_is_woken",
        proof::a_victim_that_sleeps_is_killed_there_and_stepped_on_after_it_is_woken,
    ),
    (
        "proof::a_child_that_outlives_its_killed_parent_is_found",
        proof::a_child_that_outlives_its_killed_parent_is_found,
    ),
    (
        "proof::a_storm_over_a_robust_mutex_loses_no_count",
        proof::a_storm_over_a_robust_mutex_loses_no_count,
    ),
    (
        "proof::a_storm_finds_a_lock_that_dies_with_its_holder",
        proof::a_storm_finds_a_lock_that_dies_with_its_holder,
    ),
    (
        "raw_lock::it_is_handed_on_from_every_instruction_of_its_holder",
        raw_lock::it_is_handed_on_from_every_instruction_of_its_holder,
    ),
    ("raw_lock::a_storm_loses_no_count", raw_lock::a_storm_loses_no_count),
    (
        "value::it_is_handed_on_and_told_of_from_every_instruction",
        value::it_is_handed_on_and_told_of_from_every_instruction,
    ),
    (
        "rlock::it_is_handed_on_from_every_instruction_of_its_holder",
        rlock::it_is_handed_on_from_every_instruction_of_its_holder,
    ),
    ("rlock::a_storm_loses_no_count", rlock::a_storm_loses_no_count),
    ("semaphore::release_beside_sleepers", semaphore::release_beside_sleepers),
    (
        "semaphore::acquire_that_is_woken_leaves_the_permit_to_the_next",
        semaphore::acquire_that_is_woken_leaves_the_permit_to_the_next,
    ),
    (
        "semaphore::owned_permits_come_back_from_every_instruction",
        semaphore::owned_permits_come_back_from_every_instruction,
    ),
    ("semaphore::a_storm_loses_no_owned_permit", semaphore::a_storm_loses_no_owned_permit),
    ("event::set_wakes_all_or_nobody", event::set_wakes_all_or_nobody),
    ("event::wait_leaves_no_trace", event::wait_leaves_no_trace),
    ("event::a_storm_leaves_nobody_asleep", event::a_storm_leaves_nobody_asleep),
    (
        "condition::notify_wakes_all_it_should_or_nobody",
        condition::notify_wakes_all_it_should_or_nobody,
    ),
    (
        "condition::a_woken_waiter_that_dies_is_replaced",
        condition::a_woken_waiter_that_dies_is_replaced,
    ),
    ("condition::a_storm_leaves_nobody_asleep", condition::a_storm_leaves_nobody_asleep),
    (
        "barrier::a_party_killed_at_any_instruction_lets_the_others_go",
        barrier::a_party_killed_at_any_instruction_lets_the_others_go,
    ),
    ("barrier::a_storm_leaves_nobody_waiting", barrier::a_storm_leaves_nobody_waiting),
    ("queue::put_beside_sleeping_getters", queue::put_beside_sleeping_getters),
    ("queue::put_that_grows", queue::put_that_grows),
    ("queue::close_beside_sleeping_getters", queue::close_beside_sleeping_getters),
    ("queue::get_beside_sleeping_putters", queue::get_beside_sleeping_putters),
    (
        "queue::get_that_leaves_a_segment_beside_sleeping_putters",
        queue::get_that_leaves_a_segment_beside_sleeping_putters,
    ),
    ("queue::close_beside_sleeping_putters", queue::close_beside_sleeping_putters),
    ("queue::a_getter_that_was_woken_is_replaced", queue::a_getter_that_was_woken_is_replaced),
    ("queue::a_putter_that_was_woken_is_replaced", queue::a_putter_that_was_woken_is_replaced),
    ("queue::get_that_shrinks", queue::get_that_shrinks),
    ("queue::put_of_a_descriptor", queue::put_of_a_descriptor),
    ("queue::put_many_beside_sleeping_getters", queue::put_many_beside_sleeping_getters),
    ("queue::get_many_beside_sleeping_putters", queue::get_many_beside_sleeping_putters),
    ("queue::task_done_beside_a_sleeping_join", queue::task_done_beside_a_sleeping_join),
    (
        "queue_storm::a_storm_loses_and_repeats_no_message",
        queue_storm::a_storm_loses_and_repeats_no_message,
    ),
    (
        "channel::the_last_sender_leaves_no_receiver_asleep",
        channel::the_last_sender_leaves_no_receiver_asleep,
    ),
    (
        "channel::a_sender_beside_another_is_no_disconnection",
        channel::a_sender_beside_another_is_no_disconnection,
    ),
    (
        "channel::the_last_receiver_leaves_no_sender_asleep",
        channel::the_last_receiver_leaves_no_sender_asleep,
    ),
    (
        "channel::a_receiver_beside_another_is_no_disconnection",
        channel::a_receiver_beside_another_is_no_disconnection,
    ),
    (
        "channel::a_getter_of_a_simple_queue_that_was_woken_is_replaced",
        channel::a_getter_of_a_simple_queue_that_was_woken_is_replaced,
    ),
    (
        "pool::the_only_worker_is_killed_at_each_instruction_of_a_task",
        pool::the_only_worker_is_killed_at_each_instruction_of_a_task,
    ),
    (
        "pool::a_worker_beside_another_is_killed_at_each_instruction_of_a_task",
        pool::a_worker_beside_another_is_killed_at_each_instruction_of_a_task,
    ),
    (
        "pool::a_task_is_tried_again_from_each_instruction_of_it",
        pool::a_task_is_tried_again_from_each_instruction_of_it,
    ),
    ("pool::a_storm_loses_and_repeats_no_task", pool::a_storm_loses_and_repeats_no_task),
    (
        "manager::a_lock_comes_back_from_every_instruction_of_its_holder",
        manager::a_lock_comes_back_from_every_instruction_of_its_holder,
    ),
    (
        "manager::a_permit_comes_back_from_every_instruction_of_its_owner",
        manager::a_permit_comes_back_from_every_instruction_of_its_owner,
    ),
    (
        "manager::an_item_that_a_getter_has_not_read_is_put_back_from_every_instruction",
        manager::an_item_that_a_getter_has_not_read_is_put_back_from_every_instruction,
    ),
    (
        "manager::what_is_put_and_set_is_there_or_not_from_every_instruction",
        manager::what_is_put_and_set_is_there_or_not_from_every_instruction,
    ),
    (
        "manager::a_server_killed_at_any_instruction_of_a_call_leaves_no_client_waiting",
        manager::a_server_killed_at_any_instruction_of_a_call_leaves_no_client_waiting,
    ),
];

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    only_ignored: bool,
}

impl Wanted {
    /// Takes libtest's arguments; those that make no difference here are passed over.
    fn from_args(args: impl Iterator<Item = String>) -> Wanted {
        const WITH_VALUE: [&str; 6] =
            ["--test-threads", "--format", "--color", "--logfile", "-Z", "--shuffle-seed"];
        let mut wanted = Wanted::default();
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => wanted.list = true,
                "--exact" => wanted.exact = true,
                "--ignored" => wanted.only_ignored = true,
                "--skip" => wanted.skips.extend(args.next()),
                option if WITH_VALUE.contains(&option) => drop(args.next()),
                option if option.starts_with('-') => {}
                _ => wanted.filters.push(arg),
            }
        }
        wanted
    }

    fn takes(&self, name: &str) -> bool {
        let fits = |pattern: &String| {
            if self.exact { name == pattern } else { name.contains(pattern.as_str()) }
        };
        let asked_for = self.filters.is_empty() || self.filters.iter().any(fits);
        asked_for && !self.skips.iter().any(fits) && !self.only_ignored
    }
}

fn main() -> ExitCode {
    let wanted = Wanted::from_args(std::env::args().skip(1));
    let (tests, rest): (Vec<_>, Vec<_>) = TESTS.iter().partition(|(name, _)| wanted.takes(name));
    if wanted.list {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        println!("\n{} tests, 0 benchmarks", tests.len());
        return ExitCode::SUCCESS;
    }
    support::os::adopt_orphans();
    println!("\nrunning {} tests", tests.len());
    let started = Instant::now();
    let mut failed: Vec<&str> = Vec::new();
    for (name, test) in &tests {
        let passed = catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed.extend((!passed).then_some(*name));
    }
    if !failed.is_empty() {
        println!("\nfailures:");
        failed.iter().for_each(|name| println!("    {name}"));
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; \
         finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        tests.len() - failed.len(),
        failed.len(),
        rest.len(),
        started.elapsed().as_secs_f64()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
