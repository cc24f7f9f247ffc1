//! Why stored bytes were refused, and why sealing failed.

use crate::identity::{DeploymentId, ManifestFingerprint, SealPolicy, TrustClass};
use crate::keys::SealKeyError;

/// Why a stored state does not open. `record` is a sequence number, `offset` a position in the named object.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is a log but no wrapped key.
    #[error("sealed_key is missing, but sealed_data exists")]
    KeyMissing,
    /// There is a wrapped key but no log: never a first start.
    #[error("sealed_data is missing, but sealed_key exists")]
    DataMissing,
    /// The object is not one of ours.
    #[error("{object} does not start with the marker of this format")]
    Magic {
        /// File name.
        object: &'static str,
    },
    /// The object was written by another version of the format.
    #[error("{object} has format version {got}, expected {expected}")]
    Version {
        /// File name.
        object: &'static str,
        /// What this build reads.
        expected: u16,
        /// What is stored.
        got: u16,
    },
    /// Only the recovery recipient's wrap is left of a deployment: never a first start.
    #[error("sealed_key and sealed_data are missing, but sealed_recovery exists")]
    OnlyRecovery,
    /// There is no wrap for a recovery recipient.
    #[error("sealed_recovery is missing")]
    RecoveryMissing,
    /// The recovery key does not open the wrap for the recovery recipient.
    #[error("sealed_recovery does not open with this recovery key: other shares, or changed")]
    WrongRecoveryKey,
    /// The wrap for the recovery recipient is not the one that the log demands.
    #[error("sealed_recovery is not the one that the log holds: an older copy, or recovery was removed since")]
    RecoverySuperseded,
    /// The manifest's fingerprint in the wrap for the recovery recipient is not authentic.
    #[error("sealed_recovery names manifest {claimed}, which its own key does not confirm: it was changed")]
    RecoveryManifestChanged {
        /// What the file says.
        claimed: ManifestFingerprint,
    },
    /// The wrap for the recovery recipient is the right one, but named a manifest that is not in force any more.
    #[error("sealed_recovery claimed that manifest {claimed} is in force, but the log holds {log}")]
    RecoveryManifestOutdated {
        /// What the file said at the start, and so what was told.
        claimed: ManifestFingerprint,
        /// What the log's own copy says.
        log: ManifestFingerprint,
    },
    /// The log was exchanged after the Coordinator said what it would recover.
    #[error("sealed_data goes back: at the start it ended with record {claimed}, now with record {opened}")]
    WentBack {
        /// Sequence number at the start.
        claimed: u64,
        /// Sequence number of the log that opened.
        opened: u64,
    },
    /// A wrap for a recovery recipient and a log belong to two deployments.
    #[error("sealed_data belongs to deployment {data}, but sealed_recovery to {recovery}")]
    ForeignRecovery {
        /// Deployment of the wrap.
        recovery: DeploymentId,
        /// Deployment of the log.
        data: DeploymentId,
    },
    /// A field outside the records has an impossible value.
    #[error("{object} is malformed at offset {offset}: {what}")]
    Malformed {
        /// File name.
        object: &'static str,
        /// Position of the field.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Key and log belong to two deployments.
    #[error("sealed_data belongs to deployment {data}, but sealed_key to {key}")]
    ForeignDeployment {
        /// Deployment of the key.
        key: DeploymentId,
        /// Deployment of the log.
        data: DeploymentId,
    },
    /// The state was made under another trust class.
    #[error("state was sealed under trust class {sealed}, this Coordinator has {current}")]
    TrustClass {
        /// Class in the stored state.
        sealed: TrustClass,
        /// Class of the running Coordinator.
        current: TrustClass,
    },
    /// The state was made under the same class, but other roots.
    #[error("state was sealed under other {class} trust roots than this Coordinator has")]
    TrustRoots {
        /// The common class.
        class: TrustClass,
    },
    /// The TEE could not derive the seal key.
    #[error("seal key ({policy}) cannot be derived")]
    SealKey {
        /// Policy of the key.
        policy: SealPolicy,
        /// Why.
        #[source]
        source: SealKeyError,
    },
    /// The wrapped key is not authentic under this TEE's seal key.
    #[error("sealed_key does not open with this TEE's {policy}: sealed elsewhere, by other software, or changed")]
    WrongKey {
        /// Policy under which it was tried.
        policy: SealPolicy,
    },
    /// The key is wrapped under a weaker policy than the log demands.
    #[error("sealed_key is wrapped with {key}, but the state demands {log}")]
    SealModeDowngrade {
        /// Policy of the newest record.
        log: SealPolicy,
        /// Policy of the wrapped key.
        key: SealPolicy,
    },
    /// Neither copy of the head is authentic.
    #[error("both copies of the head in sealed_data are damaged, at offsets {first} and {second}")]
    HeadDamaged {
        /// Position of the first copy.
        first: u64,
        /// Position of the second copy.
        second: u64,
    },
    /// The log ends before the record that the head names.
    #[error("log is truncated in record {record} at offset {offset}: the head names record {head}")]
    Truncated {
        /// The record that is missing or cut.
        record: u64,
        /// Where it should start.
        offset: u64,
        /// Sequence number in the head.
        head: u64,
    },
    /// A record's plain fields are impossible.
    #[error("record {record} at offset {offset} is malformed: {what}")]
    RecordMalformed {
        /// The expected record.
        record: u64,
        /// Where it starts.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A record is not authentic.
    #[error("record {record} at offset {offset} was changed or is not of this deployment")]
    Tampered {
        /// The expected record.
        record: u64,
        /// Where it starts.
        offset: u64,
    },
    /// A genuine record stands at the wrong place: swapped, dropped, duplicated or spliced.
    #[error("record {found} stands at offset {offset}, expected record {expected} of this chain")]
    OutOfPlace {
        /// Sequence number that belongs here.
        expected: u64,
        /// Sequence number that was found.
        found: u64,
        /// Where it starts.
        offset: u64,
    },
    /// A record is of an epoch for which there is no key.
    #[error("record {record} at offset {offset} is of epoch {got}, expected {expected}")]
    Epoch {
        /// The record.
        record: u64,
        /// Where it starts.
        offset: u64,
        /// Epoch of the wrapped key.
        expected: u64,
        /// Epoch of the record.
        got: u64,
    },
    /// Head and log are of two histories.
    #[error("head names another record {record} than the log holds at offset {offset}")]
    HeadMismatch {
        /// Sequence number in the head.
        record: u64,
        /// End of that record in the log.
        offset: u64,
    },
}

impl Fault {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::KeyMissing | Self::SealKey { .. } | Self::WrongKey { .. } => Some(
                "upload the recovery secrets, restore sealed_key, or set a new manifest to start a new deployment; the \
                 old files are kept",
            ),
            Self::OnlyRecovery => Some("restore sealed_data from a backup, or move sealed_recovery away to start anew"),
            Self::RecoveryMissing => Some("restore sealed_recovery from a backup"),
            Self::RecoverySuperseded => Some("restore the newest sealed_recovery and use the newest shares"),
            Self::RecoveryManifestChanged { .. } => Some("restore sealed_recovery from a backup"),
            Self::RecoveryManifestOutdated { .. } => Some(
                "the file is an older copy or a crash left it so; compare the manifest that the Coordinator tells from \
                 now on, then give all secrets again",
            ),
            Self::WrongRecoveryKey => Some("check that all shares are of this deployment and of the newest set"),
            Self::ForeignRecovery { .. } => Some("restore sealed_recovery and sealed_data of the same deployment"),
            Self::DataMissing => Some("restore sealed_data from a backup, or move sealed_key away to start anew"),
            Self::Version { .. } => Some("start the version of the Coordinator that wrote this state"),
            Self::Magic { .. } => Some("check that the seal directory is the right one"),
            Self::TrustClass { .. } | Self::TrustRoots { .. } => {
                Some("use a separate seal directory for each trust configuration (/etc/marblerun/trust.json)")
            }
            Self::SealModeDowngrade { .. } => Some("restore the newest sealed_key"),
            Self::ForeignDeployment { .. } => Some("restore sealed_key and sealed_data of the same deployment"),
            Self::Malformed { .. }
            | Self::HeadDamaged { .. }
            | Self::Truncated { .. }
            | Self::RecordMalformed { .. }
            | Self::Tampered { .. }
            | Self::OutOfPlace { .. }
            | Self::Epoch { .. }
            | Self::WentBack { .. }
            | Self::HeadMismatch { .. } => Some("the files were changed outside the Coordinator; restore a backup"),
        }
    }
}

/// Why sealing new data failed. Nothing was written.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No random bytes.
    #[error("no randomness from the operating system")]
    Randomness,
    /// The cryptographic provider refused an operation.
    #[error("cryptographic provider failed: {operation}")]
    Provider {
        /// Which one.
        operation: &'static str,
    },
    /// The TEE could not derive the seal key.
    #[error("seal key cannot be derived")]
    SealKey(#[from] SealKeyError),
    /// Key, scheme and shares of a recovery recipient do not fit together.
    #[error("recovery recipient: {what}")]
    Recipient {
        /// What does not fit.
        what: &'static str,
    },
    /// The recovery recipient cannot change without a payload that it belongs to.
    #[error("recovery recipient can change only together with a payload")]
    RecoveryAlone,
    /// A TEE's key identifier does not fit the format.
    #[error("key identifier holds at most {max} bytes, got {got}")]
    KeyIdTooLong {
        /// The limit.
        max: usize,
        /// The length.
        got: usize,
    },
    /// One payload exceeds the limit.
    #[error("record holds at most {max} bytes, got {got}")]
    PayloadTooLarge {
        /// The limit.
        max: usize,
        /// The length.
        got: usize,
    },
    /// All payloads of one commit together exceed the limit.
    #[error("commit holds at most {max} bytes, got {got}")]
    BatchTooLarge {
        /// The limit.
        max: usize,
        /// The length.
        got: usize,
    },
    /// Sequence numbers are used up.
    #[error("log has no sequence numbers left")]
    Exhausted,
}
