//! Admission of a Marble: are the claims what the manifest asks for?

use rustls_pki_types::UnixTime;

use crate::error::ErrorClass;
use crate::quote::SgxReport;
use crate::report_data::ReportDigest;
use crate::roots::TrustClass;
use crate::tcb::TcbStatus;
use crate::verify::{Claims, VerifiedReport};

/// The enclave properties that a manifest's package expects, in the manifest's own forms.
///
/// An empty text and an absent one are the same: not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Whether the enclave may be debugged.
    pub debug: bool,
    /// MRENCLAVE in hex, either case.
    pub unique_id: Option<String>,
    /// MRSIGNER in hex, either case.
    pub signer_id: Option<String>,
    /// ISVPRODID.
    pub product_id: Option<u64>,
    /// The lowest accepted ISVSVN.
    pub security_version: Option<u64>,
    /// Accepted statuses beside `UpToDate`, spelled like the vendor; empty means the default of the rule in use.
    pub accepted_tcb_statuses: Vec<String>,
    /// Accepted advisories, either case; empty means all.
    pub accepted_advisories: Vec<String>,
}

/// The proof that claims were admitted; only admission makes it. For logs and events.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The accepted status. Anything but `UpToDate` is worth a line in the log.
    pub tcb_status: TcbStatus,
    /// Every advisory of the platform, also where none had to be accepted.
    pub advisories: Vec<String>,
    /// True if the host can read the workload's memory.
    pub debug: bool,
    /// What stands behind the evidence.
    pub trust_class: TrustClass,
    /// True if the verdict rests on collateral whose next update was due before. Worth a line in the log.
    pub stale_collateral: bool,
    /// The last second in which collateral and PCK chain may be used.
    pub expires: UnixTime,
}

/// Why claims were not admitted.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The vendor does not trust the platform's keys any more.
    #[error("invalid TCB status: Revoked, which is never accepted")]
    Revoked,
    /// The status is not in the list.
    #[error("invalid TCB status: {got}, expected {}", expected.join(" or "))]
    TcbStatus {
        /// The accepted statuses.
        expected: Vec<String>,
        /// The platform's.
        got: TcbStatus,
    },
    /// Advisories are not in the list.
    #[error("platform has advisories that are not accepted: {}, expected only {}", got.join(", "), expected.join(", "))]
    Advisories {
        /// The accepted advisories.
        expected: Vec<String>,
        /// Those that are missing in the list.
        got: Vec<String>,
    },
    /// The evidence is bound to something else.
    #[error("expected report data {expected}, got {got}")]
    ReportData {
        /// What it must be bound to.
        expected: ReportDigest,
        /// What it is bound to.
        got: ReportDigest,
    },
    /// The debug property differs.
    #[error("expected Debug {expected}, got {got}")]
    Debug {
        /// The package's.
        expected: bool,
        /// The enclave's.
        got: bool,
    },
    /// The measurement differs.
    #[error("expected UniqueID {expected}, got {got}")]
    UniqueId {
        /// The package's.
        expected: String,
        /// The enclave's.
        got: String,
    },
    /// The signer differs.
    #[error("expected SignerID {expected}, got {got}")]
    SignerId {
        /// The package's.
        expected: String,
        /// The enclave's.
        got: String,
    },
    /// The signing key is published.
    #[error("SignerID {got} is that of the signing key that is published with Occlum, expected a key of your own")]
    PublishedSigner {
        /// The enclave's.
        got: String,
    },
    /// The product differs.
    #[error("expected ProductID {expected}, got {got}")]
    ProductId {
        /// The package's.
        expected: u64,
        /// The enclave's.
        got: u64,
    },
    /// The version is too low.
    #[error("expected SecurityVersion of at least {expected}, got {got}")]
    SecurityVersion {
        /// The package's.
        expected: u64,
        /// The enclave's.
        got: u64,
    },
}

impl AdmitError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Revoked | Self::TcbStatus { .. } => ErrorClass::TcbStatus,
            Self::Advisories { .. } => ErrorClass::Advisories,
            Self::ReportData { .. } => ErrorClass::ReportData,
            Self::Debug { .. } => ErrorClass::Debug,
            Self::UniqueId { .. }
            | Self::SignerId { .. }
            | Self::PublishedSigner { .. }
            | Self::ProductId { .. }
            | Self::SecurityVersion { .. } => ErrorClass::Package,
        }
    }

    /// The stable code of [`Self::class`].
    pub fn code(&self) -> &'static str {
        self.class().code()
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Revoked => Some("take this platform out of service; no manifest can accept it"),
            Self::TcbStatus { .. } => {
                Some("update the platform's firmware, or list the status in AcceptedTCBStatuses after reading why")
            }
            Self::Advisories { .. } => Some("read the advisories and list those that do not concern the workload"),
            Self::ReportData { .. } => Some("the quote was made for another certificate; it cannot be reused"),
            Self::Debug { expected: false, .. } => {
                Some("build the enclave for production, or set Debug in the package for development")
            }
            Self::Debug { expected: true, .. } => {
                Some("a package with Debug true accepts debug enclaves only; remove Debug for production enclaves")
            }
            Self::UniqueId { .. } => {
                Some("the image is not the one in the manifest: rebuild it, or update the manifest's UniqueID")
            }
            Self::PublishedSigner { .. } => Some(
                "everybody can sign an enclave that opens this one's sealed files: build it with `occlum build --sign-key`, or \
                 debuggable, with Debug in the package, for development",
            ),
            _ => None,
        }
    }
}

/// Accepted by a package that lists no status (MarbleRun v1.9.1).
const DEFAULT_STATUSES: [&str; 1] = ["SWHardeningNeeded"];

/// MRSIGNER of the key that ships with Occlum (`etc/template/Enclave.pem`) and signs where `occlum build` gets no key.
///
/// Whoever has it, which is everybody, signs enclaves that share the sealed files of every other enclave of this signer; in
/// Occlum they lie above the measured image, so that not even a UniqueID says what runs.
pub const OCCLUM_TEMPLATE_SIGNER: [u8; 32] = [
    0x83, 0xd7, 0x19, 0xe7, 0x7d, 0xea, 0xca, 0x14, 0x70, 0xf6, 0xba, 0xf6, 0x2a, 0x4d, 0x77, 0x43, 0x03, 0xc8, 0x99,
    0xdb, 0x69, 0x02, 0x0f, 0x9c, 0x70, 0xee, 0x1d, 0xfc, 0x08, 0xc7, 0xce, 0x9e,
];

/// Admits a Marble: the Coordinator's rule.
///
/// In this order, so that equal evidence gives equal answers: TCB status, advisories, report data, properties. `Debug`
/// must be equal, so a package for debugging refuses production enclaves. [`OCCLUM_TEMPLATE_SIGNER`] is refused outside of
/// debugging, whatever the package says; MarbleRun v1.9.1 accepts it. Bytes 32 to 63 of the report data are not
/// looked at. `binding` is the SHA-256 of the certificate on the Marble's connection.
///
/// # Errors
///
/// The first difference, with what was expected and what came.
pub fn admit(report: &VerifiedReport, binding: ReportDigest, package: &Package) -> Result<Admission, AdmitError> {
    check_tcb_status(report, package, &DEFAULT_STATUSES)?;
    check_advisories(report, package)?;
    check_report_data(report, binding)?;
    if package.debug != report.is_debug() {
        return Err(AdmitError::Debug { expected: package.debug, got: report.is_debug() });
    }
    let Claims::Sgx(sgx) = report.claims();
    if !package.debug && sgx.mr_signer == OCCLUM_TEMPLATE_SIGNER {
        return Err(AdmitError::PublishedSigner { got: hex::encode(sgx.mr_signer) });
    }
    if let Some(expected) = given(&package.unique_id)
        && !expected.eq_ignore_ascii_case(&hex::encode(sgx.mr_enclave))
    {
        return Err(unique_id_error(expected, sgx));
    }
    if let Some(expected) = given(&package.signer_id)
        && !expected.eq_ignore_ascii_case(&hex::encode(sgx.mr_signer))
    {
        return Err(signer_id_error(expected, sgx));
    }
    check_product_id(package.product_id, sgx)?;
    check_security_version(package.security_version, sgx)?;
    Ok(Admission::of(report))
}

impl Admission {
    pub(crate) fn of(report: &VerifiedReport) -> Self {
        Self {
            tcb_status: report.tcb_status(),
            advisories: report.advisories().to_vec(),
            debug: report.is_debug(),
            trust_class: report.trust_class(),
            stale_collateral: report.has_stale_collateral(),
            expires: report.expires(),
        }
    }
}

/// A text that is there and not empty.
pub(crate) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

pub(crate) fn check_tcb_status(report: &VerifiedReport, package: &Package, default: &[&str]) -> Result<(), AdmitError> {
    let got = report.tcb_status();
    // Listing it would be a mistake: anybody may hold the keys of such a platform.
    if got == TcbStatus::Revoked {
        return Err(AdmitError::Revoked);
    }
    if got == TcbStatus::UpToDate {
        return Ok(());
    }
    let listed = package.accepted_tcb_statuses.iter().map(String::as_str);
    let accepted: Vec<&str> = if listed.len() == 0 { default.to_vec() } else { listed.collect() };
    if accepted.contains(&got.as_str()) {
        return Ok(());
    }
    let up_to_date = TcbStatus::UpToDate.as_str();
    let others = accepted.into_iter().filter(|&status| status != up_to_date);
    let expected = std::iter::once(up_to_date).chain(others).map(str::to_owned).collect();
    Err(AdmitError::TcbStatus { expected, got })
}

/// The list has a meaning only for `SWHardeningNeeded`: the vendor lists advisories for up-to-date platforms, too.
pub(crate) fn check_advisories(report: &VerifiedReport, package: &Package) -> Result<(), AdmitError> {
    let accepted = &package.accepted_advisories;
    if report.tcb_status() != TcbStatus::SWHardeningNeeded || accepted.is_empty() {
        return Ok(());
    }
    let is_missing = |advisory: &&String| !accepted.iter().any(|known| known.eq_ignore_ascii_case(advisory));
    let missing: Vec<String> = report.advisories().iter().filter(is_missing).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(AdmitError::Advisories { expected: accepted.clone(), got: missing }) }
}

pub(crate) fn check_report_data(report: &VerifiedReport, expected: ReportDigest) -> Result<(), AdmitError> {
    let got = report.report_data().digest();
    if got == expected { Ok(()) } else { Err(AdmitError::ReportData { expected, got }) }
}

pub(crate) fn check_product_id(expected: Option<u64>, sgx: &SgxReport) -> Result<(), AdmitError> {
    let got = u64::from(sgx.isv_prod_id);
    match expected {
        Some(expected) if expected != got => Err(AdmitError::ProductId { expected, got }),
        _ => Ok(()),
    }
}

pub(crate) fn check_security_version(expected: Option<u64>, sgx: &SgxReport) -> Result<(), AdmitError> {
    let got = u64::from(sgx.isv_svn);
    match expected {
        Some(expected) if expected > got => Err(AdmitError::SecurityVersion { expected, got }),
        _ => Ok(()),
    }
}

pub(crate) fn unique_id_error(expected: &str, sgx: &SgxReport) -> AdmitError {
    AdmitError::UniqueId { expected: expected.to_owned(), got: hex::encode(sgx.mr_enclave) }
}

pub(crate) fn signer_id_error(expected: &str, sgx: &SgxReport) -> AdmitError {
    AdmitError::SignerId { expected: expected.to_owned(), got: hex::encode(sgx.mr_signer) }
}
