//! What was found, and where.

use std::fmt;

use super::rule::{Rule, Severity};

/// Longest text from a file that is repeated in a finding, in characters.
const MAX_SHOWN: usize = 120;

/// Findings that are kept; a file that is wrong everywhere is not described any better by more.
const MAX_FINDINGS: usize = 500;

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A member of `Occlum.json`, such as `env.untrusted[2]`; empty for the file as a whole.
    OcclumJson(String),
    /// A file of the image, as programs inside see it.
    Image(String),
    /// A member of the manifest.
    Manifest(String),
    /// A file of the instance directory.
    Instance(String),
}

impl Place {
    /// The file: `Occlum.json`, `image`, `manifest` or the file of the instance directory.
    pub fn file(&self) -> &str {
        match self {
            Self::OcclumJson(_) => "Occlum.json",
            Self::Image(_) => "image",
            Self::Manifest(_) => "manifest",
            Self::Instance(file) => file,
        }
    }

    /// The place in it, if it is not the file as a whole: a JSON path, or a path in the image.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::OcclumJson(path) | Self::Image(path) | Self::Manifest(path) => {
                Some(path).filter(|path| !path.is_empty())
            }
            Self::Instance(_) => None,
        }
        .map(String::as_str)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file())?;
        match self.path() {
            Some(path) => write!(f, ": {path}"),
            None => Ok(()),
        }
    }
}

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// How bad it is here.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What is wrong, with the values; never a secret.
    pub reason: String,
    /// What to do; a sentence.
    pub fix: String,
}

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    is_debuggable: bool,
}

impl Findings {
    /// From now on the severities of a debuggable instance count.
    pub(super) fn set_debuggable(&mut self) {
        self.is_debuggable = true;
    }

    /// Adds one with the rule's usual severity and advice.
    pub(super) fn add(&mut self, rule: Rule, place: Place, reason: impl Into<String>) {
        self.add_with_fix(rule, place, reason, rule.fix());
    }

    /// Adds one with other advice.
    pub(super) fn add_with_fix(&mut self, rule: Rule, place: Place, reason: impl Into<String>, fix: impl Into<String>) {
        let severity = if self.is_debuggable { rule.severity_if_debuggable() } else { rule.severity() };
        self.add_as(severity, rule, place, reason, fix);
    }

    /// Adds one with another severity.
    pub(super) fn add_as(
        &mut self,
        severity: Severity,
        rule: Rule,
        place: Place,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let finding = Finding { rule, severity, place, reason: reason.into(), fix: fix.into() };
        // Premain and program share loader and libraries: what is wrong with them is told once.
        if self.list.len() < MAX_FINDINGS && !self.list.contains(&finding) {
            self.list.push(finding);
        }
    }

    /// The findings, by family, worst first.
    pub(super) fn into_sorted(mut self) -> Vec<Finding> {
        self.list.sort_by_key(|finding| (finding.rule.family(), finding.severity));
        self.list
    }
}

/// Text from a file in quotes, cut where it is long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
