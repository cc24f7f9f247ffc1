//! `manifest check`: what a Coordinator would refuse, and what is probably a mistake.
//!
//! JSON: `{"manifestSignature": text, "findings": [{"severity": "error" | "warning" | "note", "message": text, "hint":
//! text or null}]}`. Notes are about what works as written but protects less than it could; they change no exit code.

use std::path::Path;

use serde_json::json;

use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::findings::{Findings, Severity, plural};
use crate::manifest_file::ManifestFile;
use crate::output::Output;

pub(crate) fn run(path: &Path, allow_warnings: bool, output: &mut Output) -> Result<ExitStatus, Failure> {
    let file = ManifestFile::read(path)?;
    let mut findings = Findings::of(&file.bytes, &file.notes);
    findings.try_out(&file.bytes);
    if output.is_json() {
        output.json(&json!({"manifestSignature": file.signature(), "findings": findings.to_json()}))?;
    } else {
        for finding in &findings.0 {
            output.line(&format!("{}: {}", finding.severity.word(), finding.message))?;
            if let Some(hint) = &finding.hint {
                output.line(&format!("  hint: {hint}"))?;
            }
        }
        let (errors, warnings) = (findings.count(Severity::Error), findings.count(Severity::Warning));
        let (errors, warnings) = (plural(errors, "error"), plural(warnings, "warning"));
        output.line(&format!("{}: {errors}, {warnings}", path.display()))?;
    }
    match findings.are_acceptable(allow_warnings) {
        true => Ok(ExitStatus::Success),
        false => Ok(ExitStatus::Findings),
    }
}
