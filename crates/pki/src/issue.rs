//! Putting a certificate together and signing it.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest;
use const_oid::ObjectIdentifier;
use der::asn1::{GeneralizedTime, UintRef, UtcTime};
use der::{DateTime, Encode, Tag};
use rustls_pki_types::UnixTime;

use crate::asn1::{constructed, sequence, tlv};
use crate::certificate::{Certificate, CertificateError, Extension, public_key_bits};
use crate::key::{KeyError, KeyPair};
use crate::oid;

/// Certificates begin this long before they are made, so that a peer whose clock is a little behind takes them too.
pub const BACKDATING: Duration = Duration::from_secs(180);

/// Longest distance between two moments in Go, 2^63 - 1 nanoseconds: the life of CA and Marble certificates.
pub(crate) const LONGEST_LIFE: Duration = Duration::from_secs(9_223_372_036);

/// Why a certificate could not be made.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The provider failed.
    #[error("no certificate can be made")]
    Key(#[from] KeyError),
    /// The issuer's certificate cannot be read.
    #[error("the issuer's certificate cannot be used")]
    IssuerCertificate(#[source] CertificateError),
    /// The issuer's key is not the one in its certificate.
    #[error("the issuer's private key does not belong to its certificate")]
    IssuerKey,
    /// A text that can only be ASCII.
    #[error("{member}: expected ASCII characters only, got {got:?}")]
    NotAscii {
        /// Place in the template.
        member: &'static str,
        /// The text.
        got: String,
    },
    /// A configured DNS name that no peer could ask for.
    #[error("DNSNames: expected names of at most 253 characters with labels of at most 63, got {got:?}")]
    NameTooLong {
        /// The name.
        got: String,
    },
    /// A time that this profile of X.509 cannot hold.
    #[error("expected an end of validity before the year 10000, got {got_seconds} seconds after 1970")]
    Time {
        /// Seconds since 1970.
        got_seconds: u64,
    },
    /// Something that is no object identifier (or one beyond 39 bytes or with an arc beyond 32 bits).
    #[error("{member}: expected an object identifier, got {got:?}")]
    Oid {
        /// Place in the template.
        member: &'static str,
        /// Dotted form of what came.
        got: String,
    },
    /// The extension that only Marble certificates may carry.
    #[error("ExtraExtensions: {} marks Marble certificates and cannot be given to a secret", oid::MARBLE_TYPE)]
    MarbleTypeExtension,
    /// A number that names no extended key usage.
    #[error("ExtKeyUsage: expected numbers from 0 to 13, got {got}")]
    ExtKeyUsage {
        /// The number.
        got: i64,
    },
    /// A path length below -1.
    #[error("MaxPathLen: expected -1 (none) or a length, got {got}")]
    PathLen {
        /// The number.
        got: i64,
    },
    /// A path length in a certificate that is no CA.
    #[error("MaxPathLen: expected a path length only together with IsCA, got {got}")]
    PathLenWithoutCa {
        /// The number.
        got: i64,
    },
    /// An algorithm that the issuer's ECDSA key cannot produce, or SHA-1.
    #[error("SignatureAlgorithm: expected 0 (default), 10, 11 or 12 (ECDSA with SHA-256, SHA-384, SHA-512), got {got}")]
    SignatureAlgorithm {
        /// The number; 9 is ECDSA with SHA-1.
        got: i64,
    },
    /// An address range whose mask has not the length of its address.
    #[error("{member}: expected a mask as long as the address {ip}, got {got_bytes} bytes")]
    IpRange {
        /// Place in the template.
        member: &'static str,
        /// The address.
        ip: IpAddr,
        /// Length of the mask.
        got_bytes: usize,
    },
    /// `RawSubject` that is no name.
    #[error("RawSubject: expected a DER name")]
    RawSubject(#[source] CertificateError),
    /// The subject's public key is no SubjectPublicKeyInfo, or something is too long for DER.
    #[error("the certificate cannot be encoded")]
    Encode(#[from] der::Error),
}

/// Who signs: a CA's name and key identifier as they stand in its certificate, and its key.
#[derive(Debug)]
pub struct Issuer<'a> {
    pub(crate) subject_der: Vec<u8>,
    pub(crate) key_id: Option<Vec<u8>>,
    pub(crate) key: &'a KeyPair,
}

impl<'a> Issuer<'a> {
    /// The CA with this certificate and key.
    ///
    /// # Errors
    ///
    /// [`IssueError::IssuerCertificate`] and [`IssueError::IssuerKey`].
    pub fn new(certificate_der: &[u8], key: &'a KeyPair) -> Result<Self, IssueError> {
        let certificate = Certificate::parse(certificate_der).map_err(IssueError::IssuerCertificate)?;
        if certificate.public_key_der() != key.public_key_der() {
            return Err(IssueError::IssuerKey);
        }
        let key_id = certificate.subject_key_id().map_err(IssueError::IssuerCertificate)?;
        Ok(Self { subject_der: certificate.subject_der().to_vec(), key_id, key })
    }
}

/// Hash functions that a P-384 signature of a certificate may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureHash {
    Sha256,
    Sha384,
    Sha512,
}

impl SignatureHash {
    fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha256 => oid::ECDSA_SHA256,
            Self::Sha384 => oid::ECDSA_SHA384,
            Self::Sha512 => oid::ECDSA_SHA512,
        }
    }

    fn sign(self, key: &KeyPair, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            Self::Sha256 => key.sign_sha256(message),
            Self::Sha384 => key.sign_sha384(message),
            Self::Sha512 => key.sign_sha512(message),
        }
    }

    /// Contents: the AlgorithmIdentifier; ECDSA has no parameters (RFC 5758 3.2).
    pub(crate) fn algorithm_der(self) -> der::Result<Vec<u8>> {
        sequence(&[self.oid().to_der()?])
    }

    pub(crate) fn from_oid(algorithm: ObjectIdentifier) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512].into_iter().find(|hash| hash.oid() == algorithm)
    }
}

/// Everything of a certificate but serial number and signature.
pub(crate) struct Unsigned<'a> {
    pub(crate) issuer_der: &'a [u8],
    pub(crate) subject_der: &'a [u8],
    pub(crate) now: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) public_key_der: &'a [u8],
    pub(crate) extensions: &'a [Extension],
    pub(crate) hash: SignatureHash,
}

impl Unsigned<'_> {
    /// Signs with `key` under a new random serial number and gives the certificate's DER.
    pub(crate) fn sign(&self, key: &KeyPair) -> Result<Vec<u8>, IssueError> {
        let not_before =
            UnixTime::since_unix_epoch(Duration::from_secs(self.now.as_secs().saturating_sub(BACKDATING.as_secs())));
        let extensions: der::Result<Vec<_>> = self.extensions.iter().map(Extension::to_der).collect();
        let algorithm = self.hash.algorithm_der()?;
        const VERSION_3: u8 = 2;
        let tbs = sequence(&[
            tlv(constructed(0), &VERSION_3.to_der()?)?,
            serial_number()?,
            algorithm.clone(),
            self.issuer_der.to_vec(),
            sequence(&[time(not_before)?, time(self.not_after)?])?,
            self.subject_der.to_vec(),
            self.public_key_der.to_vec(),
            tlv(constructed(3), &sequence(&extensions?)?)?,
        ])?;
        let signature = self.hash.sign(key, &tbs)?;
        Ok(signed(tbs, algorithm, &signature)?)
    }
}

/// The SIGNED{} of X.509 and PKCS#10: content, algorithm, BIT STRING.
pub(crate) fn signed(content: Vec<u8>, algorithm: Vec<u8>, signature: &[u8]) -> der::Result<Vec<u8>> {
    const NO_UNUSED_BITS: u8 = 0;
    let bits = tlv(Tag::BitString, &[&[NO_UNUSED_BITS], signature].concat())?;
    sequence(&[content, algorithm, bits])
}

/// Uniform in [0, 2^128).
fn serial_number() -> Result<Vec<u8>, IssueError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| KeyError::Generate)?;
    Ok(UintRef::new(&serial)?.to_der()?)
}

/// UTCTime to 2049, GeneralizedTime from 2050 (RFC 5280 4.1.2.5).
fn time(time: UnixTime) -> Result<Vec<u8>, IssueError> {
    let refused = |_| IssueError::Time { got_seconds: time.as_secs() };
    let date = DateTime::from_unix_duration(Duration::from_secs(time.as_secs())).map_err(refused)?;
    match UtcTime::from_date_time(date) {
        Ok(short) => Ok(short.to_der()?),
        Err(_) => Ok(GeneralizedTime::from_date_time(date).to_der()?),
    }
}

/// `now` plus `life`, or the error of a time beyond what can be counted.
pub(crate) fn end_of_life(now: UnixTime, life: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_add(life))
}

/// The key identifier: leftmost 20 bytes of SHA-256 over the key's BIT STRING (RFC 7093 2, method 1).
pub(crate) fn key_id(public_key_der: &[u8]) -> der::Result<Vec<u8>> {
    let bits = public_key_bits(public_key_der)?;
    Ok(digest::digest(&digest::SHA256, bits).as_ref()[..20].to_vec())
}
