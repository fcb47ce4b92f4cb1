//! The digests that the handshake needs: SHA-256, MD5 for old peers, and HMAC over either.

mod hmac;
mod md5;
mod sha256;

pub(super) use hmac::{equal, hmac};
pub(super) use md5::Md5;
pub(super) use sha256::Sha256;

use crate::sys::memory::wipe;

/// The bytes that both algorithms take at once.
const BLOCK: usize = 64;
/// Where in the last block the length of the message is.
const LENGTH: usize = BLOCK - 8;

/// What differs between the two; blocks and padding do not.
pub(super) trait Algorithm {
    /// The words that a message is boiled down to.
    type State: Copy + AsRef<[u32]> + AsMut<[u32]>;
    /// How many bytes these are.
    const LEN: usize;
    const START: Self::State;

    fn compress(state: &mut Self::State, block: &[u8; BLOCK]);
    fn length_bytes(bits: u64) -> [u8; 8];
    fn word_bytes(word: u32) -> [u8; 4];
}

/// A digest in the making.
pub(super) struct Digest<A: Algorithm> {
    state: A::State,
    block: [u8; BLOCK],
    /// How many bytes came so far; the last few, less than a block, are in `block`.
    len: u64,
}

impl<A: Algorithm> Digest<A> {
    pub(super) fn new() -> Digest<A> {
        Digest { state: A::START, block: [0; BLOCK], len: 0 }
    }

    /// The digest of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Vec<u8> {
        let mut digest = Digest::<A>::new();
        digest.update(bytes);
        digest.finish()
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let held = (self.len % BLOCK as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - held));
            self.block[held..held + now.len()].copy_from_slice(now);
            self.len += now.len() as u64;
            bytes = later;
            if held + now.len() == BLOCK {
                A::compress(&mut self.state, &self.block);
            }
        }
    }

    /// Pads the message with a one, zeros, and its length in bits, and gives the digest.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let bits = self.len.wrapping_mul(8);
        let held = (self.len % BLOCK as u64) as usize;
        self.block[held..].fill(0);
        self.block[held] = 0x80;
        if held >= LENGTH {
            A::compress(&mut self.state, &self.block);
            self.block.fill(0);
        }
        self.block[LENGTH..].copy_from_slice(&A::length_bytes(bits));
        A::compress(&mut self.state, &self.block);
        self.state.as_ref().iter().flat_map(|word| A::word_bytes(*word)).collect()
    }
}

/// Under HMAC the state stands for the key, and the block holds it.
impl<A: Algorithm> Drop for Digest<A> {
    fn drop(&mut self) {
        wipe(self.state.as_mut());
        wipe(&mut self.block);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_message_may_come_in_any_pieces() {
        let message: Vec<u8> = (0..=255).collect();
        // A few of them for Miri, which is slow.
        let stride = if cfg!(miri) { 4 } else { 1 };
        for len in [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 256].into_iter().step_by(stride) {
            for piece in [1, 7, 64, 100].into_iter().step_by(stride) {
                let (mut md5, mut sha256) = (Digest::<Md5>::new(), Digest::<Sha256>::new());
                message[..len].chunks(piece).for_each(|piece| md5.update(piece));
                message[..len].chunks(piece).for_each(|piece| sha256.update(piece));
                assert_eq!(md5.finish(), Digest::<Md5>::of(&message[..len]));
                assert_eq!(sha256.finish(), Digest::<Sha256>::of(&message[..len]));
            }
        }
    }
}
