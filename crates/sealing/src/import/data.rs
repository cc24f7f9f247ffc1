//! `sealed_data`: recovery data and the encrypted store.

use std::collections::BTreeSet;

use marblerun_json::{Decode, DecodeError, Decoder, decode_whole};

use super::error::ImportError;
use super::key::{DataKey, NONCE_LEN, open_aead};
use super::store::Store;
use crate::bytes::Reader;
use crate::crypto::{TAG_LEN, sha256};
use crate::recovery::MAX_RECOVERY_SHARES;

/// Longest `sealed_data` in bytes. A Kubernetes Secret holds 1 MiB; a file may hold more.
pub const MAX_SEALED_DATA_BYTES: usize = 64 << 20;
/// Longest recovery data in bytes: some 70 for each share, and room for white space.
pub const MAX_RECOVERY_DATA_BYTES: usize = 1 << 20;

const LENGTH_LEN: usize = 4;
const HASH_LEN: usize = 32;

/// A well-formed `sealed_data`; nothing in it is proven before it opens.
#[derive(Clone, Copy, Debug)]
pub struct SealedData<'a> {
    whole: &'a [u8],
    recovery: &'a [u8],
    nonce: [u8; NONCE_LEN],
    sealed: &'a [u8],
}

impl<'a> SealedData<'a> {
    /// Splits `bytes`, at most [`MAX_SEALED_DATA_BYTES`], into their parts.
    ///
    /// # Errors
    /// [`ImportError::DataTooLarge`], [`ImportError::DataTooShort`] or [`ImportError::RecoveryLength`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImportError> {
        const MIN: usize = LENGTH_LEN + NONCE_LEN + TAG_LEN;
        if bytes.len() > MAX_SEALED_DATA_BYTES {
            return Err(ImportError::DataTooLarge { max: MAX_SEALED_DATA_BYTES, got: bytes.len() });
        }
        let too_short = ImportError::DataTooShort { min: MIN, got: bytes.len() };
        let Some(room) = bytes.len().checked_sub(MIN) else { return Err(too_short) };
        let mut reader = Reader::new(bytes);
        let Some(length) = reader.u32() else { return Err(too_short) };
        let max = room.min(MAX_RECOVERY_DATA_BYTES);
        let wrong_length = ImportError::RecoveryLength { max, got: length };
        let Some(fitting) = usize::try_from(length).ok().filter(|length| *length <= max) else {
            return Err(wrong_length);
        };
        let (Some(recovery), Some(nonce)) = (reader.take(fitting), reader.array()) else { return Err(wrong_length) };
        let sealed = bytes.get(reader.position()..).unwrap_or_default();
        Ok(Self { whole: bytes, recovery, nonce, sealed })
    }

    /// What the unencrypted part claims of the recovery shares.
    ///
    /// An error is no reason to give up: the store may open all the same, because no data key depends on this part.
    ///
    /// # Errors
    /// [`ImportError::RecoveryData`], [`ImportError::ShareHash`] or [`ImportError::TooManyShares`].
    pub fn recovery_data(&self) -> Result<RecoveryData, ImportError> {
        RecoveryData::parse(self.recovery)
    }

    /// SHA-256 of the whole file, to which `sealed_key` is bound.
    pub(super) fn hash(&self) -> [u8; 32] {
        sha256(&[self.whole])
    }

    /// Whether `key` opens the store. Costs one decryption of the whole file.
    pub fn opens_with(&self, key: &DataKey) -> bool {
        open_aead(key.bytes(), &self.nonce, &[], self.sealed).is_ok_and(|plain| plain.is_some())
    }

    /// Decrypts the store and reads its items.
    ///
    /// # Errors
    /// [`ImportError::DataNotAuthentic`] if `key` is another or bytes from the nonce on were changed, and those of the
    /// store.
    pub fn open(&self, key: &DataKey) -> Result<Store, ImportError> {
        let plain = open_aead(key.bytes(), &self.nonce, &[], self.sealed)?.ok_or(ImportError::DataNotAuthentic)?;
        Store::parse(&plain)
    }
}

/// What `sealed_data` claims, without proof, of the recovery shares of its data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryData {
    /// Nothing: there is one recovery key or none, or the claim was lost.
    Absent,
    /// SHA-256 of each share in plain form.
    Shares(BTreeSet<[u8; HASH_LEN]>),
}

impl RecoveryData {
    fn parse(text: &[u8]) -> Result<Self, ImportError> {
        if text.is_empty() {
            return Ok(Self::Absent);
        }
        let (members, _) = decode_whole::<Members>(text, MAX_RECOVERY_DATA_BYTES).map_err(ImportError::RecoveryData)?;
        let Some(names) = members.0 else { return Ok(Self::Absent) };
        if names.len() > MAX_RECOVERY_SHARES {
            return Err(ImportError::TooManyShares { max: MAX_RECOVERY_SHARES });
        }
        let mut hashes = BTreeSet::new();
        for name in &names {
            if !hashes.insert(hash_from_hex(name).ok_or(ImportError::ShareHash)?) {
                return Err(ImportError::ShareHash);
            }
        }
        Ok(Self::Shares(hashes))
    }
}

/// Names of the members, whose values are booleans; absent for `null`.
#[derive(Default)]
struct Members(Option<Vec<String>>);

impl Decode for Members {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        if decoder.take_null() {
            return Ok(());
        }
        let names = self.0.insert(Vec::new());
        decoder.entries(|decoder, name| {
            decoder.bool()?;
            names.push(name);
            Ok(())
        })
    }
}

fn hash_from_hex(text: &str) -> Option<[u8; HASH_LEN]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits: &[u8; 2 * HASH_LEN] = text.as_bytes().try_into().ok()?;
    let mut hash = [0; HASH_LEN];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = match pair {
            [high, low] => digit(*high)? << 4 | digit(*low)?,
            _ => return None,
        };
    }
    Some(hash)
}
