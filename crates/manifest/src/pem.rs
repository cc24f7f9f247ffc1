//! PEM texts inside a manifest: certificates of users and recovery keys.

use der::Decode as _;
use marblerun_json::decode_base64;
use spki::SubjectPublicKeyInfoRef;
use x509_cert::certificate::{CertificateInner, Raw};

/// Recovery keys have at least this many bits: the least that the cryptographic library encrypts to.
pub const MIN_RECOVERY_KEY_BITS: usize = 2048;
/// Recovery keys have at most this many bits.
pub const MAX_RECOVERY_KEY_BITS: usize = 8192;

/// PKCS #1 rsaEncryption (RFC 8017 A.1).
const RSA_ENCRYPTION: spki::ObjectIdentifier = spki::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// A PEM text that cannot be used. The text itself is never shown: it may hold a private key.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// No line begins a block.
    #[error("expected a PEM block \"-----BEGIN {expected}-----\", got none")]
    NoBlock {
        /// The usual label.
        expected: &'static str,
        /// The text holds a backslash and the letter n instead of line ends.
        escaped_line_ends: bool,
    },
    /// A block begins but does not end.
    #[error("expected the line \"-----END {label}-----\" after the PEM block, got none")]
    NoEnd {
        /// The block's label.
        label: String,
    },
    /// The block's content is not base64.
    #[error("expected base64 in the PEM block \"{label}\", got something else")]
    Base64 {
        /// The block's label.
        label: String,
    },
    /// The first block is something else.
    #[error("expected a PEM block \"{expected}\", got \"{got}\"")]
    Label {
        /// What is needed.
        expected: &'static str,
        /// The first block's label.
        got: String,
    },
    /// The block is not a certificate.
    #[error("expected an X.509 certificate in the PEM block \"{label}\", got something else")]
    NotACertificate {
        /// The block's label.
        label: String,
    },
    /// The block is not a public key.
    #[error("expected an RSA public key as SubjectPublicKeyInfo, got something else")]
    NotAnRsaKey,
    /// The key is too short or too long.
    #[error(
        "expected an RSA key of {min} to {max} bits, got {bits}",
        min = MIN_RECOVERY_KEY_BITS,
        max = MAX_RECOVERY_KEY_BITS
    )]
    KeySize {
        /// Length of the modulus.
        bits: usize,
    },
}

impl PemError {
    /// What the author of the manifest can do; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoBlock { escaped_line_ends: true, .. } => {
                Some("the text contains a backslash and the letter n instead of line ends: it was escaped twice")
            }
            Self::Label { got, .. } | Self::NotACertificate { label: got } if got.contains("PRIVATE KEY") => {
                Some("the first block is a private key: it must not be in a manifest; consider it compromised")
            }
            Self::Label { expected: "PUBLIC KEY", got } if got == "RSA PUBLIC KEY" => {
                Some("convert it: openssl rsa -RSAPublicKey_in -pubout")
            }
            _ => None,
        }
    }
}

/// A PEM block (RFC 7468), its content decoded.
struct Block {
    label: String,
    content: Vec<u8>,
}

/// The certificate of a user in DER form: the first PEM block of the text, whatever its label.
///
/// Text around the block, carriage returns, blanks at line ends, and lines of any length are accepted.
///
/// # Errors
///
/// If there is no block or it is not an X.509 certificate.
pub fn user_certificate(pem: &str) -> Result<Vec<u8>, PemError> {
    let block = first_block(pem, "CERTIFICATE")?;
    match CertificateInner::<Raw>::from_der(&block.content) {
        Ok(_) => Ok(block.content),
        Err(_) => Err(PemError::NotACertificate { label: block.label }),
    }
}

/// A recovery key as SubjectPublicKeyInfo in DER form: the first PEM block of the text.
///
/// # Errors
///
/// If the block is not labelled `PUBLIC KEY`, or is not an RSA key of [`MIN_RECOVERY_KEY_BITS`] to
/// [`MAX_RECOVERY_KEY_BITS`] bits.
pub fn recovery_key(pem: &str) -> Result<Vec<u8>, PemError> {
    let block = first_block(pem, "PUBLIC KEY")?;
    if block.label != "PUBLIC KEY" {
        return Err(PemError::Label { expected: "PUBLIC KEY", got: block.label });
    }
    let bits = rsa_modulus_bits(&block.content).ok_or(PemError::NotAnRsaKey)?;
    if !(MIN_RECOVERY_KEY_BITS..=MAX_RECOVERY_KEY_BITS).contains(&bits) {
        return Err(PemError::KeySize { bits });
    }
    Ok(block.content)
}

/// RSAPublicKey of RFC 8017 A.1.1.
#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    modulus: der::asn1::UintRef<'a>,
    public_exponent: der::asn1::UintRef<'a>,
}

fn rsa_modulus_bits(spki: &[u8]) -> Option<usize> {
    let info = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
    if info.algorithm.oid != RSA_ENCRYPTION {
        return None;
    }
    let key = RsaPublicKey::from_der(info.subject_public_key.as_bytes()?).ok()?;
    let modulus = key.modulus.as_bytes();
    let leading_zeros = modulus.first()?.leading_zeros() as usize;
    Some(modulus.len() * 8 - leading_zeros)
}

fn first_block(pem: &str, usual_label: &'static str) -> Result<Block, PemError> {
    let mut lines = pem.trim_start_matches('\u{feff}').lines().map(str::trim);
    let label = lines
        .by_ref()
        .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .ok_or_else(|| PemError::NoBlock { expected: usual_label, escaped_line_ends: pem.contains("\\n") })?;
    let label = crate::certificate::shorten(label);
    let end = format!("-----END {label}-----");
    let mut base64 = String::new();
    for line in lines {
        if line == end {
            return match decode_base64(&base64) {
                Some(content) => Ok(Block { label, content }),
                None => Err(PemError::Base64 { label }),
            };
        }
        // Header fields of the older form (RFC 1421), such as "Proc-Type: 4,ENCRYPTED".
        if !line.contains(':') {
            base64.push_str(line);
        }
    }
    Err(PemError::NoEnd { label })
}
