//! Stable classes of failure, for logs, metrics and status codes.

use std::fmt;

/// What kind of failure an error of this crate is.
///
/// The [`code`](Self::code) is stable: it appears in logs, metrics and answers. Every error enum of this crate has
/// `class()` and `code()`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The bytes do not have the form they claim.
    Malformed,
    /// A version, TEE, key type or certification data type that is not supported.
    Unsupported,
    /// A chain does not end at a trusted root.
    UntrustedRoot,
    /// A signature or hash does not fit.
    Signature,
    /// A certificate is revoked, or its revocation status is unknown.
    Revoked,
    /// Collateral is outside its validity period.
    ExpiredCollateral,
    /// A certificate of the evidence is outside its validity period.
    ExpiredCertificate,
    /// There is no collateral for the platform.
    NoCollateral,
    /// Collateral and evidence belong to different platforms or TEEs.
    CollateralMismatch,
    /// Collateral is older than collateral that was accepted before.
    CollateralRollback,
    /// The quoting enclave is not the one that the vendor describes.
    QuotingEnclave,
    /// The platform meets none of the TCB levels.
    TcbUnsupported,
    /// The TCB status is not accepted.
    TcbStatus,
    /// An advisory of the platform is not accepted.
    Advisories,
    /// The debug property is not the expected one.
    Debug,
    /// The report data do not bind what they must.
    ReportData,
    /// The claims do not fit the package.
    Package,
    /// Evidence of a software TEE reached a verifier for hardware.
    SoftwareRoot,
    /// Evidence of hardware reached a verifier for software TEEs.
    HardwareRoot,
}

impl ErrorClass {
    /// The stable code: lower case, words joined by hyphens.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::UntrustedRoot => "untrusted-root",
            Self::Signature => "signature",
            Self::Revoked => "revoked",
            Self::ExpiredCollateral => "expired-collateral",
            Self::ExpiredCertificate => "expired-certificate",
            Self::NoCollateral => "no-collateral",
            Self::CollateralMismatch => "collateral-mismatch",
            Self::CollateralRollback => "collateral-rollback",
            Self::QuotingEnclave => "quoting-enclave",
            Self::TcbUnsupported => "tcb-unsupported",
            Self::TcbStatus => "tcb-status",
            Self::Advisories => "advisories",
            Self::Debug => "debug",
            Self::ReportData => "report-data",
            Self::Package => "package",
            Self::SoftwareRoot => "software-root",
            Self::HardwareRoot => "hardware-root",
        }
    }

    /// True where the evidence was not judged because current collateral is missing.
    ///
    /// Such a failure can go away without any change of the evidence, so a caller answers `UNAVAILABLE` and the
    /// client may retry. Everything else is a refusal, `PERMISSION_DENIED`.
    pub fn is_collateral_unavailable(self) -> bool {
        matches!(self, Self::NoCollateral | Self::ExpiredCollateral)
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
