//! What a full update makes of each secret.

use std::sync::Arc;

use marblerun_manifest::{Manifest, SecretDefinition, SecretType};

use crate::deployment::Deployment;
use crate::generate::{self, GenerateError, GenerateReason, MAX_SECRETS_BYTES};
use crate::identity::Identity;
use crate::record::{PreviousValue, UpdatedSecret};
use crate::secret::Secret;
use crate::secrets::SECRET_OVERHEAD_BYTES;
use crate::set_manifest::SetManifestError;
use crate::time::Timestamp;

/// Every secret of `manifest`, as an update of `deployment`: what keeps its value, what gets a new one under the new
/// `identity`, and what becomes of the previous value.
///
/// What users uploaded and what is kept of it does not count against the limit of all secrets: an upload must not doom
/// an update that is pending.
pub(super) fn next(
    deployment: &Deployment,
    manifest: &Manifest,
    identity: &Identity,
    now: Timestamp,
) -> Result<Vec<UpdatedSecret>, SetManifestError> {
    let context = generate::placeholder_context(&identity.root_secret).ok_or(SetManifestError::Random)?;
    let issuer = identity.marble_issuer()?;
    let is_rotated = manifest.config.rotate_root_secret;
    let mut stored = 0;
    let next = |(name, definition): (&String, &SecretDefinition)| {
        let failed = |reason| GenerateError { name: name.clone(), reason };
        let same = deployment.manifest.secrets.get(name).filter(|old| old.has_definition_of(definition));
        let old = deployment.secrets.get(name).filter(|_| same.is_some());
        let (is_new, previous) = fate(old.map(Arc::as_ref), is_rotated);
        let value = if is_new {
            let value = generate::first_value(name, definition, context, &issuer, now.unix()).map_err(failed)?;
            Some(Arc::new(value))
        } else {
            None
        };
        let counted = value.as_ref().or(old.filter(|old| !old.user_defined));
        stored += SECRET_OVERHEAD_BYTES + name.len() + counted.map_or(0, |secret| secret.stored_bytes());
        if stored > MAX_SECRETS_BYTES {
            return Err(failed(GenerateReason::TotalSize));
        }
        Ok(UpdatedSecret { name: name.clone(), value, previous })
    };
    Ok(manifest.secrets.iter().map(next).collect::<Result<_, _>>()?)
}

/// Whether a secret gets a new value, and what its previous value becomes; `old` is its value of the same definition.
fn fate(old: Option<&Secret>, is_rotated: bool) -> (bool, PreviousValue) {
    match old {
        None => (true, PreviousValue::New),
        Some(old) if old.user_defined => (false, PreviousValue::Kept),
        Some(old) if old.secret_type == SecretType::SymmetricKey && !is_rotated => (false, PreviousValue::Kept),
        Some(_) => (true, PreviousValue::OldCurrent),
    }
}
