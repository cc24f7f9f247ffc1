//! What is left out when directories are copied: the patterns of rsync that images use.

use std::path::Path;

use super::BomError;

/// Most `**` of a pattern: each multiplies the ways in which a path can match.
const MAX_ANY_DEPTH: usize = 3;

/// A pattern of `excludes`.
///
/// As in rsync: without a slash it is compared with the last component, with one it is compared with the end of the path,
/// and with one at the beginning with the whole path below the copied directory, which begins with the directory's name where
/// that is copied too. A slash at the end means directories only.
/// `*` and `?` stay within a component, `**` does not and must be one of its own. Character sets are not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    components: Vec<String>,
    is_anchored: bool,
    is_directory: bool,
}

impl Pattern {
    pub(super) fn parse(text: &str, line: usize) -> Result<Self, BomError> {
        let components: Vec<_> = text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let any_depth = components.iter().filter(|component| *component == "**").count();
        // Read as two single ones they would leave out less than rsync does.
        let has_other = components.iter().any(|component| *component != "**" && component.contains("**"));
        if components.is_empty() || text.contains(['[', '\\']) || has_other || any_depth > MAX_ANY_DEPTH {
            return Err(BomError::Pattern { line, text: text.to_owned() });
        }
        Ok(Self { components, is_anchored: text.starts_with('/'), is_directory: text.ends_with('/') })
    }

    /// True if `path` is left out.
    pub(super) fn matches(&self, path: &Path, is_directory: bool) -> bool {
        if self.is_directory && !is_directory {
            return false;
        }
        let path: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let path: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
        let starts = if self.is_anchored { 0..1 } else { 0..path.len() };
        starts.into_iter().any(|start| matches_path(&self.components, path.get(start..).unwrap_or_default()))
    }
}

fn matches_path(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            (0..=path.len()).any(|skipped| matches_path(rest, path.get(skipped..).unwrap_or_default()))
        }
        (Some((first, rest)), Some((name, below))) => {
            matches_name(first.as_bytes(), name.as_bytes()) && matches_path(rest, below)
        }
        _ => false,
    }
}

/// `*` is any text, `?` any byte. Without backtracking beyond the last star, so that time stays quadratic.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[from] => {
                at += 1;
                from += 1;
            }
            _ => match &mut star {
                Some((star_at, star_from)) => {
                    *star_from += 1;
                    (at, from) = (*star_at + 1, *star_from);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, path: &str, expected: bool) {
        let (path, is_directory) = (path.trim_end_matches('/'), path.ends_with('/'));
        let pattern = Pattern::parse(pattern, 1).unwrap();
        assert_eq!(pattern.matches(Path::new(path), is_directory), expected);
    }

    #[test]
    fn patterns_match_as_rsyncs_do() {
        check(".git", ".git/", true);
        check(".git", "a/.git/", true);
        check(".git", "a/.gitignore", false);
        check("*.pyc", "a/b/c.pyc", true);
        check("*.pyc", "a/b/c.py", false);
        check("build/", "build/", true);
        check("build/", "build", false);
        check("/build", "build", true);
        check("/build", "a/build", false);
        check("a/b", "x/a/b", true);
        check("a/b", "a/x/b", false);
        check("a/**/b", "a/x/y/b", true);
        check("a?c*", "abcdef", true);
        check("a*b*c", "aXbYbZc", true);
        check("a*b*c", "aXbY", false);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in ["", "/", "[ab]", "a\\*", "a**b", "a/***", "**/a/**/a/**/a/**"] {
            assert!(matches!(Pattern::parse(text, 3), Err(BomError::Pattern { line: 3, .. })), "{text}");
        }
    }
}
