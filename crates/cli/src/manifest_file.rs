//! Manifest files, JSON or YAML.

use std::io;
use std::path::Path;

use marblerun_json::{RawJson, decode_whole};
use marblerun_manifest::{MAX_MANIFEST_BYTES, fingerprint};

use crate::failure::Cause;
use crate::files;
use crate::output::Output;
use crate::yaml::{self, YamlError};

/// A manifest as it is uploaded.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    /// The bytes: those of a JSON file, or what a YAML file converts to.
    pub(crate) bytes: Vec<u8>,
    /// The file's own text, in which positions count.
    pub(crate) source: Vec<u8>,
    /// What the author should know about the file's form.
    pub(crate) notes: Vec<String>,
}

impl ManifestFile {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Cause> {
        let bytes = files::read("manifest", path, MAX_MANIFEST_BYTES)?;
        Self::from_bytes(bytes).map_err(|source| Cause::Yaml { path: path.to_owned(), source })
    }

    fn from_bytes(bytes: Vec<u8>) -> Result<Self, YamlError> {
        let not_json = match decode_whole::<RawJson>(&bytes, MAX_MANIFEST_BYTES) {
            Ok(_) => return Ok(Self { source: bytes.clone(), bytes, notes: Vec::new() }),
            Err(error) => error,
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = 1 + bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
            YamlError::Syntax { line, reason: "expected text in UTF-8, got other bytes".to_owned() }
        })?;
        let looks_like_json = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}').starts_with('{');
        let (json, octal) = yaml::to_json(text).map_err(|error| match looks_like_json {
            // Who wrote JSON wants to know what is wrong with it as JSON.
            true => YamlError::Syntax {
                line: not_json.line(),
                reason: format!("{} (column {})", not_json.kind(), not_json.column()),
            },
            false => error,
        })?;
        let mut notes = Vec::new();
        if looks_like_json {
            notes.push(format!(
                "the file is not valid JSON ({not_json}); it was read as YAML, and the signature is that of the \
                 converted text, not of the file"
            ));
        }
        for number in octal {
            notes.push(format!(
                "line {}: {} is {}, because YAML takes a leading zero for octal; write it without the zero or in quotes",
                number.line, number.written, number.value
            ));
        }
        Ok(Self { bytes: json.into_bytes(), source: bytes, notes })
    }

    /// The manifest's signature: lower-case hexadecimal SHA-256 of the bytes.
    pub(crate) fn signature(&self) -> String {
        fingerprint(&self.bytes)
    }

    /// Shows the notes on stderr, where nothing else says that the file is another one than was meant.
    pub(crate) fn show_notes(&self, output: &mut Output) -> io::Result<()> {
        if !self.bytes.trim_ascii_start().starts_with(b"{") {
            output.warn("the file holds no object, so it is no manifest")?;
        }
        self.notes.iter().try_for_each(|note| output.warn(note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_taken_byte_for_byte() {
        let text = b"{ \"Packages\": {} }\n";
        let file = ManifestFile::from_bytes(text.to_vec()).unwrap();
        assert_eq!(file.bytes, text);
        assert_eq!(file.signature(), "b3b9fc5b6754d538ab062e228703ea04a7dfa319e13912f6e66f6842f0e93aa0");
        assert!(file.notes.is_empty());
    }

    #[test]
    fn almost_json_is_converted_with_a_note() {
        let file = ManifestFile::from_bytes("\u{feff}{\"a\": 010,}".into()).unwrap();
        assert_eq!(file.bytes, b"{\"a\":8}");
        assert!(file.notes[0].starts_with("the file is not valid JSON ("), "{:?}", file.notes);
        assert!(file.notes[1].starts_with("line 1: 010 is 8,"), "{:?}", file.notes);
    }

    #[test]
    fn broken_json_is_reported_as_json() {
        let error = ManifestFile::from_bytes(b"{\n\"a\": \n".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "line 3: expected a JSON value, got the end of the text (column 1)");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let error = ManifestFile::from_bytes(b"a: 1\nb: \xff\n".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "line 2: expected text in UTF-8, got other bytes");
        let error = ManifestFile::from_bytes(b"\x7fELF\x02\x01".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "line 1: expected text, got the control character '\\u{7f}'");
    }
}
