//! Recovery secrets as a Coordinator gives them out: `{"RecoverySecrets": {name: base64}}`.

use std::collections::BTreeMap;
use std::path::Path;

use marblerun_client::SecretBytes;
use marblerun_json::{ObjectEncoder, decode_object, decode_whole};
use serde_json::{Value, json};

use crate::failure::{Cause, Failure};
use crate::files;
use crate::output::Output;

/// Longest recovery data that is read, in bytes: those of all parties of the largest deployment fit.
const MAX_RECOVERY_DATA_BYTES: usize = 8 * 1024 * 1024;

#[derive(Default)]
struct RecoveryData {
    recovery_secrets: BTreeMap<String, Vec<u8>>,
}

decode_object!(RecoveryData { "RecoverySecrets" => recovery_secrets });

/// Writes recovery secrets to the file, or prints them; what cannot be written is printed, because they are given once.
pub(crate) fn save(
    secrets: &BTreeMap<String, Vec<u8>>,
    file: Option<&Path>,
    output: &mut Output,
) -> Result<(), Failure> {
    if secrets.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    ObjectEncoder::new(&mut text).member("RecoverySecrets", secrets).finish();
    match file {
        Some(file) => {
            if let Err(error) = files::write("recovery data", file, text.as_bytes()) {
                output.note(&text)?;
                return Err(Cause::RecoveryDataNotSaved(Box::new(error)).into());
            }
            output.note(&format!("Recovery data written to {}", file.display()))?;
        }
        None if output.is_json() => {}
        None => output.line(&text)?,
    }
    Ok(())
}

/// `{name: base64 text}`
pub(crate) fn to_json(secrets: &BTreeMap<String, Vec<u8>>) -> Value {
    let text = marblerun_json::encode(secrets);
    serde_json::from_str(&text).unwrap_or_else(|_| json!({}))
}

/// Reads a recovery secret: the one called `name` of recovery data, or the raw bytes of another file.
pub(crate) fn read(path: &Path, name: Option<&str>) -> Result<SecretBytes, Cause> {
    let content = SecretBytes::new(files::read("recovery secret", path, MAX_RECOVERY_DATA_BYTES)?);
    let data = match decode_whole::<RecoveryData>(content.expose(), MAX_RECOVERY_DATA_BYTES) {
        Ok((data, _)) if !data.recovery_secrets.is_empty() => data,
        _ if name.is_some() => return Err(Cause::NoRecoveryData { path: path.to_owned() }),
        _ => return Ok(content),
    };
    let names = || data.recovery_secrets.keys().cloned().collect::<Vec<_>>().join(", ");
    let secret = match name {
        Some(name) => data.recovery_secrets.get(name).ok_or_else(|| Cause::RecoveryName {
            path: path.to_owned(),
            name: name.to_owned(),
            names: names(),
        })?,
        None if data.recovery_secrets.len() > 1 => {
            return Err(Cause::RecoveryNameMissing { path: path.to_owned(), names: names() });
        }
        None => data.recovery_secrets.values().next().ok_or_else(|| Cause::NoRecoveryData { path: path.to_owned() })?,
    };
    Ok(SecretBytes::copy_from(secret))
}
