//! Local attestation: `EREPORT` and its check (Intel SDM volume 3D).

use aws_lc_rs::cmac;

use crate::enclave::{CPU_SVN, EnclaveIdentity, REPORT_BODY_LEN};
use crate::error::IssueError;
use crate::root::DevelopmentRoot;

/// Length of a report in bytes: body, key id, MAC.
pub const REPORT_LEN: usize = 432;

/// Length of target info in bytes.
pub const TARGET_INFO_LEN: usize = 512;

const KEY_ID_END: usize = REPORT_BODY_LEN + 32;

/// A local report could not be made or is not for the enclave that checks it.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Target info has a non-zero reserved byte; the processor raises a general-protection fault then.
    #[error("target info is malformed: expected reserved bytes to be zero, got {got:#04x} at offset {offset}")]
    ReservedTargetInfo {
        /// Offset of the byte.
        offset: usize,
        /// The byte.
        got: u8,
    },
    /// The report was made for another enclave, under another root, or was changed.
    #[error("the report's MAC does not verify: it was made for another enclave or under another root, or was changed")]
    Mac,
    /// The key could not be derived.
    #[error("the report key cannot be derived")]
    Key(#[source] IssueError),
}

/// The part of an enclave's identity that selects its report key.
struct ReportTarget {
    mr_enclave: [u8; 32],
    attributes: [u8; 16],
    config_svn: [u8; 2],
    misc_select: [u8; 4],
    config_id: [u8; 64],
}

impl ReportTarget {
    /// `identity` as a target: it has no configuration id and no extended features.
    fn of(identity: &EnclaveIdentity) -> Self {
        Self {
            mr_enclave: identity.mr_enclave,
            attributes: identity.attributes(),
            config_svn: [0; 2],
            misc_select: [0; 4],
            config_id: [0; 64],
        }
    }

    fn parse(bytes: &[u8; TARGET_INFO_LEN]) -> Result<Self, ReportError> {
        for range in [48..50, 56..64, 128..TARGET_INFO_LEN] {
            for offset in range {
                if bytes[offset] != 0 {
                    return Err(ReportError::ReservedTargetInfo { offset, got: bytes[offset] });
                }
            }
        }
        Ok(Self {
            mr_enclave: array(&bytes[..32]),
            attributes: array(&bytes[32..48]),
            config_svn: array(&bytes[50..52]),
            misc_select: array(&bytes[52..56]),
            config_id: array(&bytes[64..128]),
        })
    }

    fn to_bytes(&self) -> [u8; TARGET_INFO_LEN] {
        let mut bytes = [0; TARGET_INFO_LEN];
        bytes[..32].copy_from_slice(&self.mr_enclave);
        bytes[32..48].copy_from_slice(&self.attributes);
        bytes[50..52].copy_from_slice(&self.config_svn);
        bytes[52..56].copy_from_slice(&self.misc_select);
        bytes[64..128].copy_from_slice(&self.config_id);
        bytes
    }
}

impl DevelopmentRoot {
    /// Target info of `identity`: hand it to another enclave and it can make reports that only `identity` can check.
    pub fn target_info(&self, identity: &EnclaveIdentity) -> [u8; TARGET_INFO_LEN] {
        ReportTarget::of(identity).to_bytes()
    }

    /// A report of `identity` over `report_data` that the enclave described by `target_info` can check.
    ///
    /// # Errors
    /// If `target_info` has a non-zero reserved byte.
    pub fn create_report(
        &self,
        identity: &EnclaveIdentity,
        target_info: &[u8; TARGET_INFO_LEN],
        report_data: &[u8; 64],
    ) -> Result<[u8; REPORT_LEN], ReportError> {
        let target = ReportTarget::parse(target_info)?;
        // The processor draws this at power-on; one platform uses one value.
        let key_id = self.seed().derive("report key id", &[], 32).map_err(ReportError::Key)?;
        let mut report = [0; REPORT_LEN];
        report[..REPORT_BODY_LEN].copy_from_slice(&identity.report_body(report_data));
        report[REPORT_BODY_LEN..KEY_ID_END].copy_from_slice(key_id.expose());
        let key = self.report_mac_key(&target, key_id.expose()).map_err(ReportError::Key)?;
        let mac = cmac::sign(&key, &report[..REPORT_BODY_LEN])
            .map_err(|_| ReportError::Key(IssueError::Crypto { doing: "computing a report's MAC" }))?;
        report[KEY_ID_END..].copy_from_slice(mac.as_ref());
        Ok(report)
    }

    /// Checks that `report` was made on this platform for the enclave `identity`.
    ///
    /// # Errors
    /// [`ReportError::Mac`] if it was not.
    pub fn verify_report(&self, identity: &EnclaveIdentity, report: &[u8; REPORT_LEN]) -> Result<(), ReportError> {
        let key = self
            .report_mac_key(&ReportTarget::of(identity), &report[REPORT_BODY_LEN..KEY_ID_END])
            .map_err(ReportError::Key)?;
        cmac::verify(&key, &report[..REPORT_BODY_LEN], &report[KEY_ID_END..]).map_err(|_| ReportError::Mac)
    }

    /// The report key of `identity` for `key_id`, which `EGETKEY` gives only to that enclave.
    pub(crate) fn report_key(
        &self,
        identity: &EnclaveIdentity,
        key_id: &[u8],
    ) -> Result<marblerun_secret::SecretBytes, IssueError> {
        self.derive_report_key(&ReportTarget::of(identity), key_id)
    }

    fn report_mac_key(&self, target: &ReportTarget, key_id: &[u8]) -> Result<cmac::Key, IssueError> {
        let key = self.derive_report_key(target, key_id)?;
        cmac::Key::new(cmac::AES_128, key.expose()).map_err(IssueError::crypto("importing a report key"))
    }

    fn derive_report_key(
        &self,
        target: &ReportTarget,
        key_id: &[u8],
    ) -> Result<marblerun_secret::SecretBytes, IssueError> {
        // All fields have fixed lengths, so the concatenation has one reading only.
        let dependencies = [
            target.mr_enclave.as_slice(),
            &target.attributes,
            &target.config_svn,
            &target.misc_select,
            &target.config_id,
            &CPU_SVN,
            key_id,
        ]
        .concat();
        self.seed().derive("report key", &dependencies, 16)
    }
}

/// `bytes` as an array; every caller passes a range of exactly that length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
