//! `EGETKEY`: keys that an enclave derives from the platform and from who it is (Intel SDM volume 3D, "EGETKEY").

use marblerun_secret::SecretBytes;

use crate::enclave::{CPU_SVN, EnclaveIdentity};
use crate::error::IssueError;
use crate::root::DevelopmentRoot;

/// Length of a key request in bytes.
pub const KEY_REQUEST_LEN: usize = 512;

/// KEYREQUEST.KEYNAME: which key is asked for.
pub mod key_name {
    /// The key that checks reports made for this enclave.
    pub const REPORT: u16 = 3;
    /// A sealing key.
    pub const SEAL: u16 = 4;
}

/// KEYREQUEST.KEYPOLICY: what a sealing key depends on.
pub mod key_policy {
    /// Only this very enclave gets the key.
    pub const MR_ENCLAVE: u16 = 1;
    /// All enclaves of this signer with the same product get the key.
    pub const MR_SIGNER: u16 = 1 << 1;
    /// The key does not depend on ISVPRODID.
    pub const NO_ISV_PROD_ID: u16 = 1 << 2;
    /// The key depends on CONFIGID and CONFIGSVN.
    pub const CONFIG_ID: u16 = 1 << 3;
    /// The key depends on ISVFAMILYID.
    pub const ISV_FAMILY_ID: u16 = 1 << 4;
    /// The key depends on ISVEXTPRODID.
    pub const ISV_EXT_PROD_ID: u16 = 1 << 5;

    /// Bits that need the KSS attribute, which simulated enclaves do not have.
    pub(crate) const NEEDS_KSS: u16 = NO_ISV_PROD_ID | CONFIG_ID | ISV_FAMILY_ID | ISV_EXT_PROD_ID;
    pub(crate) const KNOWN: u16 = MR_ENCLAVE | MR_SIGNER | NEEDS_KSS;
}

/// ATTRIBUTES.FLAGS that always go into a sealing key: INIT and DEBUG. Without it, a debug enclave could ask for the key
/// of its production twin.
const REQUIRED_SEALING_MASK: u8 = 0b11;

/// Why a key request is refused. Hardware answers with a code or a fault, Occlum with `EINVAL`.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum KeyRequestError {
    /// A reserved byte is not zero.
    #[error("key request is malformed: expected reserved bytes to be zero, got {got:#04x} at offset {offset}")]
    Reserved {
        /// Offset of the byte.
        offset: usize,
        /// The byte.
        got: u8,
    },
    /// The key does not exist or needs an attribute that simulated enclaves do not have (launch, provisioning).
    #[error("key name {got} is not available: expected 3 (report) or 4 (seal)")]
    KeyName {
        /// The key name asked for.
        got: u16,
    },
    /// The policy has a bit that is not defined.
    #[error("key policy {got:#06x} has an unknown bit")]
    PolicyUnknown {
        /// The policy asked for.
        got: u16,
    },
    /// The policy has a bit that only an enclave with key separation and sharing (KSS) may set.
    #[error("key policy {got:#06x} needs the KSS attribute, which this enclave does not have")]
    PolicyNeedsKss {
        /// The policy asked for.
        got: u16,
    },
    /// The request names a newer security version of the enclave than runs.
    #[error("ISVSVN too high: expected at most {actual}, got {got}")]
    IsvSvn {
        /// The enclave's.
        actual: u16,
        /// The one asked for.
        got: u16,
    },
    /// The request names a newer security version of the processor than there is.
    #[error("CPUSVN too high: expected no byte above {}, got {}", hex::encode(CPU_SVN), hex::encode(got))]
    CpuSvn {
        /// The one asked for.
        got: [u8; 16],
    },
    /// The request names a newer configuration version than the enclave was started with, which is 0.
    #[error("CONFIGSVN too high: expected 0, got {got}")]
    ConfigSvn {
        /// The one asked for.
        got: u16,
    },
    /// The key could not be derived.
    #[error("the key cannot be derived")]
    Derivation(#[source] IssueError),
}

/// KEYREQUEST: which key, and what it shall depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// One of [`key_name`].
    pub name: u16,
    /// Bits of [`key_policy`].
    pub policy: u16,
    /// Security version of the enclave that the key belongs to, at most its own.
    pub isv_svn: u16,
    /// Security version of the processor that the key belongs to, byte by byte at most the platform's.
    pub cpu_svn: [u8; 16],
    /// Bits of ATTRIBUTES that the key depends on; INIT and DEBUG are always added.
    pub attribute_mask: [u8; 16],
    /// Tells keys apart; chosen by the enclave, usually random and stored beside what was sealed.
    pub key_id: [u8; 32],
    /// Bits of MISCSELECT that the key depends on.
    pub misc_mask: u32,
    /// Configuration version, at most the enclave's, which is 0.
    pub config_svn: u16,
}

impl KeyRequest {
    /// Reads a key request as the processor lays it out, little-endian.
    ///
    /// # Errors
    /// [`KeyRequestError::Reserved`] if a reserved byte is not zero.
    pub fn parse(bytes: &[u8; KEY_REQUEST_LEN]) -> Result<Self, KeyRequestError> {
        for offset in [6, 7].into_iter().chain(78..KEY_REQUEST_LEN) {
            if bytes[offset] != 0 {
                return Err(KeyRequestError::Reserved { offset, got: bytes[offset] });
            }
        }
        let u16_at = |offset: usize| u16::from_le_bytes([bytes[offset], bytes[offset + 1]]);
        let mut request = Self {
            name: u16_at(0),
            policy: u16_at(2),
            isv_svn: u16_at(4),
            cpu_svn: [0; 16],
            attribute_mask: [0; 16],
            key_id: [0; 32],
            misc_mask: u32::from_le_bytes([bytes[72], bytes[73], bytes[74], bytes[75]]),
            config_svn: u16_at(76),
        };
        request.cpu_svn.copy_from_slice(&bytes[8..24]);
        request.attribute_mask.copy_from_slice(&bytes[24..40]);
        request.key_id.copy_from_slice(&bytes[40..72]);
        Ok(request)
    }
}

impl DevelopmentRoot {
    /// The 16-byte key that the enclave `identity` gets for `request`, as `EGETKEY` would give it.
    ///
    /// # Errors
    /// [`KeyRequestError`] where the processor refuses: unknown key or policy, or a version above the enclave's own.
    pub fn sgx_key(&self, request: &KeyRequest, identity: &EnclaveIdentity) -> Result<SecretBytes, KeyRequestError> {
        match request.name {
            key_name::REPORT => self.report_key(identity, &request.key_id).map_err(KeyRequestError::Derivation),
            key_name::SEAL => self.seal_key(request, identity),
            got => Err(KeyRequestError::KeyName { got }),
        }
    }

    fn seal_key(&self, request: &KeyRequest, identity: &EnclaveIdentity) -> Result<SecretBytes, KeyRequestError> {
        let policy = request.policy;
        if policy & !key_policy::KNOWN != 0 {
            return Err(KeyRequestError::PolicyUnknown { got: policy });
        }
        if policy & key_policy::NEEDS_KSS != 0 {
            return Err(KeyRequestError::PolicyNeedsKss { got: policy });
        }
        if request.isv_svn > identity.isv_svn {
            return Err(KeyRequestError::IsvSvn { actual: identity.isv_svn, got: request.isv_svn });
        }
        if request.cpu_svn.iter().zip(CPU_SVN).any(|(asked, actual)| *asked > actual) {
            return Err(KeyRequestError::CpuSvn { got: request.cpu_svn });
        }
        if request.config_svn != 0 {
            return Err(KeyRequestError::ConfigSvn { got: request.config_svn });
        }

        let selected = |bit, measurement: [u8; 32]| if policy & bit != 0 { measurement } else { [0; 32] };
        let mut attributes = identity.attributes();
        for (index, (attribute, asked)) in attributes.iter_mut().zip(request.attribute_mask).enumerate() {
            *attribute &= if index == 0 { asked | REQUIRED_SEALING_MASK } else { asked };
        }
        // MISCSELECT, CONFIGID, ISVFAMILYID and ISVEXTPRODID of simulated enclaves are zero. All fields have fixed
        // lengths, so the concatenation has one reading only.
        let dependencies = [
            policy.to_le_bytes().as_slice(),
            &selected(key_policy::MR_ENCLAVE, identity.mr_enclave),
            &selected(key_policy::MR_SIGNER, identity.mr_signer),
            &identity.isv_prod_id.to_le_bytes(),
            &request.isv_svn.to_le_bytes(),
            &request.cpu_svn,
            &attributes,
            &request.attribute_mask,
            &request.misc_mask.to_le_bytes(),
            &request.key_id,
        ]
        .concat();
        self.seed().derive("seal key", &dependencies, 16).map_err(KeyRequestError::Derivation)
    }
}
