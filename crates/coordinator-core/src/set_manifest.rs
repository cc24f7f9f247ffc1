//! Setting the first manifest: from bytes to the record that stores everything made from it.

use std::collections::BTreeMap;

use marblerun_manifest::{AzureHsm, CheckError, DecodeError, Manifest, PemError, SealMode, Warning, recovery_key};
use marblerun_pki::{IssueError, KeyError};
use thiserror::Error;

use crate::deployment::{DeploymentError, prepare_marbles};
use crate::generate::{self, GenerateError};
use crate::identity::Identity;
use crate::parameters::{DryRunError, dry_run};
use crate::record::ManifestSet;
use crate::recovery::{self, RecoveryError, RecoverySecrets};
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::update_log;

/// A manifest that passed every check, with all that is to be stored.
#[derive(Debug)]
pub struct PreparedManifest {
    /// What to store.
    pub record: ManifestSet,
    /// To whom the state is sealed from now on.
    pub seal_mode: SealMode,
    /// What the recovery parties get; given out once.
    pub recovery: Option<RecoverySecrets>,
    /// What is legal but probably a mistake.
    pub warnings: Vec<Warning>,
}

/// Why a manifest is not set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetManifestError {
    /// It cannot be decoded.
    #[error("manifest cannot be decoded")]
    Decode(#[from] DecodeError),
    /// It contradicts itself.
    #[error("manifest is not consistent")]
    Check(#[from] CheckError),
    /// A secret cannot be generated.
    #[error("secret cannot be generated")]
    Generate(#[from] GenerateError),
    /// A recovery key cannot be read.
    #[error("RecoveryKeys.{name}")]
    RecoveryKey {
        /// Name in the manifest.
        name: String,
        /// Why.
        #[source]
        source: PemError,
    },
    /// A recovery key cannot be used.
    #[error("recovery secrets cannot be made")]
    Recovery(#[from] RecoveryError),
    /// A template cannot be compiled.
    #[error("template cannot be compiled")]
    Deployment(#[from] DeploymentError),
    /// A template fails with substitute data.
    #[error("template fails in the dry run")]
    DryRun(#[from] DryRunError),
    /// The Coordinator's own certificate cannot be used.
    #[error("the Coordinator's certificate cannot be used")]
    Issuer(#[from] IssueError),
    /// The manifest cannot be signed.
    #[error("manifest cannot be signed")]
    Sign(#[from] KeyError),
    /// The random number generator failed.
    #[error("no random numbers")]
    Random,
}

impl SetManifestError {
    /// What the author of the manifest can do; the message stands without it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Check(error) => error.hint(),
            Self::RecoveryKey { source, .. } => source.hint().map(str::to_owned),
            Self::Deployment(DeploymentError::Template { source, .. }) => source.hint().map(str::to_owned),
            Self::DryRun(error) => error.source.hint().map(str::to_owned),
            _ => None,
        }
    }
}

/// Checks `raw` and makes everything that setting it stores. Nothing is changed.
///
/// The order of the checks is that of MarbleRun v1.9.1.
///
/// # Errors
///
/// The first check that fails.
pub fn prepare(identity: &Identity, raw: &[u8], now: Timestamp) -> Result<PreparedManifest, SetManifestError> {
    let manifest = Manifest::decode(raw)?;
    // This Coordinator does not seal to an HSM, so a manifest that asks for it is refused.
    manifest.check(AzureHsm::Unavailable)?;
    let secrets = first_secrets(&manifest, identity, now)?;
    let recovery = recovery::make(&recovery_keys(&manifest)?, manifest.config.recovery_threshold)?;
    let signature = identity.root_key.sign_sha256(raw)?;
    let marbles = prepare_marbles(&manifest)?;

    let log_line = update_log::initial_manifest_set(now);
    let record = ManifestSet { raw: raw.to_vec(), signature, secrets, log_line };
    dry_run(&marbles, record.secrets.iter().map(|(name, secret)| (name.as_str(), secret)))?;
    Ok(PreparedManifest {
        record,
        // Unknown words were refused by the check.
        seal_mode: manifest.config.seal_mode().unwrap_or_default(),
        recovery,
        warnings: manifest.warnings(),
    })
}

fn first_secrets(
    manifest: &Manifest,
    identity: &Identity,
    now: Timestamp,
) -> Result<Vec<(String, Secret)>, SetManifestError> {
    let context = generate::placeholder_context(&identity.root_secret).ok_or(SetManifestError::Random)?;
    Ok(generate::first_values(manifest, context, &identity.marble_issuer()?, now.unix())?)
}

/// The recovery keys of `manifest`, decoded, by party.
pub(crate) fn recovery_keys(manifest: &Manifest) -> Result<BTreeMap<String, Vec<u8>>, SetManifestError> {
    manifest
        .recovery_keys
        .iter()
        .map(|(name, pem)| match recovery_key(pem) {
            Ok(key) => Ok((name.clone(), key)),
            Err(source) => Err(SetManifestError::RecoveryKey { name: name.clone(), source }),
        })
        .collect()
}
