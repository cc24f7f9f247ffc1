//! Reading and writing the user's files.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
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

/// Puts a new file, readable by its owner only, in the place of the old one; a reader sees the one or the other. Makes
/// the directory, for the owner only.
pub(crate) fn replace(what: &'static str, path: &Path, content: &[u8]) -> Result<(), Cause> {
    put(what, path, content, 0o700, 0o600)
}

/// The same for a file that everybody may read, as far as the process's mask lets it.
pub(crate) fn publish(what: &'static str, path: &Path, content: &[u8]) -> Result<(), Cause> {
    put(what, path, content, 0o755, 0o644)
}

fn put(what: &'static str, path: &Path, content: &[u8], directory_mode: u32, file_mode: u32) -> Result<(), Cause> {
    let error = |source| Cause::Write { what, path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(directory_mode).create(parent).map_err(error)?;
    }
    // The program's own files do not begin with a dot.
    let temporary = path.with_file_name(format!(".new-{}", std::process::id()));
    let write = || {
        // What a killed process of the same number left, or somebody else put there, is not written through.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(file_mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // What is left over of a failure is only clutter.
        let _ = fs::remove_file(&temporary);
        error(source)
    })
}

/// Puts new content in the place of a file that exists, with its permissions; a reader sees the old or the new file. Links
/// are followed.
pub(crate) fn rewrite(what: &'static str, path: &Path, content: &[u8]) -> Result<(), Cause> {
    let error = |source| Cause::Write { what, path: path.to_owned(), source };
    let target = path.canonicalize().map_err(error)?;
    let permissions = fs::metadata(&target).map_err(error)?.permissions();
    let temporary = target.with_file_name(format!(".new-{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.set_permissions(permissions)?;
        file.sync_all()?;
        fs::rename(&temporary, &target)
    };
    write().map_err(|source| {
        // What is left over of a failure is only clutter.
        let _ = fs::remove_file(&temporary);
        error(source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewritten_file_keeps_its_permissions_and_the_links_to_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        rewrite("file", &link, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        assert!(matches!(rewrite("file", &directory.path().join("absent"), b""), Err(Cause::Write { .. })));
    }

    #[test]
    fn a_link_in_the_place_of_the_unfinished_file_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        fs::write(&other, "other").unwrap();
        let unfinished = directory.path().join(format!(".new-{}", std::process::id()));
        std::os::unix::fs::symlink(&other, unfinished).unwrap();
        publish("file", &path, b"new").unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"other");
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read("file", &path, 10).unwrap(), [7; 10]);
        assert!(matches!(read("file", &path, 9), Err(Cause::TooLong { what: "file", max: 9, .. })));
    }
}
