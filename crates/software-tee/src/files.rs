//! Files of a development root and of a bundle: created privately, read with a limit, replaced atomically.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::rand;

/// Creates `path`, which must not exist, with `mode`, and flushes it.
pub(crate) fn create_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Puts `bytes` at `path` so that a reader sees the old content or the new, never a part.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut suffix = [0; 8];
    rand::fill(&mut suffix).map_err(|_| io::Error::other("no random bytes for a temporary file name"))?;
    let temporary = directory.join(format!(".{}.{}", name.to_string_lossy(), hex::encode(suffix)));
    create_new(&temporary, 0o644, bytes).and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        // Nothing more can be done about a temporary file that cannot be removed; the first error is reported.
        let _ = fs::remove_file(&temporary);
    })?;
    sync_directory(directory)
}

/// Makes `path` and its parents; those that did not exist get mode 0700 if `private`.
pub(crate) fn create_directory(path: &Path, private: bool) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(if private { 0o700 } else { 0o755 }).create(path)
}

/// Flushes the entries of a directory.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Reads at most `max` bytes of `file`; one byte more is an error.
pub(crate) fn read_bounded(file: &mut File, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("expected at most {max} bytes, got more")));
    }
    Ok(bytes)
}
