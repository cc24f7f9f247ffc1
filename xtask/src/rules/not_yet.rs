//! Conformance tests that are left out because what they test does not exist yet.

use super::annotation::Annotation;

/// The lines of `tests/conformance/not-yet.txt`: `file`, `file::test` or `file::test[case]`.
pub struct NotYet(Vec<String>);

impl NotYet {
    /// Reads the list; a case counts as its whole test, because a rule needs a test that runs whole.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(|line| line.split('[').next().unwrap_or_default().to_owned()).collect())
    }

    /// Whether the test that carries this comment is in the list.
    pub fn leaves_out(&self, annotation: &Annotation) -> bool {
        let Some(file) = annotation.path.strip_prefix("tests/conformance/") else { return false };
        self.0.iter().any(|line| match line.split_once("::") {
            Some((named, test)) => named == file && test == annotation.test,
            None => line == file,
        })
    }
}
