//! Updates: raising security versions of packages, and replacing the manifest with the agreement of several users.
//!
//! As with everything that changes the state, a step is prepared on a snapshot, outside of every lock, and decided on
//! the newest state: it is refused if another step was taken meanwhile, and then has to be prepared anew. Uploads of
//! secrets do not stand in its way: records of updates hold new values only, so that what was uploaded meanwhile stays.

mod full;
mod packages;
mod pending;
mod secrets;
mod step;

use marblerun_manifest::{Manifest, PackageUpdateError, UpdateKind};
use thiserror::Error;

use crate::identity::IdentityError;
use crate::set_manifest::SetManifestError;
use crate::snapshot::Snapshot;
use crate::time::Timestamp;
use crate::users::{Denied, Permission, User};

pub use self::full::RecoveryChange;
pub use self::pending::PendingUpdate;
pub use self::step::{Applied, Outcome, Prepared, PreparedStep};

/// Longest list of the names of all users who may update, as JSON. It stands in lines of the update log, which have to
/// fit into one record together with a manifest and its secrets.
pub const MAX_UPDATER_LIST_BYTES: usize = 896 << 10;

/// Why a step of an update is not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// There is no manifest.
    #[error("server is not in expected state: expected a Coordinator with a manifest, got one without")]
    State,
    /// A full update waits for acknowledgements.
    #[error("expected no pending update, got one: it must be acknowledged or cancelled first")]
    Pending,
    /// The user's roles do not allow it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The packages of a package-only update are refused.
    #[error("{}", refusal_of(.0))]
    Packages(#[from] PackageUpdateError),
    /// The log lines of a package-only update are too long.
    #[error("the log lines of this update have more than {max} bytes; update fewer packages at once")]
    LogSize {
        /// The limit.
        max: usize,
    },
    /// The names of all who may update are too long.
    #[error("the names of all users who may update have more than {MAX_UPDATER_LIST_BYTES} bytes")]
    UpdaterNames,
    /// The new manifest is refused.
    #[error(transparent)]
    Manifest(#[from] SetManifestError),
    /// The state was never stored, so that it cannot be from now on.
    #[error("Config.SealMode: expected Disabled, because the state of this deployment is not stored, got another mode")]
    SealMode,
    /// The new authority cannot be made.
    #[error("the new certificate authority cannot be made")]
    Authority(#[from] IdentityError),
    /// Nothing waits for acknowledgements.
    #[error("no update in progress: expected a pending update, got none")]
    NothingPending,
    /// The user is not asked.
    #[error("user {user:?} is not one of those who must acknowledge the update")]
    NotAsked {
        /// The user.
        user: String,
    },
    /// What is acknowledged is not what is pending.
    #[error("expected the manifest of the pending update, byte for byte ({expected}), got another one ({got})")]
    OtherManifest {
        /// SHA-256 of the pending one, hex.
        expected: String,
        /// SHA-256 of the other, hex.
        got: String,
    },
}

/// Scripts of MarbleRun users look for the second text.
fn refusal_of(error: &PackageUpdateError) -> &'static str {
    match error {
        PackageUpdateError::Lower { .. } => {
            "update manifest tries to downgrade SecurityVersion of the original manifest"
        }
        _ => "package update refused",
    }
}

impl UpdateError {
    /// What the user can do; the message stands without it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Manifest(error) => error.hint(),
            Self::OtherManifest { .. } => Some("acknowledge the file that GET update-manifest returns".to_owned()),
            _ => None,
        }
    }
}

/// Checks the update `raw` of `user` and makes everything that it stores. Nothing is changed.
///
/// A full update is prepared whole even if others must agree, and then thrown away: so that nobody is asked to
/// acknowledge what cannot take effect.
///
/// # Errors
///
/// The first check that fails.
pub fn prepare(snapshot: &Snapshot, user: &User, raw: &[u8], now: Timestamp) -> Result<Prepared, UpdateError> {
    let manifest = Manifest::decode(raw).map_err(SetManifestError::from)?;
    if snapshot.pending_update.is_some() {
        return Err(UpdateError::Pending);
    }
    let deployment = snapshot.deployment().ok_or(UpdateError::State)?;
    match manifest.update_kind() {
        UpdateKind::PackageOnly => packages::prepare(snapshot, deployment, user, &manifest, now),
        UpdateKind::Full => {
            user.check(Permission::UpdateManifest, [])?;
            let update = full::prepare(&snapshot.identity, deployment, raw, &manifest, now)?;
            step::initiate(snapshot, deployment, user, raw, update, now)
        }
    }
}

/// Checks the acknowledgement of `user`, who sent the manifest `raw`, and makes everything that it stores. Nothing is
/// changed.
///
/// The last acknowledgement puts the update into force. If that fails, the step ends the update; see
/// [`Outcome::Failed`].
///
/// # Errors
///
/// [`UpdateError::State`], [`UpdateError::NothingPending`], [`UpdateError::NotAsked`], [`UpdateError::OtherManifest`].
pub fn prepare_acknowledgement(
    snapshot: &Snapshot,
    user: &User,
    raw: &[u8],
    now: Timestamp,
) -> Result<Prepared, UpdateError> {
    let pending = snapshot.pending_update.as_ref().ok_or(UpdateError::NothingPending)?;
    let deployment = snapshot.deployment().ok_or(UpdateError::State)?;
    let acknowledged = pending.acknowledged_by(user.name());
    let acknowledged = acknowledged.ok_or_else(|| UpdateError::NotAsked { user: user.name().to_owned() })?;
    if **pending.raw() != *raw {
        let got = marblerun_manifest::fingerprint(raw);
        return Err(UpdateError::OtherManifest { expected: pending.fingerprint().to_owned(), got });
    }
    let update = if acknowledged.missing() == 0 {
        let prepared = Manifest::decode(raw)
            .map_err(|error| SetManifestError::from(error).into())
            .and_then(|manifest| full::prepare(&snapshot.identity, deployment, raw, &manifest, now));
        Some(prepared)
    } else {
        None
    };
    Ok(step::acknowledge(snapshot, user, acknowledged, update, now))
}

/// Checks whether `user` may cancel the pending update, and makes what that stores. Nothing is changed.
///
/// # Errors
///
/// [`UpdateError::Denied`] before [`UpdateError::NothingPending`].
pub fn prepare_cancellation(snapshot: &Snapshot, user: &User, now: Timestamp) -> Result<Prepared, UpdateError> {
    user.check(Permission::UpdateManifest, [])?;
    let pending = snapshot.pending_update.as_ref().ok_or(UpdateError::NothingPending)?;
    Ok(step::cancel(snapshot, user, pending, now))
}

/// The step that ends the pending update because putting it into force failed after it was prepared, which
/// `acknowledged` by `user` led to.
///
/// # Errors
///
/// [`UpdateError::NothingPending`].
pub fn prepare_failure(
    snapshot: &Snapshot,
    user: &User,
    acknowledged: &PendingUpdate,
    now: Timestamp,
) -> Result<PreparedStep, UpdateError> {
    if snapshot.pending_update.is_none() {
        return Err(UpdateError::NothingPending);
    }
    Ok(step::fail(snapshot, user, acknowledged, now))
}
