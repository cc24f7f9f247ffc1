//! Admission of a Coordinator by its clients, whose rule differs from the Coordinator's own.

use crate::admission::{
    Admission, AdmitError, Package, check_advisories, check_product_id, check_report_data, check_security_version,
    check_tcb_status, given, signer_id_error, unique_id_error,
};
use crate::error::ErrorClass;
use crate::report_data::ReportDigest;
use crate::verify::{Claims, VerifiedReport};

/// Accepted by a client that lists no status (MarbleRun v1.9.1).
const DEFAULT_STATUSES: [&str; 2] = ["UpToDate", "SWHardeningNeeded"];

/// The proof that a Coordinator was admitted, with what its operator should know.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAdmission {
    /// What was admitted.
    pub admission: Admission,
    /// What weakens the check.
    pub warnings: Vec<ClientWarning>,
}

/// Something that weakens a client's check.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientWarning {
    /// Nothing says who made the Coordinator.
    #[error("neither UniqueID nor SignerID is given: a Coordinator of any origin is accepted")]
    NoIdentity,
    /// The host can read the Coordinator's memory.
    #[error("Coordinator runs in debug mode: its host can read its memory")]
    Debug,
}

/// Why a client did not admit a Coordinator.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientAdmitError {
    /// The Coordinator is not the expected one.
    #[error(transparent)]
    Refused(#[from] AdmitError),
    /// An expected id cannot be read.
    #[error("expected {field} in hex, got {value:?}")]
    NotHex {
        /// The member's name.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// The expectation is too weak.
    #[error("{field} must be given and not 0 where no UniqueID is given")]
    Incomplete {
        /// The missing member.
        field: &'static str,
    },
}

impl ClientAdmitError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Refused(error) => error.class(),
            Self::NotHex { .. } | Self::Incomplete { .. } => ErrorClass::Package,
        }
    }

    /// The stable code of [`Self::class`].
    pub fn code(&self) -> &'static str {
        self.class().code()
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused(AdmitError::Debug { .. }) => {
                Some("set Debug in the expected properties for a Coordinator under development")
            }
            Self::Refused(
                AdmitError::UniqueId { .. }
                | AdmitError::SignerId { .. }
                | AdmitError::ProductId { .. }
                | AdmitError::SecurityVersion { .. },
            ) => Some(
                "another program answers; where the Coordinator was updated, take the expected properties from its new release",
            ),
            Self::Refused(AdmitError::TcbStatus { .. }) => {
                Some("update the platform's firmware, or accept the status after reading why (--accepted-tcb-statuses)")
            }
            Self::Refused(AdmitError::Advisories { .. }) => {
                Some("read the advisories and accept those that do not concern you (--accepted-advisories)")
            }
            Self::Refused(AdmitError::Revoked) => Some("do not rely on this platform: its keys may be known to others"),
            Self::Refused(error) => error.hint(),
            Self::NotHex { .. } | Self::Incomplete { .. } => {
                Some("take the expected properties from the Coordinator's release")
            }
        }
    }
}

/// Admits a Coordinator: the rule of CLI and client library.
///
/// In this order, so that a wrong identity is reported before a bad status: report data, properties, TCB status,
/// advisories. `Debug` is a permission: a production Coordinator is always fine. A product id or version of 0 means
/// not given.
///
/// # Errors
///
/// The first difference, with what was expected and what came.
pub fn admit_coordinator(
    report: &VerifiedReport,
    binding: ReportDigest,
    expected: &Package,
) -> Result<ClientAdmission, ClientAdmitError> {
    let unique_id = decode("UniqueID", &expected.unique_id)?;
    let signer_id = decode("SignerID", &expected.signer_id)?;
    let product_id = expected.product_id.filter(|&id| id != 0);
    let security_version = expected.security_version.filter(|&version| version != 0);
    if unique_id.is_none() {
        if security_version.is_none() {
            return Err(ClientAdmitError::Incomplete { field: "SecurityVersion" });
        }
        if product_id.is_none() {
            return Err(ClientAdmitError::Incomplete { field: "ProductID" });
        }
    }

    check_report_data(report, binding)?;
    let Claims::Sgx(sgx) = report.claims();
    if let Some((text, bytes)) = &unique_id
        && *bytes != sgx.mr_enclave
    {
        return Err(unique_id_error(text, sgx).into());
    }
    if let Some((text, bytes)) = &signer_id
        && *bytes != sgx.mr_signer
    {
        return Err(signer_id_error(text, sgx).into());
    }
    check_product_id(product_id, sgx)?;
    check_security_version(security_version, sgx)?;
    if report.is_debug() && !expected.debug {
        return Err(AdmitError::Debug { expected: false, got: true }.into());
    }
    check_tcb_status(report, expected, &DEFAULT_STATUSES)?;
    check_advisories(report, expected)?;

    let mut warnings = Vec::new();
    if unique_id.is_none() && signer_id.is_none() {
        warnings.push(ClientWarning::NoIdentity);
    }
    if report.is_debug() {
        warnings.push(ClientWarning::Debug);
    }
    Ok(ClientAdmission { admission: Admission::of(report), warnings })
}

/// An id as text and as bytes, if it is given.
fn decode<'a>(field: &'static str, text: &'a Option<String>) -> Result<Option<(&'a str, Vec<u8>)>, ClientAdmitError> {
    let Some(text) = given(text) else { return Ok(None) };
    let bytes = hex::decode(text).map_err(|_| ClientAdmitError::NotHex { field, value: text.to_owned() })?;
    Ok(Some((text, bytes)))
}
