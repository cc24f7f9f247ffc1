use std::fmt;

use crate::Place;

/// A document that cannot be decoded: what is wrong, in which member, and where in the text.
///
/// The text of strings never appears in the message, because a string may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    kind: Box<DecodeErrorKind>,
    place: Place,
    line: usize,
    column: usize,
}

/// What is wrong with a document.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeErrorKind {
    /// Longer than the caller allows; nothing was looked at.
    #[error("expected at most {max_bytes} bytes, got {got_bytes}")]
    TooLarge {
        /// The caller's limit.
        max_bytes: usize,
        /// The length of the text.
        got_bytes: usize,
    },
    /// More list elements and map entries than anyone needs.
    #[error("expected at most {max} list elements and map entries in all, got more", max = crate::MAX_ITEMS)]
    TooManyItems,
    /// Not well-formed JSON.
    #[error("expected {expected}, got {got}")]
    Syntax {
        /// What could stand here.
        expected: &'static str,
        /// What stands here.
        got: String,
    },
    /// Something other than white space after the value.
    #[error("expected the end of the text after the JSON value, got {got}")]
    Trailing {
        /// What follows the value.
        got: String,
    },
    /// Arrays and objects nested deeper than [`crate::MAX_DEPTH`].
    #[error("expected at most {max} levels of nesting, got more", max = crate::MAX_DEPTH)]
    Depth,
    /// Well-formed, but a value of the wrong JSON type.
    #[error("expected {expected}, got {got}")]
    Type {
        /// What the member holds.
        expected: &'static str,
        /// What was given.
        got: ValueKind,
    },
    /// A number that the member cannot hold.
    #[error("expected {expected}, got {got}")]
    Range {
        /// The numbers that fit.
        expected: &'static str,
        /// The literal, shortened; absent where it may be part of a secret.
        got: String,
    },
    /// A string that is not standard base64 with padding.
    #[error("expected standard base64 with padding")]
    Base64,
    /// A string that is not an even number of hexadecimal digits.
    #[error("expected an even number of hexadecimal digits")]
    Hex,
    /// A file encoding that does not exist.
    #[error("expected the encoding \"string\", \"base64\" or \"hex\", got {got:?}")]
    Encoding {
        /// What was given, shortened.
        got: String,
    },
    /// A string that is not a time.
    #[error("expected a time in RFC 3339 form such as \"2031-02-03T04:05:06Z\", got {got:?}")]
    Time {
        /// What was given, shortened.
        got: String,
    },
    /// A string that is not an IP address.
    #[error("expected an IPv4 or IPv6 address without prefix length or zone, got {got:?}")]
    Ip {
        /// What was given, shortened.
        got: String,
    },
    /// A string that is not a dotted object identifier.
    #[error("expected an object identifier in dotted form such as \"1.2.3.4\", got {got:?}")]
    Oid {
        /// What was given, shortened.
        got: String,
    },
    /// Bytes that are not a certificate.
    #[error("expected an X.509 certificate in DER form")]
    Certificate,
}

/// The kinds of JSON values, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}

impl DecodeError {
    /// Wraps a cause with its member and its offset in `text`.
    pub(crate) fn at(kind: DecodeErrorKind, place: Place, text: &[u8], offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        Self {
            kind: Box::new(kind),
            place,
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            column: 1 + before.len() - line_start,
        }
    }

    /// What is wrong.
    pub fn kind(&self) -> &DecodeErrorKind {
        &self.kind
    }

    /// The member it is about; the top of the document for faults of the syntax.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Line in the text, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Byte in the line, counted from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// One word for the cause, stable across releases: `syntax`, `type`, `base64`, ...
    pub fn class(&self) -> &'static str {
        match *self.kind {
            DecodeErrorKind::TooLarge { .. } | DecodeErrorKind::TooManyItems => "size",
            DecodeErrorKind::Syntax { .. } => "syntax",
            DecodeErrorKind::Trailing { .. } => "trailing",
            DecodeErrorKind::Depth => "depth",
            DecodeErrorKind::Type { .. } => "type",
            DecodeErrorKind::Range { .. } => "range",
            DecodeErrorKind::Base64 => "base64",
            DecodeErrorKind::Hex => "hex",
            DecodeErrorKind::Encoding { .. } => "encoding",
            DecodeErrorKind::Time { .. } => "time",
            DecodeErrorKind::Ip { .. } => "ip",
            DecodeErrorKind::Oid { .. } => "oid",
            DecodeErrorKind::Certificate => "certificate",
        }
    }

    /// What the author of the document can do; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match &*self.kind {
            DecodeErrorKind::Syntax { got, .. } if got == "a byte order mark" => {
                Some("save the file as UTF-8 without byte order mark")
            }
            DecodeErrorKind::Syntax { got, .. } if got == "'/'" || got == "'#'" => Some("JSON has no comments"),
            DecodeErrorKind::Syntax { expected: "a member name in quotes", got } if got == "'}'" => {
                Some("a comma must not stand before the closing bracket")
            }
            DecodeErrorKind::Syntax { expected: "a JSON value", got } if got == "']'" => {
                Some("a comma must not stand before the closing bracket")
            }
            DecodeErrorKind::Type { expected: "a string", got: ValueKind::Number } => {
                Some("put the value in quotes; YAML reads digits without quotes as a number")
            }
            DecodeErrorKind::Base64 => Some("the alphabet is A-Z a-z 0-9 + /, the padding =, without blanks"),
            _ => None,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_top() {
            write!(f, "{}: ", self.place)?;
        }
        if matches!(*self.kind, DecodeErrorKind::TooLarge { .. }) {
            return self.kind.fmt(f);
        }
        write!(f, "{} (line {}, column {})", self.kind, self.line, self.column)
    }
}

impl std::error::Error for DecodeError {}
