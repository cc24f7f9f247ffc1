//! The P-384 key pair of the Coordinator's CAs, of Marbles and of the premain.

use std::fmt;

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use marblerun_secret::SecretBytes;

/// Length of a SHA-384 digest and of the order of P-384, in bytes.
const P384_BYTES: usize = 48;

/// Longest PKCS#8 key that is read: a P-384 key takes 185 bytes, attributes may add some.
const MAX_PKCS8_BYTES: usize = 4096;

/// Why a key could not be made or used.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The provider could not make a key: no randomness or no memory.
    #[error("the cryptographic provider could not generate a key")]
    Generate,
    /// The bytes are not a P-384 private key in PKCS#8.
    #[error("expected an ECDSA P-384 private key as PKCS#8 DER, got {got_bytes} bytes that are none")]
    NotP384Pkcs8 {
        /// Length of what came; the bytes themselves might be a secret.
        got_bytes: usize,
    },
    /// The provider could not encode the key.
    #[error("the cryptographic provider could not encode a key")]
    Encode,
    /// The provider could not sign.
    #[error("the cryptographic provider could not sign")]
    Sign,
}

/// An ECDSA P-384 key pair.
pub struct KeyPair {
    pair: EcdsaKeyPair,
    public_key_der: Vec<u8>,
}

impl KeyPair {
    /// A new random key pair.
    ///
    /// # Errors
    ///
    /// [`KeyError::Generate`] or [`KeyError::Encode`] if the provider fails.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map_err(|_| KeyError::Generate)?;
        Self::from_pair(pair)
    }

    /// Reads an unencrypted PKCS#8 key; the public key is derived where the encoding leaves it out.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotP384Pkcs8`] for anything that is not a valid P-384 key.
    pub fn from_pkcs8(pkcs8: &SecretBytes) -> Result<Self, KeyError> {
        let refused = KeyError::NotP384Pkcs8 { got_bytes: pkcs8.len() };
        if pkcs8.len() > MAX_PKCS8_BYTES {
            return Err(refused);
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8.expose()).map_err(|_| refused)?;
        Self::from_pair(pair)
    }

    fn from_pair(pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| KeyError::Encode)?;
        let public_key_der = der.as_ref().to_vec();
        Ok(Self { pair, public_key_der })
    }

    /// The private key as PKCS#8 DER (RFC 5208, version 0, with public key), 185 bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError::Encode`] if the provider fails.
    pub fn to_pkcs8(&self) -> Result<SecretBytes, KeyError> {
        let document = self.pair.to_pkcs8v1().map_err(|_| KeyError::Encode)?;
        Ok(SecretBytes::copy_from(document.as_ref()))
    }

    /// The public key as DER SubjectPublicKeyInfo (PKIX), 120 bytes.
    pub fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }

    /// The private scalar, 48 bytes big-endian: the input key of derived secrets in states without a root secret.
    ///
    /// # Errors
    ///
    /// [`KeyError::Encode`] if the provider fails.
    pub fn private_scalar(&self) -> Result<SecretBytes, KeyError> {
        use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
        let scalar: EcPrivateKeyBin<'_> = self.pair.private_key().as_be_bytes().map_err(|_| KeyError::Encode)?;
        Ok(SecretBytes::copy_from(scalar.as_ref()))
    }

    /// Signs `message` as ecdsa-with-SHA384; the result is the DER of RFC 3279 2.2.3.
    ///
    /// # Errors
    ///
    /// [`KeyError::Sign`] if the provider fails.
    pub fn sign_sha384(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }

    /// Signs `message` as ecdsa-with-SHA256, as the manifest signature is.
    ///
    /// # Errors
    ///
    /// [`KeyError::Sign`] if the provider fails.
    pub fn sign_sha256(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.sign_truncated(digest::digest(&digest::SHA256, message).as_ref())
    }

    /// Signs a SHA-256 `digest` that was computed elsewhere, as ecdsa-with-SHA256.
    ///
    /// # Errors
    ///
    /// [`KeyError::Sign`] if the provider fails.
    pub fn sign_sha256_digest(&self, digest: &[u8; 32]) -> Result<Vec<u8>, KeyError> {
        self.sign_truncated(digest)
    }

    /// Signs `message` as ecdsa-with-SHA512.
    ///
    /// # Errors
    ///
    /// [`KeyError::Sign`] if the provider fails.
    pub fn sign_sha512(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.sign_truncated(digest::digest(&digest::SHA512, message).as_ref())
    }

    /// Signs a digest of any length.
    ///
    /// ECDSA signs an integer (FIPS 186-5 6.4.1): the leftmost 384 bits of a longer digest, a shorter one as the same
    /// number. So a digest that is cut, or padded with zeros in front, to the length of SHA-384 gives the very
    /// signature that the other hash would; the provider offers P-384 with SHA-384 only.
    fn sign_truncated(&self, digest: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut padded = [0; P384_BYTES];
        let used = &digest[..digest.len().min(P384_BYTES)];
        padded[P384_BYTES - used.len()..].copy_from_slice(used);
        let digest = Digest::import_less_safe(&padded, &digest::SHA384).map_err(|_| KeyError::Sign)?;
        let signature = self.pair.sign_digest(&digest).map_err(|_| KeyError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{verify_p384_sha256, verify_x509};

    #[test]
    fn a_key_survives_pkcs8() {
        let key = KeyPair::generate().unwrap();
        let again = KeyPair::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(again.public_key_der(), key.public_key_der());
        assert_eq!((key.to_pkcs8().unwrap().len(), key.public_key_der().len()), (185, 120));
        assert_eq!(key.private_scalar().unwrap().len(), 48);
    }

    #[test]
    fn a_key_of_another_curve_is_refused() {
        let other = crate::generated::GeneratedKey::generate(crate::generated::KeyKind::P256).unwrap();
        let error = KeyPair::from_pkcs8(&other.private).unwrap_err();
        assert_eq!(error.to_string(), "expected an ECDSA P-384 private key as PKCS#8 DER, got 138 bytes that are none");
    }

    #[test]
    fn overlong_key_files_are_refused() {
        let mut bytes = KeyPair::generate().unwrap().to_pkcs8().unwrap().expose().to_vec();
        bytes.resize(MAX_PKCS8_BYTES + 1, 0);
        assert!(matches!(KeyPair::from_pkcs8(&SecretBytes::new(bytes)), Err(KeyError::NotP384Pkcs8 { .. })));
    }

    #[test]
    fn debug_output_does_not_contain_the_key() {
        assert_eq!(format!("{:?}", KeyPair::generate().unwrap()), "KeyPair([redacted])");
    }

    #[test]
    fn signatures_verify_with_the_hash_they_name() {
        let key = KeyPair::generate().unwrap();
        let spki = key.public_key_der();
        let algorithm = |oid: const_oid::ObjectIdentifier| der::Encode::to_der(&oid).unwrap();
        verify_x509(spki, &algorithm(crate::oid::ECDSA_SHA256), b"m", &key.sign_sha256(b"m").unwrap()).unwrap();
        verify_x509(spki, &algorithm(crate::oid::ECDSA_SHA384), b"m", &key.sign_sha384(b"m").unwrap()).unwrap();
        verify_x509(spki, &algorithm(crate::oid::ECDSA_SHA512), b"m", &key.sign_sha512(b"m").unwrap()).unwrap();
        verify_p384_sha256(spki, b"m", &key.sign_sha256(b"m").unwrap()).unwrap();
        let digest = digest::digest(&digest::SHA256, b"m").as_ref().try_into().unwrap();
        verify_p384_sha256(spki, b"m", &key.sign_sha256_digest(&digest).unwrap()).unwrap();
        assert!(verify_p384_sha256(spki, b"n", &key.sign_sha256(b"m").unwrap()).is_err());
    }
}
