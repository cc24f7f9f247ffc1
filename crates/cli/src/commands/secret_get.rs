//! `secret get`: reads values of secrets.
//!
//! JSON: `{"secrets": {name: {"Type": text, "Size": number, "Shared": bool, "UserDefined": bool, "Cert": base64 of DER or
//! null, "ValidFor": number, "Private": base64 or null, "Public": base64 or null}}, "coordinator": {...}}`. A file gets the
//! object of secrets alone.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marblerun_client::{Secret, SecretBytes};
use marblerun_json::encode;
use marblerun_pki::pem;
use serde_json::{Value, json};

use crate::args::{Credentials, Global, OutputFlag};
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::output::Output;
use crate::{credentials, files, trust};

pub(crate) fn run(
    global: &Global,
    credentials: &Credentials,
    words: &[String],
    target: &OutputFlag,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let Some((address, names)) = words.split_last().filter(|(_, names)| !names.is_empty()) else {
        return Err(Cause::Flags("expected names of secrets and the address of the Coordinator").into());
    };
    let user = credentials::user(credentials)?;
    trust::block_on(async {
        let coordinator = trust::known(global, address, output).await?;
        let client = coordinator.client()?.with_certificate(&user)?;
        let secrets = client.secrets(names.iter().map(String::as_str)).await?;
        if output.is_json() {
            let secrets: Value = serde_json::from_str(&encode(&secrets)).unwrap_or_default();
            output.json(&json!({"secrets": secrets, "coordinator": coordinator.to_json()}))?;
        } else if let Some(file) = target.file() {
            let text = SecretBytes::new(encode(&secrets).into_bytes());
            files::write("secrets", file, text.expose())?;
            output.line(&format!("Secrets written to {}", file.display()))?;
        } else {
            output.raw(&[text(&secrets)?.as_bytes()])?;
        }
        Ok(ExitStatus::Success)
    })
}

/// The secrets for people, sorted by name.
fn text(secrets: &BTreeMap<String, Secret>) -> Result<String, Cause> {
    let mut text = String::new();
    for (name, secret) in secrets {
        text.push_str(&format!("{}:\n", name.escape_debug()));
        let mut line = |label: &str, value: &str| text.push_str(&format!("\t{label:<14}{value}\n"));
        line("Type:", &secret.type_word);
        let (user_defined, size) = (secret.user_defined.to_string(), secret.size.to_string());
        match secret.type_word.as_str() {
            "plain" => line("Data:", &base64_of(&secret.private)),
            "symmetric-key" => {
                line("UserDefined:", &user_defined);
                line("Size:", &size);
                line("Key:", &base64_of(&secret.private));
            }
            "cert-rsa" | "cert-ecdsa" | "cert-ed25519" => {
                line("UserDefined:", &user_defined);
                if secret.type_word != "cert-ed25519" {
                    line("Size:", &size);
                }
                line("Valid For:", &secret.valid_for.to_string());
                line("Certificate:", &secret.cert.as_deref().map_or_else(String::new, pem_of));
                line("Public Key:", &base64_of(&secret.public));
                line("Private Key:", &base64_of(&secret.private));
            }
            other => return Err(Cause::SecretType { name: name.clone(), got: other.to_owned() }),
        }
    }
    Ok(text)
}

fn base64_of(value: &Option<SecretBytes>) -> String {
    value.as_ref().map_or_else(String::new, |value| STANDARD.encode(value.expose()))
}

/// A certificate below its label, indented.
fn pem_of(der: &[u8]) -> String {
    pem::encode(pem::CERTIFICATE, der).lines().flat_map(|line| ["\n\t\t", line]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_base64_and_sorted_by_name() {
        let bytes = || Some(SecretBytes::copy_from(b"hello"));
        let plain = Secret { type_word: "plain".to_owned(), private: bytes(), ..Secret::default() };
        let key = Secret { type_word: "symmetric-key".to_owned(), size: 40, private: bytes(), ..Secret::default() };
        let secrets = [("b".to_owned(), plain), ("a".to_owned(), key)].into();
        assert_eq!(
            text(&secrets).unwrap(),
            "a:\n\tType:         symmetric-key\n\tUserDefined:  false\n\tSize:         40\n\tKey:          aGVsbG8=\n\
             b:\n\tType:         plain\n\tData:         aGVsbG8=\n"
        );
        let unknown = [("c".to_owned(), Secret { type_word: "cert-x".to_owned(), ..Secret::default() })].into();
        assert!(matches!(text(&unknown), Err(Cause::SecretType { .. })));
    }
}
