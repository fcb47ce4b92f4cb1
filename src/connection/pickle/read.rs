//! Pickles to objects: the instructions that plain data needs, on a stack of values.

use super::build::{Id, Known, Value, build, call};
use super::opcode;
use crate::object::BigInt;
use crate::{Error, Object, Result};
use std::collections::HashMap;

/// What a value that is referred to more than once may grow a pickle to: so many times its length, and
/// this besides.
const GROWTH: usize = 16;
const GROWTH_BESIDES: usize = 1 << 20;

pub(super) fn read(bytes: &[u8]) -> Result<Object> {
    read_with(bytes, false)
}

/// As [`read`], and a `slice` is the tuple of its three parts.
pub(super) fn read_request(bytes: &[u8]) -> Result<Object> {
    read_with(bytes, true)
}

fn read_with(bytes: &[u8], slices: bool) -> Result<Object> {
    let budget = bytes.len().saturating_mul(GROWTH).saturating_add(GROWTH_BESIDES);
    let mut machine = Machine { rest: bytes, budget, slices, ..Machine::default() };
    let root = machine.run()?;
    build(&machine.values, root, machine.budget)
}

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    /// Every value that was made.
    values: Vec<Value>,
    stack: Vec<Id>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// How many items and bytes may yet be copied from one value to another.
    budget: usize,
    /// Whether slices are plain data here.
    slices: bool,
}

impl<'a> Machine<'a> {
    /// Obeys the instructions, and gives the value that is there at the end.
    fn run(&mut self) -> Result<Id> {
        loop {
            match self.byte()? {
                opcode::STOP => break,
                opcode => self.obey(opcode)?,
            }
        }
        let root = self.pop()?;
        if self.rest.is_empty() && self.stack.is_empty() && self.marks.is_empty() {
            return Ok(root);
        }
        Err(Error::decode("a pickle with something left behind its end"))
    }

    fn obey(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            opcode::PROTO => self.protocol()?,
            opcode::FRAME => drop(self.take(8)?),
            opcode::MARK => self.marks.push(self.stack.len()),
            opcode::POP => self.pop_or_mark()?,
            opcode::POP_MARK => drop(self.since_mark()?),
            opcode::DUP => self.stack.push(self.top()?),
            opcode::MEMOIZE | opcode::BINPUT | opcode::LONG_BINPUT => self.put(opcode)?,
            opcode::BINGET | opcode::LONG_BINGET => self.get(opcode)?,
            opcode::GLOBAL | opcode::STACK_GLOBAL => self.global(opcode)?,
            opcode::REDUCE => self.reduce()?,
            opcode::APPEND | opcode::APPENDS | opcode::ADDITEMS => self.extend(opcode)?,
            opcode::SETITEM | opcode::SETITEMS => self.extend(opcode)?,
            _ => {
                let value = self.value(opcode)?;
                self.push(value);
            }
        }
        Ok(())
    }

    /// The value that an instruction makes, by itself or of what is on the stack.
    fn value(&mut self, opcode: u8) -> Result<Value> {
        use Value::{Dict, Leaf, List, Set, Tuple};
        Ok(match opcode {
            opcode::NONE => Leaf(Object::None),
            opcode::NEWTRUE => Leaf(Object::Bool(true)),
            opcode::NEWFALSE => Leaf(Object::Bool(false)),
            opcode::BININT => Leaf(i32::from_le_bytes(self.array()?).into()),
            opcode::BININT1 => Leaf(i32::from(self.byte()?).into()),
            opcode::BININT2 => Leaf(u16::from_le_bytes(self.array()?).into()),
            opcode::LONG1 | opcode::LONG4 => {
                let len = self.len(opcode)?;
                Leaf(BigInt::from_signed_le_bytes(self.take(len)?).into())
            }
            opcode::BINFLOAT => Leaf(Object::Float(f64::from_be_bytes(self.array()?))),
            opcode::SHORT_BINUNICODE | opcode::BINUNICODE | opcode::BINUNICODE8 => {
                let len = self.len(opcode)?;
                let text = std::str::from_utf8(self.take(len)?);
                let text = text.map_err(|_| Error::decode("a pickle of text that is no UTF-8"))?;
                Leaf(text.into())
            }
            opcode::SHORT_BINBYTES | opcode::BINBYTES | opcode::BINBYTES8 | opcode::BYTEARRAY8 => {
                let len = self.len(opcode)?;
                Leaf(Object::Bytes(self.take(len)?.to_vec()))
            }
            opcode::EMPTY_LIST => List(Vec::new()),
            opcode::EMPTY_TUPLE => Tuple(Vec::new()),
            opcode::EMPTY_DICT => Dict(Vec::new()),
            opcode::EMPTY_SET => Set(Vec::new()),
            opcode::LIST => List(self.since_mark()?),
            opcode::TUPLE => Tuple(self.since_mark()?),
            opcode::FROZENSET => Set(self.since_mark()?),
            opcode::DICT => Dict(pairs(self.since_mark()?)?),
            opcode::TUPLE1 => Tuple(self.last(1)?),
            opcode::TUPLE2 => Tuple(self.last(2)?),
            opcode::TUPLE3 => Tuple(self.last(3)?),
            _ => return Err(unknown(opcode)),
        })
    }

    fn protocol(&mut self) -> Result<()> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(Error::decode(format!("a pickle of protocol {other}"))),
        }
    }

    /// Adds the last value, or those since the mark, to the container before them.
    fn extend(&mut self, opcode: u8) -> Result<()> {
        let items = match opcode {
            opcode::APPEND => self.last(1)?,
            opcode::SETITEM => self.last(2)?,
            _ => self.since_mark()?,
        };
        let container = self.top()?;
        match (opcode, &mut self.values[container]) {
            (opcode::APPEND | opcode::APPENDS, Value::List(list)) => list.extend(items),
            (opcode::ADDITEMS, Value::Set(set)) => set.extend(items),
            (opcode::SETITEM | opcode::SETITEMS, Value::Dict(dict)) => dict.extend(pairs(items)?),
            _ => return Err(Error::decode("a pickle that fills what is no container")),
        }
        Ok(())
    }

    fn put(&mut self, opcode: u8) -> Result<()> {
        let key = match opcode {
            // As Python counts: the next free place.
            opcode::MEMOIZE => u32::try_from(self.memo.len())
                .map_err(|_| Error::decode("a pickle with too many values"))?,
            _ => self.memo_key(opcode)?,
        };
        self.memo.insert(key, self.top()?);
        Ok(())
    }

    fn get(&mut self, opcode: u8) -> Result<()> {
        let key = self.memo_key(opcode)?;
        let id =
            self.memo.get(&key).ok_or_else(|| Error::decode("a pickle that refers to nothing"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn memo_key(&mut self, opcode: u8) -> Result<u32> {
        match opcode {
            opcode::BINPUT | opcode::BINGET => self.byte().map(u32::from),
            _ => self.array().map(u32::from_le_bytes),
        }
    }

    /// Finds out which of the few names that are known is meant.
    fn global(&mut self, opcode: u8) -> Result<()> {
        let known = if opcode == opcode::GLOBAL {
            let (module, name) = (self.line()?, self.line()?);
            Known::find(module, name, self.slices)?
        } else {
            let ids = self.last(2)?;
            match (&self.values[ids[0]], &self.values[ids[1]]) {
                (Value::Leaf(Object::Str(module)), Value::Leaf(Object::Str(name))) => {
                    Known::find(module, name, self.slices)?
                }
                _ => return Err(Error::decode("a pickle with a name that is no text")),
            }
        };
        self.push(Value::Known(known));
        Ok(())
    }

    fn reduce(&mut self) -> Result<()> {
        let ids = self.last(2)?;
        let value = match (&self.values[ids[0]], &self.values[ids[1]]) {
            (Value::Known(Known::Slice), Value::Tuple(parts))
                if self.slices && parts.len() == 3 =>
            {
                // It is its own parts from here on.
                self.stack.push(ids[1]);
                return Ok(());
            }
            (Value::Known(known), Value::Tuple(arguments)) => {
                let arguments: Vec<&Value> = arguments.iter().map(|id| &self.values[*id]).collect();
                call(*known, &arguments, &mut self.budget)?
            }
            _ => return Err(Error::decode("a pickle that calls what is no function")),
        };
        self.push(value);
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// How low the stack may go: to the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        self.stack[self.floor()..].last().copied().ok_or_else(short)
    }

    fn pop(&mut self) -> Result<Id> {
        self.last(1).map(|ids| ids[0])
    }

    /// Takes a value away, or a mark with nothing on it.
    fn pop_or_mark(&mut self) -> Result<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn last(&mut self, count: usize) -> Result<Vec<Id>> {
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= self.floor());
        Ok(self.stack.split_off(start.ok_or_else(short)?))
    }

    fn since_mark(&mut self) -> Result<Vec<Id>> {
        let start = self.marks.pop().ok_or_else(short)?;
        Ok(self.stack.split_off(start))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(short)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    /// The length in front of an instruction's bytes.
    fn len(&mut self, opcode: u8) -> Result<usize> {
        let len = match opcode {
            opcode::LONG1 | opcode::SHORT_BINUNICODE | opcode::SHORT_BINBYTES => {
                u64::from(self.byte()?)
            }
            // Signed; a negative one is too long in any case.
            opcode::LONG4 => i64::from(i32::from_le_bytes(self.array()?)) as u64,
            opcode::BINUNICODE | opcode::BINBYTES => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        usize::try_from(len).map_err(|_| short())
    }

    /// The text up to the end of the line.
    fn line(&mut self) -> Result<&'a str> {
        let len = self.rest.iter().position(|byte| *byte == b'\n').ok_or_else(short)?;
        let line = std::str::from_utf8(self.take(len)?);
        self.take(1)?;
        line.map_err(|_| Error::decode("a pickle with a name that is no UTF-8"))
    }
}

fn pairs(items: Vec<Id>) -> Result<Vec<Id>> {
    if items.len() % 2 == 0 { Ok(items) } else { Err(Error::decode("a pickle with half an entry")) }
}

fn short() -> Error {
    Error::decode("a pickle that ends too early")
}

fn unknown(opcode: u8) -> Error {
    match opcode::name(opcode) {
        Some(name) => {
            Error::decode(format!("a pickle with the opcode {name}, which plain data has not"))
        }
        None => Error::decode(format!("a pickle with the unknown opcode {opcode:#04x}")),
    }
}
