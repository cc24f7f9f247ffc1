//! Verbs by type of value (Go fmt, `printArg` and `printValue`).

use zeroize::Zeroizing;

use crate::error::ErrorKind;
use crate::text::decode;
use crate::value::{Bytes, List, Object, Value};

use super::printer::Printer;
use super::{Fallible, quote};

const LOWER: &[u8; 17] = b"0123456789abcdefx";
const UPPER: &[u8; 17] = b"0123456789ABCDEFX";

impl Printer<'_> {
    /// Prints `value` with `verb` and the current flags.
    pub(super) fn value(&mut self, value: &Value, verb: char) -> Fallible {
        if verb == 'T' {
            let name = if matches!(value, Value::Nil) { "<nil>" } else { value.type_name() };
            return self.text(name.as_bytes(), 's');
        }
        match value {
            Value::Nil if verb == 'v' => self.pad(b"<nil>"),
            Value::Nil => self.bad_verb(value, verb),
            Value::Bool(boolean) => match verb {
                't' | 'v' => self.pad(if *boolean { b"true" } else { b"false" }),
                _ => self.bad_verb(value, verb),
            },
            Value::Int(number, _) => self.integer(value, number.unsigned_abs(), *number < 0, true, verb),
            Value::Uint(number, _) => self.integer(value, *number, false, false, verb),
            Value::Float(number) => self.float_verb(value, *number, verb),
            Value::Complex(real, imaginary) => self.complex(value, *real, *imaginary, verb),
            Value::String(view) => match verb {
                'v' if self.flags.sharp_v => self.text(view.as_slice(), 'q'),
                'v' => self.text(view.as_slice(), 's'),
                's' | 'q' | 'x' | 'X' => self.text(view.as_slice(), verb),
                _ => self.bad_verb(value, verb),
            },
            Value::Bytes(bytes) => self.bytes(bytes, verb),
            Value::List(list) => self.list(list, verb),
            Value::Map(map) => {
                self.budget.charge_steps(map.len() as u64)?;
                if self.flags.sharp_v {
                    return Err(unprintable(value));
                }
                self.write(b"map[")?;
                for (i, key) in map.keys().into_iter().enumerate() {
                    if i > 0 {
                        self.write(b" ")?;
                    }
                    let element = map.get(&key).unwrap_or(Value::Nil);
                    self.value(&Value::string_from(key.into_bytes()), verb)?;
                    self.write(b":")?;
                    self.value(&element, verb)?;
                }
                self.write(b"]")
            }
            Value::Object(object) => self.object(value, object.as_ref(), verb),
            Value::BigInt(number) => self.big_integer(number, verb),
        }
    }

    /// A structure with a text form takes the verbs of strings.
    fn object(&mut self, value: &Value, object: &dyn Object, verb: char) -> Fallible {
        let text = if self.flags.sharp_v { None } else { object.text() };
        match (text, verb) {
            (Some(text), 'v' | 's') => self.text(text.as_bytes(), 's'),
            (Some(text), 'x' | 'X' | 'q') => self.text(text.as_bytes(), verb),
            _ => Err(unprintable(value)),
        }
    }

    fn complex(&mut self, value: &Value, real: f64, imaginary: f64, verb: char) -> Fallible {
        if !matches!(verb, 'v' | 'b' | 'g' | 'G' | 'x' | 'X' | 'f' | 'F' | 'e' | 'E') {
            return self.bad_verb(value, verb);
        }
        let plus = self.flags.plus;
        self.write(b"(")?;
        self.float_verb(value, real, verb)?;
        self.flags.plus = true;
        self.float_verb(value, imaginary, verb)?;
        self.flags.plus = plus;
        self.write(b"i)")
    }

    fn bytes(&mut self, bytes: &Bytes, verb: char) -> Fallible {
        if let Some(text) = bytes.bytes_type().text
            && !self.flags.sharp_v
        {
            match verb {
                'v' | 's' => return self.text(text(bytes.as_slice()).as_bytes(), 's'),
                'x' | 'X' | 'q' => return self.text(text(bytes.as_slice()).as_bytes(), verb),
                _ => {}
            }
        }
        match verb {
            's' | 'q' | 'x' | 'X' => self.text(bytes.as_slice(), verb),
            _ if self.flags.sharp_v => {
                let name = bytes.bytes_type().name;
                self.write(if name == "[]uint8" { b"[]byte" } else { name.as_bytes() })?;
                if bytes.is_nil {
                    return self.write(b"(nil)");
                }
                self.write(b"{")?;
                for (i, byte) in bytes.as_slice().iter().enumerate() {
                    if i > 0 {
                        self.write(b", ")?;
                    }
                    self.value(&element(*byte), verb)?;
                }
                self.write(b"}")
            }
            _ => {
                self.write(b"[")?;
                for (i, byte) in bytes.as_slice().iter().enumerate() {
                    if i > 0 {
                        self.write(b" ")?;
                    }
                    self.value(&element(*byte), verb)?;
                }
                self.write(b"]")
            }
        }
    }

    fn list(&mut self, list: &List, verb: char) -> Fallible {
        let (open, separator, close): (&[u8], &[u8], &[u8]) =
            if self.flags.sharp_v { (b"{", b", ", b"}") } else { (b"[", b" ", b"]") };
        if self.flags.sharp_v {
            self.write(list.type_name.as_bytes())?;
        }
        self.write(open)?;
        for (i, item) in list.as_slice().iter().enumerate() {
            if i > 0 {
                self.write(separator)?;
            }
            self.value(item, verb)?;
        }
        self.write(close)
    }

    /// Text with one of the verbs `s`, `q`, `x`, `X`.
    pub(super) fn text(&mut self, text: &[u8], verb: char) -> Fallible {
        match verb {
            'x' => self.hex(text, LOWER),
            'X' => self.hex(text, UPPER),
            'q' => {
                let text = self.truncated(text);
                self.budget.charge_scan(text.len())?;
                let quoted = if self.flags.sharp && quote::can_backquote(text) {
                    self.budget.charge_value(text.len() + 2)?;
                    Zeroizing::new([b"`", text, b"`"].concat())
                } else {
                    self.budget.charge_value(quote::quoted_len(text, self.flags.plus))?;
                    quote::string(text, self.flags.plus)
                };
                self.pad(&quoted)
            }
            _ => {
                let text = self.truncated(text);
                self.pad(text)
            }
        }
    }

    /// At most as many characters as the precision says.
    fn truncated<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let Some(precision) = self.flags.precision else {
            return text;
        };
        let mut end = 0;
        for _ in 0..precision {
            match decode(&text[end..]) {
                Some((_, length)) => end += length,
                None => break,
            }
        }
        &text[..end]
    }

    fn hex(&mut self, text: &[u8], digits: &[u8; 17]) -> Fallible {
        let text = &text[..self.flags.precision.unwrap_or(text.len()).min(text.len())];
        let flags = self.flags;
        if text.is_empty() {
            return self.padding(flags.width.unwrap_or(0));
        }
        let mut width = 2 * text.len();
        if flags.space {
            width = if flags.sharp { width * 2 } else { width } + text.len() - 1;
        } else if flags.sharp {
            width += 2;
        }
        let missing = flags.width.unwrap_or(0).saturating_sub(width);
        if !flags.minus {
            self.padding(missing)?;
        }
        let prefix = [b'0', digits[16]];
        for (i, byte) in text.iter().enumerate() {
            if i > 0 && flags.space {
                self.write(b" ")?;
            }
            if flags.sharp && (i == 0 || flags.space) {
                self.write(&prefix)?;
            }
            self.write(&[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]])?;
        }
        if flags.minus {
            self.padding(missing)?;
        }
        Ok(())
    }
}

fn element(byte: u8) -> Value {
    Value::Uint(u64::from(byte), crate::value::UintType::Uint8)
}

fn unprintable(value: &Value) -> ErrorKind {
    ErrorKind::Unprintable { type_name: value.type_name().to_owned() }
}
