//! Sealed states in the format of MarbleRun v1: from stored bytes to the items of the store.
//!
//! A state is a pair of objects, `sealed_data` and `sealed_key`: two files, or two values of a Kubernetes Secret.
//!
//! ```text
//! sealed_data   length n, 4 bytes little endian ‖ recovery data, n bytes ‖ nonce, 12 ‖ ciphertext ‖ tag, 16
//! sealed_key    by a TEE     length k = 1024 or 512, 4 bytes little endian ‖ key requests, k ‖ nonce, 12 ‖ ciphertext ‖ tag, 16
//!               by a key that replicas share                                                 nonce, 12 ‖ ciphertext ‖ tag, 16
//!               without TEE                                                                             the data key alone
//! ```
//!
//! The data key, of 16 or 32 bytes, encrypts the store (AES-GCM without additional data). Whatever encrypts the data key
//! authenticates the SHA-256 of the whole `sealed_data`. Two consequences: a data key that comes from [`SealedKey::open`]
//! proves the recovery data too, and one that comes from recovery shares does not, so that the recovery data stay a hint.
//!
//! Only reading exists; nothing writes this format.

mod data;
mod error;
mod key;
mod store;

#[cfg(test)]
mod tests;

pub use data::{MAX_RECOVERY_DATA_BYTES, MAX_SEALED_DATA_BYTES, RecoveryData, SealedData};
pub use error::ImportError;
pub use key::{DataKey, KEY_REQUEST_BYTES, SealedKey, SealedKeyForm};
pub use store::{Store, StoreItem};
