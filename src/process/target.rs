//! Functions named to another process of the same program.
//!
//! A target is a function item or a closure that captures nothing: a value of no bytes, whose type
//! alone says what to run. For each such type the compiler makes an [`EntryPoint`], a constant in the
//! program's own data. It travels as its distance from the start of the program, together with a hash
//! of its name. The receiver finds it again only if the distance leads to such a constant (it begins
//! with 128 chosen bits) of that name: another program, another build, or bytes somebody made up are
//! refused before anything is called.
#![allow(unsafe_code)]

use crate::codec::Payload;
use crate::sys::program::{Fnv, Image};
use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::sync::OnceLock;

/// A function that another process of the same program can be told to run: a function item or a
/// closure that captures nothing, of up to eight arguments.
///
/// Implemented for all of those; a closure that captures something does not compile.
///
/// # Examples
/// ```compile_fail
/// let captured = 7;
/// multiproc::Process::new(move |n: i32| n + captured, (1,)); // captures: does not compile
/// ```
pub trait Target<Arguments, Output>: Copy + Send + Sync + 'static {
    /// Calls the function.
    #[doc(hidden)]
    fn call(self, arguments: Arguments) -> Output;
}

macro_rules! targets {
    ($(($($argument:ident)*))*) => {$(
        impl<Function, Output, $($argument,)*> Target<($($argument,)*), Output> for Function
        where
            Function: Fn($($argument),*) -> Output + Copy + Send + Sync + 'static,
        {
            #[allow(non_snake_case)]
            fn call(self, ($($argument,)*): ($($argument,)*)) -> Output {
                self($($argument),*)
            }
        }
    )*};
}

targets! {
    () (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E G) (A B C D E G H) (A B C D E G H I)
}

/// The one value of a function's type, in a process that was only told its name.
pub(crate) fn instance<F: Copy + Send + Sync + 'static>() -> F {
    const {
        assert!(
            size_of::<F>() == 0,
            "only a function item or a closure that captures nothing can be run by another process"
        );
    }
    // SAFETY: the type has no bytes, so any place is a value of it. The value exists: an entry point
    // is made only by functions that were given one in the sending process, and being `Copy + Send +
    // Sync` it may have copies anywhere, as `fork` would have made them.
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

/// Code that decodes its arguments, runs, and encodes its result.
pub(crate) trait Entry: 'static {
    /// Arguments from `decoder`, result onto `result`. May panic where the user's function does.
    fn run(decoder: &mut Decoder<'_>, result: &mut Payload) -> Result<()>;

    /// What the function is called; equal names with different code do not occur in one program.
    fn name() -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// The entry of calling `F` with arguments `A` once.
pub(crate) struct CallOnce<F, A, R>(std::marker::PhantomData<fn(F, A) -> R>);

impl<F, A, R> Entry for CallOnce<F, A, R>
where
    F: Target<A, R>,
    A: Decode + 'static,
    R: Encode + 'static,
{
    fn run(decoder: &mut Decoder<'_>, result: &mut Payload) -> Result<()> {
        let arguments = A::decode(decoder)?;
        result.push(&instance::<F>().call(arguments))
    }
}

/// The entry of a process whose function is `F`: its result is preceded by its exit code.
pub(crate) struct Body<F, A, R>(std::marker::PhantomData<fn(F, A) -> R>);

impl<F, A, R> Entry for Body<F, A, R>
where
    F: Target<A, R>,
    A: Decode + 'static,
    R: Encode + 'static,
{
    fn run(decoder: &mut Decoder<'_>, result: &mut Payload) -> Result<()> {
        let arguments = A::decode(decoder)?;
        push_result(&instance::<F>().call(arguments), result)
    }
}

/// What a process leaves behind that ran its function to the end: the exit code, then the value.
pub(crate) fn push_result<R: Encode>(value: &R, result: &mut Payload) -> Result<()> {
    result.push(&value.exit_code())?;
    result.push(value)
}

/// What stands in the program's data for each [`Entry`].
#[repr(C)]
pub(crate) struct EntryPoint {
    magic: [u64; 2],
    name: fn() -> &'static str,
    run: fn(&mut Decoder<'_>, &mut Payload) -> Result<()>,
}

/// Chosen at random, once.
const MAGIC: [u64; 2] = [0x8f1b_bd4e_60c3_71a9, 0x35d7_9e02_c84a_f616];

/// `MAGIC` with one added to each half.
const NEXT_TO_MAGIC: [u64; 2] = [0x8f1b_bd4e_60c3_71aa, 0x35d7_9e02_c84a_f617];

impl EntryPoint {
    /// The entry point of `E`.
    pub(crate) const fn of<E: Entry>() -> &'static EntryPoint {
        const { &EntryPoint { magic: MAGIC, name: E::name, run: E::run } }
    }

    /// Decodes arguments, runs the function, encodes its result.
    #[inline]
    pub(crate) fn run(&self, decoder: &mut Decoder<'_>, result: &mut Payload) -> Result<()> {
        (self.run)(decoder, result)
    }

    pub(crate) fn name(&self) -> &'static str {
        (self.name)()
    }

    /// How another process finds this entry point.
    ///
    /// # Errors
    /// * [`Error::NotInExecutable`]: it is in a shared library.
    pub(crate) fn locate(&'static self) -> Result<Location> {
        let address = std::ptr::from_ref(self) as usize;
        match image().filter(|image| image.contains(address, size_of::<EntryPoint>())) {
            Some(image) => Ok(Location {
                distance: address.wrapping_sub(image.base) as u64,
                name: hash(self.name()),
            }),
            None => Err(Error::NotInExecutable { function: self.name().into() }),
        }
    }
}

/// An entry point as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    distance: u64,
    name: u64,
}

impl Location {
    /// The entry point, if it is one of this very program.
    ///
    /// # Errors
    /// * [`Error::DifferentExecutable`]: there is no entry point of that name at that distance.
    pub(crate) fn resolve(self) -> Result<&'static EntryPoint> {
        let found = image().and_then(|image| {
            let address = usize::try_from(self.distance).ok()?.wrapping_add(image.base);
            let inside = image.contains(address, size_of::<EntryPoint>());
            (inside && address % align_of::<EntryPoint>() == 0).then_some(address)
        });
        let Some(address) = found else { return Err(Error::DifferentExecutable) };
        let place = address as *const EntryPoint;
        // SAFETY: the place is aligned and inside the program's mapped file, which is never unmapped;
        // two numbers may be read from any bytes.
        let [first, second] = unsafe { place.cast::<[u64; 2]>().read() };
        // The program holds `MAGIC` itself nowhere but in the constants: what is compared here differs
        // from it, and the optimiser cannot know by how much.
        let step = std::hint::black_box(1);
        if [first.wrapping_add(step), second.wrapping_add(step)] != NEXT_TO_MAGIC {
            return Err(Error::DifferentExecutable);
        }
        // SAFETY: (target-1): the bits were just seen here, and such constants are never written.
        let entry = unsafe { &*place };
        if hash(entry.name()) == self.name { Ok(entry) } else { Err(Error::DifferentExecutable) }
    }
}

impl Encode for Location {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.bytes(&self.distance.to_le_bytes());
        encoder.bytes(&self.name.to_le_bytes());
    }
}

impl Decode for Location {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Location> {
        let distance = u64::from_le_bytes(decoder.array()?);
        Ok(Location { distance, name: u64::from_le_bytes(decoder.array()?) })
    }
}

fn hash(name: &str) -> u64 {
    let mut hash = Fnv::new();
    hash.add(name.as_bytes());
    hash.0
}

fn image() -> Option<&'static Image> {
    static IMAGE: OnceLock<Option<Image>> = OnceLock::new();
    IMAGE.get_or_init(Image::find).as_ref()
}

/// Differs between programs and between builds of one; zero where the system does not tell.
pub(crate) fn fingerprint() -> u64 {
    image().map_or(0, |image| image.fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point<F: Target<(u8,), u8>>(_: F) -> &'static EntryPoint {
        EntryPoint::of::<CallOnce<F, (u8,), u8>>()
    }

    fn run(entry: &EntryPoint, argument: u8) -> u8 {
        let mut result = Payload::default();
        entry.run(&mut Decoder::new(&[argument], &mut Vec::new()), &mut result).unwrap();
        result.bytes[0]
    }

    #[test]
    fn a_location_leads_to_the_function_that_it_was_made_of() {
        let [one, two] = [point(|n| n + 1), point(|n| n + 2)].map(|point| point.locate().unwrap());
        assert_ne!(one, two);
        assert_eq!(run(one.resolve().unwrap(), 7), 8);
        assert_eq!(run(two.resolve().unwrap(), 7), 9);
    }

    #[test]
    fn a_location_that_leads_nowhere_is_refused() {
        let right = point(|n| n).locate().unwrap();
        let heap = (&raw const *Box::new(MAGIC)) as usize as u64;
        let wrong = [1, 8, 64, u64::MAX, heap].map(|by| right.distance.wrapping_add(by));
        let places = wrong.map(|distance| Location { distance, ..right });
        let renamed = Location { name: right.name ^ 1, ..right };
        for location in places.into_iter().chain([renamed]) {
            assert!(matches!(location.resolve(), Err(Error::DifferentExecutable)), "{location:?}");
        }
    }
}
