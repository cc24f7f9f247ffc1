//! The built-in functions (Go text/template, "Functions").

use crate::budget::{Budget, Buffer, Charge};
use crate::error::ErrorKind;
use crate::fmt;
use crate::text::{decode, is_print};
use crate::value::{Param, UintType, Value};

type Fallible<T> = Result<T, ErrorKind>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    And,
    Or,
    Not,
    Len,
    Index,
    Slice,
    Print,
    Printf,
    Println,
    Html,
    Js,
    UrlQuery,
    Call,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// The parameters of a function: fixed ones, then any number of values if `variadic`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature {
    pub(crate) fixed: &'static [Param],
    pub(crate) variadic: bool,
}

impl Builtin {
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "and" => Self::And,
            "or" => Self::Or,
            "not" => Self::Not,
            "len" => Self::Len,
            "index" => Self::Index,
            "slice" => Self::Slice,
            "print" => Self::Print,
            "printf" => Self::Printf,
            "println" => Self::Println,
            "html" => Self::Html,
            "js" => Self::Js,
            "urlquery" => Self::UrlQuery,
            "call" => Self::Call,
            "eq" => Self::Eq,
            "ne" => Self::Ne,
            "lt" => Self::Lt,
            "le" => Self::Le,
            "gt" => Self::Gt,
            "ge" => Self::Ge,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Or => "or",
            Self::Not => "not",
            Self::Len => "len",
            Self::Index => "index",
            Self::Slice => "slice",
            Self::Print => "print",
            Self::Printf => "printf",
            Self::Println => "println",
            Self::Html => "html",
            Self::Js => "js",
            Self::UrlQuery => "urlquery",
            Self::Call => "call",
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::Gt => "gt",
            Self::Ge => "ge",
        }
    }

    pub(crate) fn signature(self) -> Signature {
        let (fixed, variadic): (&'static [Param], bool) = match self {
            Self::Print | Self::Println | Self::Html | Self::Js | Self::UrlQuery => (&[], true),
            Self::Printf => (&[Param::String], true),
            Self::And | Self::Or | Self::Index | Self::Slice | Self::Call | Self::Eq => (&[Param::Any], true),
            Self::Not | Self::Len => (&[Param::Any], false),
            Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge => (&[Param::Any, Param::Any], false),
        };
        Signature { fixed, variadic }
    }

    /// Calls the function; the arguments fit its signature.
    pub(crate) fn call(self, arguments: &[Value], budget: &mut Budget) -> Fallible<Value> {
        let (first, rest) = match arguments {
            [first, rest @ ..] => (first, rest),
            [] => (&Value::Nil, &[][..]),
        };
        match self {
            // The executor answers these itself, because they evaluate only what they need.
            Self::And | Self::Or => Ok(arguments.last().cloned().unwrap_or(Value::Nil)),
            Self::Not => Ok(Value::Bool(!first.is_true())),
            Self::Len => self.len(first),
            Self::Index => self.index(first, rest),
            Self::Slice => self.slice(first, rest),
            Self::Print => Value::build_string(budget, |out, budget| fmt::print(out, arguments, budget)),
            Self::Println => Value::build_string(budget, |out, budget| fmt::println(out, arguments, budget)),
            Self::Printf => {
                let Value::String(format) = first else {
                    return Err(self.bad_argument(first));
                };
                Value::build_string(budget, |out, budget| fmt::printf(out, format.as_slice(), rest, budget))
            }
            Self::Html => escaped(arguments, budget, html_escape),
            Self::Js => escaped(arguments, budget, js_escape),
            Self::UrlQuery => escaped(arguments, budget, query_escape),
            // No function value can be reached by a template.
            Self::Call => Err(ErrorKind::NotAFunction),
            Self::Eq => {
                if rest.is_empty() {
                    return Err(ErrorKind::ArgCount {
                        function: "eq".to_owned(),
                        expected: "at least 2 arguments".to_owned(),
                        got: arguments.len(),
                    });
                }
                for other in rest {
                    if self.equal(first, other, budget)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge => {
                let second = rest.first().unwrap_or(&Value::Nil);
                let verdict = match self {
                    Self::Ne => !self.equal(first, second, budget)?,
                    Self::Lt => self.less(first, second, budget)?,
                    Self::Le => self.less(first, second, budget)? || self.equal(first, second, budget)?,
                    Self::Gt => !(self.less(first, second, budget)? || self.equal(first, second, budget)?),
                    _ => !self.less(first, second, budget)?,
                };
                Ok(Value::Bool(verdict))
            }
        }
    }

    fn bad_argument(self, value: &Value) -> ErrorKind {
        ErrorKind::ArgType { function: self.name().to_owned(), got: value.type_name().to_owned() }
    }

    fn len(self, value: &Value) -> Fallible<Value> {
        let length = match value {
            Value::String(view) => view.len(),
            Value::Bytes(bytes) => bytes.view.len(),
            Value::List(list) => list.as_slice().len(),
            Value::Map(map) => map.len(),
            other => return Err(self.bad_argument(other)),
        };
        Ok(Value::length(length)?)
    }

    /// An integer argument as a position of at most `max`.
    fn position(self, value: &Value, max: usize) -> Fallible<usize> {
        let position = match value {
            Value::Int(value, _) => usize::try_from(*value).ok(),
            Value::Uint(value, _) => usize::try_from(*value).ok(),
            other => return Err(self.bad_argument(other)),
        };
        position.filter(|p| *p <= max).ok_or(ErrorKind::IndexRange { function: self.name() })
    }

    fn index(self, value: &Value, indices: &[Value]) -> Fallible<Value> {
        if matches!(value, Value::Nil) {
            return Err(self.bad_argument(value));
        }
        let range = ErrorKind::IndexRange { function: self.name() };
        let mut item = value.clone();
        for index in indices {
            item = match &item {
                Value::String(view) => {
                    let position = self.position(index, view.len())?;
                    let byte = *view.as_slice().get(position).ok_or(range.clone())?;
                    Value::Uint(u64::from(byte), UintType::Uint8)
                }
                Value::Bytes(bytes) => {
                    let position = self.position(index, bytes.view.len())?;
                    let byte = *bytes.as_slice().get(position).ok_or(range.clone())?;
                    Value::Uint(u64::from(byte), UintType::Uint8)
                }
                Value::List(list) => {
                    let position = self.position(index, list.as_slice().len())?;
                    list.as_slice().get(position).ok_or(range.clone())?.clone()
                }
                Value::Map(map) => {
                    let Value::String(key) = index else {
                        return Err(self.bad_argument(index));
                    };
                    // Names that are not UTF-8 are in no map.
                    let found = std::str::from_utf8(key.as_slice()).ok().and_then(|key| map.get(key));
                    found.unwrap_or_else(|| map.zero())
                }
                other => return Err(self.bad_argument(other)),
            };
        }
        Ok(item)
    }

    fn slice(self, value: &Value, bounds: &[Value]) -> Fallible<Value> {
        let count = |max: usize| ErrorKind::ArgCount {
            function: "slice".to_owned(),
            expected: format!("at most {max} bounds"),
            got: bounds.len(),
        };
        if matches!(value, Value::Nil) {
            return Err(self.bad_argument(value));
        }
        if bounds.len() > 3 {
            return Err(count(3));
        }
        let (length, capacity) = match value {
            Value::String(_) if bounds.len() == 3 => return Err(count(2)),
            Value::String(view) => (view.len(), view.len()),
            Value::Bytes(bytes) => (bytes.view.len(), bytes.view.capacity()),
            Value::List(list) => (list.as_slice().len(), list.capacity()),
            other => return Err(self.bad_argument(other)),
        };
        let mut limits = [0, length, capacity];
        for (limit, bound) in limits.iter_mut().zip(bounds) {
            *limit = self.position(bound, capacity)?;
        }
        let [from, to, end] = limits;
        if from > to || to > end {
            return Err(ErrorKind::IndexRange { function: self.name() });
        }
        Ok(match value {
            Value::String(view) => Value::String(view.part(from, to, to)),
            Value::Bytes(bytes) => {
                let mut part = bytes.clone();
                part.view = bytes.view.part(from, to, end);
                Value::Bytes(part)
            }
            Value::List(list) => Value::List(list.part(from, to, end)),
            other => return Err(self.bad_argument(other)),
        })
    }

    fn incomparable(self, left: &Value, right: &Value) -> ErrorKind {
        ErrorKind::Comparison {
            function: self.name(),
            left: left.type_name().to_owned(),
            right: right.type_name().to_owned(),
        }
    }

    fn equal(self, left: &Value, right: &Value, budget: &mut Budget) -> Fallible<bool> {
        use Value::{BigInt, Bool, Bytes, Complex, Float, Int, List, Map, Nil, Object, String, Uint};
        Ok(match (left, right) {
            (Nil, Nil) => true,
            (Nil, Bytes(bytes)) | (Bytes(bytes), Nil) => bytes.is_nil,
            (Nil, BigInt(number)) | (BigInt(number), Nil) => number.magnitude.is_none(),
            (Nil, _) | (_, Nil) => false,
            (Bool(a), Bool(b)) => a == b,
            (Int(a, _), Int(b, _)) => a == b,
            (Uint(a, _), Uint(b, _)) => a == b,
            (Int(a, _), Uint(b, _)) | (Uint(b, _), Int(a, _)) => u64::try_from(*a) == Ok(*b),
            (Float(a), Float(b)) => a == b,
            (Complex(a, b), Complex(c, d)) => a == c && b == d,
            (String(a), String(b)) => {
                budget.charge_scan(a.len().min(b.len()))?;
                a.as_slice() == b.as_slice()
            }
            (Object(a), Object(b)) => a.equals(b.as_ref()).ok_or_else(|| self.incomparable(left, right))?,
            (BigInt(a), BigInt(b)) => std::sync::Arc::ptr_eq(a, b) || (a.magnitude.is_none() && b.magnitude.is_none()),
            (Bytes(_) | List(_) | Map(_) | Object(_) | BigInt(_), _) | (_, _) => {
                return Err(self.incomparable(left, right));
            }
        })
    }

    fn less(self, left: &Value, right: &Value, budget: &mut Budget) -> Fallible<bool> {
        use Value::{Float, Int, String, Uint};
        Ok(match (left, right) {
            (Int(a, _), Int(b, _)) => a < b,
            (Uint(a, _), Uint(b, _)) => a < b,
            (Int(a, _), Uint(b, _)) => u64::try_from(*a).map_or(true, |a| a < *b),
            (Uint(a, _), Int(b, _)) => u64::try_from(*b).is_ok_and(|b| *a < b),
            (Float(a), Float(b)) => a < b,
            (String(a), String(b)) => {
                budget.charge_scan(a.len().min(b.len()))?;
                a.as_slice() < b.as_slice()
            }
            _ => return Err(self.incomparable(left, right)),
        })
    }
}

type Escape = fn(&mut Buffer, &[u8], &mut Budget) -> Fallible<()>;

/// The arguments as `print` shows them, except that no value is `<no value>`, then escaped.
fn escaped(arguments: &[Value], budget: &mut Budget, escape: Escape) -> Fallible<Value> {
    let mut printed = Buffer::new(Charge::Value);
    fmt::print_for_escape(&mut printed, arguments, budget)?;
    let printed = printed.into_secret();
    Value::build_string(budget, |out, budget| escape(out, printed.expose(), budget))
}

fn html_escape(out: &mut Buffer, text: &[u8], budget: &mut Budget) -> Fallible<()> {
    escape_bytes(out, text, budget, |byte| {
        Some(match byte {
            0 => "\u{fffd}".as_bytes(),
            b'"' => b"&#34;",
            b'\'' => b"&#39;",
            b'&' => b"&amp;",
            b'<' => b"&lt;",
            b'>' => b"&gt;",
            _ => return None,
        })
    })
}

/// Copies `text`, replacing the bytes that `replace` knows.
fn escape_bytes(
    out: &mut Buffer,
    text: &[u8],
    budget: &mut Budget,
    replace: fn(u8) -> Option<&'static [u8]>,
) -> Fallible<()> {
    let mut plain = 0;
    for (at, byte) in text.iter().enumerate() {
        if let Some(replacement) = replace(*byte) {
            out.write(&text[plain..at], budget)?;
            out.write(replacement, budget)?;
            plain = at + 1;
        }
    }
    out.write(&text[plain..], budget)?;
    Ok(())
}

const UPPER_HEX: &[u8; 16] = b"0123456789ABCDEF";

fn js_escape(out: &mut Buffer, text: &[u8], budget: &mut Budget) -> Fallible<()> {
    let mut rest = text;
    while let Some((c, length)) = decode(rest) {
        let (head, tail) = rest.split_at(length);
        match c {
            '\\' => out.write(b"\\\\", budget)?,
            '\'' => out.write(b"\\'", budget)?,
            '"' => out.write(b"\\\"", budget)?,
            '<' => out.write(b"\\u003C", budget)?,
            '>' => out.write(b"\\u003E", budget)?,
            '&' => out.write(b"\\u0026", budget)?,
            '=' => out.write(b"\\u003D", budget)?,
            '\0'..='\x1f' => {
                let byte = c as usize;
                out.write(&[b'\\', b'u', b'0', b'0', UPPER_HEX[byte >> 4], UPPER_HEX[byte & 15]], budget)?;
            }
            c if c.is_ascii() || is_print(c) => out.write(head, budget)?,
            c => out.write(format!("\\u{:04X}", u32::from(c)).as_bytes(), budget)?,
        }
        rest = tail;
    }
    Ok(())
}

fn query_escape(out: &mut Buffer, text: &[u8], budget: &mut Budget) -> Fallible<()> {
    for byte in text {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.write(std::slice::from_ref(byte), budget)?;
            }
            b' ' => out.write(b"+", budget)?,
            _ => {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                out.write(&[b'%', UPPER_HEX[high], UPPER_HEX[low]], budget)?;
            }
        }
    }
    Ok(())
}
