//! Nothing is left when a test binary ends: no child, descriptor, mapping or name.
//!
//! A constructor notes what there is before `main`, and an exit handler compares. Exit handlers run in
//! the reverse order of their registration, so the one registered in a constructor, before any call
//! of the library, runs after the library's own exit hook, which ends and reaps the children that are
//! still there: what is found here is what that hook missed. What a test leaks without a process at
//! its other end (a descriptor kept by `mem::forget`, say) no hook repairs.
//!
//! Children that the tests fork leave by `_exit` and so are not looked at. A spawned one runs this
//! constructor too, but is part of its parent's test and starts with descriptors of the library's:
//! who was started by the same executable is not checked, unless `MULTIPROC_LEAKS=check` says so. With
//! `off` nobody is.
#![allow(unsafe_code)]

use super::os::{self, Pid};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How the names of the library and of its tests begin, where it makes any.
const OUR_NAMES: [&str; 3] = ["multiproc", "psm_", "pymp-"];

/// Where such names could be left.
const PLACES: [&str; 2] = ["/dev/shm", "/tmp"];

/// What belongs to this process at one time.
#[derive(Debug, Default)]
struct Belongings {
    descriptors: BTreeMap<i32, PathBuf>,
    children: BTreeSet<Pid>,
    mappings: BTreeSet<String>,
    names: BTreeSet<PathBuf>,
}

static AT_START: OnceLock<(Pid, Belongings)> = OnceLock::new();

#[used]
// SAFETY: the section holds pointers to functions that are called before `main`, with arguments that
// a C function may ignore; `note_start` needs nothing that `main` would have to set up first.
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = note_start;

extern "C" fn note_start() {
    let word = std::env::var_os("MULTIPROC_LEAKS").unwrap_or_default();
    if word == "check" || word != "off" && !started_by_the_same_executable() {
        let first = AT_START.set((os::own_pid(), Belongings::now())).is_ok();
        if first {
            os::at_exit(compare_at_end);
        }
    }
}

fn started_by_the_same_executable() -> bool {
    if std::env::var_os("MULTIPROC_CHILD").is_some() {
        return true;
    }
    let parent = std::os::unix::process::parent_id();
    match (fs::read_link("/proc/self/exe"), fs::read_link(format!("/proc/{parent}/exe"))) {
        (Ok(own), Ok(parents)) => own == parents,
        _ => false,
    }
}

extern "C" fn compare_at_end() {
    let Some((pid, at_start)) = AT_START.get() else { return };
    if os::own_pid() != *pid {
        return;
    }
    // A process that was killed a moment ago holds its mappings and names a little longer.
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let left = Belongings::now().left_since(at_start);
        if left.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            let program = std::env::current_exe().unwrap_or_default();
            os::complain(&format!("leaks: {} leaves behind\n", program.display()));
            left.iter().for_each(|line| os::complain(&format!("    {line}\n")));
            os::exit_now(os::PANICKED);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Belongings {
    fn now() -> Belongings {
        Belongings {
            descriptors: descriptors(),
            children: os::children(),
            mappings: mappings(),
            names: names(),
        }
    }

    /// A line for each thing that is here and was not at the start.
    fn left_since(&self, start: &Belongings) -> Vec<String> {
        let mut left = Vec::new();
        for (fd, target) in &self.descriptors {
            if start.descriptors.get(fd) != Some(target) {
                left.push(format!("descriptor {fd}: {}", target.display()));
            }
        }
        for pid in self.children.difference(&start.children) {
            left.push(format!("child {pid}: {:?}", os::look(*pid)));
        }
        if start.children.is_empty() && self.children.is_empty() && os::has_children() {
            left.push("a child that /proc does not show".to_owned());
        }
        left.extend(self.mappings.difference(&start.mappings).map(|map| format!("mapping {map}")));
        let names = self.names.difference(&start.names).filter(|name| !is_anothers(name));
        left.extend(names.map(|name| format!("name {}", name.display())));
        left
    }
}

fn entries(folder: &str) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

fn descriptors() -> BTreeMap<i32, PathBuf> {
    let number = |entry: &fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let open = entries("/proc/self/fd").filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        Some((number(&entry)?, target))
    });
    // The descriptor that reads the folder is closed when the walk is over.
    let own = PathBuf::from(format!("/proc/{}/fd", os::own_pid()));
    open.filter(|(_, target)| *target != own).collect()
}

/// The mappings of the library's memory files.
fn mappings() -> BTreeSet<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let ours = |line: &&str| line.contains("/memfd:") && line.contains("multiproc");
    maps.lines().filter(ours).map(str::to_owned).collect()
}

fn names() -> BTreeSet<PathBuf> {
    let all = PLACES.into_iter().flat_map(entries);
    let ours = all.filter(|entry| {
        let name = entry.file_name();
        OUR_NAMES.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes()))
    });
    ours.map(|entry| entry.path()).collect()
}

/// Whether a name carries the number of another process that lives: it was made beside us, not by us.
fn is_anothers(name: &std::path::Path) -> bool {
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut numbers = name.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    numbers
        .any(|pid: Pid| pid != os::own_pid() && fs::exists(format!("/proc/{pid}")).unwrap_or(false))
}
