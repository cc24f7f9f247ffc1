use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::RawJson;

/// A value that can be written as JSON, byte for byte as Go's `encoding/json` writes it.
pub trait Encode {
    /// Appends the value to `out`.
    fn encode(&self, out: &mut String);
}

/// The JSON text of a value.
pub fn encode(value: &(impl Encode + ?Sized)) -> String {
    let mut out = String::new();
    value.encode(&mut out);
    out
}

/// Writes an object member by member, in the order of the calls.
///
/// ```
/// let mut out = String::new();
/// marblerun_json::ObjectEncoder::new(&mut out).member("code", &3_u64).member("message", "ok").finish();
/// assert_eq!(out, r#"{"code":3,"message":"ok"}"#);
/// ```
#[must_use = "an object is complete only after finish()"]
pub struct ObjectEncoder<'out> {
    out: &'out mut String,
    empty: bool,
}

impl<'out> ObjectEncoder<'out> {
    /// Opens the object.
    pub fn new(out: &'out mut String) -> Self {
        out.push('{');
        Self { out, empty: true }
    }

    /// Writes a member.
    pub fn member(mut self, name: &str, value: &(impl Encode + ?Sized)) -> Self {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
        name.encode(self.out);
        self.out.push(':');
        value.encode(self.out);
        self
    }

    /// Writes a member unless there is no value; an `Option` given to [`ObjectEncoder::member`] becomes `null` instead.
    pub fn optional(self, name: &str, value: Option<&(impl Encode + ?Sized)>) -> Self {
        match value {
            Some(value) => self.member(name, value),
            None => self,
        }
    }

    /// Closes the object.
    pub fn finish(self) {
        self.out.push('}');
    }
}

impl Encode for str {
    fn encode(&self, out: &mut String) {
        out.push('"');
        push_escaped(self, out);
        out.push('"');
    }
}

/// Writes text that may be ill-formed as a string; each ill-formed byte becomes `\ufffd`.
pub fn write_bytes_as_string(mut text: &[u8], out: &mut String) {
    out.push('"');
    loop {
        match std::str::from_utf8(text) {
            Ok(valid) => {
                push_escaped(valid, out);
                break;
            }
            Err(error) => {
                let (valid, rest) = text.split_at(error.valid_up_to());
                push_escaped(std::str::from_utf8(valid).unwrap_or_default(), out);
                out.push_str("\\ufffd");
                text = rest.get(1..).unwrap_or_default();
            }
        }
    }
    out.push('"');
}

/// Escapes what JSON demands, and `<`, `>`, `&`, U+2028, U+2029 as well, so that a text can stand in HTML and script.
fn push_escaped(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
}

impl Encode for String {
    fn encode(&self, out: &mut String) {
        self.as_str().encode(out);
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Encode for u64 {
    fn encode(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }
}

impl Encode for i64 {
    fn encode(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }
}

/// `null` if there is no value.
impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut String) {
        match self {
            Some(value) => value.encode(out),
            None => out.push_str("null"),
        }
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, out: &mut String) {
        T::encode(self, out);
    }
}

/// Bytes are standard base64 with padding.
impl Encode for [u8] {
    fn encode(&self, out: &mut String) {
        out.push('"');
        STANDARD.encode_string(self, out);
        out.push('"');
    }
}

impl Encode for Vec<u8> {
    fn encode(&self, out: &mut String) {
        self.as_slice().encode(out);
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, out: &mut String) {
        out.push('[');
        for (index, element) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            element.encode(out);
        }
        out.push(']');
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut String) {
        self.as_slice().encode(out);
    }
}

/// Keys sorted by bytes.
impl<T: Encode> Encode for BTreeMap<String, T> {
    fn encode(&self, out: &mut String) {
        let mut object = ObjectEncoder::new(out);
        for (key, value) in self {
            object = object.member(key, value);
        }
        object.finish();
    }
}

/// Written as it is; `null` if it is empty. It must be well-formed JSON.
impl Encode for RawJson {
    fn encode(&self, out: &mut String) {
        if self.0.is_empty() {
            out.push_str("null");
        } else {
            out.push_str(&String::from_utf8_lossy(&self.0));
        }
    }
}
