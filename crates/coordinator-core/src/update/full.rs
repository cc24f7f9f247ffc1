//! Full updates: everything that takes effect with another manifest.

use std::sync::Arc;

use marblerun_manifest::{AzureHsm, Manifest, SealMode, Warning};

use super::{UpdateError, secrets};
use crate::deployment::{Deployment, prepare_marbles};
use crate::identity::{self, Identity};
use crate::parameters::dry_run;
use crate::record::{ManifestUpdated, UpdatedSecret};
use crate::recovery::{self, RecoverySecrets};
use crate::set_manifest::{SetManifestError, recovery_keys};
use crate::time::Timestamp;
use crate::users::Users;

/// A manifest that can take the place of the running one, with all that is to be stored.
#[derive(Debug)]
pub(super) struct PreparedManifestUpdate {
    /// What to store.
    pub record: ManifestUpdated,
    /// To whom the state is sealed from now on.
    pub seal_mode: SealMode,
    /// Who can open the state without the TEE's key from now on.
    pub recovery: RecoveryChange,
    /// What is legal but probably a mistake.
    pub warnings: Vec<Warning>,
}

/// What an update makes of the recovery configuration.
#[derive(Debug)]
pub enum RecoveryChange {
    /// The parties keep their shares.
    Kept,
    /// The Coordinator accepts these instead of the former shares. `None`: nobody has shares any more.
    Replaced(Option<RecoverySecrets>),
}

/// Prepares the update of `deployment` to `manifest`, whose text is `raw`. The log lines are left to the caller.
pub(super) fn prepare(
    identity: &Identity,
    deployment: &Deployment,
    raw: &[u8],
    manifest: &Manifest,
    now: Timestamp,
) -> Result<PreparedManifestUpdate, UpdateError> {
    // This Coordinator does not seal to an HSM, so a manifest that asks for it is refused.
    manifest.check(AzureHsm::Unavailable).map_err(SetManifestError::from)?;
    // Unknown words were refused by the check.
    let seal_mode = manifest.config.seal_mode().unwrap_or_default();
    let is_stored = deployment.manifest.config.seal_mode() != Some(SealMode::Disabled);
    if !is_stored && seal_mode != SealMode::Disabled {
        return Err(UpdateError::SealMode);
    }
    let authority = identity.new_authority(now)?;
    let root_secret = manifest.config.rotate_root_secret.then(identity::new_root_secret).transpose()?;
    let next = identity.updated(&authority, root_secret.as_ref())?;
    let secrets = secrets::next(deployment, manifest, &next, now)?;
    let recovery = recovery_change(deployment, manifest)?;
    let signature = identity.root_key.sign_sha256(raw).map_err(SetManifestError::from)?;
    check_use(deployment, manifest, &secrets)?;
    Ok(PreparedManifestUpdate {
        record: ManifestUpdated {
            raw: raw.to_vec(),
            signature,
            authority,
            root_secret,
            secrets,
            log_lines: Vec::new(),
        },
        seal_mode,
        recovery,
        warnings: manifest.warnings(),
    })
}

fn recovery_change(deployment: &Deployment, manifest: &Manifest) -> Result<RecoveryChange, SetManifestError> {
    if manifest.has_recovery_of(&deployment.manifest) {
        return Ok(RecoveryChange::Kept);
    }
    let secrets = recovery::make(&recovery_keys(manifest)?, manifest.config.recovery_threshold)?;
    Ok(RecoveryChange::Replaced(secrets))
}

/// Whether users can be told apart, and templates compile and go through with the secrets as they will be.
fn check_use(deployment: &Deployment, manifest: &Manifest, secrets: &[UpdatedSecret]) -> Result<(), SetManifestError> {
    let marbles = prepare_marbles(manifest)?;
    Users::new(manifest).map_err(crate::deployment::DeploymentError::from)?;
    let value = |secret: &UpdatedSecret| {
        let value = secret.value.as_ref().or_else(|| deployment.secrets.get(&secret.name)).map(Arc::clone);
        value.map(|value| (secret.name.clone(), value))
    };
    let values: Vec<_> = secrets.iter().filter_map(value).collect();
    Ok(dry_run(&marbles, values.iter().map(|(name, secret)| (name.as_str(), secret.as_ref())))?)
}
