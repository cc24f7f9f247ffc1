//! Applying what the Coordinator delivered: files, environment, arguments.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use marblerun_api::rpc::Parameters;

/// The program where the Coordinator names none.
const DEFAULT_PROGRAM: &str = "./marble";
/// Where the Coordinator delivers a transparent TLS policy.
const TTLS_CONFIG: &str = "MARBLE_TTLS_CONFIG";

/// Where the image says which Coordinator it believes and what that one may set. A file that is delivered to it would
/// be believed at the next start, where what is written survives.
const POLICY_DIRECTORY: &str = "/etc/marblerun";

/// Why parameters were not applied.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    /// Transparent TLS needs a runtime that has it.
    #[error("the manifest asks for transparent TLS, which this runtime does not have")]
    Ttls,
    /// A variable's name cannot be set.
    #[error("expected the name of an environment variable, got {name:?}")]
    VariableName {
        /// The name.
        name: String,
    },
    /// A variable's value cannot be set.
    #[error("environment variable {name}: expected a value without NUL")]
    VariableValue {
        /// The name; the value may be secret.
        name: String,
    },
    /// An argument cannot be passed.
    #[error("argument {index}: expected text without NUL")]
    Argument {
        /// Position; the argument may be secret.
        index: usize,
    },
    /// A file's path cannot be used.
    #[error("expected the path of a file, got {path:?}")]
    Path {
        /// The path.
        path: String,
    },
    /// A file would change what the image says about its Coordinator.
    #[error("expected files outside of {}, which belongs to the image, the Coordinator sent {path:?}", directory.display())]
    Policy {
        /// Where no files may be delivered to.
        directory: PathBuf,
        /// The path.
        path: String,
    },
    /// A directory was not made.
    #[error("cannot create directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// A file was not written.
    #[error("cannot write file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
}

impl ParameterError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Ttls => {
                Some("remove the TLS tags from the Marble in the manifest; LibOS runtimes do not support them")
            }
            Self::Policy { .. } => Some("choose another place for this entry of the Marble's Files in the manifest"),
            Self::Directory { .. } | Self::File { .. } => {
                Some("the Marble's Files of the manifest must lie where the image is writable")
            }
            _ => None,
        }
    }
}

/// What the application is started with. Both parts may hold secrets, so `Debug` shows none of them.
pub struct Launch {
    /// All arguments; the first is the path of the program.
    pub argv: Vec<OsString>,
    /// The whole environment, sorted by name.
    pub environment: Vec<(OsString, OsString)>,
}

/// The program that `parameters` name.
pub(crate) fn program(parameters: &Parameters) -> &str {
    parameters.argv.first().map_or(DEFAULT_PROGRAM, String::as_str)
}

/// Checks all that can be checked without effect, so that a wrong delivery changes nothing.
///
/// # Errors
/// See [`ParameterError`].
pub fn check(parameters: &Parameters) -> Result<(), ParameterError> {
    if parameters.env.contains_key(TTLS_CONFIG) {
        return Err(ParameterError::Ttls);
    }
    for (name, value) in &parameters.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(ParameterError::VariableName { name: name.clone() });
        }
        if value.contains(&0) {
            return Err(ParameterError::VariableValue { name: name.clone() });
        }
    }
    if let Some(index) = parameters.argv.iter().position(|argument| argument.contains('\0')) {
        return Err(ParameterError::Argument { index });
    }
    match parameters.files.keys().find(|path| path.is_empty() || path.contains('\0') || path.ends_with('/')) {
        Some(path) => Err(ParameterError::Path { path: path.clone() }),
        None => check_places(parameters, Path::new(POLICY_DIRECTORY)),
    }
}

/// No file may lead into `policy`, by whatever name.
fn check_places(parameters: &Parameters, policy: &Path) -> Result<(), ParameterError> {
    let directory = destination(policy);
    match parameters.files.keys().find(|path| destination(Path::new(path)).starts_with(&directory)) {
        Some(path) => Err(ParameterError::Policy { directory: policy.to_owned(), path: path.clone() }),
        None => Ok(()),
    }
}

/// Where writing to `path` ends: links are followed as far as it exists, the rest is taken as it stands.
fn destination(path: &Path) -> PathBuf {
    // Without a working directory a relative path can be neither resolved nor written.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let components: Vec<Component<'_>> = absolute.components().collect();
    let existing =
        |count: usize| components[..count].iter().collect::<PathBuf>().canonicalize().ok().map(|path| (path, count));
    let (mut place, count) = (1..=components.len()).rev().find_map(existing).unwrap_or_default();
    for component in &components[count..] {
        match component {
            Component::ParentDir => {
                place.pop();
            }
            Component::CurDir => {}
            other => place.push(other),
        }
    }
    place
}

/// Writes the files: directories with mode 0700 where they are missing, files with mode 0600.
///
/// An existing file is truncated and keeps its mode. Relative paths are relative to the working directory.
///
/// # Errors
/// See [`ParameterError`].
pub fn write_files(parameters: &Parameters) -> Result<(), ParameterError> {
    for (path, content) in &parameters.files {
        write_file(Path::new(path), content)?;
    }
    Ok(())
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), ParameterError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|source| ParameterError::Directory { path: parent.to_owned(), source })?;
    }
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(content)
    };
    write().map_err(|source| ParameterError::File { path: path.to_owned(), source })
}

/// Arguments and environment of the application: received variables on top of `inherited` ones.
pub fn launch(parameters: Parameters, inherited: impl Iterator<Item = (OsString, OsString)>) -> Launch {
    let Parameters { env, argv, .. } = parameters;
    let mut environment = BTreeMap::new();
    // An inherited name that occurs twice keeps its first value, as the C library reads it.
    for (name, value) in inherited {
        environment.entry(name).or_insert(value);
    }
    environment.extend(env.into_iter().map(|(name, value)| (name.into(), OsString::from_vec(value))));
    let argv = if argv.is_empty() { vec![DEFAULT_PROGRAM.into()] } else { argv.into_iter().map(Into::into).collect() };
    Launch { argv, environment: environment.into_iter().collect() }
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("argv_count", &self.argv.len())
            .field("environment_count", &self.environment.len())
            .finish()
    }
}

impl Launch {
    /// The path of the program.
    pub fn program(&self) -> &OsStr {
        self.argv.first().map_or(OsStr::new(DEFAULT_PROGRAM), OsString::as_os_str)
    }

    /// Bytes that arguments, environment and the tables for them take on a new process' stack in Occlum, for a program
    /// that is called `argv0`.
    pub fn argument_area_bytes(&self, argv0: &OsStr) -> u64 {
        /// Auxiliary vector, counts and terminators.
        const FIXED: usize = 304;
        /// Rounding of strings and of the stack pointer.
        const ALIGNMENT: usize = 64;
        let arguments = self.argv.iter().skip(1).map(OsString::as_os_str).chain([argv0]);
        let strings: usize = arguments.map(|argument| argument.as_bytes().len() + 1).sum();
        let variables: usize = self.environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        let pointers = 8 * (self.argv.len() + self.environment.len());
        (strings + variables + pointers + FIXED + ALIGNMENT) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn env(pairs: &[(&str, &[u8])]) -> Parameters {
        Parameters {
            env: pairs.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect(),
            ..Parameters::default()
        }
    }

    fn files(pairs: &[(&Path, &[u8])]) -> Parameters {
        let files = pairs.iter().map(|(path, content)| (path.to_str().unwrap().to_owned(), content.to_vec())).collect();
        Parameters { files, ..Parameters::default() }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn os(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    // rules: ACT-8.4
    #[test]
    fn new_directories_are_0700_and_files_0600() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/secret");
        write_files(&files(&[(&path, b"\x00\xff")])).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"\x00\xff");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&dir.path().join("a/b")), 0o700);
        assert_eq!(mode(&dir.path().join("a")), 0o700);
    }

    // rules: ACT-8.4
    #[test]
    fn an_existing_file_is_truncated_and_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"a long content").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        write_files(&files(&[(&path, b"new")])).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o644);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = write_files(&files(&[(&file.join("below"), b"hunter2")])).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot create directory {}", file.display()));
        let error = write_files(&files(&[(dir.path(), b"hunter2")])).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write file {}", dir.path().display()));
    }

    // rules: ACT-8.5
    #[test]
    fn received_variables_win_and_others_stay() {
        let parameters = env(&[("B", b"received"), ("C", b"\xff")]);
        let inherited = os(&[("A", "kept"), ("B", "inherited"), ("A", "second")]);
        let launch = launch(parameters, inherited.into_iter());
        let mut expected = os(&[("A", "kept"), ("B", "received")]);
        expected.push(("C".into(), OsString::from_vec(vec![0xff])));
        assert_eq!(launch.environment, expected);
    }

    // rules: ACT-8.5
    #[test]
    fn variables_that_no_environment_can_hold_are_refused() {
        for name in ["", "A=B", "A\0"] {
            let error = check(&env(&[(name, b"v")])).unwrap_err();
            assert!(matches!(error, ParameterError::VariableName { .. }), "{name:?}");
        }
        let error = check(&env(&[("A", b"hunter2\0")])).unwrap_err();
        assert_eq!(error.to_string(), "environment variable A: expected a value without NUL");
        assert!(check(&env(&[("A", b"")])).is_ok());
    }

    #[test]
    fn arguments_with_nul_are_refused() {
        let parameters = Parameters { argv: vec!["/bin/a".into(), "x\0y".into()], ..Parameters::default() };
        assert_eq!(check(&parameters).unwrap_err().to_string(), "argument 1: expected text without NUL");
    }

    #[test]
    fn paths_that_name_no_file_are_refused() {
        for path in ["", "/a\0b", "/a/"] {
            let error = check(&files(&[(Path::new(path), b"")])).unwrap_err();
            assert!(matches!(error, ParameterError::Path { .. }), "{path:?}");
        }
    }

    #[test]
    fn files_below_the_images_policy_are_refused_by_every_name() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("etc/marblerun");
        std::fs::create_dir_all(dir.path().join("other")).unwrap();
        let names = |beside: &[&str], inside: &[&str]| {
            for name in inside {
                let path = dir.path().join(name);
                let error = check_places(&files(&[(&path, b"{}")]), &policy).unwrap_err();
                assert!(matches!(error, ParameterError::Policy { .. }), "{name}");
                assert!(error.to_string().contains(policy.to_str().unwrap()), "{error}");
            }
            for name in beside {
                check_places(&files(&[(&dir.path().join(name), b"")]), &policy).unwrap();
            }
        };
        let inside = ["etc/marblerun/premain.json", "etc/./marblerun//a/b", "etc/x/../marblerun/coordinator.json"];
        let beside = ["etc/marblerun2", "etc/app", "other/etc/marblerun/a", "etc/marblerun/../app"];
        // Both where the directory is missing and where it is there.
        names(&beside, &inside);
        std::fs::create_dir_all(&policy).unwrap();
        names(&beside, &inside);
        std::os::unix::fs::symlink(&policy, dir.path().join("link")).unwrap();
        names(&beside, &["link/premain.json", "other/../link/new/file"]);
    }

    #[test]
    fn the_images_policy_is_where_it_is_read() {
        for path in ["/etc/marblerun/premain.json", "/etc/marblerun/coordinator.json", "/etc/../etc/marblerun/new"] {
            assert!(matches!(check(&files(&[(Path::new(path), b"")])), Err(ParameterError::Policy { .. })), "{path}");
        }
        assert!(Path::new(crate::pin::PIN_PATH).starts_with(POLICY_DIRECTORY));
        assert!(Path::new(crate::restrictions::RESTRICTIONS_PATH).starts_with(POLICY_DIRECTORY));
    }

    // rules: ACT-8.7
    #[test]
    fn transparent_tls_is_refused_whatever_it_holds() {
        for config in [&br#"{"tls":{}}"#[..], br#"{"tls":{"Incoming":{"*:80":{}}}}"#, b"garbage"] {
            assert!(matches!(check(&env(&[(TTLS_CONFIG, config)])), Err(ParameterError::Ttls)));
        }
    }

    #[test]
    fn debug_output_does_not_contain_arguments_or_variables() {
        let parameters = Parameters { argv: vec!["hunter2".into()], ..env(&[("A", b"hunter2")]) };
        let text = format!("{:?}", launch(parameters, std::iter::empty()));
        assert_eq!(text, "Launch { argv_count: 1, environment_count: 1 }");
    }

    // rules: ACT-8.6
    #[test]
    fn without_arguments_the_program_is_marble_in_the_working_directory() {
        let launch = launch(Parameters::default(), std::iter::empty());
        assert_eq!(launch.argv, [OsString::from("./marble")]);
        assert_eq!(launch.program(), "./marble");
    }

    #[test]
    fn the_argument_area_counts_strings_pointers_and_tables() {
        let parameters = Parameters { argv: vec!["/bin/app".into(), "xy".into()], ..env(&[("AB", b"cde")]) };
        let launch = launch(parameters, std::iter::empty());
        // "app" 4, "xy" 3, "AB=cde" 7, three pointers 24.
        assert_eq!(launch.argument_area_bytes(OsStr::new("app")), 4 + 3 + 7 + 24 + 304 + 64);
    }
}
