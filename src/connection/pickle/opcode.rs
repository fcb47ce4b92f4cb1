//! The bytes a pickle's instructions begin with: those that are obeyed, and the names of the others.

/// Defines the opcodes that are used, and the names of all.
macro_rules! opcodes {
    (
        used { $($name:ident = $byte:literal,)* }
        refused { $($other:ident = $other_byte:literal,)* }
    ) => {
        $( pub(super) const $name: u8 = $byte; )*

        /// What Python calls the opcode.
        pub(super) fn name(opcode: u8) -> Option<&'static str> {
            match opcode {
                $( $byte => Some(stringify!($name)), )*
                $( $other_byte => Some(stringify!($other)), )*
                _ => None,
            }
        }
    };
}

opcodes! {
    used {
        MARK = b'(',
        STOP = b'.',
        POP = b'0',
        POP_MARK = b'1',
        DUP = b'2',
        BINFLOAT = b'G',
        BININT = b'J',
        BININT1 = b'K',
        BININT2 = b'M',
        NONE = b'N',
        REDUCE = b'R',
        BINUNICODE = b'X',
        APPEND = b'a',
        GLOBAL = b'c',
        DICT = b'd',
        APPENDS = b'e',
        BINGET = b'h',
        LONG_BINGET = b'j',
        LIST = b'l',
        BINPUT = b'q',
        LONG_BINPUT = b'r',
        SETITEM = b's',
        TUPLE = b't',
        SETITEMS = b'u',
        EMPTY_LIST = b']',
        EMPTY_TUPLE = b')',
        EMPTY_DICT = b'}',
        BINBYTES = b'B',
        SHORT_BINBYTES = b'C',
        PROTO = 0x80,
        TUPLE1 = 0x85,
        TUPLE2 = 0x86,
        TUPLE3 = 0x87,
        NEWTRUE = 0x88,
        NEWFALSE = 0x89,
        LONG1 = 0x8a,
        LONG4 = 0x8b,
        SHORT_BINUNICODE = 0x8c,
        BINUNICODE8 = 0x8d,
        BINBYTES8 = 0x8e,
        EMPTY_SET = 0x8f,
        ADDITEMS = 0x90,
        FROZENSET = 0x91,
        STACK_GLOBAL = 0x93,
        MEMOIZE = 0x94,
        FRAME = 0x95,
        BYTEARRAY8 = 0x96,
    }
    refused {
        FLOAT = b'F',
        INT = b'I',
        LONG = b'L',
        PERSID = b'P',
        BINPERSID = b'Q',
        STRING = b'S',
        BINSTRING = b'T',
        SHORT_BINSTRING = b'U',
        UNICODE = b'V',
        BUILD = b'b',
        GET = b'g',
        INST = b'i',
        OBJ = b'o',
        PUT = b'p',
        NEWOBJ = 0x81,
        EXT1 = 0x82,
        EXT2 = 0x83,
        EXT4 = 0x84,
        NEWOBJ_EX = 0x92,
        NEXT_BUFFER = 0x97,
        READONLY_BUFFER = 0x98,
    }
}
