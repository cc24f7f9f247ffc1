//! Why a sealed state cannot be read.

use marblerun_json::DecodeError;
use thiserror::Error;

/// Why a sealed state in the format of MarbleRun v1 cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// `sealed_data` is longer than anyone's state.
    #[error("sealed_data: expected at most {max} bytes, got {got}")]
    DataTooLarge {
        /// The limit.
        max: usize,
        /// The length.
        got: usize,
    },
    /// `sealed_data` has no room for its fixed parts.
    #[error("sealed_data: expected at least {min} bytes, got {got}")]
    DataTooShort {
        /// Length field, nonce and tag.
        min: usize,
        /// The length.
        got: usize,
    },
    /// The length field leaves no room for nonce and tag.
    #[error("sealed_data: expected a length of recovery data up to {max}, got {got}")]
    RecoveryLength {
        /// What the file, or the limit, has room for.
        max: usize,
        /// The field's value.
        got: u32,
    },
    /// The recovery data are not what MarbleRun writes. The state may still open.
    #[error("sealed_data: the recovery data cannot be read")]
    RecoveryData(#[source] DecodeError),
    /// A member of the recovery data is not the hash of a share.
    #[error("sealed_data: expected recovery data with a SHA-256 in lower-case hexadecimal for each share, once")]
    ShareHash,
    /// More shares than a deployment has.
    #[error("sealed_data: expected recovery data of at most {max} shares")]
    TooManyShares {
        /// The limit.
        max: usize,
    },
    /// `sealed_key` is in none of the known forms.
    #[error("sealed_key: expected one of the known forms, got {got} bytes that are in none of them")]
    KeyForm {
        /// The length.
        got: usize,
    },
    /// `sealed_key` is wrapped once more by a key in an HSM.
    #[error("sealed_key: expected a key that is not wrapped by an HSM, got one that is")]
    KeyInHsm,
    /// The key that is to open `sealed_key` has the wrong length.
    #[error("expected a key of {expected} bytes for this sealed_key, got {got}")]
    WrappingKeyLength {
        /// What this form needs.
        expected: usize,
        /// The length.
        got: usize,
    },
    /// `sealed_key` does not open: another key, changed bytes, or a `sealed_data` that it does not belong to.
    #[error("sealed_key: it does not open with this key and this sealed_data")]
    KeyNotAuthentic,
    /// A data key is neither 16 nor 32 bytes long.
    #[error("expected a data key of 16 or 32 bytes, got {got}")]
    DataKeyLength {
        /// The length.
        got: usize,
    },
    /// `sealed_data` does not open: another key or changed bytes.
    #[error("sealed_data: it does not open with this data key")]
    DataNotAuthentic,
    /// The decrypted store is not a JSON object of strings.
    #[error("the decrypted store cannot be read")]
    Store(#[source] DecodeError),
    /// The decrypted store has an item twice.
    #[error("the decrypted store: expected each item once, got {key:?} twice")]
    RepeatedItem {
        /// Its key in the store.
        key: String,
    },
    /// The cryptographic provider refused.
    #[error("the cryptographic provider refused a key of {length} bytes")]
    Provider {
        /// Length of the key.
        length: usize,
    },
}

impl ImportError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::KeyForm { .. } | Self::KeyInHsm | Self::KeyNotAuthentic => {
                Some("leave sealed_key out and recover with the shares of the recovery parties")
            }
            Self::DataTooShort { .. } | Self::RecoveryLength { .. } => {
                Some("use an intact copy of sealed_data, for instance sealed_data.old or a backup")
            }
            _ => None,
        }
    }
}
