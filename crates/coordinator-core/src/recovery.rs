//! Recovery secrets: shares of a key that opens the sealed state where its seal key is lost.
//!
//! One recovery key gets the key itself, all-of-n gets XOR shares, a threshold below n gets Shamir shares over GF(2^8)
//! with the polynomial 0x11B. Each share is encrypted to its party with RSA-OAEP (SHA-256, empty label).

use std::collections::BTreeMap;
use std::convert::Infallible;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use blahaj::Sharks;
use marblerun_secret::SecretBytes;
use rand_core::{TryCryptoRng, TryRng};
use thiserror::Error;
use zeroize::Zeroize;

/// Bytes of the key that the shares make.
pub const KEY_LEN: usize = 32;
/// Shamir's scheme over GF(2^8) has one share per non-zero field element.
const MAX_SHAMIR_SHARES: usize = 255;

/// A fresh recovery key and what each party gets of it.
#[derive(Debug)]
pub struct RecoverySecrets {
    /// The key that the state is to be wrapped for.
    pub key: SecretBytes,
    /// How the shares make the key.
    pub scheme: Scheme,
    /// For each party its share, encrypted to it. Given out once.
    pub encrypted: BTreeMap<String, Vec<u8>>,
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
    /// Shamir's scheme has no more shares.
    #[error("RecoveryKeys: expected at most {MAX_SHAMIR_SHARES} keys with a threshold, got {got}")]
    TooManyShares {
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
    let encrypted = keys
        .iter()
        .zip(&shares)
        .map(|((name, public_key), share)| Ok((name.clone(), encrypt(name, public_key, share)?)))
        .collect::<Result<_, _>>()?;
    Ok(Some(RecoverySecrets { key, scheme, encrypted }))
}

fn scheme(keys: usize, threshold: u64) -> Result<Option<Scheme>, RecoveryError> {
    match (keys, threshold) {
        (0, 0) => Ok(None),
        (1, 0) => Ok(Some(Scheme::Single)),
        (shares, 0) => Ok(Some(Scheme::AllOf { shares })),
        (shares, all) if all == shares as u64 && shares > 1 => Ok(Some(Scheme::AllOf { shares })),
        (shares, some) if some >= 2 && some < shares as u64 => match u8::try_from(some) {
            Ok(threshold) if shares <= MAX_SHAMIR_SHARES => Ok(Some(Scheme::Threshold { threshold, shares })),
            _ => Err(RecoveryError::TooManyShares { got: shares }),
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
            let mut key = vec![0; KEY_LEN];
            for share in &shares {
                key.iter_mut().zip(share.expose()).for_each(|(byte, other)| *byte ^= other);
            }
            Ok((SecretBytes::new(key), shares))
        }
        Scheme::Threshold { threshold, shares } => {
            let key = random_key()?;
            let mut random = ProviderRandom::default();
            let dealt = Sharks(threshold).dealer_rng(key.expose(), &mut random);
            let shares = dealt.take(shares).map(|share| share_bytes(&share)).collect();
            if random.failed { Err(RecoveryError::Random) } else { Ok((key, shares)) }
        }
    }
}

/// The form on paper: the values for all bytes of the key, then x. The library puts x first.
fn share_bytes(share: &blahaj::Share) -> SecretBytes {
    let mut bytes = Vec::from(share);
    bytes.rotate_left(1);
    SecretBytes::new(bytes)
}

fn random_key() -> Result<SecretBytes, RecoveryError> {
    let mut key = [0; KEY_LEN];
    SystemRandom::new().fill(&mut key).map_err(|_| RecoveryError::Random)?;
    let secret = SecretBytes::copy_from(&key);
    key.zeroize();
    Ok(secret)
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

/// The provider's generator, for a library that wants Rust's trait. The trait has no failure, so it is noted here.
#[derive(Default)]
struct ProviderRandom {
    failed: bool,
}

impl TryRng for ProviderRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.failed |= SystemRandom::new().fill(bytes).is_err();
        Ok(())
    }
}

impl TryCryptoRng for ProviderRandom {}

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
        assert!(matches!(scheme(256, 2), Err(RecoveryError::TooManyShares { got: 256 })));
    }

    #[test]
    fn the_xor_of_all_shares_is_the_key() {
        let (key, shares) = split(Scheme::AllOf { shares: 3 }).unwrap();
        let mut sum = [0; KEY_LEN];
        for share in &shares {
            sum.iter_mut().zip(share.expose()).for_each(|(byte, other)| *byte ^= other);
        }
        assert_eq!(sum, key.expose());
    }

    /// Multiplication in GF(2^8) with 0x11B, written out to check the library against the definition.
    fn multiply(mut a: u8, mut b: u8) -> u8 {
        let mut product = 0;
        while b > 0 {
            if b & 1 == 1 {
                product ^= a;
            }
            a = if a & 0x80 == 0 { a << 1 } else { (a << 1) ^ 0x1b };
            b >>= 1;
        }
        product
    }

    fn interpolate(shares: &[&[u8]]) -> Vec<u8> {
        let inverse = |a: u8| (1..=255).find(|b| multiply(a, *b) == 1).unwrap();
        (0..KEY_LEN)
            .map(|i| {
                shares.iter().fold(0, |sum, share| {
                    let x = share[KEY_LEN];
                    let factor = shares.iter().map(|other| other[KEY_LEN]).filter(|other| *other != x);
                    let factor = factor.fold(1, |product, other| multiply(product, multiply(other, inverse(other ^ x))));
                    sum ^ multiply(share[i], factor)
                })
            })
            .collect()
    }

    #[test]
    fn known_shamir_shares_give_their_key() {
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        let first = [&[0x99; 32][..], &[1]].concat();
        let second = hex::decode("a3a6a9acb7b2bdb88b8e81849f9a9590f3f6f9fce7e2ede8dbded1d4cfcac5c002").unwrap();
        let last = hex::decode("9d8fb9abd5c7f1e30d1f293b45576173a6b48290eefccad8362412007e6c5a48ff").unwrap();
        let key: Vec<u8> = (0..32).collect();
        assert_eq!(interpolate(&[&first, &second, &last]), key);
    }

    #[test]
    fn any_threshold_of_shamir_shares_makes_the_key_and_fewer_do_not() {
        let (key, shares) = split(Scheme::Threshold { threshold: 2, shares: 3 }).unwrap();
        assert!(shares.iter().all(|share| share.len() == KEY_LEN + 1));
        let shares: Vec<&[u8]> = shares.iter().map(SecretBytes::expose).collect();
        for pair in [[0, 1], [0, 2], [2, 1]] {
            assert_eq!(interpolate(&pair.map(|i| shares[i])), key.expose());
        }
        assert_ne!(interpolate(&[shares[0]]), key.expose());
    }

    #[test]
    fn a_party_decrypts_its_share_with_its_private_key() {
        use aws_lc_rs::encoding::AsDer as _;
        use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let public = private.public_key().as_der().unwrap().as_ref().to_vec();
        let secrets = make(&BTreeMap::from([("ops".to_owned(), public)]), 0).unwrap().unwrap();
        let private = OaepPrivateDecryptingKey::new(private).unwrap();
        let mut plain = vec![0; private.min_output_size()];
        let share = private.decrypt(&OAEP_SHA256_MGF1SHA256, &secrets.encrypted["ops"], &mut plain, None).unwrap();
        assert_eq!(share, secrets.key.expose());
    }

    #[test]
    fn a_key_that_is_not_rsa_is_refused_with_its_name() {
        let error = make(&BTreeMap::from([("ops".to_owned(), vec![0x30, 0])]), 0).unwrap_err();
        assert!(error.to_string().starts_with("RecoveryKeys.ops:"), "{error}");
    }
}
