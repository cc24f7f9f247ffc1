//! The manifest and what users upload for it.

use marblerun_coordinator_core::certificate_template::convert;
use marblerun_coordinator_core::parameters::CompiledParameters;
use marblerun_json::decode_whole;
use marblerun_manifest::{
    AzureHsm, MAX_MANIFEST_BYTES, MAX_WARNINGS, Manifest, SecretCertificate, UserSecret, decode_user_secrets_v1,
    decode_user_secrets_v2, fingerprint,
};

use crate::Verdict;
use crate::pki::issue_from_template;

/// A manifest, from the first look to the point where secrets would be made.
///
/// Warnings stay within their limit, also for manifests that are then refused; the Coordinator's environment can only
/// allow more. Of a consistent manifest, templates and certificate descriptions are read too.
pub fn manifest(data: &[u8]) -> Verdict {
    assert_eq!(fingerprint(data).len(), 64, "a fingerprint is SHA-256 in hexadecimal");
    let decoded = Manifest::decode(data);
    let Ok(manifest) = &decoded else { return Verdict::of(&decoded) };
    let warnings = manifest.warnings();
    assert!(warnings.len() <= MAX_WARNINGS, "{} warnings", warnings.len());

    let checked = manifest.check(AzureHsm::Unavailable);
    let checked_with_hsm = manifest.check(AzureHsm::Available);
    assert!(checked.is_err() || checked_with_hsm.is_ok(), "an HSM takes nothing away: {checked_with_hsm:?}");
    if let Err(error) = &checked {
        let _ = error.hint();
        return Verdict::of(&checked);
    }
    for marble in manifest.marbles.values() {
        if let Err(error) = CompiledParameters::compile(manifest, marble) {
            assert!(!error.class().is_empty() && !error.to_string().is_empty());
        }
    }
    for secret in manifest.secrets.values() {
        let _ = convert(&secret.cert);
    }
    Verdict::Accepted
}

/// The values of user-defined secrets, in the bodies of both versions of the client API.
pub fn user_secrets(data: &[u8]) -> Verdict {
    let (v1, v2) = (decode_user_secrets_v1(data), decode_user_secrets_v2(data));
    for secrets in [&v1, &v2].into_iter().flatten() {
        let bytes = |secret: &UserSecret| {
            [&secret.private, &secret.key].into_iter().flatten().map(|bytes| bytes.len()).sum::<usize>()
        };
        let total: usize = secrets.values().map(bytes).sum();
        assert!(total <= data.len(), "{total} bytes of secrets from {} bytes", data.len());
    }
    Verdict::of(&v1).or(Verdict::of(&v2))
}

/// The description of a secret's certificate, with Go's member names: whatever it says, a certificate that is issued
/// from it can be read again and is signed by its issuer.
pub fn certificate_template(data: &[u8]) -> Verdict {
    let decoded = decode_whole::<SecretCertificate>(data, MAX_MANIFEST_BYTES);
    let Ok((written, _)) = &decoded else { return Verdict::of(&decoded) };
    let converted = convert(written);
    if let Ok(template) = &converted {
        return issue_from_template(template);
    }
    Verdict::of(&converted)
}
