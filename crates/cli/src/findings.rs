//! What is wrong, or probably wrong, with a manifest.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use marblerun_coordinator_core::deployment::DeploymentError;
use marblerun_coordinator_core::identity::Identity;
use marblerun_coordinator_core::parameters::{self, CompileError, RenderError};
use marblerun_coordinator_core::record::Genesis;
use marblerun_coordinator_core::set_manifest::{self, SetManifestError};
use marblerun_coordinator_core::time::Timestamp;
use marblerun_manifest::{self as manifest, AzureHsm, CheckError, DecodeError, Manifest, Place};
use marblerun_pki::AltNames;
use serde_json::{Value, json};

use crate::locate::{Position, locate};
use crate::output::Output;

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
    /// The kind of a warning or note.
    code: Option<&'static str>,
    /// What in the manifest it is about; the top if that is not known.
    place: Place,
    /// Where that stands in the file.
    position: Option<Position>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Finding {
    /// A reason for a refusal.
    pub(crate) fn error(place: Place, message: String, hint: Option<String>) -> Self {
        Self { severity: Severity::Error, code: None, place, position: None, message, hint }
    }

    /// `FILE:LINE:COLUMN: `, as compilers do; nothing if the position is not known.
    fn position_in(&self, path: &Path) -> String {
        self.position.map(|at| format!("{}:{}:{}: ", path.display(), at.line, at.column)).unwrap_or_default()
    }
}

/// All findings of a manifest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    /// Checks a manifest as a Coordinator would, and for what is probably a mistake; `notes` are about the file.
    pub(crate) fn of(manifest: &[u8], notes: &[String]) -> Self {
        let mut found = Self::of_file(notes);
        let manifest = match Manifest::decode(manifest) {
            Ok(manifest) => manifest,
            Err(error) => {
                found.0.push(undecodable(&error));
                return found;
            }
        };
        // Whether the Coordinator has an HSM is only known there.
        if let Err(error) = manifest.check(AzureHsm::Available) {
            found.0.push(inconsistent(&error));
        }
        for warning in manifest.warnings() {
            let severity = match warning.code.severity() {
                manifest::Severity::Mistake => Severity::Warning,
                manifest::Severity::Weakness => Severity::Note,
            };
            found.0.push(Finding {
                severity,
                code: Some(warning.code.as_str()),
                message: warning.to_string(),
                place: warning.place,
                position: None,
                hint: None,
            });
        }
        found
    }

    /// Only what is strange about the file's form.
    pub(crate) fn of_file(notes: &[String]) -> Self {
        let warning = |note: &String| Finding {
            severity: Severity::Warning,
            code: None,
            place: Place::top(),
            position: None,
            message: note.clone(),
            hint: None,
        };
        Self(notes.iter().map(warning).collect())
    }

    /// Does what a Coordinator does with the manifest, secrets and dry run of the templates included, with a throw-away
    /// identity. Takes as long as generating the manifest's RSA keys.
    pub(crate) fn try_out(&mut self, manifest: &[u8]) {
        // What was refused already would only be refused again.
        if self.count(Severity::Error) > 0 {
            return;
        }
        if let Err(error) = try_out(manifest) {
            let cause = error.downcast_ref::<SetManifestError>();
            let hint = cause.and_then(SetManifestError::hint);
            let place = cause.map(place_of).unwrap_or_default();
            self.0.push(Finding::error(place, chain(error.as_ref()), hint));
        }
    }

    /// Looks up where the findings stand in the file's text, JSON or YAML.
    pub(crate) fn locate_in(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let places: Vec<&Place> = self.0.iter().map(|finding| &finding.place).collect();
        let positions = locate(&text, &places);
        for (finding, position) in self.0.iter_mut().zip(positions) {
            finding.position = position;
        }
    }

    /// Prints each finding, with its position in front as compilers do, and its hint below.
    pub(crate) fn print(&self, path: &Path, output: &mut Output) -> io::Result<()> {
        for finding in &self.0 {
            let position = finding.position_in(path);
            output.line(&format!("{position}{}: {}", finding.severity.word(), finding.message))?;
            if let Some(hint) = &finding.hint {
                output.line(&format!("  hint: {hint}"))?;
            }
        }
        Ok(())
    }

    /// Shows each finding as a warning on standard error.
    pub(crate) fn warn(&self, path: &Path, output: &mut Output) -> io::Result<()> {
        self.0.iter().try_for_each(|finding| output.warn(&format!("{}{}", finding.position_in(path), finding.message)))
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

    /// `[{"severity": "error" | "warning" | "note", "code": text or null, "place": text or null, "line": number or null,
    /// "column": number or null, "message": text, "hint": text or null}]`
    pub(crate) fn to_json(&self) -> Value {
        self.0
            .iter()
            .map(|finding| {
                json!({
                    "severity": finding.severity.word(),
                    "code": finding.code,
                    "place": (!finding.place.is_top()).then(|| finding.place.as_str()),
                    "line": finding.position.map(|position| position.line),
                    "column": finding.position.map(|position| position.column),
                    "message": finding.message,
                    "hint": finding.hint,
                })
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
            f.write_str(separator)?;
            if let Some(Position { line, column }) = finding.position {
                write!(f, "line {line}, column {column}: ")?;
            }
            f.write_str(&finding.message)?;
            if let Some(hint) = &finding.hint {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}

/// The manifest cannot be decoded.
pub(crate) fn undecodable(error: &DecodeError) -> Finding {
    Finding::error(error.place().clone(), without_position(error), error.hint().map(str::to_owned))
}

/// What is wrong in which member. The error's own position counts in the JSON, which a YAML file only becomes.
pub(crate) fn without_position(error: &DecodeError) -> String {
    if error.place().is_top() { error.kind().to_string() } else { format!("{}: {}", error.place(), error.kind()) }
}

fn inconsistent(error: &CheckError) -> Finding {
    Finding::error(error.place(), chain(error), error.hint())
}

/// What in the manifest an error is about.
fn place_of(error: &SetManifestError) -> Place {
    let parameters = |marble_type: &str| Place::top().member("Marbles").member(marble_type).member("Parameters");
    let entry = |marble_type: &str, place: &parameters::Place| match place {
        parameters::Place::File(path) => parameters(marble_type).member("Files").member(path),
        parameters::Place::Env(name) => parameters(marble_type).member("Env").member(name),
    };
    match error {
        SetManifestError::Check(error) => error.place(),
        SetManifestError::RecoveryKey { name, .. } => Place::top().member("RecoveryKeys").member(name),
        SetManifestError::Deployment(DeploymentError::Template { marble_type, source }) => match source {
            CompileError::Template { place, .. } | CompileError::Nul { place } | CompileError::Nodes { place } => {
                entry(marble_type, place)
            }
            _ => parameters(marble_type),
        },
        SetManifestError::DryRun(error) => match &error.source {
            RenderError::Template { place, .. } | RenderError::Nul { place } | RenderError::Limit { place, .. } => {
                entry(&error.marble_type, place)
            }
            _ => parameters(&error.marble_type),
        },
        _ => Place::top(),
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
