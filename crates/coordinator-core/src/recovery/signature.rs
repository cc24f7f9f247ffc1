//! Who agreed to a recovery: signatures of the parties over their secrets.
//!
//! RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 8.2) over the secret in plain form. Without them, anybody could make up a
//! state with a key of their own and have a genuine Coordinator serve it.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use marblerun_manifest::{Manifest, PemError, recovery_key};
use marblerun_secret::SecretBytes;
use thiserror::Error;

/// Recovery secrets with the signatures that came with them.
#[derive(Debug, Default)]
pub struct SignedShares(Vec<SignedShare>);

#[derive(Debug)]
struct SignedShare {
    secret: SecretBytes,
    signature: Vec<u8>,
}

/// Why a state that the secrets open is not given to those who sent them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// More or fewer parties than the manifest demands.
    #[error("expected recovery secrets of {expected} parties, as the manifest in the state demands, got {got}")]
    Number {
        /// How many the manifest demands.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// A secret is not signed by a party of the manifest, or not by one that signed no other.
    #[error("expected a signature by another recovery key of the manifest in the state for each recovery secret")]
    Signature,
    /// A key of the manifest cannot be read.
    #[error("RecoveryKeys.{name} of the manifest in the state")]
    Key {
        /// Name in the manifest.
        name: String,
        /// Why.
        #[source]
        source: PemError,
    },
}

impl SignedShares {
    pub(super) fn push(&mut self, secret: SecretBytes, signature: Vec<u8>) {
        self.0.push(SignedShare { secret, signature });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The secrets, in the order in which they came.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &SecretBytes> {
        self.0.iter().map(|share| &share.secret)
    }

    /// Whether as many parties of `manifest` signed as it demands: each one, or as many as its threshold says. It does
    /// not matter who signed which secret.
    ///
    /// # Errors
    ///
    /// See [`SignatureError`].
    pub fn verify(&self, manifest: &Manifest) -> Result<(), SignatureError> {
        let expected = match usize::try_from(manifest.config.recovery_threshold) {
            Ok(threshold @ 1..) => threshold,
            _ => manifest.recovery_keys.len(),
        };
        if self.0.len() != expected {
            return Err(SignatureError::Number { expected, got: self.0.len() });
        }
        let mut keys = manifest
            .recovery_keys
            .iter()
            .map(|(name, pem)| recovery_key(pem).map_err(|source| SignatureError::Key { name: name.clone(), source }))
            .collect::<Result<Vec<_>, _>>()?;
        for SignedShare { secret, signature } in &self.0 {
            let all = keys.iter().map(Vec::as_slice).enumerate();
            let signed = signer(all, secret, signature).ok_or(SignatureError::Signature)?;
            // Each key counts once.
            keys.swap_remove(signed);
        }
        Ok(())
    }
}

/// The first of `keys`, SubjectPublicKeyInfo (DER), that made `signature` over `secret`.
pub(super) fn signer<'a>(
    keys: impl IntoIterator<Item = (usize, &'a [u8])>,
    secret: &SecretBytes,
    signature: &[u8],
) -> Option<usize> {
    let made = |key: &[u8]| {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(secret.expose(), signature).is_ok()
    };
    keys.into_iter().find(|(_, key)| made(key)).map(|(number, _)| number)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};

    use super::*;

    pub(in super::super) struct Key(RsaKeyPair);

    /// Key pairs that all tests share, because making them takes long.
    pub(in super::super) fn keys() -> &'static [Key] {
        static KEYS: LazyLock<Vec<Key>> =
            LazyLock::new(|| (0..5).map(|_| Key(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())).collect());
        &KEYS
    }

    impl Key {
        pub(in super::super) fn public(&self) -> Vec<u8> {
            let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
            der.as_ref().to_vec()
        }

        pub(in super::super) fn sign(&self, secret: &[u8]) -> Vec<u8> {
            let mut signature = vec![0; self.0.public_modulus_len()];
            self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), secret, &mut signature).unwrap();
            signature
        }
    }

    /// A manifest with the first `count` keys.
    fn manifest(count: usize, threshold: u64) -> Manifest {
        let pem = |key: &Key| marblerun_pki::pem::encode("PUBLIC KEY", &key.public());
        let keys = keys()[..count].iter().enumerate().map(|(number, key)| (number.to_string(), pem(key)));
        let mut manifest = Manifest { recovery_keys: keys.collect(), ..Manifest::default() };
        manifest.config.recovery_threshold = threshold;
        manifest
    }

    /// One secret for each of `signers`.
    fn signed(signers: &[usize]) -> SignedShares {
        let mut shares = SignedShares::default();
        for (number, signer) in signers.iter().enumerate() {
            let secret = vec![u8::try_from(number).unwrap(); 32];
            let signature = keys()[*signer].sign(&secret);
            shares.push(SecretBytes::new(secret), signature);
        }
        shares
    }

    #[track_caller]
    fn check(manifest: &Manifest, signers: &[usize], expected: Result<(), &str>) {
        let verified = signed(signers).verify(manifest).map_err(|error| error.to_string());
        assert_eq!(verified, expected.map_err(str::to_owned), "{signers:?}");
    }

    const SIGNATURE: Result<(), &str> =
        Err("expected a signature by another recovery key of the manifest in the state for each recovery secret");

    fn number(expected: usize, got: usize) -> String {
        format!("expected recovery secrets of {expected} parties, as the manifest in the state demands, got {got}")
    }

    // rules: STA-3.8
    #[test]
    fn without_a_threshold_every_party_must_have_signed() {
        for threshold in [0, 3] {
            let manifest = manifest(3, threshold);
            check(&manifest, &[0, 1, 2], Ok(()));
            check(&manifest, &[2, 0, 1], Ok(()));
            check(&manifest, &[0, 1, 1], SIGNATURE);
            check(&manifest, &[0, 1, 4], SIGNATURE);
            check(&manifest, &[0, 1], Err(&number(3, 2)));
            check(&manifest, &[0, 1, 2, 2], Err(&number(3, 4)));
        }
        check(&manifest(1, 0), &[0], Ok(()));
        check(&manifest(1, 0), &[1], SIGNATURE);
    }

    // rules: STA-3.8
    #[test]
    fn with_a_threshold_so_many_different_parties_must_have_signed() {
        let manifest = manifest(3, 2);
        check(&manifest, &[0, 1], Ok(()));
        check(&manifest, &[2, 1], Ok(()));
        check(&manifest, &[1, 1], SIGNATURE);
        check(&manifest, &[1, 3], SIGNATURE);
        check(&manifest, &[1], Err(&number(2, 1)));
        check(&manifest, &[0, 1, 2], Err(&number(2, 3)));
    }

    #[test]
    fn a_key_that_cannot_be_read_is_not_passed_over() {
        let mut manifest = manifest(2, 2);
        manifest.recovery_keys.insert("bad".to_owned(), "no key".to_owned());
        check(&manifest, &[0, 1], Err("RecoveryKeys.bad of the manifest in the state"));
    }

    #[test]
    fn a_manifest_without_recovery_keys_gives_its_state_to_nobody() {
        check(&manifest(0, 0), &[0], Err(&number(0, 1)));
    }
}
