//! Pickles of plain data, byte by byte.

mod hostile_peers;
mod support;

use hostile_peers::{check_address, check_frames, check_handles, check_pickle, seeds};
use multiproc::object::BigInt;
use multiproc::{Error, Object, pipe};
use std::time::Duration;
use support::watchdog;

#[track_caller]
fn assert_reads(pickle: &[u8], text: &str) {
    assert_eq!(Object::from_pickle(pickle).unwrap().to_string(), text, "{}", pickle.escape_ascii());
}

#[track_caller]
fn refusal(pickle: &[u8]) -> String {
    match Object::from_pickle(pickle) {
        Err(Error::Decode { reason }) => reason.into_owned(),
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

#[test]
fn pickles_as_cpython_writes_them_are_read() {
    for (pickle, text) in [
        (&b"\x80\x02K\x01."[..], "1"),
        (b"\x80\x02M\xff\xff.", "65535"),
        (b"\x80\x02J\xff\xff\xff\xff.", "-1"),
        (b"\x80\x02\x8a\x00.", "0"),
        (b"\x80\x02\x8a\x05\x00\x00\x00\x80\x00.", "2147483648"),
        (b"\x80\x02\x8b\x02\x00\x00\x00\x00\xff.", "-256"),
        (b"\x80\x02G\xbf\xe0\x00\x00\x00\x00\x00\x00.", "-0.5"),
        (b"\x80\x02X\x02\x00\x00\x00hiq\x00.", "'hi'"),
        (b"\x80\x02]q\x00(K\x01K\x02e.", "[1, 2]"),
        (b"\x80\x02]q\x00K\x01a.", "[1]"),
        (b"\x80\x02}q\x00K\x01K\x02s.", "{1: 2}"),
        (b"\x80\x02(K\x01K\x02K\x03K\x04tq\x00.", "(1, 2, 3, 4)"),
        (b"\x80\x02K\x01K\x02K\x03\x87q\x00.", "(1, 2, 3)"),
        (b"\x80\x02c_codecs\nencode\nq\x00X\x02\x00\x00\x00\xc3\xbfq\x01X\x06\x00\x00\x00latin1q\x02\x86q\x03Rq\x04.", r"b'\xff'"),
        (b"\x80\x02c__builtin__\nbytes\nq\x00)Rq\x01.", "b''"),
        (b"\x80\x02c__builtin__\nset\nq\x00]q\x01K\x01a\x85q\x02Rq\x03.", "{1}"),
        (b"\x80\x03cbuiltins\nfrozenset\nq\x00]q\x01K\x01a\x85q\x02Rq\x03.", "{1}"),
        (b"\x80\x03C\x01aq\x00.", "b'a'"),
        (b"\x80\x03cbuiltins\nbytearray\nq\x00C\x01aq\x01\x85q\x02Rq\x03.", "b'a'"),
        (b"\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94\x8c\tbytearray\x94\x93\x94C\x01a\x94\x85\x94R\x94.", "b'a'"),
        (b"\x80\x04\x8f\x94(K\x01K\x02\x90.", "{1, 2}"),
        (b"\x80\x04(K\x01\x91\x94.", "{1}"),
        (b"\x80\x05\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x96\x02\x00\x00\x00\x00\x00\x00\x00ab\x94.", "b'ab'"),
        (b"\x80\x04]\x94(]\x94K\x01ah\x01e.", "[[1], [1]]"),
        (b"\x80\x02K\x01K\x02\x30.", "1"),
        (b"\x80\x02K\x01(K\x021.", "1"),
        (b"\x80\x02]2\x86.", "([], [])"),
        (b"(l.", "[]"),
        (b"(K\x01K\x02d.", "{1: 2}"),
    ] {
        assert_reads(pickle, text);
    }
}

#[test]
fn what_is_written_is_what_python_would_read() {
    for (object, pickle) in [
        (Object::None, &b"\x80\x04N."[..]),
        (300.into(), b"\x80\x04J\x2c\x01\x00\x00."),
        ((1i64 << 31).into(), b"\x80\x04\x8a\x05\x00\x00\x00\x80\x00."),
        ("é".into(), b"\x80\x04\x8c\x02\xc3\xa9."),
        (Object::list([true.into()]), b"\x80\x04](\x88e."),
        (Object::tuple([false.into()]), b"\x80\x04(\x89t."),
        (Object::set([]), b"\x80\x04\x8f(\x90."),
        (Object::dict([(1.into(), b"x".into())]), b"\x80\x04}(J\x01\x00\x00\x00C\x01xu."),
    ] {
        assert_eq!(object.to_pickle().unwrap(), pickle, "{object}");
        assert_eq!(Object::from_pickle(pickle).unwrap(), object);
    }
}

#[test]
fn long_texts_bytes_and_integers_have_longer_lengths() {
    let digits: BigInt = format!("-1{}", "0".repeat(700)).parse().unwrap();
    for object in ["x".repeat(256).into(), Object::Bytes(vec![7; 70_000]), Object::from(digits)] {
        assert_eq!(Object::from_pickle(&object.to_pickle().unwrap()).unwrap(), object);
    }
}

#[test]
fn every_other_opcode_is_refused_by_its_name() {
    for (opcode, name) in [
        (b'F', "FLOAT"),
        (b'I', "INT"),
        (b'L', "LONG"),
        (b'P', "PERSID"),
        (b'Q', "BINPERSID"),
        (b'S', "STRING"),
        (b'T', "BINSTRING"),
        (b'U', "SHORT_BINSTRING"),
        (b'V', "UNICODE"),
        (b'b', "BUILD"),
        (b'g', "GET"),
        (b'i', "INST"),
        (b'o', "OBJ"),
        (b'p', "PUT"),
        (0x81, "NEWOBJ"),
        (0x82, "EXT1"),
        (0x83, "EXT2"),
        (0x84, "EXT4"),
        (0x92, "NEWOBJ_EX"),
        (0x97, "NEXT_BUFFER"),
        (0x98, "READONLY_BUFFER"),
    ] {
        let reason = refusal(&[0x80, 4, opcode]);
        assert!(reason.contains(&format!("the opcode {name},")), "{reason}");
    }
    assert!(refusal(b"\xff").contains("0xff"));
}

#[test]
fn names_are_not_looked_up_and_nothing_is_called() {
    for name in [
        "os\nsystem",
        "builtins\neval",
        "builtins\nsetattr",
        "_codecs\ndecode",
        "\n",
        "builtins\nset.x",
    ] {
        let pickle = format!("\u{0}c{name}\n(X\u{1}\0\0\0xtR.");
        let reason = refusal(&[&[0x80, 2], &pickle.as_bytes()[1..]].concat());
        assert!(reason.contains("no plain data"), "{reason}");
    }
    for odd in [
        &b"c_codecs\nencode\n."[..],
        b"c_codecs\nencode\n)R.",
        b"c_codecs\nencode\n\x8c\x01a\x8c\x03hex\x86R.",
        b"c_codecs\nencode\n\x8c\x02\xc4\x80\x8c\x06latin1\x86R.",
        b"cbuiltins\nset\nK\x01\x85R.",
        b"cbuiltins\nset\nK\x01R.",
        b"K\x01)R.",
        b"cbuiltins\nbytearray\nK\x05\x85R.",
    ] {
        refusal(odd);
    }
}

#[test]
fn what_is_cut_off_or_makes_no_sense_is_refused() {
    let whole = b"\x80\x04\x95\x09\0\0\0\0\0\0\0K\x01\x8c\x01a\x94\x86\x94.";
    for len in 0..whole.len() {
        refusal(&whole[..len]);
    }
    for odd in [
        &b"."[..],
        b"N.N",
        b"NN.",
        b"(N.",
        b"a.",
        b"Na.",
        b"NNa.",
        b"]Ns.",
        b"}(Nu.",
        b"}(NNe.",
        b"0.",
        b"1.",
        b"(.",
        b"h\x00.",
        b"q\x00.",
        b"e.",
        b"\x85.",
        b"(\x85.",
        b"N(\x86.",
        b"\x80\x06N.",
        b"\x80\x01N.",
        b"\x8b\xff\xff\xff\xffN.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"X\xff\xff\xff\xff.",
        b"\x8c\x01\xff.",
        b"K\x01K\x02\x93.",
    ] {
        refusal(odd);
    }
}

#[test]
fn references_are_bounded() {
    // A list in itself.
    assert!(refusal(b"]\x94h\x00a.").contains("contains itself"));
    // Each list holds the one before it twice.
    let mut bomb = b"]\x94".to_vec();
    for i in 0..100u8 {
        bomb.extend_from_slice(&[b']', 0x94, b'(', b'h', i, b'h', i, b'e']);
    }
    bomb.push(b'.');
    // Nested too deep or too large, whichever is seen first.
    refusal(&[&bomb[..], b""].concat());
    let mut shallow = b"]\x94".to_vec();
    for i in 0..40u8 {
        shallow.extend_from_slice(&[b']', 0x94, b'(', b'h', i, b'h', i, b'e']);
    }
    // All but the last are left on the stack, below a mark.
    let shallow = [b"(", &shallow[..], b"t."].concat();
    assert!(refusal(&shallow).contains("too large"));
    // The same set made again and again from a long list.
    let mut copies = b"cbuiltins\nset\n\x94](".to_vec();
    copies.extend([b'N'; 1 << 16]);
    copies.extend_from_slice(b"e\x85\x940");
    for _ in 0..1000 {
        copies.extend_from_slice(b"h\x00h\x01R0");
    }
    copies.extend_from_slice(b"N.");
    assert!(refusal(&copies).contains("too large"));
    // Nesting up to the limit is no matter.
    let nested = |depth: usize| [vec![b']'; depth], vec![b'a'; depth - 1], b".".to_vec()].concat();
    assert!(Object::from_pickle(&nested(128)).is_ok());
    assert!(refusal(&nested(129)).contains("nested deeper"));
    refusal(&nested(1_000_000));
}

#[test]
fn an_object_nested_too_deep_is_not_written() {
    let nested = |depth| (0..depth).fold(Object::None, |inner, _| Object::list([inner]));
    assert!(nested(128).to_pickle().is_ok());
    assert!(matches!(nested(129).to_pickle(), Err(Error::Encode { .. })));
    let (left, right) = pipe().unwrap();
    assert!(left.send_object(&nested(129)).is_err());
    assert!(!right.poll(Duration::ZERO).unwrap());
}

#[test]
fn objects_are_sent_with_deadlines_and_a_refused_one_leaves_the_next() {
    let _watchdog = watchdog(Duration::from_secs(60));
    let (left, right) = pipe().unwrap();
    assert!(matches!(right.try_recv_object(), Err(Error::TimeoutError)));
    let short = Duration::from_millis(5);
    assert!(matches!(right.recv_object_timeout(short), Err(Error::TimeoutError)));
    left.send_bytes(b"c__main__\nThing\n)R.").unwrap();
    left.try_send_object(&1.into()).unwrap();
    left.send_object_timeout(&2.into(), short).unwrap();
    assert!(matches!(right.recv_object(), Err(Error::Decode { .. })));
    assert_eq!(right.try_recv_object().unwrap(), 1.into());
    assert_eq!(right.recv_object_timeout(short).unwrap(), 2.into());
}

#[test]
fn the_seeds_of_the_fuzzers_do_no_harm() {
    let _watchdog = watchdog(Duration::from_secs(60));
    seeds("pickle").iter().for_each(|seed| check_pickle(seed));
    seeds("frames").iter().for_each(|seed| check_frames(seed));
    seeds("address").iter().for_each(|seed| check_address(seed));
    seeds("handles").iter().for_each(|seed| check_handles(seed));
}
