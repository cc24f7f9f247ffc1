//! What can go wrong, by what the caller can do about it.

use std::io;
use std::path::PathBuf;

use marblerun_sealing::{Fault, SealError, SealKeyError};

/// Why a store failed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused an operation.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Appending failed, and the log is durably as it was before.
    #[error("nothing was written")]
    NothingWritten(#[source] Box<StoreError>),
    /// Another process uses the directory.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody else wrote to the log since this process last did.
    #[error("{} was changed by another writer", path.display())]
    Conflict {
        /// The log.
        path: PathBuf,
    },
    /// A stored object is, or would become, larger than this program reads.
    #[error("{} has a limit of {max} bytes, got {got}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max: u64,
        /// Its size.
        got: u64,
    },
}

impl StoreError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free disk space in the seal directory")
                }
                io::ErrorKind::PermissionDenied => Some("make the seal directory writable for the Coordinator's user"),
                io::ErrorKind::ReadOnlyFilesystem => {
                    Some("mount the seal directory writable, or set EDG_COORDINATOR_SEAL_DIR to a writable directory")
                }
                io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                    Some("set EDG_COORDINATOR_SEAL_DIR to a directory of the Coordinator's own")
                }
                _ => None,
            },
            Self::NothingWritten(error) => error.hint(),
            Self::Locked { .. } | Self::Conflict { .. } => {
                Some("stop the other Coordinator, or give each one its own EDG_COORDINATOR_SEAL_DIR")
            }
            Self::TooLarge { .. } => {
                Some("check that the seal directory is the right one and how often its state changes")
            }
        }
    }
}

/// Why opening ended without an answer. Damaged state is no error but [`crate::Opened::Recovery`].
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error("cannot open the sealed state")]
    Store(#[from] StoreError),
    /// The key could not be wrapped again to finish an interrupted change of the seal mode.
    #[error("cannot seal")]
    Seal(#[from] SealError),
}

impl OpenError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Seal(_) => None,
        }
    }
}

/// Why a state was not opened with a recovery key. Unless the store failed while writing, nothing was changed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The recovery key, or the state, is refused.
    #[error("state does not open with this recovery key")]
    Refused(#[source] Fault),
    /// The store failed, or the key could not be wrapped for this TEE.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl RecoverError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused(fault) => fault.hint(),
            Self::Open(error) => error.hint(),
        }
    }
}

/// Why a commit was not acknowledged.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The payloads cannot be sealed; nothing was written and the log can be used further.
    #[error("cannot seal")]
    Seal(#[from] SealError),
    /// A new deployment could not be stored; the next start finds nothing or all of it.
    #[error("cannot create the sealed state")]
    Create(#[source] StoreError),
    /// The store refused, but is durably as it was before; the log can be used further.
    #[error("commit was refused by the store")]
    Refused(#[source] StoreError),
    /// The store failed in the middle: it is unknown whether the payloads are stored. The log refuses all further
    /// commits until it is opened again, and the caller must rebuild its memory from what opening returns.
    #[error("commit failed, its outcome is unknown")]
    Unknown(#[source] StoreError),
    /// An earlier commit ended as [`CommitError::Unknown`].
    #[error("sealed log is closed after a failed commit")]
    Closed,
    /// The log was disabled, and its records exist in memory only.
    #[error("sealing is disabled for this deployment")]
    Disabled,
}

impl CommitError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Seal(_) => None,
            Self::Create(error) | Self::Refused(error) | Self::Unknown(error) => error.hint(),
            Self::Closed => Some("restart the Coordinator after the storage is repaired"),
            Self::Disabled => Some("set a new manifest with another SealMode"),
        }
    }

    /// True if the caller's memory may no longer equal what is stored, so that the log must be opened again.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Closed)
    }
}

impl From<SealKeyError> for CommitError {
    fn from(error: SealKeyError) -> Self {
        Self::Seal(error.into())
    }
}
