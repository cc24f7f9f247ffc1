//! Key pairs of certificate secrets.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use marblerun_secret::SecretBytes;

use crate::key::KeyError;

/// The key pairs that can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA, 2048-bit modulus, e = 65537.
    Rsa2048,
    /// RSA, 3072-bit modulus, e = 65537.
    Rsa3072,
    /// RSA, 4096-bit modulus, e = 65537.
    Rsa4096,
    /// RSA, 8192-bit modulus, e = 65537; takes seconds to generate.
    Rsa8192,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519.
    Ed25519,
}

/// A size that no generated key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a size of {expected} bits for this type of key, got {got}")]
pub struct KeySizeError {
    expected: &'static str,
    got: u64,
}

impl KeyKind {
    /// The RSA kind with this modulus length in bits.
    ///
    /// # Errors
    ///
    /// For other sizes than 2048, 3072, 4096 and 8192.
    pub fn rsa(bits: u64) -> Result<Self, KeySizeError> {
        match bits {
            2048 => Ok(Self::Rsa2048),
            3072 => Ok(Self::Rsa3072),
            4096 => Ok(Self::Rsa4096),
            8192 => Ok(Self::Rsa8192),
            got => Err(KeySizeError { expected: "2048, 3072, 4096 or 8192", got }),
        }
    }

    /// The ECDSA kind with this field size in bits.
    ///
    /// # Errors
    ///
    /// For other sizes than 256, 384 and 521.
    pub fn ecdsa(bits: u64) -> Result<Self, KeySizeError> {
        match bits {
            256 => Ok(Self::P256),
            384 => Ok(Self::P384),
            521 => Ok(Self::P521),
            got => Err(KeySizeError { expected: "256, 384 or 521", got }),
        }
    }
}

/// A generated key pair in the encodings that Marbles receive.
#[derive(Debug)]
pub struct GeneratedKey {
    /// PKCS#8 DER.
    pub private: SecretBytes,
    /// DER SubjectPublicKeyInfo (PKIX).
    pub public: Vec<u8>,
}

impl GeneratedKey {
    /// Generates a key pair; RSA takes from tens of milliseconds to many seconds of CPU time.
    ///
    /// # Errors
    ///
    /// [`KeyError::Generate`] or [`KeyError::Encode`] if the provider fails.
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        match kind {
            KeyKind::Rsa2048 => rsa_pair(rsa::KeySize::Rsa2048),
            KeyKind::Rsa3072 => rsa_pair(rsa::KeySize::Rsa3072),
            KeyKind::Rsa4096 => rsa_pair(rsa::KeySize::Rsa4096),
            KeyKind::Rsa8192 => rsa_pair(rsa::KeySize::Rsa8192),
            KeyKind::P256 => ecdsa_pair(&ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyKind::P384 => ecdsa_pair(&ECDSA_P384_SHA384_ASN1_SIGNING),
            KeyKind::P521 => ecdsa_pair(&ECDSA_P521_SHA512_ASN1_SIGNING),
            KeyKind::Ed25519 => ed25519_pair(),
        }
    }
}

fn rsa_pair(size: rsa::KeySize) -> Result<GeneratedKey, KeyError> {
    let pair = rsa::KeyPair::generate(size).map_err(|_| KeyError::Generate)?;
    let private: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::Encode)?;
    encoded(private.as_ref(), pair.public_key().as_der())
}

fn ecdsa_pair(algorithm: &'static EcdsaSigningAlgorithm) -> Result<GeneratedKey, KeyError> {
    let pair = EcdsaKeyPair::generate(algorithm).map_err(|_| KeyError::Generate)?;
    let private = pair.to_pkcs8v1().map_err(|_| KeyError::Encode)?;
    encoded(private.as_ref(), pair.public_key().as_der())
}

fn ed25519_pair() -> Result<GeneratedKey, KeyError> {
    let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Generate)?;
    let private = pair.to_pkcs8v1().map_err(|_| KeyError::Encode)?;
    encoded(private.as_ref(), pair.public_key().as_der())
}

fn encoded(
    private: &[u8],
    public: Result<PublicKeyX509Der<'_>, aws_lc_rs::error::Unspecified>,
) -> Result<GeneratedKey, KeyError> {
    let public = public.map_err(|_| KeyError::Encode)?;
    Ok(GeneratedKey { private: SecretBytes::copy_from(private), public: public.as_ref().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    // rules: SAFE-13, ACT-5.3
    #[test]
    fn sizes_that_cannot_be_generated_are_refused_with_the_legal_ones() {
        for bits in [0, 512, 1024, 2047, 16384] {
            let text = format!("expected a size of 2048, 3072, 4096 or 8192 bits for this type of key, got {bits}");
            assert_eq!(KeyKind::rsa(bits).unwrap_err().to_string(), text);
        }
        for bits in [0, 224, 255, 512] {
            let text = format!("expected a size of 256, 384 or 521 bits for this type of key, got {bits}");
            assert_eq!(KeyKind::ecdsa(bits).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn encodings_have_the_lengths_that_go_produces() {
        for (kind, private, public) in
            [(KeyKind::P256, 138, 91), (KeyKind::P384, 185, 120), (KeyKind::P521, 241, 158), (KeyKind::Ed25519, 48, 44)]
        {
            let key = GeneratedKey::generate(kind).unwrap();
            assert_eq!((key.private.len(), key.public.len()), (private, public), "{kind:?}");
        }
    }
}
