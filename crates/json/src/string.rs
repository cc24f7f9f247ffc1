//! Strings: escapes, ill-formed text, names without regard to case, base64.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Standard base64, padding required, unused trailing bits ignored, as Go's `base64.StdEncoding` decodes.
const GO_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Decodes standard base64 with padding; carriage returns and line feeds are skipped, and the unused bits of the last
/// character may be set, as in Go's `base64.StdEncoding`.
///
/// `None` if the text is anything else: blanks, missing padding, the URL alphabet.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| matches!(byte, b'\r' | b'\n')) {
        let joined: String = text.chars().filter(|character| !matches!(character, '\r' | '\n')).collect();
        return GO_BASE64.decode(joined).ok();
    }
    GO_BASE64.decode(text).ok()
}

/// True if a member called `written` in a document is the member `name`, which is ASCII.
///
/// Go folds by Unicode's simple folding, so that besides the ASCII case U+017F (long s) equals `s` and U+212A (Kelvin
/// sign) equals `k`.
pub fn folds_to(written: &str, name: &str) -> bool {
    let folded = written.chars().map(|character| match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    folded.eq(name.chars().map(|character| character.to_ascii_lowercase()))
}

/// The content of a string literal, given without its quotes and known to be well-formed JSON.
///
/// Lone surrogates become U+FFFD, and so does every byte that is not part of well-formed UTF-8.
pub(crate) fn unescape(literal: &[u8]) -> String {
    let mut out = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(backslash) = rest.iter().position(|byte| *byte == b'\\') {
        push_text(&mut out, &rest[..backslash]);
        rest = &rest[backslash + 1..];
        rest = push_escape(&mut out, rest);
    }
    push_text(&mut out, rest);
    out
}

/// Appends text; each ill-formed byte becomes U+FFFD.
fn push_text(out: &mut String, mut text: &[u8]) {
    loop {
        match std::str::from_utf8(text) {
            Ok(valid) => return out.push_str(valid),
            Err(error) => {
                let (valid, rest) = text.split_at(error.valid_up_to());
                out.push_str(std::str::from_utf8(valid).unwrap_or_default());
                out.push(char::REPLACEMENT_CHARACTER);
                text = rest.get(1..).unwrap_or_default();
            }
        }
    }
}

/// Appends the character of the escape that `rest` begins with (after its backslash) and returns what follows it.
fn push_escape<'text>(out: &mut String, rest: &'text [u8]) -> &'text [u8] {
    let Some((kind, rest)) = rest.split_first() else {
        return rest;
    };
    let character = match kind {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let Some((unit, rest)) = code_unit(rest) else {
                return rest;
            };
            if let Some(character) = char::from_u32(unit) {
                out.push(character);
                return rest;
            }
            // A surrogate: it counts only together with its other half.
            if let Some((low, after)) = rest.strip_prefix(b"\\u").and_then(code_unit)
                && let Some(character) = join_surrogates(unit, low)
            {
                out.push(character);
                return after;
            }
            out.push(char::REPLACEMENT_CHARACTER);
            return rest;
        }
        other => char::from(*other),
    };
    out.push(character);
    rest
}

fn code_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let unit = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((unit, rest))
}

fn join_surrogates(high: u32, low: u32) -> Option<char> {
    if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
        return None;
    }
    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
}
