//! The file that keeps a Marble's UUID over restarts.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use marblerun_linux::regular_file::{ReadError, read_bounded};
use uuid::Uuid;

/// The longest form has 45 characters; the rest is for white space around it.
const MAX_FILE_BYTES: usize = 1024;

/// Why there is no UUID.
///
/// A broken file is never replaced: a new UUID would silently change the Marble's identity and its keys.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum UuidFileError {
    /// The file exists and cannot be used.
    #[error("UUID file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// The file holds something else.
    #[error("UUID file {}: expected one UUID, got {length} bytes{}", path.display(), bad_byte(*bad))]
    Form {
        /// The file.
        path: PathBuf,
        /// Bytes of the content without white space around it.
        length: usize,
        /// The first byte that no UUID has, and its position.
        bad: Option<(usize, u8)>,
    },
    /// The nil UUID names no instance.
    #[error("UUID file {}: expected the UUID of an instance, got the nil UUID", path.display())]
    Nil {
        /// The file.
        path: PathBuf,
    },
    /// A new UUID cannot be kept.
    #[error("UUID file {} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// The random number generator failed.
    #[error("no random numbers for a new UUID")]
    Random,
}

impl UuidFileError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } | Self::Form { .. } | Self::Nil { .. } => Some(
                "correct the file, or remove it for a new UUID, which is a new identity with new keys; \
                 EDG_MARBLE_UUID_FILE names another one",
            ),
            Self::Write { .. } => Some("set EDG_MARBLE_UUID_FILE to a path in an existing writable directory"),
            Self::Random => None,
        }
    }
}

fn bad_byte(bad: Option<(usize, u8)>) -> String {
    bad.map(|(at, byte)| format!(", byte 0x{byte:02x} at {at}")).unwrap_or_default()
}

/// The Marble's UUID and whether it was made just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredUuid {
    /// The UUID.
    pub uuid: Uuid,
    /// True if it was generated and stored by this call.
    pub is_new: bool,
}

/// Reads the UUID, or generates one (version 4) and stores it with mode 0600 if there is no file.
///
/// A present file is never rewritten. White space at its ends is dropped.
///
/// # Errors
/// See [`UuidFileError`].
pub fn load_or_create(path: &Path) -> Result<StoredUuid, UuidFileError> {
    let content =
        read_bounded(path, MAX_FILE_BYTES).map_err(|source| UuidFileError::Read { path: path.to_owned(), source })?;
    match content {
        Some(content) => Ok(StoredUuid { uuid: parse(path, &content)?, is_new: false }),
        None => Ok(StoredUuid { uuid: create(path)?, is_new: true }),
    }
}

fn create(path: &Path) -> Result<Uuid, UuidFileError> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| UuidFileError::Random)?;
    let uuid = uuid::Builder::from_random_bytes(random).into_uuid();
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(uuid.hyphenated().to_string().as_bytes())
    };
    write().map_err(|source| UuidFileError::Write { path: path.to_owned(), source })?;
    Ok(uuid)
}

fn parse(path: &Path, content: &[u8]) -> Result<Uuid, UuidFileError> {
    let text = content.trim_ascii();
    let digits = match text.len() {
        // The outer characters are not looked at (github.com/google/uuid, `Parse`).
        38 => &text[1..37],
        45 if text[..9].eq_ignore_ascii_case(b"urn:uuid:") => &text[9..],
        32 | 36 => text,
        _ => &[],
    };
    let uuid = Uuid::try_parse_ascii(digits).map_err(|_| UuidFileError::Form {
        path: path.to_owned(),
        length: text.len(),
        bad: first_bad_byte(text),
    })?;
    if uuid.is_nil() {
        return Err(UuidFileError::Nil { path: path.to_owned() });
    }
    Ok(uuid)
}

fn first_bad_byte(text: &[u8]) -> Option<(usize, u8)> {
    let allowed = |byte: u8| byte.is_ascii_hexdigit() || b"-{}urnUID:".contains(&byte);
    text.iter().copied().enumerate().find(|&(_, byte)| !allowed(byte))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const UUID: &str = "3f0c1b2a-0000-4000-8000-0123456789ab";

    fn with_content(content: &[u8]) -> Result<StoredUuid, UuidFileError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uuid");
        std::fs::write(&path, content).unwrap();
        let result = load_or_create(&path);
        assert_eq!(std::fs::read(&path).unwrap(), content, "a present file is never rewritten");
        result
    }

    // rules: ACT-8.2
    #[test]
    fn a_new_uuid_is_version_4_stored_privately_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uuid");
        let first = load_or_create(&path).unwrap();
        assert!(first.is_new);
        assert_eq!(first.uuid.get_version_num(), 4);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first.uuid.hyphenated().to_string());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&path).unwrap(), StoredUuid { is_new: false, ..first });
    }

    // rules: SAFE-15
    #[test]
    fn every_accepted_form_is_the_same_uuid() {
        for content in [
            UUID.to_owned(),
            format!("{UUID}\n"),
            format!("{UUID}\r\n"),
            format!(" \t{UUID}  "),
            UUID.to_uppercase(),
            format!("{{{UUID}}}"),
            format!("x{UUID}y"),
            format!("urn:uuid:{UUID}"),
            format!("URN:UUID:{UUID}"),
            UUID.replace('-', ""),
        ] {
            let stored = with_content(content.as_bytes()).unwrap();
            assert_eq!(stored.uuid.hyphenated().to_string(), UUID, "{content:?}");
        }
    }

    #[test]
    fn other_content_is_refused_with_its_length_and_first_bad_byte() {
        for (content, message) in [
            (String::new(), "got 0 bytes"),
            (format!("\u{feff}{UUID}"), "got 39 bytes, byte 0xef at 0"),
            (format!("{UUID}\n{UUID}"), "got 73 bytes, byte 0x0a at 36"),
            (format!("{UUID}\0"), "got 37 bytes, byte 0x00 at 36"),
            (UUID.replace('a', "g"), "got 36 bytes, byte 0x67 at 7"),
            (UUID.replace('-', "a"), "got 36 bytes"),
            (format!("{{{}}}", UUID.replace('-', "")), "got 34 bytes"),
            (format!("xyz:uuid:{UUID}"), "got 45 bytes, byte 0x78 at 0"),
        ] {
            let error = with_content(content.as_bytes()).unwrap_err();
            assert!(error.to_string().ends_with(&format!("expected one UUID, {message}")), "{content:?}: {error}");
        }
    }

    #[test]
    fn the_nil_uuid_is_refused() {
        let error = with_content(b"00000000-0000-0000-0000-000000000000").unwrap_err();
        assert!(matches!(error, UuidFileError::Nil { .. }));
    }

    #[test]
    fn an_oversized_file_is_refused() {
        let error = with_content(&vec![b' '; 1 << 20]).unwrap_err();
        assert!(matches!(error, UuidFileError::Read { source: ReadError::TooLarge { .. }, .. }));
    }

    #[test]
    fn a_directory_a_device_and_a_dangling_link_give_no_new_uuid() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/nonexistent/target", &link).unwrap();
        for path in [dir.path(), Path::new("/dev/null"), &link] {
            assert!(matches!(load_or_create(path), Err(UuidFileError::Read { .. })), "{}", path.display());
        }
    }

    // rules: ACT-8.2
    #[test]
    fn a_missing_parent_directory_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("absent/uuid");
        let error = load_or_create(&path).unwrap_err();
        assert!(matches!(error, UuidFileError::Write { .. }));
        assert!(error.hint().unwrap().contains("EDG_MARBLE_UUID_FILE"));
        assert!(!path.parent().unwrap().exists());
    }
}
