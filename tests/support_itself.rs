//! The tests' support, tried: what it is to find it finds.

mod support;

use std::process::{Command, Output};
use std::time::Duration;
use support::{in_child, in_child_within, os, watchdog};

/// Runs one test of this file in a process of its own, told to do what it does only then.
fn rerun(test: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]);
    command.env("MULTIPROC_LEAKS", "check").env("MULTIPROC_RERUN", test);
    // With one thread libtest would run the test in `main`, which has no test's name.
    command.env("RUST_TEST_THREADS", "2");
    command.output().unwrap()
}

fn is_rerun() -> bool {
    std::env::var_os("MULTIPROC_RERUN").is_some()
}

/// Asserts that the rerun of the calling test fails for the reason `word`.
fn assert_found(test: &str, word: &str) {
    let output = rerun(test);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(101), "{errors}");
    assert!(errors.contains("leaves behind") && errors.contains(word), "{errors}");
}

#[test]
fn a_leaked_descriptor_is_found() {
    if is_rerun() {
        return std::mem::forget(std::fs::File::open("/dev/null").unwrap());
    }
    assert_found("a_leaked_descriptor_is_found", "/dev/null");
}

#[test]
fn a_child_that_nobody_reaps_is_found() {
    if is_rerun() {
        os::fork(|| {});
        return;
    }
    assert_found("a_child_that_nobody_reaps_is_found", "child");
}

#[test]
fn a_name_left_in_tmp_is_found() {
    let name = |pid: u32| std::env::temp_dir().join(format!("multiproc-left-{pid}"));
    if is_rerun() {
        return std::fs::write(name(std::process::id()), "").unwrap();
    }
    // Only /tmp is looked at; a run that keeps its temporary files elsewhere shows nothing here.
    if std::env::temp_dir() != *"/tmp" {
        return;
    }
    let output = rerun("a_name_left_in_tmp_is_found");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let left = errors.lines().find_map(|line| line.trim().strip_prefix("name "));
    std::fs::remove_file(left.unwrap_or_else(|| panic!("{errors}"))).unwrap();
    assert_eq!(output.status.code(), Some(101), "{errors}");
}

#[test]
fn a_mapping_of_a_memory_file_is_found() {
    if is_rerun() {
        return os::leak_a_memory_mapping();
    }
    assert_found("a_mapping_of_a_memory_file_is_found", "multiproc-leak");
}

#[test]
fn a_clean_run_leaves_nothing() {
    if is_rerun() {
        return drop(std::fs::File::open("/dev/null").unwrap());
    }
    let output = rerun("a_clean_run_leaves_nothing");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_watchdog_ends_what_hangs_and_names_it() {
    if is_rerun() {
        let _dog = watchdog(Duration::from_millis(50));
        std::thread::park();
        return;
    }
    let output = rerun("a_watchdog_ends_what_hangs_and_names_it");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{errors}");
    assert!(errors.contains("a_watchdog_ends_what_hangs_and_names_it still runs"), "{errors}");
}

#[test]
fn a_watchdog_that_is_dropped_in_time_does_nothing() {
    drop(watchdog(Duration::from_secs(3600)));
}

#[test]
fn a_child_that_ends_well_passes_and_one_that_panics_fails() {
    in_child(|| assert_eq!(1 + 1, 2));
    if is_rerun() {
        return in_child(|| panic!("as planned"));
    }
    let output = rerun("a_child_that_ends_well_passes_and_one_that_panics_fails");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(101), "{errors}");
    assert!(errors.contains("in its child") && errors.contains("as planned"), "{errors}");
}

#[test]
fn a_child_that_hangs_is_killed_and_reaped() {
    let hung = std::panic::catch_unwind(|| {
        in_child_within(Duration::from_millis(50), std::thread::park);
    });
    assert!(hung.is_err());
}
