//! `manifest get`: the Coordinator's manifest; fingerprint and the root's signature are verified.
//!
//! JSON: `{"manifestSignature": text, "manifest": the manifest's text, "coordinator": {...}}`. The text's bytes are those
//! that were set, so that hashing them gives the signature; with `--display-update` it is the text with the raised
//! security versions, whose hash is another one.

use std::path::Path;

use marblerun_json::Encode as _;
use serde_json::json;

use crate::args::Global;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::{files, trust, updated_manifest};

/// Flags of the command.
pub(crate) struct Options<'a> {
    pub(crate) file: Option<&'a Path>,
    pub(crate) signature: bool,
    pub(crate) display_update: bool,
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
        output.step(match coordinator.is_attested() {
            true => "Successfully verified Coordinator, now requesting manifest",
            false => "Requesting manifest",
        })?;
        let client = coordinator.client()?;
        let answer = client.manifest().await?;
        let manifest = match options.display_update {
            false => answer.manifest,
            true => updated_manifest::render(&answer.manifest, &client.update_log().await?)?.into_bytes(),
        };
        if output.is_json() {
            output.json(&json!({
                "manifestSignature": answer.fingerprint,
                "manifest": String::from_utf8_lossy(&manifest),
                "coordinator": coordinator.to_json(),
            }))?;
        } else {
            let content = match options.signature {
                false => manifest,
                true => with_signature(&answer.fingerprint, manifest),
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
            coordinator.write_cache(global, &answer.fingerprint)?;
        }
        Ok(ExitStatus::Success)
    })
}

/// The manifest's text and its signature in one object, each in its line; the text stays as it is.
fn with_signature(fingerprint: &str, manifest: Vec<u8>) -> Vec<u8> {
    let mut name = String::new();
    fingerprint.encode(&mut name);
    [format!("{{\n\"ManifestSignature\": {name},\n\"Manifest\": ").as_bytes(), &manifest, b"\n}"].concat()
}
