//! The file of the audit stream: appended to, and of bounded size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A longer file becomes the older one of two; together they take at most twice this, and one line.
pub(super) const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Appends lines to a file. After `max_bytes` the file is renamed to `NAME.1`, in place of the one before.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    /// `None` before the first line and after an error.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// `None` for a pipe or a device, such as `/dev/stdout`: it has no length, and renaming would take its name from
    /// everyone else.
    length: Option<u64>,
}

impl RotatingFile {
    /// A file that is opened with its first line.
    pub(super) fn new(path: PathBuf, max_bytes: u64) -> Self {
        Self { path, max_bytes, open: None }
    }

    /// Appends `line`, which ends with a newline. After an error the next line tries again.
    ///
    /// # Errors
    ///
    /// Of the file system; the line may be there in part, on a line of its own.
    pub(super) fn append(&mut self, line: &str) -> io::Result<()> {
        let mut opened = match self.open.take() {
            Some(opened) => opened,
            None => open(&self.path)?,
        };
        if opened.length.is_some_and(|length| length >= self.max_bytes) {
            drop(opened);
            fs::rename(&self.path, older(&self.path))?;
            opened = open(&self.path)?;
        }
        opened.file.write_all(line.as_bytes())?;
        opened.length = opened.length.map(|length| length + line.len() as u64);
        self.open = Some(opened);
        Ok(())
    }
}

/// Opens for appending. A last line that is not complete is ended, so that the next one stands alone.
fn open(path: &Path) -> io::Result<Open> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Open { file, length: None });
    }
    let mut length = metadata.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
        length += 1;
    }
    Ok(Open { file, length: Some(length) })
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_two_files_together_stay_below_their_limit_and_hold_the_newest_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let mut file = RotatingFile::new(path.clone(), 100);
        for number in 0..1000 {
            file.append(&format!("line {number:04}\n")).unwrap();
            let bytes: u64 =
                fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
            assert!(bytes <= 2 * 100 + 10, "{bytes}");
        }
        let all = fs::read_to_string(older(&path)).unwrap() + &fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = all.lines().collect();
        assert!(lines.len() >= 10, "{}", lines.len());
        let expected: Vec<String> = (1000 - lines.len()..1000).map(|number| format!("line {number:04}")).collect();
        assert_eq!(lines, expected);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_new_process_appends_and_ends_a_line_that_was_torn() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        fs::write(&path, "whole\nto").unwrap();
        RotatingFile::new(path.clone(), 100).append("next\n").unwrap();
        RotatingFile::new(path.clone(), 100).append("last\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nto\nnext\nlast\n");
    }

    #[test]
    fn a_device_is_written_and_keeps_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let mut file = RotatingFile::new(path.clone(), 10);
        (0..10).for_each(|_| file.append("more than ten bytes\n").unwrap());
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("/dev/null"));
        assert!(!older(&path).exists());
    }

    #[test]
    fn after_an_error_the_next_line_tries_again() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("later");
        let mut file = RotatingFile::new(missing.join("audit.jsonl"), 100);
        assert_eq!(file.append("lost\n").unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::create_dir(&missing).unwrap();
        file.append("kept\n").unwrap();
        assert_eq!(fs::read_to_string(missing.join("audit.jsonl")).unwrap(), "kept\n");
    }
}
