//! The decrypted store: a JSON object of base64 values.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use marblerun_json::{Decode, DecodeError, DecodeErrorKind, Decoder, decode_base64, decode_whole};
use marblerun_secret::SecretBytes;
use zeroize::Zeroizing;

use super::data::MAX_SEALED_DATA_BYTES;
use super::error::ImportError;

/// The value of an item; absent where the store says `null`.
pub type StoreItem = Option<SecretBytes>;

/// The items of a store by key, byte for byte. At most [`marblerun_json::MAX_ITEMS`].
///
/// What the keys mean, and how the values are encoded, is the caller's business.
#[derive(Debug, Default)]
pub struct Store(BTreeMap<String, StoreItem>);

impl Store {
    /// Reads the decrypted content of a `sealed_data`.
    ///
    /// # Errors
    /// [`ImportError::Store`] if it is not an object of base64 strings and nulls, or has too many members;
    /// [`ImportError::RepeatedItem`] if a member is there twice.
    pub fn parse(text: &[u8]) -> Result<Self, ImportError> {
        let (members, _) = decode_whole::<Members>(text, MAX_SEALED_DATA_BYTES).map_err(ImportError::Store)?;
        let mut items = BTreeMap::new();
        for (key, value) in members.0 {
            match items.entry(key) {
                Entry::Vacant(place) => place.insert(value),
                Entry::Occupied(taken) => return Err(ImportError::RepeatedItem { key: taken.key().clone() }),
            };
        }
        Ok(Self(items))
    }

    /// The items.
    pub fn items(&self) -> &BTreeMap<String, StoreItem> {
        &self.0
    }

    /// The items, given away.
    pub fn into_items(self) -> BTreeMap<String, StoreItem> {
        self.0
    }
}

#[derive(Default)]
struct Members(Vec<(String, StoreItem)>);

impl Decode for Members {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        decoder.entries(|decoder, key| {
            let value = if decoder.take_null() {
                None
            } else {
                let offset = decoder.offset();
                let text = Zeroizing::new(decoder.string()?);
                let bytes = decode_base64(&text).ok_or_else(|| decoder.error_at(DecodeErrorKind::Base64, offset))?;
                Some(SecretBytes::new(bytes))
            };
            self.0.push((key, value));
            Ok(())
        })
    }
}
