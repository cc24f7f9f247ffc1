//! Package-only updates: higher security versions, and with them a new authority for certificates.

use std::sync::Arc;

use marblerun_manifest::Manifest;

use super::UpdateError;
use super::step::{self, Prepared};
use crate::deployment::Deployment;
use crate::generate::{self, GenerateError};
use crate::record::PackagesUpdated;
use crate::secret::Secret;
use crate::set_manifest::SetManifestError;
use crate::snapshot::Snapshot;
use crate::time::Timestamp;
use crate::update_log;
use crate::users::{Permission, User};

/// Longest sum of the lines that one update adds to the update log: with the new certificates they have to fit into one
/// record.
const MAX_LOG_BYTES: usize = 8 << 20;

pub(super) fn prepare(
    snapshot: &Snapshot,
    deployment: &Deployment,
    user: &User,
    manifest: &Manifest,
    now: Timestamp,
) -> Result<Prepared, UpdateError> {
    user.check(Permission::UpdateSecurityVersion, manifest.packages.keys().map(String::as_str))?;
    let versions = manifest.check_package_update(|name| deployment.security_version(name))?;
    let mut log_bytes = 0;
    let log_lines = versions.iter().map(|(package, version)| {
        let line = update_log::security_version_increased(now, user.name(), package, *version);
        log_bytes += line.len();
        (log_bytes <= MAX_LOG_BYTES).then_some(line).ok_or(UpdateError::LogSize { max: MAX_LOG_BYTES })
    });
    let log_lines = log_lines.collect::<Result<_, _>>()?;

    let authority = snapshot.identity.new_authority(now)?;
    let identity = snapshot.identity.updated(&authority, None)?;
    let issuer = identity.marble_issuer().map_err(SetManifestError::from)?;
    let reissue = |(name, stored): (&String, &Arc<Secret>)| match generate::reissued(stored, &issuer, now.unix()) {
        Ok(secret) => Ok((name.clone(), Arc::new(secret))),
        Err(reason) => Err(SetManifestError::from(GenerateError { name: name.clone(), reason })),
    };
    let secrets = deployment.secrets.iter().filter(|(_, stored)| stored.is_reissued()).map(reissue);
    let secrets = secrets.collect::<Result<_, _>>()?;
    let record = PackagesUpdated { versions: versions.into_iter().collect(), authority, secrets, log_lines };
    Ok(step::update_packages(snapshot, record))
}
