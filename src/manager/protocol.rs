//! The bytes between a client and a server; the module's docs describe them.

use crate::codec::Payload;
use crate::{Decode, Decoder, Encode, Error, Result};

/// The version of everything in this file and of the encoding of values.
pub(super) const VERSION: u32 = 1;

/// What a greeting begins with.
pub(super) const MAGIC: [u8; 8] = *b"mp-mngr\n";

/// The bytes of a frame's length.
pub(super) const LENGTH: usize = 4;
/// The bytes of a request before its arguments, the length left out.
pub(super) const REQUEST: usize = 24;
/// The bytes of a reply before its value, the length left out.
pub(super) const REPLY: usize = 8;

/// The longest greeting, or other frame of a stranger.
pub(super) const STRANGERS_MOST: usize = 256;

/// A request's flag: whoever sent it does not wait, and no reply is sent.
pub(super) const NO_REPLY: u8 = 1;
/// A request's flag: the replies to all requests before it, on this connection, were read.
pub(super) const CAUGHT_UP: u8 = 2;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Run a method of an object.
    Call = 1,
    /// Make an object by a function of the program; the client gets a reference to it.
    Create = 2,
    /// A reference to the object of a name, or a new object by the function registered under it.
    Get = 3,
    /// One more reference to an object, in exchange for one that travelled in a message.
    Take = 4,
    /// One reference less.
    Drop = 5,
    /// One more reference, which will travel in a message.
    Lend = 6,
    /// The number of objects.
    Count = 7,
    /// A text about all objects.
    Debug = 8,
    /// The first error of the requests since the last one of this kind that nobody waited for.
    Sync = 9,
    /// Run a function of the program on an object.
    Apply = 10,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        const ALL: [Kind; 10] = [Call, Create, Get, Take, Drop, Lend, Count, Debug, Sync, Apply];
        ALL.get(usize::from(byte).wrapping_sub(1)).copied()
    }
}

/// The fixed part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) no_reply: bool,
    pub(super) caught_up: bool,
    /// How many descriptors came with it.
    pub(super) fds: u16,
    /// The object, where there is one.
    pub(super) object: u64,
    /// The method, for a call.
    pub(super) method: u64,
}

impl Request {
    pub(super) fn new(kind: Kind, object: u64) -> Request {
        Request { kind, no_reply: false, caught_up: false, fds: 0, object, method: 0 }
    }

    /// Reads the fixed part, and gives the arguments.
    pub(super) fn parse(frame: &[u8]) -> Result<(Request, &[u8])> {
        let (head, arguments) = frame
            .split_first_chunk::<REQUEST>()
            .ok_or_else(|| Error::decode("a request that is too short"))?;
        let kind = Kind::from_byte(head[0])
            .ok_or_else(|| Error::decode(format!("a request of kind {}", head[0])))?;
        let request = Request {
            kind,
            no_reply: head[1] & NO_REPLY != 0,
            caught_up: head[1] & CAUGHT_UP != 0,
            fds: u16::from_le_bytes([head[2], head[3]]),
            object: number(head, 8),
            method: number(head, 16),
        };
        Ok((request, arguments))
    }

    /// The fixed part, without descriptors.
    fn head(self) -> [u8; REQUEST] {
        let mut head = [0; REQUEST];
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        head[0] = self.kind as u8;
        head[1] = flag(self.no_reply, NO_REPLY) | flag(self.caught_up, CAUGHT_UP);
        head[8..16].copy_from_slice(&self.object.to_le_bytes());
        head[16..24].copy_from_slice(&self.method.to_le_bytes());
        head
    }
}

fn number(head: &[u8; REQUEST], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// Appends a request; if its arguments cannot be encoded, `out` is what it was.
pub(super) fn push_request<A: Encode + ?Sized>(
    out: &mut Payload,
    request: Request,
    arguments: &A,
) -> Result<()> {
    push(out, &request.head(), arguments)
}

/// Whether a reply is a value or an error.
const VALUE: u8 = 0;
const ERROR: u8 = 1;

/// Appends a reply that is a value; if it cannot be encoded, `out` is what it was.
pub(super) fn push_value<R: Encode + ?Sized>(out: &mut Payload, value: &R) -> Result<()> {
    push(out, &reply_head(VALUE), value)
}

/// Appends a reply that is an error.
pub(super) fn push_error(out: &mut Payload, error: &Error) {
    if push(out, &reply_head(ERROR), error).is_err() {
        let text = Error::Remote { message: "an error that cannot be encoded".into() };
        let _ = push(out, &reply_head(ERROR), &text);
    }
}

fn reply_head(status: u8) -> [u8; REPLY] {
    let mut head = [0; REPLY];
    head[0] = status;
    head
}

/// Reads the fixed part of a reply: whether it is a value, its descriptors, and the rest.
pub(super) fn parse_reply(frame: &[u8]) -> Result<(bool, u16, &[u8])> {
    let (head, rest) = frame
        .split_first_chunk::<REPLY>()
        .ok_or_else(|| Error::decode("a reply that is too short"))?;
    Ok((head[0] == VALUE, u16::from_le_bytes([head[2], head[3]]), rest))
}

/// Decodes what [`parse_reply`] gave.
pub(super) fn decode_reply<R: Decode>(is_value: bool, mut payload: Payload) -> Result<R> {
    let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
    decode_rest(is_value, &mut decoder)
}

/// As [`decode_reply`], from where it lies.
pub(super) fn decode_rest<R: Decode>(is_value: bool, decoder: &mut Decoder<'_>) -> Result<R> {
    if is_value { R::decode(decoder) } else { Err(<Error as Decode>::decode(decoder)?) }
}

/// Where in a frame the number of its descriptors is, whoever has sent it.
const FDS: usize = LENGTH + 2;

/// Appends a frame: its length, a head, which lacks the number of descriptors, and a value.
fn push<T: Encode + ?Sized>(out: &mut Payload, head: &[u8], value: &T) -> Result<()> {
    let (start, fds) = (out.bytes.len(), out.fds.len());
    out.bytes.extend_from_slice(&[0; LENGTH]);
    out.bytes.extend_from_slice(head);
    let pushed = out.push(value).and_then(|()| complete(out, start, fds));
    if pushed.is_err() {
        out.cut(start, fds);
    }
    pushed
}

/// Fills in the length of the frame that begins at `start`, and the number of its descriptors, those from
/// `fds` on.
fn complete(out: &mut Payload, start: usize, fds: usize) -> Result<()> {
    let frame = &mut out.bytes[start..];
    let len = i32::try_from(frame.len() - LENGTH)
        .map_err(|_| Error::MessageTooLong { len: frame.len() as u64, max: i32::MAX as u64 })?;
    let fds = u16::try_from(out.fds.len() - fds)
        .map_err(|_| Error::encode("more than 65,535 descriptors"))?;
    frame[..LENGTH].copy_from_slice(&len.to_be_bytes());
    frame[FDS..FDS + 2].copy_from_slice(&fds.to_le_bytes());
    Ok(())
}

/// The length that the frame at the front of `bytes` says it has, the length itself left out.
pub(super) fn frame_length(bytes: &[u8]) -> Option<Result<usize>> {
    let (length, _) = bytes.split_first_chunk::<LENGTH>()?;
    let length = i32::from_be_bytes(*length);
    Some(usize::try_from(length).map_err(|_| Error::decode(format!("a frame of {length} bytes"))))
}

/// How a client greets: with its session, which is made if there is none of that secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) secret: [u8; 16],
}

impl Greeting {
    /// The whole frame.
    pub(super) fn to_frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend_from_slice(&((MAGIC.len() + 4 + 16) as i32).to_be_bytes());
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(&VERSION.to_le_bytes());
        frame.extend_from_slice(&self.secret);
        frame
    }

    /// Reads a frame's body.
    pub(super) fn parse(body: &[u8]) -> Result<Greeting> {
        let rest = body.strip_prefix(&MAGIC).ok_or_else(|| Error::decode("no greeting"))?;
        let (version, secret) =
            rest.split_first_chunk::<4>().ok_or_else(|| Error::decode("no greeting"))?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            let reason = format!("version {version} of the manager's protocol, not {VERSION}");
            return Err(Error::decode(reason));
        }
        let secret = secret.try_into().map_err(|_| Error::decode("no greeting"))?;
        Ok(Greeting { secret })
    }
}

crate::message! {
    /// What a greeting is answered by.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Welcome {
        /// The server's own random number.
        pub(super) server: u64,
        /// The session's, which is no secret.
        pub(super) session: u64,
        /// The longest request.
        pub(super) max_message: u64,
    }
}

/// The number of a method: a hash of its name (FNV-1a).
pub const fn method_number(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let mut out = Payload::default();
        let request = Request {
            method: method_number("get"),
            no_reply: true,
            caught_up: true,
            ..Request::new(Kind::Call, 0x0102_0304_0506_0708)
        };
        push_request(&mut out, request, &7u8).unwrap();
        assert_eq!(frame_length(&out.bytes).unwrap().unwrap(), REQUEST + 1);
        let (read, rest) = Request::parse(&out.bytes[LENGTH..]).unwrap();
        assert_eq!((read, rest), (request, &[7][..]));
    }

    #[test]
    fn an_error_travels_and_a_short_or_unknown_frame_is_refused() {
        let mut out = Payload::default();
        push_error(&mut out, &Error::Full);
        let (is_value, fds, rest) = parse_reply(&out.bytes[LENGTH..]).unwrap();
        assert_eq!((is_value, fds), (false, 0));
        let payload = Payload { bytes: rest.to_vec(), fds: Vec::new() };
        assert!(matches!(decode_reply::<()>(is_value, payload), Err(Error::Full)));
        assert!(Request::parse(&[1; REQUEST - 1]).is_err());
        assert!(Request::parse(&[99; REQUEST]).is_err());
        assert!(parse_reply(&[0; 3]).is_err());
        assert!(frame_length(&[0x80, 0, 0, 0]).unwrap().is_err());
    }

    #[test]
    fn a_greeting_of_another_version_names_both() {
        let greeting = Greeting { secret: [9; 16] };
        let mut frame = greeting.to_frame();
        assert_eq!(Greeting::parse(&frame[LENGTH..]).unwrap(), greeting);
        frame[LENGTH + 8] = 200;
        let error = Greeting::parse(&frame[LENGTH..]).unwrap_err().to_string();
        assert!(error.contains("200") && error.contains("not 1"), "{error}");
    }
}
