//! What the last run made: it tells the developer's edits from our own work.
//!
//! A file of digests beside `Occlum.json`, which Occlum and the measurement do not look at. Who forges it only lets a run
//! replace what `--force` would replace.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_lc_rs::digest::{Context, Digest, SHA256};

/// The file's name in the instance directory.
pub(super) const RECORD: &str = ".marblerun-init.json";
/// Longest record that is read.
const MAX_RECORD_BYTES: u64 = 4096;
/// The member for what was asked for, beside the names of what was made.
const ARGUMENTS: &str = "arguments";

/// SHA-256 of each thing that was made, as hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record(BTreeMap<String, String>);

impl Record {
    /// Of what lies in `directory`, made because of `arguments`.
    pub(super) fn of(directory: &Path, names: &[&str], arguments: &str) -> io::Result<Self> {
        let mut context = Context::new(&SHA256);
        context.update(arguments.as_bytes());
        let mut digests = BTreeMap::from([(ARGUMENTS.to_owned(), hex(&context.finish()))]);
        for name in names {
            digests.insert((*name).to_owned(), digest(&directory.join(name))?);
        }
        Ok(Self(digests))
    }

    /// The record of an instance; empty if there is none that can be read.
    pub(super) fn read(directory: &Path) -> Self {
        let path = directory.join(RECORD);
        // A pipe would wait for ever.
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Self::default();
        }
        let mut content = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_RECORD_BYTES).read_to_end(&mut content));
        read.ok().and_then(|_| serde_json::from_slice(&content).ok()).map(Self).unwrap_or_default()
    }

    pub(super) fn to_json(&self) -> String {
        let members: Vec<_> = self.0.iter().map(|(name, digest)| format!("  {name:?}: {digest:?}")).collect();
        format!("{{\n{}\n}}\n", members.join(",\n"))
    }

    /// True if both were made because of the same arguments.
    pub(super) fn has_arguments_of(&self, other: &Self) -> bool {
        self.0.contains_key(ARGUMENTS) && self.0.get(ARGUMENTS) == other.0.get(ARGUMENTS)
    }

    /// True if `name` was made the same both times.
    pub(super) fn agrees(&self, other: &Self, name: &str) -> bool {
        self.0.get(name) == other.0.get(name)
    }

    /// True if `name` in `directory` is as it was made.
    pub(super) fn is_unedited(&self, directory: &Path, name: &str) -> io::Result<bool> {
        match self.0.get(name) {
            Some(made) => Ok(digest(&directory.join(name))? == *made),
            None => Ok(false),
        }
    }
}

fn hex(digest: &Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Covers what the measurement of an image covers: names, kinds, modes, contents, targets of links.
fn digest(path: &Path) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    add(&mut context, path)?;
    Ok(hex(&context.finish()))
}

fn add(context: &mut Context, path: &Path) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    let mut add_text = |kind: u8, mode: u32, text: &[u8]| {
        context.update(&[kind]);
        context.update(&(mode & 0o777).to_le_bytes());
        context.update(&(text.len() as u64).to_le_bytes());
        context.update(text);
    };
    let mode = metadata.permissions().mode();
    if metadata.is_symlink() {
        add_text(b'l', 0, fs::read_link(path)?.as_os_str().as_bytes());
    } else if metadata.is_dir() {
        let entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        let mut names: Vec<_> = entries.iter().map(fs::DirEntry::file_name).collect();
        names.sort();
        add_text(b'd', mode, &(names.len() as u64).to_le_bytes());
        for name in names {
            context.update(&(name.len() as u64).to_le_bytes());
            context.update(name.as_bytes());
            add(context, &path.join(name))?;
        }
    } else if metadata.is_file() {
        let mut content = Context::new(&SHA256);
        let mut file = File::open(path)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                len => content.update(&buffer[..len]),
            }
        }
        add_text(b'f', mode, content.finish().as_ref());
    } else {
        add_text(b's', mode, b"");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn everything_that_is_measured_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join("image").join(name);
        fs::create_dir_all(path("bin")).unwrap();
        fs::write(path("bin/app"), "app").unwrap();
        symlink("bin/app", path("link")).unwrap();
        let set_mode = |mode| fs::set_permissions(path("bin"), fs::Permissions::from_mode(mode)).unwrap();
        let write = |text| fs::write(path("bin/app"), text).unwrap();
        set_mode(0o755);
        let record = Record::of(directory.path(), &["image"], "").unwrap();
        let is_unedited = || record.is_unedited(directory.path(), "image").unwrap();
        assert!(is_unedited());
        for (edit, undo) in [
            (&(|| write("APP")) as &dyn Fn(), &(|| write("app")) as &dyn Fn()),
            (&|| set_mode(0o700), &|| set_mode(0o755)),
            (&|| fs::rename(path("link"), path("other")).unwrap(), &|| {
                fs::rename(path("other"), path("link")).unwrap()
            }),
            (&|| fs::write(path("new"), "").unwrap(), &|| fs::remove_file(path("new")).unwrap()),
        ] {
            edit();
            assert!(!is_unedited());
            undo();
            assert!(is_unedited());
        }
        let _socket = UnixListener::bind(path("socket")).unwrap();
        assert!(!is_unedited());
    }

    #[test]
    fn a_record_that_cannot_be_read_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(directory.path()), Record::default());
        let path = directory.path().join(RECORD);
        for text in ["", "[]", "{\"arguments\": 1}"] {
            fs::write(&path, text).unwrap();
            assert_eq!(Record::read(directory.path()), Record::default(), "{text}");
        }
        fs::write(directory.path().join("file"), "x").unwrap();
        let record = Record::of(directory.path(), &["file"], "a").unwrap();
        fs::write(&path, record.to_json()).unwrap();
        assert_eq!(Record::read(directory.path()), record);
        assert!(!Record::default().has_arguments_of(&Record::default()));
        assert!(record.has_arguments_of(&Record::of(directory.path(), &[], "a").unwrap()));
        assert!(!record.has_arguments_of(&Record::of(directory.path(), &[], "b").unwrap()));
    }
}
