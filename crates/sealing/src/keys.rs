//! The TEE's seal keys and the epoch key wrapped with them (`sealed_key`).

use std::fmt;

use marblerun_secret::SecretBytes;

use crate::bytes::Reader;
use crate::crypto::{self, KEY_LEN, Key, TAG_LEN};
use crate::fault::{Fault, SealError};
use crate::identity::{DeploymentId, SealPolicy, TrustClass, TrustContext};

/// Longest key identifier in bytes; an SGX key request has 512, and an Occlum one less.
pub const MAX_KEY_ID_BYTES: usize = 1024;

const OBJECT: &str = "sealed_key";
const MAGIC: &[u8; 8] = b"MRSEALKY";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 64;
const ENTRY_FIXED_LEN: usize = 48;
/// Kind 2 (recovery recipient) has a file of its own; 3 (peer) and 4 (HSM) are reserved for later versions.
const RECIPIENT_TEE: u16 = 1;

/// A seal key and what is needed to derive it again later.
pub struct SealKey {
    /// The key, 16 or 32 bytes.
    pub secret: SecretBytes,
    /// Public derivation data, kept beside the wrapped key (for SGX: key identifier and security versions).
    pub key_id: Vec<u8>,
}

/// Why a TEE gives no seal key.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct SealKeyError {
    /// What the TEE said.
    pub reason: String,
}

/// Seal keys of the TEE that this process runs in.
pub trait SealKeys: Send + Sync {
    /// A key for new data, preferably at the newest security version.
    ///
    /// # Errors
    /// If the TEE gives none.
    fn current(&self, policy: SealPolicy) -> Result<SealKey, SealKeyError>;

    /// The key that [`SealKeys::current`] gave together with `key_id`.
    ///
    /// `key_id` comes from the untrusted disk: check it before it reaches the hardware.
    ///
    /// # Errors
    /// If `key_id` is not one of this TEE's, or the TEE gives no key.
    fn derive(&self, policy: SealPolicy, key_id: &[u8]) -> Result<SecretBytes, SealKeyError>;
}

/// Two keys that are known beforehand: simulation, and TEEs with one fixed key per policy. Key identifiers are empty.
pub struct FixedSealKeys {
    product: SecretBytes,
    unique: SecretBytes,
}

impl FixedSealKeys {
    /// Takes the two keys, 16 or 32 bytes each.
    pub fn new(product: SecretBytes, unique: SecretBytes) -> Self {
        Self { product, unique }
    }
}

impl SealKeys for FixedSealKeys {
    fn current(&self, policy: SealPolicy) -> Result<SealKey, SealKeyError> {
        Ok(SealKey { secret: self.derive(policy, &[])?, key_id: Vec::new() })
    }

    fn derive(&self, policy: SealPolicy, key_id: &[u8]) -> Result<SecretBytes, SealKeyError> {
        if !key_id.is_empty() {
            return Err(SealKeyError {
                reason: format!("expected an empty key identifier, got {} bytes", key_id.len()),
            });
        }
        Ok(match policy {
            SealPolicy::ProductKey => self.product.duplicate(),
            SealPolicy::UniqueKey => self.unique.duplicate(),
        })
    }
}

/// The random data key of one epoch of one deployment.
pub struct EpochKey {
    key: Key,
    deployment: DeploymentId,
    epoch: u64,
}

impl EpochKey {
    /// A fresh key for the first epoch of `deployment`.
    ///
    /// # Errors
    /// Without randomness.
    pub fn generate(deployment: DeploymentId) -> Result<Self, SealError> {
        Ok(Self { key: crypto::random_key()?, deployment, epoch: 1 })
    }

    pub(crate) fn from_parts(key: Key, deployment: DeploymentId, epoch: u64) -> Self {
        Self { key, deployment, epoch }
    }

    /// The key itself, for wrapping it.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// The deployment.
    pub fn deployment(&self) -> DeploymentId {
        self.deployment
    }

    /// The epoch, from 1.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The key of one process start; `salt` is fresh randomness, kept in the start record `sequence`.
    pub(crate) fn record_key(&self, salt: &[u8; 32], sequence: u64) -> Result<Key, SealError> {
        let (epoch, sequence) = (self.epoch.to_le_bytes(), sequence.to_le_bytes());
        let info: [&[u8]; 4] = [b"marblerun record key v1\0", self.deployment.as_bytes(), &epoch, &sequence];
        crypto::derive_key(self.key.as_slice(), salt, &info)
    }

    /// The key that authenticates heads. It is used with HMAC only, which needs no nonce.
    pub(crate) fn head_key(&self) -> Result<Key, SealError> {
        let epoch = self.epoch.to_le_bytes();
        let info: [&[u8]; 2] = [b"marblerun head key v1\0", &epoch];
        crypto::derive_key(self.key.as_slice(), self.deployment.as_bytes(), &info)
    }

    /// The key that authenticates the manifest's fingerprint in `sealed_recovery`. It is used with HMAC only.
    pub(crate) fn recovery_manifest_key(&self) -> Result<Key, SealError> {
        let epoch = self.epoch.to_le_bytes();
        let info: [&[u8]; 2] = [b"marblerun recovery manifest key v1\0", &epoch];
        crypto::derive_key(self.key.as_slice(), self.deployment.as_bytes(), &info)
    }

    /// Encodes `sealed_key`: this epoch key, wrapped with the TEE's key of `policy`, bound to `trust`.
    ///
    /// # Errors
    /// If the TEE gives no key or an over-long key identifier.
    pub fn wrap(&self, keys: &dyn SealKeys, policy: SealPolicy, trust: &TrustContext) -> Result<Vec<u8>, SealError> {
        let seal_key = keys.current(policy)?;
        if seal_key.key_id.len() > MAX_KEY_ID_BYTES {
            return Err(SealError::KeyIdTooLong { max: MAX_KEY_ID_BYTES, got: seal_key.key_id.len() });
        }
        let salt: [u8; 32] = crypto::random()?;
        let key_id_len = u16::try_from(seal_key.key_id.len()).expect("at most MAX_KEY_ID_BYTES");

        let mut out = Vec::with_capacity(HEADER_LEN + ENTRY_FIXED_LEN + seal_key.key_id.len() + KEY_LEN + TAG_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[trust.class().to_byte(), 0]);
        out.extend_from_slice(&1_u16.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(self.deployment.as_bytes());
        out.extend_from_slice(&trust.digest());
        out.extend_from_slice(&RECIPIENT_TEE.to_le_bytes());
        out.extend_from_slice(&[policy.to_byte(), 0]);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&key_id_len.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&salt);
        out.extend_from_slice(&seal_key.key_id);

        let aad = wrap_aad(&out[..HEADER_LEN], &out[HEADER_LEN..]);
        let wrap_key = wrap_key(&seal_key.secret, &salt)?;
        let mut wrapped = self.key.clone();
        // The wrap key comes from a fresh salt and is used once, so its only nonce is zero.
        let tag = crypto::seal(&wrap_key, 0, &aad, wrapped.as_mut_slice())?;
        out.extend_from_slice(wrapped.as_slice());
        out.extend_from_slice(&tag);
        Ok(out)
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochKey {{ deployment: {}, epoch: {} }}", self.deployment, self.epoch)
    }
}

/// A well-formed `sealed_key`; nothing in it is proven before [`WrappedKeys::open`].
#[derive(Debug)]
pub struct WrappedKeys {
    deployment: DeploymentId,
    class: TrustClass,
    trust_digest: [u8; 32],
    policy: SealPolicy,
    epoch: u64,
    salt: [u8; 32],
    key_id: Vec<u8>,
    aad: Vec<u8>,
    sealed: Vec<u8>,
}

impl WrappedKeys {
    /// Makes `bytes` of a `sealed_key` well-formed.
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
        if reader.u16() != Some(1) {
            return Err(malformed(reader, "version 1 has exactly one wrapped key"));
        }
        if reader.u16() != Some(0) {
            return Err(malformed(reader, "reserved bytes are not zero"));
        }
        let deployment = DeploymentId::from_bytes(reader.array().ok_or(malformed(reader, CUT))?);
        let trust_digest = reader.array().ok_or(malformed(reader, CUT))?;

        if reader.u16() != Some(RECIPIENT_TEE) {
            return Err(malformed(reader, "version 1 knows only the TEE as recipient"));
        }
        let policy = reader.u8().and_then(SealPolicy::from_byte).ok_or(malformed(reader, "unknown seal mode"))?;
        if reader.u8() != Some(0) {
            return Err(malformed(reader, "reserved byte is not zero"));
        }
        let epoch = reader.u64().ok_or(malformed(reader, CUT))?;
        let key_id_len = usize::from(reader.u16().ok_or(malformed(reader, CUT))?);
        if key_id_len > MAX_KEY_ID_BYTES {
            return Err(malformed(reader, "key identifier is too long"));
        }
        if reader.u16() != Some(0) {
            return Err(malformed(reader, "reserved bytes are not zero"));
        }
        let salt = reader.array().ok_or(malformed(reader, CUT))?;
        let key_id = reader.take(key_id_len).ok_or(malformed(reader, CUT))?.to_vec();
        let aad = wrap_aad(&bytes[..HEADER_LEN], &bytes[HEADER_LEN..reader.position()]);
        let sealed = reader.take(KEY_LEN + TAG_LEN).ok_or(malformed(reader, CUT))?.to_vec();
        if !reader.is_at_end() {
            return Err(malformed(reader, "bytes after the last wrapped key"));
        }
        Ok(Self { deployment, class, trust_digest, policy, epoch, salt, key_id, aad, sealed })
    }

    /// The deployment that the file claims.
    pub fn deployment(&self) -> DeploymentId {
        self.deployment
    }

    /// The seal policy that the file claims; proven by [`WrappedKeys::open`].
    pub fn policy(&self) -> SealPolicy {
        self.policy
    }

    /// Proves and unwraps the epoch key.
    ///
    /// # Errors
    /// [`Fault::TrustClass`], [`Fault::TrustRoots`], [`Fault::SealKey`] or [`Fault::WrongKey`].
    pub fn open(&self, keys: &dyn SealKeys, trust: &TrustContext) -> Result<EpochKey, Fault> {
        if self.class != trust.class() {
            return Err(Fault::TrustClass { sealed: self.class, current: trust.class() });
        }
        if self.trust_digest != trust.digest() {
            return Err(Fault::TrustRoots { class: self.class });
        }
        let policy = self.policy;
        let secret = keys.derive(policy, &self.key_id).map_err(|source| Fault::SealKey { policy, source })?;
        let wrong_key = || Fault::WrongKey { policy };
        let wrap_key = wrap_key(&secret, &self.salt).map_err(|_| wrong_key())?;
        let opened = crypto::open(&wrap_key, 0, &self.aad, &self.sealed).ok_or_else(wrong_key)?;
        let mut key = Key::new(zeroize::Zeroizing::new([0; KEY_LEN]));
        if opened.len() != key.len() {
            return Err(wrong_key());
        }
        key.copy_from_slice(&opened);
        Ok(EpochKey { key, deployment: self.deployment, epoch: self.epoch })
    }
}

fn malformed(reader: &Reader<'_>, what: &'static str) -> Fault {
    Fault::Malformed { object: OBJECT, offset: reader.position() as u64, what }
}

fn wrap_key(secret: &SecretBytes, salt: &[u8; 32]) -> Result<Key, SealError> {
    crypto::derive_key(secret.expose(), salt, &[b"marblerun wrap key v1\0"])
}

/// Everything of header and entry except the number of entries, which may change without a new wrap.
fn wrap_aad(header: &[u8], entry: &[u8]) -> Vec<u8> {
    [b"marblerun wrapped key v1\0", &header[..12], &header[16..], entry].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(byte: u8, length: usize) -> FixedSealKeys {
        let key = |fill| SecretBytes::new(vec![fill; length]);
        FixedSealKeys::new(key(byte), key(byte ^ 0xff))
    }

    fn trust(class: TrustClass, root: u8) -> TrustContext {
        TrustContext::new(class, vec![[root; 32]])
    }

    fn wrapped() -> (EpochKey, Vec<u8>) {
        let epoch_key = EpochKey::generate(DeploymentId::from_bytes([7; 16])).unwrap();
        let bytes = epoch_key.wrap(&keys(1, 16), SealPolicy::UniqueKey, &trust(TrustClass::Software, 1)).unwrap();
        (epoch_key, bytes)
    }

    fn open(bytes: &[u8]) -> Result<EpochKey, Fault> {
        WrappedKeys::parse(bytes)?.open(&keys(1, 16), &trust(TrustClass::Software, 1))
    }

    #[test]
    fn a_wrapped_key_opens_and_is_the_same() {
        let (epoch_key, bytes) = wrapped();
        assert_eq!(open(&bytes).unwrap().key.as_slice(), epoch_key.key.as_slice());
        assert!(!bytes.windows(32).any(|window| window == epoch_key.key.as_slice()));
    }

    // rules: STA-9.1
    #[test]
    fn every_changed_byte_of_a_wrapped_key_is_refused() {
        let (_, bytes) = wrapped();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[position] ^= 1 << bit;
                assert!(open(&changed).is_err(), "bit {bit} of byte {position}");
            }
        }
    }

    #[test]
    fn every_truncation_and_extension_of_a_wrapped_key_is_refused() {
        let (_, bytes) = wrapped();
        for length in 0..bytes.len() {
            assert!(matches!(open(&bytes[..length]), Err(Fault::Magic { .. } | Fault::Malformed { .. })), "{length}");
        }
        assert!(matches!(open(&[bytes.as_slice(), &[0]].concat()), Err(Fault::Malformed { .. })));
    }

    #[test]
    fn another_trust_class_other_roots_and_another_tee_are_told_apart() {
        let (_, bytes) = wrapped();
        let parsed = WrappedKeys::parse(&bytes).unwrap();
        let class = parsed.open(&keys(1, 16), &trust(TrustClass::Hardware, 1)).unwrap_err();
        assert!(matches!(class, Fault::TrustClass { sealed: TrustClass::Software, current: TrustClass::Hardware }));
        let roots = parsed.open(&keys(1, 16), &trust(TrustClass::Software, 2)).unwrap_err();
        assert!(matches!(roots, Fault::TrustRoots { .. }));
        let wrong = parsed.open(&keys(2, 16), &trust(TrustClass::Software, 1)).unwrap_err();
        assert!(matches!(wrong, Fault::WrongKey { policy: SealPolicy::UniqueKey }));
    }

    // rules: R7
    #[test]
    fn a_wrap_cannot_choose_the_weaker_seal_policy() {
        let (_, mut bytes) = wrapped();
        bytes[66] = SealPolicy::ProductKey.to_byte();
        // Both policies give the same key here, so that only the authenticated policy byte can refuse.
        let same = FixedSealKeys::new(SecretBytes::new(vec![0xfe; 16]), SecretBytes::new(vec![0xfe; 16]));
        let opened = WrappedKeys::parse(&bytes).unwrap().open(&same, &trust(TrustClass::Software, 1));
        assert!(matches!(opened, Err(Fault::WrongKey { policy: SealPolicy::ProductKey })));
    }
    /// A TEE whose keys depend on a key identifier of the given length.
    struct WithKeyId(usize);

    impl SealKeys for WithKeyId {
        fn current(&self, policy: SealPolicy) -> Result<SealKey, SealKeyError> {
            let key_id = vec![0x5a; self.0];
            Ok(SealKey { secret: self.derive(policy, &key_id)?, key_id })
        }

        fn derive(&self, _: SealPolicy, key_id: &[u8]) -> Result<SecretBytes, SealKeyError> {
            Ok(SecretBytes::copy_from(&crypto::sha256(&[key_id])))
        }
    }

    #[test]
    fn a_key_identifier_of_up_to_the_limit_is_kept_and_a_longer_one_refused() {
        let epoch_key = EpochKey::generate(DeploymentId::from_bytes([7; 16])).unwrap();
        let trust = trust(TrustClass::Hardware, 1);
        let wrap = |length| epoch_key.wrap(&WithKeyId(length), SealPolicy::ProductKey, &trust);
        let bytes = wrap(MAX_KEY_ID_BYTES).unwrap();
        WrappedKeys::parse(&bytes).unwrap().open(&WithKeyId(0), &trust).unwrap();
        let error = wrap(MAX_KEY_ID_BYTES + 1).unwrap_err();
        assert_eq!(error.to_string(), "key identifier holds at most 1024 bytes, got 1025");

        let mut longer = [bytes, vec![0]].concat();
        longer[76..78].copy_from_slice(&1025_u16.to_le_bytes());
        let fault = WrappedKeys::parse(&longer).unwrap_err();
        assert_eq!(fault.to_string(), "sealed_key is malformed at offset 78: key identifier is too long");
    }

    #[test]
    fn fixed_keys_refuse_a_key_identifier() {
        let error = keys(1, 16).derive(SealPolicy::ProductKey, &[1]).unwrap_err();
        assert_eq!(error.to_string(), "expected an empty key identifier, got 1 bytes");
    }
}
