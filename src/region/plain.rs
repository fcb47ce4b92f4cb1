//! Types that are nothing but their bytes.

/// A type of which every bit pattern is a value: it may be read from memory that anybody wrote.
///
/// # Safety
/// * Every pattern of its bytes is a valid value.
/// * It has no padding, no references and no interior mutability.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain_numbers {
    ($($number:ty)*) => {$(
        // SAFETY: a number is its bytes, and every pattern of them is one.
        unsafe impl Plain for $number {}
    )*};
}

plain_numbers! { i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64 }

// SAFETY: an array is its items one after the other, without anything between them.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}
