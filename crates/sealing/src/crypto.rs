//! The four primitives in use: SHA-256, HMAC-SHA-256, HKDF-SHA-256 (RFC 5869) and AES-256-GCM (NIST SP 800-38D).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac, rand};
use zeroize::Zeroizing;

use crate::fault::SealError;

pub(crate) const KEY_LEN: usize = 32;
pub(crate) const TAG_LEN: usize = 16;

/// A 256-bit key on the heap, wiped on drop.
pub(crate) type Key = Box<Zeroizing<[u8; KEY_LEN]>>;

pub(crate) fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| SealError::Randomness)?;
    Ok(bytes)
}

pub(crate) fn random_key() -> Result<Key, SealError> {
    let mut key = Key::new(Zeroizing::new([0; KEY_LEN]));
    rand::fill(key.as_mut_slice()).map_err(|_| SealError::Randomness)?;
    Ok(key)
}

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

/// HKDF-SHA-256 with 32 bytes of output.
pub(crate) fn derive_key(secret: &[u8], salt: &[u8], info: &[&[u8]]) -> Result<Key, SealError> {
    let mut key = Key::new(Zeroizing::new([0; KEY_LEN]));
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, KeyLength)
        .and_then(|okm| okm.fill(key.as_mut_slice()))
        .map_err(|_| SealError::Provider { operation: "HKDF" })?;
    Ok(key)
}

pub(crate) fn mac(key: &Key, message: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), message).as_ref());
    out
}

/// Constant-time check of an HMAC.
pub(crate) fn mac_is_valid(key: &Key, message: &[u8], tag: &[u8]) -> bool {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), message, tag).is_ok()
}

fn aead_key(key: &Key) -> Result<LessSafeKey, SealError> {
    let unbound = UnboundKey::new(&AES_256_GCM, key.as_slice());
    Ok(LessSafeKey::new(unbound.map_err(|_| SealError::Provider { operation: "AES-256-GCM key" })?))
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Encrypts `in_out` in place and returns the tag. The caller owns the proof that `counter` is new under `key`.
pub(crate) fn seal(key: &Key, counter: u64, aad: &[u8], in_out: &mut [u8]) -> Result<[u8; TAG_LEN], SealError> {
    let tag = aead_key(key)?
        .seal_in_place_separate_tag(nonce(counter), Aad::from(aad), in_out)
        .map_err(|_| SealError::Provider { operation: "AES-256-GCM seal" })?;
    let mut out = [0; TAG_LEN];
    out.copy_from_slice(tag.as_ref());
    Ok(out)
}

/// Decrypts ciphertext followed by tag; `None` if they are not authentic.
pub(crate) fn open(key: &Key, counter: u64, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let length = aead_key(key).ok()?.open_in_place(nonce(counter), Aad::from(aad), &mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}
