//! Tests through the public API. The recorded results of Go are tested in the crates whose structures they fill.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod error;
mod property;

use std::collections::BTreeMap;
use std::net::IpAddr;

use marblerun_json::{Decode, DecodeError, Decoder, decode_object};

/// One member of each kind.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sample {
    text: String,
    flag: bool,
    number: u64,
    small: Option<u16>,
    signed: i64,
    bytes: Vec<u8>,
    list: Option<Vec<String>>,
    map: BTreeMap<String, Sample>,
    address: Address,
}

decode_object!(Sample {
    "Text" => text,
    "Flag" => flag,
    "Number" => number,
    "Small" => small,
    "Signed" => signed,
    "Bytes" => bytes,
    "List" => list,
    "Map" => map,
    "Address" => address,
});

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Address(Option<IpAddr>);

impl Decode for Address {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        self.0.decode(decoder)
    }
}
