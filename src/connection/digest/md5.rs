//! MD5 (RFC 1321): for peers that know nothing better, and no protection by itself.

use super::{Algorithm, BLOCK};

#[derive(Debug)]
pub(in crate::connection) struct Md5;

/// The fractions of the sines of 1 to 64.
const SINES: [u32; 64] = [
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
];

/// How far each round turns, four values in turns for each 16 rounds.
const TURNS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

impl Algorithm for Md5 {
    type State = [u32; 4];
    const LEN: usize = 16;
    const START: [u32; 4] = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];

    fn compress(state: &mut [u32; 4], block: &[u8; BLOCK]) {
        let word = |i: usize| {
            let bytes = &block[4 * i..4 * i + 4];
            bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
        };
        let [mut a, mut b, mut c, mut d] = *state;
        for (i, sine) in SINES.into_iter().enumerate() {
            let (mixed, place) = match i / 16 {
                0 => ((b & c) | (!b & d), i),
                1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
                2 => (b ^ c ^ d, (3 * i + 5) % 16),
                _ => (c ^ (b | !d), (7 * i) % 16),
            };
            let sum = a.wrapping_add(mixed).wrapping_add(sine).wrapping_add(word(place));
            let turned = sum.rotate_left(TURNS[i / 16][i % 4]);
            (a, d, c, b) = (d, c, b, b.wrapping_add(turned));
        }
        for (word, new) in state.iter_mut().zip([a, b, c, d]) {
            *word = word.wrapping_add(new);
        }
    }

    fn length_bytes(bits: u64) -> [u8; 8] {
        bits.to_le_bytes()
    }

    fn word_bytes(word: u32) -> [u8; 4] {
        word.to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::hex;
    use super::super::{Digest, Md5};

    #[test]
    fn md5_gives_the_published_digests() {
        let digits = "1234567890".repeat(8);
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        for (message, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (letters, "d174ab98d277d9f5a5611c2c9f419d9f"),
            (&digits, "57edf4a22be3c955ac49da2e2107b67a"),
        ] {
            assert_eq!(hex(&Digest::<Md5>::of(message.as_bytes())), digest);
        }
    }
}
