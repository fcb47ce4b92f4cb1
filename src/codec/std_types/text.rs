//! Text, paths and the strings of the system: a length, then the bytes.

use crate::{Decode, Decoder, Encode, Encoder, Error, Result};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

fn encode_counted(bytes: &[u8], encoder: &mut Encoder<'_>) {
    encoder.len(bytes.len());
    encoder.bytes(bytes);
}

fn decode_counted<'a>(decoder: &mut Decoder<'a>) -> Result<&'a [u8]> {
    let len = decoder.len()?;
    decoder.bytes(len)
}

macro_rules! encode_as_bytes {
    ($($type:ty: $bytes:expr;)*) => {$(
        impl Encode for $type {
            fn encode(&self, encoder: &mut Encoder<'_>) {
                let bytes: fn(&$type) -> &[u8] = $bytes;
                encode_counted(bytes(self), encoder);
            }

            #[inline]
            fn at_hand(&self) -> Option<(Option<u64>, &[u8])> {
                let bytes: fn(&$type) -> &[u8] = $bytes;
                Some((Some(bytes(self).len() as u64), bytes(self)))
            }
        }
    )*};
}

encode_as_bytes! {
    str: str::as_bytes;
    String: |text| text.as_bytes();
    CStr: CStr::to_bytes;
    CString: |text| text.as_bytes();
    OsStr: |text| text.as_bytes();
    OsString: |text| text.as_bytes();
    Path: |path| path.as_os_str().as_bytes();
    PathBuf: |path| path.as_os_str().as_bytes();
}

impl Decode for String {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let bytes = decode_counted(decoder)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Error::decode(format!("text that is not UTF-8: {error}")))?;
        Ok(text.to_owned())
    }
}

impl Decode for CString {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        CString::new(decode_counted(decoder)?)
            .map_err(|error| Error::decode(format!("a C string with a NUL inside: {error}")))
    }
}

impl Decode for OsString {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        Ok(OsString::from_vec(decode_counted(decoder)?.to_vec()))
    }
}

impl Decode for PathBuf {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        OsString::decode(decoder).map(PathBuf::from)
    }
}
