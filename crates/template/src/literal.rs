//! Literals: Go's quoted strings, characters and numbers (Go strconv).

use crate::error::SyntaxError;
use crate::text::decode;

/// What a number literal can stand for (Go text/template, `NumberNode`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
    Complex(f64, f64),
    /// Fits into 64 bits only without a sign: an error when it is used.
    TooLarge,
}

/// The value of a quoted string, with its quotes.
pub(crate) fn unquote(literal: &[u8]) -> Result<Vec<u8>, SyntaxError> {
    let [quote, inner @ .., _] = literal else {
        return Err(SyntaxError::BadLiteral);
    };
    if *quote == b'`' {
        return Ok(inner.iter().copied().filter(|b| *b != b'\r').collect());
    }
    let mut value = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while !rest.is_empty() {
        let (unit, length) = unquote_char(rest, *quote)?;
        match unit {
            Unit::Byte(byte) => value.push(byte),
            Unit::Char(c) => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = &rest[length..];
    }
    Ok(value)
}

#[derive(Clone, Copy)]
enum Unit {
    Byte(u8),
    Char(char),
}

/// The first character or escape of `text` and its length (Go `strconv.UnquoteChar`).
fn unquote_char(text: &[u8], quote: u8) -> Result<(Unit, usize), SyntaxError> {
    let (c, length) = decode(text).ok_or(SyntaxError::BadLiteral)?;
    if c == char::from(quote) {
        return Err(SyntaxError::BadLiteral);
    }
    if c != '\\' {
        return Ok((Unit::Char(c), length));
    }
    let escape = *text.get(1).ok_or(SyntaxError::BadLiteral)?;
    let simple = |byte| Ok((Unit::Byte(byte), 2));
    match escape {
        b'a' => simple(7),
        b'b' => simple(8),
        b'f' => simple(12),
        b'n' => simple(b'\n'),
        b'r' => simple(b'\r'),
        b't' => simple(b'\t'),
        b'v' => simple(11),
        b'\\' => simple(b'\\'),
        b'\'' | b'"' if escape == quote => simple(quote),
        b'x' => Ok((Unit::Byte(digits(text, 2, 2, 16)? as u8), 4)),
        b'u' => Ok((unicode(digits(text, 2, 4, 16)?)?, 6)),
        b'U' => Ok((unicode(digits(text, 2, 8, 16)?)?, 10)),
        b'0'..=b'7' => {
            let byte = u8::try_from(digits(text, 1, 3, 8)?).map_err(|_| SyntaxError::BadLiteral)?;
            Ok((Unit::Byte(byte), 4))
        }
        _ => Err(SyntaxError::BadLiteral),
    }
}

fn unicode(code: u32) -> Result<Unit, SyntaxError> {
    char::from_u32(code).map(Unit::Char).ok_or(SyntaxError::BadLiteral)
}

fn digits(text: &[u8], from: usize, count: usize, base: u32) -> Result<u32, SyntaxError> {
    let digits = text.get(from..from + count).ok_or(SyntaxError::BadLiteral)?;
    digits.iter().try_fold(0_u32, |value, byte| {
        let digit = char::from(*byte).to_digit(base).ok_or(SyntaxError::BadLiteral)?;
        value.checked_mul(base).and_then(|v| v.checked_add(digit)).ok_or(SyntaxError::BadLiteral)
    })
}

/// The value of a character literal, with its quotes.
pub(crate) fn character(literal: &[u8]) -> Result<Number, SyntaxError> {
    let (unit, length) = unquote_char(&literal[1..], b'\'')?;
    if literal.get(1 + length..) != Some(b"'") {
        return Err(SyntaxError::BadLiteral);
    }
    Ok(Number::Int(match unit {
        Unit::Byte(byte) => i64::from(byte),
        Unit::Char(c) => i64::from(u32::from(c)),
    }))
}

/// The value of a pair such as `1+2i`.
pub(crate) fn complex(literal: &str) -> Result<Number, SyntaxError> {
    let body = literal.strip_suffix('i').ok_or(SyntaxError::BadLiteral)?;
    // The sign between the parts is the last one that does not belong to an exponent.
    let hex = body.contains(['x', 'X']);
    let split = body
        .char_indices()
        .rev()
        .find(|(i, c)| {
            let before = body[..*i].chars().next_back();
            let exponent = matches!(before, Some('p' | 'P')) || (!hex && matches!(before, Some('e' | 'E')));
            *i > 0 && matches!(c, '+' | '-') && !exponent
        })
        .map(|(i, _)| i)
        .ok_or(SyntaxError::BadLiteral)?;
    let real = parse_float(&body[..split]).ok_or(SyntaxError::BadLiteral)?;
    let imaginary = parse_float(&body[split..]).ok_or(SyntaxError::BadLiteral)?;
    Ok(Number::Complex(real, imaginary))
}

/// The value of a number literal, which counts as an integer where it can.
pub(crate) fn number(literal: &str) -> Result<Number, SyntaxError> {
    if let Some(imaginary) = literal.strip_suffix('i').and_then(parse_float) {
        return Ok(Number::Complex(0.0, imaginary));
    }
    let looks_like_float = literal.contains(['.', 'e', 'E', 'p', 'P']);
    let hex_integer = (literal.starts_with("0x") || literal.starts_with("0X")) && !literal.contains(['p', 'P']);
    let integer = parse_integer(literal);
    if looks_like_float && !hex_integer && integer.is_none() {
        return parse_float(literal).map(Number::Float).ok_or(SyntaxError::BadLiteral);
    }
    match integer {
        Some((negative, magnitude)) => {
            if negative {
                0_i64.checked_sub_unsigned(magnitude).map(Number::Int).ok_or(SyntaxError::BadLiteral)
            } else {
                Ok(i64::try_from(magnitude).map_or(Number::TooLarge, Number::Int))
            }
        }
        None => Err(SyntaxError::BadLiteral),
    }
}

/// Sign and magnitude, base by prefix (Go `strconv.ParseInt` with base 0).
fn parse_integer(literal: &str) -> Option<(bool, u64)> {
    if !underscores_ok(literal) {
        return None;
    }
    let (negative, body) = match literal.as_bytes().first()? {
        b'-' => (true, &literal[1..]),
        b'+' => (false, &literal[1..]),
        _ => (false, literal),
    };
    let prefix = body.get(..2).unwrap_or_default();
    let (base, digits) = match prefix {
        "0x" | "0X" => (16, &body[2..]),
        "0o" | "0O" => (8, &body[2..]),
        "0b" | "0B" => (2, &body[2..]),
        _ if body.len() > 1 && body.starts_with('0') => (8, &body[1..]),
        _ => (10, body),
    };
    let mut value = 0_u64;
    let mut any = false;
    for c in digits.chars().filter(|c| *c != '_') {
        value = value.checked_mul(u64::from(base))?.checked_add(u64::from(c.to_digit(base)?))?;
        any = true;
    }
    any.then_some((negative, value))
}

/// Underscores only between digits or after a base prefix (Go `strconv`, `underscoreOK`).
fn underscores_ok(literal: &str) -> bool {
    let mut body = literal.strip_prefix(['+', '-']).unwrap_or(literal);
    let mut previous = '^';
    let mut hex = false;
    let lower = body.get(..2).unwrap_or_default().to_ascii_lowercase();
    if matches!(lower.as_str(), "0x" | "0o" | "0b") {
        hex = lower == "0x";
        previous = '0';
        body = &body[2..];
    }
    for c in body.chars() {
        if c.is_ascii_digit() || (hex && c.is_ascii_hexdigit()) {
            previous = '0';
        } else if c == '_' {
            if previous != '0' {
                return false;
            }
            previous = '_';
        } else {
            if previous == '_' {
                return false;
            }
            previous = '!';
        }
    }
    previous != '_'
}

/// A decimal or hexadecimal floating-point number (Go `strconv.ParseFloat`); `None` also when it overflows.
fn parse_float(literal: &str) -> Option<f64> {
    if literal.contains('_') && !underscores_ok(literal) {
        return None;
    }
    let text: String = literal.chars().filter(|c| *c != '_').collect();
    let (negative, body) = match text.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let magnitude = match body.strip_prefix("0x").or_else(|| body.strip_prefix("0X")) {
        Some(hex) => parse_hex_float(hex)?,
        None => {
            if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
                return None;
            }
            body.parse::<f64>().ok()?
        }
    };
    if !magnitude.is_finite() {
        return None;
    }
    Some(if negative { -magnitude } else { magnitude })
}

/// A hexadecimal mantissa with its obligatory binary exponent, rounded to nearest, ties to even.
fn parse_hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let mut exponent: i64 = exponent.parse().ok()?;
    exponent = exponent.clamp(-100_000, 100_000);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Keep 60 significant bits, the rest only as "sticky": enough to round 53 bits correctly.
    let mut bits = 0_u64;
    let mut sticky = false;
    for (digit, is_fraction) in whole.chars().map(|c| (c, false)).chain(fraction.chars().map(|c| (c, true))) {
        let digit = u64::from(digit.to_digit(16)?);
        if bits >> 56 == 0 {
            bits = bits << 4 | digit;
            exponent -= if is_fraction { 4 } else { 0 };
        } else {
            sticky |= digit != 0;
            exponent += if is_fraction { 0 } else { 4 };
        }
    }
    if bits == 0 {
        return Some(0.0);
    }
    // value = bits * 2^exponent; round once at the precision that the result has.
    let length = 64 - i64::from(bits.leading_zeros());
    let top = length + exponent; // value < 2^top
    let keep = if top > -1022 { 53 } else { (top + 1074).max(0) };
    let drop = length - keep;
    let (mut rounded, mut shift) = (bits, exponent);
    if drop > 0 {
        if drop > 63 {
            return Some(0.0);
        }
        let half = 1_u64 << (drop - 1);
        let tail = bits & ((1 << drop) - 1);
        rounded = bits >> drop;
        shift += drop;
        if tail > half || (tail == half && (sticky || rounded & 1 == 1)) {
            rounded += 1;
        }
    }
    // Both products are exact: `rounded` is already rounded to the precision of the result, and the power is split so
    // that neither half leaves the range of normal numbers by itself.
    let first = (shift / 2).clamp(-1000, 1000);
    let second = (shift - first).clamp(-1022, 1023);
    Some(rounded as f64 * power_of_two(first) * power_of_two(second))
}

/// 2 to the power of `exponent`, which lies between -1022 and 1023.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}
