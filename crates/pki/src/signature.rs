//! Checking signatures with a raw public key, so that nothing else of a certificate has to please anyone.

use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::RawPublicKeyEntity;
use webpki::aws_lc_rs as algorithms;

use crate::asn1;

/// Why a signature was not accepted.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key is not a well-formed SubjectPublicKeyInfo.
    #[error("expected a DER SubjectPublicKeyInfo as public key")]
    PublicKey,
    /// The algorithm is unknown or does not fit to the key.
    #[error(
        "expected RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, each with SHA-256, SHA-384 or SHA-512, or \
         Ed25519, got another algorithm or one that does not fit the public key"
    )]
    Algorithm,
    /// The signature is not the key's over this message.
    #[error("the signature does not verify with the public key")]
    Invalid,
}

/// Signature algorithms of certificates and requests (RFC 3279, 4055, 5758, 8410).
static X509_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P384_SHA512,
    algorithms::ECDSA_P521_SHA256,
    algorithms::ECDSA_P521_SHA384,
    algorithms::ECDSA_P521_SHA512,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    algorithms::ED25519,
];

/// Verifies the signature of a certificate or request.
///
/// `public_key_der` is a SubjectPublicKeyInfo, `algorithm` the *contents* of the AlgorithmIdentifier.
///
/// # Errors
///
/// See [`SignatureError`].
pub fn verify_x509(
    public_key_der: &[u8],
    algorithm: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let named = X509_ALGORITHMS.iter().copied().filter(|known| known.signature_alg_id().as_ref() == algorithm);
    verify_with(public_key_der, named, message, signature)
}

/// Verifies an ECDSA P-384 signature with SHA-256, as the manifest signature is.
///
/// # Errors
///
/// See [`SignatureError`].
pub fn verify_p384_sha256(public_key_der: &[u8], message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    verify_with(public_key_der, [algorithms::ECDSA_P384_SHA256], message, signature)
}

/// Verifies with the one of `candidates` that is for the key's algorithm.
pub(crate) fn verify_with(
    public_key_der: &[u8],
    candidates: impl IntoIterator<Item = &'static dyn SignatureVerificationAlgorithm>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let parts = asn1::sequence_elements(public_key_der).map_err(|_| SignatureError::PublicKey)?;
    let key_algorithm = parts.first().ok_or(SignatureError::PublicKey)?.value();
    let chosen = candidates
        .into_iter()
        .find(|candidate| candidate.public_key_alg_id().as_ref() == key_algorithm)
        .ok_or(SignatureError::Algorithm)?;
    let info = SubjectPublicKeyInfoDer::from(public_key_der);
    let key = RawPublicKeyEntity::try_from(&info).map_err(|_| SignatureError::PublicKey)?;
    key.verify_signature(chosen, message, signature).map_err(|_| SignatureError::Invalid)
}
