//! Why collateral cannot be used.

use std::fmt;

use rustls_pki_types::UnixTime;

use crate::error::ErrorClass;
use crate::pem::PemError;
use crate::timestamp::rfc3339;

/// One dated or signed part of collateral.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CollateralItem {
    /// The trusted root certificate.
    Root,
    /// The root's revocation list.
    RootCrl,
    /// The PCK authority's revocation list.
    PckCrl,
    /// The certificate that signed the TCB info.
    TcbInfoSigner,
    /// The TCB levels of one kind of platform.
    TcbInfo,
    /// The certificate that signed the QE identity.
    QeIdentitySigner,
    /// The description of the quoting enclave.
    QeIdentity,
}

impl fmt::Display for CollateralItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root certificate",
            Self::RootCrl => "root CA revocation list",
            Self::PckCrl => "PCK revocation list",
            Self::TcbInfoSigner => "TCB info signer",
            Self::TcbInfo => "TCB info",
            Self::QeIdentitySigner => "QE identity signer",
            Self::QeIdentity => "QE identity",
        })
    }
}

/// A part of the collateral is outside its validity period.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    /// The period has not begun.
    #[error("{item} is not valid before {}, verified at {}", rfc3339(*not_before), rfc3339(*now))]
    NotYetValid {
        /// The part.
        item: CollateralItem,
        /// When its period begins.
        not_before: UnixTime,
        /// When it was verified.
        now: UnixTime,
    },
    /// The period is over.
    #[error("{item} expired: it was valid until {}, verified at {}", rfc3339(*not_after), rfc3339(*now))]
    Expired {
        /// The part.
        item: CollateralItem,
        /// The last second of its period.
        not_after: UnixTime,
        /// When it was verified.
        now: UnixTime,
    },
}

impl ValidityError {
    /// The part that is not valid.
    pub fn item(&self) -> CollateralItem {
        match self {
            Self::NotYetValid { item, .. } | Self::Expired { item, .. } => *item,
        }
    }

    /// Always [`ErrorClass::ExpiredCollateral`].
    pub fn class(&self) -> ErrorClass {
        ErrorClass::ExpiredCollateral
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotYetValid { .. } => "check this host's clock: the vendor issued the collateral later",
            Self::Expired { .. } => "refresh the collateral, then check this host's clock",
        })
    }
}

/// Why collateral cannot be used.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollateralError {
    /// The text is too long.
    #[error("expected at most {max} bytes of collateral, got {got}")]
    TooLong {
        /// The limit.
        max: usize,
        /// What came.
        got: usize,
    },
    /// The text is not the JSON object that it must be.
    #[error("collateral is not a JSON object with the known members: {reason}")]
    Json {
        /// What the JSON reader says.
        reason: String,
    },
    /// A member is not hex.
    #[error("collateral member {member} is not hex")]
    Hex {
        /// The member's name.
        member: &'static str,
    },
    /// A signature has another length.
    #[error("collateral member {member} must have {expected} bytes, got {got}")]
    SignatureLength {
        /// The member's name.
        member: &'static str,
        /// Length of r and s.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A member is not a PEM chain.
    #[error("collateral member {member} is not a PEM certificate chain")]
    Pem {
        /// The member's name.
        member: &'static str,
        /// What is wrong with it.
        source: PemError,
    },
    /// A certificate cannot be read.
    #[error("{item} is not a well-formed certificate")]
    Certificate {
        /// The certificate.
        item: CollateralItem,
    },
    /// A revocation list cannot be read.
    #[error("{item} is not a well-formed revocation list: {reason}")]
    Crl {
        /// The list.
        item: CollateralItem,
        /// What the reader says.
        reason: String,
    },
    /// A list comes from another issuer.
    #[error("{item} was not issued by the trusted root")]
    CrlIssuer {
        /// The list.
        item: CollateralItem,
    },
    /// The signer's chain ends elsewhere.
    #[error("{item} does not chain to a trusted {class} root")]
    UntrustedRoot {
        /// The certificate.
        item: CollateralItem,
        /// The class that is trusted.
        class: &'static str,
    },
    /// A hardware verifier met collateral of a software TEE.
    #[error("collateral belongs to a software TEE, only hardware roots are trusted")]
    SoftwareRoot,
    /// A software verifier met a vendor's collateral.
    #[error("collateral belongs to real hardware, only software roots are trusted")]
    HardwareRoot,
    /// A signer was not issued by the root itself.
    #[error("{item} must be issued by the root itself, got {intermediates} certificates between them")]
    IndirectSigner {
        /// The certificate.
        item: CollateralItem,
        /// How many stand between.
        intermediates: usize,
    },
    /// A signature is wrong.
    #[error("signature of {item} is wrong: {reason}")]
    Signature {
        /// The signed part.
        item: CollateralItem,
        /// What the library says.
        reason: String,
    },
    /// A certificate breaks another rule.
    #[error("{item} is not acceptable: {reason}")]
    Chain {
        /// The certificate.
        item: CollateralItem,
        /// What the library says.
        reason: String,
    },
    /// A certificate is revoked.
    #[error("{item} is revoked")]
    Revoked {
        /// The certificate.
        item: CollateralItem,
    },
    /// No list speaks for a certificate.
    #[error("no revocation list speaks for {item}")]
    UnknownRevocationStatus {
        /// The certificate.
        item: CollateralItem,
    },
    /// A part is outside its validity period.
    #[error(transparent)]
    Validity(#[from] ValidityError),
    /// A signed text does not have the form that the vendor describes.
    #[error("{item} is not as the vendor describes it: {reason}")]
    SignedText {
        /// The text.
        item: CollateralItem,
        /// What the reader says.
        reason: String,
    },
    /// A signed text has another version.
    #[error("expected {item} version {expected}, got {got}")]
    Version {
        /// The text.
        item: CollateralItem,
        /// The known version.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// A signed text speaks of something else.
    #[error("expected {item} with id {expected:?}, got {got:?}")]
    Id {
        /// The text.
        item: CollateralItem,
        /// The id for SGX.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// The TCB components are to be compared in an unknown way.
    #[error("expected tcbType {expected} in TCB info, got {got}")]
    TcbType {
        /// The known type.
        expected: u32,
        /// What came.
        got: u32,
    },
}

impl CollateralError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::TooLong { .. }
            | Self::Json { .. }
            | Self::Hex { .. }
            | Self::SignatureLength { .. }
            | Self::Pem { .. }
            | Self::Certificate { .. }
            | Self::Crl { .. }
            | Self::SignedText { .. } => ErrorClass::Malformed,
            Self::UntrustedRoot { .. } | Self::CrlIssuer { .. } | Self::IndirectSigner { .. } => {
                ErrorClass::UntrustedRoot
            }
            Self::SoftwareRoot => ErrorClass::SoftwareRoot,
            Self::HardwareRoot => ErrorClass::HardwareRoot,
            Self::Signature { .. } | Self::Chain { .. } => ErrorClass::Signature,
            Self::Revoked { .. } | Self::UnknownRevocationStatus { .. } => ErrorClass::Revoked,
            Self::Validity(error) => error.class(),
            Self::Version { .. } | Self::TcbType { .. } => ErrorClass::Unsupported,
            Self::Id { .. } => ErrorClass::CollateralMismatch,
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
            Self::SoftwareRoot => Some(
                "for development, trust the root explicitly (client: --trust-software-root FILE; Coordinator: \
                 /etc/marblerun/trust.json in its image); never in production",
            ),
            Self::HardwareRoot => Some("remove the software roots to verify real hardware"),
            Self::UntrustedRoot { .. } => Some(
                "evidence and collateral must come from a root that is trusted here; where a development root was made \
                 anew, export its collateral again and tell the verifiers about it",
            ),
            Self::Version { item: CollateralItem::TcbInfo, .. } => {
                Some("fetch the collateral from a server with API version 4")
            }
            Self::Json { .. } => Some("export the collateral again; it must be one bundle file for one platform"),
            _ => None,
        }
    }
}
