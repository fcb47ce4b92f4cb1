//! `Display` as Python's `repr`.

use super::Object;
use std::fmt::{self, Display, Formatter, Write};

/// What Python's `repr` gives.
///
/// Which characters of other scripts are printed and which are escaped depends on the version of Unicode
/// that this library was compiled with, as it does in Python.
impl Display for Object {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Object::None => f.write_str("None"),
            Object::Bool(true) => f.write_str("True"),
            Object::Bool(false) => f.write_str("False"),
            Object::Int(value) => write!(f, "{value}"),
            Object::BigInt(value) => write!(f, "{value}"),
            Object::Float(value) => float(*value, f),
            Object::Str(text) => string(text, f),
            Object::Bytes(value) => bytes(value, f),
            Object::List(items) => joined("[", items, "]", f),
            Object::Tuple(items) if items.len() == 1 => write!(f, "({},)", items[0]),
            Object::Tuple(items) => joined("(", items, ")", f),
            Object::Dict(dict) => joined("{", dict.iter().map(Entry), "}", f),
            Object::Set(set) if set.is_empty() => f.write_str("set()"),
            Object::Set(set) => joined("{", set.iter(), "}", f),
        }
    }
}

/// An entry of a dict.
struct Entry<'a>((&'a Object, &'a Object));

impl Display for Entry<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Entry((key, value)) = self;
        write!(f, "{key}: {value}")
    }
}

fn joined<T: Display>(
    open: &str,
    items: impl IntoIterator<Item = T>,
    close: &str,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    f.write_str(open)?;
    for (place, item) in items.into_iter().enumerate() {
        let separator = if place == 0 { "" } else { ", " };
        write!(f, "{separator}{item}")?;
    }
    f.write_str(close)
}

/// The shortest digits that read back as `value`: with a point for exponents from -4 to 15, in scientific
/// notation beyond.
fn float(value: f64, f: &mut Formatter<'_>) -> fmt::Result {
    if value.is_nan() {
        return f.write_str("nan");
    }
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_infinite() {
        return write!(f, "{sign}inf");
    }
    if value == 0.0 {
        return write!(f, "{sign}0.0");
    }
    // `{:e}` has the same shortest digits, as "d.ddde-7".
    let scientific = format!("{:e}", value.abs());
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        exponent @ -4..16 => {
            let plain = value.abs().to_string();
            let fraction = if exponent >= 0 && !plain.contains('.') { ".0" } else { "" };
            write!(f, "{sign}{plain}{fraction}")
        }
        exponent => {
            let direction = if exponent < 0 { '-' } else { '+' };
            write!(f, "{sign}{digits}e{direction}{:02}", exponent.unsigned_abs())
        }
    }
}

/// The quote that needs fewer escapes: the single one, unless only it is inside.
fn quote(single: bool, double: bool) -> char {
    if single && !double { '"' } else { '\'' }
}

fn string(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    let quote = quote(text.contains('\''), text.contains('"'));
    f.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            _ if character == quote => write!(f, "\\{quote}")?,
            _ if is_printable(character) => f.write_char(character)?,
            '\0'..='\u{ff}' => write!(f, "\\x{:02x}", u32::from(character))?,
            '\u{100}'..='\u{ffff}' => write!(f, "\\u{:04x}", u32::from(character))?,
            _ => write!(f, "\\U{:08x}", u32::from(character))?,
        }
    }
    f.write_char(quote)
}

/// Whether Python's `str.isprintable` holds. std asks the same tables when it escapes for debugging, but
/// escapes combining characters as well unless one stands before them.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    let mut buffer = [b'a'; 5];
    let len = 1 + character.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..len])
        .is_ok_and(|pair| pair.escape_debug().nth(1) == Some(character))
}

fn bytes(bytes: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    let quote = quote(bytes.contains(&b'\''), bytes.contains(&b'"'));
    write!(f, "b{quote}")?;
    for byte in bytes {
        match byte {
            b'\n' => f.write_str("\\n")?,
            b'\r' => f.write_str("\\r")?,
            b'\t' => f.write_str("\\t")?,
            b'\\' => f.write_str("\\\\")?,
            b' '..=b'~' if char::from(*byte) == quote => write!(f, "\\{quote}")?,
            b' '..=b'~' => f.write_char(char::from(*byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    f.write_char(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_prints<const N: usize>(pairs: [(Object, &str); N]) {
        for (object, text) in pairs {
            assert_eq!(object.to_string(), text);
        }
    }

    #[test]
    fn floats_print_as_in_python() {
        let pairs: [(f64, &str); 16] = [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (123456789012345.67, "123456789012345.67"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1.25e-7, "-1.25e-07"),
            (1e100, "1e+100"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ];
        assert_prints(pairs.map(|(value, text)| (Object::Float(value), text)));
    }

    #[test]
    fn strings_are_quoted_and_escaped_as_in_python() {
        assert_prints([
            ("hello".into(), "'hello'"),
            ("it's".into(), r#""it's""#),
            (r#"say "it's""#.into(), r#"'say "it\'s"'"#),
            ("a\n\t\r\\\0\x7f".into(), r"'a\n\t\r\\\x00\x7f'"),
            (
                "é\u{a0}\u{ad}\u{301}\u{2028}\u{e000}\u{10ffff}".into(),
                "'é\\xa0\\xad\u{301}\\u2028\\ue000\\U0010ffff'",
            ),
            ("日本 😀".into(), "'日本 😀'"),
        ]);
    }

    #[test]
    fn bytes_are_quoted_and_escaped_as_in_python() {
        assert_prints([
            (Object::from(b"ab\n\x00\xff"), r"b'ab\n\x00\xff'"),
            (Object::from(b"it's"), r#"b"it's""#),
            (Object::from(b"'\""), r#"b'\'"'"#),
        ]);
    }

    #[test]
    fn containers_print_as_in_python() {
        assert_prints([
            (Object::list([42.into(), Object::None, "hello".into()]), "[42, None, 'hello']"),
            (Object::tuple([]), "()"),
            (Object::tuple([1.into()]), "(1,)"),
            (Object::from((1, true)), "(1, True)"),
            (Object::set([]), "set()"),
            (Object::set([1.into(), 2.into()]), "{1, 2}"),
            (Object::dict([]), "{}"),
            (Object::dict([("a".into(), Object::list([]))]), "{'a': []}"),
        ]);
    }
}
