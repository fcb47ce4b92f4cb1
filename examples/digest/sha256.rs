//! SHA-256 (FIPS 180-4), with the processor's own instructions where it has them.

/// The state before the first block: the fractions of the square roots of the first eight primes.
const START: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/// The rounds' constants: the fractions of the cube roots of the first 64 primes.
#[rustfmt::skip]
const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// The bytes of a block.
const BLOCK: usize = 64;

/// What mixes whole blocks into a state.
type Compress = fn(&mut [u32; 8], &[u8]);

/// The digest of bytes that come piece by piece.
pub(crate) struct Sha256 {
    state: [u32; 8],
    /// The begun block; the first `len % BLOCK` bytes are taken.
    block: [u8; BLOCK],
    /// Bytes so far.
    len: u64,
    compress: Compress,
}

impl Sha256 {
    /// With the fastest way this processor has.
    pub(crate) fn new() -> Sha256 {
        Sha256::with(fastest())
    }

    /// With plain arithmetic.
    #[allow(dead_code)] // for comparison in the tests
    pub(crate) fn portable() -> Sha256 {
        Sha256::with(compress)
    }

    fn with(compress: Compress) -> Sha256 {
        Sha256 { state: START, block: [0; BLOCK], len: 0, compress }
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        let taken = (self.len % BLOCK as u64) as usize;
        self.len += bytes.len() as u64;
        if taken > 0 {
            let more = bytes.len().min(BLOCK - taken);
            self.block[taken..taken + more].copy_from_slice(&bytes[..more]);
            bytes = &bytes[more..];
            if taken + more < BLOCK {
                return;
            }
            (self.compress)(&mut self.state, &self.block);
        }
        let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK);
        (self.compress)(&mut self.state, whole);
        self.block[..rest.len()].copy_from_slice(rest);
    }

    /// The digest of all bytes, in hexadecimal.
    pub(crate) fn finish(mut self) -> String {
        let bits = self.len * 8;
        // A one bit, then zeros until the length fills the last block.
        let taken = (self.len % BLOCK as u64) as usize;
        let zeros = (BLOCK + 55 - taken) % BLOCK;
        let mut padding = vec![0x80];
        padding.resize(1 + zeros, 0);
        padding.extend(bits.to_be_bytes());
        self.update(&padding);
        self.state.iter().map(|word| format!("{word:08x}")).collect()
    }
}

fn compress(state: &mut [u32; 8], blocks: &[u8]) {
    for block in blocks.chunks_exact(BLOCK) {
        let mut w = [0u32; 64];
        for (word, bytes) in w.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for i in 16..64 {
            let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ (w[i - 15] >> 3);
            let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ (w[i - 2] >> 10);
            w[i] = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        for (&w, &k) in w.iter().zip(&K) {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(k).wrapping_add(w);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
        }
        for (word, new) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *word = word.wrapping_add(new);
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn fastest() -> Compress {
    compress
}

#[cfg(target_arch = "x86_64")]
fn fastest() -> Compress {
    x86::compress().unwrap_or(compress)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use super::{BLOCK, Compress, K};
    use std::arch::x86_64::*;

    /// The processor's own rounds, if it has them.
    pub(super) fn compress() -> Option<Compress> {
        let all = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1");
        all.then_some(|state, blocks| {
            // SAFETY: this closure exists only where the three features were found above.
            unsafe { rounds(state, blocks) }
        })
    }

    /// # Safety
    /// * The processor has the features that the function is compiled with.
    // The instructions used here touch no memory: older compilers call them unsafe all the same,
    // newer ones do not where the features are on.
    #[allow(unsafe_op_in_unsafe_fn)]
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    unsafe fn rounds(state: &mut [u32; 8], blocks: &[u8]) {
        // The instructions want the state as two vectors, the first named word in the highest place.
        let [a, b, c, d, e, f, g, h] = state.map(|word| word as i32);
        let mut abef = _mm_set_epi32(a, b, e, f);
        let mut cdgh = _mm_set_epi32(c, d, g, h);
        let big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
        for block in blocks.chunks_exact(BLOCK) {
            let half = |at: usize| {
                let bytes = block[at..at + 8].try_into().unwrap_or_default();
                i64::from_le_bytes(bytes)
            };
            let mut w = [_mm_setzero_si128(); 4];
            for (i, w) in w.iter_mut().enumerate() {
                let words = _mm_set_epi64x(half(16 * i + 8), half(16 * i));
                *w = _mm_shuffle_epi8(words, big_endian);
            }
            let before = (abef, cdgh);
            for k in K.map(|k| k as i32).chunks_exact(4) {
                let wk = _mm_add_epi32(w[0], _mm_set_epi32(k[3], k[2], k[1], k[0]));
                cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
                abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32::<0x0e>(wk));
                // The schedule runs four words on; what it gives in the last rounds nobody reads.
                let sum = _mm_add_epi32(
                    _mm_sha256msg1_epu32(w[0], w[1]),
                    _mm_alignr_epi8::<4>(w[3], w[2]),
                );
                w = [w[1], w[2], w[3], _mm_sha256msg2_epu32(sum, w[3])];
            }
            abef = _mm_add_epi32(abef, before.0);
            cdgh = _mm_add_epi32(cdgh, before.1);
        }
        *state = [
            _mm_extract_epi32::<3>(abef),
            _mm_extract_epi32::<2>(abef),
            _mm_extract_epi32::<3>(cdgh),
            _mm_extract_epi32::<2>(cdgh),
            _mm_extract_epi32::<1>(abef),
            _mm_extract_epi32::<0>(abef),
            _mm_extract_epi32::<1>(cdgh),
            _mm_extract_epi32::<0>(cdgh),
        ]
        .map(|word| word as u32);
    }
}
