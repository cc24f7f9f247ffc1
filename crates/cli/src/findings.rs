//! What is wrong, or probably wrong, with a manifest.

use std::fmt;
use std::time::SystemTime;

use marblerun_coordinator_core::identity::Identity;
use marblerun_coordinator_core::record::Genesis;
use marblerun_coordinator_core::set_manifest::{self, SetManifestError};
use marblerun_coordinator_core::time::Timestamp;
use marblerun_manifest::{self as manifest, AzureHsm, Manifest};
use marblerun_pki::AltNames;
use serde_json::{Value, json};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// A Coordinator refuses the manifest.
    Error,
    /// A Coordinator accepts it, but it is probably a mistake.
    Warning,
    /// Works as written, but protects less than it could.
    Note,
}

impl Severity {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One finding.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// All findings of a manifest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    /// Checks a manifest as a Coordinator would, and for what is probably a mistake; `notes` are about the file.
    pub(crate) fn of(manifest: &[u8], notes: &[String]) -> Self {
        let mut found: Vec<_> = notes
            .iter()
            .map(|note| Finding { severity: Severity::Warning, message: note.clone(), hint: None })
            .collect();
        let manifest = match Manifest::decode(manifest) {
            Ok(manifest) => manifest,
            Err(error) => {
                let hint = error.hint().map(str::to_owned);
                found.push(Finding { severity: Severity::Error, message: error.to_string(), hint });
                return Self(found);
            }
        };
        // Whether the Coordinator has an HSM is only known there.
        if let Err(error) = manifest.check(AzureHsm::Available) {
            found.push(Finding { severity: Severity::Error, message: chain(&error), hint: error.hint() });
        }
        for warning in manifest.warnings() {
            let severity = match warning.code.severity() {
                manifest::Severity::Mistake => Severity::Warning,
                manifest::Severity::Weakness => Severity::Note,
            };
            found.push(Finding { severity, message: warning.to_string(), hint: None });
        }
        Self(found)
    }

    /// Does what a Coordinator does with the manifest, secrets and dry run of the templates included, with a throw-away
    /// identity. Takes as long as generating the manifest's RSA keys.
    pub(crate) fn try_out(&mut self, manifest: &[u8]) {
        // What was refused already would only be refused again.
        if self.count(Severity::Error) > 0 {
            return;
        }
        if let Err(error) = try_out(manifest) {
            let hint = error.downcast_ref::<SetManifestError>().and_then(SetManifestError::hint);
            self.0.push(Finding { severity: Severity::Error, message: chain(error.as_ref()), hint });
        }
    }

    /// True if nothing stands in the way.
    pub(crate) fn are_acceptable(&self, allow_warnings: bool) -> bool {
        self.count(Severity::Error) == 0 && (allow_warnings || self.count(Severity::Warning) == 0)
    }

    pub(crate) fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|finding| finding.severity == severity).count()
    }

    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self.count(Severity::Error) {
            0 => Some("correct them, or accept them with --allow-warnings"),
            _ => None,
        }
    }

    /// `[{"severity": "error" | "warning" | "note", "message": text, "hint": text or null}]`
    pub(crate) fn to_json(&self) -> Value {
        self.0
            .iter()
            .map(|finding| {
                json!({"severity": finding.severity.word(), "message": finding.message, "hint": finding.hint})
            })
            .collect()
    }
}

/// For one line: how many there are, and each.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        match (errors, warnings) {
            (_, 0) => write!(f, "has {}", plural(errors, "error"))?,
            (0, _) => write!(f, "has {}", plural(warnings, "warning"))?,
            _ => write!(f, "has {} and {}", plural(errors, "error"), plural(warnings, "warning"))?,
        }
        let counted = self.0.iter().filter(|finding| finding.severity != Severity::Note);
        for (index, finding) in counted.enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{}", finding.message)?;
            if let Some(hint) = &finding.hint {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}

fn try_out(manifest: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let now = Timestamp::from_duration(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?);
    let identity = Identity::from_genesis(&Genesis::create(&AltNames::default(), now)?)?;
    set_manifest::prepare(&identity, manifest, now)?;
    Ok(())
}

/// "1 error", "2 errors".
pub(crate) fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
