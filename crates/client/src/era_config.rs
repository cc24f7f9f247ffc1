//! The measurements that a Coordinator is expected to have.

use marblerun_attestation::Package;
use marblerun_json::{DecodeError, decode_object, decode_whole};

/// Longest file that is read, in bytes; real ones have some hundred.
pub const MAX_ERA_CONFIG_BYTES: usize = 64 * 1024;

/// Why a file does not describe a Coordinator.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EraConfigError {
    /// Not JSON, or a member of another type.
    #[error("the expected measurements are not valid JSON of the known form")]
    Json(#[source] DecodeError),
    /// A member that would switch verification off.
    #[error("InsecureSkipVerify: a file with expected measurements cannot switch verification off")]
    InsecureSkipVerify,
    /// Nothing says which Coordinator is meant.
    #[error("expected a UniqueID or a SignerID, got neither")]
    NoIdentity,
}

impl EraConfigError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Json(error) => error.hint(),
            Self::InsecureSkipVerify => Some("remove the member; --insecure on the command line says it openly"),
            Self::NoIdentity => Some("take the expected properties from the Coordinator's release"),
        }
    }
}

/// The Coordinator that a client expects, in the form of MarbleRun's `coordinator-era.json`.
///
/// Members are found without regard to case, unknown ones are skipped. A `ProductID` or `SecurityVersion` of 0 means
/// not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EraConfig {
    /// MRENCLAVE, hexadecimal.
    pub unique_id: String,
    /// MRSIGNER, hexadecimal.
    pub signer_id: String,
    /// ISVPRODID.
    pub product_id: Option<u16>,
    /// Lowest accepted ISVSVN.
    pub security_version: Option<u32>,
    /// Whether a debug enclave is accepted.
    pub debug: bool,
    /// Accepted TCB statuses; empty means `UpToDate` and `SWHardeningNeeded`. Not read from files.
    pub accepted_tcb_statuses: Vec<String>,
    /// Accepted advisories; empty means all. Not read from files.
    pub accepted_advisories: Vec<String>,
}

#[derive(Default)]
struct FileForm {
    unique_id: String,
    signer_id: String,
    product_id: Option<u16>,
    security_version: Option<u32>,
    debug: bool,
    insecure_skip_verify: bool,
}

decode_object!(FileForm {
    "UniqueID" => unique_id,
    "SignerID" => signer_id,
    "ProductID" => product_id,
    "SecurityVersion" => security_version,
    "Debug" => debug,
    "InsecureSkipVerify" => insecure_skip_verify,
});

impl EraConfig {
    /// Reads the file's content.
    ///
    /// TCB statuses, advisories and nonce are no matter of the file: whoever runs the client decides on them.
    ///
    /// # Errors
    ///
    /// See [`EraConfigError`].
    pub fn parse(text: &[u8]) -> Result<Self, EraConfigError> {
        let (file, _) = decode_whole::<FileForm>(text, MAX_ERA_CONFIG_BYTES).map_err(EraConfigError::Json)?;
        if file.insecure_skip_verify {
            return Err(EraConfigError::InsecureSkipVerify);
        }
        if file.unique_id.is_empty() && file.signer_id.is_empty() {
            return Err(EraConfigError::NoIdentity);
        }
        Ok(Self {
            unique_id: file.unique_id,
            signer_id: file.signer_id,
            product_id: file.product_id,
            security_version: file.security_version,
            debug: file.debug,
            ..Self::default()
        })
    }

    /// The same as a package for admission.
    pub(crate) fn to_package(&self) -> Package {
        let present = |text: &String| (!text.is_empty()).then(|| text.clone());
        Package {
            debug: self.debug,
            unique_id: present(&self.unique_id),
            signer_id: present(&self.signer_id),
            product_id: self.product_id.map(u64::from),
            security_version: self.security_version.map(u64::from),
            accepted_tcb_statuses: self.accepted_tcb_statuses.clone(),
            accepted_advisories: self.accepted_advisories.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_without_regard_to_case_and_unknown_ones_skipped() {
        let text =
            br#"{"securityversion": 3, "PRODUCTID": 3, "SignerID": "ab", "UniqueID": "cd", "Debug": true, "X": {}}"#;
        let expected = EraConfig {
            unique_id: "cd".into(),
            signer_id: "ab".into(),
            product_id: Some(3),
            security_version: Some(3),
            debug: true,
            ..EraConfig::default()
        };
        assert_eq!(EraConfig::parse(text).unwrap(), expected);
    }

    #[test]
    fn statuses_and_advisories_of_the_file_do_not_count() {
        let text =
            br#"{"UniqueID": "cd", "AcceptedTCBStatuses": ["Revoked"], "AcceptedAdvisories": ["A"], "Nonce": "x"}"#;
        let config = EraConfig::parse(text).unwrap();
        assert!(config.accepted_tcb_statuses.is_empty() && config.accepted_advisories.is_empty());
    }

    // rules: ATT-9
    #[test]
    fn a_file_cannot_switch_verification_off() {
        let error = EraConfig::parse(br#"{"UniqueID": "cd", "insecureSkipVerify": true}"#).unwrap_err();
        assert_eq!(error, EraConfigError::InsecureSkipVerify);
    }

    // rules: ATT-4
    #[test]
    fn a_file_without_any_identity_is_refused() {
        for text in [&b"{}"[..], br#"{"ProductID": 3, "SecurityVersion": 3, "SignerID": ""}"#] {
            assert_eq!(EraConfig::parse(text).unwrap_err(), EraConfigError::NoIdentity);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [&b""[..], b"[]", br#"{"ProductID": 70000}"#, br#"{"UniqueID": 1}"#, br#"{"Debug": "true"}"#] {
            assert!(matches!(EraConfig::parse(text), Err(EraConfigError::Json(_))));
        }
        assert!(EraConfig::parse(&vec![b' '; MAX_ERA_CONFIG_BYTES + 1]).is_err());
    }
}
