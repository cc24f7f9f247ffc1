//! `manifest set`: checks a manifest, verifies the Coordinator, sets the one at the other.
//!
//! JSON: `{"manifestSignature": text, "recoverySecrets": {name: base64 text}, "coordinator": {...}}`.

use std::path::Path;

use serde_json::json;

use crate::args::Global;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::findings::Findings;
use crate::manifest_file::ManifestFile;
use crate::output::Output;
use crate::recovery_data::{self, Given};
use crate::trust;

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
    let mut findings = Findings::of(&file.bytes, &file.notes);
    findings.locate_in(&file.source);
    if !findings.are_acceptable(options.allow_warnings) {
        return Err(Cause::Findings { path: path.to_owned(), findings }.into());
    }
    findings.warn(path, output)?;

    trust::block_on(async {
        let coordinator = trust::attest(global, address, output).await?;
        let client = coordinator.client()?;
        let signature = file.signature();
        output.step(match coordinator.is_attested() {
            true => "Successfully verified Coordinator, now uploading manifest",
            false => "Uploading manifest",
        })?;
        output.step(&format!("Manifest signature: {signature}"))?;
        let recovery = client.set_manifest(&file.bytes).await?.recovery_secrets;
        let document = || {
            json!({
                "manifestSignature": signature,
                "recoverySecrets": recovery_data::to_json(&recovery),
                "coordinator": coordinator.to_json(),
            })
        };
        let lines = ["Manifest successfully set".to_owned()];
        Given::save(&recovery, options.recovery_file).tell(&lines, document, output)?;
        coordinator.write_cache(global, &signature)?;
        Ok(ExitStatus::Success)
    })
}
