use std::collections::BTreeSet;

use marblerun_json::Place;

use super::{WarningCode, Warnings};
use crate::certificate::{IgnoredMembers, SecretCertificate};
use crate::schema::{Manifest, SecretDefinition};
use crate::secret_type::SecretType;

/// `in_templates` are the names that templates mention.
pub(super) fn warn(manifest: &Manifest, in_templates: &BTreeSet<&str>, warnings: &mut Warnings) {
    let in_tls: BTreeSet<&str> =
        manifest.tls.values().flat_map(|tag| &tag.incoming).map(|entry| entry.cert.as_str()).collect();
    let readable = named_by_roles(manifest, "ReadSecret");
    let writable = named_by_roles(manifest, "WriteSecret");
    for (name, secret) in &manifest.secrets {
        let place = Place::top().member("Secrets").member(name);
        let delivered = in_templates.contains(name.as_str()) || in_tls.contains(name.as_str());
        if !delivered && !readable.contains(name.as_str()) {
            let text = "no template, TLS tag or role for reading refers to this secret";
            warnings.add(place.clone(), WarningCode::UnusedSecret, text);
        }
        if secret.user_defined && !writable.contains(name.as_str()) && secret.private.is_none() {
            let text = "the secret must be uploaded, but no role allows that";
            warnings.add(place.clone(), WarningCode::NobodyMayWrite, text);
        }
        warn_definition(&place, secret, warnings);
    }
}

/// Secrets on which some role allows this action.
fn named_by_roles<'m>(manifest: &'m Manifest, action: &str) -> BTreeSet<&'m str> {
    let roles = manifest.roles.values().filter(|role| role.resource_type == "Secrets" && role.allows(action));
    roles.flat_map(|role| &role.resource_names).map(String::as_str).collect()
}

fn warn_definition(place: &Place, secret: &SecretDefinition, warnings: &mut Warnings) {
    for (member, value) in [("Private", &secret.private), ("Public", &secret.public)] {
        if value.is_some() {
            let text = "the manifest is public, and so is this value";
            warnings.add(place.member(member), WarningCode::SecretInManifest, text);
        }
    }
    if secret.cert == SecretCertificate::Unreadable {
        let text = "expected a template or base64 of a DER certificate (not PEM); the text is ignored";
        warnings.add(place.member("Cert"), WarningCode::UnreadableCertificate, text);
    }
    let certificate = secret.secret_type().is_some_and(SecretType::is_certificate);
    let generated_certificate = certificate && !secret.user_defined;
    let mut without_effect = Vec::new();
    if !generated_certificate && secret.valid_for != 0 {
        without_effect.push("ValidFor");
    }
    if !certificate && matches!(secret.cert, SecretCertificate::Template(_) | SecretCertificate::Der(_)) {
        without_effect.push("Cert");
    }
    if secret.secret_type() == Some(SecretType::Plain) && secret.size != 0 {
        without_effect.push("Size");
    }
    for member in without_effect {
        let text = "without effect for a secret of this kind";
        warnings.add(place.member(member), WarningCode::WithoutEffect, text);
    }
    if let SecretCertificate::Template(template) = &secret.cert
        && certificate
    {
        for member in given(&template.ignored) {
            let text = "without effect: the Coordinator decides it";
            warnings.add(place.member("Cert").member(member), WarningCode::WithoutEffect, text);
        }
    }
}

/// The members without effect that somebody may have set on purpose.
fn given(ignored: &IgnoredMembers) -> impl Iterator<Item = &'static str> + use<> {
    let members = [
        ("SerialNumber", ignored.serial_number.0.is_some()),
        ("Issuer", ignored.issuer != Default::default()),
        ("NotBefore", !ignored.not_before.is_unset()),
        ("AuthorityKeyId", ignored.authority_key_id.is_some()),
        ("Extensions", !ignored.extensions.is_empty()),
        ("PolicyIdentifiers", !ignored.policy_identifiers.is_empty()),
        ("PolicyMappings", !ignored.policy_mappings.is_empty()),
        ("PublicKeyAlgorithm", ignored.public_key_algorithm != 0),
    ];
    members.into_iter().filter(|(_, given)| *given).map(|(member, _)| member)
}
