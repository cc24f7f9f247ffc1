//! The Provisioning Certification Key: the certificate that speaks for one platform.
//!
//! Source of the certificate's fields: Intel SGX PCK Certificate and Certificate Revocation List Profile
//! Specification, extension 1.2.840.113741.1.13.1.

use std::fmt;

use aws_lc_rs::digest;
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode as _, Sequence, Tag, Tagged as _};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::Certificate;

use crate::collateral::TrustedCollateral;
use crate::error::ErrorClass;
use crate::pem::{self, PemError};
use crate::quote::Quote;
use crate::roots::{TrustRoot, TrustRoots};
use crate::tcb::Tee;
use crate::timestamp::{from_seconds, rfc3339};

const SGX_EXTENSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");
const PPID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.1");
const TCB: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2");
const PCE_SVN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2.17");
const CPU_SVN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2.18");
const PCE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.3");
const FMSPC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.4");
const SGX_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.5");
const INSTANCE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.6");
const CONFIGURATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7");
const DYNAMIC_PLATFORM: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.1");
const CACHED_KEYS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.2");
const SMT_ENABLED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.3");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// Family, model, stepping, platform type and custom SKU: the key of TCB info.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fmspc(pub [u8; 6]);

impl Fmspc {
    /// Reads 12 hex digits in either case.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Fmspc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_upper(self.0))
    }
}

impl fmt::Debug for Fmspc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fmspc({self})")
    }
}

/// The kind of authority that certified a PCK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PckCa {
    /// Single-package platforms.
    Processor,
    /// Multi-package platforms.
    Platform,
}

impl PckCa {
    /// The lower-case name, as in URLs and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Platform => "platform",
        }
    }
}

impl fmt::Display for PckCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is needed to look up collateral for a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlatformId {
    /// The TEE.
    pub tee: Tee,
    /// The kind of platform.
    pub fmspc: Fmspc,
    /// Who certified its PCK.
    pub ca: PckCa,
}

impl PlatformId {
    pub(crate) fn of_leaf(chain: &[CertificateDer<'_>]) -> Result<Self, PckError> {
        let leaf = chain.first().ok_or(PckError::Pem(PemError::Empty))?;
        let certificate = Certificate::from_der(leaf).map_err(|_| PckError::Certificate)?;
        let issuer = certificate.tbs_certificate().issuer().to_string();
        let ca = match (issuer.contains("Processor"), issuer.contains("Platform")) {
            (true, _) => PckCa::Processor,
            (false, true) => PckCa::Platform,
            (false, false) => return Err(PckError::UnknownCa { issuer }),
        };
        Ok(Self { tee: Tee::Sgx, fmspc: PlatformProperties::of(&certificate)?.fmspc, ca })
    }
}

impl fmt::Display for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({} CA)", self.tee, self.fmspc, self.ca)
    }
}

/// Why a PCK certificate cannot be read or trusted.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PckError {
    /// The quote holds something other than the chain.
    #[error("quote carries no PCK certificate chain: expected certification data type {expected}, got {got}")]
    NoChainInQuote {
        /// The type of a chain.
        expected: u16,
        /// What came.
        got: u16,
    },
    /// The chain is not PEM.
    #[error("PCK certificate chain is not well-formed PEM")]
    Pem(#[from] PemError),
    /// The leaf is not a certificate.
    #[error("PCK certificate is not a well-formed certificate")]
    Certificate,
    /// The leaf's key is not on P-256.
    #[error("PCK certificate holds no key on curve P-256")]
    Key,
    /// The SGX extension is missing or not as Intel describes it.
    #[error("PCK certificate has no well-formed SGX extension: {field}")]
    Extension {
        /// What is missing or wrong.
        field: &'static str,
    },
    /// The issuer is neither of the two known kinds.
    #[error("expected a PCK issuer named Processor or Platform, got {issuer:?}")]
    UnknownCa {
        /// The issuer's name.
        issuer: String,
    },
    /// The chain does not end at a trusted root.
    #[error("PCK certificate chain does not end at the trusted root {root:?}")]
    UntrustedRoot {
        /// The root under which the collateral was verified.
        root: String,
    },
    /// A certificate of the chain, or the list that speaks for it, has a wrong signature.
    #[error("a signature in the PCK certificate chain or in its revocation lists is wrong: {reason}")]
    Signature {
        /// What the certificate library says.
        reason: String,
    },
    /// The PCK or its CA is revoked.
    #[error("PCK certificate or its CA is revoked")]
    Revoked,
    /// No list speaks for a certificate of the chain.
    #[error("no revocation list speaks for the PCK certificate chain")]
    UnknownRevocationStatus,
    /// A revocation list is past its next update.
    #[error("revocation list for the PCK certificate chain expired at {}, verified at {}", rfc3339(*next_update), rfc3339(*now))]
    CrlExpired {
        /// When the next list was due.
        next_update: UnixTime,
        /// When it was verified.
        now: UnixTime,
    },
    /// A certificate of the chain is outside its validity period.
    #[error("PCK certificate chain is valid from {} to {}, verified at {}", rfc3339(*not_before), rfc3339(*not_after), rfc3339(*now))]
    NotValidNow {
        /// When the latest certificate begins.
        not_before: UnixTime,
        /// When the first certificate ends.
        not_after: UnixTime,
        /// When it was verified.
        now: UnixTime,
    },
    /// The chain breaks another rule for certificates.
    #[error("PCK certificate chain is not acceptable: {reason}")]
    Chain {
        /// What the certificate library says.
        reason: String,
    },
}

impl PckError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NoChainInQuote { .. } | Self::UnknownCa { .. } => ErrorClass::Unsupported,
            Self::Pem(_) | Self::Certificate | Self::Key | Self::Extension { .. } => ErrorClass::Malformed,
            Self::UntrustedRoot { .. } => ErrorClass::UntrustedRoot,
            Self::Signature { .. } | Self::Chain { .. } => ErrorClass::Signature,
            Self::Revoked | Self::UnknownRevocationStatus => ErrorClass::Revoked,
            Self::CrlExpired { .. } => ErrorClass::ExpiredCollateral,
            Self::NotValidNow { .. } => ErrorClass::ExpiredCertificate,
        }
    }

    /// The stable code of [`Self::class`].
    pub fn code(&self) -> &'static str {
        self.class().code()
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoChainInQuote { .. } => Some(
                "the attesting host delivered no PCK chain: install its quote provider library and register the \
                 platform at its PCCS, or give collateral that carries the chain",
            ),
            Self::UntrustedRoot { .. } => Some("evidence and collateral must come from the same vendor root"),
            Self::UnknownRevocationStatus => {
                Some("fetch collateral for the CA of this platform; Processor and Platform have different lists")
            }
            Self::CrlExpired { .. } => Some("refresh the collateral, then check the clock"),
            Self::NotValidNow { .. } => Some("check the clock; if it is right, the platform needs a new PCK"),
            _ => None,
        }
    }
}

/// The kind of memory protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SgxType {
    /// Client platforms.
    Standard,
    /// Server platforms.
    Scalable,
    /// Server platforms with memory integrity.
    ScalableWithIntegrity,
}

/// What a PCK certificate says about its platform.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformProperties {
    /// Provisioning id of the platform.
    pub ppid: [u8; 16],
    /// Component security versions for which the PCK was made.
    pub cpu_svn: [u8; 16],
    /// Security version of the provisioning enclave.
    pub pce_svn: u16,
    /// Id of the provisioning enclave.
    pub pce_id: [u8; 2],
    /// The kind of platform.
    pub fmspc: Fmspc,
    /// The kind of memory protection.
    pub sgx_type: SgxType,
    /// Id of the platform's instance; only from the Platform CA.
    pub platform_instance_id: Option<[u8; 16]>,
    /// Packages may be added; only from the Platform CA.
    pub dynamic_platform: Option<bool>,
    /// Intel keeps the platform's root keys; only from the Platform CA.
    pub cached_keys: Option<bool>,
    /// Hyper-threading is on; only from the Platform CA.
    pub smt_enabled: Option<bool>,
}

#[derive(Sequence)]
struct Entry<'a> {
    id: ObjectIdentifier,
    value: AnyRef<'a>,
}

impl PlatformProperties {
    fn of(certificate: &Certificate) -> Result<Self, PckError> {
        let extensions = certificate.tbs_certificate().extensions().map_or(&[][..], Vec::as_slice);
        let mut found = extensions.iter().filter(|extension| extension.extn_id == SGX_EXTENSION);
        let (Some(extension), None) = (found.next(), found.next()) else {
            return Err(PckError::Extension { field: "it must be there exactly once" });
        };
        let entries = Entries::parse(extension.extn_value.as_bytes(), "outer sequence")?;
        let tcb = entries.sequence(TCB, "TCB")?.ok_or(PckError::Extension { field: "TCB" })?;
        let configuration = entries.sequence(CONFIGURATION, "configuration")?.unwrap_or_default();
        let sgx_type = match entries.required(SGX_TYPE, Tag::Enumerated, "SGX type")? {
            [0] => SgxType::Standard,
            [1] => SgxType::Scalable,
            [2] => SgxType::ScalableWithIntegrity,
            _ => return Err(PckError::Extension { field: "SGX type" }),
        };
        Ok(Self {
            ppid: entries.octets(PPID, "PPID")?.ok_or(PckError::Extension { field: "PPID" })?,
            cpu_svn: tcb.octets(CPU_SVN, "CPUSVN")?.ok_or(PckError::Extension { field: "CPUSVN" })?,
            pce_svn: tcb.u16(PCE_SVN, "PCESVN")?,
            pce_id: entries.octets(PCE_ID, "PCE-ID")?.ok_or(PckError::Extension { field: "PCE-ID" })?,
            fmspc: Fmspc(entries.octets(FMSPC, "FMSPC")?.ok_or(PckError::Extension { field: "FMSPC" })?),
            sgx_type,
            platform_instance_id: entries.octets(INSTANCE_ID, "platform instance id")?,
            dynamic_platform: configuration.boolean(DYNAMIC_PLATFORM, "dynamic platform")?,
            cached_keys: configuration.boolean(CACHED_KEYS, "cached keys")?,
            smt_enabled: configuration.boolean(SMT_ENABLED, "SMT enabled")?,
        })
    }
}

/// The content of a SEQUENCE OF SEQUENCE { OID, value }.
#[derive(Default)]
struct Entries<'a>(Vec<Entry<'a>>);

impl<'a> Entries<'a> {
    fn parse(der: &'a [u8], field: &'static str) -> Result<Self, PckError> {
        Vec::<Entry<'a>>::from_der(der).map(Self).map_err(|_| PckError::Extension { field })
    }

    /// An object identifier that stands twice would leave the choice to the reader, so it is an error.
    fn find(&self, id: ObjectIdentifier, field: &'static str) -> Result<Option<AnyRef<'a>>, PckError> {
        let mut found = self.0.iter().filter(|entry| entry.id == id);
        match (found.next(), found.next()) {
            (first, None) => Ok(first.map(|entry| entry.value)),
            _ => Err(PckError::Extension { field }),
        }
    }

    fn required(&self, id: ObjectIdentifier, tag: Tag, field: &'static str) -> Result<&'a [u8], PckError> {
        match self.find(id, field)? {
            Some(value) if value.tag() == tag => Ok(value.value()),
            _ => Err(PckError::Extension { field }),
        }
    }

    fn sequence(&self, id: ObjectIdentifier, field: &'static str) -> Result<Option<Self>, PckError> {
        let Some(value) = self.find(id, field)? else { return Ok(None) };
        value
            .decode_as::<Vec<Entry<'a>>>()
            .map(|entries| Some(Self(entries)))
            .map_err(|_| PckError::Extension { field })
    }

    fn octets<const N: usize>(&self, id: ObjectIdentifier, field: &'static str) -> Result<Option<[u8; N]>, PckError> {
        let Some(value) = self.find(id, field)? else { return Ok(None) };
        let octets = value.decode_as::<&OctetStringRef>().map_err(|_| PckError::Extension { field })?;
        octets.as_bytes().try_into().map(Some).map_err(|_| PckError::Extension { field })
    }

    fn u16(&self, id: ObjectIdentifier, field: &'static str) -> Result<u16, PckError> {
        let value = self.find(id, field)?.ok_or(PckError::Extension { field })?;
        let number = value.decode_as::<UintRef<'_>>().map_err(|_| PckError::Extension { field })?;
        match *number.as_bytes() {
            [low] => Ok(u16::from(low)),
            [high, low] => Ok(u16::from_be_bytes([high, low])),
            _ => Err(PckError::Extension { field }),
        }
    }

    fn boolean(&self, id: ObjectIdentifier, field: &'static str) -> Result<Option<bool>, PckError> {
        let Some(value) = self.find(id, field)? else { return Ok(None) };
        value.decode_as::<bool>().map(Some).map_err(|_| PckError::Extension { field })
    }
}

/// A PCK whose chain was verified under one [`TrustedCollateral`].
///
/// Keeping it saves the chain's verification for the next quote of the same platform: it is accepted only together
/// with the same PEM bytes and the same collateral (whose lists it was checked against), and its validity period is
/// checked at every use.
#[derive(Clone, Debug)]
pub struct VerifiedPck {
    pub(crate) chain_sha256: [u8; 32],
    pub(crate) collateral_id: [u8; 32],
    pub(crate) public_key: [u8; 65],
    not_before: UnixTime,
    not_after: UnixTime,
    properties: PlatformProperties,
}

impl VerifiedPck {
    /// What the certificate says about its platform.
    pub fn properties(&self) -> &PlatformProperties {
        &self.properties
    }

    /// When the first certificate of the chain ends.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    pub(crate) fn check_time(&self, now: UnixTime) -> Result<(), PckError> {
        if self.not_before <= now && now <= self.not_after {
            return Ok(());
        }
        Err(PckError::NotValidNow { not_before: self.not_before, not_after: self.not_after, now })
    }
}

/// Verifies the PCK chain of `quote`: signatures up to the collateral's root, validity at `now`, both revocation
/// lists.
///
/// The chain comes from the quote, or, if the quote has none, from the collateral.
///
/// # Errors
///
/// Each cause has its own [`PckError`].
pub fn verify_pck(quote: &Quote, collateral: &TrustedCollateral, now: UnixTime) -> Result<VerifiedPck, PckError> {
    let pem = chain_for(quote, collateral)?;
    let chain = pem::parse_chain(pem)?;
    let (leaf, intermediates) = chain.split_first().ok_or(PckError::Pem(PemError::Empty))?;
    let end_entity = EndEntityCert::try_from(leaf).map_err(|_| PckError::Certificate)?;
    let revocation_lists = collateral.revocation_lists();
    let anchors = [collateral.root().anchor.clone()];
    let path = end_entity
        .verify_for_usage(
            &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
            &anchors,
            intermediates,
            now,
            KeyUsage::server_auth(),
            Some(crate::collateral::revocation_options(&revocation_lists)),
            None,
        )
        .map_err(|error| chain_error(error, &chain, collateral.root(), now))?;

    let certificate = Certificate::from_der(leaf).map_err(|_| PckError::Certificate)?;
    let (mut not_before, mut not_after) = certificate_validity(&certificate);
    for issuer in path.intermediate_certificates() {
        let issuer = Certificate::from_der(&issuer.der()).map_err(|_| PckError::Certificate)?;
        let (from, to) = certificate_validity(&issuer);
        not_before = not_before.max(from);
        not_after = not_after.min(to);
    }
    Ok(VerifiedPck {
        chain_sha256: sha256(pem),
        collateral_id: collateral.id(),
        public_key: p256_point(&certificate)?,
        not_before,
        not_after,
        properties: PlatformProperties::of(&certificate)?,
    })
}

/// Proves signatures and validity of a PCK chain up to one of `roots`. Nobody knows here what is revoked.
pub(crate) fn check_certified(
    chain: &[CertificateDer<'static>],
    roots: &TrustRoots,
    now: UnixTime,
) -> Result<(), PckError> {
    let (leaf, intermediates) = chain.split_first().ok_or(PckError::Pem(PemError::Empty))?;
    let end_entity = EndEntityCert::try_from(leaf).map_err(|_| PckError::Certificate)?;
    let mut refusal = PckError::Pem(PemError::Empty);
    for root in roots.roots() {
        let anchors = [root.anchor.clone()];
        let algorithms = [webpki::aws_lc_rs::ECDSA_P256_SHA256];
        let usage = KeyUsage::server_auth();
        match end_entity.verify_for_usage(&algorithms, &anchors, intermediates, now, usage, None, None) {
            Ok(_) => return Ok(()),
            Err(error) => refusal = chain_error(error, chain, root, now),
        }
    }
    Err(refusal)
}

/// The PEM chain that speaks for `quote`.
pub(crate) fn chain_for<'a>(quote: &'a Quote, collateral: &'a TrustedCollateral) -> Result<&'a [u8], PckError> {
    match (quote.pck_chain_pem(), collateral.pck_chain_pem()) {
        (Err(PckError::NoChainInQuote { .. }), Some(chain)) => Ok(chain),
        (from_quote, _) => from_quote,
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn chain_error(error: webpki::Error, chain: &[CertificateDer<'_>], root: &TrustRoot, now: UnixTime) -> PckError {
    use webpki::Error;
    let untrusted = || PckError::UntrustedRoot { root: root.name().to_owned() };
    match error {
        Error::UnknownIssuer => untrusted(),
        Error::CertRevoked => PckError::Revoked,
        Error::UnknownRevocationStatus => PckError::UnknownRevocationStatus,
        Error::CrlExpired { next_update, .. } => PckError::CrlExpired { next_update, now },
        Error::CertExpired { not_after, .. } => PckError::NotValidNow { not_before: from_seconds(0), not_after, now },
        Error::CertNotValidYet { not_before, .. } => {
            PckError::NotValidNow { not_before, not_after: from_seconds(u64::MAX), now }
        }
        // Two roots may share a name; the chain then fails at a signature although the root is simply another one.
        Error::InvalidSignatureForPublicKey | Error::InvalidCrlSignatureForPublicKey
            if chain.len() > 1 && chain.last() != Some(root.der()) =>
        {
            untrusted()
        }
        Error::InvalidSignatureForPublicKey | Error::InvalidCrlSignatureForPublicKey => {
            PckError::Signature { reason: error.to_string() }
        }
        other => PckError::Chain { reason: other.to_string() },
    }
}

/// The uncompressed point of a certificate's P-256 key.
pub(crate) fn p256_point(certificate: &Certificate) -> Result<[u8; 65], PckError> {
    let spki = certificate.tbs_certificate().subject_public_key_info();
    let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    if spki.algorithm.oid != EC_PUBLIC_KEY || curve != Some(P256) {
        return Err(PckError::Key);
    }
    let point = spki.subject_public_key.as_bytes().ok_or(PckError::Key)?;
    point.try_into().map_err(|_| PckError::Key)
}

pub(crate) fn certificate_validity(certificate: &Certificate) -> (UnixTime, UnixTime) {
    let validity = certificate.tbs_certificate().validity();
    (
        UnixTime::since_unix_epoch(validity.not_before.to_unix_duration()),
        UnixTime::since_unix_epoch(validity.not_after.to_unix_duration()),
    )
}
