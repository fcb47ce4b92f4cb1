//! HMAC (RFC 2104), and the comparison of what it gives.

use super::{Algorithm, BLOCK, Digest};
use crate::sys::memory::wipe;

/// The message authentication code of `message` under `key`, of any length.
pub(in crate::connection) fn hmac<A: Algorithm>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        let mut digest = Digest::<A>::of(key);
        block[..A::LEN].copy_from_slice(&digest);
        wipe(&mut digest);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = keyed::<A>(&mut block, 0x36, message);
    // Takes the first mask off with the second one.
    let code = keyed::<A>(&mut block, 0x36 ^ 0x5c, &inner);
    wipe(&mut block);
    code
}

/// The digest of the masked key and `message`; leaves the mask on.
fn keyed<A: Algorithm>(block: &mut [u8; BLOCK], mask: u8, message: &[u8]) -> Vec<u8> {
    block.iter_mut().for_each(|byte| *byte ^= mask);
    let mut digest = Digest::<A>::new();
    digest.update(block);
    digest.update(message);
    digest.finish()
}

/// Whether two codes are equal, in a time that does not tell where they differ.
pub(in crate::connection) fn equal(a: &[u8], b: &[u8]) -> bool {
    // Every byte is looked at, and what was found so far is hidden from the optimiser at each step.
    let differs = a.iter().zip(b).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
    a.len() == b.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::super::tests::hex;
    use super::super::{Md5, Sha256};
    use super::*;

    /// The cases of RFC 4231 (SHA-256) and RFC 2202 (MD5) that take a key of each kind: short, and longer
    /// than a block.
    #[test]
    fn hmac_gives_the_published_codes() {
        let (what, long_key) = (&b"what do ya want for nothing?"[..], [0xaa; 131]);
        let longer = &b"Test Using Larger Than Block-Size Key - Hash Key First"[..];
        for (key, message, code) in [
            (
                &[0x0b; 20][..],
                &b"Hi There"[..],
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (b"Jefe", what, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (&long_key, longer, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
        ] {
            assert_eq!(hex(&hmac::<Sha256>(key, message)), code);
        }
        for (key, message, code) in [
            (&[0x0b; 16][..], &b"Hi There"[..], "9294727a3638bb1c13f48ef8158bfc9d"),
            (b"Jefe", what, "750c783e6ab0b503eaa86e310a5db738"),
            (&[0xaa; 80], longer, "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"),
        ] {
            assert_eq!(hex(&hmac::<Md5>(key, message)), code);
        }
    }

    #[test]
    fn an_empty_key_makes_a_code_too() {
        let code = "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad";
        assert_eq!(hex(&hmac::<Sha256>(b"", b"")), code);
    }

    #[test]
    fn codes_are_equal_only_if_every_byte_is() {
        assert!(equal(b"", b"") && equal(b"ab", b"ab"));
        assert!(!equal(b"ab", b"aB") && !equal(b"ab", b"a") && !equal(b"a", b"ab"));
    }
}
