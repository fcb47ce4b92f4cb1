//! Python at the other end: every CPython from 3.11 on that is found here reads and changes what is
//! made by this crate, and the other way round. Where none is found, the tests say so and pass.

use crate::support::watchdog;
use multiproc::{Error, Object, ShareableList, SharedMemory};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

/// The Pythons of 3.11 and later: those of pyenv, else the one on the path.
fn pythons() -> Vec<PathBuf> {
    let root = Command::new("pyenv").arg("root").output().ok();
    let root = root.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let versions = std::fs::read_dir(PathBuf::from(root.trim()).join("versions"));
    let entries = versions.into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path().join("bin/python3")).collect();
    found.sort();
    found.push("python3".into());
    let is_fit = |python: &PathBuf| {
        let test = "import sys; sys.exit(sys.version_info < (3, 11))";
        Command::new(python).args(["-c", test]).status().is_ok_and(|status| status.success())
    };
    found.retain(is_fit);
    if found.len() > 1 {
        found.pop();
    }
    if found.is_empty() {
        println!("skipped: no Python of 3.11 or later");
    }
    found
}

/// Runs a program of Python's and gives what it printed.
fn run(python: &PathBuf, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(python);
    let output = command.arg("-c").arg(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", python.display());
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// Attaching without Python's resource tracker, which would remove the name at its program's end: by
/// `track=False` where there is that, else by taking the name back from the tracker.
const ATTACH: &str = "
import sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory, ShareableList
def untracked(block):
    if sys.version_info < (3, 13) or block._track:
        resource_tracker.unregister(block._name, 'shared_memory')
    return block
";

#[test]
fn python_reads_and_changes_a_block_made_here() {
    let _watchdog = watchdog(LONG);
    for python in pythons() {
        let block = SharedMemory::create(None, 100).unwrap();
        block.write_at(90, b"from Rust!").unwrap();
        let program = format!(
            "{ATTACH}
block = untracked(SharedMemory(sys.argv[1]))
print(block.size, bytes(block.buf[90:]).decode())
block.buf[:11] = b'from Python'
block.close()"
        );
        assert_eq!(run(&python, &program, &[block.name()]), "100 from Rust!");
        let mut bytes = [0; 11];
        block.read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"from Python");
        assert!(SharedMemory::attach(block.name()).is_ok(), "the name is still there");
    }
}

#[test]
fn a_block_made_by_python_is_read_changed_and_left_alone_here() {
    let _watchdog = watchdog(LONG);
    for python in pythons() {
        let made = format!(
            "{ATTACH}
block = untracked(SharedMemory(create=True, size=64))
block.buf[:6] = b'Python'
print(block.name)
block.close()"
        );
        let name = run(&python, &made, &[]);
        let block = SharedMemory::attach(&name).unwrap();
        let mut bytes = [0; 6];
        block.read_at(0, &mut bytes).unwrap();
        assert_eq!((block.len(), &bytes), (64, b"Python"));
        block.write_at(0, b"Rusty!").unwrap();
        drop(block);
        SharedMemory::reclaim().unwrap();
        let removed = "
import sys
from multiprocessing.shared_memory import SharedMemory
block = SharedMemory(sys.argv[1])
print(bytes(block.buf[:6]).decode())
block.close()
block.unlink()";
        assert_eq!(run(&python, removed, &[&name]), "Rusty!");
        assert!(SharedMemory::attach(&name).is_err());
    }
}

#[test]
fn python_reads_and_changes_a_list_made_here() {
    let _watchdog = watchdog(LONG);
    let items = [
        Object::from(-7),
        i64::MAX.into(),
        1.5.into(),
        true.into(),
        false.into(),
        Object::None,
        "text".into(),
        "\u{e9}\u{20ac}\u{1f600} of many bytes".into(),
        Object::Bytes(b"\x01\0\xff".to_vec()),
        "".into(),
    ];
    for python in pythons() {
        let list = ShareableList::new(&items).unwrap();
        let program = format!(
            "{ATTACH}
items = ShareableList(name=sys.argv[1])
untracked(items.shm)
print(ascii(list(items)), items.format)
items[0] = None
items[1] = 'eight by'
items[6] = 2.25
items[7] = b'bytes'
items[5] = True
items[9] = -1
items.shm.close()"
        );
        let seen = run(&python, &program, &[list.block().name()]);
        let expected = r"[-7, 9223372036854775807, 1.5, True, False, None, 'text', '\xe9\u20ac\U0001f600 of many bytes', b'\x01\x00\xff', '']";
        let format = list_format(&items);
        assert_eq!(seen, format!("{expected} {format}"));
        let after = list.iter().collect::<Result<Vec<_>, _>>().unwrap();
        let mut wanted = items.to_vec();
        wanted[0] = Object::None;
        wanted[1] = "eight by".into();
        wanted[5] = true.into();
        wanted[6] = 2.25.into();
        wanted[7] = Object::Bytes(b"bytes".to_vec());
        wanted[9] = (-1).into();
        assert_eq!(after, wanted);
    }
}

fn list_format(items: &[Object]) -> String {
    ShareableList::new(items).unwrap().format().unwrap()
}

#[test]
fn a_list_made_by_python_is_read_and_changed_here_and_is_the_same_byte_for_byte() {
    let _watchdog = watchdog(LONG);
    let items: Vec<Object> =
        vec![7.into(), Object::None, "ab".into(), 2.5.into(), true.into(), "12345678".into()];
    for python in pythons() {
        let made = format!(
            "{ATTACH}
items = ShareableList([7, None, 'ab', 2.5, True, '12345678'])
untracked(items.shm)
print(items.shm.name, bytes(items.shm.buf).hex())
items.shm.close()"
        );
        let answer = run(&python, &made, &[]);
        let (name, bytes) = answer.split_once(' ').unwrap();
        let own = ShareableList::new(&items).unwrap();
        let mut own_bytes = vec![0; own.block().len()];
        own.block().read_at(0, &mut own_bytes).unwrap();
        let own_bytes: String = own_bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(own_bytes, bytes);

        let list = ShareableList::attach(name).unwrap();
        assert_eq!(list.iter().collect::<Result<Vec<_>, _>>().unwrap(), items);
        list.set(0, &"seven".into()).unwrap();
        list.set(1, &(-1).into()).unwrap();
        list.set(2, &Object::None).unwrap();
        list.set(5, &"\u{20ac}".into()).unwrap();
        assert!(list.set(0, &"nine byte".into()).is_err());
        let seen = "
import sys
from multiprocessing.shared_memory import ShareableList
items = ShareableList(name=sys.argv[1])
print(ascii(list(items)))
items.shm.close()
items.shm.unlink()";
        let seen = run(&python, seen, &[name]);
        assert_eq!(seen, r"['seven', -1, None, 2.5, True, '\u20ac']");
    }
}

#[test]
fn room_trailing_nuls_and_bounds_are_as_in_python() {
    let _watchdog = watchdog(LONG);
    let items: [Object; 5] = [
        "text\0\0".into(),
        Object::Bytes(b"\x01\0\0".to_vec()),
        "12345678".into(),
        "\u{e9}".repeat(10).into(),
        "".into(),
    ];
    for python in pythons() {
        let list = ShareableList::new(&items).unwrap();
        let program = format!(
            "{ATTACH}
items = ShareableList(name=sys.argv[1])
untracked(items.shm)
print(ascii(list(items)), end='; ')
def refused(index, value):
    try:
        items[index] = value
    except (ValueError, IndexError) as error:
        print(type(error).__name__, end=' ')
refused(0, '123456789')
refused(0, '\u{20ac}' * 3)
refused(2, 'x' * 17)
refused(5, 1)
items[2] = 'x' * 16
items[3] = '\u{20ac}' * 8
items[1] = b'bytes\\0\\0\\0'
items[4] = '\u{e9}' * 4
items.shm.close()"
        );
        let seen = run(&python, &program, &[list.block().name()]);
        let before =
            r"['text', b'\x01', '12345678', '\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9', '']";
        assert_eq!(seen, format!("{before}; ValueError ValueError ValueError IndexError"));
        let after: [Object; 4] = [
            Object::Bytes(b"bytes".to_vec()),
            "x".repeat(16).into(),
            "\u{20ac}".repeat(8).into(),
            "\u{e9}".repeat(4).into(),
        ];
        for (index, wanted) in after.iter().enumerate() {
            assert_eq!(list.get(index + 1).unwrap(), *wanted);
        }
        let too_long: [(usize, Object); 4] = [
            (0, "123456789".into()),
            (0, "\u{20ac}".repeat(3).into()),
            (2, "x".repeat(17).into()),
            (5, 1.into()),
        ];
        for (index, item) in too_long {
            assert!(matches!(list.set(index, &item), Err(Error::InvalidArgument { .. })));
        }
        assert!(matches!(list.get(5), Err(Error::InvalidArgument { .. })));
        assert_eq!(list.get(0).unwrap(), "text".into(), "what was refused changed nothing");
    }
}

/// Python counts the room of new text in characters and cuts off what is too long; it cannot read such an
/// item itself.
#[test]
fn text_that_python_has_cut_in_the_midst_of_a_character_is_an_error() {
    let _watchdog = watchdog(LONG);
    for python in pythons() {
        let made = format!(
            "{ATTACH}
items = ShareableList(['\u{20ac}' * 3, 7])
untracked(items.shm)
try:
    items[0]
except UnicodeDecodeError:
    print(items.shm.name)
items.shm.close()"
        );
        let list = ShareableList::attach(&run(&python, &made, &[])).unwrap();
        assert!(matches!(list.get(0), Err(Error::Corrupt { .. })));
        assert_eq!(list.get(1).unwrap(), 7.into());
        list.set(0, &"\u{20ac}\u{20ac}".into()).unwrap();
        let seen = "
import sys
from multiprocessing.shared_memory import ShareableList
items = ShareableList(name=sys.argv[1])
print(ascii(items[0]))
items.shm.close()
items.shm.unlink()";
        assert_eq!(run(&python, seen, &[list.block().name()]), r"'\u20ac\u20ac'");
    }
}
