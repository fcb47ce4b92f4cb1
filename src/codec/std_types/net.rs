//! Addresses of the Internet.

use crate::{Decode, Decoder, Encode, Encoder, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

macro_rules! as_octets {
    ($($address:ident)*) => {$(
        impl Encode for $address {
            fn encode(&self, encoder: &mut Encoder<'_>) {
                encoder.bytes(&self.octets());
            }
        }

        impl Decode for $address {
            fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
                Ok($address::from(decoder.array()?))
            }
        }
    )*};
}

as_octets! { Ipv4Addr Ipv6Addr }

impl Encode for SocketAddrV4 {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        (self.ip(), self.port()).encode(encoder);
    }
}

impl Decode for SocketAddrV4 {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let (ip, port) = Decode::decode(decoder)?;
        Ok(SocketAddrV4::new(ip, port))
    }
}

impl Encode for SocketAddrV6 {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        (self.ip(), self.port(), self.flowinfo(), self.scope_id()).encode(encoder);
    }
}

impl Decode for SocketAddrV6 {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let (ip, port, flow, scope) = Decode::decode(decoder)?;
        Ok(SocketAddrV6::new(ip, port, flow, scope))
    }
}

crate::__message! { @implement enum IpAddr [[] [] []] [] { V4(Ipv4Addr), V6(Ipv6Addr) } }
crate::__message! { @implement enum SocketAddr [[] [] []] [] { V4(SocketAddrV4), V6(SocketAddrV6) } }
