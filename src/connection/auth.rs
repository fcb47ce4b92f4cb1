//! The handshake of CPython's `multiprocessing`, by which two peers prove to each other that they hold
//! the same key.
//!
//! One side delivers a challenge, `#CHALLENGE#` and a random message; the other answers with the
//! message's HMAC under the key; the first says `#WELCOME#` or `#FAILURE#`. Then the sides change. The
//! message begins with the name of the digest, and so does the answer: `{sha256}`. Peers before CPython
//! 3.12 put no name in front and mean MD5.

use super::Connection;
use super::digest::{Algorithm, Md5, Sha256, equal, hmac};
use crate::sys::{self, time::Deadline};
use crate::{Error, Result};
use std::fmt;
use std::io::IoSlice;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";
const SHA256: &[u8] = b"{sha256}";
const MD5: &[u8] = b"{md5}";

/// The most bytes that a stranger's message may have.
const MAX_MESSAGE: u64 = 256;
/// How many random bytes our challenges have.
const RANDOM: usize = 40;
/// The length of an old peer's message, and the least that any may have.
const OLD_LEN: usize = 20;

/// A secret, overwritten when it is dropped.
#[derive(Clone)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Key {
        Key(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        sys::memory::wipe(&mut self.0);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What a side knows and allows.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    pub(crate) key: Key,
    /// Whether a peer that only knows MD5 is good enough.
    pub(crate) legacy_md5: bool,
}

impl Secret {
    /// The answer to a challenge's message.
    fn answer(&self, message: &[u8]) -> Result<Vec<u8>> {
        let key = self.key.bytes();
        if message.len() == OLD_LEN {
            self.allow_md5()?;
            Ok(hmac::<Md5>(key, message))
        } else if message.len() < OLD_LEN {
            Err(Error::authentication("the challenge is too short"))
        } else if message.starts_with(SHA256) {
            Ok([SHA256, &hmac::<Sha256>(key, message)].concat())
        } else if message.starts_with(MD5) {
            self.allow_md5()?;
            Ok([MD5, &hmac::<Md5>(key, message)].concat())
        } else {
            Err(Error::authentication("the challenge names no digest that is known here"))
        }
    }

    /// Looks whether `answer` is one to `message`.
    fn check(&self, message: &[u8], answer: &[u8]) -> Result<()> {
        let key = self.key.bytes();
        let right = if let Some(code) = answer.strip_prefix(SHA256) {
            equal(code, &hmac::<Sha256>(key, message))
        } else {
            let named = answer.strip_prefix(MD5);
            if named.is_none() && answer.len() != Md5::LEN {
                return Err(Error::authentication("the answer names no digest that is known here"));
            }
            self.allow_md5()?;
            equal(named.unwrap_or(answer), &hmac::<Md5>(key, message))
        };
        if right { Ok(()) } else { Err(Error::authentication("the peer's key is another one")) }
    }

    fn allow_md5(&self) -> Result<()> {
        if self.legacy_md5 {
            return Ok(());
        }
        Err(Error::authentication("the peer knows MD5 alone, and `legacy_md5` was not asked for"))
    }
}

/// A handshake on its way, which may be left and taken up again.
pub(crate) struct Handshake {
    secret: Secret,
    /// What is to be sent before the next step.
    outgoing: Option<Vec<u8>>,
    step: Step,
    /// Whether the other half follows this one.
    other_half: bool,
    /// How many steps were done.
    progress: u32,
}

#[derive(Debug)]
enum Step {
    /// Deliver a challenge.
    Deliver,
    /// Receive the answer to this message.
    Judge(Vec<u8>),
    /// The peer has failed; it is told, then the handshake ends so.
    Refuse(Error),
    /// Receive a challenge and answer it.
    Answer,
    /// Receive what the peer thinks of the answer.
    Verdict,
    Done,
}

impl Handshake {
    /// The accepting side's: deliver, then answer.
    pub(crate) fn accepting(secret: Secret) -> Handshake {
        Handshake::new(secret, Step::Deliver, true)
    }

    /// The connecting side's: answer, then deliver.
    pub(super) fn connecting(secret: Secret) -> Handshake {
        Handshake::new(secret, Step::Answer, true)
    }

    fn new(secret: Secret, step: Step, other_half: bool) -> Handshake {
        Handshake { secret, outgoing: None, step, other_half, progress: 0 }
    }

    /// Grows with every step, and a handshake has few of them.
    pub(super) fn progress(&self) -> u32 {
        self.progress
    }

    /// Whether it waits for the peer to take something, rather than to send.
    pub(super) fn is_sending(&self) -> bool {
        self.outgoing.is_some()
    }

    /// Goes on until the handshake is done; after a [`Error::TimeoutError`] it can be called again.
    ///
    /// Before the peer is known, no descriptor is taken from it, and nothing is read that follows the
    /// handshake.
    pub(crate) fn advance(&mut self, connection: &Connection, deadline: Deadline) -> Result<()> {
        connection.set_strict(true);
        while self.outgoing.is_some() || !matches!(self.step, Step::Done) {
            if let Some(message) = &self.outgoing {
                connection.output()?.send_parts(&[IoSlice::new(message)], deadline)?;
                self.outgoing = None;
            } else {
                self.next_step(connection, deadline)?;
            }
            self.progress += 1;
        }
        connection.set_strict(false);
        Ok(())
    }

    fn next_step(&mut self, connection: &Connection, deadline: Deadline) -> Result<()> {
        let receive = || connection.recv_bytes_within(MAX_MESSAGE, deadline);
        self.step = match &mut self.step {
            Step::Deliver => {
                let message = new_message()?;
                self.outgoing = Some([CHALLENGE, &message].concat());
                Step::Judge(message)
            }
            Step::Judge(message) => {
                let answer = receive()?;
                match self.secret.check(message, &answer) {
                    Ok(()) => {
                        self.outgoing = Some(WELCOME.to_vec());
                        self.after_half(Step::Answer)
                    }
                    Err(error) => {
                        self.outgoing = Some(FAILURE.to_vec());
                        Step::Refuse(error)
                    }
                }
            }
            Step::Refuse(error) => {
                return Err(std::mem::replace(
                    error,
                    Error::authentication("it has failed before"),
                ));
            }
            Step::Answer => {
                let challenge = receive()?;
                let message = challenge
                    .strip_prefix(CHALLENGE)
                    .ok_or_else(|| Error::authentication("the peer sent no challenge"))?;
                self.outgoing = Some(self.secret.answer(message)?);
                Step::Verdict
            }
            Step::Verdict => match &receive()?[..] {
                WELCOME => self.after_half(Step::Deliver),
                FAILURE => return Err(Error::authentication("the peer has refused our key")),
                _ => return Err(Error::authentication("the peer sent no verdict")),
            },
            Step::Done => Step::Done,
        };
        Ok(())
    }

    fn after_half(&mut self, next: Step) -> Step {
        if std::mem::take(&mut self.other_half) { next } else { Step::Done }
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("progress", &self.progress).finish_non_exhaustive()
    }
}

fn new_message() -> Result<Vec<u8>> {
    let mut message = SHA256.to_vec();
    message.resize(SHA256.len() + RANDOM, 0);
    sys::random::fill(&mut message[SHA256.len()..]).map_err(Error::os("getrandom"))?;
    Ok(message)
}

/// Asks the peer to prove that it holds `key`: the first half of what a listener does.
///
/// The peer calls [`answer_challenge`]. That a peer is to be believed only after both halves, one in
/// each direction, is seen to by [`Listener`](crate::Listener) and [`Client`](crate::Client).
///
/// # Blocking
/// Waits without limit for the answer.
///
/// # Errors
/// * [`Error::AuthenticationError`]: the peer holds another key, or does not speak the handshake. It has
///   been told; drop the connection.
/// * [`Error::MessageTooLong`]: it sent more than 256 bytes.
/// * [`Error::Eof`], [`Error::Disconnected`], [`Error::TruncatedMessage`]: it is gone.
///
/// # Differences from Python
/// There is no choice of a digest: it is SHA-256, as Python's is unless something else is asked for.
///
/// # Examples
/// ```
/// let (left, right) = multiproc::pipe()?;
/// std::thread::scope(|scope| {
///     let answer = scope.spawn(|| multiproc::answer_challenge(&right, b"secret"));
///     multiproc::deliver_challenge(&left, b"secret")?;
///     answer.join().unwrap()
/// })?;
/// # Ok::<(), multiproc::Error>(())
/// ```
pub fn deliver_challenge(connection: &Connection, key: &[u8]) -> Result<()> {
    half(connection, key, Step::Deliver)
}

/// Proves to the peer, which calls [`deliver_challenge`], that this side holds `key`.
///
/// # Blocking
/// Waits without limit for the challenge and for the verdict.
///
/// # Errors
/// * [`Error::AuthenticationError`]: the peer holds another key, asks for a digest other than SHA-256, or
///   does not speak the handshake.
/// * Otherwise as for [`deliver_challenge`].
///
/// # Examples
/// ```
/// let (left, right) = multiproc::pipe()?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| multiproc::deliver_challenge(&left, b"another key"));
///     let refused = multiproc::answer_challenge(&right, b"secret");
///     assert!(matches!(refused, Err(multiproc::Error::AuthenticationError { .. })));
/// });
/// # Ok::<(), multiproc::Error>(())
/// ```
pub fn answer_challenge(connection: &Connection, key: &[u8]) -> Result<()> {
    half(connection, key, Step::Answer)
}

fn half(connection: &Connection, key: &[u8], step: Step) -> Result<()> {
    let secret = Secret { key: Key::new(key), legacy_md5: false };
    let done = Handshake::new(secret, step, false).advance(connection, Deadline::NEVER);
    connection.set_strict(false);
    done
}

#[cfg(test)]
mod tests {
    use super::super::digest::tests::hex;
    use super::*;

    fn secret(key: &[u8], legacy_md5: bool) -> Secret {
        Secret { key: Key::new(key), legacy_md5 }
    }

    /// `{sha256}` and the bytes 0 to 39.
    fn modern() -> Vec<u8> {
        SHA256.iter().copied().chain(0..40).collect()
    }

    #[test]
    fn answers_are_cpythons_byte_for_byte() {
        let old: Vec<u8> = (0..20).collect();
        let with_md5 = secret(b"secret", true);
        assert_eq!(hex(&with_md5.answer(&old).unwrap()), "7defa9cc46abc3583325d17ccda75190");
        let answer = secret(b"secret", false).answer(&modern()).unwrap();
        assert_eq!(answer, with_md5.answer(&modern()).unwrap());
        let code = "fc57fbe650d6124b98215e7b5d197d5807ad69982d275a9735ea2d56f1fa6989";
        assert_eq!(hex(&answer), format!("7b7368613235367d{code}"));
        let old_answer_to_modern = hmac::<Md5>(b"secret", &modern());
        assert_eq!(hex(&old_answer_to_modern), "8e48d2bb349b4b72b9382999ed5b62eb");
        with_md5.check(&modern(), &old_answer_to_modern).unwrap();
    }

    #[test]
    fn an_answer_in_each_form_is_right_with_the_same_key_alone() {
        let named_md5: Vec<u8> = MD5.iter().copied().chain(0..40).collect();
        for message in [(0..20).collect(), named_md5, modern()] {
            let answer = secret(b"key", true).answer(&message).unwrap();
            secret(b"key", true).check(&message, &answer).unwrap();
            assert!(secret(b"kez", true).check(&message, &answer).is_err());
            let mut bent = answer.clone();
            *bent.last_mut().unwrap() ^= 1;
            assert!(secret(b"key", true).check(&message, &bent).is_err());
            assert!(secret(b"key", true).check(&message, &answer[..answer.len() - 1]).is_err());
        }
    }

    #[test]
    fn md5_is_refused_unless_it_is_asked_for() {
        let strict = secret(b"key", false);
        let message = modern();
        assert!(strict.answer(&[7; 20]).is_err());
        assert!(strict.answer(&[MD5, &[7; 40]].concat()).is_err());
        assert!(strict.check(&message, &hmac::<Md5>(b"key", &message)).is_err());
        let named = [MD5, &hmac::<Md5>(b"key", &message)].concat();
        assert!(strict.check(&message, &named).is_err());
    }

    #[test]
    fn challenges_without_sense_are_refused() {
        for message in [&b""[..], &[0; 19], &[0; 21], b"{sha384}0123456789012345678901234567890"] {
            assert!(secret(b"key", true).answer(message).is_err(), "{message:?}");
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let handshake = Handshake::accepting(secret(b"hush", false));
        let text = format!("{:?} {handshake:?}", handshake.secret);
        assert!(!text.contains("hush") && !text.contains("104"), "{text}");
    }

    #[test]
    fn no_two_challenges_are_alike() {
        assert_ne!(new_message().unwrap(), new_message().unwrap());
    }
}
