//! Floating-point numbers (Go fmt, `fmtFloat`; Go strconv, `FormatFloat`).

use crate::value::Value;

use super::Fallible;
use super::printer::Printer;

impl Printer<'_> {
    /// `number` with a verb for floats; `value` is the argument as a whole.
    pub(super) fn float_verb(&mut self, value: &Value, number: f64, verb: char) -> Fallible {
        match verb {
            'v' => self.float(number, 'g', None, 'v'),
            'b' | 'g' | 'G' | 'x' | 'X' => self.float(number, verb, None, verb),
            'f' | 'e' | 'E' => self.float(number, verb, Some(6), verb),
            'F' => self.float(number, 'f', Some(6), verb),
            _ => self.bad_verb(value, verb),
        }
    }

    fn float(&mut self, number: f64, format: char, precision: Option<usize>, verb: char) -> Fallible {
        let flags = self.flags;
        let precision = flags.precision.or(precision);
        let mut text = strconv(number, format, precision);
        let sign = if text.starts_with('-') {
            text.remove(0);
            '-'
        } else if flags.space && !flags.plus {
            ' '
        } else {
            '+'
        };
        if !number.is_finite() {
            // Looks like no number, so it is not padded with zeros.
            let text = if number.is_nan() && sign == '+' && !flags.plus { text } else { format!("{sign}{text}") };
            return self.pad_with_blanks(text.as_bytes());
        }
        if flags.sharp && verb != 'b' {
            text = with_point(&text, verb, precision);
        }
        if !flags.plus && sign == '+' {
            return self.pad(text.as_bytes());
        }
        let signed_len = text.len() + 1;
        match flags.width {
            Some(width) if flags.zero && !flags.minus && width > signed_len => {
                self.write_char(sign)?;
                self.fill(b'0', width - signed_len)?;
                self.write(text.as_bytes())
            }
            _ => self.pad(format!("{sign}{text}").as_bytes()),
        }
    }
}

/// The flag `#`: always a decimal point, and trailing zeros for `%g`.
fn with_point(text: &str, verb: char, precision: Option<usize>) -> String {
    let mut digits = match verb {
        'v' | 'g' | 'G' | 'x' => precision.unwrap_or(6),
        _ => 0,
    };
    let hex = matches!(verb, 'x' | 'X');
    let split = text.find(|c| matches!(c, 'p' | 'P') || (!hex && matches!(c, 'e' | 'E'))).unwrap_or(text.len());
    let (number, tail) = text.split_at(split);
    let mut significant = false;
    for c in number.chars().filter(|c| *c != '.') {
        significant |= c != '0';
        digits = digits.saturating_sub(usize::from(significant));
    }
    let mut result = number.to_owned();
    if !number.contains('.') {
        if number == "0" {
            digits = digits.saturating_sub(1);
        }
        result.push('.');
    }
    result.extend(std::iter::repeat_n('0', digits));
    result + tail
}

/// Go `strconv.FormatFloat` for 64 bits; `None` is the shortest text that reads back as the same number.
fn strconv(number: f64, format: char, precision: Option<usize>) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    let sign = if number.is_sign_negative() { "-" } else { "" };
    let number = number.abs();
    if number.is_infinite() {
        return if sign.is_empty() { "Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let text = match format {
        'f' => match precision {
            Some(precision) => format!("{number:.precision$}"),
            None => format!("{number}"),
        },
        'e' | 'E' => exponent(number, precision, format),
        'x' | 'X' => hexadecimal(number, precision, format == 'X'),
        'b' => binary(number),
        _ => general(number, precision, if format == 'G' { 'E' } else { 'e' }),
    };
    format!("{sign}{text}")
}

/// `%e`: at least two digits of exponent.
fn exponent(number: f64, precision: Option<usize>, letter: char) -> String {
    let text = match precision {
        Some(precision) => format!("{number:.precision$e}"),
        None => format!("{number:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}{letter}{sign}{digits:0>2}")
}

/// `%g`: `%e` for small and large exponents, else the digits alone.
fn general(number: f64, precision: Option<usize>, letter: char) -> String {
    let text = match precision {
        Some(precision) => format!("{number:.*e}", precision.max(1) - 1),
        None => format!("{number:e}"),
    };
    let (mantissa, exponent_text) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent_value: i64 = exponent_text.parse().unwrap_or(0);
    let mut digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    digits.truncate(digits.trim_end_matches('0').len().max(1));
    let count = digits.len() as i64;
    let threshold = match precision {
        // The shortest form decides as if its precision were 6.
        None => 6,
        Some(precision) => {
            let precision = precision.max(1) as i64;
            if precision > count && count > exponent_value { count } else { precision }
        }
    };
    if exponent_value < -4 || exponent_value >= threshold {
        return exponent(number, Some(digits.len() - 1), letter);
    }
    if exponent_value < 0 {
        let zeros = (-exponent_value - 1) as usize;
        return format!("0.{}{digits}", "0".repeat(zeros));
    }
    let whole = exponent_value as usize + 1;
    if digits.len() <= whole {
        return format!("{digits}{}", "0".repeat(whole - digits.len()));
    }
    let (before, after) = digits.split_at(whole);
    format!("{before}.{after}")
}

/// Mantissa and exponent such that `number = mantissa * 2^exponent`.
fn parts(number: f64) -> (u64, i64) {
    let bits = number.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    match (bits >> 52 & 0x7ff) as i64 {
        0 => (fraction, -1074),
        biased => (fraction | 1 << 52, biased - 1075),
    }
}

/// `%b`: a decimal mantissa and a binary exponent.
fn binary(number: f64) -> String {
    let (mantissa, exponent) = parts(number);
    format!("{mantissa}p{exponent:+}")
}

/// `%x`: a hexadecimal mantissa between 1 and 2 and a binary exponent.
fn hexadecimal(number: f64, precision: Option<usize>, upper: bool) -> String {
    let (mut mantissa, mut exponent) = parts(number);
    if mantissa == 0 {
        exponent = 0;
    } else {
        // Shift so that the leading one is bit 60.
        let shift = i64::from(mantissa.leading_zeros()) - 3;
        mantissa <<= shift;
        exponent += 60 - shift;
    }
    if let Some(precision) = precision.filter(|p| *p < 15) {
        let shift = precision as u32 * 4;
        let extra = mantissa << shift & ((1 << 60) - 1);
        mantissa >>= 60 - shift;
        // Round to nearest, ties to even.
        if extra | (mantissa & 1) > 1 << 59 {
            mantissa += 1;
        }
        mantissa <<= 60 - shift;
        if mantissa & 1 << 61 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let mut digits = format!("{:015x}", mantissa & ((1 << 60) - 1));
    match precision {
        Some(precision) if precision > 15 => digits.push_str(&"0".repeat(precision - 15)),
        Some(precision) => digits.truncate(precision),
        None => digits.truncate(digits.trim_end_matches('0').len()),
    }
    let point = if digits.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    let text = format!("0x{}{point}{digits}p{sign}{:02}", mantissa >> 60, exponent.abs());
    if upper { text.to_ascii_uppercase() } else { text }
}
