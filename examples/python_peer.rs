//! A server that Python processes talk to: it answers each value with what it is in Rust's eyes.
//!
//! `cargo run --example python_peer -- tcp:127.0.0.1:4000` waits for clients such as this one:
//!
//! ```python
//! from multiprocessing.connection import Client
//!
//! with Client(("127.0.0.1", 4000), authkey=b"secret") as server:
//!     server.send([42, None, "hello"])
//!     print(server.recv())  # ('list', "[42, None, 'hello']")
//!     server.send({"numbers": {1, 2**70}})
//!     print(server.recv())  # ('dict', ...)
//!     server.send("stop")
//! ```
//!
//! Without an address it starts that Python program itself, if there is a `python3`, and prints what it
//! says. The key is proved by both sides and never sent; values are read as plain data, so that nothing a
//! client sends is ever run.

use multiproc::{Address, Connection, Error, Listener, Object, Result};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

/// The Python program of this file's head.
fn python_side(port: u16) -> String {
    let lines = include_str!("python_peer.rs").lines();
    let program = lines.skip_while(|line| *line != "//! ```python").skip(1);
    let program = program.take_while(|line| *line != "//! ```");
    let bare = program.map(|line| line.trim_start_matches("//!").strip_prefix(' ').unwrap_or(""));
    bare.collect::<Vec<_>>().join("\n").replace("4000", &port.to_string())
}

/// Answers a client until it leaves; true if it asked to stop.
fn serve(client: &Connection) -> Result<bool> {
    loop {
        let value = match client.recv_object() {
            Ok(value) if value == "stop".into() => return Ok(true),
            Ok(value) => value,
            Err(Error::Eof) => return Ok(false),
            // No plain data: the client is told, and can go on.
            Err(error @ Error::Decode { .. }) => error.to_string().into(),
            Err(error) => return Err(error),
        };
        let answer = Object::tuple([value.type_name().into(), value.to_string().into()]);
        client.send_object(&answer)?;
    }
}

fn run(address: Option<String>) -> Result<()> {
    let at = address.as_deref().unwrap_or("tcp:127.0.0.1:0");
    // MD5 is for Python before 3.12 and good enough on one's own machine only.
    let builder = Listener::builder().authkey(*b"secret").legacy_md5(address.is_none());
    let listener = builder.bind(at)?;
    println!("listening at {}", listener.address());
    let mut python = None;
    if let (None, Address::Tcp { port, .. }) = (&address, listener.address()) {
        match Command::new("python3").args(["-c", &python_side(*port)]).spawn() {
            Ok(child) => python = Some(child),
            Err(error) => {
                println!("skipped: no python3 to talk to ({error})");
                return Ok(());
            }
        }
    }
    loop {
        let client = match listener.accept_timeout(Duration::from_secs(1)) {
            // Nobody else is expected where our own Python has ended.
            Err(Error::TimeoutError) if has_ended(&mut python) => break,
            Err(Error::TimeoutError) => continue,
            client => client?,
        };
        // What one client does wrong ends its own connection alone.
        match serve(&client) {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => eprintln!("a client was dropped: {error}"),
        }
    }
    if let Some(mut python) = python {
        let status =
            python.wait().map_err(|error| Error::Os { call: "wait".into(), source: error })?;
        println!("python3 has ended: {status}");
    }
    Ok(())
}

fn has_ended(child: &mut Option<Child>) -> bool {
    child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
}

fn main() -> ExitCode {
    match run(std::env::args().nth(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
