//! Records of updates. They hold new values only, so that each is bounded by the manifest and what is made from it.

use std::fmt;
use std::sync::Arc;

use marblerun_secret::SecretBytes;
use prost::Message;
use zeroize::Zeroize;

use super::{RecordError, SecretWire, secret_from_wire, secret_to_wire, shared_from_wire, take_secret};
use crate::secret::Secret;

/// The authority for certificates of Marbles and secrets that an update brings.
#[derive(Debug)]
pub struct Authority {
    /// PKCS#8 of the intermediate key, which is also the key of the Marble root certificate.
    pub intermediate_key: SecretBytes,
    /// DER of the intermediate certificate, signed by the root.
    pub intermediate_certificate: Vec<u8>,
    /// DER of the Marble root certificate.
    pub marble_root_certificate: Vec<u8>,
}

/// Security versions of packages were set; the manifest is still the same.
#[derive(Debug)]
pub struct PackagesUpdated {
    /// The packages with their new versions.
    pub versions: Vec<(String, u64)>,
    /// The new authority.
    pub authority: Authority,
    /// The shared certificate secrets, generated anew under it.
    pub secrets: Vec<(String, Arc<Secret>)>,
    /// The lines of the update log.
    pub log_lines: Vec<String>,
}

/// A full update waits for acknowledgements. Who must agree follows from the manifest that is set.
#[derive(Debug)]
pub struct UpdateInitiated {
    /// The new manifest, byte for byte as uploaded.
    pub raw: Vec<u8>,
    /// Who began it, and so agrees.
    pub user: String,
    /// The line of the update log.
    pub log_line: String,
}

/// A user agreed to the pending update.
#[derive(Debug)]
pub struct UpdateAcknowledged {
    /// Who.
    pub user: String,
    /// The line of the update log.
    pub log_line: String,
}

/// The pending update ended without taking effect.
#[derive(Debug)]
pub struct UpdateCancelled {
    /// The lines of the update log.
    pub log_lines: Vec<String>,
}

/// Another manifest took the place of the one before; the pending update, if there was one, is this one.
#[derive(Debug)]
pub struct ManifestUpdated {
    /// The manifest, byte for byte as uploaded.
    pub raw: Vec<u8>,
    /// ECDSA signature (ASN.1 DER) of the root key over SHA-256 of `raw`.
    pub signature: Vec<u8>,
    /// The new authority.
    pub authority: Authority,
    /// The new root secret, if it is rotated.
    pub root_secret: Option<SecretBytes>,
    /// Every secret of the manifest; those that are not named here are deleted.
    pub secrets: Vec<UpdatedSecret>,
    /// The lines of the update log.
    pub log_lines: Vec<String>,
}

/// What an update makes of a secret.
#[derive(Debug)]
pub struct UpdatedSecret {
    /// Its name.
    pub name: String,
    /// Its new value, definition included; `None` if it keeps the current one.
    pub value: Option<Arc<Secret>>,
    /// What its previous value becomes.
    pub previous: PreviousValue,
}

/// What the previous value of a secret becomes with an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviousValue {
    /// It stays what it was.
    Kept,
    /// The current value before the update.
    OldCurrent,
    /// The current value after the update.
    New,
}

impl PreviousValue {
    fn number(self) -> u32 {
        match self {
            Self::Kept => 1,
            Self::OldCurrent => 2,
            Self::New => 3,
        }
    }

    fn from_number(number: u32) -> Result<Self, RecordError> {
        match number {
            1 => Ok(Self::Kept),
            2 => Ok(Self::OldCurrent),
            3 => Ok(Self::New),
            number => Err(RecordError::UnknownPreviousValue(number)),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct AuthorityWire {
    #[prost(bytes = "vec", tag = "1")]
    intermediate_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    intermediate_certificate: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    marble_root_certificate: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PackageVersionWire {
    #[prost(string, tag = "1")]
    package: String,
    #[prost(uint64, tag = "2")]
    security_version: u64,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct PackagesUpdatedWire {
    #[prost(message, repeated, tag = "1")]
    versions: Vec<PackageVersionWire>,
    #[prost(message, optional, tag = "2")]
    authority: Option<AuthorityWire>,
    #[prost(message, repeated, tag = "3")]
    secrets: Vec<SecretWire>,
    #[prost(string, repeated, tag = "4")]
    log_lines: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UpdateInitiatedWire {
    #[prost(bytes = "vec", tag = "1")]
    raw: Vec<u8>,
    #[prost(string, tag = "2")]
    user: String,
    #[prost(string, tag = "3")]
    log_line: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UpdateAcknowledgedWire {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    log_line: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UpdateCancelledWire {
    #[prost(string, repeated, tag = "1")]
    log_lines: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct ManifestUpdatedWire {
    #[prost(bytes = "vec", tag = "1")]
    raw: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    authority: Option<AuthorityWire>,
    #[prost(bytes = "vec", optional, tag = "4")]
    root_secret: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "5")]
    secrets: Vec<UpdatedSecretWire>,
    #[prost(string, repeated, tag = "6")]
    log_lines: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct UpdatedSecretWire {
    #[prost(string, tag = "1")]
    name: String,
    /// Without its name, which stands beside it.
    #[prost(message, optional, tag = "2")]
    value: Option<SecretWire>,
    #[prost(uint32, tag = "3")]
    previous: u32,
}

impl Drop for AuthorityWire {
    fn drop(&mut self) {
        self.intermediate_key.zeroize();
    }
}

impl Drop for ManifestUpdatedWire {
    fn drop(&mut self) {
        self.root_secret.zeroize();
    }
}

super::silent_debug!(AuthorityWire, PackagesUpdatedWire, ManifestUpdatedWire, UpdatedSecretWire);

impl From<&Authority> for AuthorityWire {
    fn from(authority: &Authority) -> Self {
        Self {
            intermediate_key: authority.intermediate_key.expose().to_vec(),
            intermediate_certificate: authority.intermediate_certificate.clone(),
            marble_root_certificate: authority.marble_root_certificate.clone(),
        }
    }
}

fn authority(wire: Option<AuthorityWire>) -> Result<Authority, RecordError> {
    let mut wire =
        wire.ok_or_else(|| RecordError::Malformed("expected a certificate authority, got none".to_owned()))?;
    Ok(Authority {
        intermediate_key: take_secret(&mut wire.intermediate_key),
        intermediate_certificate: std::mem::take(&mut wire.intermediate_certificate),
        marble_root_certificate: std::mem::take(&mut wire.marble_root_certificate),
    })
}

impl From<&PackagesUpdated> for PackagesUpdatedWire {
    fn from(update: &PackagesUpdated) -> Self {
        let version = |(package, security_version): &(String, u64)| PackageVersionWire {
            package: package.clone(),
            security_version: *security_version,
        };
        Self {
            versions: update.versions.iter().map(version).collect(),
            authority: Some((&update.authority).into()),
            secrets: update.secrets.iter().map(|(name, secret)| secret_to_wire(name, secret)).collect(),
            log_lines: update.log_lines.clone(),
        }
    }
}

impl TryFrom<PackagesUpdatedWire> for PackagesUpdated {
    type Error = RecordError;

    fn try_from(wire: PackagesUpdatedWire) -> Result<Self, RecordError> {
        Ok(Self {
            versions: wire.versions.into_iter().map(|version| (version.package, version.security_version)).collect(),
            authority: authority(wire.authority)?,
            secrets: wire.secrets.into_iter().map(shared_from_wire).collect::<Result<_, _>>()?,
            log_lines: wire.log_lines,
        })
    }
}

impl From<&UpdateInitiated> for UpdateInitiatedWire {
    fn from(update: &UpdateInitiated) -> Self {
        Self { raw: update.raw.clone(), user: update.user.clone(), log_line: update.log_line.clone() }
    }
}

impl From<UpdateInitiatedWire> for UpdateInitiated {
    fn from(wire: UpdateInitiatedWire) -> Self {
        Self { raw: wire.raw, user: wire.user, log_line: wire.log_line }
    }
}

impl From<&UpdateAcknowledged> for UpdateAcknowledgedWire {
    fn from(update: &UpdateAcknowledged) -> Self {
        Self { user: update.user.clone(), log_line: update.log_line.clone() }
    }
}

impl From<UpdateAcknowledgedWire> for UpdateAcknowledged {
    fn from(wire: UpdateAcknowledgedWire) -> Self {
        Self { user: wire.user, log_line: wire.log_line }
    }
}

impl From<&UpdateCancelled> for UpdateCancelledWire {
    fn from(update: &UpdateCancelled) -> Self {
        Self { log_lines: update.log_lines.clone() }
    }
}

impl From<UpdateCancelledWire> for UpdateCancelled {
    fn from(wire: UpdateCancelledWire) -> Self {
        Self { log_lines: wire.log_lines }
    }
}

impl From<&ManifestUpdated> for ManifestUpdatedWire {
    fn from(update: &ManifestUpdated) -> Self {
        let secret = |secret: &UpdatedSecret| UpdatedSecretWire {
            name: secret.name.clone(),
            value: secret.value.as_deref().map(|value| secret_to_wire("", value)),
            previous: secret.previous.number(),
        };
        Self {
            raw: update.raw.clone(),
            signature: update.signature.clone(),
            authority: Some((&update.authority).into()),
            root_secret: update.root_secret.as_ref().map(|secret| secret.expose().to_vec()),
            secrets: update.secrets.iter().map(secret).collect(),
            log_lines: update.log_lines.clone(),
        }
    }
}

impl TryFrom<ManifestUpdatedWire> for ManifestUpdated {
    type Error = RecordError;

    fn try_from(mut wire: ManifestUpdatedWire) -> Result<Self, RecordError> {
        let secret = |wire: UpdatedSecretWire| {
            let value = wire.value.map(secret_from_wire).transpose()?;
            let previous = PreviousValue::from_number(wire.previous)?;
            Ok(UpdatedSecret { name: wire.name, value: value.map(|(_, secret)| Arc::new(secret)), previous })
        };
        Ok(Self {
            raw: std::mem::take(&mut wire.raw),
            signature: std::mem::take(&mut wire.signature),
            authority: authority(wire.authority.take())?,
            root_secret: wire.root_secret.take().map(SecretBytes::new),
            secrets: std::mem::take(&mut wire.secrets).into_iter().map(secret).collect::<Result<_, _>>()?,
            log_lines: std::mem::take(&mut wire.log_lines),
        })
    }
}
