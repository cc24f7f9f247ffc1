//! `manifest signature`: SHA-256 of what would be uploaded.
//!
//! JSON: `{"manifestSignature": hexadecimal text}`.

use std::path::Path;

use serde_json::json;

use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::manifest_file::ManifestFile;
use crate::output::Output;

pub(crate) fn run(path: &Path, output: &mut Output) -> Result<ExitStatus, Failure> {
    let file = ManifestFile::read(path)?;
    file.show_notes(output)?;
    if output.is_json() {
        output.json(&json!({"manifestSignature": file.signature()}))?;
    } else {
        output.line(&file.signature())?;
    }
    Ok(ExitStatus::Success)
}
