//! Quoted strings and characters (Go strconv, `Quote`).

use zeroize::Zeroizing;

use crate::text::{decode, is_ill_formed, is_print};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// True if the text can stand between backquotes: one line of printable UTF-8 without backquotes.
pub(super) fn can_backquote(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((c, length)) = decode(rest) {
        if is_ill_formed(rest) || c == '\u{feff}' || (c < ' ' && c != '\t') || c == '`' || c == '\x7f' {
            return false;
        }
        rest = &rest[length..];
    }
    true
}

/// Length of [`string`]'s result.
pub(super) fn quoted_len(text: &[u8], ascii: bool) -> usize {
    let mut length = 2;
    each(text, b'"', ascii, |part| length += part.len());
    length
}

/// The text between double quotes, with escapes; in ASCII only if `ascii`.
pub(super) fn string(text: &[u8], ascii: bool) -> Zeroizing<Vec<u8>> {
    // Exact capacity: a vector that grows would leave copies behind.
    let mut quoted = Zeroizing::new(Vec::with_capacity(quoted_len(text, ascii)));
    quoted.push(b'"');
    each(text, b'"', ascii, |part| quoted.extend_from_slice(part));
    quoted.push(b'"');
    quoted
}

/// The character between single quotes, with escapes.
pub(super) fn character(c: char, ascii: bool) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    each(c.encode_utf8(&mut [0; 4]).as_bytes(), b'\'', ascii, |part| quoted.extend_from_slice(part));
    quoted.push(b'\'');
    quoted
}

fn each(text: &[u8], quote: u8, ascii: bool, mut emit: impl FnMut(&[u8])) {
    let mut rest = text;
    while let Some((c, length)) = decode(rest) {
        let (head, tail) = rest.split_at(length);
        if length == 1 && !c.is_ascii() {
            let byte = usize::from(head[0]);
            emit(&[b'\\', b'x', HEX[byte >> 4], HEX[byte & 15]]);
        } else {
            escape(c, head, quote, ascii, &mut emit);
        }
        rest = tail;
    }
}

fn escape(c: char, encoded: &[u8], quote: u8, ascii: bool, emit: &mut impl FnMut(&[u8])) {
    match c {
        '\\' => emit(b"\\\\"),
        _ if c == char::from(quote) => emit(&[b'\\', quote]),
        _ if is_print(c) && (c.is_ascii() || !ascii) => emit(encoded),
        '\x07' => emit(b"\\a"),
        '\x08' => emit(b"\\b"),
        '\x0c' => emit(b"\\f"),
        '\n' => emit(b"\\n"),
        '\r' => emit(b"\\r"),
        '\t' => emit(b"\\t"),
        '\x0b' => emit(b"\\v"),
        c if c < ' ' || c == '\x7f' => {
            let byte = c as usize;
            emit(&[b'\\', b'x', HEX[byte >> 4], HEX[byte & 15]]);
        }
        c if u32::from(c) < 0x10000 => emit(format!("\\u{:04x}", u32::from(c)).as_bytes()),
        c => emit(format!("\\U{:08x}", u32::from(c)).as_bytes()),
    }
}
