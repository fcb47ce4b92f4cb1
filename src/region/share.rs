//! What may stand in memory that other processes write.

use crate::Result;
use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize,
};

/// A type that may live in memory shared between processes, behind a [`Shared`](crate::Shared).
///
/// [`shared!`](crate::shared) implements it for structs made of such types.
///
/// # Safety
/// * The type is `repr(C)` or `repr(transparent)`, has no pointers and no `Drop`.
/// * Every bit pattern of its bytes is memory-safe to use: another process may have written anything.
/// * Nothing in it is read or written through `&self` but by atomic operations, under a lock that is
///   itself in shared memory, or by the kernel.
/// * `settle` and `is_held` reach every part of it.
pub unsafe trait Share: Send + Sync + 'static {
    /// Makes the parts that can only be made where they will stay. Called once, before any other
    /// thread or process can see the value.
    #[doc(hidden)]
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Whether a thread of this process holds a lock in it: its memory must then stay mapped.
    #[doc(hidden)]
    fn is_held(&self) -> bool {
        false
    }
}

macro_rules! share_atomics {
    ($($atomic:ty)*) => {$(
        // SAFETY: an atomic integer is plain memory of which every bit pattern is a value, and `&self`
        // gives atomic access alone; it has no part to settle or to hold.
        unsafe impl Share for $atomic {}
    )*};
}

share_atomics! {
    AtomicI8 AtomicI16 AtomicI32 AtomicI64 AtomicIsize
    AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize
}

// SAFETY: an array has the layout of its items one after the other, and both methods reach each.
unsafe impl<T: Share, const N: usize> Share for [T; N] {
    fn settle(&self) -> Result<()> {
        self.iter().try_for_each(Share::settle)
    }

    fn is_held(&self) -> bool {
        self.iter().any(Share::is_held)
    }
}

/// A type of which zero bytes are a value that is settled.
///
/// # Safety
/// * So it is.
pub(crate) unsafe trait Blank: Share {}

// SAFETY: zero bytes are the number zero, and there is nothing to settle.
unsafe impl Blank for AtomicU64 {}

// SAFETY: as for each of its items.
unsafe impl<T: Blank, const N: usize> Blank for [T; N] {}

/// Declares structs that may live in shared memory, and implements [`Share`] for them.
///
/// Every field's type must be [`Share`]: raw locks, atomics, plain cells, arrays of them, and structs
/// declared so.
///
/// # Examples
/// ```
/// use multiproc::{RawLock, Shared};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// multiproc::shared! {
///     /// A counter and the lock of what it counts.
///     pub struct Tally {
///         lock: RawLock,
///         count: AtomicU64,
///     }
/// }
///
/// let tally = Shared::new(Tally { lock: RawLock::new(), count: AtomicU64::new(0) })?;
/// let guard = tally.lock.acquire()?;
/// tally.count.fetch_add(1, Ordering::Relaxed);
/// drop(guard);
/// # Ok::<(), multiproc::Error>(())
/// ```
#[macro_export]
macro_rules! shared {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty ),* $(,)?
        }
    )+) => {$(
        $(#[$meta])*
        #[repr(C)]
        $vis struct $name {
            $( $(#[$field_meta])* $field_vis $field: $type, )*
        }

        #[allow(unsafe_code)]
        // SAFETY: `repr(C)`, every field is `Share` (or the methods below do not compile), and both
        // methods reach every field. The assertion
        // below refuses a type that would want to be dropped.
        unsafe impl $crate::Share for $name {
            fn settle(&self) -> $crate::Result<()> {
                $( <$type as $crate::Share>::settle(&self.$field)?; )*
                ::core::result::Result::Ok(())
            }

            fn is_held(&self) -> bool {
                false $( || <$type as $crate::Share>::is_held(&self.$field) )*
            }
        }

        const _: () = assert!(
            !::core::mem::needs_drop::<$name>(),
            "a type in shared memory is never dropped"
        );
    )+};
}
