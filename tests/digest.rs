//! The digest example against `find`, `sort` and `sha256sum`.

mod support;

#[path = "../examples/digest/sha256.rs"]
mod sha256;

use sha256::Sha256;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::os;

/// The example as cargo has built it beside the tests.
///
/// `cargo test` builds all examples; `cargo test --test digest` alone does not.
fn example() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let path = own.parent()?.parent()?.join("examples/digest");
    if !path.exists() {
        eprintln!("skipped: {} is not built (cargo build --example digest)", path.display());
        return None;
    }
    Some(path)
}

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let name = format!("multiproc-digest-{}-{test}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir(&folder.0).unwrap();
        folder
    }

    /// A tree of names and sizes that programs stumble over.
    fn with_odd_files(test: &str) -> Folder {
        let folder = Folder::new(test);
        let names: [&[u8]; 12] = [
            b"plain",
            b"two words",
            b"-dash",
            b"back\\slash",
            b"line\nfeed",
            b"carriage\rreturn",
            b"latin-\xe9",
            b"ta\tb",
            b"'quote\"",
            "h\u{e9}".as_bytes(),
            b"sub.txt",
            b"sub-way",
        ];
        for (index, name) in names.iter().enumerate() {
            folder.write(name, &vec![index as u8; index * 13]);
        }
        fs::create_dir_all(folder.0.join("sub/deeper")).unwrap();
        fs::create_dir(folder.0.join("empty")).unwrap();
        folder.write(b"sub/empty file", b"");
        folder.write(b"sub/deeper/\\", b"x");
        for len in [1, 55, 56, 63, 64, 65, 119, 120, 128, (256 << 10) - 1, (256 << 10) + 1] {
            folder.write(format!("sub/{len} bytes").as_bytes(), &pattern(len));
        }
        folder.write(b"sub/large", &pattern(5_000_000));
        symlink("plain", folder.0.join("a link")).unwrap();
        symlink("sub", folder.0.join("link to a folder")).unwrap();
        symlink("nowhere", folder.0.join("dangling")).unwrap();
        folder
    }

    fn write(&self, name: &[u8], bytes: &[u8]) {
        fs::write(self.0.join(OsStr::from_bytes(name)), bytes).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// What the tools say of `paths`, in `folder`.
fn expected(folder: &Path, paths: &[&str]) -> Vec<u8> {
    let script = "find \"$@\" -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum --";
    let mut command = Command::new("sh");
    let output = command.args(["-c", script, "sh"]).args(paths).current_dir(folder).output();
    output.unwrap().stdout
}

fn digest(example: &Path, folder: &Path, args: &[&str]) -> Output {
    Command::new(example).args(args).current_dir(folder).output().unwrap()
}

/// Compares without filling the screen.
fn assert_same(found: &[u8], expected: &[u8]) {
    let (mut found, mut expected) = (found.split(|b| *b == b'\n'), expected.split(|b| *b == b'\n'));
    loop {
        match (found.next(), expected.next()) {
            (None, None) => return,
            (found, expected) => {
                let [found, expected] =
                    [found, expected].map(|line| line.map(|l| l.escape_ascii().to_string()));
                assert_eq!(found, expected);
            }
        }
    }
}

#[test]
fn odd_names_and_sizes_come_out_as_sha256sum_prints_them() {
    let Some(example) = example() else { return };
    let folder = Folder::with_odd_files("odd");
    for paths in [&["."][..], &["./"], &["sub", "plain"], &["sub/deeper", "sub", "sub"]] {
        let output = digest(&example, &folder.0, paths);
        assert_same(&output.stdout, &expected(&folder.0, paths));
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    // A link named on the command line is not followed either.
    let output = digest(&example, &folder.0, &["a link", "--", "-dash"]);
    let mut sha256sum = Command::new("sha256sum");
    let expected = sha256sum.args(["--", "-dash"]).current_dir(&folder.0).output().unwrap();
    assert_same(&output.stdout, &expected.stdout);
}

#[test]
fn what_cannot_be_read_gives_a_line_each_while_the_rest_is_done() {
    let Some(example) = example() else { return };
    let folder = Folder::new("unreadable");
    for name in ["first", "last", "sealed\nfile"] {
        folder.write(name.as_bytes(), name.as_bytes());
    }
    fs::create_dir(folder.0.join("shut")).unwrap();
    fs::set_permissions(folder.0.join("sealed\nfile"), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(folder.0.join("shut"), Permissions::from_mode(0o000)).unwrap();
    // The build's own folder may be closed to the other user.
    let program = folder.0.join("program");
    fs::copy(example, &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["first", "last", "missing", "sealed\nfile", "shut"]).current_dir(&folder.0);
    if os::is_root() {
        command.uid(65534);
    }
    let output = command.output().unwrap();
    fs::set_permissions(folder.0.join("shut"), Permissions::from_mode(0o700)).unwrap();

    assert_same(&output.stdout, &expected(&folder.0, &["first", "last"]));
    let mut errors: Vec<_> = output.stderr.split(|b| *b == b'\n').collect();
    errors.sort();
    let wanted: [&[u8]; 4] = [
        b"",
        b"digest: missing: No such file or directory",
        b"digest: sealed\\nfile: Permission denied",
        b"digest: shut: Permission denied",
    ];
    assert_eq!(errors, wanted);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn bad_usage_is_exit_code_2_with_a_usage_line() {
    let Some(example) = example() else { return };
    let bad: [&[&str]; 7] = [
        &[],
        &["--workers"],
        &["--workers", "0", "."],
        &["--workers=two", "."],
        &["--no-such", "1", "."],
        &["--kill-workers", "-3", "."],
        &["--workers", "2"],
    ];
    for args in bad {
        let output = digest(&example, Path::new("/"), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stderr.starts_with(b"usage: digest ") && output.stdout.is_empty());
    }
}

#[test]
fn a_full_disk_is_an_error_and_no_success() {
    let Some(example) = example() else { return };
    let folder = Folder::with_odd_files("full");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(example);
    let output = command.arg(".").current_dir(&folder.0).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stderr, b"digest: standard output: No space left on device\n");
}

#[test]
fn the_hash_answers_the_standards_examples_whatever_the_pieces() {
    let examples: [(&[u8], &str); 3] = [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ];
    for (bytes, wanted) in examples {
        for mut hash in [Sha256::new(), Sha256::portable()] {
            hash.update(bytes);
            assert_eq!(hash.finish(), wanted);
        }
    }
    let bytes = pattern(10_000);
    let mut whole = Sha256::portable();
    whole.update(&bytes);
    let wanted = whole.finish();
    for piece in [1, 7, 63, 64, 65, 500, 4096] {
        for mut hash in [Sha256::new(), Sha256::portable()] {
            bytes.chunks(piece).for_each(|piece| hash.update(piece));
            assert_eq!(hash.finish(), wanted, "in pieces of {piece}");
        }
    }
}
