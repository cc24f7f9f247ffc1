//! Verification of a quote to claims.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rustls_pki_types::UnixTime;

use crate::collateral::{QeMismatch, TcbLevel, TrustedCollateral, ValidityError};
use crate::error::ErrorClass;
use crate::pck::{Fmspc, PckError, PlatformProperties, VerifiedPck, chain_for, sha256, verify_pck};
use crate::quote::{Quote, SgxReport};
use crate::report_data::ReportData;
use crate::roots::TrustClass;
use crate::tcb::{TcbStatus, Tee};

/// Why a quote was refused.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The collateral is outside its validity period.
    #[error(transparent)]
    Validity(#[from] ValidityError),
    /// The PCK chain cannot be trusted.
    #[error(transparent)]
    Pck(#[from] PckError),
    /// The kept PCK belongs to another chain or was checked against other collateral.
    #[error("kept PCK belongs to another {what}")]
    KeptPck {
        /// What differs.
        what: &'static str,
    },
    /// The collateral is for another kind of platform.
    #[error("expected collateral for FMSPC {expected}, got {got}")]
    Fmspc {
        /// The platform's.
        expected: Fmspc,
        /// The collateral's.
        got: Fmspc,
    },
    /// The collateral is for another provisioning enclave.
    #[error("expected collateral for PCE-ID {}, got {}", hex::encode(expected), hex::encode(got))]
    PceId {
        /// The platform's.
        expected: [u8; 2],
        /// The collateral's.
        got: [u8; 2],
    },
    /// The PCK did not sign the report of the quoting enclave.
    #[error("signature of the PCK over the QE report is wrong")]
    QeReportSignature,
    /// The quoting enclave did not vouch for the attestation key.
    #[error("QE report does not bind the attestation key")]
    AttestationKeyBinding,
    /// The quoting enclave is not the vendor's.
    #[error("expected quoting enclave with {field} {expected}, got {got}")]
    QuotingEnclave {
        /// The differing property.
        field: &'static str,
        /// The vendor's value.
        expected: String,
        /// What came.
        got: String,
    },
    /// The quoting enclave can be debugged, so its key may be known.
    #[error("quoting enclave is in debug mode")]
    QuotingEnclaveDebug,
    /// The quoting enclave is older than every described one.
    #[error("quoting enclave with ISVSVN {isv_svn} meets none of the described levels")]
    QuotingEnclaveLevel {
        /// Its version.
        isv_svn: u16,
    },
    /// The description of the quoting enclave gives it a status that only platforms have.
    #[error("quoting enclave has status {status}, which only platforms can have")]
    QuotingEnclaveStatus {
        /// The status.
        status: TcbStatus,
    },
    /// The attestation key did not sign the report.
    #[error("signature of the attestation key over the report is wrong")]
    ReportSignature,
    /// The platform meets none of the TCB levels.
    #[error("platform with CPUSVN {} and PCESVN {pce_svn} meets none of the TCB levels", hex::encode(cpu_svn))]
    NoTcbLevel {
        /// Its component versions.
        cpu_svn: [u8; 16],
        /// The version of its provisioning enclave.
        pce_svn: u16,
    },
}

impl VerifyError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Validity(error) => error.class(),
            Self::Pck(error) => error.class(),
            Self::KeptPck { .. } | Self::Fmspc { .. } | Self::PceId { .. } => ErrorClass::CollateralMismatch,
            Self::QeReportSignature | Self::AttestationKeyBinding | Self::ReportSignature => ErrorClass::Signature,
            Self::QuotingEnclave { .. } | Self::QuotingEnclaveDebug | Self::QuotingEnclaveStatus { .. } => {
                ErrorClass::QuotingEnclave
            }
            Self::QuotingEnclaveLevel { .. } | Self::NoTcbLevel { .. } => ErrorClass::TcbUnsupported,
        }
    }

    /// The stable code of [`Self::class`].
    pub fn code(&self) -> &'static str {
        self.class().code()
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Validity(error) => error.hint(),
            Self::Pck(error) => error.hint(),
            Self::Fmspc { .. } | Self::PceId { .. } => Some("fetch the collateral of the platform that made the quote"),
            Self::NoTcbLevel { .. } | Self::QuotingEnclaveLevel { .. } => {
                Some("update the platform's firmware, or refresh collateral that is older than the platform")
            }
            _ => None,
        }
    }
}

/// What a TEE claims about the workload, by TEE.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claims {
    /// Claims of an SGX enclave.
    Sgx(SgxReport),
}

/// The result of verification: the vendor's platform says this, now.
///
/// Only [`verify`] and [`verify_with_pck`] make it. Whether the claims are the wanted ones is for admission to say;
/// in particular a debug enclave and the TCB status `Revoked` are claims here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedReport {
    claims: Claims,
    trust_class: TrustClass,
    root_name: String,
    root_sha256: [u8; 32],
    tcb_status: TcbStatus,
    advisories: Vec<String>,
    tcb_date: UnixTime,
    tcb_evaluation_number: u32,
    platform: PlatformProperties,
    collateral_earliest_issue: UnixTime,
    has_stale_collateral: bool,
    expires: UnixTime,
    evidence_sha256: [u8; 32],
}

impl VerifiedReport {
    /// The TEE that made the evidence.
    pub fn tee(&self) -> Tee {
        match self.claims {
            Claims::Sgx(_) => Tee::Sgx,
        }
    }

    /// What the TEE claims about the workload.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What the workload bound into its evidence.
    pub fn report_data(&self) -> &ReportData {
        match &self.claims {
            Claims::Sgx(report) => &report.report_data,
        }
    }

    /// True if the host can read the workload's memory.
    pub fn is_debug(&self) -> bool {
        match &self.claims {
            Claims::Sgx(report) => report.is_debug(),
        }
    }

    /// What stands behind the root.
    pub fn trust_class(&self) -> TrustClass {
        self.trust_class
    }

    /// The name of the root under which evidence and collateral were verified.
    pub fn root_name(&self) -> &str {
        &self.root_name
    }

    /// SHA-256 of that root's DER.
    pub fn root_sha256(&self) -> [u8; 32] {
        self.root_sha256
    }

    /// The vendor's verdict on platform and quoting enclave.
    pub fn tcb_status(&self) -> TcbStatus {
        self.tcb_status
    }

    /// Advisories of the platform's level, then those of the quoting enclave's, each once.
    pub fn advisories(&self) -> &[String] {
        &self.advisories
    }

    /// The date of the platform's level: everything that was known then is patched.
    pub fn tcb_date(&self) -> UnixTime {
        self.tcb_date
    }

    /// The vendor's issue number of the collateral; the lower of its two.
    pub fn tcb_evaluation_number(&self) -> u32 {
        self.tcb_evaluation_number
    }

    /// The platform.
    pub fn platform(&self) -> &PlatformProperties {
        &self.platform
    }

    /// When the older of the two collateral texts was issued.
    pub fn collateral_earliest_issue(&self) -> UnixTime {
        self.collateral_earliest_issue
    }

    /// True if the verdict rests on collateral whose next update was due before; see
    /// [`crate::Collateral::dangerous_verify_aged`].
    pub fn has_stale_collateral(&self) -> bool {
        self.has_stale_collateral
    }

    /// The last second in which collateral and PCK chain may be used.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// SHA-256 of the raw quote, for logs only; see [`Quote::evidence_sha256`].
    pub fn evidence_sha256(&self) -> [u8; 32] {
        self.evidence_sha256
    }
}

/// Verifies `quote` against `collateral` at `now`.
///
/// The PCK chain is verified, too; where many quotes come from one platform, keep it with [`crate::PckCache`] or
/// [`verify_with_pck`].
///
/// # Errors
///
/// Each cause has its own [`VerifyError`].
pub fn verify(quote: &Quote, collateral: &TrustedCollateral, now: UnixTime) -> Result<VerifiedReport, VerifyError> {
    collateral.check_time(now)?;
    let pck = verify_pck(quote, collateral, now)?;
    verify_with_pck(quote, collateral, &pck, now)
}

/// Verifies `quote` like [`verify`], with a PCK chain that was verified before: two signature checks.
///
/// # Errors
///
/// As [`verify`]; a kept PCK of another chain or other collateral is [`VerifyError::KeptPck`].
pub fn verify_with_pck(
    quote: &Quote,
    collateral: &TrustedCollateral,
    pck: &VerifiedPck,
    now: UnixTime,
) -> Result<VerifiedReport, VerifyError> {
    collateral.check_time(now)?;
    pck.check_time(now)?;
    if pck.collateral_id != collateral.id() {
        return Err(VerifyError::KeptPck { what: "collateral" });
    }
    if pck.chain_sha256 != sha256(chain_for(quote, collateral)?) {
        return Err(VerifyError::KeptPck { what: "chain" });
    }
    let platform = pck.properties();
    check_platform(platform, collateral)?;
    check_attestation_key(quote, pck)?;
    let qe_level = collateral.qe_identity.level_of(&quote.qe_report()).map_err(qe_error)?;
    check_signature(&uncompressed(&quote.attestation_key), &quote.signed, &quote.signature)
        .ok_or(VerifyError::ReportSignature)?;
    let level = collateral
        .tcb_info
        .level_of(platform)
        .ok_or(VerifyError::NoTcbLevel { cpu_svn: platform.cpu_svn, pce_svn: platform.pce_svn })?;

    let numbers = collateral.evaluation_numbers();
    Ok(VerifiedReport {
        claims: Claims::Sgx(quote.unverified_report()),
        trust_class: collateral.trust_class(),
        root_name: collateral.root().name().to_owned(),
        root_sha256: collateral.root().sha256(),
        tcb_status: level.tcb_status.converge(qe_level.tcb_status),
        advisories: join_advisories(level, &qe_level.advisory_ids),
        tcb_date: level.tcb_date.0,
        tcb_evaluation_number: numbers.tcb_info.min(numbers.qe_identity),
        platform: platform.clone(),
        collateral_earliest_issue: collateral.earliest_issue(),
        has_stale_collateral: collateral.is_stale(now),
        expires: collateral.expires().min(pck.not_after()),
        evidence_sha256: quote.evidence_sha256(),
    })
}

fn check_platform(platform: &PlatformProperties, collateral: &TrustedCollateral) -> Result<(), VerifyError> {
    if platform.fmspc != collateral.fmspc() {
        return Err(VerifyError::Fmspc { expected: platform.fmspc, got: collateral.fmspc() });
    }
    let pce_id = collateral.tcb_info.pce_id();
    if platform.pce_id != pce_id {
        return Err(VerifyError::PceId { expected: platform.pce_id, got: pce_id });
    }
    Ok(())
}

/// PCK signs the QE's report, the QE's report binds the attestation key.
fn check_attestation_key(quote: &Quote, pck: &VerifiedPck) -> Result<(), VerifyError> {
    check_signature(&pck.public_key, &quote.qe_report, &quote.qe_report_signature)
        .ok_or(VerifyError::QeReportSignature)?;
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&quote.attestation_key);
    context.update(&quote.qe_auth_data);
    if quote.qe_report().report_data.digest().as_bytes() != context.finish().as_ref() {
        return Err(VerifyError::AttestationKeyBinding);
    }
    Ok(())
}

fn check_signature(public_key: &[u8; 65], message: &[u8], signature: &[u8; 64]) -> Option<()> {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public_key).verify(message, signature).ok()
}

fn uncompressed(key: &[u8; 64]) -> [u8; 65] {
    let mut point = [4; 65];
    point[1..].copy_from_slice(key);
    point
}

fn qe_error(mismatch: QeMismatch) -> VerifyError {
    match mismatch {
        QeMismatch::Property { field, expected, got } => VerifyError::QuotingEnclave { field, expected, got },
        QeMismatch::Debug => VerifyError::QuotingEnclaveDebug,
        QeMismatch::NoLevel { isv_svn } => VerifyError::QuotingEnclaveLevel { isv_svn },
        QeMismatch::Status { status } => VerifyError::QuotingEnclaveStatus { status },
    }
}

fn join_advisories(level: &TcbLevel, of_qe: &[String]) -> Vec<String> {
    let mut advisories: Vec<String> = Vec::new();
    for advisory in level.advisory_ids.iter().chain(of_qe) {
        if !advisories.contains(advisory) {
            advisories.push(advisory.clone());
        }
    }
    advisories
}
