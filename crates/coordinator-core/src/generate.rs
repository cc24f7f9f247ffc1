//! Values of secrets: random, derived, or key pairs with certificates.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use marblerun_manifest::{Manifest, SecretDefinition, SecretType};
use marblerun_pki::derive::DerivedKeyTooLong;
use marblerun_pki::generated::KeySizeError;
use marblerun_pki::secret_certificate::DEFAULT_VALID_FOR_DAYS;
use marblerun_pki::template::CertificateTemplate;
use marblerun_pki::{
    CertificateError, GeneratedKey, IssueError, Issuer, KeyError, KeyKind, SecretValidity, derive_symmetric_key,
    issue_secret_certificate,
};
use marblerun_secret::SecretBytes;
use rustls_pki_types::UnixTime;
use thiserror::Error;

use crate::certificate_template::{self, TemplateError};
use crate::secret::Secret;
use crate::secrets::SECRET_OVERHEAD_BYTES;
use crate::uuid::MarbleUuid;

/// Largest sum of what is stored for all secrets: names, values and certificates. Together with the manifest it has to
/// fit into one record, and values that are generated cost the manifest's author nothing.
pub const MAX_SECRETS_BYTES: usize = 15 << 20;

/// Why a secret has no value.
#[derive(Debug, Error)]
#[error("Secrets.{name}")]
pub struct GenerateError {
    /// The secret.
    pub name: String,
    /// The reason.
    #[source]
    pub reason: GenerateReason,
}

/// The reason of a [`GenerateError`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GenerateReason {
    /// The type is unknown.
    #[error("Type: expected one of the known secret types, got {0:?}")]
    Type(String),
    /// Bits that make no whole bytes.
    #[error("Size: expected a positive multiple of 8 bits, got {0}")]
    Size(u64),
    /// More than can be derived.
    #[error("Size")]
    TooLong(#[from] DerivedKeyTooLong),
    /// No such key pair.
    #[error("Size")]
    KeySize(#[from] KeySizeError),
    /// Ed25519 has one size.
    #[error("Size: expected none for cert-ed25519, got {0}")]
    Ed25519Size(u64),
    /// Nobody could give it a value.
    #[error("UserDefined: expected true for a secret of type plain, got false")]
    Plain,
    /// The template cannot be used.
    #[error("Cert")]
    Template(#[from] TemplateError),
    /// The template makes no certificate.
    #[error("Cert")]
    Certificate(#[from] IssueError),
    /// The placeholder cannot serve as a template.
    #[error("the placeholder certificate cannot be read")]
    Placeholder(#[from] CertificateError),
    /// The provider makes no key.
    #[error("no key pair")]
    Key(#[from] KeyError),
    /// All secrets together take too much.
    #[error("with it, all secrets have more than {MAX_SECRETS_BYTES} bytes")]
    TotalSize,
    /// The random number generator failed.
    #[error("no random numbers")]
    Random,
}

/// What a Marble's own values depend on.
#[derive(Clone, Copy, Debug)]
pub struct MarbleContext<'a> {
    /// The instance.
    pub uuid: MarbleUuid,
    /// The Marble type, or nothing where binding is disabled.
    pub binding_name: &'a str,
    /// From which symmetric keys are derived.
    pub root_secret: &'a SecretBytes,
}

/// Everything that setting a manifest stores: shared values, placeholders of Marbles' own secrets, and the empty (or
/// given) values of those that users fill.
///
/// # Errors
///
/// The first secret that cannot have a value.
pub fn first_values(
    manifest: &Manifest,
    context: MarbleContext<'_>,
    issuer: &Issuer<'_>,
    now: UnixTime,
) -> Result<Vec<(String, Secret)>, GenerateError> {
    let mut stored = 0;
    manifest
        .secrets
        .iter()
        .map(|(name, definition)| {
            let failed = |reason| GenerateError { name: name.clone(), reason };
            let value = first_value(name, definition, context, issuer, now).map_err(failed)?;
            stored += SECRET_OVERHEAD_BYTES + name.len() + value.stored_bytes();
            if stored > MAX_SECRETS_BYTES {
                return Err(failed(GenerateReason::TotalSize));
            }
            Ok((name.clone(), value))
        })
        .collect()
}

/// The first value of one secret; see [`first_values`].
pub(crate) fn first_value(
    name: &str,
    definition: &SecretDefinition,
    context: MarbleContext<'_>,
    issuer: &Issuer<'_>,
    now: UnixTime,
) -> Result<Secret, GenerateReason> {
    let secret_type = definition.secret_type().ok_or_else(|| GenerateReason::Type(definition.type_word.clone()))?;
    let empty = Secret {
        secret_type,
        size: definition.size,
        shared: definition.shared,
        user_defined: definition.user_defined,
        valid_for: definition.valid_for,
        certificate: None,
        private: None,
        public: None,
    };
    if definition.user_defined {
        return Ok(user_defined(empty, definition));
    }
    match secret_type {
        SecretType::Plain => Err(GenerateReason::Plain),
        SecretType::SymmetricKey => {
            let length = key_length(definition.size)?;
            let key = if definition.shared { random(length)? } else { derived(name, length, context)? };
            Ok(symmetric(empty, &key))
        }
        SecretType::CertRsa | SecretType::CertEcdsa | SecretType::CertEd25519 => {
            let kind = key_kind(secret_type, definition.size)?;
            let template = certificate_template::convert(&definition.cert)?;
            let mut secret = certificate(empty, kind, &template, issuer, now)?;
            if template.not_after.is_none() && secret.valid_for == 0 {
                secret.valid_for = DEFAULT_VALID_FOR_DAYS;
            }
            Ok(secret)
        }
    }
}

/// What placeholders of Marbles' own secrets are made from: they belong to no instance. `None` without random numbers.
pub(crate) fn placeholder_context(root_secret: &SecretBytes) -> Option<MarbleContext<'_>> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).ok()?;
    Some(MarbleContext { uuid: MarbleUuid::from_random_bytes(random), binding_name: "", root_secret })
}

/// A generated certificate secret with a new key and certificate, made after the stored certificate: it ends with it.
///
/// # Errors
///
/// If the value cannot be made; the stored one was made by this Coordinator.
pub(crate) fn reissued(stored: &Secret, issuer: &Issuer<'_>, now: UnixTime) -> Result<Secret, GenerateReason> {
    let kind = key_kind(stored.secret_type, stored.size)?;
    let template = match &stored.certificate {
        Some(certificate) => CertificateTemplate::from_certificate(certificate)?,
        None => CertificateTemplate::default(),
    };
    certificate(stored.without_value(), kind, &template, issuer, now)
}

/// A Marble's own value of a secret whose stored value is a placeholder.
///
/// # Errors
///
/// If the value cannot be made; the definition was checked when the manifest was set.
pub fn marble_value(
    name: &str,
    placeholder: &Arc<Secret>,
    context: MarbleContext<'_>,
    issuer: &Issuer<'_>,
    now: UnixTime,
) -> Result<Arc<Secret>, GenerateError> {
    if placeholder.shared || placeholder.user_defined {
        return Ok(Arc::clone(placeholder));
    }
    own_value(name, placeholder, context, issuer, now)
        .map(Arc::new)
        .map_err(|reason| GenerateError { name: name.to_owned(), reason })
}

fn own_value(
    name: &str,
    placeholder: &Secret,
    context: MarbleContext<'_>,
    issuer: &Issuer<'_>,
    now: UnixTime,
) -> Result<Secret, GenerateReason> {
    let empty = placeholder.without_value();
    match placeholder.secret_type {
        SecretType::Plain => Err(GenerateReason::Plain),
        SecretType::SymmetricKey => {
            let key = derived(name, key_length(placeholder.size)?, context)?;
            Ok(symmetric(empty, &key))
        }
        SecretType::CertRsa | SecretType::CertEcdsa | SecretType::CertEd25519 => reissued(placeholder, issuer, now),
    }
}

/// The values that the manifest itself carries, if any, become the first values.
fn user_defined(empty: Secret, definition: &SecretDefinition) -> Secret {
    let copy = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(SecretBytes::copy_from);
    let certificate = match &definition.cert {
        marblerun_manifest::SecretCertificate::Der(der) => Some(der.clone()),
        _ => None,
    };
    Secret { certificate, private: copy(&definition.private), public: copy(&definition.public), ..empty }
}

fn symmetric(empty: Secret, key: &SecretBytes) -> Secret {
    Secret { private: Some(key.duplicate()), public: Some(key.duplicate()), ..empty }
}

fn certificate(
    empty: Secret,
    kind: KeyKind,
    template: &CertificateTemplate,
    issuer: &Issuer<'_>,
    now: UnixTime,
) -> Result<Secret, GenerateReason> {
    let key = GeneratedKey::generate(kind)?;
    let validity = SecretValidity { valid_for_days: empty.valid_for, shared: empty.shared };
    let certificate = issue_secret_certificate(issuer, template, validity, &key.public, now)?;
    Ok(Secret {
        certificate: Some(certificate),
        private: Some(key.private),
        public: Some(SecretBytes::new(key.public)),
        ..empty
    })
}

fn key_length(bits: u64) -> Result<usize, GenerateReason> {
    match usize::try_from(bits / 8) {
        Ok(length) if length > 0 && bits.is_multiple_of(8) => Ok(length),
        _ => Err(GenerateReason::Size(bits)),
    }
}

fn key_kind(secret_type: SecretType, size: u64) -> Result<KeyKind, GenerateReason> {
    match secret_type {
        SecretType::CertRsa => Ok(KeyKind::rsa(size)?),
        SecretType::CertEcdsa => Ok(KeyKind::ecdsa(size)?),
        SecretType::CertEd25519 if size == 0 => Ok(KeyKind::Ed25519),
        SecretType::CertEd25519 => Err(GenerateReason::Ed25519Size(size)),
        SecretType::SymmetricKey | SecretType::Plain => Err(GenerateReason::Type(secret_type.to_string())),
    }
}

/// Longest shared symmetric key in bytes; the manifest could ask for any number.
const MAX_RANDOM_BYTES: usize = 1024 * 1024;

fn random(length: usize) -> Result<SecretBytes, GenerateReason> {
    if length > MAX_RANDOM_BYTES {
        return Err(GenerateReason::Size(8 * length as u64));
    }
    let mut bytes = vec![0; length];
    SystemRandom::new().fill(&mut bytes).map_err(|_| GenerateReason::Random)?;
    Ok(SecretBytes::new(bytes))
}

fn derived(name: &str, length: usize, context: MarbleContext<'_>) -> Result<SecretBytes, GenerateReason> {
    let uuid = context.uuid.to_string();
    Ok(derive_symmetric_key(context.root_secret, &uuid, name, context.binding_name, length)?)
}
