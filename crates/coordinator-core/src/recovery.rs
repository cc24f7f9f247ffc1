//! Recovery secrets: shares of a key that opens the sealed state where its seal key is lost.
//!
//! One recovery key gets the key itself, all-of-n gets XOR shares, a threshold below n gets Shamir shares over GF(2^8)
//! with the polynomial 0x11B. Each share is encrypted to its party with RSA-OAEP (SHA-256, empty label).
//! [`make`] splits a new key; [`Collector`] takes the shares back, one after the other.

mod collect;
mod shamir;
mod signature;

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use marblerun_secret::SecretBytes;
use thiserror::Error;
use zeroize::Zeroize;

pub use self::collect::{Accepted, CollectError, Collected, Collector, Progress};
pub use self::signature::{SignatureError, SignedShares};

/// Bytes of the key that the shares make.
pub const KEY_LEN: usize = 32;
/// Most parties of one deployment: what is stored for each of them has to stay small.
pub const MAX_SHARES: usize = 4096;

/// A fresh recovery key and what each party gets of it.
#[derive(Debug)]
pub struct RecoverySecrets {
    /// The key that the state is to be wrapped for.
    pub key: SecretBytes,
    /// How the shares make the key.
    pub scheme: Scheme,
    /// What is stored of each share, in the order of the parties' names.
    pub shares: Vec<PublicShare>,
    /// For each party its share, encrypted to it. Given out once.
    pub encrypted: BTreeMap<String, Vec<u8>>,
}

/// What may be known of a share: whose it is, and how to recognise it. Both are public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicShare {
    /// The party's SubjectPublicKeyInfo (DER).
    pub public_key: Vec<u8>,
    /// SHA-256 of the share in plain form.
    pub hash: [u8; 32],
}

/// How shares make the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// One party has the key.
    Single,
    /// The XOR of all shares is the key.
    AllOf {
        /// Number of shares.
        shares: usize,
    },
    /// Any `threshold` shares make the key.
    Threshold {
        /// How many are needed.
        threshold: u8,
        /// How many there are.
        shares: usize,
    },
}

/// Why recovery secrets cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The key is not one that can be encrypted to.
    #[error("RecoveryKeys.{name}: expected an RSA public key of at least 2048 bits, got one that cannot be used")]
    Key {
        /// Name in the manifest.
        name: String,
    },
    /// The scheme has no more shares.
    #[error("RecoveryKeys: expected at most {max} keys with this RecoveryThreshold, got {got}")]
    TooManyShares {
        /// The limit: lower with a threshold below the number of keys.
        max: usize,
        /// Number of keys.
        got: usize,
    },
    /// A threshold that the number of keys does not allow.
    #[error("Config.RecoveryThreshold: expected 0, or 2 to the number of keys ({keys}), got {threshold}")]
    Threshold {
        /// The threshold.
        threshold: u64,
        /// Number of keys.
        keys: usize,
    },
    /// The random number generator failed.
    #[error("no random numbers")]
    Random,
}

/// Makes a key and its shares for `keys`, SubjectPublicKeyInfo (DER) by party; `None` without keys.
///
/// # Errors
///
/// See [`RecoveryError`].
pub fn make(keys: &BTreeMap<String, Vec<u8>>, threshold: u64) -> Result<Option<RecoverySecrets>, RecoveryError> {
    let Some(scheme) = scheme(keys.len(), threshold)? else { return Ok(None) };
    let (key, shares) = split(scheme)?;
    let public = keys
        .values()
        .zip(&shares)
        .map(|(public_key, share)| PublicShare { public_key: public_key.clone(), hash: sha256(share.expose()) });
    let public = public.collect();
    let encrypted = keys
        .iter()
        .zip(&shares)
        .map(|((name, public_key), share)| Ok((name.clone(), encrypt(name, public_key, share)?)))
        .collect::<Result<_, _>>()?;
    Ok(Some(RecoverySecrets { key, scheme, shares: public, encrypted }))
}

fn scheme(keys: usize, threshold: u64) -> Result<Option<Scheme>, RecoveryError> {
    match (keys, threshold) {
        (0, 0) => Ok(None),
        (1, 0) => Ok(Some(Scheme::Single)),
        (shares, all) if shares > MAX_SHARES && (all == 0 || all == shares as u64) => {
            Err(RecoveryError::TooManyShares { max: MAX_SHARES, got: shares })
        }
        (shares, 0) => Ok(Some(Scheme::AllOf { shares })),
        (shares, all) if all == shares as u64 && shares > 1 => Ok(Some(Scheme::AllOf { shares })),
        (shares, some) if some >= 2 && some < shares as u64 => match u8::try_from(some) {
            Ok(threshold) if shares <= shamir::MAX_SHARES => Ok(Some(Scheme::Threshold { threshold, shares })),
            _ => Err(RecoveryError::TooManyShares { max: shamir::MAX_SHARES, got: shares }),
        },
        (keys, threshold) => Err(RecoveryError::Threshold { threshold, keys }),
    }
}

fn split(scheme: Scheme) -> Result<(SecretBytes, Vec<SecretBytes>), RecoveryError> {
    match scheme {
        Scheme::Single => {
            let key = random_key()?;
            let share = key.duplicate();
            Ok((key, vec![share]))
        }
        Scheme::AllOf { shares } => {
            let shares = (0..shares).map(|_| random_key()).collect::<Result<Vec<_>, _>>()?;
            Ok((collect::xor(shares.iter()), shares))
        }
        Scheme::Threshold { threshold, shares } => {
            let key = random_key()?;
            let shares = shamir::split(&key, threshold, shares).map_err(|_| RecoveryError::Random)?;
            Ok((key, shares))
        }
    }
}

fn random_key() -> Result<SecretBytes, RecoveryError> {
    let mut key = [0; KEY_LEN];
    SystemRandom::new().fill(&mut key).map_err(|_| RecoveryError::Random)?;
    let secret = SecretBytes::copy_from(&key);
    key.zeroize();
    Ok(secret)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

fn encrypt(name: &str, public_key: &[u8], share: &SecretBytes) -> Result<Vec<u8>, RecoveryError> {
    let unusable = || RecoveryError::Key { name: name.to_owned() };
    let key = PublicEncryptingKey::from_der(public_key).map_err(|_| unusable())?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| unusable())?;
    let mut ciphertext = vec![0; key.ciphertext_size()];
    let length =
        key.encrypt(&OAEP_SHA256_MGF1SHA256, share.expose(), &mut ciphertext, None).map_err(|_| unusable())?.len();
    ciphertext.truncate(length);
    Ok(ciphertext)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_scheme(keys: usize, threshold: u64, expected: Option<Scheme>) {
        assert_eq!(scheme(keys, threshold).unwrap(), expected, "{keys} keys, threshold {threshold}");
    }

    #[test]
    fn number_of_keys_and_threshold_choose_the_scheme() {
        check_scheme(0, 0, None);
        check_scheme(1, 0, Some(Scheme::Single));
        check_scheme(2, 0, Some(Scheme::AllOf { shares: 2 }));
        check_scheme(3, 3, Some(Scheme::AllOf { shares: 3 }));
        check_scheme(3, 2, Some(Scheme::Threshold { threshold: 2, shares: 3 }));
        for (keys, threshold) in [(0, 1), (1, 1), (3, 1), (3, 4)] {
            assert!(matches!(scheme(keys, threshold), Err(RecoveryError::Threshold { .. })), "{keys} {threshold}");
        }
        assert!(matches!(scheme(256, 2), Err(RecoveryError::TooManyShares { max: 255, got: 256 })));
        check_scheme(4096, 0, Some(Scheme::AllOf { shares: 4096 }));
        for threshold in [0, 4097] {
            let error = scheme(4097, threshold).unwrap_err();
            let expected = "RecoveryKeys: expected at most 4096 keys with this RecoveryThreshold, got 4097";
            assert_eq!(error.to_string(), expected);
        }
    }

    // rules: STA-3.2
    #[test]
    fn the_xor_of_all_shares_is_the_key() {
        let (key, shares) = split(Scheme::AllOf { shares: 3 }).unwrap();
        let mut sum = [0; KEY_LEN];
        for share in &shares {
            sum.iter_mut().zip(share.expose()).for_each(|(byte, other)| *byte ^= other);
        }
        assert_eq!(sum, key.expose());
    }

    // rules: STA-3.2, SET-3
    #[test]
    fn a_share_of_a_threshold_is_one_byte_longer_than_the_key() {
        let (key, shares) = split(Scheme::Threshold { threshold: 2, shares: 3 }).unwrap();
        assert_eq!((key.len(), shares.len()), (KEY_LEN, 3));
        assert!(shares.iter().all(|share| share.len() == KEY_LEN + 1));
    }

    // rules: STA-3.1, SET-3
    #[test]
    fn a_party_decrypts_its_share_with_its_private_key() {
        use aws_lc_rs::encoding::AsDer as _;
        use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let public = private.public_key().as_der().unwrap().as_ref().to_vec();
        let secrets = make(&BTreeMap::from([("ops".to_owned(), public.clone())]), 0).unwrap().unwrap();
        let private = OaepPrivateDecryptingKey::new(private).unwrap();
        let mut plain = vec![0; private.min_output_size()];
        let share = private.decrypt(&OAEP_SHA256_MGF1SHA256, &secrets.encrypted["ops"], &mut plain, None).unwrap();
        assert_eq!(share, secrets.key.expose());
        assert_eq!(secrets.shares, [PublicShare { hash: sha256(share), public_key: public }]);
    }

    #[test]
    fn a_key_that_is_not_rsa_is_refused_with_its_name() {
        let error = make(&BTreeMap::from([("ops".to_owned(), vec![0x30, 0])]), 0).unwrap_err();
        assert!(error.to_string().starts_with("RecoveryKeys.ops:"), "{error}");
    }
}
