//! The library is silent, unless it is asked to talk.

#[path = "support/alone.rs"]
mod alone;
mod support;

use alone::alone;
use multiproc::{Level, Process, StartMethod, Stdio, all_start_methods, log_to_stderr};
use std::io::Read;
use std::sync::Mutex;

multiproc::init_before_main!();

/// What a child that starts a child by `method` writes to stderr.
fn heard(level: Option<Level>, method: StartMethod) -> String {
    let by = all_start_methods().iter().position(|&known| known == method).unwrap() as u32;
    let work = |by: u32, level: u8| {
        match level {
            0 => {}
            10 => log_to_stderr(Level::Debug),
            _ => log_to_stderr(Level::Info),
        }
        let child =
            Process::new(|| (), ()).name("inner").start_method(all_start_methods()[by as usize]);
        child.start().unwrap().join().unwrap();
    };
    let process = Process::new(work, (by, level.map_or(0, |level| level as u8)));
    let mut outer = process.name("outer").stderr(Stdio::Piped).start().unwrap();
    let mut text = String::new();
    outer.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    outer.join().unwrap();
    text
}

#[test]
fn nothing_is_said_unless_asked_for() {
    alone(|| {
        for method in all_start_methods() {
            assert_eq!(heard(None, method), "", "{method}");
        }
    });
}

#[test]
fn children_inherit_what_is_said_and_from_which_level_on() {
    alone(|| {
        for method in all_start_methods() {
            let all = heard(Some(Level::Debug), method);
            assert!(all.contains("[DEBUG/outer] inner started with pid "), "{method}: {all}");
            assert!(
                all.contains("[INFO/inner] child process calls its function\n"),
                "{method}: {all}"
            );
            assert!(all.contains("[DEBUG/outer] inner exited with code 0\n"), "{method}: {all}");
            let less = heard(Some(Level::Info), method);
            assert!(!less.contains("DEBUG") && less.contains("[INFO/inner] "), "{method}: {less}");
        }
    });
}

static RECORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn a_logger_is_given_every_record() {
    alone(|| {
        multiproc::set_logger(|record| RECORDS.lock().unwrap().push(record.to_string()));
        Process::new(|| (), ()).name("child").start().unwrap().join().unwrap();
        let me = multiproc::current_process().name().to_string();
        let records = RECORDS.lock().unwrap();
        assert!(records[0].starts_with(&format!("[DEBUG/{me}] child started with pid ")));
        assert_eq!(records[1], format!("[DEBUG/{me}] child exited with code 0"));
    });
}

/// A logger that lasts longer than the process it is called in.
fn say(record: &multiproc::Record<'_>) {
    println!("{record}");
}

#[test]
fn children_have_their_parents_logger() {
    alone(|| {
        multiproc::set_logger(say);
        for method in all_start_methods() {
            let process = Process::new(|| (), ()).name("child").start_method(method);
            let mut child = process.stdout(Stdio::Piped).start().unwrap();
            let mut text = String::new();
            child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
            child.join().unwrap();
            assert_eq!(text, "[INFO/child] child process calls its function\n", "{method}");
        }
    });
}
