//! `sealed_key`: the wrapped data key in its forms.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use marblerun_secret::SecretBytes;
use zeroize::Zeroizing;

use super::data::SealedData;
use super::error::ImportError;
use crate::bytes::Reader;
use crate::crypto::TAG_LEN;

/// Bytes of one SGX key request (Intel SDM volume 3D, KEYREQUEST).
pub const KEY_REQUEST_BYTES: usize = 512;

pub(super) const NONCE_LEN: usize = 12;
const HSM_MARK: &[u8] = b"HSM_SEALED";
const SHORT_KEY: usize = 16;
const LONG_KEY: usize = 32;

/// The key that encrypts a store: 16 or 32 bytes, for AES-128-GCM or AES-256-GCM.
#[derive(Debug)]
pub struct DataKey(SecretBytes);

impl DataKey {
    /// A data key from elsewhere, for instance from recovery shares.
    ///
    /// # Errors
    /// [`ImportError::DataKeyLength`] if it is neither 16 nor 32 bytes long.
    pub fn new(key: SecretBytes) -> Result<Self, ImportError> {
        match key.len() {
            SHORT_KEY | LONG_KEY => Ok(Self(key)),
            got => Err(ImportError::DataKeyLength { got }),
        }
    }

    /// The bytes of the key.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.expose()
    }
}

/// How a data key is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedKeyForm {
    /// By the seal keys of two key requests, concatenated: 32 bytes.
    TwoSealKeys,
    /// By the seal key of one key request: 16 bytes. Written before v1.9.0.
    OneSealKey,
    /// By the 32-byte key that replicas share.
    SharedKey,
    /// Not at all: written by a Coordinator without TEE. It is not bound to its `sealed_data`.
    Plain,
}

/// A `sealed_key` in one of the known forms; nothing in it is proven before it opens.
#[derive(Debug)]
pub struct SealedKey {
    form: SealedKeyForm,
    requests: Vec<[u8; KEY_REQUEST_BYTES]>,
    nonce: [u8; NONCE_LEN],
    sealed: SecretBytes,
}

impl SealedKey {
    /// Recognises the form of `bytes` by their length and length field.
    ///
    /// # Errors
    /// [`ImportError::KeyForm`] or [`ImportError::KeyInHsm`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ImportError> {
        const OVERHEAD: usize = NONCE_LEN + TAG_LEN;
        const ONE: usize = 4 + KEY_REQUEST_BYTES + OVERHEAD;
        const TWO: usize = ONE + KEY_REQUEST_BYTES;
        const SHARED: usize = OVERHEAD + LONG_KEY;
        const SHARED_SHORT: usize = OVERHEAD + SHORT_KEY;
        let unknown = || ImportError::KeyForm { got: bytes.len() };
        if bytes.starts_with(HSM_MARK) {
            return Err(ImportError::KeyInHsm);
        }
        let (form, number_of_requests) = match bytes.len() {
            SHORT_KEY | LONG_KEY => {
                let sealed = SecretBytes::copy_from(bytes);
                return Ok(Self { form: SealedKeyForm::Plain, requests: Vec::new(), nonce: [0; NONCE_LEN], sealed });
            }
            SHARED_SHORT | SHARED => (SealedKeyForm::SharedKey, 0),
            length if length == ONE + SHORT_KEY || length == ONE + LONG_KEY => (SealedKeyForm::OneSealKey, 1),
            length if length == TWO + SHORT_KEY || length == TWO + LONG_KEY => (SealedKeyForm::TwoSealKeys, 2),
            _ => return Err(unknown()),
        };
        let mut reader = Reader::new(bytes);
        if number_of_requests > 0 {
            let claimed = reader.u32().and_then(|length| usize::try_from(length).ok());
            if claimed != Some(number_of_requests * KEY_REQUEST_BYTES) {
                return Err(unknown());
            }
        }
        let requests = (0..number_of_requests).map(|_| reader.array()).collect::<Option<_>>().ok_or_else(unknown)?;
        let nonce = reader.array().ok_or_else(unknown)?;
        let sealed = SecretBytes::copy_from(bytes.get(reader.position()..).unwrap_or_default());
        Ok(Self { form, requests, nonce, sealed })
    }

    /// How the data key is wrapped.
    pub fn form(&self) -> SealedKeyForm {
        self.form
    }

    /// The key requests whose seal keys, one after the other, open this; none in the other forms.
    ///
    /// They are not authenticated: a changed one gives another seal key, which does not open.
    pub fn key_requests(&self) -> &[[u8; KEY_REQUEST_BYTES]] {
        &self.requests
    }

    /// Unwraps the data key of `data` with `key`: seal keys or the shared key, as the form says; empty for
    /// [`SealedKeyForm::Plain`].
    ///
    /// # Errors
    /// [`ImportError::WrappingKeyLength`], or [`ImportError::KeyNotAuthentic`] if the key is another, or any byte of
    /// either file was changed. In the plain form nothing is found out before the data are opened.
    pub fn open(&self, key: &SecretBytes, data: &SealedData<'_>) -> Result<DataKey, ImportError> {
        let expected = match self.form {
            SealedKeyForm::TwoSealKeys | SealedKeyForm::SharedKey => LONG_KEY,
            SealedKeyForm::OneSealKey => SHORT_KEY,
            SealedKeyForm::Plain => 0,
        };
        if key.len() != expected {
            return Err(ImportError::WrappingKeyLength { expected, got: key.len() });
        }
        if self.form == SealedKeyForm::Plain {
            return DataKey::new(self.sealed.duplicate());
        }
        let plain = open_aead(key.expose(), &self.nonce, &data.hash(), self.sealed.expose())?
            .ok_or(ImportError::KeyNotAuthentic)?;
        DataKey::new(SecretBytes::copy_from(&plain))
    }
}

/// Decrypts ciphertext followed by tag with AES-GCM (NIST SP 800-38D) of the key's length; `None` if not authentic.
pub(super) fn open_aead(
    key: &[u8],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, ImportError> {
    let algorithm = if key.len() == SHORT_KEY { &AES_128_GCM } else { &AES_256_GCM };
    let key = UnboundKey::new(algorithm, key).map_err(|_| ImportError::Provider { length: key.len() })?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let Ok(plain) = LessSafeKey::new(key).open_in_place(nonce, Aad::from(aad), &mut buffer) else { return Ok(None) };
    let length = plain.len();
    buffer.truncate(length);
    Ok(Some(buffer))
}
