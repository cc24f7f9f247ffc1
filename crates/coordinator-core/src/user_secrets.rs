//! Secrets that users read and upload: who may, and which values are accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier};
use der::{Decode as _, Reader as _, SliceReader};
use marblerun_manifest::{SecretCertificate, SecretType, UserSecret};
use marblerun_pki::Certificate;
use marblerun_secret::SecretBytes;
use thiserror::Error;

use crate::deployment::Deployment;
use crate::generate::MAX_SECRETS_BYTES;
use crate::parameters::{DryRunError, dry_run_upload};
use crate::record::SecretsSet;
use crate::secret::Secret;
use crate::secrets::Secrets;
use crate::snapshot::Snapshot;
use crate::time::Timestamp;
use crate::update_log;
use crate::users::{Denied, Permission, User};

/// Longest sum of the lines that one upload adds to the update log: with the values they have to fit into one record.
pub const MAX_UPLOAD_LOG_BYTES: usize = 8 << 20;
/// A name that nobody knows is shown up to this many characters.
const MAX_SHOWN_CHARS: usize = 64;

/// Why secrets are not read or set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UserSecretsError {
    /// There is no manifest.
    #[error("server is not in expected state: expected a Coordinator with a manifest, got one without")]
    State,
    /// The upload holds no secret.
    #[error("expected at least one secret, got none")]
    Nothing,
    /// The manifest has no such secret.
    #[error("secret {0:?} is not defined in the manifest")]
    Unknown(String),
    /// The secret is generated.
    #[error("secret {0:?}: expected a user-defined secret, got one that is generated")]
    NotUserDefined(String),
    /// The value does not fit the secret.
    #[error("secret {name:?}")]
    Value {
        /// The secret.
        name: String,
        /// What is wrong with its value.
        #[source]
        reason: ValueError,
    },
    /// All secrets together take too much.
    #[error("with this upload all secrets have {got} bytes, expected at most {MAX_SECRETS_BYTES}")]
    TotalSize {
        /// What all secrets would take.
        got: usize,
    },
    /// The names in the log lines are too long.
    #[error("the log lines of this upload have more than {MAX_UPLOAD_LOG_BYTES} bytes; upload fewer secrets at once")]
    LogSize,
    /// The user's roles do not allow it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A template fails with the new values.
    #[error("a Marble's template fails with the new values")]
    DryRun(#[from] DryRunError),
}

/// Why a value does not fit its secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The manifest's size makes no whole bytes.
    #[error("the manifest's Size: expected a positive multiple of 8 bits, got {0}")]
    Size(u64),
    /// The key is too short or too long.
    // Scripts of MarbleRun users look for the first words.
    #[error("declared size and actual size don't match: Key: expected {expected} bytes, got {got}")]
    KeyLength {
        /// What the manifest asks for.
        expected: u64,
        /// What was given.
        got: usize,
    },
    /// A member that is for other types of secrets; an empty one counts.
    #[error("{member}: expected none for a secret of type {secret_type}, got one")]
    Unexpected {
        /// The member.
        member: &'static str,
        /// The type.
        secret_type: SecretType,
    },
    /// A certificate is missing.
    #[error("Cert: expected a DER certificate in base64, got none")]
    NoCertificate,
    /// The certificate's structure cannot be read.
    #[error("Cert: the certificate cannot be read")]
    MalformedCertificate,
    /// The certificate's key is of no known kind.
    #[error("Cert: expected an RSA, ECDSA (NIST curves), Ed25519 or X25519 public key, got another kind")]
    PublicKey,
}

/// The secrets `names`, for `user`.
///
/// # Errors
///
/// [`UserSecretsError::State`], [`UserSecretsError::Denied`] if there is one that the user may not read, whether it
/// exists or not.
pub fn read<'a>(
    snapshot: &Snapshot,
    user: &User,
    names: impl IntoIterator<Item = &'a str> + Clone,
) -> Result<Secrets, UserSecretsError> {
    let deployment = snapshot.deployment().ok_or(UserSecretsError::State)?;
    user.check(Permission::ReadSecret, names.clone())?;
    let stored =
        |name: &str| deployment.secrets.get(name).cloned().ok_or_else(|| UserSecretsError::Unknown(shown(name)));
    names.into_iter().map(|name| Ok((name.to_owned(), stored(name)?))).collect()
}

/// An upload that passed every check.
#[derive(Debug)]
pub struct PreparedUpload {
    /// What to store.
    pub record: SecretsSet,
    /// The deployment that it was checked against.
    pub deployment: Arc<Deployment>,
}

/// Checks an upload of `user` and makes what is stored. Nothing is changed.
///
/// The permission is checked before the templates are executed, so that nobody learns from them about secrets that he
/// may not write; MarbleRun v1.9.1 does it in the other order, with the same status.
///
/// # Errors
///
/// The first check that fails.
pub fn prepare_upload(
    snapshot: &Snapshot,
    user: &User,
    upload: BTreeMap<String, UserSecret>,
    now: Timestamp,
) -> Result<PreparedUpload, UserSecretsError> {
    let deployment = snapshot.deployment().ok_or(UserSecretsError::State)?;
    if upload.is_empty() {
        return Err(UserSecretsError::Nothing);
    }
    let secrets = upload
        .into_iter()
        .map(|(name, value)| {
            let definition = deployment.secrets.get(&name).ok_or_else(|| UserSecretsError::Unknown(shown(&name)))?;
            if !definition.user_defined {
                return Err(UserSecretsError::NotUserDefined(name));
            }
            match accepted(definition, value) {
                Ok(secret) => Ok((name, Arc::new(secret))),
                Err(reason) => Err(UserSecretsError::Value { name, reason }),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    user.check(Permission::WriteSecret, secrets.iter().map(|(name, _)| name.as_str()))?;
    check_fits(deployment, &secrets)?;

    let mut log_bytes = 0;
    let log_lines = secrets.iter().map(|(name, secret)| {
        let line = update_log::secret_set(now, user.name(), name, secret.secret_type);
        log_bytes += line.len();
        (log_bytes <= MAX_UPLOAD_LOG_BYTES).then_some(line).ok_or(UserSecretsError::LogSize)
    });
    let log_lines = log_lines.collect::<Result<_, _>>()?;
    Ok(PreparedUpload { record: SecretsSet { secrets, log_lines }, deployment: Arc::clone(deployment) })
}

/// Whether `deployment` can take the new values in: their size, and what its templates make of them.
///
/// # Errors
///
/// [`UserSecretsError::TotalSize`], [`UserSecretsError::DryRun`].
pub(crate) fn check_fits(deployment: &Deployment, new: &[(String, Arc<Secret>)]) -> Result<(), UserSecretsError> {
    let replaced = |name: &String| deployment.secrets.get(name).map_or(0, |old| old.stored_bytes());
    let (added, removed) = new
        .iter()
        .fold((0, 0), |(added, removed), (name, secret)| (added + secret.stored_bytes(), removed + replaced(name)));
    let got = deployment.secrets.stored_bytes() + added - removed;
    // An update may have left more than that, because it does not count what users uploaded; they can always shrink it.
    if got > MAX_SECRETS_BYTES && added > removed {
        return Err(UserSecretsError::TotalSize { got });
    }
    Ok(dry_run_upload(&deployment.marbles, &deployment.secrets, new)?)
}

/// The secret with the uploaded value, if it fits the definition.
fn accepted(definition: &Secret, value: UserSecret) -> Result<Secret, ValueError> {
    let secret_type = definition.secret_type;
    let unexpected = |member| Err(ValueError::Unexpected { member, secret_type });
    let UserSecret { cert, private, key } = value;
    let empty = definition.without_value();
    if secret_type.is_certificate() {
        if key.is_some() {
            return unexpected("Key");
        }
        let SecretCertificate::Der(certificate) = cert else { return Err(ValueError::NoCertificate) };
        let public = SecretBytes::copy_from(public_key(&certificate)?);
        return Ok(Secret { certificate: Some(certificate), private, public: Some(public), ..empty });
    }
    if secret_type == SecretType::SymmetricKey {
        if definition.size == 0 || !definition.size.is_multiple_of(8) {
            return Err(ValueError::Size(definition.size));
        }
        let (expected, got) = (definition.size / 8, key.as_ref().map_or(0, |key| key.len()));
        if expected != got as u64 {
            return Err(ValueError::KeyLength { expected, got });
        }
    }
    if matches!(cert, SecretCertificate::Der(_) | SecretCertificate::Template(_)) {
        return unexpected("Cert");
    }
    if private.is_some() {
        return unexpected("Private");
    }
    // No key is an empty one: the secret was set, to nothing.
    let key = key.unwrap_or_else(|| SecretBytes::new(Vec::new()));
    Ok(Secret { public: Some(key.duplicate()), private: Some(key), ..empty })
}

/// rsaEncryption, RFC 8017 A.1.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-ecPublicKey, RFC 5480 2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// RFC 8410 3.
const X25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");
/// RFC 8410 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// P-224, P-256, P-384 and P-521, RFC 5480 2.1.1.1.
const CURVES: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("1.3.132.0.33"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
    ObjectIdentifier::new_unwrap("1.3.132.0.34"),
    ObjectIdentifier::new_unwrap("1.3.132.0.35"),
];

/// The SubjectPublicKeyInfo of a certificate, if its key is of a known kind. The key itself is not looked at.
fn public_key(certificate: &[u8]) -> Result<&[u8], ValueError> {
    let certificate = Certificate::parse(certificate).map_err(|_| ValueError::MalformedCertificate)?;
    let der = certificate.public_key_der();
    let (algorithm, parameters) = key_algorithm(der).map_err(|_| ValueError::MalformedCertificate)?;
    let known = match algorithm {
        RSA | ED25519 | X25519 => true,
        EC => parameters.and_then(|curve| curve.decode_as().ok()).is_some_and(|curve| CURVES.contains(&curve)),
        _ => false,
    };
    if known { Ok(der) } else { Err(ValueError::PublicKey) }
}

/// Algorithm and parameters of a SubjectPublicKeyInfo (RFC 5280 4.1.2.7).
fn key_algorithm(der: &[u8]) -> der::Result<(ObjectIdentifier, Option<AnyRef<'_>>)> {
    let mut reader = SliceReader::new(der)?;
    reader.sequence(|reader| {
        let algorithm = reader.sequence(|reader| {
            let oid = ObjectIdentifier::decode(reader)?;
            let parameters = if reader.is_finished() { None } else { Some(AnyRef::decode(reader)?) };
            Ok::<_, der::Error>((oid, parameters))
        })?;
        BitStringRef::decode(reader)?;
        Ok(algorithm)
    })
}

fn shown(name: &str) -> String {
    name.chars().take(MAX_SHOWN_CHARS).collect()
}
