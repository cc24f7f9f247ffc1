//! Checks that a text is well-formed JSON (RFC 8259) before anything is decoded from it.

use crate::error::DecodeErrorKind;

/// Arrays and objects may be nested this deep, as in Go's `encoding/json`.
pub const MAX_DEPTH: usize = 10_000;

/// A cause and the offset at which it was noticed.
#[derive(Debug)]
pub(crate) struct ScanError {
    pub(crate) kind: DecodeErrorKind,
    pub(crate) offset: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Array,
    Object,
}

/// The offset after the first value of `text`.
///
/// The stack of open containers is explicit: the depth costs one byte per level, not a native stack frame.
pub(crate) fn scan_value(text: &[u8]) -> Result<usize, ScanError> {
    let mut scanner = Scanner { text, offset: 0 };
    let mut open: Vec<Container> = Vec::new();
    loop {
        // A value is due here.
        scanner.skip_space();
        match scanner.peek() {
            Some(bracket @ (b'{' | b'[')) => {
                if open.len() == MAX_DEPTH {
                    return Err(ScanError { kind: DecodeErrorKind::Depth, offset: scanner.offset });
                }
                scanner.offset += 1;
                scanner.skip_space();
                let (container, close) =
                    if bracket == b'{' { (Container::Object, b'}') } else { (Container::Array, b']') };
                if scanner.peek() != Some(close) {
                    open.push(container);
                    if container == Container::Object {
                        scanner.member_name("a member name in quotes or '}'")?;
                    }
                    continue;
                }
                scanner.offset += 1;
            }
            Some(b'"') => scanner.string()?,
            Some(b'-' | b'0'..=b'9') => scanner.number()?,
            Some(b't') => scanner.literal(b"true")?,
            Some(b'f') => scanner.literal(b"false")?,
            Some(b'n') => scanner.literal(b"null")?,
            _ => return Err(scanner.unexpected("a JSON value")),
        }
        // A value has just ended; close what ends with it.
        loop {
            let Some(container) = open.last().copied() else {
                return Ok(scanner.offset);
            };
            scanner.skip_space();
            match (container, scanner.peek()) {
                (Container::Object, Some(b',')) => {
                    scanner.offset += 1;
                    scanner.skip_space();
                    scanner.member_name("a member name in quotes")?;
                    break;
                }
                (Container::Array, Some(b',')) => {
                    scanner.offset += 1;
                    break;
                }
                (Container::Object, Some(b'}')) | (Container::Array, Some(b']')) => {
                    scanner.offset += 1;
                    open.pop();
                }
                (Container::Object, _) => return Err(scanner.unexpected("',' or '}'")),
                (Container::Array, _) => return Err(scanner.unexpected("',' or ']'")),
            }
        }
    }
}

/// Describes what stands at `offset`; one character at most, so that no secret is repeated.
pub(crate) fn describe(text: &[u8], offset: usize) -> String {
    let rest = text.get(offset..).unwrap_or_default();
    if rest.starts_with(b"\xef\xbb\xbf") {
        return "a byte order mark".into();
    }
    let window = rest.get(..4).unwrap_or(rest);
    let valid = match std::str::from_utf8(window) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&window[..error.valid_up_to()]).unwrap_or_default(),
    };
    match (valid.chars().next(), rest.first()) {
        (Some(character), _) => format!("{character:?}"),
        (None, Some(byte)) => format!("the byte 0x{byte:02x}"),
        (None, None) => "the end of the text".into(),
    }
}

pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

struct Scanner<'text> {
    text: &'text [u8],
    offset: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.offset += 1;
        }
    }

    fn unexpected(&self, expected: &'static str) -> ScanError {
        let got = describe(self.text, self.offset);
        ScanError { kind: DecodeErrorKind::Syntax { expected, got }, offset: self.offset }
    }

    /// A member name and its colon.
    fn member_name(&mut self, expected: &'static str) -> Result<(), ScanError> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected(expected));
        }
        self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("':' after the member name"));
        }
        self.offset += 1;
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), ScanError> {
        for expected in word {
            if self.peek() != Some(*expected) {
                return Err(self.unexpected("true, false or null"));
            }
            self.offset += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), ScanError> {
        self.offset += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.offset += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.offset += 1;
                    self.escape()?;
                }
                Some(0..=0x1f) => return Err(self.unexpected("an escape in place of the control character")),
                Some(_) => self.offset += 1,
                None => return Err(self.unexpected("'\"' at the end of the string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.offset += 1;
                Ok(())
            }
            Some(b'u') => {
                self.offset += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.unexpected("four hexadecimal digits after \\u"));
                    }
                    self.offset += 1;
                }
                Ok(())
            }
            _ => Err(self.unexpected("one of \" \\ / b f n r t u after the backslash")),
        }
    }

    fn number(&mut self) -> Result<(), ScanError> {
        if self.peek() == Some(b'-') {
            self.offset += 1;
        }
        if self.peek() == Some(b'0') {
            self.offset += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.offset += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.offset += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.offset += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.unexpected("a digit"));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.offset += 1;
        }
        Ok(())
    }
}
