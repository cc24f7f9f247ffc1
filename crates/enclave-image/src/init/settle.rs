//! From a finished directory beside its place to the place itself.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::InitError;
use super::record::{RECORD, Record};

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
    /// It was there as an earlier run made it, and what the same arguments make now took its place.
    Updated,
    /// It was there, and `--force` replaced what differed.
    Replaced,
}

/// What becomes of the manifest that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OldManifest {
    /// It stays, also where another one would be made now.
    Stays,
    /// There is none, or nobody edited it.
    Goes,
    /// The developer's gets another name.
    IsRenamed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    /// What differed, as [`InitError::Differs`] names it.
    pub(crate) changes: Vec<String>,
    /// An edited manifest stays, although another one would be made now than when it was made.
    pub(crate) keeps_outdated_manifest: bool,
    manifest: OldManifest,
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

    /// Notes what was made, because of `arguments`. Last, when everything else is there.
    pub(crate) fn record(&self, arguments: &str) -> Result<(), InitError> {
        let record = Record::of(&self.path, &[CONFIGURATION, IMAGE, MANIFEST], arguments);
        let path = self.path.join(RECORD);
        let write = |record: Record| {
            fs::write(&path, record.to_json())?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        };
        record.and_then(write).map_err(InitError::io("write", &path))
    }

    /// What would become of the place, without touching it.
    ///
    /// # Errors
    /// [`InitError::Differs`] unless `force`, or unless nobody edited what the same arguments made before.
    pub(crate) fn compare(&self, force: bool) -> Result<Verdict, InitError> {
        let read = InitError::io("read", &self.place);
        let is_empty = match fs::read_dir(&self.place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(read(error)),
            // An empty directory is as good as none.
            Ok(mut entries) => entries.next().is_none(),
        };
        if is_empty {
            let (outcome, manifest) = (Outcome::Created, OldManifest::Goes);
            return Ok(Verdict { outcome, changes: Vec::new(), keeps_outdated_manifest: false, manifest });
        }
        let (was, is) = (Record::read(&self.place), Record::read(&self.path));
        let is_unedited = |name: &str| was.is_unedited(&self.place, name).map_err(InitError::io("read", &self.place));
        let mut found = Differences::default();
        // What is missing, as after a run that was killed, is no edit.
        let mut may_update = was.has_arguments_of(&is);
        for name in OURS {
            let count = found.count;
            let old = self.place.join(name);
            found.entry(&self.path.join(name), &old, Path::new(name))?;
            if found.count > count && may_update && old.symlink_metadata().is_ok() {
                may_update = is_unedited(name)?;
            }
        }
        let old = self.place.join(MANIFEST);
        let manifest = if old.symlink_metadata().is_err() {
            OldManifest::Goes
        } else if same_text(&old, &self.path.join(MANIFEST)) {
            OldManifest::Stays
        } else if is_unedited(MANIFEST)? {
            OldManifest::Goes
        } else if force && !found.is_empty() {
            OldManifest::IsRenamed
        } else {
            OldManifest::Stays
        };
        let keeps_outdated_manifest = manifest == OldManifest::Stays
            && !same_text(&old, &self.path.join(MANIFEST))
            && was != Record::default()
            && !was.agrees(&is, MANIFEST);
        let outcome = if found.is_empty() && manifest == OldManifest::Stays {
            Outcome::Unchanged
        } else if force && !found.is_empty() {
            Outcome::Replaced
        } else if may_update || found.is_empty() {
            Outcome::Updated
        } else {
            return Err(InitError::Differs { directory: self.place.clone(), differences: found.into_list() });
        };
        if manifest == OldManifest::Goes {
            let what = if old.symlink_metadata().is_ok() { "has another content" } else { "is missing" };
            found.add(Path::new(MANIFEST), what);
        }
        Ok(Verdict { outcome, changes: found.into_list(), keeps_outdated_manifest, manifest })
    }

    /// Puts the directory in its place.
    ///
    /// A directory that is there stays the same directory, with its mode and with all that is not ours: somebody may be in
    /// it. Each thing of ours is put in its place in one step, `Occlum.json` after the image.
    ///
    /// # Errors
    /// As [`Self::compare`], the place is then as it was; or a file system's error, after which a second run goes on.
    pub(crate) fn settle(self, force: bool) -> Result<Verdict, InitError> {
        let verdict = self.compare(force)?;
        if verdict.outcome == Outcome::Unchanged {
            return Ok(verdict);
        }
        if self.place.symlink_metadata().is_err() {
            fs::rename(&self.path, &self.place).map_err(InitError::io("create", &self.place))?;
            return Ok(verdict);
        }
        self.put(IMAGE)?;
        self.put(CONFIGURATION)?;
        if verdict.manifest == OldManifest::IsRenamed {
            let (old, free) = (self.place.join(MANIFEST), free_name(&self.place));
            fs::rename(old, &free).map_err(InitError::io("replace", &free))?;
        }
        if verdict.manifest != OldManifest::Stays {
            self.put(MANIFEST)?;
        }
        self.put(RECORD)?;
        Ok(verdict)
    }

    /// Puts one thing in its place; what was there goes with the draft.
    fn put(&self, name: &str) -> Result<(), InitError> {
        let (new, place) = (self.path.join(name), self.place.join(name));
        let error = InitError::io("replace", &place);
        let is_directory = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        let replace = || {
            if place.symlink_metadata().is_err() || !(is_directory(&new) || is_directory(&place)) {
                return fs::rename(&new, &place);
            }
            let old = self.path.join(format!("{name}.old"));
            fs::rename(&place, &old)?;
            fs::rename(&new, &place).inspect_err(|_| {
                // The first error says more than another one.
                let _ = fs::rename(&old, &place);
            })
        };
        replace().map_err(error)
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
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn draft(place: &Path) -> Draft {
        let draft = Draft::beside(place).unwrap();
        fs::create_dir_all(draft.path().join("image/bin")).unwrap();
        fs::write(draft.path().join("image/bin/app"), "app").unwrap();
        fs::write(draft.path().join(CONFIGURATION), "{}").unwrap();
        fs::write(draft.path().join(MANIFEST), "new").unwrap();
        draft.record("arguments").unwrap();
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
        assert_eq!(draft(&place).settle(false).unwrap().outcome, Outcome::Created);
        fs::create_dir(place.join("run")).unwrap();
        fs::write(place.join(MANIFEST), "edited").unwrap();
        assert_eq!(draft(&place).settle(false).unwrap().outcome, Outcome::Unchanged);
        assert_eq!(entries(&place), [RECORD, "Occlum.json", "image", "manifest.json", "run"]);
        assert_eq!(entries(directory.path()), ["instance"]);
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        drop(draft(&directory.path().join("instance")));
        assert_eq!(entries(directory.path()), Vec::<String>::new());
    }

    #[test]
    fn an_empty_directory_is_taken_and_stays_the_same_directory() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("instance");
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
        let number = place.metadata().unwrap().ino();
        assert_eq!(draft(&place).settle(false).unwrap().outcome, Outcome::Created);
        let metadata = place.metadata().unwrap();
        assert_eq!((metadata.ino(), metadata.permissions().mode() & 0o777), (number, 0o700));
        assert_eq!(entries(&place), [RECORD, "Occlum.json", "image", "manifest.json"]);
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
        assert_eq!(draft(&place).settle(true).unwrap().outcome, Outcome::Replaced);
        assert_eq!(entries(&place), [RECORD, "Occlum.json", "image", "manifest.json", "manifest.json.replaced", "run"]);
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
        assert_eq!(draft(&place).settle(false).unwrap().outcome, Outcome::Updated);
        assert_eq!(fs::read(place.join(MANIFEST)).unwrap(), b"new");
    }

    // rules: INST-3
    #[test]
    fn what_nobody_edited_is_updated_and_an_edited_manifest_stays() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("instance");
        draft(&place).settle(false).unwrap();
        fs::create_dir(place.join("run")).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
        let number = place.metadata().unwrap().ino();
        let again = |app: &str, manifest: &str, arguments: &str| {
            let draft = draft(&place);
            fs::write(draft.path().join("image/bin/app"), app).unwrap();
            fs::write(draft.path().join(MANIFEST), manifest).unwrap();
            draft.record(arguments).unwrap();
            draft.settle(false)
        };
        let verdict = again("app 2", "new", "arguments").unwrap();
        assert_eq!((verdict.outcome, verdict.keeps_outdated_manifest), (Outcome::Updated, false));
        assert_eq!(verdict.changes, ["image/bin/app has another content"]);
        assert_eq!(fs::read(place.join("image/bin/app")).unwrap(), b"app 2");
        let metadata = place.metadata().unwrap();
        assert_eq!((metadata.ino(), metadata.permissions().mode() & 0o777), (number, 0o700));

        // A manifest that nobody edited follows, an edited one stays and is named.
        assert_eq!(again("app 2", "newer", "arguments").unwrap().outcome, Outcome::Updated);
        assert_eq!(fs::read(place.join(MANIFEST)).unwrap(), b"newer");
        fs::write(place.join(MANIFEST), "edited").unwrap();
        let verdict = again("app 3", "newer", "arguments").unwrap();
        assert_eq!((verdict.outcome, verdict.keeps_outdated_manifest), (Outcome::Updated, false));
        assert!(again("app 3", "newest", "arguments").unwrap().keeps_outdated_manifest);
        assert_eq!(fs::read(place.join(MANIFEST)).unwrap(), b"edited");

        // What a killed run left: the image is gone, or is the new one already.
        fs::remove_dir_all(place.join("image")).unwrap();
        assert_eq!(again("app 4", "newer", "arguments").unwrap().outcome, Outcome::Updated);
        assert_eq!(entries(directory.path()), ["instance"]);

        // Other arguments, or an edit: nothing is replaced.
        assert!(matches!(again("app 5", "newer", "others"), Err(InitError::Differs { .. })));
        fs::write(place.join("image/bin/app"), "my app").unwrap();
        assert!(matches!(again("app 5", "newer", "arguments"), Err(InitError::Differs { .. })));
        assert_eq!(fs::read(place.join("image/bin/app")).unwrap(), b"my app");
        assert_eq!(entries(&place), [RECORD, "Occlum.json", "image", "manifest.json", "run"]);
    }

    #[test]
    fn a_directory_with_other_things_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("app.c"), "").unwrap();
        assert!(matches!(draft(directory.path()).settle(false), Err(InitError::Differs { .. })));
        assert_eq!(entries(directory.path()), ["app.c"]);
    }

    #[test]
    fn a_place_without_a_name_is_refused() {
        assert!(matches!(Draft::beside(Path::new("/")), Err(InitError::Value { .. })));
    }
}
