//! Seal keys: derived by the processor, bound to the enclave or to its signer.

use std::io;

use marblerun_linux::sgx::KEY_REQUEST_LEN;
use marblerun_secret::SecretBytes;
use zeroize::Zeroize;

use crate::occlum::{Occlum, Sgx};
use crate::{EvidenceError, REPORT_DATA_LEN};

/// Bytes of a seal key: two results of EGETKEY with different key ids.
pub(crate) const KEY_LEN: usize = 32;

/// The key ids of the two halves. Fixed, so that the same enclave finds the same key after a restart without having
/// stored anything; freshness of what is encrypted comes from the layer above, which derives its keys from this one.
const KEY_IDS: [[u8; 32]; 2] = [*b"MarbleRun seal key, first half\0\0", *b"MarbleRun seal key, second half\0"];

/// Intel SDK `sgx_tseal.h`: INIT and DEBUG (and reserved bits) enter the key, so that a debug enclave of the same
/// signer gets another one.
const ATTRIBUTE_MASK_FLAGS: u64 = 0xFF00_0000_0000_000B;
/// Intel SDK `sgx_tseal.h`.
const MISC_MASK: u32 = 0xF000_0000;
/// Key name of the seal key.
const KEY_NAME_SEAL: u16 = 4;

/// To what a seal key is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealPolicy {
    /// To exactly this enclave (MRENCLAVE).
    Unique,
    /// To the signer and product number, from this security version on (MRSIGNER).
    Product,
}

impl SealPolicy {
    fn bits(self) -> u16 {
        match self {
            Self::Unique => 1,
            Self::Product => 2,
        }
    }
}

/// Names one seal key: policy and the security versions under which it was derived.
///
/// Not secret. Stored beside what the key wraps, it lets a later version of the software, or the same one after a
/// microcode update, derive the same key again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealKeyId {
    policy: SealPolicy,
    isv_svn: u16,
    cpu_svn: [u8; 16],
}

impl SealKeyId {
    /// Bytes of the stored form.
    pub const LEN: usize = 20;
    const FORMAT: u8 = 1;

    pub(crate) fn simulation(policy: SealPolicy) -> Self {
        Self { policy, isv_svn: 0, cpu_svn: [0; 16] }
    }

    /// To what the key is bound.
    pub fn policy(&self) -> SealPolicy {
        self.policy
    }

    /// The stored form: format 1 (u8), policy 1 or 2 (u8), ISVSVN (u16, little endian), CPUSVN (16 bytes).
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = Self::FORMAT;
        bytes[1] = self.policy.bits() as u8;
        bytes[2..4].copy_from_slice(&self.isv_svn.to_le_bytes());
        bytes[4..].copy_from_slice(&self.cpu_svn);
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`SealError::KeyId`] for another length, format or policy.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().map_err(|_| SealError::KeyId)?;
        let policy = match bytes[..2] {
            [Self::FORMAT, 1] => SealPolicy::Unique,
            [Self::FORMAT, 2] => SealPolicy::Product,
            _ => return Err(SealError::KeyId),
        };
        let mut cpu_svn = [0; 16];
        cpu_svn.copy_from_slice(&bytes[4..]);
        Ok(Self { policy, isv_svn: u16::from_le_bytes([bytes[2], bytes[3]]), cpu_svn })
    }

    /// The SGX key request (Intel SDK `sgx_key.h`) for one half of the key.
    fn request(&self, key_id: &[u8; 32]) -> [u8; KEY_REQUEST_LEN] {
        let mut request = [0; KEY_REQUEST_LEN];
        request[0..2].copy_from_slice(&KEY_NAME_SEAL.to_le_bytes());
        request[2..4].copy_from_slice(&self.policy.bits().to_le_bytes());
        request[4..6].copy_from_slice(&self.isv_svn.to_le_bytes());
        request[8..24].copy_from_slice(&self.cpu_svn);
        request[24..32].copy_from_slice(&ATTRIBUTE_MASK_FLAGS.to_le_bytes());
        request[40..72].copy_from_slice(key_id);
        request[72..76].copy_from_slice(&MISC_MASK.to_le_bytes());
        request
    }
}

/// Why there is no seal key.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The enclave's security versions are not known.
    #[error("the security versions of this enclave are not known")]
    Identity(#[source] EvidenceError),
    /// The TEE refused to derive the key.
    #[error("GET_KEY on /dev/sgx failed for security version {requested}")]
    Key {
        /// The ISVSVN of the request.
        requested: u16,
        /// The errno.
        source: io::Error,
    },
    /// The stored name of a key is not one that this version wrote.
    #[error("expected {len} bytes that name a seal key of format 1", len = SealKeyId::LEN)]
    KeyId,
}

impl SealError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Key { .. } => Some(
                "a key of a newer version of the software or of newer microcode cannot be derived; Occlum before \
                 0.29.4 has no GET_KEY",
            ),
            Self::Identity(_) | Self::KeyId => None,
        }
    }
}

impl<D: Sgx> Occlum<D> {
    /// Which key [`Occlum::seal_key`] gives now under `policy`.
    ///
    /// # Errors
    /// [`SealError::Identity`].
    pub fn current_seal_key_id(&self, policy: SealPolicy) -> Result<SealKeyId, SealError> {
        let report = self
            .device
            .self_report(&[0; REPORT_DATA_LEN])
            .map_err(|error| SealError::Identity(EvidenceError::Report(error)))?;
        let mut cpu_svn = [0; 16];
        cpu_svn.copy_from_slice(&report[..16]);
        Ok(SealKeyId { policy, isv_svn: u16::from_le_bytes([report[258], report[259]]), cpu_svn })
    }

    /// The 32-byte seal key that `id` names.
    ///
    /// # Errors
    /// [`SealError::Key`], in particular for a security version above the enclave's own.
    pub fn seal_key(&self, id: &SealKeyId) -> Result<SecretBytes, SealError> {
        let mut key = Vec::with_capacity(KEY_LEN);
        for key_id in &KEY_IDS {
            match self.device.key(&id.request(key_id)) {
                Ok(mut half) => {
                    key.extend_from_slice(&half);
                    half.zeroize();
                }
                Err(source) => {
                    key.zeroize();
                    return Err(SealError::Key { requested: id.isv_svn, source });
                }
            }
        }
        Ok(SecretBytes::new(key))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::RetryPolicy;
    use crate::occlum::tests::FakeSgx;

    fn occlum(isv_svn: u16) -> Occlum<FakeSgx> {
        Occlum::new(FakeSgx { isv_svn, ..FakeSgx::default() }, RetryPolicy { tries: 1, pause: Duration::ZERO })
    }

    #[test]
    fn the_key_request_has_the_fields_of_the_sdk() {
        let occlum = occlum(5);
        let id = occlum.current_seal_key_id(SealPolicy::Product).unwrap();
        occlum.seal_key(&id).unwrap();
        let requests = occlum.device.requests.borrow();
        assert_eq!(requests.len(), 2);
        let request = requests[0];
        assert_eq!(request[..8], [4, 0, 2, 0, 5, 0, 0, 0]);
        assert_eq!(request[8..24], [1; 16]);
        assert_eq!(request[24..32], [0x0B, 0, 0, 0, 0, 0, 0, 0xFF]);
        assert_eq!(request[32..40], [0; 8]);
        assert_eq!(request[40..72], KEY_IDS[0]);
        assert_eq!(request[72..76], [0, 0, 0, 0xF0]);
        assert_eq!(request[76..], [0; 436]);
        assert_eq!(requests[1][40..72], KEY_IDS[1]);
    }

    #[test]
    fn the_key_is_the_same_after_a_restart_and_differs_by_policy() {
        let key = |policy| {
            let occlum = occlum(5);
            let id = occlum.current_seal_key_id(policy).unwrap();
            occlum.seal_key(&id).unwrap().expose().to_vec()
        };
        assert_eq!(key(SealPolicy::Product), key(SealPolicy::Product));
        assert_ne!(key(SealPolicy::Product), key(SealPolicy::Unique));
        assert_eq!(key(SealPolicy::Unique).len(), 32);
    }

    #[test]
    fn a_newer_version_derives_the_key_of_an_older_one_but_not_the_reverse() {
        let old_id = occlum(5).current_seal_key_id(SealPolicy::Product).unwrap();
        let new_id = occlum(6).current_seal_key_id(SealPolicy::Product).unwrap();
        let old_key = occlum(5).seal_key(&old_id).unwrap();
        assert_eq!(occlum(6).seal_key(&old_id).unwrap().expose(), old_key.expose());
        let error = occlum(5).seal_key(&new_id).unwrap_err();
        assert_eq!(error.to_string(), "GET_KEY on /dev/sgx failed for security version 6");
    }

    #[test]
    fn a_key_id_survives_storage_and_foreign_bytes_are_refused() {
        let id = occlum(0x1234).current_seal_key_id(SealPolicy::Unique).unwrap();
        let bytes = id.to_bytes();
        assert_eq!(SealKeyId::from_bytes(&bytes).unwrap(), id);
        assert_eq!(bytes[..4], [1, 1, 0x34, 0x12]);
        let mut other_format = bytes;
        other_format[0] = 2;
        let mut other_policy = bytes;
        other_policy[1] = 3;
        for wrong in [&bytes[..19], &[bytes.as_slice(), &[0]].concat(), &other_format, &other_policy, &[]] {
            assert!(matches!(SealKeyId::from_bytes(wrong), Err(SealError::KeyId)), "{wrong:?}");
        }
    }
}
