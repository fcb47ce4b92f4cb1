//! Errors and exit statuses, so that what a task returns may be a `Result`.

use crate::sync::BarrierBreak;
use crate::{Decode, Decoder, Encode, Encoder, Error, ExitStatus, Result};
use std::borrow::Cow;
use std::io;
use std::process::ExitCode;

crate::__message! {
    @implement enum ExitStatus [[] [] []] [] { Exited(i32), Killed(i32) }
}

crate::__message! {
    @implement enum BarrierBreak [[] [] []] [] {
        Aborted,
        Reset,
        TimedOut,
        ActionPanicked,
        PartyDied { pid: u32 },
    }
}

crate::__message! {
    @implement enum Error [[] [] []] [] {
        Os { call: Cow<'static, str>, source: io::Error },
        TimeoutError,
        Full,
        Empty,
        Closed,
        Disconnected,
        Eof,
        TruncatedMessage,
        BufferTooShort { message: Vec<u8> },
        MessageTooLong { len: u64, max: u64 },
        Encode { reason: Cow<'static, str> },
        Decode { reason: Cow<'static, str> },
        Corrupt { what: Cow<'static, str> },
        InvalidArgument { reason: Cow<'static, str> },
        Deadlock,
        NotInitialized,
        DifferentExecutable,
        NotInExecutable { function: Cow<'static, str> },
        ThreadsRunning,
        ForeignProcess,
        NotStarted { status: ExitStatus },
        StartTimeout,
        Exited { code: i32 },
        Killed { signal: i32 },
        Panicked { message: String, location: Box<str>, backtrace: Box<str> },
        Remote { message: String },
        WorkerDied { pid: u32, status: ExitStatus },
        TaskTimeout,
        Cancelled,
        PoolClosed,
        Taken,
        Overflow { what: Cow<'static, str> },
        BrokenBarrierError { cause: BarrierBreak },
        AuthenticationError { reason: Cow<'static, str> },
        NoSuchObject,
        NotExported { object: Cow<'static, str> },
        InterfaceMismatch { expected: Box<str>, found: Box<str> },
        ItemsLost { items: u64 },
        Poison { deaths: u32, pid: u32, status: ExitStatus },
    }
}

/// The kinds that travel, by place; any other becomes `Other`.
const KINDS: [io::ErrorKind; 20] = [
    io::ErrorKind::Other,
    io::ErrorKind::NotFound,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::ConnectionRefused,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::NotConnected,
    io::ErrorKind::AddrInUse,
    io::ErrorKind::AddrNotAvailable,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::AlreadyExists,
    io::ErrorKind::WouldBlock,
    io::ErrorKind::InvalidInput,
    io::ErrorKind::InvalidData,
    io::ErrorKind::TimedOut,
    io::ErrorKind::WriteZero,
    io::ErrorKind::Interrupted,
    io::ErrorKind::Unsupported,
    io::ErrorKind::UnexpectedEof,
    io::ErrorKind::OutOfMemory,
];

/// The system's number where there is one, else the kind and the text; what the error held beside its
/// text stays behind.
impl Encode for io::Error {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        let described = || {
            let kind = KINDS.iter().position(|kind| *kind == self.kind()).unwrap_or(0);
            (kind as u8, self.to_string())
        };
        self.raw_os_error().ok_or_else(described).encode(encoder);
    }
}

impl Decode for io::Error {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        match Result::<i32, (u8, String)>::decode(decoder)? {
            Ok(code) => Ok(io::Error::from_raw_os_error(code)),
            Err((kind, text)) => {
                let kind = KINDS.get(usize::from(kind)).copied();
                Ok(io::Error::new(kind.unwrap_or(io::ErrorKind::Other), text))
            }
        }
    }
}

/// By its number, of which the system keeps eight bits.
impl Encode for ExitCode {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        (self.exit_code() as u8).encode(encoder);
    }

    fn exit_code(&self) -> i32 {
        // The type tells its number to nobody, but knows its equal.
        (0..=u8::MAX).find(|&code| ExitCode::from(code) == *self).unwrap_or(1).into()
    }
}

impl Decode for ExitCode {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        u8::decode(decoder).map(ExitCode::from)
    }
}
