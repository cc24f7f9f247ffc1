//! Go's view of text: bytes that are mostly UTF-8, and the classes of characters that the language uses.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// The character at the start of `bytes` and its length; an ill-formed byte counts as U+FFFD of length 1.
/// Returns `None` at the end.
pub(crate) fn decode(bytes: &[u8]) -> Option<(char, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((char::from(first), 1));
    }
    let window = bytes.get(..bytes.len().min(4)).unwrap_or(bytes);
    let valid = match std::str::from_utf8(window) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&window[..error.valid_up_to()]).unwrap_or_default(),
    };
    Some(valid.chars().next().map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, c.len_utf8())))
}

/// True if `bytes` starts with an ill-formed byte.
pub(crate) fn is_ill_formed(bytes: &[u8]) -> bool {
    matches!(decode(bytes), Some((char::REPLACEMENT_CHARACTER, 1)))
}

/// Number of characters, each ill-formed byte counted as one (Go `utf8.RuneCount`).
pub(crate) fn count(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((_, length)) = decode(bytes) {
        count += 1;
        bytes = &bytes[length..];
    }
    count
}

/// Letters, digits and the underscore, of any script (Go `unicode.IsLetter`, `unicode.IsDigit`).
pub(crate) fn is_alphanumeric(c: char) -> bool {
    if c.is_ascii() {
        return c == '_' || c.is_ascii_alphanumeric();
    }
    c.general_category_group() == GeneralCategoryGroup::Letter || c.general_category() == GeneralCategory::DecimalNumber
}

/// Go `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
pub(crate) fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    matches!(
        c.general_category_group(),
        GeneralCategoryGroup::Letter
            | GeneralCategoryGroup::Mark
            | GeneralCategoryGroup::Number
            | GeneralCategoryGroup::Punctuation
            | GeneralCategoryGroup::Symbol
    )
}

/// White space as templates know it: space, tab, carriage return, newline.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
