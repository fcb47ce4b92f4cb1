//! Integers of any size, as far as values need them: no arithmetic.

use super::Object;
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::fmt;
use std::str::FromStr;

/// An integer of any size.
///
/// It converts from and to the integers of the language and decimal text. To print or to parse one takes
/// time that grows with the square of its length.
///
/// # Examples
/// ```
/// use multiproc::object::BigInt;
///
/// let googol: BigInt = format!("1{}", "0".repeat(100)).parse()?;
/// assert_eq!(googol.to_string().len(), 101);
/// assert!(u128::try_from(&googol).is_err());
/// assert_eq!(i64::try_from(&BigInt::from(-5i64)), Ok(-5));
/// # Ok::<(), multiproc::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BigInt {
    /// False for zero.
    negative: bool,
    /// The absolute value, lowest digit first, without leading zeros.
    magnitude: Vec<u32>,
}

impl BigInt {
    fn new(negative: bool, mut magnitude: Vec<u32>) -> BigInt {
        while magnitude.last() == Some(&0) {
            magnitude.pop();
        }
        BigInt { negative: negative && !magnitude.is_empty(), magnitude }
    }

    fn from_magnitude(negative: bool, magnitude: u128) -> BigInt {
        BigInt::new(negative, (0..4).map(|digit| (magnitude >> (32 * digit)) as u32).collect())
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// How many bits its absolute value takes: Python's `bit_length()`.
    pub fn bit_length(&self) -> u64 {
        self.magnitude.last().map_or(0, |top| {
            self.magnitude.len() as u64 * u64::from(u32::BITS) - u64::from(top.leading_zeros())
        })
    }

    /// Makes the integer that `bytes` are in two's complement, lowest byte first; no bytes are zero.
    ///
    /// # Examples
    /// ```
    /// use multiproc::object::BigInt;
    ///
    /// assert_eq!(BigInt::from_signed_le_bytes(&[0x00, 0xff]), BigInt::from(-256));
    /// assert_eq!(BigInt::from_signed_le_bytes(&[0xff, 0x00]), BigInt::from(255));
    /// ```
    #[doc(alias = "from_bytes")]
    pub fn from_signed_le_bytes(bytes: &[u8]) -> BigInt {
        let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
        let fill = if negative { 0xff } else { 0 };
        let mut magnitude: Vec<u32> = bytes
            .chunks(4)
            .map(|chunk| {
                let mut digit = [fill; 4];
                digit[..chunk.len()].copy_from_slice(chunk);
                u32::from_le_bytes(digit)
            })
            .collect();
        if negative {
            negate(&mut magnitude);
        }
        BigInt::new(negative, magnitude)
    }

    /// Gives the fewest bytes that are the integer in two's complement, lowest byte first; zero has none.
    ///
    /// # Examples
    /// ```
    /// use multiproc::object::BigInt;
    ///
    /// assert_eq!(BigInt::from(255).to_signed_le_bytes(), [0xff, 0x00]);
    /// assert_eq!(BigInt::from(-128).to_signed_le_bytes(), [0x80]);
    /// ```
    #[doc(alias = "to_bytes")]
    pub fn to_signed_le_bytes(&self) -> Vec<u8> {
        // One digit more, so that the sign has a place.
        let mut digits = self.magnitude.clone();
        digits.push(0);
        if self.negative {
            negate(&mut digits);
        }
        let mut bytes: Vec<u8> = digits.iter().flat_map(|digit| digit.to_le_bytes()).collect();
        let fill = if self.negative { 0xff } else { 0 };
        while let Some((&top, rest)) = bytes.split_last() {
            let sign_is_kept = rest.last().map_or(0, |next| next & 0x80) == fill & 0x80;
            if top != fill || !sign_is_kept {
                break;
            }
            bytes.pop();
        }
        bytes
    }

    fn magnitude_u128(&self) -> Option<u128> {
        if self.magnitude.len() > 4 {
            return None;
        }
        Some(self.magnitude.iter().rev().fold(0, |value, digit| (value << 32) | u128::from(*digit)))
    }
}

/// What a conversion to an integer of the language gives for one that does not fit.
///
/// # Examples
/// ```
/// use multiproc::object::{BigInt, OutOfRange};
///
/// assert_eq!(u8::try_from(&BigInt::from(-1)), Err(OutOfRange));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("integer is out of range")
    }
}

impl std::error::Error for OutOfRange {}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl From<$integer> for BigInt {
            #[allow(unused_comparisons)]
            fn from(value: $integer) -> BigInt {
                // The absolute value in two's complement: right for the lowest value as well.
                let magnitude = if value < 0 { (value as u128).wrapping_neg() } else { value as u128 };
                BigInt::from_magnitude(value < 0, magnitude)
            }
        }

        impl TryFrom<&BigInt> for $integer {
            type Error = OutOfRange;

            #[allow(irrefutable_let_patterns)]
            fn try_from(value: &BigInt) -> Result<$integer, OutOfRange> {
                let magnitude = value.magnitude_u128().ok_or(OutOfRange)?;
                if !value.negative {
                    return magnitude.try_into().map_err(|_| OutOfRange);
                }
                0i128
                    .checked_sub_unsigned(magnitude)
                    .and_then(|value| value.try_into().ok())
                    .ok_or(OutOfRange)
            }
        }
    )*};
}

integers! { i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize }

/// [`Int`](Object::Int) where it fits.
impl From<BigInt> for Object {
    fn from(value: BigInt) -> Object {
        i64::try_from(&value).map_or(Object::BigInt(value), Object::Int)
    }
}

/// Nine decimal digits are the most that a digit of the magnitude holds.
const CHUNK: u32 = 1_000_000_000;
const CHUNK_DIGITS: usize = 9;

impl fmt::Display for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.magnitude.clone();
        let mut chunks = Vec::new();
        while !rest.is_empty() {
            chunks.push(divide(&mut rest));
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            text.push_str(&format!("{chunk:09}"));
        }
        f.pad_integral(!self.negative, "", &text)
    }
}

/// Changes the sign of digits in two's complement.
fn negate(digits: &mut [u32]) {
    let mut carry = true;
    for digit in digits {
        (*digit, carry) = (!*digit).overflowing_add(u32::from(carry));
    }
}

/// Divides `magnitude` by `CHUNK` and gives the remainder.
fn divide(magnitude: &mut Vec<u32>) -> u32 {
    let mut remainder = 0;
    for digit in magnitude.iter_mut().rev() {
        let value = (remainder << 32) | u64::from(*digit);
        *digit = (value / u64::from(CHUNK)) as u32;
        remainder = value % u64::from(CHUNK);
    }
    while magnitude.last() == Some(&0) {
        magnitude.pop();
    }
    remainder as u32
}

/// Multiplies `magnitude` by `factor` and adds `carry`.
fn multiply_add(magnitude: &mut Vec<u32>, factor: u32, carry: u32) {
    let mut carry = u64::from(carry);
    for digit in magnitude.iter_mut() {
        let value = u64::from(*digit) * u64::from(factor) + carry;
        *digit = value as u32;
        carry = value >> 32;
    }
    if carry > 0 {
        magnitude.push(carry as u32);
    }
}

impl FromStr for BigInt {
    type Err = Error;

    fn from_str(text: &str) -> Result<BigInt> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::invalid(format!("{text:?} is no integer")));
        }
        let mut magnitude = Vec::new();
        for chunk in digits.as_bytes().chunks(CHUNK_DIGITS) {
            let value = chunk.iter().fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
            multiply_add(&mut magnitude, 10u32.pow(chunk.len() as u32), value);
        }
        Ok(BigInt::new(negative, magnitude))
    }
}

impl Encode for BigInt {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        (self.negative, &self.magnitude).encode(encoder);
    }
}

impl Decode for BigInt {
    fn decode(decoder: &mut Decoder<'_>) -> Result<BigInt> {
        let (negative, magnitude) = Decode::decode(decoder)?;
        Ok(BigInt::new(negative, magnitude))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_every_integer_type_are_kept() {
        for value in [i128::MIN, i64::MIN.into(), -1, 0, 1, u64::MAX.into(), i128::MAX] {
            assert_eq!(i128::try_from(&BigInt::from(value)), Ok(value));
            assert_eq!(BigInt::from(value).to_string(), value.to_string());
        }
        assert_eq!(u128::try_from(&BigInt::from(u128::MAX)), Ok(u128::MAX));
        assert_eq!(i64::try_from(&BigInt::from(i64::MIN)), Ok(i64::MIN));
    }

    #[test]
    fn a_value_that_does_not_fit_is_out_of_range() {
        assert_eq!(u8::try_from(&BigInt::from(256)), Err(OutOfRange));
        assert_eq!(u8::try_from(&BigInt::from(-1)), Err(OutOfRange));
        assert_eq!(i64::try_from(&BigInt::from(u64::MAX)), Err(OutOfRange));
        assert_eq!(i128::try_from(&BigInt::from(u128::MAX)), Err(OutOfRange));
    }

    #[test]
    fn text_makes_the_number_that_prints_as_it() {
        for text in ["0", "-1", "1000000000", "340282366920938463463374607431768211456"] {
            assert_eq!(text.parse::<BigInt>().unwrap().to_string(), text);
        }
        assert_eq!("-0".parse::<BigInt>().unwrap(), BigInt::default());
        assert_eq!("+007".parse::<BigInt>().unwrap(), BigInt::from(7));
        for text in ["", "-", "1_000", "x", "--1", "1 "] {
            assert!(text.parse::<BigInt>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn bits_are_counted_as_python_counts_them() {
        for (value, bits) in [(0i64, 0), (1, 1), (-255, 8), (256, 9), (1 << 32, 33)] {
            assert_eq!(BigInt::from(value).bit_length(), bits, "{value}");
        }
    }

    #[test]
    fn bytes_in_twos_complement_make_the_number_again_and_are_the_fewest() {
        let ends = [1i128 << 100, i128::MAX, i128::MIN];
        let stride = if cfg!(miri) { 7_007 } else { 7 };
        for value in (-70_000..70_000i128).step_by(stride).chain((-300..300).chain(ends)) {
            let bytes = BigInt::from(value).to_signed_le_bytes();
            assert_eq!(BigInt::from_signed_le_bytes(&bytes), BigInt::from(value));
            let bits = 128 - if value < 0 { value.leading_ones() } else { value.leading_zeros() };
            let fewest = if value == 0 { 0 } else { bits as usize / 8 + 1 };
            assert_eq!(bytes.len(), fewest, "{value}: {bytes:?}");
        }
    }
}
