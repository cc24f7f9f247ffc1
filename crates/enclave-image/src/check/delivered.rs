//! What the manifest's entry delivers: how large, and with which secrets.

use marblerun_manifest::{File, Manifest, Marble, SecretType};

/// A value that nobody can know, such as a secret that a user uploads.
const UNKNOWN_BYTES: u64 = 1024;
/// A certificate in PEM with an EC key, and a few names.
const EC_CERTIFICATE_BYTES: u64 = 1024;
/// A private key in PEM with an EC key.
const EC_KEY_BYTES: u64 = 512;
/// A pointer and the end of a string.
const PER_STRING_BYTES: u64 = 9;

/// Bytes that the entry's variables take in the argument area.
pub(super) fn environment_bytes(manifest: &Manifest, marble: &Marble) -> u64 {
    let variables = marble.parameters.env.iter();
    variables.fold(0, |sum, (name, value)| {
        let entry = name.len() as u64 + 1 + rendered_bytes(manifest, value) + PER_STRING_BYTES;
        sum.saturating_add(entry)
    })
}

/// Length of a value with its templates filled in, estimated on the large side.
fn rendered_bytes(manifest: &Manifest, value: &File) -> u64 {
    if value.no_templates {
        return value.data.len() as u64;
    }
    let text = String::from_utf8_lossy(&value.data);
    let mut parts = text.split("{{");
    let mut len = parts.next().unwrap_or_default().len() as u64;
    for part in parts {
        let (action, rest) = part.split_once("}}").unwrap_or((part, ""));
        len = len.saturating_add(action_bytes(manifest, action)).saturating_add(rest.len() as u64);
    }
    len
}

fn action_bytes(manifest: &Manifest, action: &str) -> u64 {
    let words = || action.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'));
    let secret = words().find_map(|word| manifest.secrets.get(word));
    let is_private = words().any(|word| word == "Private");
    let is_marble_run = words().any(|word| word == "MarbleRun");
    let raw = match secret {
        Some(secret) => match secret.secret_type() {
            Some(SecretType::SymmetricKey) => secret.size.div_ceil(8),
            // PKCS#8 in PEM: about 0.85 bytes for each bit; a certificate has half of it beside its names.
            Some(SecretType::CertRsa) if is_private => secret.size,
            Some(SecretType::CertRsa) => EC_CERTIFICATE_BYTES + secret.size / 2,
            Some(SecretType::CertEcdsa | SecretType::CertEd25519) if is_private => EC_KEY_BYTES,
            Some(SecretType::CertEcdsa | SecretType::CertEd25519) => EC_CERTIFICATE_BYTES,
            _ => UNKNOWN_BYTES,
        },
        None if is_marble_run && is_private => EC_KEY_BYTES,
        None if is_marble_run => EC_CERTIFICATE_BYTES,
        // Control structures print nothing themselves.
        None if words().any(|word| matches!(word, "if" | "else" | "end" | "range" | "with" | "define" | "block")) => 0,
        None => UNKNOWN_BYTES,
    };
    if words().any(|word| word == "hex") {
        2 * raw
    } else if words().any(|word| word == "base64") {
        raw + raw / 3 + 4
    } else {
        raw
    }
}

/// True if a file's template puts a secret or a private key into it.
pub(super) fn holds_secret(value: &File) -> bool {
    if value.no_templates {
        return false;
    }
    let text = String::from_utf8_lossy(&value.data);
    text.split("{{").skip(1).any(|part| {
        let action = part.split_once("}}").map_or(part, |(action, _)| action);
        // Of a secret, certificate and public key are not secret.
        let is_public = action.contains(".Cert") || action.contains(".Public");
        (action.contains("Secrets") && !is_public) || action.contains(".Private")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;

    fn manifest(value: &str) -> Manifest {
        let text = format!(
            r#"{{"Secrets": {{"key": {{"Type": "symmetric-key", "Size": 256}}, "tls": {{"Type": "cert-rsa", "Size": 4096}},
                "ec": {{"Type": "cert-ecdsa", "Size": 256}}, "pw": {{"Type": "plain", "UserDefined": true}}}},
                "Marbles": {{"m": {{"Package": "p", "Parameters": {{"Env": {{"V": {value:?}}}}}}}}}}}"#
        );
        Manifest::decode(text.as_bytes()).unwrap()
    }

    #[track_caller]
    fn check(value: &str, bytes: u64, is_secret: bool) {
        let manifest = manifest(value);
        let file = &manifest.marbles["m"].parameters.env["V"];
        assert_eq!(rendered_bytes(&manifest, file), bytes, "{value}");
        assert_eq!(holds_secret(file), is_secret, "{value}");
        assert_eq!(environment_bytes(&manifest, &manifest.marbles["m"]), bytes + 2 + 9);
    }

    #[test]
    fn values_are_sized_by_what_their_templates_deliver() {
        check("abc", 3, false);
        check("a{{ hex .Secrets.key }}b", 66, true);
        check("{{ base64 .Secrets.key }}", 46, true);
        check("{{ pem .Secrets.tls.Private }}", 4096, true);
        check("{{ pem .Secrets.tls.Cert }}", 1024 + 2048, false);
        check("{{ pem (index .Secrets `ec`).Private }}", 512, true);
        check("{{ string .Secrets.pw }}", 1024, true);
        check("{{ pem .MarbleRun.MarbleCert.Private }}", 512, true);
        check("{{ pem .MarbleRun.RootCA.Cert }}", 1024, false);
        check("{{ if true }}x{{ end }}", 1, false);
        check("{{ unfinished", 1024, false);
    }
}
