//! The secret that the processes of a program share.

use crate::{Decode, Decoder, Encode, Encoder, Error, Result, sys};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A key by which processes of one program know each other, for listeners and their clients.
///
/// The root process draws 32 random bytes when the key is first needed, and every process that it
/// starts has the same, unless it is given [another](crate::Process::authkey). `Debug` does not show
/// it, and its bytes are overwritten when it is dropped.
///
/// # Examples
/// ```
/// use multiproc::{Client, Listener};
///
/// # multiproc::init_before_main!();
/// # fn main() -> Result<(), multiproc::Error> {
/// let key = multiproc::current_process().authkey()?;
/// let listener = Listener::builder().authkey(key).bind("abstract:")?;
/// let address = listener.address().to_string();
/// let child = multiproc::Process::new(
///     |address: String| {
///         let key = multiproc::current_process().authkey()?;
///         Client::builder().authkey(key).connect(&*address)?.send("hello")
///     },
///     (address,),
/// );
/// let child = child.start()?;
/// assert_eq!(listener.accept()?.recv::<String>()?, "hello");
/// child.join()??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[doc(alias = "AuthenticationString")]
pub struct AuthKey(Box<[u8]>);

/// As many bytes as Python draws.
const DRAWN: usize = 32;

/// This process's key; in a forked child, its parent's.
static KEY: Mutex<Option<AuthKey>> = Mutex::new(None);

fn key() -> MutexGuard<'static, Option<AuthKey>> {
    KEY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes this file's lock, for a fork.
pub(crate) fn hold() -> impl Sized {
    key()
}

/// This process's key, which is drawn if there is none.
///
/// # Errors
/// * [`Error::Os`]: `getrandom` was refused.
pub(crate) fn own() -> Result<AuthKey> {
    let mut key = key();
    match &*key {
        Some(key) => Ok(key.clone()),
        None => {
            let mut drawn = AuthKey(Box::new([0; DRAWN]));
            sys::random::fill(&mut drawn.0).map_err(Error::os("getrandom"))?;
            Ok(key.insert(drawn).clone())
        }
    }
}

/// Makes this the process's key.
pub(crate) fn set(new: AuthKey) {
    *key() = Some(new);
}

impl AuthKey {
    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for AuthKey {
    fn from(bytes: Vec<u8>) -> AuthKey {
        AuthKey(bytes.into())
    }
}

impl From<&[u8]> for AuthKey {
    fn from(bytes: &[u8]) -> AuthKey {
        AuthKey(bytes.into())
    }
}

impl<const N: usize> From<&[u8; N]> for AuthKey {
    fn from(bytes: &[u8; N]) -> AuthKey {
        AuthKey::from(&bytes[..])
    }
}

impl From<AuthKey> for Vec<u8> {
    /// A copy, which nobody overwrites.
    fn from(key: AuthKey) -> Vec<u8> {
        key.0.to_vec()
    }
}

impl Drop for AuthKey {
    fn drop(&mut self) {
        self.0.fill(0);
        // For all that the optimiser knows, somebody reads the zeros.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(..)")
    }
}

/// The form in which it travels to a child, and to nobody else.
pub(crate) struct Travelling(pub(crate) AuthKey);

impl Encode for Travelling {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.0.as_bytes().encode(encoder);
    }
}

impl Decode for Travelling {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Travelling> {
        Ok(Travelling(AuthKey::from(Vec::<u8>::decode(decoder)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_drawn_once_and_not_shown() {
        let key = own().unwrap();
        assert_eq!(key.as_bytes().len(), DRAWN);
        assert_eq!(key, own().unwrap());
        assert_ne!(key.as_bytes(), [0; DRAWN]);
        assert_eq!(format!("{key:?}"), "AuthKey(..)");
    }
}
