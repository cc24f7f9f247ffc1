//! The environment of a program that the host starts.

use std::ffi::{OsStr, OsString};

use marblerun_enclave_image::occlum_json::Environment;

/// A variable of the host's environment stops Occlum.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name:?}: expected UTF-8, got other bytes; Occlum stops at them")]
pub struct NotUtf8 {
    /// Its name, as far as it can be shown.
    pub name: String,
}

/// The environment of a program that the host starts.
///
/// A name of `env.untrusted` that the host sets replaces an entry of `env.default`. First come the remaining defaults in
/// the order of the file, then the host's entries in the host's order. Names that are not listed are dropped.
///
/// # Errors
/// [`NotUtf8`].
pub fn merge_environment(
    config: &Environment,
    host: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<String>, NotUtf8> {
    let mut from_host = Vec::new();
    for (name, value) in host {
        let shown = |name: &OsStr| NotUtf8 { name: name.to_string_lossy().into_owned() };
        let text = name.to_str().ok_or_else(|| shown(&name))?;
        let value = value.to_str().ok_or_else(|| shown(&name))?;
        if config.untrusted.iter().any(|allowed| allowed == text) {
            from_host.push((text.to_owned(), value.to_owned()));
        }
    }
    let name_of = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let remaining =
        config.default.iter().filter(|entry| from_host.iter().all(|(name, _)| *name != name_of(entry))).cloned();
    let mut merged: Vec<String> = remaining.collect();
    merged.extend(from_host.iter().map(|(name, value)| format!("{name}={value}")));
    Ok(merged)
}

/// The environment of the configuration after the init stage: its variables come first and replace those of the same name.
pub fn after_init(config: &Environment, init: Vec<String>) -> Environment {
    let name_of = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let replaced: Vec<String> = init.iter().map(|entry| name_of(entry)).collect();
    let remaining = config.default.iter().filter(|entry| !replaced.contains(&name_of(entry))).cloned();
    Environment { default: init.into_iter().chain(remaining).collect(), untrusted: config.untrusted.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(default: &[&str], untrusted: &[&str], host: &[(&str, &str)]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect();
        let config = Environment { default: owned(default), untrusted: owned(untrusted) };
        merge_environment(&config, host.iter().map(|(name, value)| (name.into(), value.into()))).unwrap()
    }

    // rules: OCC-10
    #[test]
    fn listed_names_replace_defaults_and_all_others_are_dropped() {
        assert_eq!(
            merged(&["A=1", "B=2", "C=3"], &["B", "X"], &[("X", "9"), ("SECRET", "no"), ("B", "8"), ("A", "7")]),
            ["A=1", "C=3", "X=9", "B=8"]
        );
        assert_eq!(merged(&["A=1"], &["A"], &[]), ["A=1"]);
        assert_eq!(merged(&["AB=1"], &["A"], &[("A", "2")]), ["AB=1", "A=2"]);
        assert_eq!(merged(&[], &["A"], &[("A", "2"), ("A", "3")]), ["A=2", "A=3"]);
    }

    // rules: INIT-9
    #[test]
    fn variables_of_the_init_stage_come_first_and_only_the_host_replaces_them() {
        let owned = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
        let config = Environment { default: owned(&["A=1", "B=2", "C=3"]), untrusted: owned(&["C", "X"]) };
        let config = after_init(&config, owned(&["X=init", "B=init", "C=init"]));
        assert_eq!(config.default, ["X=init", "B=init", "C=init", "A=1"]);
        let host = [("C".into(), "host".into()), ("B".into(), "host".into())];
        assert_eq!(merge_environment(&config, host).unwrap(), ["X=init", "B=init", "A=1", "C=host"]);
    }

    #[test]
    fn a_host_variable_that_is_not_utf8_is_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let config = Environment { default: vec![], untrusted: vec![] };
        let host = [("NAME".into(), OsString::from_vec(vec![0xff]))];
        assert_eq!(merge_environment(&config, host), Err(NotUtf8 { name: "NAME".into() }));
    }
}
