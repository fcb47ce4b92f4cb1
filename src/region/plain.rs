//! Types that are nothing but their bytes.

use crate::codec::{Decode, Encode};
use std::num::Wrapping;
use std::{mem, ptr, slice};

/// A type of which every bit pattern is a value, and whose bytes are all part of it.
///
/// Such a value can be copied from and to any bytes, wherever they come from: it lives in shared
/// memory, and slices of it are messages in one copy. The integers, the floats and arrays of plain
/// types are plain; [`plain!`](crate::plain) declares structs of them and checks at compile time what
/// it can.
///
/// # Safety
/// * Every bit pattern of the type's size is a valid value: no `bool`, `char`, enum, reference or
///   `NonZero` anywhere in it.
/// * It has no padding: each byte belongs to a field.
/// * It has no pointers, and nothing in it changes through a shared reference.
///
/// # Examples
/// ```
/// use multiproc::Plain;
///
/// #[derive(Clone, Copy)]
/// #[repr(transparent)]
/// struct Metres(f64);
///
/// // SAFETY: one `f64`, which is plain, and nothing else.
/// unsafe impl Plain for Metres {}
/// ```
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

macro_rules! plain_numbers {
    ($($number:ty)*) => {$(
        // SAFETY: a number of the language: every bit pattern is a value, and there is no padding.
        unsafe impl Plain for $number {}
    )*};
}

plain_numbers! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }

// SAFETY: an array is its items one after the other, with nothing between or behind them.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

// SAFETY: `Wrapping` is `repr(transparent)`.
unsafe impl<T: Plain> Plain for Wrapping<T> {}

/// The bytes of `items`.
pub(crate) fn as_bytes<T: Plain>(items: &[T]) -> &[u8] {
    // SAFETY: the items' own memory, borrowed as they are; `Plain` has no padding, so each byte is
    // initialised, and nothing in it changes through a shared reference.
    unsafe { slice::from_raw_parts(items.as_ptr().cast(), mem::size_of_val(items)) }
}

/// The value whose bytes these are, or nothing if they are not exactly as many.
pub(crate) fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: `bytes` holds as many initialised bytes as a `T` has (checked first), the read asks for
    // no alignment, and every bit pattern is a `T`.
    (bytes.len() == size_of::<T>()).then(|| unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
}

/// The values whose bytes these are, in one copy. Bytes that make no whole value are left out.
///
/// # Panics
/// If `T` has no bytes, since no number of values can then be told.
pub(crate) fn vec_from_bytes<T: Plain>(bytes: &[u8]) -> Vec<T> {
    let len = bytes.len() / size_of::<T>();
    let mut items = Vec::<T>::with_capacity(len);
    // SAFETY: `bytes` is at least, and the new allocation exactly or more than, `len` values long;
    // being new, it overlaps nothing.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), items.as_mut_ptr().cast(), len * size_of::<T>());
    }
    // SAFETY: the copy has initialised `len` values: any bytes are values of a `Plain` type.
    unsafe { items.set_len(len) };
    items
}

/// What [`plain!`](crate::plain) demands of each field.
#[doc(hidden)]
pub const fn size_of_plain<T: Plain>() -> usize {
    size_of::<T>()
}

/// What [`plain!`](crate::plain) gives: a type that is a message and may live in shared memory.
#[doc(hidden)]
pub const fn assert_plain_message<T: Plain + Encode + Decode>() {}

/// Declares `repr(C)` structs that are [`Plain`], and are messages copied as they lie in memory.
///
/// It does not compile if a field's type is not [`Plain`] or if there is padding between or behind
/// the fields; a field such as `unused: [u8; 3]` takes its place. `Clone` and `Copy` are derived,
/// further derives can be asked for. Processes that exchange the struct must agree about the byte order
/// (and about the size of `usize`, if it is used), as those of one machine do.
///
/// # Examples
/// ```
/// multiproc::plain! {
///     /// A point, and its weight.
///     #[derive(Debug, PartialEq)]
///     pub struct Mass {
///         pub place: [f64; 3],
///         pub grams: u32,
///         pub flags: u32,
///     }
///
///     struct Id(u64);
/// }
///
/// let masses = vec![Mass { place: [0.0, 1.5, -2.0], grams: 20, flags: 0 }; 1000];
/// let bytes = multiproc::to_bytes(&masses)?; // one copy
/// assert_eq!(multiproc::from_bytes::<Vec<Mass>>(&bytes)?, masses);
/// # let _ = Id(1);
/// # Ok::<(), multiproc::Error>(())
/// ```
///
/// Padding is refused:
/// ```compile_fail
/// multiproc::plain! {
///     struct Padded {
///         small: u8,
///         large: u32,
///     }
/// }
/// ```
///
/// So is a field that not every bit pattern fits:
/// ```compile_fail
/// multiproc::plain! {
///     struct Flag {
///         set: bool,
///     }
/// }
/// ```
#[macro_export]
macro_rules! plain {
    () => {};
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty ),* $(,)?
        }
        $($rest:tt)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        $vis struct $name {
            $( $(#[$field_meta])* $field_vis $field: $type, )*
        }

        $crate::__plain! { $name [$($type)*] }
        $crate::plain! { $($rest)* }
    };
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident (
            $( $(#[$field_meta:meta])* $field_vis:vis $type:ty ),* $(,)?
        );
        $($rest:tt)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        $vis struct $name( $( $(#[$field_meta])* $field_vis $type, )* );

        $crate::__plain! { $name [$($type)*] }
        $crate::plain! { $($rest)* }
    };
}

/// The checks and the traits of one struct.
#[doc(hidden)]
#[macro_export]
macro_rules! __plain {
    ($name:ident [$($type:ty)*]) => {
        const _: () = assert!(
            ::core::mem::size_of::<$name>() == 0 $( + $crate::__private::size_of_plain::<$type>() )*,
            "a plain struct has no padding: give the gap a field of its own",
        );

        #[allow(unsafe_code)]
        // SAFETY: the assertion above compiles only where every field is `Plain` and the fields
        // together are as long as the struct, so that no byte is padding.
        unsafe impl $crate::Plain for $name {}

        impl $crate::Encode for $name {
            fn encode(&self, encoder: &mut $crate::Encoder<'_>) {
                encoder.plain(self);
            }

            fn encode_slice(items: &[Self], encoder: &mut $crate::Encoder<'_>) {
                encoder.plain_slice(items);
            }
        }

        impl $crate::Decode for $name {
            fn decode(decoder: &mut $crate::Decoder<'_>) -> $crate::Result<Self> {
                decoder.plain()
            }

            fn decode_vec(
                len: usize,
                decoder: &mut $crate::Decoder<'_>,
            ) -> $crate::Result<::std::vec::Vec<Self>> {
                decoder.plain_vec(len)
            }

            fn decode_array<const N: usize>(
                decoder: &mut $crate::Decoder<'_>,
            ) -> $crate::Result<[Self; N]> {
                decoder.plain_array()
            }
        }

        const _: () = $crate::__private::assert_plain_message::<$name>();
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_numbers_are_those_in_memory() {
        assert_eq!(
            as_bytes(&[1u16, 0x0203]),
            [1u16.to_ne_bytes(), 0x0203u16.to_ne_bytes()].concat()
        );
    }

    #[test]
    fn a_value_is_read_from_bytes_of_any_alignment_and_of_its_length_only() {
        let bytes = [as_bytes(&[0u8]), as_bytes(&[5.5f64])].concat();
        assert_eq!(from_bytes::<f64>(&bytes[1..]), Some(5.5));
        assert_eq!(from_bytes::<f64>(&bytes), None);
    }

    #[test]
    fn a_vector_is_made_of_whole_values() {
        let bytes = [as_bytes(&[1u32, 2]), &[9]].concat();
        assert_eq!(vec_from_bytes::<u32>(&bytes), [1, 2]);
        assert!(vec_from_bytes::<u32>(&[]).is_empty());
    }
}
