//! Collecting recovery secrets until they make the key.
//!
//! What is known of them before comes from the untrusted disk, so it only tells early what cannot succeed. Whether the
//! parties agreed is decided by [`SignedShares::verify`], with the keys in the manifest that the state holds.

use std::fmt;

use marblerun_secret::SecretBytes;
use thiserror::Error;
use zeroize::Zeroizing;

use super::signature::{SignedShares, signer};
use super::{KEY_LEN, PublicShare, Scheme, sha256, shamir};

/// Takes one recovery secret after the other.
///
/// A wrong one is refused when it arrives and disturbs nothing. Memory is bounded by the number of shares, work per
/// secret by one signature check for each party.
pub struct Collector {
    scheme: Scheme,
    parties: Vec<Party>,
    collected: SignedShares,
}

struct Party {
    public: PublicShare,
    has_delivered: bool,
    has_signed: bool,
}

/// A secret that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Which share it is, from 0 in the order of the parties' names.
    pub share: usize,
    /// Whose key signed it, counted in the same way. Parties may sign for each other.
    pub signer: usize,
    /// What that leads to.
    pub progress: Progress,
}

/// How far the collection is.
#[derive(Debug)]
pub enum Progress {
    /// More secrets are needed; so many are still missing of all, as MarbleRun v1.9.1 counts also with a threshold.
    Remaining(usize),
    /// The key is complete, and the collection begins anew.
    Complete(Collected),
}

/// The key that the secrets made, and what shows that the parties wanted it.
#[derive(Debug)]
pub struct Collected {
    /// Opens the state, if nothing is wrong.
    pub key: SecretBytes,
    /// To be verified before the state is used.
    pub shares: SignedShares,
}

/// Why a recovery secret is refused.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CollectError {
    /// It is not of this scheme.
    #[error("expected a recovery secret of {expected} bytes, got {got}")]
    Length {
        /// Its length in this scheme.
        expected: usize,
        /// The length.
        got: usize,
    },
    /// Nobody has such a secret.
    #[error("expected one of the {shares} recovery secrets of this state, got another one")]
    Unknown {
        /// How many there are.
        shares: usize,
    },
    /// It came before.
    #[error("recovery secret {number} of {shares} was accepted before")]
    Repeated {
        /// Which one, from 1.
        number: usize,
        /// How many there are.
        shares: usize,
    },
    /// No party that has not signed yet made the signature.
    #[error("recovery secret {number} of {shares} has no signature by a recovery key that has not signed yet")]
    Signature {
        /// Which one, from 1.
        number: usize,
        /// How many there are.
        shares: usize,
    },
    /// The secrets make no key, although each was expected: the list of them was changed.
    #[error("the recovery secrets do not go together")]
    Contradiction,
}

impl CollectError {
    /// What the party can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Length { .. } => Some(
                "upload the secret as decrypted with the private recovery key, plain or encrypted to the key of \
                 GET /api/v2/recover/public-key",
            ),
            Self::Unknown { .. } => {
                Some("use the newest secrets: those of the manifest or update that changed them last")
            }
            Self::Repeated { .. } => Some("go on with the secret of another party"),
            Self::Signature { .. } => {
                Some("sign the plain secret with the own recovery key: RSASSA-PKCS1-v1_5 with SHA-256")
            }
            Self::Contradiction => Some("restore sealed_recovery from a backup and restart the Coordinator"),
        }
    }
}

impl Collector {
    /// Nothing is collected yet. `shares` are in the order of the parties' names.
    pub fn new(scheme: Scheme, shares: Vec<PublicShare>) -> Self {
        let party = |public| Party { public, has_delivered: false, has_signed: false };
        Self { scheme, parties: shares.into_iter().map(party).collect(), collected: SignedShares::default() }
    }

    /// How many shares there are.
    pub fn shares(&self) -> usize {
        self.parties.len()
    }

    /// How the shares make the key.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// SHA-256 of a party's public key, for logs.
    pub fn public_key_hash(&self, party: usize) -> Option<[u8; 32]> {
        self.parties.get(party).map(|party| sha256(&party.public.public_key))
    }

    /// Takes `secret` in plain form with its signature.
    ///
    /// # Errors
    ///
    /// If it is not a missing one, or nobody who has to sign signed it; what was collected stays.
    /// [`CollectError::Contradiction`] is the exception, after which the collection begins anew.
    pub fn accept(&mut self, secret: SecretBytes, signature: Vec<u8>) -> Result<Accepted, CollectError> {
        let expected = match self.scheme {
            Scheme::Single | Scheme::AllOf { .. } => KEY_LEN,
            Scheme::Threshold { .. } => KEY_LEN + 1,
        };
        if secret.len() != expected {
            return Err(CollectError::Length { expected, got: secret.len() });
        }
        let (hash, shares) = (sha256(secret.expose()), self.parties.len());
        let share = self.parties.iter().position(|party| party.public.hash == hash);
        let share = share.ok_or(CollectError::Unknown { shares })?;
        if self.parties[share].has_delivered {
            return Err(CollectError::Repeated { number: share + 1, shares });
        }
        // Most likely the holder signed.
        let (own, others) = (share..=share, (0..shares).filter(|party| *party != share));
        let unsigned = own.chain(others).filter(|party| !self.parties[*party].has_signed);
        let keys = unsigned.map(|party| (party, self.parties[party].public.public_key.as_slice()));
        let signer = signer(keys, &secret, &signature);
        let signer = signer.ok_or(CollectError::Signature { number: share + 1, shares })?;

        self.parties[share].has_delivered = true;
        self.parties[signer].has_signed = true;
        self.collected.push(secret, signature);
        Ok(Accepted { share, signer, progress: self.progress()? })
    }

    fn progress(&mut self) -> Result<Progress, CollectError> {
        let shares = self.parties.len();
        let needed = match self.scheme {
            Scheme::Single => 1,
            Scheme::AllOf { .. } => shares,
            Scheme::Threshold { threshold, .. } => usize::from(threshold),
        };
        if self.collected.len() < needed {
            return Ok(Progress::Remaining(shares - self.collected.len()));
        }
        for party in &mut self.parties {
            (party.has_delivered, party.has_signed) = (false, false);
        }
        let shares = std::mem::take(&mut self.collected);
        let key = self.combine(&shares).ok_or(CollectError::Contradiction)?;
        Ok(Progress::Complete(Collected { key, shares }))
    }

    fn combine(&self, shares: &SignedShares) -> Option<SecretBytes> {
        match self.scheme {
            Scheme::Single => shares.secrets().next().map(SecretBytes::duplicate),
            Scheme::AllOf { .. } => Some(xor(shares.secrets())),
            Scheme::Threshold { .. } => shamir::combine(&shares.secrets().collect::<Vec<_>>()),
        }
    }
}

/// Says nothing of what was collected.
impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let collected = self.collected.len();
        write!(f, "Collector {{ scheme: {:?}, collected: {collected} of {} }}", self.scheme, self.parties.len())
    }
}

/// The sum of secrets of [`KEY_LEN`] bytes.
pub(super) fn xor<'a>(secrets: impl Iterator<Item = &'a SecretBytes>) -> SecretBytes {
    let mut sum = Zeroizing::new([0; KEY_LEN]);
    for secret in secrets {
        sum.iter_mut().zip(secret.expose()).for_each(|(byte, other)| *byte ^= other);
    }
    SecretBytes::copy_from(&*sum)
}

#[cfg(test)]
mod tests {
    use super::super::signature::tests::{Key, keys};
    use super::super::split;
    use super::*;

    struct Parties {
        scheme: Scheme,
        key: SecretBytes,
        shares: Vec<SecretBytes>,
    }

    impl Parties {
        fn new(scheme: Scheme) -> Self {
            let (key, shares) = split(scheme).unwrap();
            Self { scheme, key, shares }
        }

        fn collector(&self) -> Collector {
            let public = |(share, key): (&SecretBytes, &Key)| PublicShare {
                public_key: key.public(),
                hash: sha256(share.expose()),
            };
            Collector::new(self.scheme, self.shares.iter().zip(keys()).map(public).collect())
        }

        /// Share `share`, signed by party `signer`.
        fn send(&self, collector: &mut Collector, share: usize, signer: usize) -> Result<Accepted, CollectError> {
            let secret = self.shares[share].duplicate();
            let signature = keys()[signer].sign(secret.expose());
            collector.accept(secret, signature)
        }

        #[track_caller]
        fn check(&self, collector: &mut Collector, order: &[usize], remaining: &[usize]) {
            for (share, expected) in order.iter().zip(remaining) {
                let accepted = self.send(collector, *share, *share).unwrap();
                assert_eq!((accepted.share, accepted.signer), (*share, *share));
                match accepted.progress {
                    Progress::Remaining(remaining) => assert_eq!(remaining, *expected),
                    Progress::Complete(Collected { key, shares }) => {
                        assert_eq!((0, key.expose(), shares.len()), (*expected, self.key.expose(), order.len()));
                    }
                }
            }
        }
    }

    const ALL: Scheme = Scheme::AllOf { shares: 3 };
    const SOME: Scheme = Scheme::Threshold { threshold: 2, shares: 3 };

    // rules: STA-3.5, STA-3.7, STA-3.13
    #[test]
    fn the_secrets_make_the_key_in_any_order_and_remaining_counts_from_all() {
        for (scheme, order, remaining) in [
            (Scheme::Single, &[0][..], &[0][..]),
            (ALL, &[0, 1, 2], &[2, 1, 0]),
            (ALL, &[2, 0, 1], &[2, 1, 0]),
            (SOME, &[0, 1], &[2, 0]),
            (SOME, &[2, 0], &[2, 0]),
            (Scheme::Threshold { threshold: 3, shares: 5 }, &[4, 1, 2], &[4, 3, 0]),
        ] {
            let parties = Parties::new(scheme);
            let mut collector = parties.collector();
            parties.check(&mut collector, order, remaining);
            // And it begins anew, because the key may turn out to open nothing.
            parties.check(&mut collector, order, remaining);
        }
    }

    // rules: SAFE-5, STA-3.7, STA-3.12, R30
    #[test]
    fn a_wrong_secret_is_refused_and_disturbs_nothing() {
        for (scheme, order, remaining) in
            [(Scheme::Single, &[0][..], &[0][..]), (ALL, &[0, 1, 2], &[2, 1, 0]), (SOME, &[1, 2], &[2, 0])]
        {
            let parties = Parties::new(scheme);
            let mut collector = parties.collector();
            let length = parties.shares[0].len();
            for (share, expected) in order.iter().zip(remaining) {
                let wrong = SecretBytes::new(vec![7; length]);
                let signature = keys()[*share].sign(wrong.expose());
                let error = collector.accept(wrong, signature).unwrap_err();
                assert_eq!(error, CollectError::Unknown { shares: parties.shares.len() });
                for got in [0, 16, 31, 34, 65 - length] {
                    let error = collector.accept(SecretBytes::new(vec![0; got]), Vec::new()).unwrap_err();
                    assert_eq!(error, CollectError::Length { expected: length, got });
                }
                parties.check(&mut collector, &[*share], &[*expected][..usize::from(*expected > 0)]);
            }
        }
    }

    // rules: SAFE-5, STA-3.13, R30
    #[test]
    fn a_secret_without_the_right_signature_is_refused_and_the_right_one_is_accepted_then() {
        let parties = Parties::new(ALL);
        let mut collector = parties.collector();
        let secret = || parties.shares[1].duplicate();
        let signature = keys()[1].sign(secret().expose());
        let mut changed = signature.clone();
        changed[9] ^= 1;
        let of_stranger = keys()[4].sign(secret().expose());
        let of_other_secret = keys()[1].sign(&[0; 32]);
        for wrong in [Vec::new(), vec![0; 256], changed, of_stranger, of_other_secret] {
            let error = collector.accept(secret(), wrong).unwrap_err();
            assert_eq!(error, CollectError::Signature { number: 2, shares: 3 });
        }
        parties.check(&mut collector, &[1, 2, 0], &[2, 1, 0]);
    }

    #[test]
    fn a_secret_counts_once() {
        for scheme in [ALL, SOME] {
            let parties = Parties::new(scheme);
            let mut collector = parties.collector();
            parties.send(&mut collector, 2, 2).unwrap();
            let error = parties.send(&mut collector, 2, 2).unwrap_err();
            assert_eq!(error, CollectError::Repeated { number: 3, shares: 3 });
            let error = parties.send(&mut collector, 2, 1).unwrap_err();
            assert_eq!(error, CollectError::Repeated { number: 3, shares: 3 });
        }
    }

    #[test]
    fn parties_may_sign_for_each_other_but_each_key_counts_once() {
        let parties = Parties::new(ALL);
        let mut collector = parties.collector();
        let first = parties.send(&mut collector, 0, 1).unwrap();
        assert_eq!((first.share, first.signer), (0, 1));
        let error = parties.send(&mut collector, 1, 1).unwrap_err();
        assert_eq!(error, CollectError::Signature { number: 2, shares: 3 });
        parties.send(&mut collector, 1, 0).unwrap();
        assert!(matches!(parties.send(&mut collector, 2, 2).unwrap().progress, Progress::Complete(_)));
    }

    // rules: STA-3.11, R30
    #[test]
    fn shares_that_a_changed_list_lets_in_make_no_key() {
        let zero = SecretBytes::new(vec![0; 33]);
        let twin = |byte| SecretBytes::new([vec![byte; 32], vec![9]].concat());
        for secrets in [[zero, twin(1)], [twin(1), twin(2)]] {
            let parties = Parties { scheme: SOME, key: SecretBytes::new(Vec::new()), shares: secrets.into() };
            let mut collector = parties.collector();
            parties.send(&mut collector, 0, 0).unwrap();
            assert_eq!(parties.send(&mut collector, 1, 1).unwrap_err(), CollectError::Contradiction);
            assert!(parties.send(&mut collector, 0, 0).is_ok(), "it begins anew");
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let parties = Parties::new(ALL);
        let mut collector = parties.collector();
        parties.send(&mut collector, 0, 0).unwrap();
        let byte = format!("{}, {}", parties.shares[0].expose()[0], parties.shares[0].expose()[1]);
        assert!(!format!("{collector:?} {:?}", collector.collected).contains(&byte));
    }
}
