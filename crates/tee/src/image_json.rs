//! Configuration files of the measured image.

use serde::de::{DeserializeOwned, Error as _};

/// Reads a JSON object.
///
/// serde also reads a structure from an array, by position; in a file that decides on trust that would be a second
/// spelling that nobody meant (an empty array would be an object without any restriction).
///
/// # Errors
/// What is wrong, with its position.
pub fn parse_object<T: DeserializeOwned>(content: &[u8]) -> Result<T, serde_json::Error> {
    if content.trim_ascii_start().first() != Some(&b'{') {
        return Err(serde_json::Error::custom("expected a JSON object"));
    }
    serde_json::from_slice(content)
}
