//! `manifest set`: checks a manifest, verifies the Coordinator, sets the one at the other.
//!
//! JSON: `{"manifestSignature": text, "recoverySecrets": {name: base64 text}, "coordinator": {...}}`.

use std::path::Path;

use marblerun_json::ObjectEncoder;
use serde_json::{Value, json};

use crate::args::Global;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::findings::Findings;
use crate::manifest_file::ManifestFile;
use crate::output::Output;
use crate::{files, trust};

/// Flags of the command.
pub(crate) struct Options<'a> {
    pub(crate) recovery_file: Option<&'a Path>,
    pub(crate) allow_warnings: bool,
}

pub(crate) fn run(
    global: &Global,
    path: &Path,
    address: &str,
    options: &Options<'_>,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    // A manifest that would be refused must not cost the user an attestation first.
    let file = ManifestFile::read(path)?;
    let findings = Findings::of(&file.bytes, &file.notes);
    if !findings.are_acceptable(options.allow_warnings) {
        return Err(Cause::Findings { path: path.to_owned(), findings }.into());
    }
    for finding in &findings.0 {
        output.warn(&finding.message)?;
    }

    trust::block_on(async {
        let coordinator = trust::attest(global, address, output).await?;
        let client = coordinator.client()?;
        let signature = file.signature();
        output.note(match coordinator.is_attested() {
            true => "Successfully verified Coordinator, now uploading manifest",
            false => "Uploading manifest",
        })?;
        output.note(&format!("Manifest signature: {signature}"))?;
        let recovery = client.set_manifest(&file.bytes).await?.recovery_secrets;
        output.note("Manifest successfully set")?;

        let recovery_text = (!recovery.is_empty()).then(|| {
            let mut text = String::new();
            ObjectEncoder::new(&mut text).member("RecoverySecrets", &recovery).finish();
            text
        });
        let saved = save_recovery_data(recovery_text.as_deref(), options.recovery_file, output);
        if output.is_json() {
            let secrets: Value = recovery_text
                .as_deref()
                .and_then(|text| serde_json::from_str::<Value>(text).ok())
                .map_or_else(|| json!({}), |mut value| value["RecoverySecrets"].take());
            output.json(&json!({
                "manifestSignature": signature,
                "recoverySecrets": secrets,
                "coordinator": coordinator.to_json(),
            }))?;
        }
        saved?;
        coordinator.write_cache(global)?;
        Ok(ExitStatus::Success)
    })
}

/// Writes the recovery data to the file, or prints them; what cannot be written is printed, because it comes once.
fn save_recovery_data(text: Option<&str>, file: Option<&Path>, output: &mut Output) -> Result<(), Failure> {
    let Some(text) = text else { return Ok(()) };
    match file {
        Some(file) => {
            if let Err(error) = files::write("recovery data", file, text.as_bytes()) {
                output.note(text)?;
                return Err(Cause::RecoveryDataNotSaved(Box::new(error)).into());
            }
            output.note(&format!("Recovery data written to {}", file.display()))?;
        }
        None if output.is_json() => {}
        None => output.line(text)?,
    }
    Ok(())
}
