//! Recovery secrets as a Coordinator gives them out: `{"RecoverySecrets": {name: base64}}`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

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

/// Recovery secrets that were given out just now, which happens once.
pub(crate) struct Given {
    /// Their form in files; `None` if there are none.
    text: Option<String>,
    /// Whether they are in the file; `None` if none was named.
    saved: Option<Result<PathBuf, Cause>>,
}

impl Given {
    /// Writes the secrets to the file. This comes before anything is printed: who reads the output may have gone.
    pub(crate) fn save(secrets: &BTreeMap<String, Vec<u8>>, file: Option<&Path>) -> Self {
        if secrets.is_empty() {
            return Self { text: None, saved: None };
        }
        let mut text = String::new();
        ObjectEncoder::new(&mut text).member("RecoverySecrets", secrets).finish();
        let saved = file.map(|file| files::write("recovery data", file, text.as_bytes()).map(|()| file.to_owned()));
        Self { text: Some(text), saved }
    }

    /// Prints what was done, and the secrets unless a file has them. `document` is the result as JSON, with the secrets.
    pub(crate) fn tell(
        self,
        lines: &[String],
        document: impl FnOnce() -> Value,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let told = self.print(lines, document, output);
        let (Some(text), None | Some(Err(_))) = (&self.text, &self.saved) else { return Ok(told?) };
        match (told, self.saved) {
            (Ok(()), Some(Err(error))) => {
                Err(Cause::RecoveryDataNotSaved { place: "output", source: Box::new(error) }.into())
            }
            (Ok(()), _) => Ok(()),
            (Err(error), _) => {
                // The last place that is left; if it is gone as well, the error cannot be told either.
                let _ = output.warn(text);
                Err(Cause::RecoveryDataNotSaved { place: "error", source: Box::new(error.into()) }.into())
            }
        }
    }

    fn print(&self, lines: &[String], document: impl FnOnce() -> Value, output: &mut Output) -> io::Result<()> {
        lines.iter().try_for_each(|line| output.note(line))?;
        match (&self.text, &self.saved) {
            (None, _) => {}
            (Some(_), Some(Ok(file))) => output.note(&format!("Recovery data written to {}", file.display()))?,
            // The document has them.
            (Some(_), None) if output.is_json() => {}
            (Some(text), _) if output.is_json() => output.note(text)?,
            (Some(text), _) => output.line(text)?,
        }
        if output.is_json() { output.json(&document()) } else { Ok(()) }
    }
}

/// `{name: base64 text}`
pub(crate) fn to_json(secrets: &BTreeMap<String, Vec<u8>>) -> Value {
    let text = marblerun_json::encode(secrets);
    serde_json::from_str(&text).unwrap_or_else(|_| json!({}))
}

/// True for the file that `manifest set` writes, which is no secret itself.
pub(crate) fn is_recovery_data(content: &SecretBytes) -> bool {
    let data = decode_whole::<RecoveryData>(content.expose(), MAX_RECOVERY_DATA_BYTES);
    data.is_ok_and(|(data, _)| !data.recovery_secrets.is_empty())
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
