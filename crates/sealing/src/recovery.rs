//! The epoch key wrapped for those who hold recovery shares (`sealed_recovery`).
//!
//! The shares together make a recovery key; how they do is the caller's business. The file tells, unencrypted, what
//! whoever collects shares has to know: the scheme, how many are needed, the public keys of those who hold them, and the
//! SHA-256 of each, so that a wrong share or a wrong signature is recognised when it arrives. All of it is authenticated
//! data of the wrap, so it is proven once the recovery key is there; before that it is a hint from the untrusted disk.
//!
//! At its end the file claims which manifest is in force. An update that leaves the parties alone changes that without
//! the recovery key, so it stands outside of the wrap, under a MAC whose key comes from the wrapped epoch key.

use marblerun_secret::SecretBytes;
use zeroize::Zeroizing;

use crate::bytes::Reader;
use crate::crypto::{self, KEY_LEN, Key, TAG_LEN};
use crate::fault::{Fault, SealError};
use crate::identity::{DeploymentId, ManifestFingerprint, TrustClass, TrustContext};
use crate::keys::EpochKey;

/// Length of a recovery key in bytes.
pub const RECOVERY_KEY_BYTES: usize = KEY_LEN;
/// Most shares of one recovery key; keeps the file below 5 MiB.
pub const MAX_RECOVERY_SHARES: usize = 4096;
/// Longest public key of a holder in bytes; an RSA key of 8192 bits has 1062 with the usual exponent.
pub const MAX_RECOVERY_PUBLIC_KEY_BYTES: usize = 1152;
/// Longest `sealed_recovery` in bytes.
pub const MAX_RECOVERY_BYTES: usize = FIXED_LEN + MAX_RECOVERY_SHARES * MAX_SHARE_LEN + KEY_LEN + TAG_LEN + CLAIM_LEN;

const OBJECT: &str = "sealed_recovery";
const MAGIC: &[u8; 8] = b"MRRECOVR";
const VERSION: u16 = 1;
const RECIPIENT_RECOVERY: u16 = 2;
const FIXED_LEN: usize = 120;
const HASH_LEN: usize = 32;
const MAX_SHARE_LEN: usize = 2 + MAX_RECOVERY_PUBLIC_KEY_BYTES + HASH_LEN;
const MAC_LEN: usize = 32;
/// What follows the wrap: the manifest's fingerprint and its MAC.
const CLAIM_LEN: usize = ManifestFingerprint::LEN + MAC_LEN;
/// Shamir's scheme over GF(2^8) has one share per non-zero field element.
const MAX_THRESHOLD_SHARES: usize = 255;

/// How shares make the recovery key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryScheme {
    /// One share, which is the key.
    Single,
    /// The XOR of all shares, two or more, is the key.
    AllOf,
    /// Any `threshold` shares make the key: Shamir's scheme over GF(2^8), polynomial 0x11B, x in the last byte.
    Threshold {
        /// How many are needed, from 2 to one less than there are.
        threshold: u8,
    },
}

impl RecoveryScheme {
    fn to_byte(self) -> u8 {
        match self {
            Self::Single => 1,
            Self::AllOf => 2,
            Self::Threshold { .. } => 3,
        }
    }

    /// How many of `shares` make the key.
    fn needed(self, shares: usize) -> usize {
        match self {
            Self::Single => 1,
            Self::AllOf => shares,
            Self::Threshold { threshold } => usize::from(threshold),
        }
    }

    /// The scheme that the fields of a file describe, or what contradicts it.
    fn from_fields(byte: u8, needed: usize, shares: usize) -> Result<Self, &'static str> {
        match (byte, u8::try_from(needed)) {
            (1, Ok(1)) if shares == 1 => Ok(Self::Single),
            (2, _) if shares >= 2 && needed == shares && shares <= MAX_RECOVERY_SHARES => Ok(Self::AllOf),
            (3, Ok(threshold)) if needed >= 2 && needed < shares && shares <= MAX_THRESHOLD_SHARES => {
                Ok(Self::Threshold { threshold })
            }
            (1..=3, _) => Err("threshold and number of shares do not fit the scheme"),
            _ => Err("unknown recovery scheme"),
        }
    }
}

/// What is known of one share without knowing it. All of it is public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryShare {
    /// The holder's public key (SubjectPublicKeyInfo, DER), at most [`MAX_RECOVERY_PUBLIC_KEY_BYTES`].
    pub public_key: Vec<u8>,
    /// SHA-256 of the share.
    pub share_hash: [u8; 32],
}

/// For whom the epoch key is to be wrapped.
#[derive(Debug)]
pub struct RecoveryRecipient {
    key: SecretBytes,
    scheme: RecoveryScheme,
    shares: Vec<RecoveryShare>,
}

impl RecoveryRecipient {
    /// The holders of `shares`, which make `key` (32 bytes, random) by `scheme`.
    ///
    /// # Errors
    /// [`SealError::Recipient`] if key, scheme and number of shares do not fit together, or a public key is too long.
    pub fn new(key: SecretBytes, scheme: RecoveryScheme, shares: Vec<RecoveryShare>) -> Result<Self, SealError> {
        if key.len() != RECOVERY_KEY_BYTES {
            return Err(SealError::Recipient { what: "recovery key is not 32 bytes long" });
        }
        RecoveryScheme::from_fields(scheme.to_byte(), scheme.needed(shares.len()), shares.len())
            .map_err(|what| SealError::Recipient { what })?;
        if shares.iter().any(|share| !(1..=MAX_RECOVERY_PUBLIC_KEY_BYTES).contains(&share.public_key.len())) {
            return Err(SealError::Recipient { what: "public key is empty or too long" });
        }
        Ok(Self { key, scheme, shares })
    }
}

impl EpochKey {
    /// Encodes `sealed_recovery`: this epoch key for `recipient`, bound to `trust`, while `manifest` is in force.
    ///
    /// `sequence` is the number of the record that holds the same bytes.
    pub(crate) fn wrap_for_recovery(
        &self,
        recipient: &RecoveryRecipient,
        trust: &TrustContext,
        manifest: ManifestFingerprint,
        sequence: u64,
    ) -> Result<Vec<u8>, SealError> {
        let RecoveryRecipient { key, scheme, shares } = recipient;
        let short = |number: usize| u16::try_from(number).expect("`new` limits the shares and their public keys");
        let salt: [u8; 32] = crypto::random()?;
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[trust.class().to_byte(), 0]);
        out.extend_from_slice(&RECIPIENT_RECOVERY.to_le_bytes());
        out.extend_from_slice(&[scheme.to_byte(), 0]);
        out.extend_from_slice(self.deployment().as_bytes());
        out.extend_from_slice(&trust.digest());
        out.extend_from_slice(&self.epoch().to_le_bytes());
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&short(scheme.needed(shares.len())).to_le_bytes());
        out.extend_from_slice(&short(shares.len()).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&salt);
        for share in shares {
            out.extend_from_slice(&short(share.public_key.len()).to_le_bytes());
            out.extend_from_slice(&share.public_key);
            out.extend_from_slice(&share.share_hash);
        }
        let wrap_key = wrap_key(key, &salt)?;
        let mut wrapped = self.key().clone();
        // The wrap key comes from a fresh salt and is used once, so its only nonce is zero.
        let tag = crypto::seal(&wrap_key, 0, &aad(&out), wrapped.as_mut_slice())?;
        out.extend_from_slice(wrapped.as_slice());
        out.extend_from_slice(&tag);
        self.claim_manifest(out, manifest)
    }

    /// The content of a `sealed_recovery` of this epoch with another manifest in force; who can open it stays.
    ///
    /// `file` comes from the log, which proves it.
    pub(crate) fn wrap_for_same_recovery(
        &self,
        file: &[u8],
        manifest: ManifestFingerprint,
    ) -> Result<Vec<u8>, SealError> {
        self.claim_manifest(wrap_in(file).to_vec(), manifest)
    }

    fn claim_manifest(&self, mut out: Vec<u8>, manifest: ManifestFingerprint) -> Result<Vec<u8>, SealError> {
        out.extend_from_slice(manifest.as_bytes());
        let mac = crypto::mac(&self.recovery_manifest_key()?, &claim_input(&out));
        out.extend_from_slice(&mac);
        Ok(out)
    }
}

/// A well-formed `sealed_recovery`; nothing in it is proven before [`WrappedForRecovery::open`].
#[derive(Debug)]
pub struct WrappedForRecovery {
    class: TrustClass,
    trust_digest: [u8; 32],
    deployment: DeploymentId,
    epoch: u64,
    sequence: u64,
    scheme: RecoveryScheme,
    salt: [u8; 32],
    shares: Vec<RecoveryShare>,
    aad: Vec<u8>,
    sealed: Vec<u8>,
    manifest: ManifestFingerprint,
    /// Everything before the MAC, as it goes into it.
    claim: Vec<u8>,
    mac: [u8; MAC_LEN],
}

impl WrappedForRecovery {
    /// Makes `bytes` of a `sealed_recovery` well-formed.
    ///
    /// # Errors
    /// [`Fault::Magic`], [`Fault::Version`] or [`Fault::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len()) != Some(MAGIC) {
            return Err(Fault::Magic { object: OBJECT });
        }
        let version = reader.u16().ok_or(malformed(&reader, "shorter than its header"))?;
        if version != VERSION {
            return Err(Fault::Version { object: OBJECT, expected: VERSION, got: version });
        }
        Self::parse_version_1(bytes, &mut reader)
    }

    fn parse_version_1(bytes: &[u8], reader: &mut Reader<'_>) -> Result<Self, Fault> {
        const CUT: &str = "ends early";
        let class = reader.u8().and_then(TrustClass::from_byte).ok_or(malformed(reader, "unknown trust class"))?;
        if reader.u8() != Some(0) {
            return Err(malformed(reader, "reserved byte is not zero"));
        }
        if reader.u16() != Some(RECIPIENT_RECOVERY) {
            return Err(malformed(reader, "recipient is not recovery"));
        }
        let scheme = reader.u8().ok_or(malformed(reader, CUT))?;
        if reader.u8() != Some(0) {
            return Err(malformed(reader, "reserved byte is not zero"));
        }
        let deployment = DeploymentId::from_bytes(reader.array().ok_or(malformed(reader, CUT))?);
        let trust_digest = reader.array().ok_or(malformed(reader, CUT))?;
        let epoch = reader.u64().ok_or(malformed(reader, CUT))?;
        let sequence = reader.u64().ok_or(malformed(reader, CUT))?;
        let needed = usize::from(reader.u16().ok_or(malformed(reader, CUT))?);
        let count = usize::from(reader.u16().ok_or(malformed(reader, CUT))?);
        let scheme = RecoveryScheme::from_fields(scheme, needed, count).map_err(|what| malformed(reader, what))?;
        if reader.u32() != Some(0) {
            return Err(malformed(reader, "reserved bytes are not zero"));
        }
        let salt = reader.array().ok_or(malformed(reader, CUT))?;
        let mut shares = Vec::new();
        for _ in 0..count {
            let length = usize::from(reader.u16().ok_or(malformed(reader, CUT))?);
            if !(1..=MAX_RECOVERY_PUBLIC_KEY_BYTES).contains(&length) {
                return Err(malformed(reader, "public key is empty or too long"));
            }
            let public_key = reader.take(length).ok_or(malformed(reader, CUT))?.to_vec();
            let share_hash = reader.array().ok_or(malformed(reader, CUT))?;
            shares.push(RecoveryShare { public_key, share_hash });
        }
        let aad = aad(&bytes[..reader.position()]);
        let sealed = reader.take(KEY_LEN + TAG_LEN).ok_or(malformed(reader, CUT))?.to_vec();
        let manifest = ManifestFingerprint::from_bytes(reader.array().ok_or(malformed(reader, CUT))?);
        let claim = claim_input(&bytes[..reader.position()]);
        let mac = reader.array().ok_or(malformed(reader, CUT))?;
        if !reader.is_at_end() {
            return Err(malformed(reader, "bytes after the MAC"));
        }
        Ok(Self {
            class,
            trust_digest,
            deployment,
            epoch,
            sequence,
            scheme,
            salt,
            shares,
            aad,
            sealed,
            manifest,
            claim,
            mac,
        })
    }

    /// The deployment that the file claims.
    pub fn deployment(&self) -> DeploymentId {
        self.deployment
    }

    /// The epoch whose key is wrapped.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Number of the log's record with which these parties became the recipient.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The manifest that the file claims to be in force. Whoever writes the disk can write this too, until
    /// [`WrappedForRecovery::open`].
    pub fn claimed_manifest(&self) -> ManifestFingerprint {
        self.manifest
    }

    /// How the shares make the key.
    pub fn scheme(&self) -> RecoveryScheme {
        self.scheme
    }

    /// How many shares make the key.
    pub fn needed(&self) -> usize {
        self.scheme.needed(self.shares.len())
    }

    /// What is known of each share, in the order of the holders' names in the manifest.
    pub fn shares(&self) -> &[RecoveryShare] {
        &self.shares
    }

    /// Whether the file claims to be of this trust class and these roots; another one's shares are of no use here.
    ///
    /// # Errors
    /// [`Fault::TrustClass`] or [`Fault::TrustRoots`].
    pub fn check_trust(&self, trust: &TrustContext) -> Result<(), Fault> {
        if self.class != trust.class() {
            return Err(Fault::TrustClass { sealed: self.class, current: trust.class() });
        }
        if self.trust_digest != trust.digest() {
            return Err(Fault::TrustRoots { class: self.class });
        }
        Ok(())
    }

    /// Proves the file with the recovery key that the shares made, and unwraps the epoch key.
    ///
    /// # Errors
    /// [`Fault::TrustClass`], [`Fault::TrustRoots`], [`Fault::WrongRecoveryKey`] or [`Fault::RecoveryManifestChanged`].
    pub fn open(&self, recovery_key: &SecretBytes, trust: &TrustContext) -> Result<EpochKey, Fault> {
        self.check_trust(trust)?;
        if recovery_key.len() != RECOVERY_KEY_BYTES {
            return Err(Fault::WrongRecoveryKey);
        }
        let wrap_key = wrap_key(recovery_key, &self.salt).map_err(|_| Fault::WrongRecoveryKey)?;
        let opened = crypto::open(&wrap_key, 0, &self.aad, &self.sealed).ok_or(Fault::WrongRecoveryKey)?;
        let mut key = Key::new(Zeroizing::new([0; KEY_LEN]));
        if opened.len() != key.len() {
            return Err(Fault::WrongRecoveryKey);
        }
        key.copy_from_slice(&opened);
        let epoch_key = EpochKey::from_parts(key, self.deployment, self.epoch);
        let mac_key = epoch_key.recovery_manifest_key().map_err(|_| Fault::WrongRecoveryKey)?;
        if !crypto::mac_is_valid(&mac_key, &self.claim, &self.mac) {
            return Err(Fault::RecoveryManifestChanged { claimed: self.manifest });
        }
        Ok(epoch_key)
    }
}

/// Opens `sealed_recovery` with the recovery key.
///
/// # Errors
/// As [`WrappedForRecovery::parse`] and [`WrappedForRecovery::open`].
pub fn open_recovery(bytes: &[u8], recovery_key: &SecretBytes, trust: &TrustContext) -> Result<EpochKey, Fault> {
    WrappedForRecovery::parse(bytes)?.open(recovery_key, trust)
}

/// Whether two files are for the same recipient and its same shares; the manifest may differ.
pub(crate) fn is_same_wrap(one: &[u8], other: &[u8]) -> bool {
    wrap_in(one) == wrap_in(other)
}

/// All of a file but its claim about the manifest.
fn wrap_in(file: &[u8]) -> &[u8] {
    &file[..file.len().saturating_sub(CLAIM_LEN)]
}

fn claim_input(file: &[u8]) -> Vec<u8> {
    [b"marblerun recovery manifest v1\0", file].concat()
}

fn malformed(reader: &Reader<'_>, what: &'static str) -> Fault {
    Fault::Malformed { object: OBJECT, offset: reader.position() as u64, what }
}

fn wrap_key(recovery_key: &SecretBytes, salt: &[u8; 32]) -> Result<Key, SealError> {
    crypto::derive_key(recovery_key.expose(), salt, &[b"marblerun recovery wrap key v1\0"])
}

fn aad(plain: &[u8]) -> Vec<u8> {
    [b"marblerun recovery wrap v1\0", plain].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: ManifestFingerprint = ManifestFingerprint::from_bytes([0x3a; 32]);
    const THRESHOLD: RecoveryScheme = RecoveryScheme::Threshold { threshold: 2 };

    fn recovery_key(byte: u8) -> SecretBytes {
        SecretBytes::new(vec![byte; 32])
    }

    /// Never 32 equal bytes in a row, as the keys here are.
    fn hash(byte: u8) -> [u8; 32] {
        let mut hash = [byte; 32];
        hash[0] = byte.wrapping_add(1);
        hash
    }

    fn shares(count: usize) -> Vec<RecoveryShare> {
        (0..count)
            .map(|number| {
                let byte = u8::try_from(number % 251).unwrap();
                RecoveryShare { public_key: hash(byte).to_vec(), share_hash: hash(byte ^ 0xff) }
            })
            .collect()
    }

    fn trust(class: TrustClass, root: u8) -> TrustContext {
        TrustContext::new(class, vec![[root; 32]])
    }

    fn wrap(scheme: RecoveryScheme, count: usize) -> Result<(EpochKey, Vec<u8>), SealError> {
        let epoch_key = EpochKey::generate(DeploymentId::from_bytes([7; 16])).unwrap();
        let recipient = RecoveryRecipient::new(recovery_key(3), scheme, shares(count))?;
        let bytes = epoch_key.wrap_for_recovery(&recipient, &trust(TrustClass::Software, 1), MANIFEST, 42).unwrap();
        Ok((epoch_key, bytes))
    }

    fn open(bytes: &[u8]) -> Result<EpochKey, Fault> {
        open_recovery(bytes, &recovery_key(3), &trust(TrustClass::Software, 1))
    }

    #[test]
    fn a_wrap_opens_with_the_recovery_key_and_tells_whose_shares_make_it() {
        let schemes =
            [(RecoveryScheme::Single, 1, 1), (RecoveryScheme::AllOf, 3, 3), (THRESHOLD, 3, 2), (THRESHOLD, 255, 2)];
        for (scheme, count, needed) in schemes {
            let (epoch_key, bytes) = wrap(scheme, count).unwrap();
            let parsed = WrappedForRecovery::parse(&bytes).unwrap();
            assert_eq!((parsed.scheme(), parsed.needed(), parsed.shares()), (scheme, needed, &shares(count)[..]));
            assert_eq!((parsed.deployment(), parsed.epoch(), parsed.sequence()), (epoch_key.deployment(), 1, 42));
            assert_eq!(parsed.claimed_manifest(), MANIFEST);
            assert_eq!(open(&bytes).unwrap().key().as_slice(), epoch_key.key().as_slice());
            assert!(!bytes.windows(32).any(|window| window == epoch_key.key().as_slice() || window == [3; 32]));
        }
    }

    // rules: R28, STA-9.1
    #[test]
    fn every_changed_bit_is_refused() {
        let (_, bytes) = wrap(THRESHOLD, 3).unwrap();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[position] ^= 1 << bit;
                assert!(open(&changed).is_err(), "bit {bit} of byte {position}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_open_nothing(
            kept in 0_usize..200,
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
        ) {
            let (_, valid) = wrap(THRESHOLD, 3).unwrap();
            let hostile = [&valid[..kept], &bytes].concat();
            proptest::prop_assert!(open(&hostile).is_err());
        }
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        let (_, bytes) = wrap(RecoveryScheme::AllOf, 2).unwrap();
        for length in 0..bytes.len() {
            assert!(matches!(open(&bytes[..length]), Err(Fault::Magic { .. } | Fault::Malformed { .. })), "{length}");
        }
        assert!(matches!(open(&[bytes.as_slice(), &[0]].concat()), Err(Fault::Malformed { .. })));
    }

    #[test]
    fn another_key_trust_class_and_other_roots_are_told_apart() {
        let (_, bytes) = wrap(RecoveryScheme::Single, 1).unwrap();
        let software = trust(TrustClass::Software, 1);
        for wrong in [recovery_key(4), SecretBytes::new(vec![3; 33]), SecretBytes::new(Vec::new())] {
            assert!(matches!(open_recovery(&bytes, &wrong, &software), Err(Fault::WrongRecoveryKey)));
        }
        let class = open_recovery(&bytes, &recovery_key(3), &trust(TrustClass::Hardware, 1)).unwrap_err();
        assert!(matches!(class, Fault::TrustClass { sealed: TrustClass::Software, current: TrustClass::Hardware }));
        let roots = open_recovery(&bytes, &recovery_key(3), &trust(TrustClass::Software, 2)).unwrap_err();
        assert!(matches!(roots, Fault::TrustRoots { .. }));
    }

    /// Writing the own class over the stored one does not help: it is authenticated.
    #[test]
    fn a_rewritten_trust_class_is_refused() {
        let (_, mut bytes) = wrap(RecoveryScheme::Single, 1).unwrap();
        let hardware = trust(TrustClass::Hardware, 1);
        bytes[10] = TrustClass::Hardware.to_byte();
        bytes[32..64].copy_from_slice(&hardware.digest());
        assert!(matches!(open_recovery(&bytes, &recovery_key(3), &hardware), Err(Fault::WrongRecoveryKey)));
    }

    #[test]
    fn another_manifest_needs_no_recovery_key_and_changes_nothing_else() {
        let (epoch_key, bytes) = wrap(THRESHOLD, 3).unwrap();
        let other = ManifestFingerprint::from_bytes([0x3b; 32]);
        let updated = epoch_key.wrap_for_same_recovery(&bytes, other).unwrap();
        assert_eq!((wrap_in(&updated), updated.len()), (wrap_in(&bytes), bytes.len()));
        assert_eq!(WrappedForRecovery::parse(&updated).unwrap().claimed_manifest(), other);
        assert_eq!(open(&updated).unwrap().key().as_slice(), epoch_key.key().as_slice());
        assert_eq!(epoch_key.wrap_for_same_recovery(&updated, MANIFEST).unwrap(), bytes);
    }

    // rules: R28
    #[test]
    fn a_manifest_that_the_wrapped_key_does_not_confirm_is_refused_by_name() {
        let (_, bytes) = wrap(THRESHOLD, 3).unwrap();
        let claim = bytes.len() - CLAIM_LEN;
        for position in claim..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            assert!(matches!(open(&changed), Err(Fault::RecoveryManifestChanged { .. })), "byte {position}");
        }
        // The claim of another file of the same epoch and manifest is none of this one.
        let (epoch_key, _) = wrap(THRESHOLD, 3).unwrap();
        let recipient = |shares| RecoveryRecipient::new(recovery_key(3), RecoveryScheme::AllOf, shares).unwrap();
        let software = trust(TrustClass::Software, 1);
        let [one, two] = [2, 3]
            .map(|count| epoch_key.wrap_for_recovery(&recipient(shares(count)), &software, MANIFEST, 42).unwrap());
        let mixed = [wrap_in(&one), &two[two.len() - CLAIM_LEN..]].concat();
        let fault = open(&mixed).unwrap_err();
        assert!(matches!(fault, Fault::RecoveryManifestChanged { claimed: MANIFEST }), "{fault}");
        assert!(fault.hint().is_some());
    }

    #[test]
    fn each_wrap_has_its_own_salt() {
        let (epoch_key, first) = wrap(RecoveryScheme::Single, 1).unwrap();
        let recipient = RecoveryRecipient::new(recovery_key(3), RecoveryScheme::Single, shares(1)).unwrap();
        let second = epoch_key.wrap_for_recovery(&recipient, &trust(TrustClass::Software, 1), MANIFEST, 42).unwrap();
        assert_ne!(first[88..120], second[88..120]);
    }

    #[test]
    fn the_largest_file_is_as_long_as_the_limit_says() {
        let share = RecoveryShare { public_key: vec![5; MAX_RECOVERY_PUBLIC_KEY_BYTES], share_hash: hash(6) };
        let shares = vec![share; MAX_RECOVERY_SHARES];
        let recipient = RecoveryRecipient::new(recovery_key(3), RecoveryScheme::AllOf, shares).unwrap();
        let epoch_key = EpochKey::generate(DeploymentId::from_bytes([7; 16])).unwrap();
        let bytes = epoch_key.wrap_for_recovery(&recipient, &trust(TrustClass::Software, 1), MANIFEST, 42).unwrap();
        assert_eq!(bytes.len(), MAX_RECOVERY_BYTES);
        open(&bytes).unwrap();
    }

    #[test]
    fn public_keys_that_are_empty_or_too_long_are_refused() {
        for length in [0, MAX_RECOVERY_PUBLIC_KEY_BYTES + 1] {
            let share = RecoveryShare { public_key: vec![5; length], share_hash: hash(6) };
            let error = RecoveryRecipient::new(recovery_key(3), RecoveryScheme::Single, vec![share]).unwrap_err();
            assert_eq!(error.to_string(), "recovery recipient: public key is empty or too long", "{length}");
        }
        check_malformed(|bytes| bytes[120..122].fill(0), 122, "public key is empty or too long");
        let long = u16::try_from(MAX_RECOVERY_PUBLIC_KEY_BYTES + 1).unwrap().to_le_bytes();
        check_malformed(|bytes| bytes[120..122].copy_from_slice(&long), 122, "public key is empty or too long");
    }

    // rules: R28
    #[test]
    fn recipients_whose_shares_cannot_make_a_key_are_refused() {
        let threshold = |threshold| RecoveryScheme::Threshold { threshold };
        let cases = [
            (RecoveryScheme::Single, 0),
            (RecoveryScheme::Single, 2),
            (RecoveryScheme::AllOf, 1),
            (RecoveryScheme::AllOf, MAX_RECOVERY_SHARES + 1),
            (threshold(1), 3),
            (threshold(3), 3),
            (threshold(2), 256),
        ];
        for (scheme, count) in cases {
            let error = wrap(scheme, count).unwrap_err();
            let expected = "recovery recipient: threshold and number of shares do not fit the scheme";
            assert_eq!(error.to_string(), expected, "{scheme:?} {count}");
        }
        let short = RecoveryRecipient::new(SecretBytes::new(vec![0; 16]), RecoveryScheme::Single, shares(1));
        assert_eq!(short.unwrap_err().to_string(), "recovery recipient: recovery key is not 32 bytes long");
    }

    #[track_caller]
    fn check_malformed(change: impl FnOnce(&mut Vec<u8>), offset: u64, what: &str) {
        let (_, mut bytes) = wrap(THRESHOLD, 3).unwrap();
        change(&mut bytes);
        let fault = WrappedForRecovery::parse(&bytes).unwrap_err();
        assert_eq!(fault.to_string(), format!("sealed_recovery is malformed at offset {offset}: {what}"));
    }

    #[test]
    fn impossible_fields_are_named_with_their_place() {
        check_malformed(|bytes| bytes[10] = 9, 11, "unknown trust class");
        check_malformed(|bytes| bytes[11] = 1, 12, "reserved byte is not zero");
        check_malformed(|bytes| bytes[12] = 1, 14, "recipient is not recovery");
        check_malformed(|bytes| bytes[14] = 4, 84, "unknown recovery scheme");
        check_malformed(|bytes| bytes[15] = 1, 16, "reserved byte is not zero");
        // All of three, but two are enough.
        check_malformed(|bytes| bytes[14] = 2, 84, "threshold and number of shares do not fit the scheme");
        check_malformed(|bytes| bytes[80] = 3, 84, "threshold and number of shares do not fit the scheme");
        check_malformed(|bytes| bytes[83] = 0xff, 84, "threshold and number of shares do not fit the scheme");
        check_malformed(|bytes| bytes[87] = 1, 88, "reserved bytes are not zero");
    }

    #[test]
    fn other_formats_and_versions_are_refused_by_name() {
        let (_, mut bytes) = wrap(RecoveryScheme::Single, 1).unwrap();
        bytes[8] = 2;
        assert!(matches!(open(&bytes), Err(Fault::Version { object: "sealed_recovery", expected: 1, got: 2 })));
        bytes[0] = b'X';
        assert!(matches!(open(&bytes), Err(Fault::Magic { object: "sealed_recovery" })));
    }
}
