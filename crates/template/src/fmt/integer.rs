//! Integers (Go fmt, `fmtInteger`; Go math/big, `Int.Format`).

use crate::budget::MAX_INTEGER_BYTES;
use crate::error::{ErrorKind, Limit};
use crate::text::is_print;
use crate::value::{BigInt, Value};

use super::printer::Printer;
use super::{Fallible, quote};

impl Printer<'_> {
    /// `magnitude` with its sign; `value` is the argument as a whole.
    pub(super) fn integer(
        &mut self,
        value: &Value,
        magnitude: u64,
        negative: bool,
        signed: bool,
        verb: char,
    ) -> Fallible {
        match verb {
            'v' if self.flags.sharp_v && !signed => {
                let sharp = std::mem::replace(&mut self.flags.sharp, true);
                let result = self.digits(magnitude, false, 16, verb);
                self.flags.sharp = sharp;
                result
            }
            'v' | 'd' => self.digits(magnitude, negative, 10, verb),
            'b' => self.digits(magnitude, negative, 2, verb),
            'o' | 'O' => self.digits(magnitude, negative, 8, verb),
            'x' | 'X' => self.digits(magnitude, negative, 16, verb),
            'c' => {
                let c = character(magnitude, negative);
                self.pad(c.encode_utf8(&mut [0; 4]).as_bytes())
            }
            'q' => {
                let quoted = quote::character(character(magnitude, negative), self.flags.plus);
                self.pad(&quoted)
            }
            'U' => self.unicode(if negative { magnitude.wrapping_neg() } else { magnitude }),
            _ => self.bad_verb(value, verb),
        }
    }

    fn digits(&mut self, magnitude: u64, negative: bool, base: u64, verb: char) -> Fallible {
        let flags = self.flags;
        let precision = match flags.precision {
            // Precision 0 and value 0: nothing but padding.
            Some(0) if magnitude == 0 => return self.fill(b' ', flags.width.unwrap_or(0)),
            Some(precision) => precision,
            None => match flags.width {
                Some(width) if flags.zero && !flags.minus => {
                    width.saturating_sub(usize::from(negative || flags.plus || flags.space))
                }
                _ => 0,
            },
        };
        let mut digits = Vec::new();
        let mut rest = magnitude;
        loop {
            let digit = char::from_digit((rest % base) as u32, 16).unwrap_or('0');
            digits.push(if verb == 'X' { digit.to_ascii_uppercase() } else { digit } as u8);
            rest /= base;
            if rest == 0 {
                break;
            }
        }
        if precision > digits.len() {
            digits.resize(precision, b'0');
        }
        if flags.sharp {
            match base {
                2 => digits.extend_from_slice(b"b0"),
                8 if digits.last() != Some(&b'0') => digits.push(b'0'),
                16 => digits.extend_from_slice(if verb == 'X' { b"X0" } else { b"x0" }),
                _ => {}
            }
        }
        if verb == 'O' {
            digits.extend_from_slice(b"o0");
        }
        if negative {
            digits.push(b'-');
        } else if flags.plus {
            digits.push(b'+');
        } else if flags.space {
            digits.push(b' ');
        }
        digits.reverse();
        self.pad_with_blanks(&digits)
    }

    /// `U+0041`, with the flag `#` also the character.
    fn unicode(&mut self, code: u64) -> Fallible {
        let digits = self.flags.precision.unwrap_or(4).max(4);
        let mut text = format!("U+{code:0digits$X}");
        if self.flags.sharp
            && let Some(c) = u32::try_from(code).ok().and_then(char::from_u32)
            && is_print(c)
        {
            text.push_str(&format!(" '{c}'"));
        }
        self.pad_with_blanks(text.as_bytes())
    }

    pub(super) fn big_integer(&mut self, number: &BigInt, verb: char) -> Fallible {
        let base = match verb {
            'b' => 2,
            'o' | 'O' => 8,
            'd' | 's' | 'v' => 10,
            'x' | 'X' => 16,
            _ => {
                self.charge_digits(number)?;
                let decimal = decimal(number)?;
                return self.write(format!("%!{verb}(big.Int={decimal})").as_bytes());
            }
        };
        let flags = self.flags;
        let Some(magnitude) = &number.magnitude else {
            return self.write(b"<nil>");
        };
        self.charge_digits(number)?;
        let mut digits = big_digits(magnitude, base)?;
        if verb == 'X' {
            digits.make_ascii_uppercase();
        }
        let sign = if number.negative {
            "-"
        } else if flags.plus || flags.plus_v {
            "+"
        } else if flags.space {
            " "
        } else {
            ""
        };
        let prefix = match verb {
            'O' => "0o",
            'b' if flags.sharp => "0b",
            'o' if flags.sharp => "0",
            'x' if flags.sharp => "0x",
            'X' if flags.sharp => "0X",
            _ => "",
        };
        if flags.precision == Some(0) && digits == "0" {
            return Ok(());
        }
        let mut zeros = flags.precision.unwrap_or(0).saturating_sub(digits.len());
        let length = sign.len() + prefix.len() + zeros + digits.len();
        let missing = flags.width.unwrap_or(0).saturating_sub(length);
        let (mut left, mut right) = (0, 0);
        if flags.minus {
            right = missing;
        } else if flags.zero && flags.precision.is_none() {
            zeros += missing;
        } else {
            left = missing;
        }
        self.fill(b' ', left)?;
        self.write(sign.as_bytes())?;
        self.write(prefix.as_bytes())?;
        self.fill(b'0', zeros)?;
        self.write(digits.as_bytes())?;
        self.fill(b' ', right)
    }
}

impl Printer<'_> {
    /// Repeated division is quadratic in the length.
    fn charge_digits(&mut self, number: &BigInt) -> Fallible {
        let length = number.magnitude.as_ref().map_or(0, Vec::len);
        Ok(self.budget.charge_scan(length.saturating_mul(length).saturating_mul(8))?)
    }
}

fn character(magnitude: u64, negative: bool) -> char {
    let code = if negative { None } else { u32::try_from(magnitude).ok() };
    code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn decimal(number: &BigInt) -> Result<String, ErrorKind> {
    Ok(match &number.magnitude {
        None => "<nil>".to_owned(),
        Some(magnitude) => {
            format!("{}{}", if number.negative { "-" } else { "" }, big_digits(magnitude, 10)?)
        }
    })
}

/// The digits of a big-endian number, by repeated division.
fn big_digits(magnitude: &[u8], base: u32) -> Result<String, ErrorKind> {
    let leading = magnitude.iter().take_while(|b| **b == 0).count();
    let mut number = magnitude[leading..].to_vec();
    if number.len() > MAX_INTEGER_BYTES {
        return Err(Limit::Integer { max: MAX_INTEGER_BYTES }.into());
    }
    let mut digits = Vec::new();
    let mut start = 0;
    while start < number.len() {
        let mut remainder = 0;
        for byte in &mut number[start..] {
            let part = remainder << 8 | u32::from(*byte);
            *byte = (part / base) as u8;
            remainder = part % base;
        }
        digits.push(char::from_digit(remainder, 16).unwrap_or('0'));
        start += number[start..].iter().take_while(|b| **b == 0).count();
    }
    if digits.is_empty() {
        digits.push('0');
    }
    Ok(digits.iter().rev().collect())
}
