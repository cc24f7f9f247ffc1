//! Format strings: flags, width, precision, argument indices (Go fmt, `doPrintf`).

use crate::budget::{Budget, Buffer, MAX_WIDTH};
use crate::error::{ErrorKind, Limit};
use crate::text::decode;
use crate::value::Value;

use super::Fallible;

/// Go reads widths up to this value; larger ones make the directive malformed.
const GO_MAX_WIDTH: usize = 1_000_000;

/// Flags, width and precision of one directive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) plus: bool,
    pub(super) minus: bool,
    pub(super) sharp: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
    /// `+` and `#` of the verb `v`, where they mean something else.
    pub(super) plus_v: bool,
    pub(super) sharp_v: bool,
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
}

pub(super) struct Printer<'o> {
    out: &'o mut Buffer,
    pub(super) budget: &'o mut Budget,
    pub(super) flags: Flags,
}

/// The arguments of a format and which of them is next.
struct Arguments<'v> {
    values: &'v [Value],
    next: usize,
    /// An explicit index was used, so that surplus arguments are not reported.
    reordered: bool,
    /// The index of the current directive is valid.
    good: bool,
}

impl<'o> Printer<'o> {
    pub(super) fn new(out: &'o mut Buffer, budget: &'o mut Budget) -> Self {
        Self { out, budget, flags: Flags::default() }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Fallible {
        Ok(self.out.write(bytes, self.budget)?)
    }

    pub(super) fn write_char(&mut self, c: char) -> Fallible {
        self.write(c.encode_utf8(&mut [0; 4]).as_bytes())
    }

    pub(super) fn fill(&mut self, byte: u8, count: usize) -> Fallible {
        Ok(self.out.fill(byte, count, self.budget)?)
    }

    /// Pads on the left with zeros if the flag says so, else with blanks.
    pub(super) fn padding(&mut self, count: usize) -> Fallible {
        let byte = if self.flags.zero && !self.flags.minus { b'0' } else { b' ' };
        self.fill(byte, count)
    }

    /// Writes `text` padded to the width, which counts characters.
    pub(super) fn pad(&mut self, text: &[u8]) -> Fallible {
        let missing = match self.flags.width {
            None | Some(0) => 0,
            Some(width) => width.saturating_sub(crate::text::count(text)),
        };
        if self.flags.minus {
            self.write(text)?;
            self.fill(b' ', missing)
        } else {
            self.padding(missing)?;
            self.write(text)
        }
    }

    /// As [`Self::pad`], without zeros.
    pub(super) fn pad_with_blanks(&mut self, text: &[u8]) -> Fallible {
        let zero = std::mem::take(&mut self.flags.zero);
        let result = self.pad(text);
        self.flags.zero = zero;
        result
    }

    /// `%!verb(type=value)`: the verb does not suit the value.
    pub(super) fn bad_verb(&mut self, value: &Value, verb: char) -> Fallible {
        self.write(b"%!")?;
        self.write_char(verb)?;
        self.write(b"(")?;
        self.typed(value)?;
        self.write(b")")
    }

    /// `type=value`.
    fn typed(&mut self, value: &Value) -> Fallible {
        if matches!(value, Value::Nil) {
            return self.write(b"<nil>");
        }
        self.write(value.type_name().as_bytes())?;
        self.write(b"=")?;
        self.value(value, 'v')
    }

    pub(super) fn format(&mut self, format: &[u8], values: &[Value]) -> Fallible {
        let mut arguments = Arguments { values, next: 0, reordered: false, good: true };
        let mut rest = format;
        loop {
            let literal = rest.iter().position(|b| *b == b'%').unwrap_or(rest.len());
            self.write(&rest[..literal])?;
            rest = &rest[literal..];
            if rest.is_empty() {
                break;
            }
            rest = self.directive(&rest[1..], &mut arguments)?;
        }
        self.extra(&arguments)
    }

    /// Arguments that no directive used.
    fn extra(&mut self, arguments: &Arguments<'_>) -> Fallible {
        let unused = arguments.values.get(arguments.next..).unwrap_or_default();
        if arguments.reordered || unused.is_empty() {
            return Ok(());
        }
        self.flags = Flags::default();
        self.write(b"%!(EXTRA ")?;
        for (i, value) in unused.iter().enumerate() {
            if i > 0 {
                self.write(b", ")?;
            }
            self.typed(value)?;
        }
        self.write(b")")
    }

    /// Everything after a `%`; returns what follows the directive.
    fn directive<'f>(&mut self, format: &'f [u8], arguments: &mut Arguments<'_>) -> Result<&'f [u8], ErrorKind> {
        self.flags = Flags::default();
        arguments.good = true;
        let mut rest = format;
        while let Some(byte) = rest.first() {
            match byte {
                b'#' => self.flags.sharp = true,
                b'0' => self.flags.zero = true,
                b'+' => self.flags.plus = true,
                b'-' => self.flags.minus = true,
                b' ' => self.flags.space = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        let mut after_index = arguments.index(&mut rest);
        if let Some(tail) = rest.strip_prefix(b"*") {
            rest = tail;
            match arguments.integer() {
                Some(width) => {
                    self.flags.minus |= width < 0;
                    self.flags.width = Some(allowed(width.unsigned_abs())?);
                }
                None => self.write(b"%!(BADWIDTH)")?,
            }
            after_index = false;
        } else {
            self.flags.width = number(&mut rest)?;
            if after_index && self.flags.width.is_some() {
                arguments.good = false;
            }
        }
        // A dot at the very end is the verb.
        if let Some(tail) = rest.strip_prefix(b".").filter(|tail| !tail.is_empty()) {
            rest = tail;
            arguments.good &= !after_index;
            after_index = arguments.index(&mut rest);
            if let Some(tail) = rest.strip_prefix(b"*") {
                rest = tail;
                match arguments.integer() {
                    Some(precision) if precision >= 0 => {
                        self.flags.precision = Some(allowed(precision.unsigned_abs())?);
                    }
                    _ => self.write(b"%!(BADPREC)")?,
                }
                after_index = false;
            } else {
                self.flags.precision = Some(number(&mut rest)?.unwrap_or(0));
            }
        }
        if !after_index {
            arguments.index(&mut rest);
        }
        let Some((verb, length)) = decode(rest) else {
            self.write(b"%!(NOVERB)")?;
            return Ok(rest);
        };
        rest = &rest[length..];
        self.verb(verb, arguments)?;
        Ok(rest)
    }

    fn verb(&mut self, verb: char, arguments: &mut Arguments<'_>) -> Fallible {
        if verb == '%' {
            return self.write(b"%");
        }
        let problem: &[u8] = if !arguments.good {
            b"(BADINDEX)"
        } else if arguments.next >= arguments.values.len() {
            b"(MISSING)"
        } else {
            b""
        };
        if !problem.is_empty() {
            self.write(b"%!")?;
            self.write_char(verb)?;
            return self.write(problem);
        }
        if verb == 'v' {
            self.flags.sharp_v = std::mem::take(&mut self.flags.sharp);
            self.flags.plus_v = std::mem::take(&mut self.flags.plus);
        }
        if let Some(value) = arguments.values.get(arguments.next) {
            self.value(value, verb)?;
        }
        arguments.next += 1;
        Ok(())
    }
}

impl Arguments<'_> {
    /// Reads an index such as `[3]`; true if there was a valid one.
    fn index(&mut self, rest: &mut &[u8]) -> bool {
        if rest.first() != Some(&b'[') {
            return false;
        }
        self.reordered = true;
        let Some(close) = rest.iter().position(|b| *b == b']').filter(|_| rest.len() >= 3) else {
            *rest = &rest[1..];
            self.good = false;
            return false;
        };
        let digits = &rest[1..close];
        *rest = &rest[close + 1..];
        let parsed =
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                None
            } else {
                digits.iter().try_fold(0_usize, |n, d| {
                    if n > GO_MAX_WIDTH { None } else { Some(n * 10 + usize::from(d - b'0')) }
                })
            };
        match parsed {
            Some(number) if number >= 1 && number <= self.values.len() => {
                self.next = number - 1;
                true
            }
            other => {
                self.good = false;
                other.is_some()
            }
        }
    }

    /// The next argument as a width or precision; `None` if it is none.
    fn integer(&mut self) -> Option<i64> {
        let value = self.values.get(self.next)?;
        self.next += 1;
        let number = match value {
            Value::Int(value, _) => *value,
            Value::Uint(value, _) => i64::try_from(*value).ok()?,
            _ => return None,
        };
        (number.unsigned_abs() <= GO_MAX_WIDTH as u64).then_some(number)
    }
}

/// A decimal width or precision. A number that Go finds too large swallows the rest of the format, as there.
fn number(rest: &mut &[u8]) -> Result<Option<usize>, ErrorKind> {
    let mut value = None;
    while let Some(digit) = rest.first().filter(|b| b.is_ascii_digit()) {
        let so_far = value.unwrap_or(0);
        if so_far > GO_MAX_WIDTH {
            *rest = &[];
            return Ok(None);
        }
        value = Some(so_far * 10 + usize::from(digit - b'0'));
        *rest = &rest[1..];
    }
    value.map(|value| allowed(value as u64)).transpose()
}

fn allowed(width: u64) -> Result<usize, ErrorKind> {
    usize::try_from(width)
        .ok()
        .filter(|width| *width <= MAX_WIDTH)
        .ok_or(ErrorKind::Limit(Limit::Width { max: MAX_WIDTH }))
}
