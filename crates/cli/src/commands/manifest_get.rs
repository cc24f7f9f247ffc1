//! `manifest get`: the Coordinator's manifest; fingerprint and the root's signature are verified.
//!
//! JSON: `{"manifestSignature": text, "manifest": the manifest's text, "coordinator": {...}}`. The text's bytes are those
//! that were set, so that hashing them gives the signature.

use std::path::Path;

use marblerun_json::{ObjectEncoder, RawJson};
use serde_json::json;

use crate::args::Global;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::{files, trust};

/// Flags of the command.
pub(crate) struct Options<'a> {
    pub(crate) file: Option<&'a Path>,
    pub(crate) signature: bool,
    pub(crate) keep_cert: bool,
}

pub(crate) fn run(
    global: &Global,
    address: &str,
    options: &Options<'_>,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    trust::block_on(async {
        let coordinator = trust::attest(global, address, output).await?;
        output.note(match coordinator.is_attested() {
            true => "Successfully verified Coordinator, now requesting manifest",
            false => "Requesting manifest",
        })?;
        let answer = coordinator.client()?.manifest().await?;
        if output.is_json() {
            output.json(&json!({
                "manifestSignature": answer.fingerprint,
                "manifest": String::from_utf8_lossy(&answer.manifest),
                "coordinator": coordinator.to_json(),
            }))?;
        } else {
            let content = match options.signature {
                false => answer.manifest,
                true => with_signature(&answer.fingerprint, answer.manifest),
            };
            match options.file {
                None => output.bytes(&content)?,
                Some(file) => {
                    files::write("manifest", file, &content)?;
                    output.line(&format!("Manifest written to {}", file.display()))?;
                }
            }
        }
        if options.keep_cert {
            coordinator.write_cache(global)?;
        }
        Ok(ExitStatus::Success)
    })
}

/// The manifest's text and its signature in one object; the text stays as it is.
fn with_signature(fingerprint: &str, manifest: Vec<u8>) -> Vec<u8> {
    let mut text = String::new();
    ObjectEncoder::new(&mut text)
        .member("ManifestSignature", fingerprint)
        .member("Manifest", &RawJson(manifest))
        .finish();
    text.into_bytes()
}
