//! The cryptography that cannot be avoided, measured with the library that the programs use.

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, KeyPair as _, UnparsedPublicKey,
};
use rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768;

use crate::timing::milliseconds;

/// As long as the signed part of a quote.
const MESSAGE: [u8; 432] = [7; 432];

/// ECDSA P-256 with SHA-256: verifying one signature, in milliseconds.
///
/// # Errors
///
/// If the library makes no key.
pub fn p256_verify() -> Result<f64> {
    let pair = generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
    verify(&pair, &ECDSA_P256_SHA256_ASN1)
}

/// Times of the operations of one activation on the Coordinator's side, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Activation {
    p256_verify: f64,
    p384_verify: f64,
    p384_sign: f64,
    p384_generate: f64,
    key_exchange: f64,
}

impl Activation {
    /// Measures them.
    ///
    /// # Errors
    ///
    /// If the library makes no key.
    pub fn measure() -> Result<Self> {
        let pair = generate(&ECDSA_P384_SHA384_ASN1_SIGNING)?;
        let random = SystemRandom::new();
        let client = X25519MLKEM768.start().context("key exchange")?;
        Ok(Self {
            p256_verify: p256_verify()?,
            p384_verify: verify(&pair, &ECDSA_P384_SHA384_ASN1)?,
            p384_sign: milliseconds(|| pair.sign(&random, &MESSAGE).is_ok()),
            p384_generate: milliseconds(|| EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).is_ok()),
            key_exchange: milliseconds(|| X25519MLKEM768.start_and_complete(client.pub_key()).is_ok()),
        })
    }

    /// The sum over one activation with a new connection.
    ///
    /// TLS 1.3: key exchange, the server's signature, the client's. Evidence with a kept PCK chain: two signatures.
    /// The certificate request's signature, the new key, the new certificate's signature.
    pub fn sum(&self) -> f64 {
        self.key_exchange + 2.0 * self.p384_sign + 2.0 * self.p384_verify + self.p384_generate + 2.0 * self.p256_verify
    }

    /// Each operation with its name.
    pub fn parts(&self) -> [(&'static str, f64); 5] {
        [
            ("ECDSA P-256, verify (2)", self.p256_verify),
            ("ECDSA P-384, verify (2)", self.p384_verify),
            ("ECDSA P-384, sign (2)", self.p384_sign),
            ("ECDSA P-384, new key (1)", self.p384_generate),
            ("X25519 and ML-KEM-768, server's side (1)", self.key_exchange),
        ]
    }
}

fn generate(algorithm: &'static EcdsaSigningAlgorithm) -> Result<EcdsaKeyPair> {
    EcdsaKeyPair::generate(algorithm).map_err(|_| anyhow!("no key pair"))
}

fn verify(pair: &EcdsaKeyPair, algorithm: &'static EcdsaVerificationAlgorithm) -> Result<f64> {
    let signature = pair.sign(&SystemRandom::new(), &MESSAGE).map_err(|_| anyhow!("no signature"))?;
    let point = pair.public_key().as_ref().to_vec();
    // The key comes as bytes with each message, so reading it is part of the work.
    Ok(milliseconds(|| UnparsedPublicKey::new(algorithm, &point).verify(&MESSAGE, signature.as_ref()).is_ok()))
}
