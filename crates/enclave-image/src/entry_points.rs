//! What the host may start.

use crate::occlum_json::OcclumJson;

/// The host may not start a program, or not in this way. Occlum's exit code is 127.
#[non_exhaustive]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryPointError {
    /// Occlum answers EINVAL.
    #[error("program: expected an absolute path without \"..\", got {0:?} (EINVAL)")]
    Path(String),
    /// Occlum answers EACCES.
    #[error("program {program:?} is not below an entry point of Occlum.json ({}) (EACCES)", allowed.join(", "))]
    NotAllowed {
        /// What was to be started.
        program: String,
        /// The entry points.
        allowed: Vec<String>,
    },
}

/// Checks a program that the host wants to start; inside, any executable file may be started.
///
/// # Errors
/// [`EntryPointError`], one variant per errno.
pub fn check_entry_point(config: &OcclumJson, program: &str) -> Result<(), EntryPointError> {
    if !program.starts_with('/') || program.split('/').any(|part| part == "..") {
        return Err(EntryPointError::Path(program.to_owned()));
    }
    fn components(path: &str) -> impl Iterator<Item = &str> {
        path.split('/').filter(|part| !part.is_empty() && *part != ".")
    }
    let is_below = |entry_point: &String| {
        let mut program = components(program);
        components(entry_point).all(|part| program.next() == Some(part))
    };
    if config.entry_points.iter().any(is_below) {
        return Ok(());
    }
    Err(EntryPointError::NotAllowed { program: program.to_owned(), allowed: config.entry_points.clone() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;

    fn config(entry_points: &str) -> OcclumJson {
        let text = format!(
            r#"{{"resource_limits": {{"user_space_size": "1MB", "kernel_space_heap_size": "1MB",
                 "kernel_space_stack_size": "1MB", "max_num_of_threads": 4}},
                "process": {{"default_stack_size": "8MB", "default_heap_size": "1MB", "default_mmap_size": "1MB"}},
                "entry_points": [{entry_points}], "env": {{"default": [], "untrusted": []}},
                "metadata": {{"product_id": 0, "version_number": 0, "debuggable": true}},
                "mount": [{{"target": "/", "type": "unionfs", "options": {{"layers": [
                    {{"target": "/", "type": "sefs", "options": {{"MAC": ""}}}},
                    {{"target": "/", "type": "sefs"}}]}}}}]}}"#
        );
        OcclumJson::parse(text.as_bytes()).unwrap()
    }

    // rules: OCC-11, SIM-5
    #[test]
    fn an_entry_point_covers_whole_components() {
        let config = config(r#""/bin", "/usr/bin/one""#);
        for allowed in ["/bin/a", "/bin/a/b", "/bin", "//bin//a", "/usr/bin/one"] {
            assert_eq!(check_entry_point(&config, allowed), Ok(()), "{allowed}");
        }
        for refused in ["/binary", "/usr/bin/two", "/usr/bin/onetwo", "/"] {
            let result = check_entry_point(&config, refused);
            assert!(matches!(result, Err(EntryPointError::NotAllowed { .. })), "{refused}: {result:?}");
        }
        for malformed in ["bin/x", "", "/bin/../x", "/bin/.."] {
            let result = check_entry_point(&config, malformed);
            assert!(matches!(result, Err(EntryPointError::Path(_))), "{malformed}: {result:?}");
        }
    }
}
