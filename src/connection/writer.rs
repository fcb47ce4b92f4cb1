//! The sending side: one message, whole, in as few system calls as the kernel allows.

use super::frame::{Header, LONG_HEADER, VALUE_HEAD, value_tail};
use super::stream::{Kind, Stream};
use super::turn::Turn;
use crate::codec::{Encode, Payload};
use crate::sys::{socket::MAX_FDS, time::Deadline};
use crate::{Error, Result};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// The largest memory kept for the next value.
const KEEP: usize = 2 << 20;

/// The state of the sending side.
#[derive(Debug)]
pub(super) struct Writer {
    stream: Arc<Stream>,
    /// Held while a message is written, so that no two mix.
    turn: Turn<()>,
    /// Memory for the next value. It is out while a value is encoded, which may take its time and
    /// may use this very connection.
    spare: Mutex<Vec<u8>>,
}

impl Writer {
    pub(super) fn new(stream: Arc<Stream>) -> Writer {
        Writer { stream, turn: Turn::new(()), spare: Mutex::default() }
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub(super) fn into_stream(self) -> Arc<Stream> {
        self.stream
    }

    /// Sends the bytes of `parts` as one message.
    pub(super) fn send_parts(&self, parts: &[IoSlice<'_>], deadline: Deadline) -> Result<()> {
        let len = parts.iter().map(|part| part.len()).sum();
        let mut place = [0; LONG_HEADER];
        let header = IoSlice::new(Header::of(len).write(&mut place));
        match parts {
            [part] => self.write(&mut [header, IoSlice::new(part)], &[], deadline),
            parts => {
                let mut all = Vec::with_capacity(parts.len() + 1);
                all.push(header);
                all.extend_from_slice(parts);
                self.write(&mut all, &[], deadline)
            }
        }
    }

    /// Sends a value, with its descriptors.
    pub(super) fn send_value<T>(&self, value: &T, deadline: Deadline) -> Result<()>
    where
        T: Encode + ?Sized,
    {
        let bytes = std::mem::take(&mut *self.spare());
        let mut payload = Payload { bytes, fds: Vec::new() };
        let sent = self.send_payload(value, &mut payload, deadline);
        if payload.bytes.capacity() <= KEEP {
            *self.spare() = payload.bytes;
        }
        sent
    }

    /// The header, the head, the encoding and the tail are made in one piece of memory.
    fn send_payload<T>(&self, value: &T, payload: &mut Payload, deadline: Deadline) -> Result<()>
    where
        T: Encode + ?Sized,
    {
        payload.bytes.clear();
        payload.bytes.resize(LONG_HEADER + VALUE_HEAD, 0);
        payload.push(value)?;
        let count = u32::try_from(payload.fds.len())
            .map_err(|_| Error::encode("more descriptors than a message can count"))?;
        payload.bytes.resize(payload.bytes.len() + value_tail(payload.fds.len()), 0);
        let (place, message) = payload.bytes.split_at_mut(LONG_HEADER);
        message[..VALUE_HEAD].copy_from_slice(&count.to_le_bytes());
        let header = Header::of(message.len());
        if let Some(place) = place.first_chunk_mut() {
            header.write(place);
        }
        let fds: Vec<BorrowedFd<'_>> = payload.fds.iter().map(AsFd::as_fd).collect();
        let bytes = &payload.bytes[LONG_HEADER - header.size..];
        self.write(&mut [IoSlice::new(bytes)], &fds, deadline)
    }

    /// Sends one byte, without a header, and a descriptor with it.
    pub(super) fn send_fd(&self, byte: u8, fd: BorrowedFd<'_>, deadline: Deadline) -> Result<()> {
        self.write(&mut [IoSlice::new(&[byte])], &[fd], deadline)
    }

    /// Writes all of `parts`, and the descriptors with its first bytes.
    ///
    /// Until the first byte is out, a failure leaves the stream as it was. After it, the stream ends
    /// there: the peer must not take what would come next for the rest of this message.
    fn write(
        &self,
        parts: &mut [IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<()> {
        if !fds.is_empty() && self.stream.kind() != Kind::Unix {
            return Err(Error::invalid("only a Unix socket carries descriptors"));
        }
        let Some(_turn) = self.turn.take(deadline) else {
            return Err(Error::TimeoutError);
        };
        if self.stream.output_is_lost() {
            return Err(Error::Closed);
        }
        let len = parts.iter().map(|part| part.len()).sum();
        if deadline.has_passed() && !self.stream.has_room_for(len) {
            return Err(Error::TimeoutError);
        }
        let mut begun = false;
        let written = self.write_rest(parts, fds, &mut begun, deadline);
        if written.is_err() && begun {
            self.stream.lose_output();
        }
        written
    }

    fn write_rest(
        &self,
        mut parts: &mut [IoSlice<'_>],
        mut fds: &[BorrowedFd<'_>],
        begun: &mut bool,
        deadline: Deadline,
    ) -> Result<()> {
        // All calls but the last with descriptors carry one byte each, the least the kernel wants.
        while let Some((some, rest)) = fds.split_at_checked(MAX_FDS).filter(|(_, r)| !r.is_empty())
        {
            let byte = parts.first().map_or(&[][..], |part| &part[..1]);
            self.stream.write(&[IoSlice::new(byte)], some, deadline)?;
            *begun = true;
            IoSlice::advance_slices(&mut parts, 1);
            fds = rest;
        }
        while !parts.is_empty() {
            let written = self.stream.write(parts, fds, deadline)?;
            *begun = true;
            fds = &[];
            IoSlice::advance_slices(&mut parts, written);
        }
        Ok(())
    }

    /// No code of a caller runs under this mutex, so a poisoned one is as good as a clean one.
    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
