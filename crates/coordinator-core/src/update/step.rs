//! A step of an update, ready to be decided on the newest state.

use std::sync::Arc;

use marblerun_manifest::{SealMode, Warning};

use super::full::{PreparedManifestUpdate, RecoveryChange};
use super::{MAX_UPDATER_LIST_BYTES, PendingUpdate, UpdateError};
use crate::deployment::Deployment;
use crate::identity::Identity;
use crate::record::{PackagesUpdated, Record, UpdateAcknowledged, UpdateCancelled, UpdateInitiated};
use crate::snapshot::Snapshot;
use crate::time::Timestamp;
use crate::update_log;
use crate::users::User;

/// A step that passed every check, and what it leads to.
#[derive(Debug)]
pub struct Prepared {
    /// For the one owner of writing.
    pub step: PreparedStep,
    /// What is true once the step is stored.
    pub outcome: Outcome,
}

/// A step of an update: what it stores, and what it was checked against.
#[derive(Debug)]
pub struct PreparedStep {
    record: Record,
    basis: Basis,
}

/// What a step leads to.
#[derive(Debug)]
pub enum Outcome {
    /// Security versions are raised.
    PackagesUpdated,
    /// The update waits for more acknowledgements.
    Waits(Arc<PendingUpdate>),
    /// The new manifest is in force.
    Applied(Box<Applied>),
    /// The update was cancelled.
    Cancelled,
    /// The last acknowledgement is there, but the update cannot be put into force: it is removed.
    Failed(Box<UpdateError>),
}

/// What takes effect with a new manifest outside of the state.
#[derive(Debug)]
pub struct Applied {
    /// SHA-256 of the new manifest, hex.
    pub fingerprint: String,
    /// To whom the state is sealed from now on.
    pub seal_mode: SealMode,
    /// Who can open the state without the TEE's key from now on.
    pub recovery: RecoveryChange,
    /// What is legal but probably a mistake.
    pub warnings: Vec<Warning>,
    /// The pending update with its last acknowledgement; `None` if it needed nobody but who began it.
    pub acknowledged: Option<Arc<PendingUpdate>>,
}

/// The state that a step was checked against. Uploads of secrets may come in between, other steps may not: whatever
/// changes manifest or packages brings another authority, and with it another identity.
#[derive(Debug)]
struct Basis {
    identity: Arc<Identity>,
    pending: Option<Arc<PendingUpdate>>,
}

impl Basis {
    fn new(snapshot: &Snapshot) -> Self {
        Self { identity: Arc::clone(&snapshot.identity), pending: snapshot.pending_update.clone() }
    }

    fn holds(&self, newest: &Snapshot) -> bool {
        let is_same_pending = match (&self.pending, &newest.pending_update) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        is_same_pending && Arc::ptr_eq(&self.identity, &newest.identity)
    }
}

impl PreparedStep {
    fn new(snapshot: &Snapshot, record: Record) -> Self {
        Self { record, basis: Basis::new(snapshot) }
    }

    /// What the step stores; `None` if another step was taken since it was prepared.
    pub(crate) fn decide(self, newest: &Snapshot) -> Option<Record> {
        self.basis.holds(newest).then_some(self.record)
    }
}

pub(super) fn update_packages(snapshot: &Snapshot, record: PackagesUpdated) -> Prepared {
    let step = PreparedStep::new(snapshot, Record::PackagesUpdated(record));
    Prepared { step, outcome: Outcome::PackagesUpdated }
}

/// `user` begins the update to `raw`; it is in force at once if nobody else must agree.
pub(super) fn initiate(
    snapshot: &Snapshot,
    deployment: &Deployment,
    user: &User,
    raw: &[u8],
    update: PreparedManifestUpdate,
    now: Timestamp,
) -> Result<Prepared, UpdateError> {
    let pending = PendingUpdate::new(deployment, raw.to_vec(), user.name());
    let pending = pending.ok_or_else(|| UpdateError::NotAsked { user: user.name().to_owned() })?;
    if pending.names_bytes() > MAX_UPDATER_LIST_BYTES {
        return Err(UpdateError::UpdaterNames);
    }
    let fingerprint = pending.fingerprint();
    if pending.missing() == 0 {
        let line = update_log::update_initiated(now, user.name(), fingerprint);
        return Ok(apply(snapshot, update, line, fingerprint.to_owned(), None, now));
    }
    let log_line = update_log::update_waits(now, user.name(), pending.missing(), &pending.missing_users(), fingerprint);
    let record = UpdateInitiated { raw: pending.raw().to_vec(), user: user.name().to_owned(), log_line };
    let step = PreparedStep::new(snapshot, Record::UpdateInitiated(record));
    Ok(Prepared { step, outcome: Outcome::Waits(Arc::new(pending)) })
}

/// `user` acknowledges, which makes of the pending update `acknowledged`; `update` is what was prepared to put it into
/// force, if nobody else must agree.
pub(super) fn acknowledge(
    snapshot: &Snapshot,
    user: &User,
    acknowledged: PendingUpdate,
    update: Option<Result<PreparedManifestUpdate, UpdateError>>,
    now: Timestamp,
) -> Prepared {
    let line = acknowledgement_line(user, &acknowledged, now);
    let fingerprint = acknowledged.fingerprint().to_owned();
    let acknowledged = Arc::new(acknowledged);
    match update {
        None => {
            let record = UpdateAcknowledged { user: user.name().to_owned(), log_line: line };
            let step = PreparedStep::new(snapshot, Record::UpdateAcknowledged(record));
            Prepared { step, outcome: Outcome::Waits(acknowledged) }
        }
        Some(Ok(update)) => apply(snapshot, update, line, fingerprint, Some(acknowledged), now),
        Some(Err(error)) => {
            Prepared { step: fail(snapshot, user, &acknowledged, now), outcome: Outcome::Failed(Box::new(error)) }
        }
    }
}

pub(super) fn cancel(snapshot: &Snapshot, user: &User, pending: &PendingUpdate, now: Timestamp) -> Prepared {
    let log_lines = vec![update_log::update_cancelled(now, user.name(), pending.fingerprint())];
    let step = PreparedStep::new(snapshot, Record::UpdateCancelled(UpdateCancelled { log_lines }));
    Prepared { step, outcome: Outcome::Cancelled }
}

/// The pending update ends with its last acknowledgement; both are logged.
pub(super) fn fail(snapshot: &Snapshot, user: &User, acknowledged: &PendingUpdate, now: Timestamp) -> PreparedStep {
    let failure = update_log::update_failed(now, acknowledged.fingerprint());
    let log_lines = vec![acknowledgement_line(user, acknowledged, now), failure];
    PreparedStep::new(snapshot, Record::UpdateCancelled(UpdateCancelled { log_lines }))
}

/// One record: what led to it and that it is done are logged together with it.
fn apply(
    snapshot: &Snapshot,
    update: PreparedManifestUpdate,
    cause: String,
    fingerprint: String,
    acknowledged: Option<Arc<PendingUpdate>>,
    now: Timestamp,
) -> Prepared {
    let PreparedManifestUpdate { mut record, seal_mode, recovery, warnings } = update;
    record.log_lines = vec![cause, update_log::manifest_updated(now, &fingerprint)];
    let step = PreparedStep::new(snapshot, Record::ManifestUpdated(record));
    let applied = Applied { fingerprint, seal_mode, recovery, warnings, acknowledged };
    Prepared { step, outcome: Outcome::Applied(Box::new(applied)) }
}

fn acknowledgement_line(user: &User, acknowledged: &PendingUpdate, now: Timestamp) -> String {
    let (missing, users) = (acknowledged.missing(), acknowledged.missing_users());
    update_log::update_acknowledged(now, user.name(), missing, &users, acknowledged.fingerprint())
}
