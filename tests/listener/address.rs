//! Addresses as text, and back.

use multiproc::{Address, Client, Error, Listener, from_bytes, to_bytes};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[test]
fn addresses_are_read_and_written() {
    for (text, address) in [
        ("unix:/run/a b", Address::Unix("/run/a b".into())),
        (r"unix:/odd\xff\\", Address::Unix(odd(b"/odd\xff\\"))),
        ("unix:relative:path", Address::Unix("relative:path".into())),
        ("abstract:", Address::Abstract(Vec::new())),
        (r"abstract:\x00x", Address::Abstract(b"\0x".to_vec())),
        ("tcp:localhost:80", Address::Tcp { host: "localhost".into(), port: 80 }),
        ("tcp:[::1]:65535", Address::Tcp { host: "::1".into(), port: 65535 }),
    ] {
        assert_eq!(Address::parse(text).unwrap(), address);
        assert_eq!(address.to_string(), text);
        assert_eq!(from_bytes::<Address>(&to_bytes(&address).unwrap()).unwrap(), address);
    }
    let v6: SocketAddr = "[::1]:80".parse().unwrap();
    assert_eq!(Address::from(v6).to_string(), "tcp:[::1]:80");
    assert_eq!(Address::from(Path::new("/a")).to_string(), "unix:/a");
    assert_eq!("unix:/a".parse::<Address>().unwrap(), Address::from(Path::new("/a")));
}

fn odd(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}

#[test]
fn what_is_no_address_is_refused() {
    let long = format!("unix:/{}", "x".repeat(107));
    let long_name = format!("abstract:{}", "x".repeat(108));
    for text in [
        "",
        "unix",
        "unix:",
        "tcp:",
        "tcp:host",
        "tcp::80",
        "tcp:host:65536",
        "tcp:host:-1",
        "tcp:host:+1",
        "tcp:host:",
        r"\\.\pipe\name",
        "/a/path",
        "pipe:x",
        r"unix:/a\x00b",
        &long,
        &long_name,
    ] {
        assert!(matches!(Address::parse(text), Err(Error::InvalidArgument { .. })), "{text:?}");
    }
    let unchecked = Address::Unix("x".repeat(200).into());
    assert!(matches!(Listener::bind(&unchecked), Err(Error::InvalidArgument { .. })));
    assert!(matches!(Client::connect(&unchecked), Err(Error::InvalidArgument { .. })));
}
