//! What the image allows a Coordinator to set: `premain.json`.
//!
//! ```json
//! {"Programs": ["/bin/hello_world"], "FilePrefixes": ["/etc/app"], "Variables": ["APP_*", "LANG"]}
//! ```
//!
//! Each member is optional; an absent one restricts nothing, a present one allows only what it lists, and an empty
//! list allows nothing. `Programs` are compared with the first argument as a whole. `FilePrefixes` are directories
//! (or files), compared by whole components; paths must then be absolute and free of `..`. The comparison is of names:
//! a symbolic link that the image holds below a prefix leads where it leads. `Variables` are names; a trailing `*`
//! stands for any rest. The variables that every activation delivers (`MARBLE_PREDEFINED_…`) are always allowed.

use std::path::{Component, Path};

use marblerun_api::rpc::Parameters;
use marblerun_linux::regular_file::{ReadError, read_bounded};
use marblerun_tee::parse_object;
use serde::Deserialize;

/// Where the image holds the file; an absent file restricts nothing.
pub const RESTRICTIONS_PATH: &str = "/etc/marblerun/premain.json";

/// The lists name some programs, directories and variables.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// Variables of every activation; the application needs them for its identity.
const PREDEFINED_PREFIX: &str = "MARBLE_PREDEFINED_";

/// What a Coordinator may set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", default)]
pub struct Restrictions {
    programs: Option<Vec<String>>,
    file_prefixes: Option<Vec<String>>,
    variables: Option<Vec<String>>,
}

/// Why parameters are not applied, or why nobody knows whether they may be.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum RestrictionError {
    /// The file cannot be read.
    #[error("premain.json cannot be read")]
    Read(#[source] ReadError),
    /// The file is not the expected JSON.
    #[error("premain.json is not valid")]
    Json(#[source] serde_json::Error),
    /// A prefix cannot be compared with a path.
    #[error("premain.json: FilePrefixes: expected absolute paths without \"..\", got {prefix:?}")]
    Prefix {
        /// The entry.
        prefix: String,
    },
    /// The program is not allowed.
    #[error("premain.json allows the programs {allowed:?}, the Coordinator sent {got:?}")]
    Program {
        /// The list of the file.
        allowed: Vec<String>,
        /// The first argument.
        got: String,
    },
    /// A file is not allowed.
    #[error("premain.json allows files below {allowed:?}, the Coordinator sent {got:?}")]
    File {
        /// The list of the file.
        allowed: Vec<String>,
        /// The path.
        got: String,
    },
    /// A variable is not allowed.
    #[error("premain.json allows the variables {allowed:?}, the Coordinator sent {got:?}")]
    Variable {
        /// The list of the file.
        allowed: Vec<String>,
        /// The name.
        got: String,
    },
}

impl Restrictions {
    /// Reads the file; an absent one restricts nothing.
    ///
    /// # Errors
    /// See [`RestrictionError`]; a wrong file is fatal.
    pub fn read(path: &Path) -> Result<Self, RestrictionError> {
        match read_bounded(path, MAX_FILE_BYTES).map_err(RestrictionError::Read)? {
            None => Ok(Self::default()),
            Some(content) => Self::parse(&content),
        }
    }

    fn parse(content: &[u8]) -> Result<Self, RestrictionError> {
        let restrictions: Self = parse_object(content).map_err(RestrictionError::Json)?;
        for prefix in restrictions.file_prefixes.iter().flatten() {
            if !is_plain(Path::new(prefix)) {
                return Err(RestrictionError::Prefix { prefix: prefix.clone() });
            }
        }
        Ok(restrictions)
    }

    /// Checks everything that `parameters` would set.
    ///
    /// # Errors
    /// The first thing that is not allowed.
    pub fn check(&self, parameters: &Parameters) -> Result<(), RestrictionError> {
        if let Some(allowed) = &self.programs {
            let got = crate::parameters::program(parameters);
            if !allowed.iter().any(|program| program == got) {
                return Err(RestrictionError::Program { allowed: allowed.clone(), got: got.to_owned() });
            }
        }
        if let Some(allowed) = &self.file_prefixes {
            for got in parameters.files.keys() {
                let path = Path::new(got);
                if !is_plain(path) || !allowed.iter().any(|prefix| path.starts_with(prefix)) {
                    return Err(RestrictionError::File { allowed: allowed.clone(), got: got.clone() });
                }
            }
        }
        if let Some(allowed) = &self.variables {
            for got in parameters.env.keys().filter(|name| !name.starts_with(PREDEFINED_PREFIX)) {
                if !allowed.iter().any(|pattern| matches(pattern, got)) {
                    return Err(RestrictionError::Variable { allowed: allowed.clone(), got: got.clone() });
                }
            }
        }
        Ok(())
    }
}

/// Absolute and free of `..`, so that comparing components means something.
fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|component| component == Component::ParentDir)
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        r#"{"Programs":["/bin/app"],"FilePrefixes":["/etc/app","/data/one"],"Variables":["APP_*","LANG"]}"#;

    fn parameters(program: &str, file: &str, variable: &str) -> Parameters {
        Parameters {
            argv: vec![program.into()],
            files: [(file.to_owned(), vec![])].into_iter().collect(),
            env: [(variable.to_owned(), vec![])].into_iter().collect(),
        }
    }

    #[track_caller]
    fn check(program: &str, file: &str, variable: &str, refusal: Option<&str>) {
        let restrictions = Restrictions::parse(FILE.as_bytes()).unwrap();
        let result = restrictions.check(&parameters(program, file, variable)).map_err(|error| error.to_string());
        assert_eq!(result.err().as_deref(), refusal);
    }

    #[test]
    fn what_the_lists_name_is_allowed() {
        check("/bin/app", "/etc/app/key.pem", "APP_MODE", None);
        check("/bin/app", "/data/one", "LANG", None);
        check("/bin/app", "/etc/app", "MARBLE_PREDEFINED_PRIVATE_KEY", None);
    }

    #[test]
    fn another_program_is_refused() {
        let message = r#"premain.json allows the programs ["/bin/app"], the Coordinator sent "/bin/sh""#;
        check("/bin/sh", "/etc/app/a", "LANG", Some(message));
    }

    #[test]
    fn files_outside_the_prefixes_are_refused() {
        for file in ["/etc/application", "/etc/app/../passwd", "etc/app/a", "/etc", "/data/ones"] {
            let message =
                format!(r#"premain.json allows files below ["/etc/app", "/data/one"], the Coordinator sent "{file}""#);
            check("/bin/app", file, "LANG", Some(&message));
        }
    }

    #[test]
    fn other_variables_are_refused() {
        for name in ["LD_PRELOAD", "LANGUAGE", "APP", "app_x"] {
            let message =
                format!(r#"premain.json allows the variables ["APP_*", "LANG"], the Coordinator sent "{name}""#);
            check("/bin/app", "/etc/app/a", name, Some(&message));
        }
    }

    #[test]
    fn the_default_program_is_compared_where_the_coordinator_sends_none() {
        let restrictions = Restrictions::parse(br#"{"Programs":["/bin/app"]}"#).unwrap();
        assert!(restrictions.check(&Parameters::default()).is_err());
        let restrictions = Restrictions::parse(br#"{"Programs":["./marble"]}"#).unwrap();
        assert!(restrictions.check(&Parameters::default()).is_ok());
    }

    #[test]
    fn absent_lists_restrict_nothing_and_empty_ones_allow_nothing() {
        let all = parameters("/bin/sh", "../x", "LD_PRELOAD");
        assert!(Restrictions::parse(b"{}").unwrap().check(&all).is_ok());
        assert!(Restrictions::read(Path::new("/nonexistent")).unwrap().check(&all).is_ok());
        for file in [r#"{"Programs":[]}"#, r#"{"FilePrefixes":[]}"#, r#"{"Variables":[]}"#] {
            assert!(Restrictions::parse(file.as_bytes()).unwrap().check(&all).is_err(), "{file}");
        }
    }

    #[test]
    fn a_wrong_file_is_fatal() {
        for file in ["", "[]", r#"{"programs":[]}"#, r#"{"Program":[]}"#, r#"{"Programs":"/bin/a"}"#] {
            assert!(matches!(Restrictions::parse(file.as_bytes()), Err(RestrictionError::Json(_))), "{file}");
        }
        for prefix in ["etc", "/a/../b"] {
            let file = format!(r#"{{"FilePrefixes":["{prefix}"]}}"#);
            assert!(matches!(Restrictions::parse(file.as_bytes()), Err(RestrictionError::Prefix { .. })), "{file}");
        }
    }
}
