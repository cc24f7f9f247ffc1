//! `manifest verify`: does the Coordinator have exactly this manifest?
//!
//! JSON: `{"manifestSignature": text, "verified": true, "coordinator": {...}}`.

use std::path::Path;

use serde_json::json;

use crate::args::Global;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::manifest_file::ManifestFile;
use crate::output::Output;
use crate::trust;

/// Characters of a signature: SHA-256 in hexadecimal.
const SIGNATURE_CHARS: usize = 64;

pub(crate) fn run(global: &Global, manifest: &Path, address: &str, output: &mut Output) -> Result<ExitStatus, Failure> {
    let expected = expected_signature(manifest, output)?;
    trust::block_on(async {
        let coordinator = trust::attest(global, address, output).await?;
        let answer = coordinator.client()?.verify_manifest(&expected).await?;
        if output.is_json() {
            output.json(&json!({
                "manifestSignature": expected,
                "verified": true,
                "coordinator": coordinator.to_json(),
            }))?;
        } else {
            output.line("OK")?;
        }
        coordinator.write_cache(global, &answer.fingerprint)?;
        Ok(ExitStatus::Success)
    })
}

/// The signature of an existing file, or the argument itself as signature.
fn expected_signature(argument: &Path, output: &mut Output) -> Result<String, Failure> {
    if argument.exists() {
        let file = ManifestFile::read(argument)?;
        file.show_notes(output)?;
        return Ok(file.signature());
    }
    let got = argument.display().to_string();
    let length = got.chars().count();
    if length != SIGNATURE_CHARS {
        return Err(Cause::SignatureLength { got, length }.into());
    }
    if !got.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Cause::SignatureNotHex { got }.into());
    }
    Ok(got.to_ascii_lowercase())
}
