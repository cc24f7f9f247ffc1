//! Handshake signatures of TLS peers whose certificates need not please a path validator.
//!
//! A Coordinator knows its clients by the bytes of their certificate, and shows a CA certificate as its own leaf. So
//! both sides check possession of the key themselves: the key is taken out of the certificate however old or odd it
//! is, and only the signature counts.

use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs as algorithms;

use crate::certificate::{Certificate, CertificateError};
use crate::signature::{SignatureError, verify_with};

/// The protocol versions whose rules on signature schemes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 5246: an ECDSA scheme names the hash only, PKCS#1 v1.5 is allowed.
    Tls12,
    /// RFC 8446 4.2.3: an ECDSA scheme names the curve too, PKCS#1 v1.5 is for certificates only.
    Tls13,
}

/// Schemes that [`verify`] knows, as numbers of RFC 8446 4.2.3, in order of preference.
pub const SCHEMES: &[u16] = &[0x0503, 0x0403, 0x0603, 0x0807, 0x0806, 0x0805, 0x0804, 0x0601, 0x0501, 0x0401];

/// Why a handshake signature was not accepted.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// No public key could be read from the peer's certificate.
    #[error("the peer's certificate cannot be read")]
    Certificate(#[source] CertificateError),
    /// The peer does not hold the key of its certificate, or used an algorithm that we do not take.
    #[error("the peer's handshake signature (scheme {scheme:#06x}) was not accepted")]
    Signature {
        /// Number of RFC 8446 4.2.3.
        scheme: u16,
        /// The reason.
        #[source]
        reason: SignatureError,
    },
}

/// Verifies that the sender of `signature` over `message` holds the key of `certificate_der`.
///
/// Nothing else of the certificate is judged. `scheme` is the number of RFC 8446 4.2.3.
///
/// # Errors
///
/// See [`HandshakeError`].
pub fn verify(
    certificate_der: &[u8],
    scheme: u16,
    message: &[u8],
    signature: &[u8],
    version: Version,
) -> Result<(), HandshakeError> {
    let certificate = Certificate::parse(certificate_der).map_err(HandshakeError::Certificate)?;
    verify_with(certificate.public_key_der(), algorithms_of(scheme, version), message, signature)
        .map_err(|reason| HandshakeError::Signature { scheme, reason })
}

fn algorithms_of(scheme: u16, version: Version) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
    use Version::{Tls12, Tls13};
    match (scheme, version) {
        (0x0403, Tls13) => vec![algorithms::ECDSA_P256_SHA256],
        (0x0503, Tls13) => vec![algorithms::ECDSA_P384_SHA384],
        (0x0603, Tls13) => vec![algorithms::ECDSA_P521_SHA512],
        (0x0403, Tls12) => {
            vec![algorithms::ECDSA_P256_SHA256, algorithms::ECDSA_P384_SHA256, algorithms::ECDSA_P521_SHA256]
        }
        (0x0503, Tls12) => {
            vec![algorithms::ECDSA_P256_SHA384, algorithms::ECDSA_P384_SHA384, algorithms::ECDSA_P521_SHA384]
        }
        (0x0603, Tls12) => {
            vec![algorithms::ECDSA_P256_SHA512, algorithms::ECDSA_P384_SHA512, algorithms::ECDSA_P521_SHA512]
        }
        (0x0401, Tls12) => vec![algorithms::RSA_PKCS1_2048_8192_SHA256],
        (0x0501, Tls12) => vec![algorithms::RSA_PKCS1_2048_8192_SHA384],
        (0x0601, Tls12) => vec![algorithms::RSA_PKCS1_2048_8192_SHA512],
        (0x0804, _) => vec![algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
        (0x0805, _) => vec![algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
        (0x0806, _) => vec![algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
        (0x0807, _) => vec![algorithms::ED25519],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyPair;
    use crate::name::AltNames;
    use crate::profile::premain_certificate;
    use rustls_pki_types::UnixTime;
    use std::time::Duration;

    fn certificate(key: &KeyPair) -> Vec<u8> {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
        premain_certificate(key, &AltNames::default(), now).unwrap()
    }

    #[test]
    fn the_holder_of_the_key_is_believed_and_another_is_not() {
        let (key, thief) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let cert = certificate(&key);
        verify(&cert, 0x0503, b"m", &key.sign_sha384(b"m").unwrap(), Version::Tls13).unwrap();
        let refused = verify(&cert, 0x0503, b"m", &thief.sign_sha384(b"m").unwrap(), Version::Tls13).unwrap_err();
        assert_eq!(refused, HandshakeError::Signature { scheme: 0x0503, reason: SignatureError::Invalid });
    }

    #[test]
    fn tls13_demands_the_curve_that_the_scheme_names_and_tls12_does_not() {
        let key = KeyPair::generate().unwrap();
        let (cert, signature) = (certificate(&key), key.sign_sha256(b"m").unwrap());
        verify(&cert, 0x0403, b"m", &signature, Version::Tls12).unwrap();
        let refused = verify(&cert, 0x0403, b"m", &signature, Version::Tls13).unwrap_err();
        assert_eq!(refused, HandshakeError::Signature { scheme: 0x0403, reason: SignatureError::Algorithm });
    }

    #[test]
    fn every_offered_scheme_is_known_and_sha1_is_not() {
        for scheme in SCHEMES {
            assert!(!algorithms_of(*scheme, Version::Tls12).is_empty(), "{scheme:#x}");
        }
        assert!(algorithms_of(0x0203, Version::Tls12).is_empty());
        assert!(algorithms_of(0x0201, Version::Tls12).is_empty());
        assert!(algorithms_of(0x0401, Version::Tls13).is_empty());
    }
}
