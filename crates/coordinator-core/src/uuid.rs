//! The UUID that a Marble chose for itself.

use std::fmt;

use thiserror::Error;

/// A Marble instance's UUID, not nil.
///
/// Nothing authenticates it: whoever attests as a Marble type can present any UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MarbleUuid(uuid::Uuid);

/// Why a UUID cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UuidError {
    /// None of the accepted forms.
    #[error(
        "UUID: expected 32 hexadecimal digits, plain or as 8-4-4-4-12 (also with urn:uuid: or in braces), got {length} bytes of another form"
    )]
    Malformed {
        /// Length of what came.
        length: usize,
    },
    /// All digits zero. The nil UUID names no instance.
    #[error("UUID: expected a UUID that names an instance, got the nil UUID")]
    Nil,
}

impl MarbleUuid {
    /// Reads the forms that MarbleRun v1.9.1 accepts, digits in either case: `8-4-4-4-12`; the same after `urn:uuid:`
    /// in any case; the same between any two bytes, meant for braces; 32 digits.
    ///
    /// # Errors
    ///
    /// If `text` has none of these forms or is the nil UUID.
    pub fn parse(text: &str) -> Result<Self, UuidError> {
        let malformed = UuidError::Malformed { length: text.len() };
        let bytes = text.as_bytes();
        let digits = match bytes.len() {
            32 | 36 => bytes,
            38 => &bytes[1..37],
            45 if bytes[..9].eq_ignore_ascii_case(b"urn:uuid:") => &bytes[9..],
            _ => return Err(malformed),
        };
        let parsed = uuid::Uuid::try_parse_ascii(digits).map_err(|_| malformed)?;
        if parsed.is_nil() {
            return Err(UuidError::Nil);
        }
        Ok(Self(parsed))
    }

    /// A UUID for values that belong to no instance, such as placeholders.
    pub fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

/// The canonical form: 36 characters, lower case.
impl fmt::Display for MarbleUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANONICAL: &str = "3f0c5a1e-9d2b-4c6f-8a7e-0123456789ab";

    #[track_caller]
    fn check(text: &str, expected: Result<&str, UuidError>) {
        assert_eq!(MarbleUuid::parse(text).map(|uuid| uuid.to_string()), expected.map(str::to_owned), "{text:?}");
    }

    // rules: ACT-2.4
    #[test]
    fn every_accepted_form_becomes_the_canonical_one() {
        check(CANONICAL, Ok(CANONICAL));
        check(&CANONICAL.to_uppercase(), Ok(CANONICAL));
        check(&CANONICAL.replace('-', ""), Ok(CANONICAL));
        check(&format!("{{{CANONICAL}}}"), Ok(CANONICAL));
        check(&format!("x{CANONICAL}y"), Ok(CANONICAL));
        check(&format!("urn:uuid:{CANONICAL}"), Ok(CANONICAL));
        check(&format!("URN:UUID:{CANONICAL}"), Ok(CANONICAL));
    }

    // rules: ACT-2.4
    #[test]
    fn other_forms_are_malformed() {
        for text in ["", "web", &CANONICAL[1..], &CANONICAL.replace('a', "g"), &format!("urn:uuix:{CANONICAL}")] {
            check(text, Err(UuidError::Malformed { length: text.len() }));
        }
        // 36 bytes without dashes in their places, and a multi-byte character at a border.
        check("3f0c5a1e9d2b4c6f8a7e0123456789ab----", Err(UuidError::Malformed { length: 36 }));
        check(&format!("é{}", &CANONICAL), Err(UuidError::Malformed { length: 38 }));
    }

    #[test]
    fn the_nil_uuid_is_refused() {
        check("00000000-0000-0000-0000-000000000000", Err(UuidError::Nil));
    }
}
