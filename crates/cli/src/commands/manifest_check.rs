//! `manifest check`: what a Coordinator would refuse, and what is probably a mistake.
//!
//! JSON: `{"manifestSignature": text, "findings": [{"severity": "error" | "warning" | "note", "code": text or null,
//! "place": text or null, "line": number or null, "column": number or null, "message": text, "hint": text or null}]}`;
//! `code` names the kind of a warning or note, positions count from 1 in the file. Notes are about what works as written but protects less than it could; they change no exit code.

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
    findings.locate_in(&file.source);
    if output.is_json() {
        output.json(&json!({"manifestSignature": file.signature(), "findings": findings.to_json()}))?;
    } else {
        findings.print(path, output)?;
        let (errors, warnings) = (findings.count(Severity::Error), findings.count(Severity::Warning));
        let (errors, warnings) = (plural(errors, "error"), plural(warnings, "warning"));
        output.line(&format!("{}: {errors}, {warnings}", path.display()))?;
    }
    match findings.are_acceptable(allow_warnings) {
        true => Ok(ExitStatus::Success),
        false => Ok(ExitStatus::Findings),
    }
}
