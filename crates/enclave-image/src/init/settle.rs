//! From a finished directory beside its place to the place itself, in one step.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::InitError;

/// What is made: these are compared and replaced, everything else in the directory belongs to others.
const OURS: [&str; 2] = [CONFIGURATION, IMAGE];
pub(crate) const CONFIGURATION: &str = "Occlum.json";
pub(crate) const IMAGE: &str = "image";
/// Made once; then it is the developer's.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The developer's manifest, where a new one takes its place.
const REPLACED_MANIFEST: &str = "manifest.json.replaced";

/// Most differences that an error lists.
const MAX_DIFFERENCES: usize = 10;

/// What became of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It was there, the same.
    Unchanged,
    /// It was there, and `--force` replaced what differed.
    Replaced,
}

/// A directory beside the place, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    place: PathBuf,
}

impl Draft {
    /// Makes an empty directory beside `place`, whose parent exists.
    pub(crate) fn beside(place: &Path) -> Result<Self, InitError> {
        let value = |got: &Path| InitError::Value {
            what: "instance directory",
            expected: "a path that ends in a name",
            got: got.display().to_string(),
        };
        let place = std::path::absolute(place).map_err(InitError::io("find", place))?;
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else { return Err(value(&place)) };
        let path = parent.join(format!(".{}.new-{}", name.to_string_lossy(), std::process::id()));
        // Left over of a process with the same number that was killed.
        if path.exists() {
            fs::remove_dir_all(&path).map_err(InitError::io("remove", &path))?;
        }
        fs::create_dir(&path).map_err(InitError::io("create", &path))?;
        let draft = Self { path, place };
        fs::set_permissions(&draft.path, fs::Permissions::from_mode(0o755))
            .map_err(InitError::io("write", &draft.path))?;
        Ok(draft)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What would become of the place, without touching it.
    ///
    /// # Errors
    /// [`InitError::Differs`] unless `force`.
    pub(crate) fn compare(&self, force: bool) -> Result<Outcome, InitError> {
        match fs::read_dir(&self.place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Created),
            Err(error) => return Err(InitError::io("read", &self.place)(error)),
            // An empty directory is as good as none.
            Ok(mut entries) => {
                if entries.next().is_none() {
                    return Ok(Outcome::Created);
                }
            }
        }
        let mut found = Differences::default();
        for name in OURS {
            found.entry(&self.path.join(name), &self.place.join(name), Path::new(name))?;
        }
        if found.is_empty() && self.place.join(MANIFEST).exists() {
            Ok(Outcome::Unchanged)
        } else if force || found.is_empty() {
            Ok(Outcome::Replaced)
        } else {
            Err(InitError::Differs { directory: self.place.clone(), differences: found.into_list() })
        }
    }

    /// Puts the directory in its place.
    ///
    /// # Errors
    /// As [`Self::compare`], or a file system's error; the place is then as it was.
    pub(crate) fn settle(self, force: bool) -> Result<Outcome, InitError> {
        let outcome = self.compare(force)?;
        match outcome {
            Outcome::Unchanged => {}
            // Renaming takes the place of an empty directory.
            Outcome::Created => fs::rename(&self.path, &self.place).map_err(InitError::io("create", &self.place))?,
            Outcome::Replaced => self.replace(force)?,
        }
        Ok(outcome)
    }

    /// The old directory steps aside, the new one takes its place, and what was not ours moves over.
    fn replace(&self, force: bool) -> Result<(), InitError> {
        let name = self.place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let old = self.place.with_file_name(format!(".{name}.old-{}", std::process::id()));
        let error = |path: &Path| InitError::io("replace", path);
        fs::rename(&self.place, &old).map_err(error(&self.place))?;
        if let Err(source) = fs::rename(&self.path, &self.place) {
            let _ = fs::rename(&old, &self.place);
            return Err(error(&self.place)(source));
        }
        for entry in fs::read_dir(&old).map_err(error(&old))? {
            let name = entry.map_err(error(&old))?.file_name();
            if name != MANIFEST && OURS.iter().all(|ours| name != *ours) {
                let place = self.place.join(&name);
                fs::rename(old.join(&name), &place).map_err(error(&place))?;
            }
        }
        // Last, when every other name is taken: what the developer wrote into the manifest is never lost.
        let (old_manifest, manifest) = (old.join(MANIFEST), self.place.join(MANIFEST));
        if old_manifest.exists() && !same_text(&old_manifest, &manifest) {
            let place = if force { free_name(&self.place) } else { manifest };
            fs::rename(&old_manifest, &place).map_err(error(&place))?;
        }
        fs::remove_dir_all(&old).map_err(InitError::io("remove", &old))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone where it was renamed.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A name in the directory that nothing has.
fn free_name(directory: &Path) -> PathBuf {
    let first = directory.join(REPLACED_MANIFEST);
    let numbered = (2_u32..).map(|number| directory.join(format!("{REPLACED_MANIFEST}-{number}")));
    let mut names = std::iter::once(first.clone()).chain(numbered);
    names.find(|name| name.symlink_metadata().is_err()).unwrap_or(first)
}

fn same_text(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

#[derive(Default)]
struct Differences {
    shown: Vec<String>,
    count: usize,
}

impl Differences {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn into_list(mut self) -> Vec<String> {
        if self.count > self.shown.len() {
            self.shown.push(format!("and {} more", self.count - self.shown.len()));
        }
        self.shown
    }

    fn add(&mut self, name: &Path, what: &str) {
        self.count += 1;
        if self.shown.len() < MAX_DIFFERENCES {
            self.shown.push(format!("{} {what}", name.display()));
        }
    }

    fn entry(&mut self, new: &Path, old: &Path, name: &Path) -> Result<(), InitError> {
        let read = |path: &Path| path.symlink_metadata().map_err(InitError::io("read", path));
        let is = read(new)?;
        let was = match old.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.add(name, "is missing");
                return Ok(());
            }
            Err(error) => return Err(InitError::io("read", old)(error)),
        };
        if is.file_type() != was.file_type() {
            self.add(name, "is of another kind");
        } else if is.is_symlink() {
            let target = |path: &Path| fs::read_link(path).map_err(InitError::io("read", path));
            if target(new)? != target(old)? {
                self.add(name, "leads elsewhere");
            }
        } else if is.is_dir() {
            self.directory(new, old, name)?;
        } else if is.len() != was.len() || !same_content(new, old)? {
            self.add(name, "has another content");
        }
        let mode = |metadata: &fs::Metadata| metadata.permissions().mode() & 0o777;
        if !is.is_symlink() && is.file_type() == was.file_type() && mode(&is) != mode(&was) {
            self.add(name, &format!("has the mode {:o}, expected {:o}", mode(&was), mode(&is)));
        }
        Ok(())
    }

    fn directory(&mut self, new: &Path, old: &Path, name: &Path) -> Result<(), InitError> {
        let names = |path: &Path| -> Result<Vec<_>, InitError> {
            let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let mut names: Vec<_> =
                entries.map_err(InitError::io("read", path))?.iter().map(fs::DirEntry::file_name).collect();
            names.sort();
            Ok(names)
        };
        let ours = names(new)?;
        for entry in &ours {
            self.entry(&new.join(entry), &old.join(entry), &name.join(entry))?;
        }
        for entry in names(old)?.iter().filter(|entry| ours.binary_search(entry).is_err()) {
            self.add(&name.join(entry), "is not expected");
        }
        Ok(())
    }
}

fn same_content(new: &Path, old: &Path) -> Result<bool, InitError> {
    let open = |path: &Path| fs::File::open(path).map_err(InitError::io("read", path));
    let (mut new_file, mut old_file) = (open(new)?, open(old)?);
    let (mut new_part, mut old_part) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let len = new_file.read(&mut new_part).map_err(InitError::io("read", new))?;
        if len == 0 {
            // Of equal length, see the caller; a file that grew meanwhile is another.
            return Ok(old_file.read(&mut old_part).map_err(InitError::io("read", old))? == 0);
        }
        match old_file.read_exact(&mut old_part[..len]) {
            Ok(()) if new_part[..len] == old_part[..len] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(InitError::io("read", old)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(place: &Path) -> Draft {
        let draft = Draft::beside(place).unwrap();
        fs::create_dir_all(draft.path().join("image/bin")).unwrap();
        fs::write(draft.path().join("image/bin/app"), "app").unwrap();
        fs::write(draft.path().join(CONFIGURATION), "{}").unwrap();
        fs::write(draft.path().join(MANIFEST), "new").unwrap();
        draft
    }

    fn entries(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_directory_appears_at_once_and_a_second_time_nothing_changes() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("instance");
        assert_eq!(draft(&place).settle(false).unwrap(), Outcome::Created);
        fs::create_dir(place.join("run")).unwrap();
        fs::write(place.join(MANIFEST), "edited").unwrap();
        assert_eq!(draft(&place).settle(false).unwrap(), Outcome::Unchanged);
        assert_eq!(entries(&place), ["Occlum.json", "image", "manifest.json", "run"]);
        assert_eq!(entries(directory.path()), ["instance"]);
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        drop(draft(&directory.path().join("instance")));
        assert_eq!(entries(directory.path()), Vec::<String>::new());
    }

    #[test]
    fn an_empty_directory_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("instance");
        fs::create_dir(&place).unwrap();
        assert_eq!(draft(&place).settle(false).unwrap(), Outcome::Created);
    }

    // rules: INST-3
    #[test]
    fn another_directory_is_left_alone_and_what_differs_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("instance");
        draft(&place).settle(false).unwrap();
        fs::write(place.join("image/bin/app"), "APP").unwrap();
        fs::write(place.join("image/bin/other"), "").unwrap();
        fs::set_permissions(place.join("image"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::remove_file(place.join(CONFIGURATION)).unwrap();
        let error = draft(&place).settle(false).unwrap_err().to_string();
        for part in [
            "Occlum.json is missing",
            "image/bin/app has another content",
            "image/bin/other is not expected",
            "image has the mode 700, expected 755",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(fs::read(place.join("image/bin/app")).unwrap(), b"APP");
        assert_eq!(entries(directory.path()), ["instance"]);
    }

    #[test]
    fn force_replaces_what_is_ours_and_keeps_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("instance");
        fs::create_dir_all(place.join("run/state")).unwrap();
        fs::create_dir_all(place.join("image/old")).unwrap();
        fs::write(place.join(MANIFEST), "edited").unwrap();
        assert_eq!(draft(&place).settle(true).unwrap(), Outcome::Replaced);
        assert_eq!(entries(&place), ["Occlum.json", "image", "manifest.json", "manifest.json.replaced", "run"]);
        assert_eq!(fs::read(place.join(REPLACED_MANIFEST)).unwrap(), b"edited");
        assert_eq!(entries(&place.join("image")), ["bin"]);
        assert!(place.join("run/state").is_dir());
        assert_eq!(fs::read(place.join(MANIFEST)).unwrap(), b"new");
        assert_eq!(entries(directory.path()), ["instance"]);
        // Once more: the first one stays, and one that is the same is not kept.
        for (text, kept) in [("again", 3), ("new", 3)] {
            fs::write(place.join(MANIFEST), text).unwrap();
            fs::write(place.join(CONFIGURATION), "another").unwrap();
            draft(&place).settle(true).unwrap();
            assert_eq!(entries(&place).iter().filter(|name| name.starts_with(MANIFEST)).count(), kept);
        }
        assert_eq!(fs::read(place.join(REPLACED_MANIFEST)).unwrap(), b"edited");
    }

    #[test]
    fn a_missing_manifest_alone_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("instance");
        draft(&place).settle(false).unwrap();
        fs::remove_file(place.join(MANIFEST)).unwrap();
        assert_eq!(draft(&place).settle(false).unwrap(), Outcome::Replaced);
        assert_eq!(fs::read(place.join(MANIFEST)).unwrap(), b"new");
    }

    #[test]
    fn a_place_without_a_name_is_refused() {
        assert!(matches!(Draft::beside(Path::new("/")), Err(InitError::Value { .. })));
    }
}
