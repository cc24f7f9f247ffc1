//! From a complete recovery key to a state in service, on the writer's thread.

use marblerun_coordinator_core::ledger::{Ledger, ReplayError};
use marblerun_coordinator_core::record::{Record, RecordError};
use marblerun_coordinator_core::recovery::SignatureError;
use marblerun_sealing::ManifestFingerprint;
use marblerun_secret::SecretBytes;
use marblerun_storage::{Existing, Recovery};
use thiserror::Error;

/// Whether a state may be given to those who opened it.
pub type Check = Box<dyn FnOnce(&Ledger) -> Result<(), SignatureError> + Send>;

/// Why a state is not restored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is nothing to recover any more.
    #[error("expected a state that waits for recovery, got another one")]
    NotInRecovery,
    /// The key does not open it, or the storage failed.
    #[error(transparent)]
    State(#[from] marblerun_storage::RecoverError),
    /// A record cannot be read.
    #[error("the state holds a record that this version cannot read")]
    Record(#[from] RecordError),
    /// The records do not make a state.
    #[error("the state cannot be read by this version")]
    Replay(#[from] ReplayError),
    /// The manifest that the parties were told is not the one in the records, which would be a defect of this program.
    #[error("the state says that manifest {claimed} is in force, but its records hold {held}")]
    Manifest {
        /// What was told, hex.
        claimed: String,
        /// SHA-256 of the manifest in the records, hex.
        held: String,
    },
    /// Those who have to did not sign.
    #[error("the state opens, but not all who have to agreed")]
    Signatures(#[from] SignatureError),
    /// An earlier error ended writing.
    #[error("nothing is written any more since an earlier storage error; restart the Coordinator")]
    Ended,
}

impl RestoreError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::State(error) => error.hint(),
            Self::Record(_) | Self::Replay(_) => Some("start the version of the Coordinator that wrote this state"),
            Self::Signatures(_) => Some("each party has to sign its own secret with its own recovery key"),
            Self::Manifest { .. } | Self::NotInRecovery | Self::Ended => None,
        }
    }
}

/// Opens the state with `key` and lets `check` look at it; only then is anything written.
///
/// # Errors
///
/// Gives the recovery back with the reason; the state is as before.
pub(crate) fn restore(
    recovery: Recovery,
    key: &SecretBytes,
    check: Check,
) -> Result<(Ledger, Existing), Box<(Recovery, RestoreError)>> {
    let proven = recovery.prove(key).map_err(|refused| Box::new((refused.recovery, refused.error.into())))?;
    let checked = replay(proven.records()).and_then(|ledger| {
        check_manifest(&ledger, proven.manifest())?;
        check(&ledger)?;
        Ok(ledger)
    });
    let ledger = match checked {
        Ok(ledger) => ledger,
        Err(error) => return Err(Box::new((proven.refuse(), error))),
    };
    let existing = proven.restore().map_err(|refused| Box::new((refused.recovery, refused.error.into())))?;
    Ok((ledger, existing))
}

/// The claim is authentic by now, but it says more than the storage understands.
fn check_manifest(ledger: &Ledger, claimed: ManifestFingerprint) -> Result<(), RestoreError> {
    let snapshot = ledger.snapshot();
    let held = snapshot.deployment().map(|deployment| deployment.fingerprint.clone()).unwrap_or_default();
    let claimed = claimed.to_string();
    if claimed == held { Ok(()) } else { Err(RestoreError::Manifest { claimed, held }) }
}

fn replay(records: &[SecretBytes]) -> Result<Ledger, RestoreError> {
    let records = records.iter().map(|record| Record::decode(record.expose()));
    Ok(Ledger::replay(records.collect::<Result<Vec<_>, _>>()?)?)
}
