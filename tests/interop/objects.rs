//! Plain data both ways, as pickles.

use super::ground::*;
use multiproc::Object;
use std::process::Command;

#[test]
fn objects_arrive_in_python_and_come_back_with_what_they_look_like_there() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("objects", &[&at, &hex(Some(KEY))]);
        let connection = listener.accept().unwrap();
        let big = |text: &str| Object::from(text.parse::<multiproc::object::BigInt>().unwrap());
        for (object, text) in [
            (Object::list([42.into(), Object::None, "hello".into()]), "[42, None, 'hello']"),
            (Object::None, "None"),
            (true.into(), "True"),
            ((-1).into(), "-1"),
            (i64::MIN.into(), "-9223372036854775808"),
            (big("1000000000000000000000000"), "1000000000000000000000000"),
            (
                big("-170141183460469231731687303715884105728"),
                "-170141183460469231731687303715884105728",
            ),
            (0.1.into(), "0.1"),
            (b"\x00\xff".into(), r"b'\x00\xff'"),
            ("é€".into(), "'é€'"),
            (Object::tuple([]), "()"),
            (Object::tuple([1.into()]), "(1,)"),
            (Object::dict([("a".into(), 1.into()), (2.into(), Object::None)]), "{'a': 1, 2: None}"),
            (Object::set([7.into()]), "{7}"),
            (Object::set([]), "set()"),
            (Object::dict([]), "{}"),
        ] {
            assert_eq!(object.to_string(), text);
            connection.send_object(&object).unwrap();
            let answer = connection.recv_object().unwrap();
            assert_eq!(answer, Object::tuple([object, text.into()]));
        }
        let long = Object::list((0..100_000).map(Object::from).chain(["x".repeat(70_000).into()]));
        connection.send_object(&long).unwrap();
        let Object::Tuple(answer) = connection.recv_object().unwrap() else { panic!("no tuple") };
        assert_eq!(answer[0], long);
        drop(connection);
        peer.finish();
    });
}

#[test]
fn pickles_of_every_protocol_are_read() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("pickles", &[&at, &hex(Some(KEY))]);
        let connection = listener.accept().unwrap();
        let mut count = 0;
        loop {
            let object = connection.recv_object().unwrap();
            if object == "end".into() {
                break;
            }
            connection.send_object(&object).unwrap();
            count += 1;
        }
        assert!(count >= 4 * 40);
        drop(connection);
        peer.finish();
    });
}

#[test]
fn pickles_of_more_than_plain_data_are_refused_by_name() {
    let _turn = turn();
    each(|python| {
        let listener = python.listener(Some(KEY)).bind("abstract:").unwrap();
        let at = listener.address().to_string();
        let peer = python.start("refused_pickles", &[&at, &hex(Some(KEY))]);
        let connection = listener.accept().unwrap();
        for expected in [
            "builtins.object",
            "builtins.print",
            "builtins.ValueError",
            "builtins.complex",
            "builtins.range",
            "contains itself",
            "too large",
            "nested deeper",
            "UTF-8",
        ] {
            let error = match connection.recv_object() {
                Err(error) => error.to_string(),
                Ok(object) => panic!("{expected} was expected, not {object}"),
            };
            assert!(error.contains(expected), "{error}");
            connection.send_object(&error.into()).unwrap();
        }
        drop(connection);
        peer.finish();
    });
}

/// The example beside this test binary, which the test command builds too.
#[test]
fn the_example_shows_what_its_head_says() {
    let _turn = turn();
    let mut example = std::env::current_exe().unwrap();
    example.pop();
    example.pop();
    example.push("examples/python_peer");
    if !example.exists() {
        println!("skipped: {} was not built", example.display());
        return;
    }
    each(|python| {
        let folder = python.program.parent().unwrap();
        let path = std::env::join_paths(
            std::iter::once(folder.to_owned())
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        );
        let output = Command::new(&example).env("PATH", path.unwrap()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        assert!(said.contains(r#"('list', "[42, None, 'hello']")"#), "{said}");
        assert!(said.contains("1180591620717411303424"), "{said}");
    });
}
