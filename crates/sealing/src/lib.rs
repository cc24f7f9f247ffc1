//! Sealed record log and the key hierarchy below it.
//!
//! The host owns the disk, so everything here treats stored bytes as hostile. A deployment's state is a chain of
//! records, each encrypted and bound to its deployment, epoch, sequence number and predecessor. This crate turns
//! payloads into bytes and bytes back into payloads or a [`Fault`] that names kind and place; it does no input or
//! output. The byte layout is drawn in `docs/state-format.md`.
//!
//! ```text
//! TEE seal key ── HKDF(salt) ──> wrap key ── AES-256-GCM ──> epoch key (random per epoch)
//! recovery key ── HKDF(salt) ──> wrap key ── AES-256-GCM ──────┤
//!                                                              ├─ HKDF(32 fresh bytes per process start) ─> record key
//!                                                              └─ HKDF ─> head key (HMAC)
//! ```
//!
//! No (key, nonce) pair occurs twice, whatever the host replays: a record key belongs to one process start and
//! [`LogWriter::prepare`] gives it up unless the batch is confirmed, and each wrap derives its own key from a fresh salt.

mod bytes;
mod crypto;
mod fault;
mod frame;
mod head;
mod identity;
pub mod import;
mod keys;
mod reader;
mod recovery;
mod writer;

pub use fault::{Fault, SealError};
pub use frame::{MAX_BATCH_BYTES, MAX_PAYLOAD_BYTES, RecordNonce, record_nonces};
pub use head::{ClaimedHead, HEAD_LEN, HEADER_LEN, LogHeader};
pub use identity::{
    DeploymentId, HeadInfo, ManifestFingerprint, RecordHash, SealMode, SealPolicy, TrustClass, TrustContext,
};
pub use keys::{EpochKey, FixedSealKeys, MAX_KEY_ID_BYTES, SealKey, SealKeyError, SealKeys, WrappedKeys};
pub use reader::{StoredLog, TornTail, VerifiedLog, open_log, open_log_with_recovery};
pub use recovery::{
    MAX_RECOVERY_BYTES, MAX_RECOVERY_PUBLIC_KEY_BYTES, MAX_RECOVERY_SHARES, RECOVERY_KEY_BYTES, RecoveryRecipient,
    RecoveryScheme, RecoveryShare, WrappedForRecovery, open_recovery,
};
pub use writer::{Batch, LogWriter, MAX_RECORDS_PER_START, RecoveryChange, RecoveryFile};
