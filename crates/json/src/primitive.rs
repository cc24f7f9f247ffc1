//! Decoding of the basic types.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::{DecodeError, DecodeErrorKind, ValueKind};
use crate::string::decode_base64;
use crate::{Decode, Decoder};

/// Literals longer than this are cut in messages.
const MAX_SHOWN_DIGITS: usize = 32;

/// The text of a JSON value, kept as it stands in the document. The default is empty: no value was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawJson(pub Vec<u8>);

impl Decode for RawJson {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        self.0 = decoder.raw().to_vec();
        Ok(())
    }
}

impl Decode for bool {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        if !decoder.take_null() {
            *self = decoder.bool()?;
        }
        Ok(())
    }
}

impl Decode for String {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        if !decoder.take_null() {
            *self = decoder.string()?;
        }
        Ok(())
    }
}

macro_rules! decode_integer {
    ($type:ty, $expected:literal) => {
        impl Decode for $type {
            fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
                if decoder.take_null() {
                    return Ok(());
                }
                let offset = decoder.offset();
                let literal = decoder.number($expected)?;
                // The standard parser also takes a leading plus, which a JSON number cannot have, and no unsigned
                // number with a minus sign, not even `-0`; Go agrees.
                *self = literal.parse().map_err(|_| {
                    let mut got = literal.to_owned();
                    if got.len() > MAX_SHOWN_DIGITS {
                        got.truncate(MAX_SHOWN_DIGITS);
                        got.push('…');
                    }
                    decoder.error_at(DecodeErrorKind::Range { expected: $expected, got }, offset)
                })?;
                Ok(())
            }
        }
    };
}

decode_integer!(u64, "an integer from 0 to 18446744073709551615");
decode_integer!(u32, "an integer from 0 to 4294967295");
decode_integer!(u16, "an integer from 0 to 65535");
decode_integer!(i64, "an integer from -9223372036854775808 to 9223372036854775807");

/// Where `null` means unset.
impl<T: Decode + Default> Decode for Option<T> {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        if decoder.take_null() {
            *self = None;
            return Ok(());
        }
        self.get_or_insert_default().decode(decoder)
    }
}

/// The last list of a member wins; `null` empties it.
impl<T: Decode + Default> Decode for Vec<T> {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        self.clear();
        if decoder.take_null() {
            return Ok(());
        }
        decoder.elements("an array", |decoder| {
            decoder.count_item()?;
            let mut element = T::default();
            element.decode(decoder)?;
            self.push(element);
            Ok(())
        })
    }
}

/// Entries are merged key by key; an entry given again replaces the earlier one entirely; `null` empties the map.
impl<T: Decode + Default> Decode for BTreeMap<String, T> {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        if decoder.take_null() {
            self.clear();
            return Ok(());
        }
        decoder.entries(|decoder, name| {
            let mut entry = T::default();
            entry.decode(decoder)?;
            self.insert(name, entry);
            Ok(())
        })
    }
}

/// A byte string: standard base64, or an array of integers from 0 to 255. Never shown in errors.
impl Decode for Vec<u8> {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        const EXPECTED: &str = "base64 in a string, or an array of integers from 0 to 255";
        if decoder.take_null() {
            self.clear();
            return Ok(());
        }
        if decoder.kind() != ValueKind::String {
            self.clear();
            return decoder.elements(EXPECTED, |decoder| {
                let offset = decoder.offset();
                if decoder.take_null() {
                    self.push(0);
                    return Ok(());
                }
                let literal = decoder.number("an integer from 0 to 255")?;
                let byte = literal.parse().map_err(|_| {
                    let kind =
                        DecodeErrorKind::Range { expected: "an integer from 0 to 255", got: "another number".into() };
                    decoder.error_at(kind, offset)
                })?;
                self.push(byte);
                Ok(())
            });
        }
        let offset = decoder.offset();
        let text = decoder.string()?;
        *self = decode_base64(&text).ok_or_else(|| decoder.error_at(DecodeErrorKind::Base64, offset))?;
        Ok(())
    }
}

/// An IP address in text form; `null` and the empty string mean unset. IPv4 addresses in IPv6 form become IPv4.
impl Decode for Option<IpAddr> {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        *self = None;
        if decoder.take_null() {
            return Ok(());
        }
        let offset = decoder.offset();
        let text = decoder.string()?;
        if !text.is_empty() {
            let address: IpAddr = text.parse().map_err(|_| {
                let got = text.chars().take(MAX_SHOWN_DIGITS).collect();
                decoder.error_at(DecodeErrorKind::Ip { got }, offset)
            })?;
            *self = Some(address.to_canonical());
        }
        Ok(())
    }
}
