//! Connections as messages.

use super::arrivals::{Arrivals, Batch};
use super::reader::Reader;
use super::stream::Stream;
use super::turn::Turn;
use super::writer::Writer;
use super::{Connection, Input};
use crate::sys::time::Deadline;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::os::fd::AsFd;
use std::sync::Arc;

// What the first byte of an encoded connection says.
/// A descriptor to receive from follows.
const READABLE: u8 = 1;
/// A descriptor to send to follows, or the one before is for that too.
const WRITABLE: u8 = 2;
/// There are two descriptors, one for each direction.
const TWO_FDS: u8 = 4;
/// What was received and not taken follows.
const UNREAD: u8 = 8;

impl Encode for Connection {
    /// Appends a copy of the connection, with what was received on it and not taken yet.
    ///
    /// It fails while another thread is receiving from the connection.
    fn encode(&self, encoder: &mut Encoder<'_>) {
        let input = self.input.as_ref().filter(|_| self.readable());
        let output = self.output.as_ref().filter(|_| self.writable());
        let reader = match input.map(|input| input.reader.take(Deadline::now())) {
            Some(None) => {
                return encoder
                    .fail(Error::encode("another thread is receiving from the connection"));
            }
            reader => reader.flatten(),
        };
        let unread = reader.as_ref().filter(|reader| reader.holds_anything());
        let mut flags = 0;
        flags |= if input.is_some() { READABLE } else { 0 };
        flags |= if output.is_some() { WRITABLE } else { 0 };
        flags |= if unread.is_some() { UNREAD } else { 0 };
        let two = matches!((input, output),
            (Some(input), Some(output)) if !Arc::ptr_eq(&input.stream, output.stream()));
        flags |= if two { TWO_FDS } else { 0 };
        encoder.bytes(&[flags]);
        match (input, output) {
            (Some(input), _) => encoder.fd(input.stream.as_fd()),
            (None, Some(output)) => encoder.fd(output.stream().as_fd()),
            (None, None) => encoder.fail(Error::Closed),
        }
        if let (true, Some(output)) = (two, output) {
            encoder.fd(output.stream().as_fd());
        }
        if let Some(reader) = unread {
            encode_unread(reader, encoder);
        }
    }
}

impl Decode for Connection {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Connection> {
        let [flags] = decoder.array()?;
        let first = Stream::identify(decoder.fd()?)?;
        let second = match flags & TWO_FDS {
            0 => None,
            _ => Some(Stream::identify(decoder.fd()?)?),
        };
        let reader = match flags & UNREAD {
            0 => Reader::default(),
            _ => decode_unread(decoder)?,
        };
        let input = |stream| Some(Box::new(Input { stream, reader: Turn::new(reader) }));
        let output = |stream| Some(Box::new(Writer::new(stream)));
        match (flags & !UNREAD, second) {
            (READABLE, None) => {
                let stream = Arc::new(first.receiving_only());
                Ok(Connection { input: input(stream), output: None })
            }
            (WRITABLE, None) => Ok(Connection { input: None, output: output(Arc::new(first)) }),
            (3, None) => {
                let stream = Arc::new(first);
                Ok(Connection { input: input(Arc::clone(&stream)), output: output(stream) })
            }
            (7, Some(second)) => {
                let stream = Arc::new(first.receiving_only());
                Ok(Connection { input: input(stream), output: output(Arc::new(second)) })
            }
            (flags, _) => Err(Error::decode(format!("a connection with flags {flags}"))),
        }
    }
}

/// The bytes, and each batch of descriptors with where in them it belongs.
fn encode_unread(reader: &Reader, encoder: &mut Encoder<'_>) {
    let (arrivals, start) = reader.unread_fds();
    let bytes = reader.unread();
    encoder.len(bytes.len());
    encoder.bytes(&bytes);
    encoder.len(arrivals.batches().len());
    for batch in arrivals.batches() {
        encoder.bytes(&batch.at.saturating_sub(start).to_le_bytes());
        encoder.bytes(&[u8::from(batch.lost)]);
        encoder.len(batch.fds.len());
        for fd in &batch.fds {
            encoder.fd(fd.as_fd());
        }
    }
}

fn decode_unread(decoder: &mut Decoder<'_>) -> Result<Reader> {
    let len = decoder.len()?;
    let bytes = decoder.bytes(len)?.to_vec();
    let mut arrivals = Arrivals::default();
    for _ in 0..decoder.len()? {
        let at = u64::from_le_bytes(decoder.array()?);
        let [lost] = decoder.array()?;
        let count = decoder.len()?;
        let fds = (0..count).map(|_| decoder.fd()).collect::<Result<_>>()?;
        arrivals.push(Batch { at, fds, lost: lost != 0 });
    }
    Ok(Reader::with(bytes, arrivals))
}
