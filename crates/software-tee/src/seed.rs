//! The seed, the only secret of a development root, and the keys that derive from it.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, Signature,
};
use aws_lc_rs::{agreement, hkdf, rand};
use marblerun_secret::SecretBytes;

use crate::error::IssueError;

/// Separates these derivations from every other use of HKDF in the product.
const DOMAIN: &[u8] = b"MarbleRun Software TEE, NOT HARDWARE, v1";

/// 32 random bytes from which every key of a development root derives by label.
///
/// Derivation instead of stored keys lets several processes share one root without a server: all of them have the same
/// keys as soon as they have read the same file.
pub(crate) struct Seed(SecretBytes);

impl Seed {
    pub(crate) const LEN: usize = 32;

    pub(crate) fn generate() -> Result<Self, IssueError> {
        let mut bytes = vec![0; Self::LEN];
        rand::fill(&mut bytes).map_err(IssueError::crypto("drawing a seed"))?;
        Ok(Self(SecretBytes::new(bytes)))
    }

    /// Takes `bytes` as the seed if they have the right length.
    pub(crate) fn from_bytes(bytes: SecretBytes) -> Option<Self> {
        (bytes.len() == Self::LEN).then_some(Self(bytes))
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// `len` bytes of HKDF-SHA256 over the seed (RFC 5869), bound to `label` and `context`.
    ///
    /// Labels are constants of this crate and hold no zero byte, so that no label with its context reads like another.
    pub(crate) fn derive(&self, label: &str, context: &[u8], len: usize) -> Result<SecretBytes, IssueError> {
        struct Len(usize);
        impl hkdf::KeyType for Len {
            fn len(&self) -> usize {
                self.0
            }
        }

        let mut bytes = vec![0; len];
        hkdf::Salt::new(hkdf::HKDF_SHA256, DOMAIN)
            .extract(self.0.expose())
            .expand(&[label.as_bytes(), &[0], context], Len(len))
            .and_then(|okm| okm.fill(&mut bytes))
            .map_err(IssueError::crypto("deriving a key from the seed"))?;
        Ok(SecretBytes::new(bytes))
    }

    /// The P-256 key of `label`.
    ///
    /// A derived scalar is a valid private key unless it is zero or not below the group order, about once in 2^32; the
    /// next counter is taken then.
    pub(crate) fn signing_key(&self, label: &str) -> Result<SigningKey, IssueError> {
        for counter in 0..=u8::MAX {
            let scalar = self.derive(label, &[counter], 32)?;
            let Ok(private) = agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, scalar.expose()) else {
                continue;
            };
            let public = private.compute_public_key().map_err(IssueError::crypto("computing a public key"))?;
            return SigningKey::new(scalar.expose(), public.as_ref());
        }
        Err(IssueError::Crypto { doing: "deriving a P-256 key from the seed" })
    }
}

/// A P-256 key that signs certificates (ASN.1 form) as well as quotes and JSON (`r || s`).
pub(crate) struct SigningKey {
    asn1: EcdsaKeyPair,
    fixed: EcdsaKeyPair,
}

impl SigningKey {
    fn new(private: &[u8], public: &[u8]) -> Result<Self, IssueError> {
        let import = |algorithm| {
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public)
                .map_err(|_| IssueError::Crypto { doing: "importing a derived P-256 key" })
        };
        Ok(Self { asn1: import(&ECDSA_P256_SHA256_ASN1_SIGNING)?, fixed: import(&ECDSA_P256_SHA256_FIXED_SIGNING)? })
    }

    /// `x || y`, big-endian, without the leading 0x04 of the uncompressed form.
    pub(crate) fn public_point(&self) -> &[u8] {
        &self.fixed.public_key().as_ref()[1..]
    }

    /// DER of the SubjectPublicKeyInfo (RFC 5280 4.1.2.7).
    pub(crate) fn public_key_info(&self) -> Result<PublicKeyX509Der<'static>, IssueError> {
        self.asn1.public_key().as_der().map_err(IssueError::crypto("encoding a public key"))
    }

    /// ECDSA-Sig-Value in DER, as certificates carry it (RFC 3279 2.2.3).
    pub(crate) fn sign_asn1(&self, message: &[u8]) -> Result<Signature, IssueError> {
        self.asn1.sign(&rand::SystemRandom::new(), message).map_err(IssueError::crypto("signing"))
    }

    /// 64 bytes `r || s`, as quotes and collateral carry it.
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Result<Signature, IssueError> {
        self.fixed.sign(&rand::SystemRandom::new(), message).map_err(IssueError::crypto("signing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(byte: u8) -> Seed {
        Seed::from_bytes(SecretBytes::copy_from(&[byte; Seed::LEN])).unwrap()
    }

    #[test]
    fn the_same_seed_and_label_give_the_same_key_and_others_give_another() {
        let key = |byte, label| seed(byte).signing_key(label).unwrap().public_point().to_vec();
        assert_eq!(key(1, "root"), key(1, "root"));
        assert_ne!(key(1, "root"), key(1, "pck"));
        assert_ne!(key(1, "root"), key(2, "root"));
        assert_eq!(key(1, "root").len(), 64);
    }

    #[test]
    fn label_and_context_cannot_be_shifted_into_each_other() {
        let derive = |label, context: &[u8]| seed(1).derive(label, context, 16).unwrap().expose().to_vec();
        assert_ne!(derive("ab", b"c"), derive("a", b"bc"));
        assert_eq!(derive("ab", b"c"), derive("ab", b"c"));
    }

    #[test]
    fn a_seed_of_another_length_is_refused() {
        assert!(Seed::from_bytes(SecretBytes::copy_from(&[1; 31])).is_none());
        assert!(Seed::from_bytes(SecretBytes::copy_from(&[1; 33])).is_none());
    }
}
