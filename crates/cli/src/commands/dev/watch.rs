//! A manifest's file, whenever it changes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use marblerun_manifest::MAX_MANIFEST_BYTES;

use crate::failure::{Cause, Failure};
use crate::files;
use crate::findings::Findings;
use crate::manifest_file::ManifestFile;
use crate::output::Output;

/// What a file looked like without being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    modified: (i64, i64),
    changed: (i64, i64),
    bytes: u64,
    inode: u64,
    is_file: bool,
}

impl Look {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            bytes: metadata.len(),
            inode: metadata.ino(),
            is_file: metadata.is_file(),
        })
    }
}

/// Refuses what is there but is no file: a pipe would hold up everything until somebody writes to it, and gives its content
/// once only.
pub(super) fn check_kind(path: &Path) -> Result<(), Cause> {
    match Look::of(path) {
        Some(look) if !look.is_file => {
            let source = io::Error::other("expected a regular file, which is read again when it changes");
            Err(Cause::Read { what: "manifest", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// A file that is looked at now and then.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    /// Before the first look: nothing.
    last: Option<Option<Look>>,
    content: Option<Vec<u8>>,
}

/// A content of the file that was not there before.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// The file.
    pub(super) path: PathBuf,
}

impl Watched {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), last: None, content: None }
    }

    /// Whether the file has another content than at the last call. Editors that write a new file and those that write into
    /// the old one are both noticed; a file that is missing for a moment, or that is only touched, is no change.
    pub(super) fn change(&mut self) -> Option<Change> {
        let look = Look::of(&self.path);
        let is_first = self.last.is_none();
        if self.last == Some(look) {
            return None;
        }
        self.last = Some(look);
        // What takes the file's place later, and cannot be read at once, is no content.
        if look.is_some_and(|look| !look.is_file) {
            return None;
        }
        let content = files::read("manifest", &self.path, MAX_MANIFEST_BYTES);
        // What is too long is told of when it is read as a manifest.
        let is_long = matches!(content, Err(Cause::TooLong { .. }));
        let content = content.ok();
        // Whoever named a file that is not there must be told, once.
        if content.is_none() && !is_first && !is_long || content.is_some() && content == self.content {
            return None;
        }
        self.content = content;
        Some(Change { path: self.path.clone() })
    }
}

impl Change {
    /// Reads the file as a manifest.
    pub(super) fn read(&self) -> Result<ManifestFile, Failure> {
        Ok(ManifestFile::read(&self.path)?)
    }

    /// Tells what is wrong with the manifest; fails if a Coordinator would refuse it.
    pub(super) fn check(&self, file: &ManifestFile, output: &mut Output) -> Result<(), Failure> {
        let mut findings = Findings::of(&file.bytes, &file.notes);
        findings.locate_in(&file.source);
        if !findings.are_acceptable(true) {
            return Err(Cause::Findings { path: self.path.clone(), findings }.into());
        }
        Ok(findings.warn(&self.path, output)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_refused_at_first_and_passed_over_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        assert!(check_kind(&path).is_ok(), "it may come later");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let error = check_kind(&path).unwrap_err();
        assert!(matches!(error, Cause::Read { what: "manifest", .. }), "{error}");
        let (sent, received) = std::sync::mpsc::channel();
        let mut watched = Watched::new(&path);
        std::thread::spawn(move || sent.send(watched.change().is_some()));
        let is_change = received.recv_timeout(std::time::Duration::from_secs(10)).expect("a pipe holds nothing up");
        assert!(!is_change);
    }

    #[test]
    fn only_a_new_content_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.json");
        let mut watched = Watched::new(&path);
        assert!(watched.change().is_some(), "a missing file is told of");
        assert!(watched.change().is_none(), "once");
        fs::write(&path, "{}").unwrap();
        assert!(watched.change().is_some());
        assert!(watched.change().is_none());
        // Touched.
        fs::File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(watched.change().is_none());
        fs::remove_file(&path).unwrap();
        assert!(watched.change().is_none());
        fs::write(&path, vec![b' '; MAX_MANIFEST_BYTES + 1]).unwrap();
        assert!(watched.change().is_some(), "a file that is too long is told of");
        fs::write(&path, "{}").unwrap();
        assert!(watched.change().is_some());
        // Replaced, as editors do; the same content is no change.
        let new = directory.path().join("new");
        for (content, is_change) in [("{}", false), ("{ }", true)] {
            fs::write(&new, content).unwrap();
            fs::rename(&new, &path).unwrap();
            assert_eq!(watched.change().is_some(), is_change, "{content}");
        }
    }
}
