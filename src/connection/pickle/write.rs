//! Objects to pickles: protocol 4, without a memo, for an object refers to nothing twice.

use super::opcode;
use crate::object::BigInt;
use crate::{Decoder, Error, Object, Result};

pub(super) fn write(object: &Object) -> Result<Vec<u8>> {
    let mut writer = Writer { bytes: vec![opcode::PROTO, 4], depth: 0 };
    writer.object(object)?;
    writer.bytes.push(opcode::STOP);
    Ok(writer.bytes)
}

/// What a manager tells Python, which knows more than plain data.
pub(crate) enum Term<'a> {
    Plain(&'a Object),
    Tuple(&'a [Term<'a>]),
    /// What a class of Python's makes of arguments.
    Instance {
        module: &'a str,
        class: &'a str,
        arguments: &'a Object,
    },
}

impl Term<'_> {
    pub(crate) fn to_pickle(&self) -> Result<Vec<u8>> {
        let mut writer = Writer { bytes: vec![opcode::PROTO, 4], depth: 0 };
        writer.term(self)?;
        writer.bytes.push(opcode::STOP);
        Ok(writer.bytes)
    }
}

struct Writer {
    bytes: Vec<u8>,
    depth: usize,
}

impl Writer {
    fn object(&mut self, object: &Object) -> Result<()> {
        match object {
            Object::None => self.bytes.push(opcode::NONE),
            Object::Bool(true) => self.bytes.push(opcode::NEWTRUE),
            Object::Bool(false) => self.bytes.push(opcode::NEWFALSE),
            Object::Int(value) => match i32::try_from(*value) {
                Ok(small) => self.with_bytes(opcode::BININT, &small.to_le_bytes()),
                Err(_) => self.long(&BigInt::from(*value))?,
            },
            Object::BigInt(value) => self.long(value)?,
            Object::Float(value) => self.with_bytes(opcode::BINFLOAT, &value.to_be_bytes()),
            Object::Str(text) => self.with_len(text.as_bytes(), TEXT),
            Object::Bytes(bytes) => self.with_len(bytes, BYTES),
            Object::List(items) => {
                self.bytes.push(opcode::EMPTY_LIST);
                self.items(items, opcode::APPENDS)?;
            }
            Object::Tuple(items) if items.is_empty() => self.bytes.push(opcode::EMPTY_TUPLE),
            Object::Tuple(items) => self.items(items, opcode::TUPLE)?,
            Object::Dict(dict) => {
                self.bytes.push(opcode::EMPTY_DICT);
                self.items(dict.iter().flat_map(|(key, value)| [key, value]), opcode::SETITEMS)?;
            }
            Object::Set(set) => {
                self.bytes.push(opcode::EMPTY_SET);
                self.items(set.iter(), opcode::ADDITEMS)?;
            }
        }
        Ok(())
    }

    fn term(&mut self, term: &Term<'_>) -> Result<()> {
        match term {
            Term::Plain(object) => self.object(object)?,
            Term::Tuple(terms) => {
                self.bytes.push(opcode::MARK);
                terms.iter().try_for_each(|term| self.term(term))?;
                self.bytes.push(opcode::TUPLE);
            }
            Term::Instance { module, class, arguments } => {
                self.with_len(module.as_bytes(), TEXT);
                self.with_len(class.as_bytes(), TEXT);
                self.bytes.push(opcode::STACK_GLOBAL);
                self.object(arguments)?;
                self.bytes.push(opcode::REDUCE);
            }
        }
        Ok(())
    }

    /// The items, and what is done with all of them.
    fn items<'a>(&mut self, items: impl IntoIterator<Item = &'a Object>, opcode: u8) -> Result<()> {
        if self.depth == Decoder::MAX_DEPTH {
            let limit = Decoder::MAX_DEPTH;
            return Err(Error::encode(format!("nested deeper than {limit}")));
        }
        self.depth += 1;
        self.bytes.push(opcode::MARK);
        items.into_iter().try_for_each(|item| self.object(item))?;
        self.bytes.push(opcode);
        self.depth -= 1;
        Ok(())
    }

    fn long(&mut self, value: &BigInt) -> Result<()> {
        let bytes = value.to_signed_le_bytes();
        match (u8::try_from(bytes.len()), i32::try_from(bytes.len())) {
            (Ok(len), _) => self.with_bytes(opcode::LONG1, &[len]),
            (_, Ok(len)) => self.with_bytes(opcode::LONG4, &len.to_le_bytes()),
            _ => return Err(Error::encode("an int too long for a pickle")),
        }
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn with_bytes(&mut self, opcode: u8, bytes: &[u8]) {
        self.bytes.push(opcode);
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes behind a length of 1, 4 or 8 bytes, and the opcode for each.
    fn with_len(&mut self, bytes: &[u8], [short, medium, long]: [u8; 3]) {
        let len = bytes.len();
        match (u8::try_from(len), u32::try_from(len)) {
            (Ok(len), _) => self.with_bytes(short, &[len]),
            (_, Ok(len)) => self.with_bytes(medium, &len.to_le_bytes()),
            _ => self.with_bytes(long, &(len as u64).to_le_bytes()),
        }
        self.bytes.extend_from_slice(bytes);
    }
}

const TEXT: [u8; 3] = [opcode::SHORT_BINUNICODE, opcode::BINUNICODE, opcode::BINUNICODE8];
const BYTES: [u8; 3] = [opcode::SHORT_BINBYTES, opcode::BINBYTES, opcode::BINBYTES8];
