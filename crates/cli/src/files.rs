//! Reading and writing the user's files.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::failure::Cause;

/// Reads a file of at most `max` bytes; `what` names it in errors.
pub(crate) fn read(what: &'static str, path: &Path, max: usize) -> Result<Vec<u8>, Cause> {
    let error = |source| Cause::Read { what, path: path.to_owned(), source };
    let file = File::open(path).map_err(error)?;
    let mut content = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut content).map_err(error)?;
    if content.len() > max {
        return Err(Cause::TooLong { what, path: path.to_owned(), max });
    }
    Ok(content)
}

/// Writes a file that is readable by its owner only where it is new; an existing one is overwritten.
pub(crate) fn write(what: &'static str, path: &Path, content: &[u8]) -> Result<(), Cause> {
    let error = |source| Cause::Write { what, path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(error)?;
    file.write_all(content).map_err(error)
}

/// Writes a new file that is readable by its owner only; an existing one is left alone.
pub(crate) fn write_new(what: &'static str, path: &Path, content: &[u8]) -> Result<(), Cause> {
    let error = |source| Cause::Write { what, path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(error)?;
    file.write_all(content).map_err(error)
}
