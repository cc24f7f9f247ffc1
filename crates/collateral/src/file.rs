//! Reading one file that somebody else may change, replace or make a trap of.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use marblerun_attestation::MAX_COLLATERAL_BYTES;

use crate::error::LookupError;

/// `O_NONBLOCK` on Linux: opening a named pipe that nobody writes to returns instead of waiting forever.
const O_NONBLOCK: i32 = 0o4000;

/// What tells whether a file was changed or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Reads a regular file of limited size, with the stamp of exactly the file that was read.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, Stamp), LookupError> {
    let unreadable = |error| LookupError::unreadable(path, &error);
    let file: File = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(LookupError::NotAFile { path: path.to_owned() });
    }
    let mut text = Vec::new();
    // One byte more than allowed tells a file that is too large, whatever its announced length.
    file.take(MAX_COLLATERAL_BYTES as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() > MAX_COLLATERAL_BYTES {
        return Err(LookupError::TooLarge { path: path.to_owned(), max: MAX_COLLATERAL_BYTES });
    }
    Ok((text, Stamp::from(&metadata)))
}
