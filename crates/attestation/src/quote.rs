//! SGX quote version 3: bytes to fields.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 48 | header |
//! | 48 | 384 | report body of the enclave |
//! | 432 | 4 | length of the authentication data |
//! | 436 | 64 | signature of the attestation key over bytes 0 to 431 |
//! | 500 | 64 | attestation key |
//! | 564 | 384 | report body of the quoting enclave (QE) |
//! | 948 | 64 | signature of the PCK over the QE's report |
//! | 1012 | 2 + 32 | QE authentication data |
//! | 1046 | 2 + 4 + n | certification data |
//!
//! Integers are little-endian; signatures are r and s, keys x and y, 32 bytes each, big-endian. Source: Intel SGX
//! ECDSA QuoteGenerationReference, "Quote format".

use aws_lc_rs::digest;
use rustls_pki_types::UnixTime;

use crate::error::ErrorClass;
use crate::oe_header;
use crate::pck::{PckError, PlatformId, check_certified};
use crate::pem;
use crate::report_data::ReportData;
use crate::roots::TrustRoots;

/// The longest evidence that is read, with or without header. Real quotes have less than 5 KiB.
pub const MAX_QUOTE_BYTES: usize = 64 * 1024;

const HEADER_LEN: usize = 48;
const REPORT_LEN: usize = 384;
/// The attestation key signs everything before the length of the authentication data.
const SIGNED_LEN: usize = HEADER_LEN + REPORT_LEN;
const VERSION: u16 = 3;
const ECDSA_P256: u16 = 2;
const SGX_TEE_TYPE: u32 = 0;
const INTEL_QE_VENDOR_ID: [u8; 16] =
    [0x93, 0x9A, 0x72, 0x33, 0xF7, 0x9C, 0x4C, 0xA9, 0x94, 0x0A, 0x0D, 0xB3, 0x95, 0x7F, 0x06, 0x07];
/// Every quoting enclave of Intel's uses this length, and the attestation key's hash covers it.
const QE_AUTH_DATA_LEN: u16 = 32;
/// Certification data that are a PEM chain: PCK leaf, PCK CA, root.
const PCK_CHAIN: u16 = 5;

/// Why bytes are not a quote.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// There are no bytes at all.
    #[error("expected a quote, got no bytes")]
    Empty,
    /// The evidence is too long.
    #[error("expected at most {max} bytes of evidence, got {got}")]
    TooLong {
        /// The limit.
        max: usize,
        /// What came.
        got: usize,
    },
    /// The bytes end within a field.
    #[error("quote ends within {field}: {needed} bytes are needed, {available} are left")]
    Truncated {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        needed: usize,
        /// How many bytes there are.
        available: usize,
    },
    /// The Open Enclave header has another version.
    #[error("expected Open Enclave header version {expected}, got {got}")]
    OeVersion {
        /// The known version.
        expected: u32,
        /// What came.
        got: u32,
    },
    /// The Open Enclave header announces something other than a remote report.
    #[error("expected Open Enclave report type {expected} (remote SGX report), got {got}")]
    OeReportType {
        /// The type of a remote report.
        expected: u32,
        /// What came.
        got: u32,
    },
    /// The size in the Open Enclave header is not the length of what follows.
    #[error("expected size {expected} in the Open Enclave header, got {got}")]
    OeSize {
        /// How many bytes follow.
        expected: u64,
        /// What the header says.
        got: u64,
    },
    /// The quote has another version.
    #[error("expected SGX quote version {expected}, got {got}")]
    Version {
        /// The known version.
        expected: u16,
        /// What came.
        got: u16,
    },
    /// The attestation key is of another kind.
    #[error("expected attestation key type {expected} (ECDSA P-256), got {got}")]
    AttestationKeyType {
        /// The known type.
        expected: u16,
        /// What came.
        got: u16,
    },
    /// The quote comes from another TEE.
    #[error("expected TEE type {expected:#x} (SGX), got {got:#x}")]
    TeeType {
        /// The type of SGX.
        expected: u32,
        /// What came.
        got: u32,
    },
    /// The quoting enclave is from an unknown vendor.
    #[error("expected QE vendor id {}, got {}", hex::encode(expected), hex::encode(got))]
    QeVendor {
        /// Intel's id.
        expected: [u8; 16],
        /// What came.
        got: [u8; 16],
    },
    /// The QE authentication data have another length.
    #[error("expected {expected} bytes of QE authentication data, got {got}")]
    QeAuthDataLength {
        /// The only length in use.
        expected: u16,
        /// What came.
        got: u16,
    },
    /// Bytes other than zero follow a part that must be the last.
    #[error("expected nothing but zero padding after the {after}, got other bytes at offset {offset}")]
    TrailingBytes {
        /// The part before the bytes.
        after: &'static str,
        /// The first byte that is not zero, counted from the start of the raw quote.
        offset: usize,
    },
}

impl QuoteError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Version { .. } | Self::AttestationKeyType { .. } | Self::TeeType { .. } | Self::QeVendor { .. } => {
                ErrorClass::Unsupported
            }
            Self::Empty
            | Self::TooLong { .. }
            | Self::Truncated { .. }
            | Self::OeVersion { .. }
            | Self::OeReportType { .. }
            | Self::OeSize { .. }
            | Self::QeAuthDataLength { .. }
            | Self::TrailingBytes { .. } => ErrorClass::Malformed,
        }
    }

    /// The stable code of [`Self::class`].
    pub fn code(&self) -> &'static str {
        self.class().code()
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Empty => Some("the attesting process could not get a quote from its TEE; see its log"),
            Self::Version { .. } | Self::TeeType { .. } => Some("only SGX DCAP quotes of version 3 are supported"),
            Self::OeReportType { .. } => Some("a local SGX report cannot be verified remotely; send a quote"),
            _ => None,
        }
    }
}

/// A well-formed SGX quote, version 3. Nothing in it is proven; [`crate::verify()`] does that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    pub(crate) signed: [u8; SIGNED_LEN],
    pub(crate) signature: [u8; 64],
    pub(crate) attestation_key: [u8; 64],
    pub(crate) qe_report: [u8; REPORT_LEN],
    pub(crate) qe_report_signature: [u8; 64],
    pub(crate) qe_auth_data: [u8; QE_AUTH_DATA_LEN as usize],
    certification_type: u16,
    certification_data: Vec<u8>,
    evidence_sha256: [u8; 32],
}

impl Quote {
    /// Reads a quote with or without the Open Enclave header; the first bytes decide.
    ///
    /// Zero padding after the quote is tolerated, also within the size that the header announces.
    ///
    /// # Errors
    ///
    /// Each deviation from the layout has its own [`QuoteError`].
    pub fn parse(evidence: &[u8]) -> Result<Self, QuoteError> {
        check_length(evidence)?;
        if oe_header::is_present(evidence) {
            return Self::parse_raw(oe_header::strip(evidence)?);
        }
        Self::parse_raw(evidence)
    }

    /// Reads a quote that must have the Open Enclave header, as MarbleRun v1.9.1 demands it from Marbles.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`]; a raw quote is [`QuoteError::OeVersion`].
    pub fn parse_with_oe_header(evidence: &[u8]) -> Result<Self, QuoteError> {
        check_length(evidence)?;
        Self::parse_raw(oe_header::strip(evidence)?)
    }

    /// Reads a quote without the Open Enclave header.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub fn parse_raw(raw: &[u8]) -> Result<Self, QuoteError> {
        check_length(raw)?;
        let mut reader = Reader { bytes: raw };
        let signed = reader.take::<SIGNED_LEN>("header and report body")?;
        check_header(&signed)?;
        let auth_len = u32::from_le_bytes(reader.take("length of the authentication data")?);
        let auth_data = reader.take_slice("authentication data", auth_len)?;
        check_padding("quote", raw, reader.bytes)?;

        let mut reader = Reader { bytes: auth_data };
        let signature = reader.take("signature over the report")?;
        let attestation_key = reader.take("attestation key")?;
        let qe_report = reader.take("QE report")?;
        let qe_report_signature = reader.take("signature over the QE report")?;
        let qe_auth_len = u16::from_le_bytes(reader.take("length of the QE authentication data")?);
        if qe_auth_len != QE_AUTH_DATA_LEN {
            return Err(QuoteError::QeAuthDataLength { expected: QE_AUTH_DATA_LEN, got: qe_auth_len });
        }
        let qe_auth_data = reader.take("QE authentication data")?;
        let certification_type = u16::from_le_bytes(reader.take("certification data type")?);
        let certification_len = u32::from_le_bytes(reader.take("length of the certification data")?);
        let certification_data = reader.take_slice("certification data", certification_len)?.to_vec();
        // What follows here is not signed by anybody; data that nobody reads are a sign of wrong framing.
        let after_auth_data = raw.len() - SIGNED_LEN - size_of::<u32>() - auth_data.len();
        check_padding("certification data", &raw[..raw.len() - after_auth_data], reader.bytes)?;

        let mut evidence_sha256 = [0; 32];
        evidence_sha256.copy_from_slice(digest::digest(&digest::SHA256, raw).as_ref());
        Ok(Self {
            signed,
            signature,
            attestation_key,
            qe_report,
            qe_report_signature,
            qe_auth_data,
            certification_type,
            certification_data,
            evidence_sha256,
        })
    }

    /// What the quote says about its enclave, unproven.
    pub fn unverified_report(&self) -> SgxReport {
        let mut body = [0; REPORT_LEN];
        body.copy_from_slice(&self.signed[HEADER_LEN..]);
        SgxReport::parse(&body)
    }

    /// Which platform the quote says it comes from, to find its collateral. Unproven.
    ///
    /// # Errors
    ///
    /// The certification data must hold a PCK chain whose leaf can be read.
    pub fn unverified_platform(&self) -> Result<PlatformId, PckError> {
        let chain = pem::parse_chain(self.pck_chain_pem()?)?;
        PlatformId::of_leaf(&chain)
    }

    /// Which platform the quote comes from, to ask somebody for its collateral: the PCK chain verifies under one of
    /// `roots` at `now`, so only the vendor can make names up. Revocation is unknown without collateral.
    ///
    /// # Errors
    ///
    /// As [`Self::unverified_platform`], and where the chain does not verify.
    pub fn certified_platform(&self, roots: &TrustRoots, now: UnixTime) -> Result<PlatformId, PckError> {
        let chain = pem::parse_chain(self.pck_chain_pem()?)?;
        check_certified(&chain, roots, now)?;
        PlatformId::of_leaf(&chain)
    }

    /// The PEM chain in the certification data.
    pub(crate) fn pck_chain_pem(&self) -> Result<&[u8], PckError> {
        match self.certification_type {
            PCK_CHAIN => Ok(&self.certification_data),
            other => Err(PckError::NoChainInQuote { expected: PCK_CHAIN, got: other }),
        }
    }

    /// The kind of certification data: 5 is a PCK chain.
    pub fn certification_type(&self) -> u16 {
        self.certification_type
    }

    /// SHA-256 of the raw quote as received, for logs only.
    ///
    /// Not an identity: bytes that nobody signs (line ends in the PEM chain, padding) change it.
    pub fn evidence_sha256(&self) -> [u8; 32] {
        self.evidence_sha256
    }

    pub(crate) fn qe_report(&self) -> SgxReport {
        SgxReport::parse(&self.qe_report)
    }
}

fn check_length(evidence: &[u8]) -> Result<(), QuoteError> {
    if evidence.is_empty() {
        return Err(QuoteError::Empty);
    }
    if evidence.len() > MAX_QUOTE_BYTES {
        return Err(QuoteError::TooLong { max: MAX_QUOTE_BYTES, got: evidence.len() });
    }
    Ok(())
}

fn check_header(signed: &[u8; SIGNED_LEN]) -> Result<(), QuoteError> {
    let u16_at = |offset: usize| u16::from_le_bytes([signed[offset], signed[offset + 1]]);
    let version = u16_at(0);
    if version != VERSION {
        return Err(QuoteError::Version { expected: VERSION, got: version });
    }
    let key_type = u16_at(2);
    if key_type != ECDSA_P256 {
        return Err(QuoteError::AttestationKeyType { expected: ECDSA_P256, got: key_type });
    }
    let tee_type = u32::from(u16_at(4)) | u32::from(u16_at(6)) << 16;
    if tee_type != SGX_TEE_TYPE {
        return Err(QuoteError::TeeType { expected: SGX_TEE_TYPE, got: tee_type });
    }
    let mut vendor = [0; 16];
    vendor.copy_from_slice(&signed[12..28]);
    if vendor != INTEL_QE_VENDOR_ID {
        return Err(QuoteError::QeVendor { expected: INTEL_QE_VENDOR_ID, got: vendor });
    }
    Ok(())
}

/// `rest` is the end of `whole` and must consist of zeros.
fn check_padding(after: &'static str, whole: &[u8], rest: &[u8]) -> Result<(), QuoteError> {
    match rest.iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => Err(QuoteError::TrailingBytes { after, offset: whole.len() - rest.len() + at }),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], QuoteError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(QuoteError::Truncated {
            field,
            needed: N,
            available: self.bytes.len(),
        })?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn take_slice(&mut self, field: &'static str, length: u32) -> Result<&'a [u8], QuoteError> {
        let needed = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.bytes.split_at_checked(needed).ok_or(QuoteError::Truncated {
            field,
            needed,
            available: self.bytes.len(),
        })?;
        self.bytes = rest;
        Ok(taken)
    }
}

/// The fields of an SGX report body (384 bytes; Intel SDM volume 3D, "REPORT").
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SgxReport {
    /// Security versions of the processor.
    pub cpu_svn: [u8; 16],
    /// Extended features of the SSA frame.
    pub misc_select: u32,
    /// Extended product id of the enclave.
    pub isv_ext_prod_id: [u8; 16],
    /// ATTRIBUTES: 8 bytes FLAGS, 8 bytes XFRM, as they stand in the report.
    pub attributes: [u8; 16],
    /// Measurement of the enclave; the unique ID.
    pub mr_enclave: [u8; 32],
    /// Hash of the signer's key; the signer ID.
    pub mr_signer: [u8; 32],
    /// Configuration id.
    pub config_id: [u8; 64],
    /// Product id of the enclave.
    pub isv_prod_id: u16,
    /// Security version of the enclave.
    pub isv_svn: u16,
    /// Security version of the configuration.
    pub config_svn: u16,
    /// Family id of the enclave.
    pub isv_family_id: [u8; 16],
    /// What the enclave bound into the report.
    pub report_data: ReportData,
}

impl SgxReport {
    const DEBUG: u8 = 1 << 1;

    /// Reads a report body. Every 384 bytes are one.
    pub fn parse(body: &[u8; REPORT_LEN]) -> Self {
        fn at<const N: usize>(body: &[u8; REPORT_LEN], offset: usize) -> [u8; N] {
            let mut field = [0; N];
            field.copy_from_slice(&body[offset..offset + N]);
            field
        }
        Self {
            cpu_svn: at(body, 0),
            misc_select: u32::from_le_bytes(at(body, 16)),
            isv_ext_prod_id: at(body, 32),
            attributes: at(body, 48),
            mr_enclave: at(body, 64),
            mr_signer: at(body, 128),
            config_id: at(body, 192),
            isv_prod_id: u16::from_le_bytes(at(body, 256)),
            isv_svn: u16::from_le_bytes(at(body, 258)),
            config_svn: u16::from_le_bytes(at(body, 260)),
            isv_family_id: at(body, 304),
            report_data: ReportData::from(at::<64>(body, 320)),
        }
    }

    /// True if the enclave may be debugged: the host can read its memory.
    pub fn is_debug(&self) -> bool {
        self.attributes[0] & Self::DEBUG != 0
    }
}
