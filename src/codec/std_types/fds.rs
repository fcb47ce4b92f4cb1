//! Descriptors, and the types of std that own one.
//!
//! The message carries a copy, close-on-exec on both sides, of the same open file: position, flags and
//! locks of the file are shared with the sender's. A type is not checked against the descriptor that
//! arrives: one of another kind gives errors in use.

use crate::{Decode, Decoder, Encode, Encoder, Result};
use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

impl Encode for BorrowedFd<'_> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.fd(*self);
    }
}

macro_rules! owners {
    ($($owner:ident)*) => {$(
        impl Encode for $owner {
            fn encode(&self, encoder: &mut Encoder<'_>) {
                encoder.fd(self.as_fd());
            }
        }

        impl Decode for $owner {
            fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
                decoder.fd().map($owner::from)
            }
        }
    )*};
}

owners! {
    OwnedFd File TcpStream TcpListener UdpSocket UnixStream UnixListener UnixDatagram
    ChildStdin ChildStdout ChildStderr
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Payload;
    use crate::{from_bytes, to_bytes};
    use std::io::{Read, Seek, Write};

    /// What `value` is after a journey.
    fn sent<T: Encode, U: Decode>(value: &T) -> U {
        let mut payload = Payload::of(value).unwrap();
        let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
        let arrived = U::decode(&mut decoder).unwrap();
        decoder.finish().unwrap();
        arrived
    }

    #[test]
    fn a_file_arrives_as_the_same_open_file() {
        let mut file = File::from(crate::sys::memory::memfd(c"codec-test").unwrap());
        file.write_all(b"hello").unwrap();
        let mut copy: File = sent(&file);
        file.rewind().unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn descriptors_keep_their_order_among_other_values() {
        let (mut left, right) = UnixStream::pair().unwrap();
        let (mut other, another) = UnixStream::pair().unwrap();
        let (mut first, text, rest): (UnixStream, String, Vec<Option<UnixStream>>) =
            sent(&(&right, "between", vec![None, Some(&another)]));
        left.write_all(b"1").unwrap();
        other.write_all(b"2").unwrap();
        let mut byte = [0];
        first.read_exact(&mut byte).unwrap();
        assert_eq!((byte, text.as_str()), (*b"1", "between"));
        rest[1].as_ref().unwrap().read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"2");
        assert!(rest[0].is_none());
    }

    #[test]
    fn every_socket_type_travels() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        assert_eq!(sent::<_, TcpListener>(&listener).local_addr().unwrap(), address);
        assert_eq!(sent::<_, TcpStream>(&stream).peer_addr().unwrap(), address);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let bound = udp.local_addr().unwrap();
        assert_eq!(sent::<_, UdpSocket>(&udp).local_addr().unwrap(), bound);
        let datagram = UnixDatagram::unbound().unwrap();
        assert!(sent::<_, UnixDatagram>(&datagram).local_addr().unwrap().is_unnamed());
    }

    #[test]
    fn bytes_alone_neither_hold_nor_give_descriptors() {
        let (left, _right) = UnixStream::pair().unwrap();
        assert!(matches!(to_bytes(&left), Err(crate::Error::Encode { .. })));
        assert!(matches!(from_bytes::<OwnedFd>(&[]), Err(crate::Error::Decode { .. })));
    }

    #[test]
    fn a_descriptor_too_many_is_refused() {
        let (left, right) = UnixStream::pair().unwrap();
        let mut payload = Payload::of(&(left, right)).unwrap();
        let mut decoder = Decoder::new(&payload.bytes, &mut payload.fds);
        OwnedFd::decode(&mut decoder).unwrap();
        assert!(decoder.finish().is_err());
    }

    #[test]
    fn a_value_that_fails_leaves_nothing_in_the_payload() {
        struct Unwilling(UnixStream);
        impl Encode for Unwilling {
            fn encode(&self, encoder: &mut Encoder<'_>) {
                (1u8, &self.0).encode(encoder);
                encoder.fail(crate::Error::encode("not today"));
            }
        }
        let mut payload = Payload::of(&7u8).unwrap();
        let error = payload.push(&Unwilling(UnixStream::pair().unwrap().0)).unwrap_err();
        assert_eq!(error.to_string(), crate::Error::encode("not today").to_string());
        assert_eq!((payload.bytes, payload.fds.len()), (vec![7], 0));
    }
}
