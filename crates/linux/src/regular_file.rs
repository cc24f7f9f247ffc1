//! Reading small files that somebody else may have put there.

use std::fs::{FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Why a file was not read.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Something else has this name.
    #[error("expected a regular file, got a {kind}")]
    NotRegular {
        /// What it is, in words.
        kind: &'static str,
    },
    /// The file is longer than the reader accepts.
    #[error("expected at most {max} bytes, got more")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// The name is a symbolic link to nothing.
    #[error("expected a regular file, got a symbolic link to nothing")]
    DanglingLink,
    /// The operating system refused.
    #[error("cannot be read")]
    Io(#[source] io::Error),
}

/// Reads a regular file of at most `max` bytes; `None` where nothing has this name.
///
/// Never blocks on a FIFO and never reads from a device.
///
/// # Errors
/// See [`ReadError`].
pub fn read_bounded(path: &Path, max: usize) -> Result<Option<Vec<u8>>, ReadError> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        // A missing file is an answer, but a link that points nowhere is a broken set-up.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if path.symlink_metadata().is_ok() { Err(ReadError::DanglingLink) } else { Ok(None) };
        }
        Err(error) => return Err(ReadError::Io(error)),
    };
    let kind = file.metadata().map_err(ReadError::Io)?.file_type();
    if !kind.is_file() {
        return Err(ReadError::NotRegular { kind: name_of(kind) });
    }
    let mut content = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut content).map_err(ReadError::Io)?;
    if content.len() > max {
        return Err(ReadError::TooLarge { max });
    }
    Ok(Some(content))
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_none_and_a_dangling_link_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_bounded(&dir.path().join("absent"), 8).unwrap().is_none());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/nonexistent/target", &link).unwrap();
        assert!(matches!(read_bounded(&link, 8), Err(ReadError::DanglingLink)));
    }

    #[test]
    fn a_file_of_exactly_the_limit_is_read_and_a_longer_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"12345678").unwrap();
        assert_eq!(read_bounded(&path, 8).unwrap().unwrap(), b"12345678");
        assert!(matches!(read_bounded(&path, 7), Err(ReadError::TooLarge { max: 7 })));
    }

    #[test]
    fn directories_devices_and_fifos_are_refused_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_bounded(dir.path(), 8), Err(ReadError::NotRegular { kind: "directory" })));
        assert!(matches!(read_bounded(Path::new("/dev/null"), 8), Err(ReadError::NotRegular { kind: "device" })));
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(matches!(read_bounded(&fifo, 8), Err(ReadError::NotRegular { kind: "FIFO" })));
    }
}
