//! `secret set`: uploads values of user-defined secrets.
//!
//! JSON: `{"secrets": [name], "coordinator": {...}}`.

use std::collections::BTreeMap;
use std::path::Path;

use marblerun_client::{ClientCertificate, CredentialsError, SecretBytes, UserSecretValue};
use marblerun_json::decode_whole;
use marblerun_pki::{Certificate, pem};
use serde_json::json;

use crate::args::{Credentials, Global};
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::output::Output;
use crate::{credentials, files, trust};

/// Longest file of secrets, in bytes; the Coordinator takes no more.
const MAX_SECRETS_BYTES: usize = 16 * 1024 * 1024;

/// What `secret get` writes beside the values: its file may be uploaded again.
const MEMBERS_OF_SECRET_GET: [&str; 6] = ["Type", "Size", "Shared", "UserDefined", "ValidFor", "Public"];

pub(crate) fn run(
    global: &Global,
    credentials: &Credentials,
    file: &Path,
    from_pem: Option<&str>,
    address: &str,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let user = credentials::user(credentials)?;
    let content = SecretBytes::new(files::read("secrets", file, MAX_SECRETS_BYTES)?);
    let secrets: BTreeMap<String, UserSecretValue> = match from_pem {
        Some(name) => [(name.to_owned(), read_pem(file, content.expose(), output)?)].into(),
        None => read_json(file, content.expose())?,
    };
    for (name, secret) in &secrets {
        // `echo secret | base64` encodes a line end that no password has.
        if secret.key.as_ref().is_some_and(|key| key.expose().ends_with(b"\n")) {
            output.warn(&format!("secret {name:?} ends with a line feed, which becomes part of the secret"))?;
        }
    }
    trust::block_on(async {
        let coordinator = trust::known(global, address, output).await?;
        coordinator.client()?.with_certificate(&user)?.set_secrets(&secrets).await?;
        if output.is_json() {
            let names: Vec<_> = secrets.keys().collect();
            output.json(&json!({"secrets": names, "coordinator": coordinator.to_json()}))?;
        } else {
            output.line("Secret successfully set")?;
        }
        Ok(ExitStatus::Success)
    })
}

/// Secrets as JSON. A member that is not known is probably a misspelled one, whose value would be lost.
fn read_json(path: &Path, text: &[u8]) -> Result<BTreeMap<String, UserSecretValue>, Cause> {
    let (secrets, notes) =
        decode_whole(text, MAX_SECRETS_BYTES).map_err(|source| Cause::SecretsFile { path: path.to_owned(), source })?;
    let of_secret_get = |name: &str| MEMBERS_OF_SECRET_GET.iter().any(|known| known.eq_ignore_ascii_case(name));
    match notes.unknown_members.iter().find(|unknown| !of_secret_get(&unknown.name)) {
        None => Ok(secrets),
        Some(unknown) => Err(Cause::SecretsMember {
            path: path.to_owned(),
            place: unknown.place.to_string(),
            expected: unknown.known.join(", "),
        }),
    }
}

/// The first certificate and the first private key of a PEM file.
fn read_pem(path: &Path, text: &[u8], output: &mut Output) -> Result<UserSecretValue, Failure> {
    let refused = |reason: String| Cause::SecretPem { path: path.to_owned(), reason };
    let mut secret = UserSecretValue::default();
    for block in pem::decode_all(text).map_err(|error| refused(error.to_string()))? {
        if secret.cert.is_some() && secret.private.is_some() {
            break;
        }
        match block.label.as_str() {
            pem::CERTIFICATE if secret.cert.is_none() => {
                Certificate::parse(block.der.expose()).map_err(|error| refused(error.to_string()))?;
                secret.cert = Some(block.der.expose().to_vec());
            }
            // Of a chain, the first one is the leaf.
            pem::CERTIFICATE => {}
            // Ciphertext would become the key and fail only in the Marble.
            label if label.starts_with("ENCRYPTED") => {
                return Err(refused("the private key is encrypted, decrypt it first".to_owned()).into());
            }
            label if label.contains("PRIVATE") && secret.private.is_none() => {
                if label != pem::PRIVATE_KEY {
                    output.warn(&format!(
                        "the key is uploaded as {label}, as it stands in the file; programs expect PKCS#8 (`openssl pkcs8 \
                         -topk8 -nocrypt` converts)"
                    ))?;
                }
                secret.private = Some(block.der);
            }
            label if label.contains("PRIVATE") => {}
            // `openssl ecparam -genkey` writes it in front of the key.
            "EC PARAMETERS" => {}
            label => {
                return Err(
                    refused(format!("expected a certificate and a private key, got a PEM block {label}")).into()
                );
            }
        }
    }
    if secret.cert.is_none() && secret.private.is_none() {
        return Err(refused("expected a certificate or a private key in PEM, got neither".to_owned()).into());
    }
    // What else may be wrong with the pair is for the Coordinator to judge.
    match ClientCertificate::from_pem(text, text) {
        Err(CredentialsError::Mismatch) => {
            Err(refused("the private key does not belong to the certificate".to_owned()).into())
        }
        _ => Ok(secret),
    }
}
