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

owners! { OwnedFd File TcpStream TcpListener UdpSocket UnixStream UnixListener UnixDatagram }
