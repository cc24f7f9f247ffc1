//! Where profiles are kept: `marblerun/profiles/` in the user's configuration directory, readable by the user only.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use super::{MAX_PROFILE_BYTES, Profile};
use crate::cache;
use crate::failure::Cause;
use crate::files;

const WHAT: &str = "profile";
const WHAT_DEFAULT: &str = "name of the default profile";

/// Longest name, in characters.
const MAX_NAME_CHARS: usize = 64;

/// The name of a profile: letters, digits, `.`, `_` and `-`, so that it is a file's name and needs no quotes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a name of 1 to {MAX_NAME_CHARS} letters, digits, '.', '_' and '-' that begins with a letter or digit, got {got:?}"
)]
pub(crate) struct NameError {
    got: String,
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_good = text.len() <= MAX_NAME_CHARS
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if is_good { Ok(Self(text.to_owned())) } else { Err(NameError { got: text.to_owned() }) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The profiles of a user.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
}

impl Store {
    /// The profiles of the user who runs the program.
    pub(crate) fn of_user() -> Result<Self, Cause> {
        Ok(Self { directory: cache::config_directory()?.join("profiles") })
    }

    /// All names, sorted. Files of other names are left out.
    pub(crate) fn names(&self) -> Result<Vec<Name>, Cause> {
        let error = |source| Cause::Read { what: "profiles", path: self.directory.clone(), source };
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(error(source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(error)?.file_name();
            names.extend(name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok()));
        }
        names.retain(|name: &Name| !name.0.ends_with(HEAD_SUFFIX));
        names.sort();
        Ok(names)
    }

    /// Reads a profile.
    pub(crate) fn read(&self, name: &Name) -> Result<Profile, Cause> {
        let path = self.file(name);
        let text = match files::read(WHAT, &path, MAX_PROFILE_BYTES) {
            Err(Cause::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let known = self.names()?.iter().map(ToString::to_string).collect();
                return Err(Cause::NoProfile { name: name.to_string(), known });
            }
            text => text?,
        };
        Profile::parse(&text).map_err(|source| Cause::Profile { path, source })
    }

    /// Writes a profile whole or not at all.
    pub(crate) fn write(&self, name: &Name, profile: &Profile) -> Result<(), Cause> {
        files::replace(WHAT, &self.file(name), format!("{:#}\n", profile.to_json()).as_bytes())
    }

    /// True if there is a profile of this name.
    pub(crate) fn contains(&self, name: &Name) -> bool {
        self.file(name).exists()
    }

    /// Removes a profile with its certificate cache and remembered state. Where it was the default, there is none then.
    pub(crate) fn remove(&self, name: &Name) -> Result<(), Cause> {
        // Nothing of it must be in force without the rest, so that the profile itself goes first.
        let path = self.file(name);
        fs::remove_file(&path).map_err(|source| Cause::Write { what: WHAT, path, source })?;
        self.forget_state(name)?;
        if self.default()?.as_ref() == Some(name) { self.set_default(None) } else { Ok(()) }
    }

    /// Removes what is remembered of the deployment that a profile names: certificates and state.
    pub(crate) fn forget_state(&self, name: &Name) -> Result<(), Cause> {
        [self.certificates(name), self.head(name)].into_iter().try_for_each(|path| remove_if_there(WHAT, path))
    }

    /// The profile's own certificate cache.
    pub(crate) fn certificates(&self, name: &Name) -> PathBuf {
        self.directory.join(format!("{name}.pem"))
    }

    /// The profile's remembered state, beside its certificate cache.
    pub(crate) fn head(&self, name: &Name) -> PathBuf {
        self.directory.join(format!("{name}.pem{HEAD_SUFFIX}.json"))
    }

    /// The profile that is used where none is named and no address is given.
    pub(crate) fn default(&self) -> Result<Option<Name>, Cause> {
        let path = self.default_file();
        let text = match files::read(WHAT_DEFAULT, &path, MAX_NAME_CHARS + 1) {
            Err(Cause::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let name = String::from_utf8_lossy(&text).trim_end().parse();
        name.map(Some).map_err(|source| Cause::DefaultProfile { path, source })
    }

    /// Sets or removes the default.
    pub(crate) fn set_default(&self, name: Option<&Name>) -> Result<(), Cause> {
        match name {
            Some(name) => files::replace(WHAT_DEFAULT, &self.default_file(), format!("{name}\n").as_bytes()),
            None => remove_if_there(WHAT_DEFAULT, self.default_file()),
        }
    }

    fn file(&self, name: &Name) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    fn default_file(&self) -> PathBuf {
        self.directory.join("default")
    }
}

/// Ends the names of files with remembered states, before `.json`.
const HEAD_SUFFIX: &str = ".head";

fn remove_if_there(what: &'static str, path: PathBuf) -> Result<(), Cause> {
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Cause::Write { what, path, source }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn store(directory: &tempfile::TempDir) -> Store {
        Store { directory: directory.path().join("profiles") }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_names_of_files_and_nothing_else() {
        for good in ["a", "prod-1", "A.b_c"] {
            assert_eq!(good.parse::<Name>().unwrap().to_string(), good);
        }
        for bad in ["", ".a", "-a", "a/b", "..", "a b", "ä", &"a".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn profiles_are_kept_for_their_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        assert_eq!(store.names().unwrap(), []);
        let profile = Profile { address: "h:1".to_owned(), ..Profile::default() };
        store.write(&name("b"), &profile).unwrap();
        store.write(&name("a"), &profile).unwrap();
        assert_eq!(store.names().unwrap(), [name("a"), name("b")]);
        assert_eq!(store.read(&name("a")).unwrap(), profile);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&store.directory), mode(&store.file(&name("a")))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&store.directory).unwrap().count(), 2);
    }

    #[test]
    fn a_removed_profile_takes_everything_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let (kept, gone) = (name("a"), name("b"));
        for name in [&kept, &gone] {
            store.write(name, &Profile::default()).unwrap();
            fs::write(store.certificates(name), "").unwrap();
            fs::write(store.head(name), "").unwrap();
        }
        store.set_default(Some(&gone)).unwrap();
        assert_eq!(store.names().unwrap(), [kept.clone(), gone.clone()]);
        store.remove(&gone).unwrap();
        assert_eq!((store.names().unwrap(), store.default().unwrap()), (vec![kept], None));
        assert_eq!(fs::read_dir(&store.directory).unwrap().count(), 3);
        assert!(matches!(store.read(&gone), Err(Cause::NoProfile { .. })));
    }

    #[test]
    fn a_default_that_is_no_name_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        assert_eq!(store.default().unwrap(), None);
        fs::create_dir_all(&store.directory).unwrap();
        fs::write(store.default_file(), "../x\n").unwrap();
        assert!(matches!(store.default(), Err(Cause::DefaultProfile { .. })));
    }
}
